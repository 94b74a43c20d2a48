"""Whether a folder's file system does what the workflow builds on: locks, renames, links; and whose clock it has."""

from __future__ import annotations

import errno
import fcntl
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from smad_features.atomic import StorageError, check_writable
from smad_features.findings import COMMAND, Finding

# Ends with 3 where another holds the lock, as it should be, and with 0 where it was given.
_TRY_LOCK = """
import fcntl, sys
with open(sys.argv[1], "a") as file:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(3)
"""
# `fingerprints` takes a file that was left alone for 2 s for settled.
_SKEW_TOLD = 2.0
# Snakemake refuses an output dated before its inputs, and the shortest jobs end a few seconds after theirs are written.
_SKEW_FATAL = 10.0


class TrialError(Exception):
    """What a file system does otherwise than it should."""


@dataclass(frozen=True)
class Mount:
    """The file system that a folder lies on: its kind, where it is mounted, and its options."""

    kind: str
    point: str
    options: tuple[str, ...] = ()


def find_mount(folder: Path, *, text: str | None = None) -> Mount:
    """The mount of ``folder``; ``text``: as /proc/self/mountinfo."""
    if text is None:
        text = Path("/proc/self/mountinfo").read_text(encoding="utf-8")
    folder = folder.resolve()
    best = Mount("unknown", "/")
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        words, (kind, _, *options) = before.split(" "), after.split(" ")
        point = re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), words[4])
        # Later lines lie over earlier ones of the same place.
        if folder.is_relative_to(point) and len(point) >= len(best.point):
            best = Mount(kind, point, (*words[5].split(","), *(options[0].split(",") if options else ())))
    return best


def try_lock(folder: Path) -> None:
    """A lock held by one process must be refused to another, and be had once it is free."""
    path = folder / "lock"
    command = [sys.executable, "-c", _TRY_LOCK, str(path)]
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if subprocess.run(command, capture_output=True, check=False, timeout=60).returncode != 3:
            raise TrialError("two processes got the same lock")
    if subprocess.run(command, capture_output=True, check=False, timeout=60).returncode != 0:
        raise TrialError("a lock was not given although nobody holds it")


def try_rename(folder: Path) -> None:
    """A file renamed over another takes its place, while whoever reads the old one goes on."""
    old, new = folder / "old", folder / "new"
    old.write_bytes(b"old")
    new.write_bytes(b"new")
    with old.open("rb") as reader:
        new.replace(old)
        if old.read_bytes() != b"new" or new.exists():
            raise TrialError("the old content is still there")
        if reader.read() != b"old":
            raise TrialError("a reader of the old file lost it")


def try_symlink(folder: Path) -> None:
    """A symbolic link swapped by a rename points to the new place: so a new cache takes the place of the old."""
    (folder / "link").symlink_to("first")
    (folder / "next").symlink_to("second")
    (folder / "next").replace(folder / "link")
    if (folder / "link").readlink() != Path("second"):
        raise TrialError("it still points to the old place")


def try_hardlink(folder: Path) -> None:
    """A second name of the same file: shards that did not change are taken over so."""
    (folder / "one").write_bytes(b"")
    (folder / "two").hardlink_to(folder / "one")
    if not (folder / "two").samefile(folder / "one"):
        raise TrialError("it is another file")


def try_mode(folder: Path) -> None:
    """A file's mode is kept: what is made of persons is readable by those whom `cache.mode` allows."""
    (folder / "private").touch()
    (folder / "private").chmod(0o600)
    mode = (folder / "private").stat().st_mode & 0o777
    if mode != 0o600:
        raise TrialError(f"a file that was made 0600 is {mode:04o}")


Trials = Mapping[str, Callable[[Path], None]]
TRIALS: Trials = {
    "locks": try_lock,
    "renames": try_rename,
    "symbolic links": try_symlink,
    "hard links": try_hardlink,
    "file modes": try_mode,
}
# What it means for a run, and whether one can be risked.
_MEANING = {
    "locks": (True, "Two runs could work in this folder at the same time and spoil each other's files"),
    "renames": (True, "Half a file could be taken for a whole one"),
    "symbolic links": (True, "The packed cache could not be put into place"),
    "hard links": (False, "Each new cache is written whole, where parts of the old one would have done"),
    "file modes": (False, "Others on this machine may be able to read what is made of persons"),
}


def places(folder: Path) -> list[Path]:
    """The working directory, and the results where they lie on another file system."""
    results = folder / "results"
    return [folder, *([results] if results.is_dir() and results.stat().st_dev != folder.stat().st_dev else [])]


def check_files(folder: Path, *, trials: Trials = TRIALS, mount: Mount | None = None) -> list[Finding]:
    """Try it out, in a folder within ``folder`` that is removed at the end."""
    try:
        check_writable(folder)
    except StorageError as error:
        found = str(error).partition("; what was there")[0]
        mend = f"Work in a folder where you may write, or see whose this is:\n{COMMAND}ls -ld {folder}\n{COMMAND}id"
        return [Finding("file system", "fault", found, mend)]
    mount = find_mount(folder) if mount is None else mount
    failed: dict[str, str] = {}
    with tempfile.TemporaryDirectory(dir=folder, prefix=".smad-doctor-", ignore_cleanup_errors=True) as place:
        for name, trial in trials.items():
            own = Path(place) / name
            own.mkdir()
            try:
                trial(own)
            except TrialError as error:
                failed[name] = str(error)
            except (OSError, subprocess.TimeoutExpired) as error:
                if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
                    return [_no_room(folder, error)]
                failed[name] = getattr(error, "strerror", None) or str(error)
    where = f"{folder} ({mount.kind}, mounted at {mount.point})"
    if failed:
        told = ", ".join(f"{name}: {why}" for name, why in failed.items())
        advice = "\n".join([*(f"{_MEANING[name][1]}." for name in failed), *_ways_out(mount)])
        is_fatal = any(_MEANING[name][0] for name in failed)
        said = f"{where}: these fail: {told}"
        return [Finding("file system", "fault" if is_fatal else "warning", said, advice)]
    return [Finding("file system", "ok", f"{where}: {', '.join(trials)} work"), *_mount_findings(mount, where)]


def _no_room(folder: Path, error: Exception) -> Finding:
    # A quota is seen only by those who write: the file system itself has room.
    said = f"{folder}: nothing more can be written: {getattr(error, 'strerror', None) or error}"
    mend = f"Make room, or work on another disk. What your quota is, and what takes it:\n{COMMAND}quota -s\n{COMMAND}"
    return Finding("file system", "fault", said, f"{mend}du -xh --max-depth=1 {folder} | sort -h")


def _mount_findings(mount: Mount, where: str) -> list[Finding]:
    """What the mount's options tell that no trial on one machine can."""
    # `flock` of Lustre is off, of this machine alone, or of the whole cluster; NFS can be told to keep locks to itself.
    local = {"localflock", "local_lock=flock", "local_lock=all", "nolock"} & set(mount.options)
    if local:
        return [
            Finding(
                "locks between machines",
                "warning",
                f"{where}: mounted with `{min(local)}`: other machines do not see the locks of this one",
                "Two runs on two machines could work in this folder at the same time: start runs from one machine"
                " alone, or ask for\n"
                + ("the mount option `flock`." if mount.kind == "lustre" else "a mount without that option."),
            )
        ]
    if mount.kind in ("tmpfs", "ramfs"):
        said = f"{where}: results would lie in memory, and be gone after a reboot"
        return [Finding("kind of disk", "warning", said, "Work in a folder on a disk.")]
    if mount.kind.startswith(("fuse.", "cifs", "smb", "9p", "afs")):
        said = f"{where}: of this kind few keep locks and renames between machines, whatever works here"
        return [Finding("kind of disk", "warning", said, "Start runs from one machine alone, or work on another disk.")]
    return []


def _ways_out(mount: Mount) -> list[str]:
    if mount.kind == "lustre":
        return ["Ask the administrators to mount it with `flock` (not `localflock`), or work on another disk."]
    if mount.kind.startswith("nfs"):
        return ["Ask the administrators: NFS 4, or NFS 3 with its lock service (rpc.statd, no `nolock`).",
                "Until then start one run at a time, or work on another disk."]  # fmt: skip
    return [f"Work on another disk of this machine; these are there:\n{COMMAND}df -hT -x tmpfs -x devtmpfs"]


def check_clock(folder: Path, *, write: Callable[[Path], None] = Path.touch) -> Finding:
    """The clock of the file server against this machine's: the date of a file that was written just now."""
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".smad-doctor-", ignore_cleanup_errors=True) as place:
            path = Path(place) / "now"
            before = time.time()
            write(path)
            after = time.time()
            dated = path.stat().st_mtime
    except OSError as error:
        return Finding("clock", "skipped", f"nothing can be written in {folder}: {error.strerror}")
    return judge_clock("clock", "the file server's", off_by(dated, before, after), against="this machine's")


def off_by(at: float, before: float, after: float) -> float:
    """How many seconds a time lies outside the two between which it was taken; positive = too late."""
    return at - min(max(at, before), after)


def judge_clock(name: str, whose: str, skew: float, *, against: str, run: str = "") -> Finding:
    """A finding on somebody's clock that is ``skew`` seconds ahead of another's; ``run``: how to ask its machine."""
    if abs(skew) <= _SKEW_TOLD:
        return Finding(name, "ok", f"{whose} clock agrees with {against}, within {_SKEW_TOLD:g} s")
    is_fatal = abs(skew) > _SKEW_FATAL
    means = "Changes within that time may go unnoticed."
    if is_fatal:
        means = "Snakemake refuses what a job has made where it is dated before what it was made from."
    return Finding(
        name,
        "fault" if is_fatal else "warning",
        f"{whose} clock is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} {against}",
        f"{means} Ask the administrators to let all machines take their time from the network; this says whether one"
        f" does:\n{COMMAND}{run}timedatectl",
    )
