"""Which of several GPUs a job takes: one that no other job of this folder has taken on this machine."""

from __future__ import annotations

import fcntl
import socket
import sys
from pathlib import Path
from typing import IO

FOLDER = Path(".smad")
_held: list[IO[str]] = []  # until the process ends: then the card is free


def take_card(count: int, *, folder: Path = FOLDER) -> int:
    """The number of a card, of ``count``, that no other process has taken; 0, said aloud, where all are taken.

    A cluster shows each job only its own cards; between jobs on one machine this keeps two networks off one card.
    """
    if count > 1 and folder.is_dir():
        for number in range(count):
            file = (folder / f"card-{socket.gethostname()}-{number}.lock").open("a")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                continue
            except OSError:  # a file system without locks: as if there were one card
                file.close()
                break
            _held.append(file)
            return number
        print(f"none of {count} GPUs is known to be free: taking the first", file=sys.stderr)
    return 0
