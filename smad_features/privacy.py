"""Who may read what was made of persons: `cache.mode`, and the sentence that travels with the cache."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TERMS = (
    "Derived from recordings of persons. Where the terms of the data forbid passing on clips and what is derived from"
    " them, as those of SMAD do, this cache may not be passed on."
)


def make_with(mode: str) -> None:
    """From now on this process and those that it starts make files with ``mode`` ("0640"), folders as `folder_mode`."""
    os.umask(0o777 & ~folder_mode(mode))


def folder_mode(mode: str) -> int:
    """The mode of a folder whose files have ``mode``: the same, with x wherever there is r."""
    files = int(mode, 8)
    return files | (files & 0o444) >> 2


def current_umask() -> int:
    """What `make_with` has set, or the user has."""
    umask = os.umask(0o077)
    os.umask(umask)  # there is no way only to ask for it
    return umask


@contextmanager
def umask_kept() -> Iterator[None]:
    """What the body does by `make_with` ends with it."""
    umask = current_umask()
    try:
        yield
    finally:
        os.umask(umask)


def apply_mode(folder: Path, mode: str) -> None:
    """Give ``folder`` and all of ours in it, links aside, the ``mode`` that it would have if it were made now."""
    for path in [folder, *folder.rglob("*")]:
        found = path.lstat()
        wanted = folder_mode(mode) if stat.S_ISDIR(found.st_mode) else int(mode, 8)
        # Of a folder that several users share, each may change only what is theirs.
        if not stat.S_ISLNK(found.st_mode) and found.st_uid == os.geteuid() and found.st_mode & 0o777 != wanted:
            path.chmod(wanted)


def mode_held(settings: Path) -> str | None:
    """The mode of the run before, as its settings file says; None = there is none, or it says nothing of it."""
    try:
        return json.loads(settings.read_text(encoding="utf-8"))["cache"]["mode"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
