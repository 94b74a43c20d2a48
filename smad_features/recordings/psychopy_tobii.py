"""What psychopy_tobii_controller writes: a text header, then sessions of samples and of events."""

from __future__ import annotations

import re

import numpy as np

from smad_features import schema
from smad_features.recordings.cells import Columns, read_columns
from smad_features.recordings.document import Document
from smad_features.recordings.recording import Event, Recording, RecordingError, on_clock
from smad_features.recordings.sentinels import clean
from smad_features.recordings.tables import TextTable

KIND = "PsychoPy Tobii controller"
LOOKED_FOR = "a file of psychopy_tobii_controller (a line 'Session Start', columns such as 'GazePointXLeft')"

_START, _END = "Session Start", "Session End"
_CHANNELS = {
    **{f"GazePoint{axis}{eye}": f"Gaze point {eye.lower()} {axis}" for eye in ("Left", "Right") for axis in "XY"},
    **{f"GazePoint{axis}": f"Gaze point {axis}" for axis in "XY"},
    **{f"Pupil{size}{eye}": f"Pupil diameter {eye.lower()}" for eye in ("Left", "Right") for size in ("", "Size")},
    **{f"Validity{eye}": f"Validity {eye.lower()}" for eye in ("Left", "Right")},
}
_VALID = {"0": schema.VALIDITY["Invalid"], "1": schema.VALIDITY["Valid"]}  # the reverse of Studio's grades
# PsychoPy's own unit of length is not told: norm and height stay below 2, no screen is 60 cm or degrees from its centre
# to its edge, so what goes beyond is pixels.
_LARGEST_OTHER = 60.0


def recognises(document: Document) -> int:
    """How many columns of such a session the file has."""
    lines = document.head
    starts = [number for number, line in enumerate(lines[:-1]) if line.strip() == _START]
    return sum(name.strip() in _CHANNELS for name in lines[starts[0] + 1].split("\t")) if starts else 0


def read(document: Document) -> Recording:
    """Read a file of one session.

    Its clock counts milliseconds from the session's first sample; a validity of 0 is invalid. Positions are in whatever
    unit PsychoPy's window had, from its centre, y up. Pixels, told by their size, become pixels of the display; of
    other units the file does not say enough: they go to `Recording.extra`, and the gaze channels are absent.

    Raises
    ------
    RecordingError
        There are several sessions, or the only one has no end, no sample or a torn row.
    """
    path, lines = document.path, document.lines
    starts = [number for number, line in enumerate(lines) if line.strip() == _START]
    ends = [number for number, line in enumerate(lines) if line.strip() == _END]
    if len(starts) > 1:
        raise RecordingError(path, f"{len(starts)} sessions in one file, each with a clock of its own: split it")
    if not ends:
        raise RecordingError(path, f"cut off: a line {_START!r} ({starts[0] + 1}) and none {_END!r}")
    first = starts[0] + 1
    header = tuple(name.strip() for name in lines[first].split("\t"))
    inside = lines[first + 1 : ends[0]]
    samples, notes = _parts(inside)
    table = TextTable("\t", header, "\n".join(samples), first + 2)
    if "TimeStamp" not in header:
        raise RecordingError(path, "no time: want a column 'TimeStamp'")
    time, marks = header.index("TimeStamp"), header.index("Event") if "Event" in header else None
    places = {_CHANNELS[name]: number for number, name in enumerate(header) if name in _CHANNELS}
    words = [places[name] for name in places if name.startswith("Validity")] + ([marks] if marks is not None else [])
    every = read_columns(table, [time, *places.values(), *words], words=words, path=path)
    events = [_event(line) for line in notes if re.match(r"-?\d+(\.\d+)?\t", line)]
    is_sample = np.ones(len(every), dtype=bool)
    if marks is not None:  # the row of an event holds what was interpolated for it
        named = every.words(marks)
        is_sample = np.array([word is None for word in named], dtype=bool)
        at = every.numbers(time) / 1e3
        events += [Event(str(named[row]), float(at[row])) for row in np.flatnonzero(~is_sample)]
    if not is_sample.any():
        raise RecordingError(path, f"{len(every)} rows, each of an event, and not one sample")
    return _recording(every.rows(is_sample), places, time, events, screen=_screen(lines[:first]))


def _recording(
    columns: Columns, places: dict[str, int], time: int, events: list[Event], *, screen: tuple[int, int] | None
) -> Recording:
    values = {
        name: columns.codes(number, _VALID) if name.startswith("Validity") else columns.numbers(number)
        for name, number in places.items()
    }
    gaze = [name for name in values if name.startswith("Gaze point")]
    largest = max((float(np.nanmax(np.abs(values[name]), initial=0.0)) for name in gaze), default=0.0)
    extra: dict[str, np.ndarray] = {}
    for name in gaze:
        if screen is None or largest <= _LARGEST_OTHER:
            extra[f"{name} (PsychoPy's unit)"] = values.pop(name)
        else:
            values[name] = screen[0] / 2 + values[name] if name.endswith("X") else screen[1] / 2 - values[name]
    recording = on_clock(
        columns.numbers(time) / 1e3,
        {channel.name: values[channel.name] for channel in schema.TOBII_PRO_LAB_39 if channel.name in values},
        path=columns.path,
        kind=KIND,
        notes={"rows_of_other_sensors": 0},
        screen=screen,
        events=events,
        extra=extra,
    )
    recording.notes.update(clean(recording.channels))
    return recording


def _parts(inside: list[str]) -> tuple[list[str], list[str]]:
    """The lines of samples, and behind them those of events: a time and a name, with or without a header."""
    end = len(inside)
    while end and inside[end - 1].count("\t") <= 1:
        end -= 1
    return inside[:end], inside[end:]


def _event(line: str) -> Event:
    time, name = line.split("\t", 1)
    return Event(name.strip(), float(time) / 1e3)


def _screen(preamble: list[str]) -> tuple[int, int] | None:
    for line in preamble:
        if match := re.fullmatch(r"Recording resolution:\s*(\d+)\s*x\s*(\d+)\s*", line):
            return int(match[1]), int(match[2])
    return None
