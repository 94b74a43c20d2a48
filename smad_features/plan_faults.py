"""What would stop a build, and what would make it slow or lose clips: a sentence each, with what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from smad_features.machine import Machine, look_at_machine
from smad_features.plan import Estimate, cores_that_fit
from smad_features.to_make import ToMake

_UNITS = ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))
DOCTOR = "`smad-features doctor` looks for the cause"


def find_faults(
    todo: ToMake, estimated: Estimate, machine: Machine, config: dict[str, Any], *, places: Iterable[Path]
) -> tuple[list[str], list[str]]:
    """What stops a build, and what does not but should be known before.

    Parameters
    ----------
    places
        The folders that a build writes to.
    """
    stops, warnings = [], []
    for column, (named, absent) in todo.absent.items():
        if not absent:
            continue
        where = f"paths in {config['clips']} are relative to its folder, {Path(config['clips']).parent.absolute()}"
        first = f"the first: {absent[0]}"
        if len(absent) == named and config["on_bad_clip"] != "keep":
            stops.append(
                f"{column}: none of the {named} files that are named is there; {first}; {where}: mend the table, or"
                " make their disk available"
            )
        else:
            fate = "kept without it" if config["on_bad_clip"] == "keep" else "quarantined"
            warnings.append(
                f"{column}: {len(absent)} of {named} files that are named are not there; {first}; {where}. Their clips"
                f" would be {fate}"
            )
    stops += _on_disk(todo, estimated, machine)
    stops += [f"{place}: {why}: mend that, or work in another folder (`snakemake --directory DIR`)"
              for place in places if (why := look_at_machine(place).refusal)]  # fmt: skip
    largest = max(estimated.stages, key=lambda stage: stage.memory, default=None)
    fit = cores_that_fit(estimated, memory=machine.memory)
    if largest is not None and not fit:
        stops.append(
            f"memory: a job of {largest.stage} takes some {in_bytes(largest.memory)}, and this machine gives"
            f" {in_bytes(machine.memory)}: a machine, container or batch job with more is needed"
        )
    elif fit < estimated.cores and estimated.memory > machine.memory:
        warnings.append(
            f"memory: {estimated.cores} jobs at once take some {in_bytes(estimated.memory)}, and this machine gives"
            f" {in_bytes(machine.memory)}: run fewer (`--cores {fit}`), or let Snakemake count"
            f" (`--resources mem_mb={machine.memory >> 20}`)"
        )
    if estimated.cores > machine.cores:
        warnings.append(
            f"cores: {estimated.cores} are asked for, and this machine gives {machine.cores}: the times are those of a"
            f" machine that has them; here, give `--cores {machine.cores}`"
        )
    return stops, warnings


def _on_disk(todo: ToMake, estimated: Estimate, machine: Machine) -> list[str]:
    stops = []
    if estimated.room > machine.free:
        stops.append(
            f"disk: {in_bytes(estimated.room)} must be free on the file system of {machine.place},"
            f" {in_bytes(machine.free)} are: make room, or work in another folder (`snakemake --directory DIR`)"
        )
    if machine.files is not None and todo.jobs and estimated.inodes > machine.files:
        stops.append(
            f"disk: the file system of {machine.place} takes {machine.files} more files and folders, {estimated.inodes}"
            " would be made: remove some (`df -i` shows their number), or work in another folder"
            " (`snakemake --directory DIR`)"
        )
    return stops


def in_bytes(size: float) -> str:
    """Bytes in words: 1.5 GiB."""
    for unit, name in _UNITS:
        if size >= unit:
            return f"{size / unit:.1f} {name}" if size < 10 * unit else f"{size / unit:.0f} {name}"
    return f"{size:.0f} B"


def in_time(seconds: float) -> str:
    """Seconds in words: 40 ms, 12 s, 3 min 05 s, 45 min, 2 h 05 min."""
    if seconds < 1:
        return f"{max(1, round(1000 * seconds))} ms"
    if seconds < 100:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    if seconds < 1200:
        return f"{round(seconds) // 60} min {round(seconds) % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"
