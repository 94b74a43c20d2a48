"""Tobii Studio 3 exports: `GazePointX (ADCSpx)`, `PupilLeft`, one row a sample, mouse, key or event."""

from __future__ import annotations

import numpy as np

from smad_features.recordings.document import Document
from smad_features.recordings.recording import Recording, RecordingError
from smad_features.recordings.tables import Table
from smad_features.recordings.tobii_export import read_export

KIND = "Tobii Studio"
LOOKED_FOR = "a Tobii Studio export (columns such as 'GazePointX (ADCSpx)', 'PupilLeft')"

# ADCS: active display, origin at its upper left corner (Tobii, "Coordinate systems"). MCS: the medium, in its pixels.
_EYES = ("Left", "Right")
_CHANNELS = {
    **{f"GazePoint{axis} (ADCSpx)": f"Gaze point {axis}" for axis in "XY"},
    **{f"GazePoint{eye}{axis} (ADCSpx)": f"Gaze point {eye.lower()} {axis}" for eye in _EYES for axis in "XY"},
    **{f"GazePoint{eye}{axis} (ADCSmm)": f"Gaze point {eye.lower()} {axis} (DACSmm)" for eye in _EYES for axis in "XY"},
    **{f"EyePos{eye}{axis} (ADCSmm)": f"Eye position {eye.lower()} {axis} (DACSmm)" for eye in _EYES for axis in "XYZ"},
    **{f"Pupil{eye}": f"Pupil diameter {eye.lower()}" for eye in _EYES},
    **{f"Validity{eye}": f"Validity {eye.lower()}" for eye in _EYES},
    "GazeEventType": "Eye movement type",
    "GazeEventDuration": "Gaze event duration",
}
_MEDIA = {  # in pixels of the medium, of the size that it is shown in
    **{f"GazePoint{axis} (MCSpx)": f"Gaze point {axis} (MCSnorm)" for axis in "XY"},
    **{f"FixationPoint{axis} (MCSpx)": f"Fixation point {axis} (MCSnorm)" for axis in "XY"},
}
_OTHERS = {
    "EyeTrackerTimestamp": "eyetracker timestamp",
    "RecordingTimestamp": "recording timestamp",
    "RecordingResolution": "recording resolution",
    "ParticipantName": "participant name",
    "RecordingName": "recording name",
    "MediaWidth": "media width",
    "MediaHeight": "media height",
    "MediaPosX (ADCSpx)": "media x",
    "MediaPosY (ADCSpx)": "media y",
    "FixationIndex": "fixation index",
    "SaccadeIndex": "saccade index",
}
_EVENTS = {
    "StudioEvent": "StudioEventData",
    "ExternalEvent": "ExternalEventValue",
    "KeyPressEvent": "",
    "MouseEvent": "",
}


def _bare(name: str) -> str:
    return "".join(name.split()).lower()


_KEYS = {_bare(name): key for name, key in (_CHANNELS | _MEDIA | _OTHERS).items()}
_KEYS |= {_bare(name): name for pair in _EVENTS.items() for name in pair if name}
_TELLING = {_bare(name) for name in _CHANNELS | _MEDIA}


def _known(table: Table) -> int:
    return sum(_bare(name) in _TELLING for name in table.header)


def recognises(document: Document) -> int:
    """How many of a Studio export's eye channels the file has."""
    return max(map(_known, document.tables), default=0)


def read(document: Document) -> Recording:
    """Read a Studio export: see `read_export`.

    A pupil of -1 is one that was not measured in this sample (at 120 Hz six rows of ten): missing, no error. Gaze and
    fixations in pixels of the medium become fractions of it, and fixations pixels of the display, where the file has
    the medium's size and place.

    Raises
    ------
    RecordingError
        A channel stands there twice; or as in `read_export`.
    """
    table = max(document.tables, key=_known)
    places: dict[str, int] = {}
    for number, name in enumerate(table.header):
        key = _KEYS.get(_bare(name))
        if key in places:
            raise RecordingError(document.path, f"columns {table.header[places[key]]!r} and {name!r} are both {key}")
        if key:
            places[key] = number
    return read_export(table, places, path=document.path, kind=KIND, events=_EVENTS, derive=_derive)


def _derive(values: dict[str, np.ndarray]) -> None:
    for axis, side in (("X", "width"), ("Y", "height")):
        fixation = values.get(f"Fixation point {axis} (MCSnorm)")
        corner = values.get(f"media {axis.lower()}")
        if fixation is not None and corner is not None:
            values[f"Fixation point {axis}"] = fixation + corner
        size = values.get(f"media {side}")
        for point in ("Gaze point", "Fixation point"):
            pixels = values.pop(f"{point} {axis} (MCSnorm)", None)
            if pixels is not None and size is not None:
                values[f"{point} {axis} (MCSnorm)"] = pixels / np.where(size > 0, size, np.nan)
    indices = [values[key] for key in ("fixation index", "saccade index") if key in values]
    if indices:
        kinds = np.fmax.reduce(indices)  # a sample is in one of the two
        values["Eye movement type index"] = kinds
