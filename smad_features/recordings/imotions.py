"""iMotions exports: gaze of any tracker as one sensor among others, below lines that begin with `#`.

Two generations: text with plain names (`GazeLeftx`, `FixationSeq`), and tables with `#INFO`, `#METADATA` and `#DATA`
above them and the sensor before the name (`ET_GazeLeftx`, `Fixation Index`).
"""

from __future__ import annotations

import numpy as np

from smad_features import schema
from smad_features.recordings.cells import Columns, read_columns
from smad_features.recordings.document import Document
from smad_features.recordings.gaze import add_mean_gaze
from smad_features.recordings.movements import event_index
from smad_features.recordings.recording import Event, Recording, RecordingError, on_clock
from smad_features.recordings.sentinels import clean
from smad_features.recordings.tables import Table

KIND = "iMotions"
LOOKED_FOR = "an iMotions export (columns such as 'Timestamp' and 'ET_GazeLeftx' or 'GazeLeftx')"

_TOP = 200_000  # characters, in which the table begins

# Measured by the tracker: lower-case name without `et_` -> channel.
_MEASURED = {
    **{f"gaze{eye}{axis}": f"Gaze point {eye} {axis.upper()}" for eye in ("left", "right") for axis in "xy"},
    **{f"pupil{eye}": f"Pupil diameter {eye}" for eye in ("left", "right")},
}
_EXTRA = {f"distance{eye}": f"Eye distance {eye} (mm)" for eye in ("left", "right")}
_GRADES = {f"validity{eye}{tail}": f"Validity {eye}" for eye in ("left", "right") for tail in ("", "eye")}
# Made of that by the software.
_DERIVED = {
    "gaze x": "Gaze point X",
    "gazex": "Gaze point X",
    "gaze y": "Gaze point Y",
    "gazey": "Gaze point Y",
    "fixation x": "Fixation point X",
    "fixationx": "Fixation point X",
    "fixation y": "Fixation point Y",
    "fixationy": "Fixation point Y",
}
_FIXATION = ("fixation index", "fixationseq")
_SACCADE = ("saccade index", "saccadeseq")
_DURATIONS = {"Fixation": ("fixation duration", "fixationduration"), "Saccade": ("saccade duration", "saccadeduration")}
_BLINK = "blink detected (binary)"
_EVENTS = ("slideevent", "sourcestimuliname", "stimulusname")
_WORST_VALID = 1  # of grades from 0 (sure) to 4 (not found)


def _bare(name: str) -> str:
    return " ".join(name.split()).lower().removeprefix("et_")


def _known(table: Table) -> int:
    names = {_bare(name) for name in table.header}
    known = {*_MEASURED, *_EXTRA, *_GRADES, *_DERIVED, *_FIXATION, *_SACCADE, *_EVENTS, "timestamp", "eventsource"}
    # Its own way with capitals: a table of anybody's own has GazeLeftX rather, and who knows in what unit its time.
    own = any(name.startswith("ET_Gaze") or name in ("GazeLeftx", "GazeRightx") for name in table.header)
    by_software = names & {"gazex", "gaze x"} and names & {"stimulusname", "sourcestimuliname"}
    return len(names & known) if "timestamp" in names and (own or by_software) else 0


def _top(document: Document) -> int:
    """How many lines stand above the header."""
    lines = (document.text or "")[:_TOP].split("\n")
    start = next((number for number, line in enumerate(lines) if line.startswith(("#DATA", '"#DATA'))), 0)
    return next(
        (start + more for more, line in enumerate(lines[start:]) if line and not line.startswith(("#", '"#'))), 0
    )


def _tables(document: Document) -> tuple[Table, ...]:
    top = _top(document)
    return document.tables_from(top) if top else document.tables


def recognises(document: Document) -> int:
    """How many of iMotions' columns the file has, if it has its clock and gaze."""
    return max(map(_known, _tables(document)), default=0)


def read(document: Document) -> Recording:
    """Read an export of one respondent.

    Rows of other sensors are left out. The clock counts milliseconds. -1 and an empty cell are missing. Which of a
    validity's grades 0 and 1 is the better differs between the trackers behind it: both are valid where the eye has
    gaze or a pupil, and 2 and more never are. The mean gaze point is the software's own, or made of both eyes'; what it
    interpolated is not read. Slides and stimuli are events. With glasses, told by gaze in three dimensions, gaze is on
    the scene camera's picture: in `extra`.

    Raises
    ------
    RecordingError
        The table is torn, has no row of the eye tracker, or text stands where a number is wanted.
    """
    table = max(_tables(document), key=_known)
    places = {_bare(name): number for number, name in reversed(list(enumerate(table.header)))}
    durations = [name for names in _DURATIONS.values() for name in names]
    kinds = (*_MEASURED, *_EXTRA, *_GRADES, *_DERIVED, *_FIXATION, *_SACCADE, *durations, _BLINK, "timestamp")
    words = [places[name] for name in _EVENTS if name in places]
    numbers = {places[name] for name in kinds if name in places}
    every = read_columns(table, {*numbers, *words}, words=words, path=document.path)
    raw = [name for name in _MEASURED if name in places] or [name for name in _DERIVED if name in places]
    is_sample = np.any([~np.isnan(every.numbers(places[name])) for name in raw], axis=0)
    if not is_sample.any():
        raise RecordingError(document.path, f"{len(every)} rows and not one eye sample: gaze and pupils are all empty")
    columns = every.rows(is_sample)

    channels = {name: columns.numbers(places[key]) for key, name in {**_MEASURED, **_DERIVED}.items() if key in places}
    notes = clean(channels)
    extra = {name: _positive(columns.numbers(places[key])) for key, name in _EXTRA.items() if key in places}
    for key, name in _GRADES.items():
        if key in places:
            channels[name] = _validity(columns.numbers(places[key]), channels, eye=name.rpartition(" ")[2])
    if any(name.startswith("gaze3d") for name in places):
        gaze = [name for name in channels if name.startswith(("Gaze point", "Fixation point"))]
        extra |= {f"{name} (scene camera px)": channels.pop(name) for name in gaze}
    notes["values_flagged_invalid"] += clean(channels)["values_flagged_invalid"]
    add_mean_gaze(channels)
    channels |= _movements(columns, places, channels)
    return on_clock(
        columns.numbers(places["timestamp"]) * 1e-3,
        {channel.name: channels[channel.name] for channel in schema.TOBII_PRO_LAB_39 if channel.name in channels},
        path=document.path,
        kind=KIND,
        notes={"rows_of_other_sensors": int(np.sum(~is_sample)), **notes},
        events=_events(every, places),
        extra=extra,
    )


def _positive(values: np.ndarray) -> np.ndarray:
    return np.where(values > 0, values, np.nan)


def _validity(grades: np.ndarray, channels: dict[str, np.ndarray], *, eye: str) -> np.ndarray:
    measured = [column for name, column in channels.items() if f" {eye}" in name]
    seen = np.any(~np.isnan(measured), axis=0) if measured else np.ones(len(grades), dtype=bool)
    valid = (grades >= 0) & (grades <= _WORST_VALID) & seen
    codes = np.where(valid, schema.VALIDITY["Valid"], schema.VALIDITY["Invalid"])
    return np.where(np.isnan(grades), np.nan, codes)


def _movements(columns: Columns, places: dict[str, int], channels: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    def first(names: tuple[str, ...]) -> np.ndarray:
        name = next((name for name in names if name in places), None)
        return np.full(len(columns), np.nan) if name is None else _positive(columns.numbers(places[name]))

    if not places.keys() & {*_FIXATION, *_SACCADE}:
        return {}
    fixation, saccade, blink = first(_FIXATION), first(_SACCADE), first((_BLINK,))
    lost = np.isnan(channels["Gaze point X"]) if "Gaze point X" in channels else np.zeros(len(columns), dtype=bool)
    codes = np.where(lost, schema.EYE_MOVEMENT["EyesNotFound"], schema.EYE_MOVEMENT["Unclassified"])
    number = np.full(len(columns), np.nan)
    duration = np.full(len(columns), np.nan)
    for name, numbers in (("Saccade", saccade), ("Fixation", fixation)):
        there = np.isfinite(numbers)
        codes[there], number[there] = schema.EYE_MOVEMENT[name], numbers[there]
        duration[there] = first(_DURATIONS[name])[there]
    in_blink = blink == 1
    codes[in_blink] = schema.EYE_MOVEMENT["EyesNotFound"]
    number[in_blink] = duration[in_blink] = np.nan
    found = {"Eye movement type": codes, "Eye movement type index": event_index(codes, number)}
    return found | ({"Gaze event duration": duration} if not np.isnan(duration).all() else {})


def _events(columns: Columns, places: dict[str, int]) -> list[Event]:
    time = columns.numbers(places["timestamp"]) * 1e-3
    named = {name: columns.words(places[name]) for name in _EVENTS if name in places}
    stimuli = named.get("sourcestimuliname", named.get("stimulusname"))
    if "slideevent" in named:
        slides = named["slideevent"]
        rows = [row for row in range(len(time)) if slides[row] is not None and np.isfinite(time[row])]
        return [
            Event(str(slides[row]), float(time[row]), str((stimuli[row] if stimuli is not None else None) or ""))
            for row in rows
        ]
    if stimuli is None:
        return []
    changes = enumerate(zip([None, *stimuli], stimuli, strict=False))
    return [
        Event("Stimulus", float(time[row]), str(new))
        for row, (old, new) in changes
        if new is not None and new != old and np.isfinite(time[row])
    ]
