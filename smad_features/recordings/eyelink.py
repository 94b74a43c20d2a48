"""EyeLink ASC files: blocks of samples between START and END, with messages and eye movements as lines of their own.

The form is that of the EyeLink 1000 Plus user manual (SR Research 2017), section 4.9; of blinks it says in 4.5.3.5 that
each lies in a saccade that is an artefact, all of which should be discarded.
"""

from __future__ import annotations

import io
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from smad_features import schema
from smad_features.recordings.cells import Columns
from smad_features.recordings.document import Document
from smad_features.recordings.gaze import add_mean_gaze
from smad_features.recordings.movements import Movement, movement_channels
from smad_features.recordings.recording import Event, Recording, RecordingError, on_clock

LOOKED_FOR = "an EyeLink ASC file (lines such as 'START 147946 LEFT SAMPLES EVENTS' and 'SAMPLES GAZE LEFT RATE 1000')"

NO_VALUE = 32768.0  # MISSING_DATA is -32768, and 1e8 in older files: no gaze point and no target lies so far out
_TOP = 200_000  # characters, in which the first block begins
_MARKS = (
    r"^\*\* (?=.*EYELINK)",
    r"^START\s+\d+",
    r"^SAMPLES\s+(GAZE|HREF|PUPIL|RAW)\b",
    r"^EVENTS\s+(GAZE|HREF|PUPIL|RAW)\b",
    r"^MSG\s+\d+",
)
_BARE_SAMPLE = re.compile(r"\d+(\.\d+)?\s+(\S+\s+){3,}([.ICR]{3}|[.ICR]{5})\s*$")
_CORNEAL = re.compile(r"[.I][.C][.R]|[.I][.C][.R][.C][.R]")
_TARGET = re.compile(r"[.A-Z]{13}|[.A-Z]{17}")
_COORDS = re.compile(r"\b(GAZE_COORDS|DISPLAY_COORDS)[\s=:]+" + r"\s+".join([r"(-?\d+(?:\.\d+)?)"] * 4))
_EYES = {"LEFT": "left", "RIGHT": "right", "L": "left", "R": "right"}
_MOVEMENTS = {"EFIX": "Fixation", "ESACC": "Saccade", "EBLINK": "EyesNotFound"}


@dataclass
class _Block:
    """Sample lines of one form, and their numbers in the file."""

    words: tuple[str, ...]  # of the SAMPLES line that says what is in them
    prescaler: float
    lines: list[str] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)


@dataclass
class _File:
    """What stands in the lines."""

    blocks: list[_Block] = field(default_factory=list)
    movements: list[Movement] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)  # ms
    coords: dict[str, tuple[float, ...]] = field(default_factory=dict)  # left, top, right, bottom
    pupil: str = "size"
    open_blocks: int = 0


def recognises(document: Document) -> int:
    """How many kinds of lines it has that only an ASC file has: 0 = it is none."""
    head = (document.text or "")[:_TOP]
    if not head.startswith("** ") and not any(word in head for word in ("\nSTART", "\nSAMPLES", "\nMSG")):
        return int(_BARE_SAMPLE.match(head.partition("\n")[0]) is not None)
    return sum(re.search(mark, head, flags=re.MULTILINE) is not None for mark in _MARKS)


def read(document: Document) -> Recording:
    """Read an ASC file: one eye or both, at the desk or remote, any sampling rate.

    The gap between blocks stays a gap. Gaze is in pixels from the top left of the display, whose size GAZE_COORDS or
    else DISPLAY_COORDS tells. The pupil has no unit: it is in `extra`, as is the distance of a remote recording's
    target. Lost are samples marked with a dot, with a pupil of 0, or with MISSING_DATA; the tracker's own warnings
    count too: that it interpolated a sample, or saw no corneal reflection. `movement_channels` says what becomes of
    fixations, saccades and blinks. A message's first word is the name of an event, the rest its value; a number in
    front is an offset in ms, as Data Viewer reads it.

    Raises
    ------
    RecordingError
        There is no sample, a line is torn, or the samples are no gaze on a screen.
    """
    path = document.path
    file = _scan(document)
    parts = [(block.words, *_samples(block, document=document)) for block in file.blocks]
    time = np.concatenate([part for _, part, _ in parts])
    words = [word for spec, _, _ in parts for word in spec]
    rate = float(words[words.index("RATE") + 1]) if "RATE" in words else None
    if rate == 2000:
        # Without its FLOAT option the converter writes both samples of a millisecond under the same number.
        time[1:][np.diff(time) == 0] += 0.5

    values = {
        name: np.concatenate([part.get(name, np.full(len(when), np.nan)) for _, when, part in parts])
        for name in dict.fromkeys(name for _, _, part in parts for name in part)
    }
    notes = _lose(values)
    (left, top), screen = _display(file.coords)
    eyes = [eye for eye in ("left", "right", "") if f"{eye} x" in values]
    channels: dict[str, np.ndarray] = {}
    for eye in eyes:
        name = f"Gaze point {eye}".strip()
        channels |= {f"{name} X": values[f"{eye} x"] - left, f"{name} Y": values[f"{eye} y"] - top}
    add_mean_gaze(channels)
    if file.movements:
        channels |= movement_channels(file.movements, time, seen=~np.isnan(channels["Gaze point X"]))
        channels["Fixation point X"] -= left
        channels["Fixation point Y"] -= top
    extra = {f"Pupil {file.pupil} {eye} (a.u.)".replace("  ", " "): values[f"{eye} pupil"] for eye in eyes}
    extra |= {name: column for name, column in values.items() if name.startswith("Target")}
    if file.open_blocks:
        notes["blocks_without_end"] = file.open_blocks
    return on_clock(
        time / 1000,
        channels,
        path=path,
        kind="EyeLink ASC",
        notes=notes,
        screen=screen,
        declared_rate=rate,
        events=[Event(event.name, event.time / 1000, event.value) for event in file.events],
        extra=extra,
    )


def _scan(document: Document) -> _File:
    file, lines = _File(), document.lines
    has_blocks = re.search(_MARKS[1], document.text or "", flags=re.MULTILINE) is not None
    words: tuple[str, ...] = ()
    inside, prescaler, points = not has_blocks, 1.0, True
    for number, line in enumerate(lines, start=1):
        if line[:1].isdigit():
            if inside:
                if not file.blocks or (file.blocks[-1].words, file.blocks[-1].prescaler) != (words, prescaler):
                    file.blocks.append(_Block(words, prescaler))
                file.blocks[-1].lines.append(line)
                file.blocks[-1].numbers.append(number)
            continue
        if not line[:1].isupper():
            continue
        cells = line.split()
        try:
            match cells[0]:
                case "START" | "END":
                    file.events.append(Event(cells[0], float(cells[1])))
                    inside = cells[0] == "START"
                    file.open_blocks += 1 if inside else -1
                case "PRESCALER":
                    prescaler = float(cells[1])
                case "PUPIL":
                    file.pupil = cells[1].lower()
                case "EVENTS":
                    points = cells[1] == "GAZE"
                case "SAMPLES":
                    words = tuple(cells[1:])
                case "EFIX" | "ESACC" | "EBLINK":
                    file.movements.append(_movement(cells, prescaler if points else np.nan))
                case "MSG":
                    _message(line, file)
                case "INPUT" | "BUTTON":
                    file.events.append(Event(cells[0], float(cells[1]), " ".join(cells[2:])))
        except (IndexError, ValueError, KeyError):
            # A message of several lines may begin one of them with any word; with these it hardly does.
            if cells[0] in _MOVEMENTS and number < len(lines):
                raise RecordingError(document.path, f"damaged: line {number} is no {cells[0]}: {line[:60]!r}") from None
    if lines[-1] and has_blocks and inside:
        raise RecordingError(
            document.path, f"cut off in the middle of its last line ({len(lines)}), in a block that has no END"
        )
    if not file.blocks:
        kinds = f"{len(file.movements)} eye movements and {len(file.events)} events"
        raise RecordingError(document.path, f"not one sample, but {kinds}: convert the recording with its samples")
    return file


def _movement(cells: list[str], prescaler: float) -> Movement:
    start, end, duration = (float(cell) for cell in cells[2:5])
    point = (np.nan, np.nan)
    if cells[0] == "EFIX":
        x, y = (np.nan if cell == "." else float(cell) / prescaler for cell in cells[5:7])
        point = (x, y)
    return Movement(_EYES[cells[1]], schema.EYE_MOVEMENT[_MOVEMENTS[cells[0]]], start, end, duration, point)


def _message(line: str, file: _File) -> None:
    _, time, *rest = line.split(None, 2)
    text, offset = rest[0].strip() if rest else "", 0.0
    if coords := _COORDS.search(text):
        file.coords.setdefault(coords[1], tuple(float(number) for number in coords.groups()[1:]))
    if shifted := re.fullmatch(r"(-?\d+)\s+(.+)", text):
        offset, text = float(shifted[1]), shifted[2]
    name, _, value = text.partition(" ")
    file.events.append(Event(name, float(time) - offset, value.strip()))


def _samples(block: _Block, *, document: Document) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Times in ms, (N,), and the columns we keep, each (N,), of a block of one form."""
    fields = [len(line.split()) for line in block.lines]
    width = Counter(fields).most_common(1)[0][0]
    # While both eyes are lost some converters write one dot for all flags: such a line does not show the form.
    usual = (line.split() for line, found in zip(block.lines, fields, strict=True) if found == width)
    form = next((cells for cells in usual if cells[-1] != "."), ["."] * width)
    for place, found in enumerate(fields):
        if found != width:
            block.lines[place] = _lost_line(block.lines[place], block.numbers[place], width, document=document)
    target = _TARGET.fullmatch(form[-1]) is not None
    flags = width - (5 if target else 1)
    if _CORNEAL.fullmatch(form[flags]) is None:
        flags = 0
    eyes = _eyes(block.words, flags=form[flags] if flags else "", path=document.path)
    wanted = 1 + 3 * len(eyes)
    if width < wanted:
        reason = f"line {block.numbers[0]}: want {wanted} numbers for {len(eyes)} eye(s), found {width} fields"
        raise RecordingError(document.path, reason)

    names = ["time", *(f"{eye} {what}" for eye in eyes for what in ("x", "y", "pupil"))]
    numbers = list(range(wanted))
    if target:
        names += ["Target X (camera px)", "Target Y (camera px)", "Target distance (mm)"]
        numbers += [width - 4, width - 3, width - 2]
    columns = _parse(block, [*numbers, flags] if flags else numbers, width=width, path=document.path)
    values = {name: columns.numbers(number) for name, number in zip(names, numbers, strict=True)}
    for name in values:
        if name.endswith((" x", " y")):
            values[name] = values[name] / block.prescaler
    if flags:
        kinds, which = np.unique(columns.cells[flags].astype(str), return_inverse=True)
        for place, eye in enumerate(eyes):
            # The first letter is for both eyes; then two for each, of which the first is its corneal reflection.
            bad = np.array([kind[:1] == "I" or kind[1 + 2 * place : 2 + 2 * place] == "C" for kind in kinds])
            values[f"{eye} warned"] = bad[which].astype(np.float64)
    return values.pop("time"), values


def _eyes(words: tuple[str, ...], *, flags: str, path: Path) -> list[str]:
    """Which eyes are in the samples, in their order; an empty name where one is, and nothing says which."""
    eyes = [_EYES[word] for word in words if word in _EYES]
    if not eyes:
        return ["left", "right"] if len(flags) == 5 else [""]
    if words[0] != "GAZE":
        raise RecordingError(
            path, f"its samples are {words[0]}, not GAZE: convert the recording with gaze on the screen"
        )
    return eyes


def _lost_line(line: str, number: int, width: int, *, document: Document) -> str:
    """A line of another width, made as wide as the others, if it is a lost sample."""
    time, *cells = line.split()
    if number == len(document.lines):  # it has no end
        reason = f"cut off in the middle of its last line ({number}): want {width} fields, found {len(cells) + 1}"
        raise RecordingError(document.path, reason)
    if any(re.fullmatch(r"-?\d+(\.\d+)?", cell) and float(cell) for cell in cells):
        found = len(cells) + 1
        raise RecordingError(document.path, f"damaged: line {number} has {found} fields, the other samples {width}")
    return f"{time}{' .' * (width - 1)}"


def _parse(block: _Block, numbers: list[int], *, width: int, path: Path) -> Columns:
    frame = pd.read_csv(
        io.StringIO("\n".join(block.lines)),
        sep=r"\s+",
        header=None,
        names=range(width),
        usecols=numbers,
        quoting=3,
        keep_default_na=False,
        na_values=["."],
        low_memory=False,
    )
    header = tuple(f"{number + 1}" for number in range(width))
    return Columns(path, header, {number: frame[number].to_numpy() for number in numbers}, np.array(block.numbers))


def _lose(values: dict[str, np.ndarray]) -> dict[str, int | float]:
    """Make missing, in place, what was lost; how many values each rule took."""
    notes: dict[str, int | float] = {"values_flagged_invalid": 0, "values_marked_missing": 0}

    def drop(name: str, where: np.ndarray, note: str) -> None:
        where = where & ~np.isnan(values[name])
        values[name][where] = np.nan
        notes[note] += int(where.sum())

    for name in list(values):
        eye, _, what = name.rpartition(" ")
        if what == "warned":
            warned = values.pop(name) == 1
            for each in ("x", "y", "pupil"):
                drop(f"{eye} {each}", warned, "values_flagged_invalid")
    for name, column in values.items():
        eye, _, what = name.rpartition(" ")
        drop(name, np.abs(column) >= NO_VALUE, "values_marked_missing")
        # A recording without pupil sizes has 0 throughout: that says nothing about gaze.
        if what == "pupil" and np.any(column > 0):
            lost = column == 0
            for each in ("x", "y", "pupil"):
                drop(f"{eye} {each}", lost, "values_marked_missing")
    return notes


def _display(coords: dict[str, tuple[float, ...]]) -> tuple[tuple[float, float], tuple[int, int] | None]:
    """Top left corner and size of the display in pixels, as far as the messages tell."""
    edges = coords.get("GAZE_COORDS", coords.get("DISPLAY_COORDS"))
    if edges is None:
        return (0.0, 0.0), None
    left, top, right, bottom = edges
    # The last pixel's number is meant; an odd size is that of an author who put the size there.
    width, height = (round(far - near) + 1 for near, far in ((left, right), (top, bottom)))
    return (left, top), (width - width % 2, height - height % 2)
