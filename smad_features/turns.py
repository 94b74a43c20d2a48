"""One run at a time works in a folder, and finds it as if nobody had been killed there and no clock ever been wrong."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import sys
import time
from pathlib import Path
from typing import IO

# Of network file systems that are mounted without locks.
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)


def hold_lock(path: Path) -> IO[str]:
    """Hold the lock of a working directory for as long as the returned file stays open: until the process ends.

    Where the file system knows no locks nothing is held, and that is said.

    Raises
    ------
    BlockingIOError
        Another run holds it; the message names its host and process.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = file.read().strip() or "an unknown process"
        file.close()
        raise BlockingIOError(f"another run works in {Path.cwd()}: {holder}; wait for it, or stop it") from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        print(
            f"{path}: this file system knows no locks ({error.strerror}), so nothing keeps a second run out of"
            f" {Path.cwd()}: begin one at a time, or have it mounted with locks (`smad-features doctor` tells)",
            file=sys.stderr,
        )
    file.truncate(0)
    file.write(f"host {socket.gethostname()}, process {os.getpid()}\n")
    file.flush()
    return file


def wait_for_jobs(path: Path) -> None:
    """Wait, saying so, until no job of an earlier run is at work: one that was killed may have left some behind."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(
                f"jobs of an earlier run are still at work in {Path.cwd()}: waiting for them to end"
                " (`pgrep -af 'smad-(features|models)'` shows those on this host)",
                file=sys.stderr,
                flush=True,
            )
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in _NO_LOCKS:  # `hold_lock` has said it
                raise


def date_back(folder: Path) -> None:
    """Bring dates that lie in the future back to now; the insides of stores aside.

    Times never count, but Snakemake compares nothing with a product that is dated after its inputs: one made while the
    clock was ahead would stay as it is until that day.
    """
    now = time.time() - 1  # before the keys that are written next
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.endswith((".zarr", ".tmp"))]
        for path in (Path(place, name) for name in files):
            if path.lstat().st_mtime > now + 1:
                os.utime(path, (now, now), follow_symlinks=False)
