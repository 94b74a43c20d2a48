"""A file is there whole or not at all."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_DRAFT = re.compile(r"\..+\.\d+\.tmp")


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A path beside ``path`` to write to; synced and renamed into place at the end, removed after an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield beside
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def sweep_drafts(folder: Path) -> None:
    """Remove the drafts of processes that were killed, ours alone, below ``folder``; the insides of stores aside.

    Call it while nothing else is at work there.
    """
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.endswith(".zarr")]
        for name in files:
            if _DRAFT.fullmatch(name):
                Path(place, name).unlink(missing_ok=True)
