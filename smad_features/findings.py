"""What a check of a machine found, and how to mend it; what all checks share.

The checks import what they need only when they run: on a broken machine that import may be the very fault.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warning", "fault", "skipped"]

COMMAND = "    "  # how a line of `mend` begins that is to be typed as it stands


@dataclass(frozen=True)
class Finding:
    """One check's answer.

    ``state``: fault = a run would fail or give wrong results; warning = it works, but less well, or not always;
    skipped = there is nothing to check here. ``found``: one sentence. ``mend``: what to do, in lines; those that begin
    with `COMMAND` are commands.
    """

    name: str
    state: State
    found: str
    mend: str = ""


@dataclass(frozen=True)
class Answer:
    """What a program said. ``status`` is None where there is no such program, or it did not end in time."""

    status: int | None
    output: str
    error: str

    @property
    def last(self) -> str:
        """The last line that it said of its failure, which is where programs put the cause."""
        lines = [line.strip() for line in (self.error.strip() or self.output.strip()).splitlines() if line.strip()]
        return lines[-1] if lines else f"exit status {self.status}, without a word"


def ask(command: Sequence[str], *, seconds: float = 15, text: str | None = None) -> Answer:
    """Run a program, with ``text`` as its input, and wait no longer than ``seconds``; never an error."""
    try:
        done = subprocess.run(
            list(command),
            input=text,
            stdin=subprocess.DEVNULL if text is None else None,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
            env=os.environ | {"LC_ALL": "C"},  # its words are looked at
        )
    except subprocess.TimeoutExpired:
        return Answer(None, "", f"no answer within {seconds:g} s")
    except OSError as error:
        return Answer(None, "", f"cannot be started: {error.strerror}")
    return Answer(done.returncode, done.stdout, done.stderr)


def examine(name: str, check: Callable[[], Finding | list[Finding]]) -> list[Finding]:
    """What a check finds; where it breaks itself, that is what was found."""
    try:
        found = check()
    except Exception as error:  # whatever it is: the other checks must still be heard
        why = f"{type(error).__name__}: {error}"
        mend = "This check could not be made: the program's fault or something not foreseen here. Report this line."
        return [Finding(name, "fault", f"the check itself failed: {why}", mend)]
    return found if isinstance(found, list) else [found]


def size(number: float) -> str:
    """Bytes in words: 1.5 GB."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" or number >= 100 else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"


def count(number: int, thing: str) -> str:
    """1 clip, 2 clips."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"
