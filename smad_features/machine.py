"""What this machine has for a build: cores, memory, and whether its disk takes the files."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from smad_features.doctor_machine import usable_cores, usable_memory


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
