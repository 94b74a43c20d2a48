"""Eye-tracker recordings: a file of any known kind becomes named channels over one clock."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from smad_features.recordings import (
    eyelink,
    gazepoint,
    generic_table,
    imotions,
    psychopy_tobii,
    pupil_labs,
    smad_sheet,
    smi,
    tobii_pro_lab,
    tobii_sdk,
    tobii_studio,
)
from smad_features.recordings.document import Document, open_document
from smad_features.recordings.recording import Event, Recording, RecordingError
from smad_features.recordings.sentinels import drop_zero_events

__all__ = ["READERS", "Event", "Recording", "RecordingError", "read_recording"]

# Each says in LOOKED_FOR what it knows, in recognises() how many telling marks a file has of it, and read()s it.
READERS = (
    generic_table,
    smad_sheet,
    tobii_pro_lab,
    tobii_studio,
    tobii_sdk,
    psychopy_tobii,
    eyelink,
    smi,
    pupil_labs,
    gazepoint,
    imotions,
)


def read_recording(path: Path, *, settings: Mapping[str, Any] | None = None) -> Recording:
    """Read an eye-tracker recording, whatever its kind: told by the content, not by the file's name.

    Parameters
    ----------
    path
        The recording.
    settings
        The choices of the configuration: ``columns`` and ``time_unit`` (see `generic_table`), ``sheet_rate`` (see
        `smad_sheet`), ``zero_is_missing`` (always, never, or auto: in SMAD's sheets alone).

    Returns
    -------
    Recording
        Named channels over a strictly increasing clock in seconds from the first eye sample. A recording in which
        the tracker never found an eye is a recording: all its channels are NaN.

    Raises
    ------
    RecordingError
        The file is empty, no recording, damaged, or without a single sample; the message says which.
    OSError
        The file could not be read. That is no fault of the recording and is not turned into one.
    """
    document = open_document(path, settings=settings)
    marks = [reader.recognises(document) for reader in READERS]
    if not any(marks):
        below = document.below_titles()
        marks = [reader.recognises(below) for reader in READERS] if below.above else marks
        if not any(marks):
            raise RecordingError(path, _unknown(document))
        document = below
    recording = READERS[marks.index(max(marks))].read(document)
    zero_is_missing = document.settings.get("zero_is_missing", "auto")
    if zero_is_missing == "always" or (zero_is_missing == "auto" and recording.kind == smad_sheet.KIND):
        recording.notes["values_marked_missing"] = recording.notes.get("values_marked_missing", 0) + drop_zero_events(
            recording.channels
        )
    return recording


def _unknown(document: Document) -> str:
    table = max(document.tables, key=lambda table: len(table.header))
    shown = ", ".join(repr(name[:40]) for name in table.header[:6])
    more = f" and {len(table.header) - 6} more" if len(table.header) > 6 else ""
    wanted = "; ".join(reader.LOOKED_FOR for reader in READERS)
    absent = [repr(name) for name in (document.settings.get("columns") or {}).values() if name not in table.header]
    without = f" (of `eye.columns` {', '.join(absent)} not there)" if absent else ""
    return f"an unknown kind of file: found {len(table.header)} column(s), {shown}{more}{without}; looked for {wanted}"
