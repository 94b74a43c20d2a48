"""A table of text or of a workbook: the names of its columns, and its cells column by column."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd

from smad_features.recordings.recording import RecordingError

MISSING_TEXT = ("", "-", "NA", "NaN", "nan", "None")

TOP = 50  # rows among which the names of the columns stand
_NUMBER = re.compile(r"[+-]?\d*[.,]?\d+([eE][+-]?\d+)?")


class Table(Protocol):
    """What the readers ask of a table, wherever it comes from."""

    @property
    def header(self) -> tuple[str, ...]:
        """The names of the columns."""

    @property
    def line(self) -> int:
        """The number of the first row under the header in the file, counted from 1: for messages."""

    def top(self) -> tuple[str, ...]:
        """The cells of the first row under the header, as text; none where there is no row."""

    def check_complete(self, *, path: Path) -> None:
        """Raise RecordingError unless there are rows, and each has as many fields as the header."""

    def cells(self, numbers: Collection[int], *, words: Collection[int]) -> dict[int, np.ndarray]:
        """Columns by their number from 0, each (N,): numbers where all of one are, else objects; NaN where empty.

        Columns among ``words`` are objects always, their cells text.
        """


@dataclass(frozen=True)
class TextTable:
    """A text, cut at one delimiter; the rows are not parsed yet."""

    delimiter: str
    header: tuple[str, ...]
    body: str
    line: int = 2

    @classmethod
    def of(cls, text: str, delimiter: str, *, line: int, header: bool) -> TextTable:
        """Take the first line of `text`, number `line` of its file counted from 0, as the names of the columns."""
        first, _, body = text.partition("\n")
        names = row_of(first, delimiter)
        if not header:
            return cls(delimiter, tuple(f"column {number}" for number in range(1, len(names) + 1)), text, line + 1)
        return cls(delimiter, names, body, line + 2)

    def top(self) -> tuple[str, ...]:
        """See `Table`."""
        return row_of(self.body.partition("\n")[0], self.delimiter)

    @cached_property
    def _counts(self) -> list[int]:
        if '"' in self.body:  # a quoted field may hold delimiters and line ends
            return [len(row) for row in csv.reader(io.StringIO(self.body), delimiter=self.delimiter) if row]
        return [line.count(self.delimiter) + 1 for line in self.body.split("\n") if line]

    def check_complete(self, *, path: Path) -> None:
        """Refuse a table whose rows have not as many fields as its header.

        A number cut in half (0.17 to 0.1) still is a number, so nothing of a torn row can be trusted; and where a file
        is torn, what is lost behind the tear is unknown. So it is refused rather than shortened.

        Raises
        ------
        RecordingError
            There is no row; the last row is torn; a row within has too few or too many fields.
        """
        if not self.body.strip():
            raise RecordingError(path, f"a header of {len(self.header)} columns and no row under it")
        wanted, counts = len(self.header), self._counts
        if counts[-1] < wanted and not self.body.endswith("\n"):
            raise RecordingError(
                path, f"cut off in the middle of its last row ({len(counts)}): want {wanted} fields, found {counts[-1]}"
            )
        for row, found in enumerate(counts, start=1):
            if found != wanted:
                raise RecordingError(path, f"damaged: row {row} has {found} fields, the header {wanted}")

    def cells(self, numbers: Collection[int], *, words: Collection[int]) -> dict[int, np.ndarray]:
        """See `Table`."""
        order = sorted(set(numbers))
        # Only a first guess, for speed: what it does not fit comes back as text, and `Columns` reads either sign.
        around = f'[{self.delimiter}"]'
        comma = "," in self.body and re.search(rf"{around}-?\d+,\d+{around}", self.body[:1_000_000]) is not None
        frame = pd.read_csv(
            io.StringIO(self.body),
            sep=self.delimiter,
            decimal="," if comma and self.delimiter != "," else ".",
            header=None,
            names=[f"c{number}" for number in order],
            usecols=order,
            dtype={f"c{number}": "object" for number in words},
            keep_default_na=False,
            na_values=list(MISSING_TEXT),
            low_memory=False,
        )
        return {number: frame[f"c{number}"].to_numpy() for number in order}


def count_words(cells: Sequence[Any]) -> int:
    """How many cells hold a word: no number, neither as such nor written as text, and no mark for "missing"."""
    words = [cell.strip() for cell in cells if isinstance(cell, str)]
    return sum(word not in MISSING_TEXT and _NUMBER.fullmatch(word) is None for word in words)


def row_of(line: str, delimiter: str) -> tuple[str, ...]:
    """The cells of one line of text, the space around them gone."""
    try:
        cells = next(csv.reader(io.StringIO(line), delimiter=delimiter), [])
    except csv.Error:  # what no table has in its first line: a field of more than 131,072 characters
        cells = line.split(delimiter)
    return tuple(cell.strip() for cell in cells)
