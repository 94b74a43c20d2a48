"""A file is there whole or not at all; where it cannot be written, why, and what to do."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_DRAFT = re.compile(r"\..+\.\d+\.tmp")
# What no program can help: the place is full or may not be written to. EFBIG is the limit of one file's size.
_NO_ROOM = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "your quota is used up", errno.EFBIG: "files of that size "
            "are not allowed here (`ulimit -f`)"}  # fmt: skip
_NO_LEAVE = {errno.EROFS: "the file system is read-only", errno.EACCES: "you may not write there",
             errno.EPERM: "you may not write there", errno.ENOTDIR: "a folder of its path is a file"}  # fmt: skip


class StorageError(OSError):
    """A file could not be written, by no fault of its content; the message names it and what to do."""


@contextmanager
def written_whole(path: Path, *, sync: bool = True) -> Iterator[Path]:
    """A path beside ``path`` to write to; synced and renamed into place at the end, removed after an error.

    ``sync`` False: for what each run writes anew where a power failure has left it empty.

    Raises
    ------
    StorageError
        No room, or no leave to write there. What was at ``path`` is as it was.
    """
    beside = draft_of(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield beside
            if sync:
                with beside.open("rb") as file:
                    os.fsync(file.fileno())
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say of an error that comes from the disk which file it hit, and what to do."""
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        if error.errno in _NO_ROOM:
            advice = "make room and run again"
        elif error.errno in _NO_LEAVE:
            advice = "mend that and run again, or work in another folder (`--directory`)"
        else:
            raise
        why = (_NO_ROOM | _NO_LEAVE)[error.errno]
        raise StorageError(f"{path}: cannot be written: {why}; what was there before is untouched: {advice}") from error


def check_writable(folder: Path) -> None:
    """Try whether files can be made in ``folder``, which is made where it is not there; StorageError if not."""
    trial = draft_of(folder / "writable")  # so that the one of a killed process is swept
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        trial.touch()  # nothing less tells on every kind of file system
        trial.unlink()


def draft_of(path: Path) -> Path:
    """Where this process writes what is to be put at ``path``; `sweep_drafts` knows it by its name."""
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def is_draft(name: str) -> bool:
    """Whether a file of this name is one that was never put into place."""
    return _DRAFT.fullmatch(name) is not None


def sweep_drafts(folder: Path) -> None:
    """Remove the drafts of processes that were killed, ours alone, below ``folder``; the insides of stores aside.

    Call it while nothing else is at work there.
    """
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.endswith(".zarr")]
        for name in files:
            if is_draft(name):
                Path(place, name).unlink(missing_ok=True)
