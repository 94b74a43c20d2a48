"""What a run asks SLURM's own commands: which jobs an earlier run has left behind, and whether there are GPUs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

PREFIX = "smad"  # of all jobs' names, as `slurm-jobname-prefix` of the profile says
_PATIENCE = 30.0  # seconds for an answer of the controller


class QueuedJob(NamedTuple):
    """A job in SLURM's queue: its number, its name and its state (PENDING, RUNNING, ...)."""

    number: str
    name: str
    state: str


class ClusterError(RuntimeError):
    """SLURM does not do what was asked of it; the message says what it said."""


def leftover_jobs(folder: Path) -> list[QueuedJob]:
    """The jobs in the queue that runs of the workflow in ``folder`` have put there.

    Raises
    ------
    ClusterError
        There is no queue here, or it cannot be asked.
    """
    if shutil.which("squeue") is None:
        raise ClusterError("there is no `squeue` on this machine")
    said = _ask("squeue", "--me", "--noheader", "--format", "%i|%j|%T|%Z")
    rows = [line.strip().split("|", 3) for line in said.splitlines() if line.count("|") >= 3]
    here = str(folder.resolve())
    return [
        QueuedJob(number, name, state)
        for number, name, state, place in rows
        if name.startswith(f"{PREFIX}_") and os.path.realpath(place) == here
    ]


def cancel_jobs(jobs: list[QueuedJob], folder: Path, *, patience: float = 120.0) -> None:
    """Cancel the jobs that an earlier run has left, and wait until they are gone.

    Raises
    ------
    ClusterError
        They are still there after ``patience`` seconds, or cannot be cancelled.
    """
    numbers = [job.number for job in jobs]
    _ask("scancel", *numbers)
    last = time.monotonic() + patience
    while remaining := leftover_jobs(folder):
        if time.monotonic() > last:
            which = " ".join(job.number for job in remaining)
            raise ClusterError(f"jobs of an earlier run do not end: wait until `squeue --jobs {which}` shows none")
        time.sleep(1)


def end_leftovers(folder: Path, note: Path) -> None:
    """Cancel what the run before has left in the queue of a cluster, and say so. What it has finished is kept.

    Call it while no other run can be at work in ``folder``.

    Parameters
    ----------
    note
        A file that is there where the run before was begun on a cluster and did not end well: else nobody is asked.

    Raises
    ------
    ClusterError
        They cannot be looked for, or do not end.
    """
    if not note.exists():
        return
    try:
        if jobs := leftover_jobs(folder):
            numbers = ", ".join(job.number for job in jobs)
            print(
                f"{len(jobs)} jobs of an earlier run are still in SLURM's queue: cancelling {numbers}; what they have"
                " finished is kept",
                file=sys.stderr,
                flush=True,
            )
            cancel_jobs(jobs, folder)
    except ClusterError as error:
        raise ClusterError(
            f"an earlier run here was begun on a cluster and may have left jobs there: {error}. Begin this one where"
            f" SLURM can be asked; or, where you know that none is left, remove {note} first"
        ) from None
    note.unlink()


def gpus_to_ask(*, on_cluster: bool) -> int:
    """How many GPUs a job with a network asks for: 1 where there are any, on the cluster or else on this machine.

    SMAD_GPUS says it instead; a job inherits it from the run that has begun it.
    """
    if "SMAD_GPUS" not in os.environ:
        os.environ["SMAD_GPUS"] = str(int(has_gpus() if on_cluster else count_gpus_here() > 0))
    return int(os.environ["SMAD_GPUS"])


def has_gpus() -> bool:
    """Whether any node of the cluster has GPUs (generic resources called gpu)."""
    if shutil.which("sinfo") is None:
        return False
    return any(word.startswith("gpu") for word in _ask("sinfo", "--noheader", "--format", "%G").split())


def count_gpus_here() -> int:
    """NVIDIA's GPUs that this process may use, by their device files and CUDA_VISIBLE_DEVICES; no driver is asked."""
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    there = len(list(Path("/dev").glob("nvidia[0-9]*")))
    if shown is None:
        return there
    return min(there, len([word for word in shown.split(",") if word.strip() not in ("", "-1")]))


def _ask(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        raise ClusterError(f"SLURM gives no answer: `{' '.join(command)}` after {_PATIENCE:.0f} s") from None
    if done.returncode != 0:
        raise ClusterError(f"SLURM refuses: `{' '.join(command)}`: {done.stderr.strip()}")
    return done.stdout
