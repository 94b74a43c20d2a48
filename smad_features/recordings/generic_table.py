"""Any other table, its columns named by the configuration: `eye.columns`."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from smad_features import schema
from smad_features.recordings.cells import read_columns
from smad_features.recordings.document import Document
from smad_features.recordings.recording import UNITS, Recording, RecordingError, on_clock, seconds_a_tick
from smad_features.recordings.sentinels import clean
from smad_features.recordings.tables import Table
from smad_features.recordings.tobii_export import MOVEMENT

KIND = "generic table"
LOOKED_FOR = "a table with the columns that `eye.columns` names"
TIME = "time"

_MARKS = 10_000  # who names the columns knows best
_NAMES = {channel.name: channel for channel in schema.TOBII_PRO_LAB_39}
_PIXELS = tuple(f"Gaze point {eye}{axis}" for eye in ("", "left ", "right ") for axis in "XY")
_FLAGS = {
    **schema.VALIDITY,
    **dict.fromkeys(("1", "1.0", "True", "true", "TRUE", "valid"), schema.VALIDITY["Valid"]),
    **dict.fromkeys(("0", "0.0", "False", "false", "FALSE", "invalid"), schema.VALIDITY["Invalid"]),
}
_TYPES = MOVEMENT | {str(int(code)): code for code in schema.EYE_MOVEMENT.values()}


def recognises(document: Document) -> int:
    """More than any other reader where the file has every column that the configuration names."""
    wanted = document.settings.get("columns") or {}
    return _MARKS if wanted and _table(document, wanted) is not None else 0


def _table(document: Document, wanted: Mapping[str, str]) -> Table | None:
    return next((table for table in document.tables if set(wanted.values()) <= set(table.header)), None)


def check_columns(wanted: Mapping[str, str]) -> None:
    """Raise ValueError unless a column map has a time and names channels that there are.

    Parameters
    ----------
    wanted
        ``time`` and channels as in `schema.TOBII_PRO_LAB_39` -> the heading of the column in the file.
    """
    for name in wanted:
        if name != TIME and name not in _NAMES:
            near = difflib.get_close_matches(name, [TIME, *_NAMES], n=3, cutoff=0.5)
            raise ValueError(
                f"eye.columns: no channel is called {name!r}" + (f": {' or '.join(map(repr, near))}?" if near else "")
            )
    if TIME not in wanted:
        raise ValueError("eye.columns: want a column for 'time', found none")


def read(document: Document) -> Recording:
    """Read a table by the settings ``columns`` and ``time_unit`` (s, ms, us, ns, or auto: told by the median step).

    A validity is 1 or true where valid; an eye movement is its name or its code. Gaze in pixels that never leaves 0..1
    by more than half is taken for fractions of the screen: nobody looks at one pixel.

    Raises
    ------
    ValueError
        The settings name a channel that there is none of, or no time.
    RecordingError
        The table is torn or has no row with a time, or text stands where a number is wanted.
    """
    wanted = document.settings["columns"]
    check_columns(wanted)
    table = _table(document, wanted)
    if table is None:
        raise RecordingError(document.path, f"want the columns {', '.join(map(repr, wanted.values()))}")
    places = {name: table.header.index(heading) for name, heading in wanted.items()}
    words = [number for name, number in places.items() if name != TIME and _NAMES[name].kind == "category"]
    columns = read_columns(table, places.values(), words=words, path=document.path)
    values: dict[str, np.ndarray] = {}
    for name, number in places.items():
        if name == TIME:
            continue
        if name.startswith("Validity"):
            values[name] = columns.codes(number, _FLAGS)
        elif name == "Eye movement type":
            values[name] = columns.codes(number, _TYPES)
        else:
            values[name] = columns.numbers(number)
    ticks = columns.ticks(places[TIME])
    unit = document.settings.get("time_unit", "auto")
    recording = on_clock(
        ticks * (seconds_a_tick(ticks) if unit == "auto" else UNITS[unit]),
        {name: values[name] for name in _NAMES if name in values},
        path=document.path,
        kind=KIND,
        notes={},
    )
    recording.notes.update(clean(recording.channels))
    return _with_fractions(recording)


def _with_fractions(recording: Recording) -> Recording:
    known = {name: recording.channels[name] for name in _PIXELS if name in recording.channels}
    known = {name: values[~np.isnan(values)] for name, values in known.items()}
    if not any(map(len, known.values())) or any(np.any(np.abs(values - 0.5) > 1) for values in known.values()):
        return recording
    return replace(recording, normalized=frozenset(known))
