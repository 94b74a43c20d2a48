"""Dumps of the Tobii Pro SDK's gaze samples: one column a field, or one a coordinate, in any order."""

from __future__ import annotations

import re
from functools import lru_cache

import numpy as np
import pandas as pd

from smad_features import schema
from smad_features.recordings.cells import Columns, read_columns
from smad_features.recordings.document import Document
from smad_features.recordings.gaze import add_mean_gaze
from smad_features.recordings.recording import Recording, RecordingError, on_clock, seconds_a_tick
from smad_features.recordings.sentinels import clean
from smad_features.recordings.tables import MISSING_TEXT, Table

KIND = "Tobii Pro SDK"
LOOKED_FOR = "a dump of the Tobii Pro SDK (columns such as 'left_gaze_point_on_display_area', 'device_time_stamp')"

_CLOCKS = ("device_time_stamp", "system_time_stamp")
# Field -> what its coordinates are called here. The display area's are fractions of the screen, y down; the user
# coordinate system's origin is the tracker, y up, and nothing in the file leads from there to the display.
_POINTS = {
    "gaze_point_on_display_area": "Gaze point {eye} {axis}",
    "gaze_point_in_user_coordinate_system": "Gaze point {eye} {axis} (UCSmm)",
    "gaze_origin_in_user_coordinate_system": "Eye position {eye} {axis} (UCSmm)",
}
_FIELD = re.compile(
    r"(left|right)_(?:("
    + "|".join(_POINTS)
    + r")(?:[_.\[]?([xyz012])\]?)?|(pupil_diameter)|(gaze_point|gaze_origin|pupil)_valid(?:ity)?)"
)
_AXES = {"x": "X", "y": "Y", "z": "Z", "0": "X", "1": "Y", "2": "Z"}
_TRUE = {"1": 1.0, "0": 0.0, "1.0": 1.0, "0.0": 0.0, "True": 1.0, "False": 0.0, "true": 1.0, "false": 0.0}


@lru_cache(maxsize=4096)
def _field(heading: str) -> tuple[str, str, str] | None:
    """Eye, what it is, axis: ('left', 'gaze_point_on_display_area', 'X'); an axis of '' is all of them in one cell."""
    match = _FIELD.fullmatch(heading.lower().strip())
    if not match:
        return None
    eye, point, axis, pupil, flag = match.groups()
    if point:
        return eye, point, _AXES.get(axis or "", "")
    return eye, pupil or f"{flag} valid", ""


def _known(table: Table) -> int:
    return sum(_field(name) is not None for name in table.header)


def recognises(document: Document) -> int:
    """How many fields of the SDK's gaze sample the file has."""
    return max(map(_known, document.tables), default=0)


def read(document: Document) -> Recording:
    """Read a dump of gaze samples.

    Points on the display stay fractions of the screen (`Recording.normalized`); the mean of both eyes is made as Pro
    Lab makes it, from one eye where the other is not valid. Positions from the tracker go to `Recording.extra`: where
    the display stands to the tracker is not told. Each field has a validity of its own and is missing where that is 0.

    Raises
    ------
    RecordingError
        The table is torn, has no clock or no gaze, or text stands where a number is wanted.
    """
    path, table = document.path, max(document.tables, key=_known)
    header = [name.strip().lower() for name in table.header]
    clock = next((header.index(name) for name in _CLOCKS if name in header), None)
    if clock is None:
        raise RecordingError(path, f"no time: want a column {' or '.join(map(repr, _CLOCKS))}, found neither")
    fields: dict[tuple[str, str, str], int] = {}
    for number, name in enumerate(table.header):
        if (field := _field(name)) and fields.setdefault(field, number) != number:
            raise RecordingError(path, f"columns {table.header[fields[field]]!r} and {name!r} are the same field")
    if not any(what in _POINTS or what == "pupil_diameter" for _, what, _ in fields):
        raise RecordingError(path, "flags of validity, and neither a gaze point nor a pupil")
    words = [
        number
        for (_, what, axis), number in fields.items()
        if what.endswith(" valid") or (what in _POINTS and not axis)
    ]
    columns = read_columns(table, [clock, *fields.values()], words=words, path=path)
    values = _values(columns, fields)
    flagged = _drop_invalid(values, columns, fields)
    add_mean_gaze(values)
    ticks = columns.ticks(clock)
    names = {channel.name for channel in schema.TOBII_PRO_LAB_39}
    channels = {channel.name: values[channel.name] for channel in schema.TOBII_PRO_LAB_39 if channel.name in values}
    recording = on_clock(
        ticks * seconds_a_tick(ticks),
        channels,
        path=path,
        kind=KIND,
        notes={},
        normalized=[name for name in channels if re.fullmatch(r"Gaze point (left |right )?[XY]", name)],
        extra={name: column for name, column in values.items() if name not in names},
    )
    # The flags are applied already, each to its own field.
    notes = clean({name: column for name, column in recording.channels.items() if not name.startswith("Validity")})
    recording.notes.update({**notes, "values_flagged_invalid": flagged})
    return recording


def _values(columns: Columns, fields: dict[tuple[str, str, str], int]) -> dict[str, np.ndarray]:
    values: dict[str, np.ndarray] = {}
    for (eye, what, axis), number in fields.items():
        if what in _POINTS:
            count = 2 if what == "gaze_point_on_display_area" else 3
            coordinates = {axis: columns.numbers(number)} if axis else _tuples(columns, number, count)
            values |= {_POINTS[what].format(eye=eye, axis=axis): column for axis, column in coordinates.items()}
        elif what == "pupil_diameter":
            values[f"Pupil diameter {eye}"] = columns.numbers(number)
        elif what == "gaze_point valid":
            values[f"Validity {eye}"] = columns.codes(number, _TRUE)
    return values


def _tuples(columns: Columns, number: int, count: int) -> dict[str, np.ndarray]:
    """Cells such as "(0.63, 0.66)", coordinate by coordinate."""
    cells = pd.Series(columns.cells[number])
    text = cells.astype("str").str.strip()
    closed = text.str.fullmatch(r"\(.*\)|\[.*\]").to_numpy(dtype=bool)
    parts = text.str.strip(" ()[]").str.split(r"[,;\s]+", expand=True, regex=True)
    numbers = parts.apply(pd.to_numeric, errors="coerce").to_numpy(dtype=np.float64)
    whole = closed & (parts.notna().sum(axis=1).to_numpy() == count)
    words = np.isnan(numbers) & parts.notna().to_numpy() & ~parts.isin(MISSING_TEXT).to_numpy()
    strange = np.flatnonzero(cells.notna().to_numpy() & (~whole | words.any(axis=1)))
    if len(strange):
        raise columns.damage(number, int(strange[0]), f"{count} numbers in brackets")
    missing = np.full(len(cells), np.nan)
    there = [numbers[:, place] if place < numbers.shape[1] else missing for place in range(count)]
    return {axis: column.copy() for axis, column in zip("XYZ", there, strict=False)}


def _drop_invalid(values: dict[str, np.ndarray], columns: Columns, fields: dict[tuple[str, str, str], int]) -> int:
    """Make missing, in place, each field where its own flag says that it is not valid; how many values."""
    starts = {"gaze_point": "Gaze point {eye}", "gaze_origin": "Eye position {eye}", "pupil": "Pupil diameter {eye}"}
    dropped = 0
    for (eye, what, _), number in fields.items():
        if what.endswith(" valid"):
            invalid = columns.codes(number, _TRUE) == schema.VALIDITY["Invalid"]
            for name, column in values.items():
                if name.startswith(starts[what.removesuffix(" valid")].format(eye=eye)):
                    where = invalid & ~np.isnan(column)
                    column[where] = np.nan
                    dropped += int(where.sum())
    return dropped
