"""From a table's cells to numbers and codes: either decimal sign, marks for "missing", errors that name the cell."""

from __future__ import annotations

import csv
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from smad_features.recordings.recording import RecordingError
from smad_features.recordings.tables import MISSING_TEXT, Table


@dataclass(frozen=True)
class Columns:
    """Some columns of a table, by their number from 0, and where each row stands in the file.

    Attributes
    ----------
    header
        The names of all columns.
    cells
        Number of the column -> (N,), as `Table.cells` gives it.
    lines : (N,) int64
        The line of the file, counted from 1 and from the top, in which each row stands.
    """

    path: Path
    header: tuple[str, ...]
    cells: dict[int, np.ndarray]
    lines: np.ndarray

    def __len__(self) -> int:
        return len(self.lines)

    def rows(self, which: np.ndarray) -> Columns:
        """The same with some rows only: (N,) bool, or their places."""
        return replace(
            self,
            cells={number: column[which] for number, column in self.cells.items()},
            lines=self.lines[which],
        )

    def numbers(self, number: int) -> np.ndarray:
        """(N,) float64, NaN where the cell is empty. A decimal comma is read as a point.

        Raises
        ------
        RecordingError
            There is anything else than a number or a mark for "missing": a word, a date, a yes or no.
        """
        column = self.cells[number]
        if column.dtype.kind in "fiu":
            return column.astype(np.float64)
        text = pd.Series(column).astype("str").str.strip()
        values = pd.to_numeric(text.str.replace(",", ".", n=1), errors="coerce").to_numpy(dtype=np.float64, copy=True)
        strange = np.flatnonzero(np.isnan(values) & pd.notna(column) & ~text.isin(MISSING_TEXT).to_numpy())
        if len(strange):
            raise self.damage(number, strange[0], "a number")
        return values

    def ticks(self, number: int) -> np.ndarray:
        """(N,) float64: a clock's readings less the first of them, so that whole nanoseconds since 1970 stay whole."""
        column = self.cells[number]
        if column.dtype.kind in "iu":
            return (column - column[0]).astype(np.float64) if len(column) else column.astype(np.float64)
        values = self.numbers(number)
        known = values[np.isfinite(values)]
        return values - known[0] if len(known) else values

    def words(self, number: int) -> np.ndarray:
        """(N,) object: text, None where the cell is empty."""
        column = self.cells[number]
        missing = pd.isna(column)
        return np.array(
            [None if lost else str(cell).strip() for cell, lost in zip(column, missing, strict=True)], dtype=object
        )

    def codes(self, number: int, codes: Mapping[str, float]) -> np.ndarray:
        """(N,) float64: the code of each word, NaN where the cell is empty.

        Raises
        ------
        RecordingError
            A word has no code.
        """
        which, kinds = pd.factorize(self.cells[number])
        for place, kind in enumerate(kinds):
            if str(kind) not in codes:
                raise self.damage(number, np.flatnonzero(which == place)[0], f"one of {', '.join(codes)}")
        # An empty cell has the number -1: it takes the last.
        return np.array([codes[str(kind)] for kind in kinds] + [np.nan])[which]

    def damage(self, number: int, row: int, wanted: str) -> RecordingError:
        """What to raise where a cell holds something else than what is wanted."""
        found = str(self.cells[number][row])
        return RecordingError(
            self.path, f"column {self.header[number]!r}, line {self.lines[row]}: want {wanted}, found {found!r}"
        )


def read_columns(table: Table, numbers: Collection[int], *, words: Collection[int] = (), path: Path) -> Columns:
    """Parse some columns of a table, after a check that it is whole.

    Parameters
    ----------
    numbers
        Which columns, counted from 0.
    words
        Those of them that hold text, whatever it looks like: they are needed for `Columns.words` and `Columns.codes`.

    Raises
    ------
    RecordingError
        The table has no row, or is torn.
    """
    try:
        table.check_complete(path=path)
        cells = table.cells(numbers, words=words)
    except (csv.Error, pd.errors.ParserError) as error:  # a quote that never ends
        raise RecordingError(path, f"damaged: {error}") from error
    count = len(next(iter(cells.values()))) if cells else 0
    return Columns(path, table.header, cells, np.arange(count) + table.line)
