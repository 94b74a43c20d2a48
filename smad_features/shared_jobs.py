"""Jobs that make the units of several participants, as a cluster wants them: few, and none of a second.

A job of a cluster costs its queue more than most units take to make. So stale units are dealt out to jobs; each job is
told its participants, with the digests that their units are to be made for, in one small file. What a unit is and when
it is stale is as ever. A finished job leaves a mark, which later jobs of the run wait for; units themselves are nothing
that Snakemake could take away again when a job that was believed dead is killed after all.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from smad_features.atomic import written_whole
from smad_features.freshness import PlannedUnit

FOLDER = Path(".smad/jobs")


class GoneError(ValueError):
    """The list of a job is gone: its run is over."""


@dataclass(frozen=True)
class SharedJob:
    """One job of a stage: its name, which no other run has used, and its participants with their units' digests."""

    stage: str
    name: str
    digests: dict[str, str] = field(repr=False)

    @property
    def mark(self) -> Path:
        """What the job leaves when all its units are made."""
        return mark_path(self.stage, self.name)


def list_path(stage: str, name: str, *, folder: Path = FOLDER) -> Path:
    """Where a job's list of participants and digests lies."""
    return folder / stage / f"{name}.tsv"


def mark_path(stage: str, name: str, *, folder: Path = FOLDER) -> Path:
    """Where the mark of a finished job lies."""
    return folder / stage / f"{name}.done"


def deal_out(units: Iterable[PlannedUnit], *, run: str, per_job: int) -> list[SharedJob]:
    """Jobs for all units that are not fresh, in the order of participants.

    Parameters
    ----------
    run
        A word that names this run alone: what an earlier one has left in a queue must not be taken for a job of this.
    per_job
        Participants a job, at most. They are spread evenly: 9 by 8 are 5 and 4.
    """
    stale: dict[str, list[PlannedUnit]] = {}
    for unit in units:
        if not unit.is_fresh:
            stale.setdefault(unit.stage, []).append(unit)
    jobs = []
    for stage, own in stale.items():
        count = -(-len(own) // per_job)
        for number in range(count):
            part = own[number * len(own) // count : (number + 1) * len(own) // count]
            digests = {unit.participant: unit.digest for unit in part}
            jobs.append(SharedJob(stage, f"{run}-{number + 1:04d}", digests))
    return jobs


def write_list(job: SharedJob, *, folder: Path = FOLDER) -> Path:
    """Write the list of a job's participants; returns where."""
    path = list_path(job.stage, job.name, folder=folder)
    with written_whole(path) as beside:
        beside.write_text("".join(f"{who}\t{digest}\n" for who, digest in job.digests.items()), encoding="utf-8")
    return path


def read_list(path: Path) -> dict[str, str]:
    """Participant -> digest of a job's list.

    Raises
    ------
    GoneError
        There is no such list any more.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise GoneError(
            f"{path}: no such list: this job belongs to a run that is over; nothing is done (a run that is at work now"
            " makes what is to be made)"
        ) from None
    rows = (line.partition("\t") for line in text.splitlines())
    return {participant: digest for participant, _, digest in rows}


def clear_jobs() -> None:
    """Begin a run: what an earlier one has left in a queue finds its list gone, and ends."""
    shutil.rmtree(FOLDER, ignore_errors=True)
