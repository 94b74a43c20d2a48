"""Pupil Labs exports: gaze and surface gaze of Core, Neon and Invisible, and the eye states of Neon.

The columns are those of docs.pupil-labs.com (Pupil Player; Neon's Recording Format and Marker Mapper). A recording is
one file here: the gaze.csv and 3d_eye_states.csv of a folder have the same time stamps, so who wants both joins them on
`timestamp [ns]` beforehand, and the joined table is read whole.
"""

from __future__ import annotations

import numpy as np

from smad_features import schema
from smad_features.recordings.cells import Columns, read_columns
from smad_features.recordings.document import Document
from smad_features.recordings.movements import event_index
from smad_features.recordings.recording import Recording, RecordingError, on_clock
from smad_features.recordings.sentinels import clean
from smad_features.recordings.tables import Table

KIND = "Pupil Labs"
LOOKED_FOR = (
    "a Pupil Labs export (columns such as 'gaze_timestamp' and 'norm_pos_x', or 'timestamp [ns]' and 'gaze x [px]')"
)

# Docs, Core, Terminology: useful data has a confidence of more than about 0.6.
CONFIDENT = 0.6

# Column -> the name of the values, and whether it is a channel (else it is extra). A surface is taken to be the screen.
_CORE = {
    "x_norm": ("Gaze point X", True),
    "y_norm": ("Gaze point Y", True),
    "norm_pos_x": ("Gaze X (world camera, fraction)", False),
    "norm_pos_y": ("Gaze Y (world camera, fraction)", False),
}
_NEON = {
    "gaze position on surface x [normalized]": ("Gaze point X", True),
    "gaze position on surface y [normalized]": ("Gaze point Y", True),
    "gaze x [px]": ("Gaze X (scene camera px)", False),
    "gaze y [px]": ("Gaze Y (scene camera px)", False),
    "pupil diameter left [mm]": ("Pupil diameter left", True),
    "pupil diameter right [mm]": ("Pupil diameter right", True),
    "eyelid aperture left [mm]": ("Eyelid aperture left (mm)", False),
    "eyelid aperture right [mm]": ("Eyelid aperture right (mm)", False),
}
_CORE_CLOCKS = ("gaze_timestamp", "timestamp")  # the second is that of exports before 1.9
_NEON_CLOCK = "timestamp [ns]"
_UPWARD = ("y_norm", "norm_pos_y")  # these count from the bottom
_WORN = {"1.0": 1.0, "1": 1.0, "True": 1.0, "0.0": 0.0, "0": 0.0, "False": 0.0}


def _names(table: Table) -> list[str]:
    return [" ".join(name.split()).lower() for name in table.header]


def _known(table: Table) -> int:
    names = set(_names(table))
    if _NEON_CLOCK in names:
        return len(names & {*_NEON, "worn", "fixation id", "blink id"}) if names & _NEON.keys() else 0
    # A pupil's place in the picture of its own camera has the same names; it comes with a diameter.
    is_core = names & {*_CORE_CLOCKS} and names & {"confidence", "x_norm"} and "diameter" not in names
    marks = {*_CORE, "confidence", "base_data", "on_surf", "on_srf"}
    return len(names & marks) if is_core and names & _CORE.keys() else 0


def recognises(document: Document) -> int:
    """How many columns of such an export the file has, if it has their clock and gaze or pupils."""
    return max(map(_known, document.tables), default=0)


def read(document: Document) -> Recording:
    """Read one file of an export.

    Gaze on a surface becomes gaze on the screen, in fractions of it with y down (`Recording.normalized`): also where it
    lies beside it. Gaze on the picture of the glasses' own camera is no gaze on a screen and is in `extra`.

    Core: a sample of a confidence below 0.6 is missing. Neon and Invisible: a sample is missing while the glasses are
    not worn, or in a blink. It is in a fixation or a blink, EyesNotFound, where it has the number of one; of others
    nothing is known. Whole nanoseconds stay whole until the first is taken off.

    Raises
    ------
    RecordingError
        The table is torn, holds several recordings, or text stands where a number is wanted.
    """
    table = max(document.tables, key=_known)
    places = {name: number for number, name in reversed(list(enumerate(_names(table))))}
    neon = _NEON_CLOCK in places
    kinds = _NEON if neon else _CORE
    clock = places[_NEON_CLOCK] if neon else next(places[name] for name in _CORE_CLOCKS if name in places)
    wanted = [*kinds, "confidence", "worn", "fixation id", "blink id"]
    words = [places[name] for name in ("recording id", "worn") if name in places]
    columns = read_columns(
        table, {clock, *words, *(places[name] for name in wanted if name in places)}, words=words, path=document.path
    )
    if "recording id" in places:
        _check_one_recording(columns, places["recording id"])

    values: dict[str, np.ndarray] = {}
    for heading, (name, _) in kinds.items():
        if heading in places:
            column = columns.numbers(places[heading])
            values[name] = 1 - column if heading in _UPWARD else column
    unsure = _unsure(columns, places)
    flagged = 0
    for column in values.values():
        where = unsure & ~np.isnan(column)
        column[where] = np.nan
        flagged += int(where.sum())
    channels = {name: values[name] for name, is_channel in kinds.values() if is_channel and name in values}
    if "fixation id" in places or "blink id" in places:
        channels |= _movements(columns, places)
    recording = on_clock(
        columns.ticks(clock) * (1e-9 if neon else 1.0),
        channels,
        path=document.path,
        kind=f"{KIND} {'Neon or Invisible' if neon else 'Core'}",
        notes={},
        normalized=[name for name in channels if name.startswith("Gaze point")],
        extra={name: values[name] for name, is_channel in kinds.values() if not is_channel and name in values},
    )
    # A corner of a surface is a place: nothing here marks what is missing by a number.
    marked = clean({name: column for name, column in recording.channels.items() if not name.startswith("Gaze point")})
    recording.notes.update({**marked, "values_flagged_invalid": flagged})
    return recording


def _check_one_recording(columns: Columns, number: int) -> None:
    names = sorted({str(name) for name in columns.words(number) if name is not None})
    if len(names) > 1:
        shown = ", ".join(map(repr, names[:3]))
        raise RecordingError(columns.path, f"{len(names)} recordings in one file (recording id: {shown}): split it")


def _unsure(columns: Columns, places: dict[str, int]) -> np.ndarray:
    """(N,) bool: the samples that say of themselves that they are none."""
    unsure = np.zeros(len(columns), dtype=bool)
    if "confidence" in places:
        unsure |= ~(columns.numbers(places["confidence"]) >= CONFIDENT)
    if "worn" in places:
        unsure |= columns.codes(places["worn"], _WORN) == 0
    if "blink id" in places:
        unsure |= np.isfinite(columns.numbers(places["blink id"]))
    return unsure


def _movements(columns: Columns, places: dict[str, int]) -> dict[str, np.ndarray]:
    nothing = np.full(len(columns), np.nan)
    fixation, blink = (
        columns.numbers(places[name]) if name in places else nothing for name in ("fixation id", "blink id")
    )
    codes = np.full(len(columns), schema.EYE_MOVEMENT["Unclassified"])
    codes[np.isfinite(fixation)] = schema.EYE_MOVEMENT["Fixation"]
    codes[np.isfinite(blink)] = schema.EYE_MOVEMENT["EyesNotFound"]
    index = event_index(codes, np.where(np.isfinite(blink), blink, fixation))
    return {"Eye movement type": codes, "Eye movement type index": index}
