"""SMAD's own sheets: 39 columns of numbers, one row a sample, no clock; 0 where nothing was measured."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np

from smad_features import schema
from smad_features.recordings.cells import Columns, read_columns
from smad_features.recordings.document import Document
from smad_features.recordings.recording import Recording, RecordingError, on_clock
from smad_features.recordings.sentinels import clean
from smad_features.recordings.tables import MISSING_TEXT, Table
from smad_features.recordings.tobii_export import CODES
from smad_features.recordings.tobii_pro_lab import channel_of, has_clock

KIND = "SMAD sheet"
LOOKED_FOR = "a sheet of SMAD (exactly 39 columns of numbers, no clock)"
SHEET_RATE = 120.0  # samples a second of the tracker that SMAD was recorded with

_CHANNELS = schema.TOBII_PRO_LAB_39
_SURE, _NUMBERS_ONLY, _UNKNOWN_HEADER = 1000, len(_CHANNELS), 1


def recognises(document: Document) -> int:
    """Much where the header names channels and has no clock; little where it names none, above numbers."""
    return max(map(_marks, document.tables), default=0)


def _marks(table: Table) -> int:
    if len(table.header) != len(_CHANNELS) or has_clock(table):
        return 0
    if all(map(_is_number, table.header)):
        return _NUMBERS_ONLY
    known = sum(channel_of(name) is not None for name in table.header)
    if known > len(_CHANNELS) / 2:
        return _SURE
    if not table.top() or not all(map(_is_number, table.top())):
        return 0
    return _SURE if known else _UNKNOWN_HEADER


@lru_cache(maxsize=4096)
def _is_number(text: str) -> bool:
    if text in MISSING_TEXT:
        return True
    try:
        float(text.replace(",", ".", 1))
    except ValueError:
        return False
    return True


def read(document: Document) -> Recording:
    """Read a sheet of 39 columns.

    Where its header names the channels, they go by their names, and a column of another name to `Recording.extra`.
    Where it names none, or less than half of them and these in their places, all go in the order of
    `schema.TOBII_PRO_LAB_39`; a first row of numbers is data. Row n is at n / rate seconds, the rate being the setting
    ``sheet_rate``, 120 Hz by default: the note ``clock_assumed`` says so. Which of two numbers stands for "valid" is
    told by the rows in which nothing of that eye was measured.

    Raises
    ------
    RecordingError
        There is no row, a row is torn, a channel stands there twice, something is no number, or a column that would be
        a validity holds anything but 0 to 4.
    """
    path = document.path
    table = max(document.tables, key=_marks)
    if _marks(table) == _NUMBERS_ONLY:
        number = document.tables.index(table)
        table = document.tables_from(0, header=False)[number]
    places = _places(table, path=path)
    codes = {name: number for name, number in places.items() if name in CODES}
    others = [number for number in range(len(table.header)) if number not in places.values()]
    columns = read_columns(table, [*places.values(), *others], path=path)
    values = {
        name: _category(columns, number, name) if name in codes else columns.numbers(number)
        for name, number in places.items()
    }
    rate = float(document.settings.get("sheet_rate", SHEET_RATE))
    notes = clean({name: column for name, column in values.items() if not name.startswith("Validity")})
    for eye in ("left", "right"):
        if f"Validity {eye}" in values:
            values[f"Validity {eye}"] = _validity(values, eye, columns=columns, number=places[f"Validity {eye}"])
    return on_clock(
        np.arange(len(columns)) / rate,
        {channel.name: values[channel.name] for channel in _CHANNELS if channel.name in values},
        path=path,
        kind=KIND,
        notes={**notes, "clock_assumed": 1},
        extra={table.header[number]: columns.numbers(number) for number in others},
    )


def _places(table: Table, *, path: Path) -> dict[str, int]:
    named = [channel_of(name) for name in table.header]
    in_place = all(name in (None, channel.name) for name, channel in zip(named, _CHANNELS, strict=True))
    if in_place and sum(name is not None for name in named) <= len(_CHANNELS) / 2:
        return {channel.name: number for number, channel in enumerate(_CHANNELS)}
    places: dict[str, int] = {}
    for number, name in enumerate(named):
        if name in places:
            first = table.header[places[name]]
            raise RecordingError(path, f"columns {first!r} and {table.header[number]!r} are both {name}")
        if name:
            places[name] = number
    return places


def _category(columns: Columns, number: int, name: str) -> np.ndarray:
    """Codes that are numbers already, or words as in an export."""
    if columns.cells[number].dtype.kind in "fiu":
        return columns.numbers(number)
    return columns.codes(number, CODES[name] | {str(code): float(code) for code in range(5)})


def _validity(values: dict[str, np.ndarray], eye: str, *, columns: Columns, number: int) -> np.ndarray:
    """1 valid, 0 not, from whichever numbers the sheet has for them; what words say is sure."""
    flag = values[f"Validity {eye}"]
    if columns.cells[number].dtype.kind not in "fiu":
        return flag
    strange = np.flatnonzero(~np.isnan(flag) & ~np.isin(flag, range(5)))
    if len(strange):
        wanted = f"a validity of {eye} eye, 0 to 4 (where the 39 columns are others, name them in `eye.columns`)"
        raise columns.damage(number, int(strange[0]), wanted)
    if np.any(flag > 1):  # Tobii's grades: 0 and 1 are valid
        return np.where(np.isnan(flag), np.nan, (flag < 2).astype(np.float64))
    measured = [values[name] for name in values if f" {eye}" in name and not name.startswith("Validity")]
    seen = np.any(~np.isnan(measured), axis=0) if measured else np.ones(len(flag), dtype=bool)
    agree, differ = np.sum((flag == 1) == seen), np.sum((flag == 0) == seen)
    return flag if agree >= differ else 1 - flag
