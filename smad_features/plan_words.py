"""What a build will need, in words and tables for people."""

from __future__ import annotations

import math
from typing import Any

from rich.console import Console
from rich.table import Table

from smad_features.costs import RULES, Needs
from smad_features.machine import Machine
from smad_features.manifest import Clip
from smad_features.plan import Estimate, Rate, group_size
from smad_features.plan_faults import in_bytes, in_time
from smad_features.status import FEATURES
from smad_features.to_make import ToMake


def show_plan(
    clips: list[Clip],
    config: dict[str, Any],
    todo: ToMake,
    estimated: Estimate,
    rates: dict[str, Rate],
    machine: Machine,
    needs: dict[str, Needs],
) -> None:
    """Print what a build needs: tables of stages and jobs, then a line for each of time, disk, files and memory."""
    console = Console(soft_wrap=True, highlight=False)
    people = len({clip.participant for clip in clips})
    sources = sum(size for sizes in todo.sizes.values() for size in sizes.values())
    console.print(f"{config['clips']}: {len(clips)} clips of {people} participants, {in_bytes(sources)} of sources")
    if not todo.jobs:
        console.print("nothing to make: all is fresh")
    elif not any(rule in todo.jobs for rule in (*RULES.values(), *FEATURES)):
        console.print("features: nothing to make, all is fresh")
    if estimated.stages:
        table = Table("stage", "jobs", "clips", "start", "a clip", "by its", "memory", title="Units")
        for stage in estimated.stages:
            rate = rates[stage.stage]
            times = [clip.seconds for clip in rate.clips]
            table.add_row(
                stage.stage.replace("_", " "),
                str(stage.jobs),
                str(stage.clips),
                in_time(rate.start),
                " to ".join(dict.fromkeys(map(in_time, (min(times), max(times))))),
                ("size" if stage.by_size else "number") if stage.is_measured else "(built in)",
                in_bytes(stage.memory),
            )
        Console().print(table)
    if todo.jobs:
        together = config["run"]["participants_per_job"]
        shown = together or group_size(estimated)
        is_shared = shown > 1 and bool(estimated.stages)
        grouped = {
            rule: math.ceil(count / shown) if rule in RULES.values() else count for rule, count in todo.jobs.items()
        }
        columns = ["rule", "jobs", *([f"{shown} participants a job"] if is_shared else []), "a job asks a cluster for"]
        table = Table(*columns, title="Jobs")
        for rule, count in todo.jobs.items():
            counts = [count, grouped[rule]] if is_shared else [count]
            table.add_row(rule, *map(str, counts), f"{needs[rule].mem_mb} MiB, {needs[rule].runtime} min")
        sums = [sum(todo.jobs.values()), sum(grouped.values())]
        table.add_row("together", *map(str, sums if is_shared else sums[:1]), "")
        Console().print(table)
        if is_shared and together is None:
            console.print(
                f"Here each participant is a job of its own; on a cluster, `run={{participants_per_job: {shown}}}`"
                " makes jobs of half an hour, or of a quarter of the participants where that is less"
            )
    low, middle, high = estimated.seconds
    if middle:
        console.print(
            f"Features on {estimated.cores} cores: about {in_time(middle)} ({in_time(low)} to {in_time(high)}),"
            f" {in_time(estimated.work[1])} of processors in the jobs of units"
        )
    console.print(
        "Disk: " + ", ".join(f"{name} {in_bytes(size)}" for name, size in estimated.disk.items() if size)
        + (f"; {in_bytes(estimated.room)} must be free, {in_bytes(machine.free)} are" if estimated.room else "")
    )  # fmt: skip
    if estimated.inodes:
        left = "" if machine.files is None else f", the file system takes {machine.files}"
        console.print(f"Files and folders: {estimated.inodes} new{left}")
    if estimated.memory:
        console.print(f"Memory: {in_bytes(estimated.memory)} at once, of {in_bytes(machine.memory)}")
    cache = estimated.cache
    console.print(
        f"Cache: {cache.shards} shards of up to {cache.clips_a_shard} clips, {in_bytes(cache.shard_size)} each over all"
        " arrays"
    )
    if todo.jobs.get("train_model"):
        console.print(
            f"Training: {todo.jobs['train_model']} networks; no pilot tells their time, nor that of what comes after"
            " (benchmarks/README.md says what was measured elsewhere)"
        )
    if todo.no_benchmark is not None:
        console.print(f"Features only: {todo.no_benchmark}")
    if any(stage.is_measured for stage in estimated.stages):
        count = max(len(rate.clips) for rate in rates.values() if rate.is_measured)
        console.print(
            f"This is an estimate from {count} clips a stage, made one after another: the range is what it would be if"
            " all were as the quickest, or the slowest, of them; where other work runs, too, it takes longer."
            " Snakemake's own time, and that of list_clips, quality and pack, are built in"
        )
    if any(not stage.is_measured for stage in estimated.stages):
        console.print("Rates that are built in are of other data and another machine: only the order of size is right")
