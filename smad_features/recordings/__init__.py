"""Eye-tracker recordings: a file of any known kind becomes named channels over one clock."""

from __future__ import annotations

from pathlib import Path

from smad_features.recordings import tobii_pro_lab
from smad_features.recordings.recording import Recording, RecordingError, Table, decode, split_table

__all__ = ["Recording", "RecordingError", "read_recording"]


def read_recording(path: Path) -> Recording:
    """Read an eye-tracker recording, whatever its kind: told by the content, not by the file's name.

    Parameters
    ----------
    path
        The recording. Now known: Tobii Pro Lab exports as text (any delimiter, encoding, decimal sign, column order).

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
    text = decode(path.read_bytes(), path=path)
    tables = split_table(text, path=path)
    table = max(tables, key=tobii_pro_lab.known_columns)
    if not tobii_pro_lab.known_columns(table):
        raise RecordingError(path, _unknown(max(tables, key=lambda table: len(table.header))))
    return tobii_pro_lab.read(table, path=path)


def _unknown(table: Table) -> str:
    shown = ", ".join(repr(name[:40]) for name in table.header[:6])
    more = f" and {len(table.header) - 6} more" if len(table.header) > 6 else ""
    return (
        f"an unknown kind of table: looked for {tobii_pro_lab.LOOKED_FOR}; found {len(table.header)} column(s), "
        f"{shown}{more}"
    )
