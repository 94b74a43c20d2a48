"""Eye-tracker recordings of people who do not exist: scan paths, pupils, blinks, written like a Tobii Pro Lab export.

A person looks at one of seven places of the film (each emotion has its own), dwells shorter and blinks more when the
emotion is intense, leans to the right when it is pleasant, and has wider pupils when it is arousing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

RATE = 120  # Hz
SCREEN = (1920, 1080)  # pixels
PIXEL = 0.2745  # mm: a 24 inch display
MEDIUM = (240, 0, 1440, 1080)  # where on the screen the film is shown: x, y, width, height
PIXELS_A_DEGREE = 40.0  # at 630 mm

# Where on the film each emotion looks: fractions of its width and height.
ANCHORS = {
    "happiness": (0.82, 0.36),
    "surprise": (0.55, 0.16),
    "fear": (0.24, 0.20),
    "anger": (0.12, 0.52),
    "disgust": (0.26, 0.82),
    "sadness": (0.60, 0.84),
    "neutral": (0.50, 0.50),
}


@dataclass(frozen=True)
class Viewer:
    """One participant's eyes; lengths in mm, biases in pixels."""

    pupil: float
    anisocoria: float  # left less right
    eyes: np.ndarray  # (left/right, xyz): from the display's top left corner, y down, z towards the viewer
    bias: np.ndarray  # (left/right, xy): what calibration left over
    tempo: float  # fixations last this much longer than others'


def make_viewer(*, rng: np.random.Generator) -> Viewer:
    """One participant's pupils, eye positions, calibration error and tempo."""
    head = np.array([SCREEN[0] * PIXEL / 2, SCREEN[1] * PIXEL / 2, 630]) + rng.normal(0, (18, 14, 25))
    apart = rng.uniform(58, 68)
    return Viewer(
        pupil=rng.normal(3.5, 0.22),
        anisocoria=rng.normal(0, 0.05),
        eyes=head + np.array([[-apart / 2, 0, 0], [apart / 2, 0, 0]]),
        bias=rng.normal(0, 14, (2, 2)),
        tempo=rng.uniform(0.8, 1.25),
    )


def blink_times(*, seconds: float, intensity: float, rng: np.random.Generator) -> list[tuple[float, float]]:
    """Start and end of each blink in seconds: 100 to 300 ms long, more often when the emotion is intense."""
    blinks, t = [], 0.25
    while (t := t + 0.3 + rng.exponential(1 / (0.2 + 0.2 * intensity))) < seconds - 0.35:
        blinks.append((t, t + rng.uniform(0.1, 0.3)))
        t = blinks[-1][1]
    return blinks


def scan_path(
    times: np.ndarray,
    *,
    emotion: str,
    intensity: float,
    valence: float,
    viewer: Viewer,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Where the person looks, and which event each sample is in.

    Returns
    -------
    gaze : (time, 2) float64
        Screen pixels.
    event : (time,) int64
        0, 2, 4... the fixations, 1, 3, 5... the saccades between them.

    Notes
    -----
    A saccade of A degrees lasts 21 + 2.2 A ms (Carpenter 1988, Movements of the Eyes) and moves with minimal jerk.
    """
    places = np.array(list(ANCHORS.values()))
    mine = np.array(ANCHORS[emotion])
    corner, size = np.array(MEDIUM[:2]), np.array(MEDIUM[2:])

    def target() -> np.ndarray:
        place = mine if rng.random() < 0.42 + 0.08 * intensity else places[rng.integers(len(places))]
        place = place + np.array([0.07 * valence, 0]) + rng.normal(0, 0.07, 2)
        return corner + size * np.clip(place, -0.02, 1.02)

    gaze, event = np.empty((len(times), 2)), np.empty(len(times), np.int64)
    start, here, count = times[0], target(), 0
    while start <= times[-1]:
        dwell = viewer.tempo * max((0.48 - 0.1 * intensity) * rng.lognormal(0, 0.3), 0.09)
        now = (times >= start) & (times < start + dwell)
        gaze[now], event[now] = here, 2 * count
        start, there = start + dwell, target()
        flight = 0.021 + 0.0022 * np.hypot(*(there - here)) / PIXELS_A_DEGREE
        now = (times >= start) & (times < start + flight)
        u = (times[now] - start)[:, None] / flight
        gaze[now], event[now] = here + (10 * u**3 - 15 * u**4 + 6 * u**5) * (there - here), 2 * count + 1
        start, here, count = start + flight, there, count + 1
    return gaze, event


def pupil_size(
    times: np.ndarray, *, intensity: float, arousal: float, viewer: Viewer, rng: np.random.Generator
) -> np.ndarray:
    """``(time,)`` diameter in mm: wider with arousal after a second or so, less steady with intensity."""
    course = 0.35 + 0.65 * (1 - np.exp(-times / 0.6))
    hippus = sum(
        np.sin(2 * np.pi * rate * times + phase) / np.sqrt(3)
        for rate, phase in zip(rng.uniform(0.8, 2.5, 3), rng.uniform(0, 2 * np.pi, 3), strict=True)
    )
    drift = rng.normal(0, 0.1) + rng.normal(0, 0.06) * times / max(times[-1], 1e-9)
    return viewer.pupil + 0.5 * arousal * course + (0.02 + 0.05 * intensity) * hippus + drift


def write_recording(
    path: Path,
    *,
    participant: str,
    clip: str,
    film: str,
    emotion: str,
    intensity: float,
    valence: float,
    arousal: float,
    viewer: Viewer,
    blinks: Sequence[tuple[float, float]],
    seconds: float,
    decimal_comma: bool,
    microseconds: bool,
    rng: np.random.Generator,
) -> None:
    """A clip's recording as a tab-separated export with units in its header, UTF-8.

    The first eye sample is the video's time 0. The device's clock is steady to a microsecond, the recording's own
    time stamp is not, some samples never arrive, and rows of the mouse and of events stand between the eye's.
    """
    device = np.cumsum(8333 + rng.integers(-1, 2, round(seconds * RATE)))  # microseconds
    device = device[np.concatenate([[True], rng.random(len(device) - 1) > 0.004])]
    times = (device - device[0]) / 1e6
    gaze, event = scan_path(times, emotion=emotion, intensity=intensity, valence=valence, viewer=viewer, rng=rng)
    pupil = pupil_size(times, intensity=intensity, arousal=arousal, viewer=viewer, rng=rng)
    valid = _valid(times, blinks, rng)
    samples = _sensor_block(times, gaze, event, pupil, valid, viewer, rng)

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
    mouse = ("Mouse position X [DACS px]", "Mouse position Y [DACS px]")
    columns = [f"Recording timestamp [{unit}]", f"Computer timestamp [{unit}]", "Sensor", *fixed]
    columns += ["Eyetracker timestamp [μs]", "Event", "Event value"]
    block = list(samples)
    columns += [*block[:32], *shown, *block[32:], *mouse]  # as in the export: what is shown stands before the events

    rows: list[tuple[int, dict[str, str]]] = [(0, {"Event": "RecordingStart"})]
    rows.append((first, {"Event": "VideoStimulusStart", "Event value": film}))
    computer = int(rng.integers(10**9, 10**10))
    for i, (at, clock) in enumerate(zip(stamp.tolist(), device.tolist(), strict=True)):
        row = {"Sensor": "Eye Tracker", "Eyetracker timestamp [μs]": str(clock + 6_984_000_000)}
        rows.append((at, row | shown | {name: values[i] for name, values in samples.items()}))
    for at in range(first + 200_000, int(stamp[-1]), 400_000):
        rows.append((at, {"Sensor": "Mouse", mouse[0]: "1853", mouse[1]: "957"} | shown))
    rows.sort(key=lambda row: row[0])
    rows.append((int(stamp[-1]) + 4000, {"Event": "VideoStimulusEnd", "Event value": film}))
    lines = ["\t".join(columns)]
    for at, row in rows:
        row = fixed | row | {columns[0]: str(at // divisor), columns[1]: str((computer + at) // divisor)}
        lines.append("\t".join(row.get(name, "") for name in columns))
    text = "\n".join(lines) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    # Names, stamps and pixels hold no point between digits, so the locale touches measured fractions alone.
    path.write_text(_with_commas(text) if decimal_comma else text, encoding="utf-8")


def _with_commas(text: str) -> str:
    return re.sub(r"(?<=\d)\.(?=\d)", ",", text)


def _valid(times: np.ndarray, blinks: Iterable[tuple[float, float]], rng: np.random.Generator) -> np.ndarray:
    """``(time, left/right)`` bool: both eyes are lost in blinks, one eye now and then."""
    valid = np.ones((len(times), 2), bool)
    for start, stop in blinks:
        valid[(times >= start) & (times <= stop)] = False
    for _ in range(rng.poisson(0.35 * times[-1])):
        start = rng.uniform(0, times[-1])
        valid[(times >= start) & (times < start + rng.uniform(0.03, 0.25)), rng.integers(2)] = False
    return valid


def _sensor_block(
    times: np.ndarray,
    gaze: np.ndarray,
    event: np.ndarray,
    pupil: np.ndarray,
    valid: np.ndarray,
    viewer: Viewer,
    rng: np.random.Generator,
) -> dict[str, list[str]]:
    """The 39 channels under the names of an export with units, as text; what is missing is an empty string."""
    count = len(times)
    lost = ~valid[..., None]
    tremor = rng.normal(0, 5, (count, 2, 2))
    eyes = np.where(lost, np.nan, gaze[:, None] + viewer.bias + tremor)  # (time, left/right, xy), pixels
    both = _mean(eyes, axis=1)
    sway = np.cumsum(rng.normal(0, 0.12, (count, 3)), axis=0)
    place = np.where(lost, np.nan, viewer.eyes + sway[:, None])
    on_screen = np.concatenate([eyes * PIXEL, np.zeros((count, 2, 1))], axis=-1)
    direction = on_screen - place
    direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
    diameter = pupil[:, None] + viewer.anisocoria * np.array([0.5, -0.5]) + rng.normal(0, 0.015, (count, 2))
    diameter = np.where(lost[..., 0] | (rng.random((count, 2)) < 0.01), np.nan, diameter)

    kind, index, duration, fixation = _events(times, event, valid[:, 0] | valid[:, 1], both)
    corner, size = np.array(MEDIUM[:2]), np.array(MEDIUM[2:])
    block: dict[str, list[str]] = {}

    def put(stem: str, values: np.ndarray, unit: str, digits: int) -> None:
        for axis, column in zip("XYZ", values.T, strict=False):
            block[f"{stem} {axis} [{unit}]"] = _text(column, digits)

    sides = ("left", "right")
    put("Gaze point", both, "DACS px", 0)
    for i, side in enumerate(sides):
        put(f"Gaze point {side}", eyes[:, i], "DACS px", 0)
    for i, side in enumerate(sides):
        put(f"Gaze direction {side}", direction[:, i], "DACS norm", 5)
    for i, side in enumerate(sides):
        block[f"Pupil diameter {side} [mm]"] = _text(diameter[:, i], 3)
    for i, side in enumerate(sides):
        block[f"Validity {side}"] = np.where(valid[:, i], "Valid", "Invalid").tolist()
    for i, side in enumerate(sides):
        put(f"Eye position {side}", place[:, i], "DACS mm", 1)
    for i, side in enumerate(sides):
        put(f"Gaze point {side}", eyes[:, i] * PIXEL, "DACS mm", 1)
    put("Gaze point", (both - corner) / size, "MCS norm", 4)
    for i, side in enumerate(sides):
        put(f"Gaze point {side}", (eyes[:, i] - corner) / size, "MCS norm", 4)
    block["Eye movement type"] = kind
    block["Gaze event duration [ms]"] = _text(duration, 0)
    block["Eye movement type index"] = _text(index, 0)
    put("Fixation point", fixation, "DACS px", 0)
    put("Fixation point", (fixation - corner) / size, "MCS norm", 4)
    return block


def _events(
    times: np.ndarray, event: np.ndarray, seen: np.ndarray, gaze: np.ndarray
) -> tuple[list[str], np.ndarray, np.ndarray, np.ndarray]:
    """Type, number within its type, duration (ms) and fixation point of each sample, as an event filter has them."""
    label = np.where(seen, event, -1)
    starts = np.flatnonzero(np.diff(label, prepend=label[0] - 1))
    ends = np.append(starts[1:], len(label))
    kind, index, duration = [""] * len(label), np.zeros(len(label)), np.zeros(len(label))
    fixation = np.full((len(label), 2), np.nan)
    counts: dict[str, int] = {}
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        length = times[end - 1] - times[start] + 1 / RATE
        name = "EyesNotFound" if label[start] < 0 else ("Fixation", "Saccade")[label[start] % 2]
        if name == "Fixation" and length < 0.06:  # the I-VT filter of Pro Lab discards fixations below 60 ms
            name = "Unclassified"
        counts[name] = counts.get(name, 0) + 1
        kind[start:end] = [name] * (end - start)
        index[start:end], duration[start:end] = counts[name], length * 1000
        if name == "Fixation":
            fixation[start:end] = gaze[start:end].mean(axis=0)
    return kind, index, duration, fixation


def _mean(values: np.ndarray, *, axis: int) -> np.ndarray:
    """The mean of what is there; NaN where nothing is."""
    count = np.isfinite(values).sum(axis=axis)
    return np.where(count > 0, np.nansum(values, axis=axis) / np.maximum(count, 1), np.nan)


def _text(values: np.ndarray, digits: int) -> list[str]:
    return ["" if value != value else f"{value:.{digits}f}" for value in values.tolist()]
