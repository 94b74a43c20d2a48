"""Whether there is room for what will be made: bytes and inodes."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smad_features.findings import COMMAND, Finding, count, size

GB = 10**9
_LEAST = 2 * GB  # without tables to judge by
_LEAST_TEMPORARY = GB
_LEAST_INODES = 10_000
# A clip's crops lie in its unit and in the packed cache, and a new cache is written beside the old one, which is kept
# until then; units are compressed a little.
_COPIES = 2.5
_CHANNELS, _EYE_BYTES = 39, 8  # value and how much of it was observed
# Up to 3 units, 4 keys and 5 logs a participant, and as many marks of Snakemake's.
_FILES_A_PARTICIPANT = 25


@dataclass(frozen=True)
class Need:
    """What a study will take: bytes of one copy of its clips, bytes and files at most, and how many clips it has."""

    clips: int
    once: int
    total: int
    files: int


def estimate_need(config: dict[str, Any], *, clips: int, participants: int) -> Need:
    """Room for a study, from its tables and the sizes that its configuration asks for."""
    face = config["face"]
    a_clip = face["frames"] * face["size"] ** 2 * 3 + config["eye"]["steps"] * _CHANNELS * _EYE_BYTES
    return Need(clips, clips * a_clip, int(_COPIES * clips * a_clip), participants * _FILES_A_PARTICIPANT + 1000)


def check_room(
    folder: Path, need: Need | None, *, made: int = 0, look: Callable[[Path], Any] = os.statvfs
) -> list[Finding]:
    """Free bytes and inodes where results go.

    Parameters
    ----------
    look
        What tells of a file system; as `os.statvfs`.
    made
        Bytes that lie there already. One more copy of the cache must fit all the same: a new one is written whole
        before the old one goes.
    """
    place = existing(folder)
    room = look(place)
    free = room.f_bavail * room.f_frsize
    wanted = _LEAST if need is None else max(need.total - made, need.once, 10**8)
    why = "" if need is None else f"; {count(need.clips, 'clip')} may need {size(wanted)} more"
    elsewhere = (
        f"See what takes the room:\n{COMMAND}du -xh --max-depth=1 {place} | sort -h\n"
        "Make room, or work on another disk: DIR there, given to each snakemake command:\n"
        f"{COMMAND}snakemake --cores 2 all --directory DIR --configfile {place}/config/config.yaml"
    )
    said = f"{size(free)} free for {folder}/{why}"
    if free < wanted:
        found = [Finding("disk", "fault", said, elsewhere)]
    elif free < 2 * wanted:
        found = [Finding("disk", "warning", f"{said}: it will be tight", elsewhere)]
    else:
        found = [Finding("disk", "ok", said)]
    if not room.f_files:  # such file systems make inodes as they are wanted
        return found
    files = _LEAST_INODES if need is None else need.files
    why = "" if need is None else f"; up to {files:,} will be made"
    said = f"{room.f_favail:,} more files can be made there (inodes){why}"
    if room.f_favail >= files:
        return [*found, Finding("inodes", "ok", said)]
    mend = (
        "A disk without inodes says that it is full although there is room. See which folders hold most files, and\n"
        f"remove some:\n{COMMAND}du -x --inodes --max-depth=2 {place} | sort -n | tail"
    )
    return [*found, Finding("inodes", "fault", said, mend)]


def check_temporary(folder: Path, *, look: Callable[[Path], Any] = os.statvfs) -> Finding:
    """Free bytes of the folder for temporary files."""
    room = look(folder)
    free = room.f_bavail * room.f_frsize
    said = f"{size(free)} free in {folder}, for temporary files"
    if free >= _LEAST_TEMPORARY:
        return Finding("temporary files", "ok", said)
    mend = f"Name a folder of a larger disk before each run:\n{COMMAND}export TMPDIR=/a/larger/disk/tmp"
    return Finding("temporary files", "warning", f"{said}; want {size(_LEAST_TEMPORARY)}", mend)


def bytes_made(results: Path) -> int:
    """Bytes of the units and packed caches that are there."""
    total = 0
    for place, _, files in os.walk(results):
        for name in files:
            total += Path(place, name).lstat().st_size
    return total


def existing(folder: Path) -> Path:
    """The folder, absolute, or the nearest above it that is there."""
    folder = folder.resolve()
    return next(path for path in (folder, *folder.parents) if path.is_dir())
