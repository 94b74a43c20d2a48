"""The command `plan`: what a build will need, said before it begins; it writes nothing of the user's."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from smad_features.costs import Needs, job_needs, training_needs
from smad_features.machine import Machine, look_at_machine
from smad_features.manifest import Clip, TableError, check_clips
from smad_features.model_files import ModelFileError, find_models
from smad_features.pilot import PilotError, choose, pilot_folder, run_pilot
from smad_features.plan import RULES, Estimate, Rate, arrays_of, built_in, estimate, group_size, submissions
from smad_features.plan_faults import DOCTOR, find_faults, in_bytes, in_time
from smad_features.study import FINGERPRINTS, RESULTS, read_study
from smad_features.to_make import ToMake, find_to_make

_PLACES = (RESULTS, Path("logs"), Path(".smad"))


def run_plan(options: argparse.Namespace) -> int:
    """Say what a build needs; 1 = something would stop it."""
    if (options.cores or 1) < 1 or options.pilot < 0:
        raise TableError("want --cores of 1 or more, and --pilot of 0 or more")
    config, clips = read_study(options.configfile)
    check_clips(clips, config)
    if config["eye"]["columns"]:
        from smad_features.recordings import generic_table  # imports pandas, which few need to wait for

        try:
            generic_table.check_columns(config["eye"]["columns"])
        except ValueError as error:
            raise TableError(str(error)) from None
    todo = find_to_make(clips, config, database=FINGERPRINTS, results=RESULTS)
    machine = look_at_machine(RESULTS)
    cores = options.cores or machine.cores
    try:
        rates, stops, warnings = _find_rates(todo, config, count=options.pilot)
    except KeyboardInterrupt:
        print("smad-features plan: stopped; what the pilot made is removed", file=sys.stderr)
        return 130
    specs = arrays_of(config, has_content="gaze_content" in todo.units)
    estimated = estimate(
        todo.units,
        rates,
        {name: array for arrays in specs.values() for name, array in arrays.items()},
        cores=cores,
        participants=len({clip.participant for clip in clips}),
        clips=todo.whole if config["on_bad_clip"] == "quarantine" else len(clips),
        last_jobs=[rule for rule in ("list_clips", "quality", "pack") if rule in todo.jobs],
        unread=todo.unread,
        kept=todo.kept,
        held=todo.held,
    )
    found = find_faults(todo, estimated, machine, config, places=_PLACES)
    stops, warnings = [*stops, *found[0]], [*warnings, *found[1]]
    together = config["run"]["participants_per_job"]
    needs = _needs(todo, clips, config, estimated)
    if options.json:
        said = {
            "clips": len(clips),
            "participants": len({clip.participant for clip in clips}),
            "jobs": todo.jobs,
            "participants_per_job": together,
            "submissions": submissions(todo.jobs, together),
            "needs": {rule: asdict(need) for rule, need in needs.items()},
            "estimate": asdict(estimated),
            "pilot": {stage: asdict(rate) | {"by_size": rate.by_size} for stage, rate in rates.items()},
            "machine": asdict(machine) | {"place": str(machine.place)},
            "no_benchmark": todo.no_benchmark,
            "stops": stops,
            "warnings": warnings,
        }
        print(json.dumps(said, indent=1))
    else:
        _show(clips, config, todo, estimated, rates, machine, needs)
        print("".join(f"Warning: {sentence}.\n" for sentence in warnings), end="")
        print("".join(f"This would stop a build: {sentence}.\n" for sentence in stops), end="")
    return 1 if stops else 0


def _find_rates(todo: ToMake, config: dict[str, Any], *, count: int) -> tuple[dict[str, Rate], list[str], list[str]]:
    """The rate of each stage that has units to make: of a pilot, else as built in; what it met that stops; warnings."""
    specs = arrays_of(config, has_content=True)
    rates: dict[str, Rate] = {}
    stops: list[str] = []
    warnings: list[str] = []
    try:
        if todo.units["faces"] and count:
            find_models(config["face"])
        stages = [stage for stage in todo.units if todo.clips[stage] and count]
    except ModelFileError as error:
        stops.append(f"faces: {error}; `smad-features doctor` says what else is not as it should be")
        stages = [stage for stage in todo.units if stage == "eyes" and todo.clips[stage] and count]

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    with pilot_folder() as folder:
        for stage in stages:
            sizes = todo.sizes[stage]
            try:
                run = run_pilot(stage, choose(todo.clips[stage], sizes), sizes, config, folder, count=count, say=say)
            except PilotError as error:
                stops.append(
                    f"{stage}: the pilot's job failed, and so would every job: {error}. That says nothing about your"
                    f" clips: {DOCTOR}"
                )
                continue
            if run.rate is not None:
                rates[stage] = run.rate
                warnings += [
                    f"{sentence}: it would be {_fate(config)}; another was taken" for sentence in run.unreadable
                ]
            else:
                first = f"the first, {run.unreadable[0]}"
                stops.append(
                    f"{stage}: none of {len(run.unreadable)} clips that were tried can be read; {first}: mend the"
                    " files, or see in config/README.md what can be read"
                )
    for stage, units in todo.units.items():
        if units and stage not in rates:
            rates[stage] = built_in(stage, specs[stage])
    return rates, stops, warnings


def _fate(config: dict[str, Any]) -> str:
    return {"quarantine": "quarantined", "keep": "kept without it", "fail": "what a run stops at"}[
        config["on_bad_clip"]
    ]


def _needs(todo: ToMake, clips: list[Clip], config: dict[str, Any], estimated: Estimate) -> dict[str, Needs]:
    """What a job of each rule asks of a cluster: the largest one."""
    together = config["run"]["participants_per_job"] or 1
    found = {}
    for stage, units in todo.units.items():
        if units:
            largest = max(units, key=lambda unit: sum(unit.sizes))
            found[RULES[stage]] = job_needs(
                RULES[stage], clips=largest.rows * together, size=sum(largest.sizes) * together
            )
    for rule in todo.jobs.keys() - found.keys():
        if rule == "train_model":
            train = config["train"]
            found[rule] = training_needs(
                clips=len(clips),
                epochs=train["epochs"],
                batch_size=train["batch_size"],
                is_frozen=train["freeze_face"],
                has_gpu=False,
            )
        elif rule in ("list_clips", "quality", "pack"):
            found[rule] = job_needs(rule, clips=len(clips), size=estimated.cache.size)
    return found


def _show(
    clips: list[Clip],
    config: dict[str, Any],
    todo: ToMake,
    estimated: Estimate,
    rates: dict[str, Rate],
    machine: Machine,
    needs: dict[str, Needs],
) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(soft_wrap=True, highlight=False)
    people = len({clip.participant for clip in clips})
    sources = sum(size for sizes in todo.sizes.values() for size in sizes.values())
    console.print(f"{config['clips']}: {len(clips)} clips of {people} participants, {in_bytes(sources)} of sources")
    if not todo.jobs:
        console.print("nothing to make: all is fresh")
    if estimated.stages:
        table = Table(
            "stage", "jobs", "clips", "start", "a clip", "follows", "a job's memory", "a unit", title="Features"
        )
        for stage in estimated.stages:
            rate = rates[stage.stage]
            times = [clip.seconds for clip in rate.clips]
            table.add_row(
                stage.stage,
                str(stage.jobs),
                str(stage.clips),
                in_time(rate.start),
                f"{in_time(min(times))} to {in_time(max(times))}" if times else "-",
                ("size" if stage.by_size else "number") + ("" if stage.is_measured else ", built in"),
                in_bytes(stage.memory),
                in_bytes(stage.unit),
            )
        Console().print(table)
    if todo.jobs:
        together = config["run"]["participants_per_job"]
        shown = together or group_size(estimated)
        alone, grouped = submissions(todo.jobs, None), submissions(todo.jobs, shown)
        table = Table("rule", "jobs", f"{shown} participants a job", "a job asks a cluster for", title="Jobs")
        for rule, count in alone.items():
            asked = needs.get(rule)
            words = f"{asked.mem_mb} MiB, {asked.runtime} min" if asked else ""
            table.add_row(rule, str(count), str(grouped[rule]), words)
        table.add_row("together", str(sum(alone.values())), str(sum(grouped.values())), "")
        Console().print(table)
        if together is None:
            console.print(
                f"Here each participant is a job of its own; on a cluster, `run: {{participants_per_job: {shown}}}` makes"
                " jobs of half an hour, or of a quarter of the participants"
            )
    low, middle, high = estimated.seconds
    if middle:
        console.print(
            f"Features on {estimated.cores} cores: about {in_time(middle)} ({in_time(low)} to {in_time(high)}),"
            f" {in_time(estimated.work[1])} of processors in the jobs of units"
        )
    console.print(
        "Disk: " + ", ".join(f"{name} {in_bytes(size)}" for name, size in estimated.disk.items() if size)
        + (f"; {in_bytes(estimated.room)} must be free, {in_bytes(machine.free)} are" if todo.jobs else "")
    )  # fmt: skip
    if todo.jobs:
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
        count = max(len(rate.clips) for rate in rates.values())
        console.print(
            f"This is an estimate from {count} clips a stage, made one at a time: the range is what it would be if all"
            " were as the quickest, or the slowest, of them"
        )
    if any(not stage.is_measured for stage in estimated.stages):
        console.print("Rates that are built in are of other data and another machine: only the order of size is right")
