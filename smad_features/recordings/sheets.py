"""Workbooks (XLSX, XLS, ODS): each sheet is a table like any other."""

from __future__ import annotations

import io
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from smad_features.recordings.recording import RecordingError
from smad_features.recordings.tables import MISSING_TEXT, TOP, count_words

# A zip archive (XLSX, XLSB, ODS), and Microsoft's compound file (XLS, or a workbook with a password).
_WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")

Rows = list[list[Any]]  # float, int, str, bool, date, time or timedelta; "" where empty


def is_workbook(data: bytes) -> bool:
    """Whether a file begins as workbooks do."""
    return data.startswith(_WORKBOOKS)


def read_sheets(data: bytes, *, path: Path) -> list[Rows]:
    """The rows of every sheet that holds anything, from the sheet's first row and column on.

    A formula is its stored value. A cell in error (``#N/A``, ``#DIV/0!``) comes as an empty one: the library does not
    tell them apart.

    Raises
    ------
    RecordingError
        The file is damaged, locked by a password, no workbook in spite of how it begins, or all its sheets are empty.
    """
    from python_calamine import CalamineError, CalamineWorkbook

    try:
        workbook = CalamineWorkbook.from_filelike(io.BytesIO(data))
        sheets = [
            workbook.get_sheet_by_index(number).to_python(skip_empty_area=False)
            for number in range(len(workbook.sheet_names))
        ]
    except CalamineError as error:
        raise RecordingError(path, f"begins like a spreadsheet and cannot be read as one: {error}") from error
    sheets = [rows for rows in map(_without_blank_end, sheets) if rows]
    if not sheets:
        raise RecordingError(path, "a spreadsheet in which nothing stands")
    return sheets


def _without_blank_end(rows: Rows) -> Rows:
    end = len(rows)
    while end and not any(cell != "" for cell in rows[end - 1]):
        end -= 1
    return rows[:end]


@dataclass(frozen=True)
class SheetTable:
    """A sheet, from the row with the names of its columns on.

    ``above``: the rows over it, each as a line of text with tabs between its cells.
    """

    header: tuple[str, ...]
    rows: Rows
    line: int = 2
    above: tuple[str, ...] = ()

    @classmethod
    def of(cls, rows: Rows, *, line: int, header: bool) -> SheetTable | None:
        """The sheet from its row number `line`, counted from 0, on; None where there is no such row.

        Its names stand in that of the first 50 rows which has the most words in it: a title above has one or two.
        """
        start = next((number for number in range(line, len(rows)) if any(cell != "" for cell in rows[number])), None)
        if start is None:
            return None
        if not header:
            names = tuple(f"column {number}" for number in range(1, len(rows[start]) + 1))
            return cls(names, rows[start:], start + 1)
        start = max(range(start, min(start + TOP, len(rows))), key=lambda number: count_words(rows[number]))
        above = tuple("\t".join(map(_text, row)).rstrip("\t") for row in rows[:start])
        return cls(tuple(_text(cell) for cell in rows[start]), rows[start + 1 :], start + 2, above)

    def top(self) -> tuple[str, ...]:
        """See `tables.Table`."""
        return tuple(_text(cell) for cell in self.rows[0]) if self.rows else ()

    def check_complete(self, *, path: Path) -> None:
        """Raise RecordingError where there is no row: a workbook's rows are all of one length."""
        if not self.rows:
            raise RecordingError(path, f"a header of {len(self.header)} columns and no row under it")

    def cells(self, numbers: Collection[int], *, words: Collection[int]) -> dict[int, np.ndarray]:
        """See `tables.Table`."""
        return {number: _column(self._columns[number], text=number in words) for number in numbers}

    @cached_property
    def _columns(self) -> list[tuple[Any, ...]]:
        return list(zip(*self.rows, strict=True))


def _column(cells: Sequence[Any], *, text: bool) -> np.ndarray:
    if text:
        return _objects([np.nan if (word := _text(cell)) in MISSING_TEXT else word for cell in cells])
    kinds = set(map(type, cells))
    if kinds <= {float, int}:
        return np.array(cells)
    cells = [np.nan if type(cell) is str and cell.strip() in MISSING_TEXT else cell for cell in cells]
    if set(map(type, cells)) <= {float, int}:
        return np.array(cells, dtype=np.float64)
    return _objects(cells)


def _objects(cells: Sequence[Any]) -> np.ndarray:
    column = np.empty(len(cells), dtype=object)
    column[:] = cells
    return column


def _text(cell: Any) -> str:
    """A cell as it would stand in a text file: 1.0 is 1."""
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell).strip()
