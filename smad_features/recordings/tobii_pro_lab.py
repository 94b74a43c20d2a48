"""Tobii Pro Lab exports: text tables whose header, clock unit and number format changed over the years.

Three kinds of header are known: without units (`Gaze point left X (DACSmm)`), with units (`Gaze point left X
[DACS mm]`), and the late one that says `Eye movement event duration [ms]` for `Gaze event duration [ms]`.
"""

from __future__ import annotations

import io
import re
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from smad_features import schema
from smad_features.recordings.recording import (
    Recording,
    RecordingError,
    Table,
    check_complete,
    increasing,
    sampling_rate,
)

LOOKED_FOR = "a Tobii Pro Lab export (columns such as 'Recording timestamp', 'Gaze point X', 'Pupil diameter left')"

# A clock whose median step is longer than this counts microseconds, else milliseconds. Trackers take between 10 and
# 2,000 samples a second: 0.5 to 100 ms, or 500 to 100,000 us. The header's own word for the unit is not trusted.
LONGEST_STEP_MS = 200.0
PUPIL_MM = (1.5, 9.0)  # no human pupil is smaller or larger
NO_VALUE = 2147483647.0  # what some exports write for "missing"
MISSING_TEXT = ["", "-", "NA", "NaN", "nan"]

_CLOCKS = ("eyetracker timestamp", "recording timestamp")  # the device's own first: it is finer, and not rounded
_SCREEN = ("recording resolution width", "recording resolution height")
_WHOSE = ("participant name", "recording name")
_WORDS = {"sensor", *_WHOSE}
_RENAMED = {"eye movement event duration": "gaze event duration"}
# The mapped columns of a glasses project have words of their own for the same two states.
_MOVEMENT = schema.EYE_MOVEMENT | {
    "EyesNotFoundMovement": schema.EYE_MOVEMENT["EyesNotFound"],
    "UnknownEyeMovement": schema.EYE_MOVEMENT["Unclassified"],
}
_CODES = {"Validity left": schema.VALIDITY, "Validity right": schema.VALIDITY, "Eye movement type": _MOVEMENT}
_NAMES = {channel.name: channel for channel in schema.TOBII_PRO_LAB_39}


@lru_cache(maxsize=4096)
def _split(name: str) -> tuple[str, str]:
    """A header's words and its unit or frame, spelling aside: ('gaze point x', 'dacspx')."""
    match = re.fullmatch(r"(.*?)\s*(?:[\[(]([^\])]*)[\])])?", " ".join(name.split()).lower())
    stem, unit = match.groups() if match else (name.lower(), None)
    return _RENAMED.get(stem, stem), (unit or "").replace(" ", "")


def _spellings(channel: schema.Channel) -> set[tuple[str, str]]:
    stem, frame = _split(channel.name)
    if frame:
        return {(stem, frame)}
    units = {"px": {"px", "dacspx"}, "mm": {"mm"}, "ms": {"ms"}, "1": {"dacsnorm"}}.get(channel.unit, set())
    return {(stem, unit) for unit in {"", *units}}


_CHANNEL_OF = {spelling: name for name, channel in _NAMES.items() for spelling in _spellings(channel)}


def _columns(table: Table, *, path: Path | None = None) -> dict[str, int]:
    """What we read of a table -> the number of its column. Channels go by their names, the rest by lower-case words."""
    others = {*_CLOCKS, *_SCREEN, *_WORDS}
    columns: dict[str, int] = {}
    for number, name in enumerate(table.header):
        words, unit = _split(name)
        key = _CHANNEL_OF.get((words, unit), words if words in others else "")
        if key in columns and path is not None:
            first = table.header[columns[key]]
            raise RecordingError(
                path, f"columns {first!r} and {name!r} are both {_NAMES[key].name if key in _NAMES else key}"
            )
        if key:
            columns.setdefault(key, number)
    return columns


def known_columns(table: Table) -> int:
    """How many of a Pro Lab export's eye channels the table has: none = it is no such export."""
    return sum(key in _NAMES for key in _columns(table))


def read(table: Table, *, path: Path) -> Recording:
    """Read a Pro Lab export.

    Rows of the mouse and of events are left out, so are rows without a time. The clock is the eye tracker's own where
    the export has it for nearly all samples, else the recording's. `increasing` says what becomes of times that repeat
    or go backward. What an eye's validity flag calls invalid becomes missing, in the mean of both eyes where both are
    invalid; so do the marks for "no value" (2147483647; points at exactly 0, 0 or -1, -1; directions of no length) and
    pupils outside 1.5 to 9 mm. All is counted in the notes.

    Raises
    ------
    RecordingError
        The table is torn, has no row of the eye tracker or no clock, holds several recordings, or text stands where
        a number or a known word is wanted.
    """
    columns = _columns(table, path=path)
    if not any(clock in columns for clock in _CLOCKS):
        raise RecordingError(
            path, "no time: want a column 'Eyetracker timestamp' or 'Recording timestamp', found neither"
        )
    check_complete(table, path=path)
    cells = _parse(table, columns)
    rows = _eye_rows(cells, path=path)
    notes: dict[str, int | float] = {"rows_of_other_sensors": int(np.sum(~rows))}
    cells = {key: column[rows] for key, column in cells.items()}
    _check_one_recording(cells, path=path)
    lines = np.flatnonzero(rows) + 2  # line 1 is the header
    values = {
        key: _codes(cells[key], _CODES[key], table.header[number], lines=lines, path=path)
        if key in _CODES
        else _numbers(cells[key], table.header[number], lines=lines, path=path)
        for key, number in columns.items()
        if key not in _WORDS
    }

    ticks = _clock(values)
    timed = np.flatnonzero(np.isfinite(ticks))
    notes["rows_without_time"] = len(ticks) - len(timed)
    if not len(timed):
        raise RecordingError(path, f"{len(ticks)} eye samples, and none with a time")
    keep, dropped = increasing(ticks[timed])
    keep = timed[keep]
    time = (ticks[keep] - ticks[keep[0]]) * _seconds_a_tick(ticks[keep])
    channels = {name: values[name][keep] for name in _NAMES if name in values}
    return Recording(time, channels, sampling_rate(time), _screen(values), {**notes, **dropped, **_clean(channels)})


def _parse(table: Table, columns: dict[str, int]) -> dict[str, np.ndarray]:
    """The columns we read: float or integer where all of one is a number, else text, NaN where a cell is empty."""
    order = sorted(columns.items(), key=lambda item: item[1])
    # Only a first guess, for speed: what it does not fit comes back as text, and `_numbers` reads either sign.
    around = f'[{table.delimiter}"]'
    comma = "," in table.body and re.search(rf"{around}-?\d+,\d+{around}", table.body[:1_000_000]) is not None
    frame = pd.read_csv(
        io.StringIO(table.body),
        sep=table.delimiter,
        decimal="," if comma and table.delimiter != "," else ".",
        header=None,
        names=[key for key, _ in order],
        usecols=[number for _, number in order],
        dtype={key: "object" for key in columns if key in _WORDS or key in _CODES},
        keep_default_na=False,
        na_values=MISSING_TEXT,
        low_memory=False,
    )
    return {key: column.to_numpy() for key, column in frame.items() if isinstance(key, str)}


def _eye_rows(cells: dict[str, np.ndarray], *, path: Path) -> np.ndarray:
    """Which rows are samples of the eye tracker: (N,) bool.

    Where the export does not say, they are those with a device time, a validity or any value of the sensor block. Eye
    movement columns do not count: they are repeated in the mouse's rows.
    """
    which, sensors = pd.factorize(cells.get("sensor", np.array([], dtype=object)))
    if len(sensors):
        eye_trackers = [place for place, name in enumerate(sensors) if name.replace(" ", "").lower() == "eyetracker"]
        rows = np.isin(which, eye_trackers)
        wanted = f"want rows of the sensor 'Eye Tracker', found {', '.join(sorted(map(repr, sensors)))}"
    else:
        block = [name for name in _NAMES if not name.startswith(("Eye movement", "Gaze event", "Fixation"))]
        rows = np.any([pd.notna(cells[key]) for key in (_CLOCKS[0], *block) if key in cells], axis=0)
        wanted = "none has a device time, a validity or any value of the tracker"
    if not rows.any():
        raise RecordingError(path, f"{rows.size} rows and not one eye sample: {wanted}")
    return rows


def _check_one_recording(cells: dict[str, np.ndarray], *, path: Path) -> None:
    for key in _WHOSE:
        names = pd.factorize(cells[key])[1] if key in cells else ()
        if len(names) > 1:
            shown = ", ".join(repr(name) for name in names[:3])
            raise RecordingError(path, f"{len(names)} recordings in one file ({key}: {shown}): export each by itself")


def _codes(column: np.ndarray, codes: dict[str, float], heading: str, *, lines: np.ndarray, path: Path) -> np.ndarray:
    which, kinds = pd.factorize(column)
    for place, kind in enumerate(kinds):
        if kind not in codes:
            line = lines[np.flatnonzero(which == place)[0]]
            raise RecordingError(
                path, f"column {heading!r}, line {line}: want one of {', '.join(codes)}, found {str(kind)!r}"
            )
    # An empty cell has the number -1: it takes the last.
    return np.array([codes[kind] for kind in kinds] + [np.nan])[which]


def _numbers(column: np.ndarray, heading: str, *, lines: np.ndarray, path: Path) -> np.ndarray:
    if column.dtype.kind in "fiu":
        return column.astype(np.float64)
    text = pd.Series(column).astype("str").str.strip()
    values = pd.to_numeric(text.str.replace(",", ".", n=1), errors="coerce").to_numpy(dtype=np.float64, copy=True)
    strange = np.flatnonzero(np.isnan(values) & pd.notna(column) & ~text.isin(MISSING_TEXT).to_numpy())
    if len(strange):
        line, found = lines[strange[0]], str(column[strange[0]])
        raise RecordingError(path, f"column {heading!r}, line {line}: want a number, found {found!r}")
    return values


def _clock(values: dict[str, np.ndarray]) -> np.ndarray:
    """The clock to go by: the device's, unless it has a tenth fewer different times than the recording's.

    It may be empty, or rounded to nothing by a spreadsheet that saved 6984501304 as 6.98E+09.
    """
    clocks = [values[key] for key in _CLOCKS if key in values]
    times = [len(np.unique(clock[np.isfinite(clock)])) for clock in clocks]
    return clocks[0] if times[0] >= 0.9 * times[-1] else clocks[-1]


def _seconds_a_tick(ticks: np.ndarray) -> float:
    return 1e-6 if len(ticks) > 1 and np.median(np.diff(ticks)) > LONGEST_STEP_MS else 1e-3


def _screen(values: dict[str, np.ndarray]) -> tuple[int, int] | None:
    if not all(key in values for key in _SCREEN):
        return None
    width, height = (values[key] for key in _SCREEN)
    said = np.flatnonzero((width > 0) & (height > 0))
    return (int(width[said[0]]), int(height[said[0]])) if len(said) else None


def _clean(channels: dict[str, np.ndarray]) -> dict[str, int | float]:
    """Make missing, in place, what is no measurement; say how many values each rule took."""
    invalid = {eye: channels.get(f"Validity {eye}", np.array(np.nan)) == 0 for eye in ("left", "right")}
    notes: dict[str, int | float] = {"values_flagged_invalid": 0, "values_marked_missing": 0, "impossible_pupils": 0}

    def drop(name: str, where: np.ndarray, note: str) -> None:
        if where.any():
            where = where & ~np.isnan(channels[name])
            channels[name][where] = np.nan
            notes[note] += int(where.sum())

    axes: dict[str, list[str]] = {}  # those of a point or a direction belong together
    for name, values in channels.items():
        if name in _CODES:
            continue
        eye = next((eye for eye in invalid if f" {eye}" in name), None)
        if eye is not None or name.startswith("Gaze point"):
            drop(name, invalid[eye] if eye else invalid["left"] & invalid["right"], "values_flagged_invalid")
        drop(name, np.isinf(values) | (values == NO_VALUE), "values_marked_missing")
        if name.startswith("Pupil"):
            drop(name, values <= 0, "values_marked_missing")
            drop(name, (values < PUPIL_MM[0]) | (values > PUPIL_MM[1]), "impossible_pupils")
        elif _NAMES[name].kind != "counter":
            axes.setdefault(re.sub(r" [XYZ]\b", "", name), []).append(name)
    for names in axes.values():
        if len(names) > 1:
            unset = np.all([channels[name] == 0 for name in names], axis=0)
            if len(names) == 2:
                unset |= np.all([channels[name] == -1 for name in names], axis=0)
            for name in names:
                drop(name, unset, "values_marked_missing")
    return notes
