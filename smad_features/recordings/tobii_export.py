"""What Tobii's own programs export, once its columns have one set of names: eye rows, clock, screen, events.

Pro Lab and Studio write one row a sample, with rows of the mouse and of events between them, and two clocks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np
import pandas as pd

from smad_features import schema
from smad_features.recordings.cells import Columns, read_columns
from smad_features.recordings.recording import Event, Recording, RecordingError, on_clock, seconds_a_tick
from smad_features.recordings.sentinels import clean
from smad_features.recordings.tables import Table

CLOCKS = ("eyetracker timestamp", "recording timestamp")  # the device's own first: it is finer, and not rounded
SCREEN = ("recording resolution width", "recording resolution height")
# Place and size of what is shown, in pixels of the display and as scaled for it: the left edge in relation to that of
# the screen, the top edge likewise (Tobii's descriptions of Pro Lab's columns "Presented Media position X" and so on).
AREA = ("media x", "media y", "media width", "media height")
WHOSE = ("participant name", "recording name")
EVENTS = {"event": "event value"}
WORDS = frozenset({"sensor", "recording resolution", *WHOSE})

# The mapped columns of a glasses project have words of their own for the same two states.
MOVEMENT = schema.EYE_MOVEMENT | {
    "EyesNotFoundMovement": schema.EYE_MOVEMENT["EyesNotFound"],
    "UnknownEyeMovement": schema.EYE_MOVEMENT["Unclassified"],
}
# Studio and the first Pro Lab grade an eye from 0 (sure) to 4 (not found). Tobii: "we recommend removing all data
# points with a validity code of 2 or higher" (its forum, "Tobii Validity Codes"; the Studio manual says the same).
GRADES = {str(grade): schema.VALIDITY["Valid" if grade < 2 else "Invalid"] for grade in range(5)}
CODES = {
    "Validity left": schema.VALIDITY | GRADES,
    "Validity right": schema.VALIDITY | GRADES,
    "Eye movement type": MOVEMENT,
}
_UNITS = ("ms", "us")
_NAMES = {channel.name for channel in schema.TOBII_PRO_LAB_39}


def read_export(
    table: Table,
    places: dict[str, int],
    *,
    path: Path,
    kind: str,
    events: dict[str, str] = EVENTS,
    derive: Callable[[dict[str, np.ndarray]], None] = lambda values: None,
    extra: Collection[str] = (),
) -> Recording:
    """Read a table whose columns have names.

    Rows of the mouse and of events are left out, so are rows without a time; what the events were is kept. The clock
    is the eye tracker's own where the export has it for nearly all samples, else the recording's. `increasing` says
    what becomes of times that repeat or go backward, `clean` what becomes missing. All is counted in the notes.

    Parameters
    ----------
    places
        Name -> the number of its column: channels as in `schema.TOBII_PRO_LAB_39`, and the lower-case names above.
    events
        Name of a column that names events -> name of the column of their values; "" where the column's name is the
        event's and its cells are the values.
    derive
        Adds channels, in place, to what was read, before it is cleaned.
    extra
        Names of `places` that are numbers of the tracker and no channels: for `Recording.extra`.

    Raises
    ------
    RecordingError
        The table is torn, has no row of the eye tracker or no clock, holds several recordings, or text stands where
        a number or a known word is wanted.
    """
    if not any(clock in places for clock in CLOCKS):
        raise RecordingError(
            path, "no time: want a column 'Eyetracker timestamp' or 'Recording timestamp', found neither"
        )
    words = WORDS | CODES.keys() | events.keys() | set(events.values())
    every = read_columns(
        table, places.values(), words=[number for key, number in places.items() if key in words], path=path
    )
    rows = _eye_rows(every, places, extra)
    eyes = every.rows(rows)
    _check_one_recording(eyes, places)
    values = {
        key: eyes.codes(number, CODES[key]) if key in CODES else eyes.numbers(number)
        for key, number in places.items()
        if key not in words - CODES.keys()
    }
    derive(values)
    clock = _clock(values)
    time = values[clock] * seconds_a_tick(values[clock], among=_UNITS)
    recording = on_clock(
        time,
        {channel.name: values[channel.name] for channel in schema.TOBII_PRO_LAB_39 if channel.name in values},
        path=path,
        kind=kind,
        notes={"rows_of_other_sensors": int(np.sum(~rows))},
        screen=_screen(values, eyes, places),
        events=_events(every, places, events, rows=rows, time=time),
        extra={name: values[name] for name in extra},
        stimulus_area=_area(values),
    )
    recording.notes.update(clean(recording.channels))
    return recording


def _eye_rows(columns: Columns, places: dict[str, int], extra: Collection[str]) -> np.ndarray:
    """Which rows are samples of the eye tracker: (N,) bool.

    Where the export does not say, they are those with a device time, a validity or any value of the sensor block. Eye
    movement columns do not count: they are repeated in the mouse's rows.
    """
    cells = {key: columns.cells[number] for key, number in places.items()}
    which, sensors = pd.factorize(cells.get("sensor", np.array([], dtype=object)))
    if len(sensors):
        eye_trackers = [place for place, name in enumerate(sensors) if name.replace(" ", "").lower() == "eyetracker"]
        rows = np.isin(which, eye_trackers)
        found = ", ".join(sorted(map(repr, sensors))[:5])
        wanted = f"want rows of the sensor 'Eye Tracker', found {found}"
    else:
        block = [
            name
            for name in cells
            if name in extra or (name in _NAMES and not name.startswith(("Eye mov", "Gaze event", "Fixation")))
        ]
        rows = np.any([pd.notna(cells[key]) for key in (CLOCKS[0], *block) if key in cells], axis=0)
        wanted = "none has a device time, a validity or any value of the tracker"
    if not rows.any():
        raise RecordingError(columns.path, f"{rows.size} rows and not one eye sample: {wanted}")
    return rows


def _check_one_recording(columns: Columns, places: dict[str, int]) -> None:
    for key in WHOSE:
        names = pd.factorize(columns.cells[places[key]])[1] if key in places else ()
        if len(names) > 1:
            shown = ", ".join(repr(name) for name in names[:3])
            raise RecordingError(
                columns.path, f"{len(names)} recordings in one file ({key}: {shown}): export each by itself"
            )


def _clock(values: dict[str, np.ndarray]) -> str:
    """The clock to go by: the device's, unless it has a tenth fewer different times than the recording's.

    It may be empty, or rounded to nothing by a spreadsheet that saved 6984501304 as 6.98E+09.
    """
    clocks = [key for key in CLOCKS if key in values]
    times = [len(np.unique(values[key][np.isfinite(values[key])])) for key in clocks]
    return clocks[0] if times[0] >= 0.9 * times[-1] else clocks[-1]


def _screen(values: dict[str, np.ndarray], eyes: Columns, places: dict[str, int]) -> tuple[int, int] | None:
    if all(key in values for key in SCREEN):
        width, height = (values[key] for key in SCREEN)
        said = np.flatnonzero((width > 0) & (height > 0))
        return (int(width[said[0]]), int(height[said[0]])) if len(said) else None
    if "recording resolution" in places:  # Studio: "1280 x 1024"
        for word in pd.factorize(eyes.cells[places["recording resolution"]])[1]:
            if match := re.fullmatch(r"(\d+)\s*x\s*(\d+)", word.strip()):
                return int(match[1]), int(match[2])
    return None


def _area(values: dict[str, np.ndarray]) -> np.ndarray | None:
    if not values.keys() >= set(AREA):
        return None
    area = np.stack([values[key] for key in AREA], axis=1)
    shown = np.isfinite(area).all(axis=1, keepdims=True) & (area[:, 2:] > 0).all(axis=1, keepdims=True)
    return np.where(shown, area, np.nan) if shown.any() else None


def _events(
    every: Columns, places: dict[str, int], names: dict[str, str], *, rows: np.ndarray, time: np.ndarray
) -> list[Event]:
    """What the program noted, on the clock of the eye samples' `time` in seconds.

    Rows of events have the recording's time alone: eye samples around them, which have both, lead from one clock to the
    other.
    """
    if CLOCKS[1] not in places:
        return []
    found: list[tuple[int, str, str]] = []
    for key, value_key in names.items():
        if key not in places:
            continue
        cells = every.cells[places[key]]
        values = every.cells[places[value_key]] if value_key in places else None
        for row in np.flatnonzero(pd.notna(cells)):
            value = "" if values is None or pd.isna(values[row]) else str(values[row])
            found.append((int(row), str(cells[row]), value) if value_key else (int(row), key, str(cells[row])))
    if not found:
        return []
    stamps = every.numbers(places[CLOCKS[1]])
    at_samples = stamps[rows]
    stamps = stamps * seconds_a_tick(at_samples, among=_UNITS)
    at_samples = stamps[rows]
    both = np.flatnonzero(np.isfinite(at_samples) & np.isfinite(time))
    both = both[np.argsort(at_samples[both], kind="stable")]
    if not len(both):
        return []
    ahead = time[both] - at_samples[both]  # of the recording's clock, s
    return [
        Event(name, float(stamps[row] + np.interp(stamps[row], at_samples[both], ahead)), value)
        for row, name, value in found
        if np.isfinite(stamps[row])
    ]
