"""Gazepoint exports (`..._all_gaze.csv`) and logs of its API: fractions of the screen, each with a flag of its own.

What a field means is told by the Open Gaze API document of Gazepoint, version 2.0: a value stays as it was while its
flag is 0, so that only the flag says what was measured.
"""

from __future__ import annotations

import re

import numpy as np

from smad_features import schema
from smad_features.recordings.cells import Columns, read_columns
from smad_features.recordings.document import Document
from smad_features.recordings.gaze import add_mean_gaze
from smad_features.recordings.movements import event_index
from smad_features.recordings.recording import Event, Recording, RecordingError, on_clock
from smad_features.recordings.sentinels import clean
from smad_features.recordings.tables import Table, TextTable

KIND = "Gazepoint"
LOOKED_FOR = "a Gazepoint export (columns such as 'TIME(...)', 'BPOGX', 'FPOGV', 'LPMM')"

# Channel -> field, its flag, and what one of its units is in the channel's.
_MEASURED = {
    "Gaze point X": ("BPOGX", "BPOGV", 1),
    "Gaze point Y": ("BPOGY", "BPOGV", 1),
    "Gaze point left X": ("LPOGX", "LPOGV", 1),
    "Gaze point left Y": ("LPOGY", "LPOGV", 1),
    "Gaze point right X": ("RPOGX", "RPOGV", 1),
    "Gaze point right Y": ("RPOGY", "RPOGV", 1),
    "Fixation point X": ("FPOGX", "FPOGV", 1),
    "Fixation point Y": ("FPOGY", "FPOGV", 1),
    "Pupil diameter left": ("LPMM", "LPMMV", 1),
    "Pupil diameter right": ("RPMM", "RPMMV", 1),
}
_METRES = {"Pupil diameter left": ("LPUPILD", "LPUPILV", 1000), "Pupil diameter right": ("RPUPILD", "RPUPILV", 1000)}
_EXTRA = {
    "Pupil diameter left (camera px)": ("LPD", "LPV", 1),
    "Pupil diameter right (camera px)": ("RPD", "RPV", 1),
}
_VALIDITY = {"Validity left": ("LPOGV", "LPV"), "Validity right": ("RPOGV", "RPV")}
_FIELDS = {field for fields in (*_MEASURED.values(), *_METRES.values(), *_EXTRA.values()) for field in fields[:2]}
_FLAGS = {"1": 1.0, "0": 0.0, "1.0": 1.0, "0.0": 0.0}


def _places(table: Table) -> dict[str, int]:
    """The columns by their bare names: a time's holds the date of the recording, a tick's the clock's frequency."""
    places: dict[str, int] = {}
    for number, name in enumerate(table.header):
        places.setdefault(re.split(r"\s*\(", name, maxsplit=1)[0].upper(), number)
    return places


def _known(table: Table) -> int:
    fields = _FIELDS & _places(table).keys()
    return len(fields) if fields & {"BPOGX", "FPOGX", "LPOGX", "RPOGX"} else 0


def recognises(document: Document) -> int:
    """How many fields of a Gazepoint record the file has, if one of them is a point of gaze."""
    return max(map(_known, document.tables), default=0)


def read(document: Document) -> Recording:
    """Read a table of Gazepoint's records, one a sample.

    Points stay fractions of the screen (`Recording.normalized`). A sample in a fixation of the tracker (FPOGV) is
    Fixation, one in a blink (BKID) or without a valid gaze point EyesNotFound, any other Unclassified: the tracker
    names no saccades. A fixation lasts as long as the last of its records says. That another medium was shown
    (MEDIA_NAME), or other data set by the user (USER), is an event.

    Raises
    ------
    RecordingError
        The table is torn, has no time, holds a fixation a row, or text stands where a number is wanted.
    """
    path, table = document.path, _with_last_column(max(document.tables, key=_known))
    places = _places(table)
    if "TIME" not in places:
        raise RecordingError(path, "no time: want a column 'TIME(...)', found none")
    words = [number for name, number in places.items() if name in ("MEDIA_NAME", "USER") or name in _flag_names()]
    others = ("TIME", "FPOGID", "FPOGD", "BKID")
    columns = read_columns(
        table, {*words, *(number for name, number in places.items() if name in _FIELDS or name in others)},
        words=words, path=path,
    )  # fmt: skip
    _check_samples(columns, places)

    notes: dict[str, int | float] = {"values_flagged_invalid": 0}
    metres = {} if {"LPMM", "RPMM"} & places.keys() else _METRES
    channels = _measured(columns, places, {**_MEASURED, **metres}, notes)
    extra = _measured(columns, places, _EXTRA, notes)
    for name, flags in _VALIDITY.items():
        flag = next((flag for flag in flags if flag in places), None)
        if flag is not None:
            channels[name] = columns.codes(places[flag], _FLAGS)
    add_mean_gaze(channels)
    if "FPOGV" in places:
        channels |= _movements(columns, places, channels)
    time = columns.numbers(places["TIME"])
    recording = on_clock(
        time,
        channels,
        path=path,
        kind=KIND,
        notes={},
        normalized=[name for name in channels if re.fullmatch(r"(Gaze|Fixation) point (left |right )?[XY]", name)],
        events=_events(columns, places, time),
        extra=extra,
    )
    # The flags are applied already, each to its own field.
    marked = clean({name: column for name, column in recording.channels.items() if not name.startswith("Validity")})
    recording.notes.update({**marked, **notes})
    return recording


def _flag_names() -> set[str]:
    return {fields[1] for fields in (*_MEASURED.values(), *_METRES.values(), *_EXTRA.values())}


def _with_last_column(table: Table) -> Table:
    """The same with a nameless column at its end where only the rows end in a comma."""
    top = table.top()
    if isinstance(table, TextTable) and len(top) == len(table.header) + 1 and not top[-1]:
        return TextTable(table.delimiter, (*table.header, ""), table.body, table.line)
    return table


def _check_samples(columns: Columns, places: dict[str, int]) -> None:
    """Refuse a `..._fixations.csv`: it has the same columns."""
    if "FPOGID" not in places or len(columns) < 5:
        return
    number = columns.numbers(places["FPOGID"])
    if np.all(np.diff(number) > 0):
        raise RecordingError(
            columns.path, f"a table of {len(columns)} fixations, one a row: want the export of all gaze"
        )


def _measured(
    columns: Columns,
    places: dict[str, int],
    wanted: dict[str, tuple[str, str, int]],
    notes: dict[str, int | float],
) -> dict[str, np.ndarray]:
    values: dict[str, np.ndarray] = {}
    for name, (field, flag, scale) in wanted.items():
        if field in places:
            column = columns.numbers(places[field]) * scale
            if flag in places:
                stale = ~(columns.codes(places[flag], _FLAGS) == 1) & ~np.isnan(column)
                column[stale] = np.nan
                notes["values_flagged_invalid"] += int(stale.sum())
            values[name] = column
    return values


def _movements(columns: Columns, places: dict[str, int], channels: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    fixating = columns.codes(places["FPOGV"], _FLAGS) == 1
    nothing = np.full(len(columns), np.nan)
    blink = columns.numbers(places["BKID"]) if "BKID" in places else nothing
    lost = np.isnan(channels["Gaze point X"]) if "Gaze point X" in channels else np.zeros(len(columns), dtype=bool)
    codes = np.where(lost, schema.EYE_MOVEMENT["EyesNotFound"], schema.EYE_MOVEMENT["Unclassified"])
    codes[fixating] = schema.EYE_MOVEMENT["Fixation"]
    codes[blink > 0] = schema.EYE_MOVEMENT["EyesNotFound"]
    found = {"Eye movement type": codes}
    if "FPOGID" in places:
        number = np.where(codes == schema.EYE_MOVEMENT["Fixation"], columns.numbers(places["FPOGID"]), np.nan)
        found["Eye movement type index"] = event_index(codes, np.where(blink > 0, blink, number))
        if "FPOGD" in places:
            found["Gaze event duration"] = 1000 * _last_of_each(columns.numbers(places["FPOGD"]), number)
    return found


def _last_of_each(values: np.ndarray, number: np.ndarray) -> np.ndarray:
    """(N,): the largest of `values` among the rows of the same `number`; NaN where there is no number."""
    largest = np.full(len(values), np.nan)
    rows = np.flatnonzero(np.isfinite(number) & np.isfinite(values))
    _, which = np.unique(number[rows], return_inverse=True)
    most = np.full(int(which.max(initial=-1)) + 1, -np.inf)
    np.maximum.at(most, which, values[rows])
    largest[rows] = most[which]
    return largest


def _events(columns: Columns, places: dict[str, int], time: np.ndarray) -> list[Event]:
    events = []
    for field in ("MEDIA_NAME", "USER"):
        if field in places:
            named = columns.words(places[field])
            changed = np.flatnonzero(
                [new is not None and new != old for old, new in zip([None, *named], named, strict=False)]
            )
            events += [Event(field, float(time[row]), str(named[row])) for row in changed if np.isfinite(time[row])]
    return events
