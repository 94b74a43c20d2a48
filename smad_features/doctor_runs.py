"""Whether a run is at work in the working directory, and what earlier runs have left behind."""

from __future__ import annotations

import fcntl
import os
import socket
from pathlib import Path

from smad_features.atomic import is_draft
from smad_features.findings import COMMAND, Finding, count

LOCK, JOBS = Path(".smad/lock"), Path(".smad/jobs.lock")


def holder_of(path: Path) -> str | None:
    """Who holds a lock, as the holder wrote it there; None = nobody. Nothing is made or changed."""
    try:
        file = path.open("r", encoding="utf-8")
    except FileNotFoundError:
        return None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # as one of many, and for an instant
        except BlockingIOError:
            return file.read().strip() or "an unknown process"
    return None


def check_runs(folder: Path) -> list[Finding]:
    """Locks, marks and drafts in a working directory."""
    found = []
    holder, jobs = holder_of(folder / LOCK), None
    if holder is not None:
        here = f"host {socket.gethostname()}, " in holder
        number = holder.rpartition(" ")[2]
        look = f"ps -fp {number}" if here else f"ssh {holder.removeprefix('host ').partition(',')[0]} ps -fp {number}"
        found.append(
            Finding(
                "runs here",
                "warning",
                f"a run is at work in {folder}: {holder}",
                "Wait for it before you start another; a second one would be refused. What it is, and how to end it"
                f" (once, then wait: it stops its jobs):\n{COMMAND}{look}\n"
                f"{COMMAND}{look.replace('ps -fp', 'kill -INT')}",
            )
        )
    else:
        jobs = held_by_jobs(folder / JOBS)
    if jobs:
        found.append(
            Finding(
                "runs here",
                "warning",
                f"no run is at work in {folder}, but jobs of an earlier one are",
                "The next run waits for them. To see those of this machine, and end one that should not be:\n"
                f"{COMMAND}pgrep -af 'smad-(features|models)'\n{COMMAND}kill NUMBER",
            )
        )
    locks = folder / ".snakemake" / "locks"
    left = sorted(locks.iterdir()) if locks.is_dir() else []
    if left and holder is None and not jobs:
        found.append(
            Finding(
                "snakemake's lock",
                "warning",
                f"{folder}/.snakemake/locks holds {count(len(left), 'file')} of a run that was killed without this"
                " project's profile, which needs no such locks",
                "Where a run says that the directory is locked, and nothing is at work, here or on a cluster (above):\n"
                f"{COMMAND}snakemake --unlock",
            )
        )
    if not found:
        drafts = [
            name
            for part in ("results", ".smad")
            for place, folders, files in os.walk(folder / part)
            for name in _drafts(folders, files)
        ]
        note = f"; {count(len(drafts), 'draft')} of a killed one, which the next run removes" if drafts else ""
        found.append(Finding("runs here", "ok", f"no run is at work in {folder}{note}"))
    return found


def held_by_jobs(path: Path) -> bool:
    """Whether jobs hold their common lock."""
    try:
        file = path.open("r+", encoding="utf-8")  # NFS locks for one alone only what may be written
    except FileNotFoundError:
        return False
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _drafts(folders: list[str], files: list[str]) -> list[str]:
    folders[:] = [name for name in folders if not name.endswith(".zarr")]
    return [name for name in files if is_draft(name)]
