"""Tobii Pro Lab exports: tables whose header, clock unit and number format changed over the years.

Four kinds of header are known: the first one (`Gaze Point Left X (RCSpx)`, validity graded 0 to 4), one without units
(`Gaze point left X (DACSmm)`), one with units (`Gaze point left X [DACS mm]`), and the late one that says `Eye movement
event duration [ms]` for `Gaze event duration [ms]`.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

from smad_features import schema
from smad_features.recordings.document import Document
from smad_features.recordings.recording import Recording, RecordingError
from smad_features.recordings.tables import Table
from smad_features.recordings.tobii_export import AREA, CLOCKS, EVENTS, SCREEN, WHOSE, read_export

KIND = "Tobii Pro Lab"
LOOKED_FOR = "a Tobii Pro Lab export (columns such as 'Recording timestamp', 'Gaze point X', 'Pupil diameter left')"

# Headers with and without spaces are met: words are compared without.
_OTHERS = {name.replace(" ", ""): name for name in (*CLOCKS, *SCREEN, *WHOSE, *EVENTS, *EVENTS.values(), "sensor")}
_AREA = ("presentedmediapositionx", "presentedmediapositiony", "presentedmediawidth", "presentedmediaheight")
_OTHERS |= dict(zip(_AREA, AREA, strict=True))
_RENAMED = {"eyemovementeventduration": "gazeeventduration"}
# The first Pro Lab's own word for a frame (RCS) is taken for what was called the display area's (DACS) later.
_FRAMES = {"rcsmm": "dacsmm", "rcspx": "dacspx", "rcsnorm": "dacsnorm"}
_EVENT_WORDS = (*EVENTS, *EVENTS.values())
_OF_ANY_TRACKER = ("Pupil diameter", "Validity", "Eye movement", "Gaze event duration")
# What only a head-worn tracker measures.
_GLASSES = ("gaze point 3d ", "pupil position ", "gyro ", "accelerometer ", "mapped fixation ", "mapped gaze ")


@lru_cache(maxsize=4096)
def _split(name: str) -> tuple[str, str]:
    """A header's words and its unit or frame, spelling aside: ('gazepointx', 'dacspx')."""
    bare = "".join(name.split()).lower()
    match = re.fullmatch(r"(.*?)(?:[\[(]([^\])]*)[\])])?", bare)
    stem, unit = match.groups() if match else (bare, None)
    unit = unit or ""
    return _RENAMED.get(stem, stem), _FRAMES.get(unit, unit)


def _spellings(channel: schema.Channel) -> set[tuple[str, str]]:
    stem, frame = _split(channel.name)
    if frame:
        return {(stem, frame)}
    units = {"px": {"px", "dacspx"}, "mm": {"mm"}, "ms": {"ms"}, "1": {"dacsnorm"}}.get(channel.unit, set())
    return {(stem, unit) for unit in {"", *units}}


_CHANNEL_OF = {spelling: channel.name for channel in schema.TOBII_PRO_LAB_39 for spelling in _spellings(channel)}


def channel_of(heading: str) -> str | None:
    """The channel that a column of this heading holds in any kind of header; None where it holds none."""
    return _CHANNEL_OF.get(_split(heading))


def has_clock(table: Table) -> bool:
    """Whether the table has one of the clocks of a Pro Lab export."""
    return any(_OTHERS.get(_split(name)[0]) in CLOCKS for name in table.header)


def _columns(table: Table, *, path: Path) -> dict[str, int]:
    """What we read of a table -> the number of its column. Channels go by their names, the rest by lower-case words."""
    columns: dict[str, int] = {}
    for number, name in enumerate(table.header):
        key = channel_of(name) or _OTHERS.get(_split(name)[0])
        if key in columns:
            raise RecordingError(path, f"columns {table.header[columns[key]]!r} and {name!r} are both {key}")
        if key:
            columns[key] = number
    return columns


def _glasses(table: Table) -> int:
    on_screen = any(_split(name)[1].startswith("dacs") for name in table.header)
    return 0 if on_screen else sum(name.lower().startswith(_GLASSES) or _is_scene(name) for name in table.header)


def _is_scene(name: str) -> bool:
    words, unit = _split(name)
    return words.startswith("gazepoint") and unit == "mcspx"


def _known(table: Table) -> int:
    return sum(channel_of(name) is not None for name in table.header)


def recognises(document: Document) -> int:
    """How many of the eye channels the file has, or of the columns of a glasses recording."""
    return max((max(_known(table), _glasses(table)) for table in document.tables), default=0)


def read(document: Document) -> Recording:
    """Read a Pro Lab export: see `read_export`.

    Of glasses pupils, validity and eye movements are channels as ever. Their gaze is on the scene camera's picture and
    no gaze on a screen: it is in `extra`. Directions and positions in the head's own frame are left out.

    Raises
    ------
    RecordingError
        A channel stands there twice; or as in `read_export`.
    """
    path = document.path
    table = max(document.tables, key=lambda table: max(_known(table), _glasses(table)))
    places = _columns(table, path=path)
    if not _glasses(table):
        return read_export(table, places, path=path, kind=KIND)
    # What a glasses export calls the recording's resolution is the scene camera's.
    names = {name for name in places if name.startswith(_OF_ANY_TRACKER)} | {*CLOCKS, *WHOSE, *_EVENT_WORDS, "sensor"}
    scene = {f"Gaze point {axis} (scene camera px)": number for axis, number in _scene_gaze(table).items()}
    places = {name: number for name, number in places.items() if name in names} | scene
    return read_export(table, places, path=path, kind=f"{KIND}, glasses", extra=scene)


def _scene_gaze(table: Table) -> dict[str, int]:
    return {
        axis: number
        for number, name in enumerate(table.header)
        for axis in "XY"
        if _split(name) in ((f"gazepoint{axis.lower()}", "mcspx"), (f"gazepoint{axis.lower()}", ""))
    }
