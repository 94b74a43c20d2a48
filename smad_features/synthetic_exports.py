"""Demo recordings on disk as a Tobii Pro Lab export: units in its header, events and a mouse among its rows."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from smad_features.schema import EYE_MOVEMENT, TOBII_PRO_LAB_39, VALIDITY, Channel
from smad_features.synthetic_recordings import MEDIUM, SCREEN, Samples, digits_of

_FRAMES = {"DACSmm": "DACS mm", "MCSnorm": "MCS norm"}
_MOUSE = ("Mouse position X [DACS px]", "Mouse position Y [DACS px]")


def heading_of(channel: Channel) -> str:
    """A channel's name in the header of an export with units: `Gaze point X [DACS px]`."""
    if match := re.fullmatch(r"(.+) \((\w+)\)", channel.name):
        return f"{match[1]} [{_FRAMES[match[2]]}]"
    if channel.kind == "direction":
        return f"{channel.name} [DACS norm]"
    unit = {"px": " [DACS px]", "mm": " [mm]", "ms": " [ms]"}.get(channel.unit, "")
    return f"{channel.name}{unit}"


def write_export(
    path: Path,
    samples: Samples,
    *,
    participant: str,
    clip: str,
    film: str,
    decimal_comma: bool,
    microseconds: bool,
    rng: np.random.Generator,
) -> None:
    """A clip's recording as a tab-separated export, UTF-8.

    The recording's own time stamp is less steady than the device's clock, and rows of the mouse and of events stand
    between the eye's.
    """
    device = samples.device
    block = {heading_of(channel): _text(channel, samples.channels[channel.name]) for channel in TOBII_PRO_LAB_39}
    first = 114_000 + int(rng.integers(0, 40_000))  # the tracker starts a little after the recording
    stamp = first + device - device[0] + rng.normal(0, 300, len(device)).astype(int) * (np.arange(len(device)) > 0)
    stamp = np.maximum.accumulate(stamp)
    unit, divisor = ("μs", 1) if microseconds else ("ms", 1000)
    fixed = {
        "Project name": "synthetic", "Export date": "synthetic", "Participant name": participant,
        "Recording name": f"synthetic {clip}", "Recording Fixation filter name": "synthetic",
        "Recording software version": "synthetic", "Recording resolution height [px]": str(SCREEN[1]),
        "Recording resolution width [px]": str(SCREEN[0]),
    }  # fmt: skip
    shown = {
        "Presented Stimulus name": film, "Presented Media name": f"{film}.mp4",
        "Presented Media width [px]": str(MEDIUM[2]), "Presented Media height [px]": str(MEDIUM[3]),
        "Presented Media position X [DACS px]": str(MEDIUM[0]), "Presented Media position Y [DACS px]": str(MEDIUM[1]),
    }  # fmt: skip
    columns = [f"Recording timestamp [{unit}]", f"Computer timestamp [{unit}]", "Sensor", *fixed]
    columns += ["Eyetracker timestamp [μs]", "Event", "Event value"]
    names = list(block)
    columns += [*names[:32], *shown, *names[32:], *_MOUSE]  # as in the export: what is shown stands before the events

    rows: list[tuple[int, dict[str, str]]] = [(0, {"Event": "RecordingStart"})]
    rows.append((first, {"Event": "VideoStimulusStart", "Event value": film}))
    computer = int(rng.integers(10**9, 10**10))
    for i, (at, clock) in enumerate(zip(stamp.tolist(), device.tolist(), strict=True)):
        row = {"Sensor": "Eye Tracker", "Eyetracker timestamp [μs]": str(clock + 6_984_000_000)}
        rows.append((at, row | shown | {name: values[i] for name, values in block.items()}))
    for at in range(first + 200_000, int(stamp[-1]), 400_000):
        rows.append((at, {"Sensor": "Mouse", _MOUSE[0]: "1853", _MOUSE[1]: "957"} | shown))
    rows.sort(key=lambda row: row[0])
    rows.append((int(stamp[-1]) + 4000, {"Event": "VideoStimulusEnd", "Event value": film}))
    lines = ["\t".join(columns)]
    for at, row in rows:
        row = fixed | row | {columns[0]: str(at // divisor), columns[1]: str((computer + at) // divisor)}
        lines.append("\t".join(row.get(name, "") for name in columns))
    text = "\n".join(lines) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    # Names, stamps and pixels hold no point between digits, so the locale touches measured fractions alone.
    path.write_text(re.sub(r"(?<=\d)\.(?=\d)", ",", text) if decimal_comma else text, encoding="utf-8")


def _text(channel: Channel, values: np.ndarray) -> list[str]:
    """Cells as the export has them: words for codes, nothing for what was not measured."""
    words = VALIDITY if channel.name.startswith("Validity") else EYE_MOVEMENT if channel.kind == "category" else {}
    word_of = {code: word for word, code in words.items()}
    digits = digits_of(channel)
    return ["" if value != value else word_of.get(value, f"{value:.{digits}f}") for value in values.tolist()]
