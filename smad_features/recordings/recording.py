"""What every eye-tracker recording becomes, and what all readers share: text, table and clock."""

from __future__ import annotations

import codecs
import csv
import io
from bisect import bisect_left
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

DELIMITERS = ("\t", ";", ",")


class RecordingError(ValueError):
    """A file that is no usable recording. The message names the file and says what was wrong with it."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path.name}: {reason}")
        self.path = path
        self.reason = reason

    def __reduce__(self) -> tuple[type[RecordingError], tuple[Path, str]]:
        """Survive the way back from a worker process, which an exception of two arguments does not by itself."""
        return RecordingError, (self.path, self.reason)


@dataclass(frozen=True)
class Recording:
    """Eye-movement channels over one clock.

    Attributes
    ----------
    time : (N,) float64
        Seconds from the first eye sample, strictly increasing, N >= 1.
    channels
        Name (as in `schema.TOBII_PRO_LAB_39`) -> (N,) float64 in the channel's own unit, NaN where missing. What the
        tracker does not have is absent. Categories hold the codes of `schema.VALIDITY` and `schema.EYE_MOVEMENT`.
    rate
        Samples a second as the clock shows them, gaps aside; NaN for a single sample.
    screen
        Width and height of the display in pixels, or None where the recording does not say.
    notes
        What was counted on the way: rows left out, times repeated or going backward, values dropped.
    """

    time: np.ndarray
    channels: dict[str, np.ndarray]
    rate: float
    screen: tuple[int, int] | None
    notes: dict[str, int | float] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """A recording's text, cut at one delimiter: the names of its columns, and the rows not parsed yet."""

    delimiter: str
    header: tuple[str, ...]
    body: str


def decode(data: bytes, *, path: Path) -> str:
    """The text of a recording: UTF-8 or UTF-16, with or without a byte order mark, else Windows' Western code page.

    Line ends come out as ``\\n``, and blank lines at either end are gone.

    Raises
    ------
    RecordingError
        There is nothing in the file, or it is no text.
    """
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    elif data[1:2] == b"\0" and data[:1].isascii():
        encoding = "utf-16-le"
    elif data[:1] == b"\0":
        encoding = "utf-16-be"
    else:
        encoding = "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        # An export cut by a crash may end in half a character: that is for the check of its last line to say.
        if error.end >= len(data):
            text = data[: error.start].decode(encoding)
        elif encoding == "utf-8-sig" and b"\0" not in data[:4096]:
            text = data.decode("cp1252", errors="replace")
        else:
            raise RecordingError(path, f"no text: it begins with the bytes {data[:8]!r}") from None
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = text.lstrip("\n")
    if not text.strip():
        raise RecordingError(path, f"an empty file ({len(data)} bytes)")
    return text


def split_table(text: str, *, path: Path) -> list[Table]:
    """The table that `text` is under each delimiter: which of them makes sense is for a reader to say."""
    first, _, body = text.partition("\n")
    return [
        Table(delimiter, tuple(name.strip() for name in next(csv.reader([first], delimiter=delimiter))), body)
        for delimiter in DELIMITERS
    ]


def check_complete(table: Table, *, path: Path) -> None:
    """Refuse a table whose rows have not as many fields as its header.

    A number cut in half (0.17 to 0.1) still is a number, so nothing of a torn row can be trusted; and where a file is
    torn, what is lost behind the tear is unknown. So it is refused rather than shortened.

    Raises
    ------
    RecordingError
        There is no row; the last row is torn; a row within has too few or too many fields.
    """
    body = table.body
    if not body.strip():
        raise RecordingError(path, f"a header of {len(table.header)} columns and no row under it")
    wanted = len(table.header)
    if '"' in body:  # a quoted field may hold delimiters and line ends
        counts = [len(row) for row in csv.reader(io.StringIO(body), delimiter=table.delimiter) if row]
    else:
        counts = [line.count(table.delimiter) + 1 for line in body.split("\n") if line]
    if counts[-1] < wanted and not body.endswith("\n"):
        raise RecordingError(
            path, f"cut off in the middle of its last row ({len(counts)}): want {wanted} fields, found {counts[-1]}"
        )
    for row, found in enumerate(counts, start=1):
        if found != wanted:
            raise RecordingError(path, f"damaged: row {row} has {found} fields, the header {wanted}")


def increasing(ticks: np.ndarray) -> tuple[np.ndarray, dict[str, int | float]]:
    """Which samples to keep for a strictly increasing clock, and how many were not.

    Of samples that follow each other at the same time the first is kept. Of the rest, the fewest are dropped that
    leave the clock strictly increasing (all but a longest increasing run), so that a single wild time, far ahead, does
    not take everything after it along.

    Parameters
    ----------
    ticks : (N,) float64
        Times in file order, in any unit.

    Returns
    -------
    keep : (M,) int64
        Rows to keep, in order.
    notes
        ``duplicate_timestamps`` and ``backward_timestamps``: how many samples each rule dropped.
    """
    keep = np.flatnonzero(np.diff(ticks, prepend=np.nan) != 0)
    duplicates = len(ticks) - len(keep)
    backward = 0
    if np.any(np.diff(ticks[keep]) < 0):
        run = _longest_increasing(ticks[keep].tolist())
        backward = len(keep) - len(run)
        keep = keep[run]
    return keep, {"duplicate_timestamps": duplicates, "backward_timestamps": backward}


def _longest_increasing(values: list[float]) -> np.ndarray:
    """Places of a longest strictly increasing subsequence, by patience sorting (Fredman 1975)."""
    tops: list[float] = []  # the smallest last value of an increasing run of each length
    places: list[int] = []
    before = [-1] * len(values)
    for place, value in enumerate(values):
        length = bisect_left(tops, value)
        if length == len(tops):
            tops.append(value)
            places.append(place)
        else:
            tops[length], places[length] = value, place
        before[place] = places[length - 1] if length else -1
    run = [places[-1]]
    while before[run[-1]] >= 0:
        run.append(before[run[-1]])
    return np.array(run[::-1])


def sampling_rate(time: np.ndarray) -> float:
    """Samples a second: one over the mean of the steps that are no gaps (at most 1.5 medians).

    The median alone is off where the clock is rounded: 120 Hz in whole milliseconds has steps of 8, 8 and 9.
    """
    steps = np.diff(time)
    if not len(steps):
        return float("nan")
    return float(1 / np.mean(steps[steps <= 1.5 * np.median(steps)]))
