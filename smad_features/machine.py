"""What this machine has for a build: cores, memory, room and files on a disk, as far as this process may use them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Machine:
    """What may be used; sizes in bytes.

    Attributes
    ----------
    files
        New files and folders that the file system of the place takes; None = it knows no limit.
    refusal
        Why nothing can be written at the place; None = it can.
    """

    cores: int
    memory: int
    place: Path
    free: int
    files: int | None
    refusal: str | None


def look_at_machine(place: Path) -> Machine:
    """This machine, and the file system where ``place`` is or would be made. Nothing is written."""
    there = place.absolute()
    while not there.exists():
        there = there.parent
    disk = os.statvfs(there)
    refusal = None
    if not there.is_dir():
        refusal = f"{there} is a file, where a folder is wanted"
    elif disk.f_flag & os.ST_RDONLY:
        refusal = f"the file system of {there} is read-only"
    elif not os.access(there, os.W_OK | os.X_OK):
        refusal = f"you may not write in {there}"
    files = disk.f_favail if disk.f_files else None
    return Machine(usable_cores(), usable_memory(), there, disk.f_bavail * disk.f_frsize, files, refusal)


def usable_cores() -> int:
    """The cores that this process may run on."""
    return len(os.sched_getaffinity(0))


def usable_memory(*, groups: Path = _CGROUPS, own: Path = Path("/proc/self/cgroup")) -> int:
    """Bytes of memory: the machine's, or what a container or batch job is given of it."""
    found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    try:
        lines = own.read_text(encoding="ascii").splitlines()
    except OSError:
        lines = []
    for line in lines:
        _, controllers, name = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        top, limit = (groups, "memory.max") if not controllers else (groups / "memory", "memory.limit_in_bytes")
        inside = top / name.lstrip("/")
        for folder in [inside, *inside.parents]:  # the narrowest of all groups above counts
            if folder == top.parent:
                break
            try:
                text = (folder / limit).read_text(encoding="ascii").strip()
            except OSError:
                continue
            found += [int(text)] if text.isdecimal() else []
    return min(found)
