"""The command `plan`: what a build will need, said before it begins; it writes nothing of the user's."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from smad_features.atomic import StorageError
from smad_features.costs import RULES, Needs, job_needs, training_needs
from smad_features.freshness import STAGES, by_participant
from smad_features.machine import look_at_machine
from smad_features.manifest import Clip, TableError, check_clips
from smad_features.model_files import ModelFileError, find_models
from smad_features.pilot import PilotError, choose, pilot_folder, run_pilot
from smad_features.plan import Estimate, Rate, arrays_of, built_in, dealt_out, estimate, submissions
from smad_features.plan_faults import DOCTOR, find_faults
from smad_features.status import FEATURES
from smad_features.study import FINGERPRINTS, RESULTS, read_study
from smad_features.to_make import ToMake, find_to_make

_BUSY = 0.6  # seconds of a processor for each of the clock: less is waiting
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
    except OSError as error:
        words = f"the pilot has no temporary folder that it can work in ({error})"
        raise StorageError(f"{words}: make room there, or name another place: TMPDIR=/some/folder") from error
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
        last_jobs=[rule for rule in FEATURES if rule in todo.jobs],
        per_job=config["run"]["participants_per_job"],
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
        from smad_features.plan_words import show_plan

        show_plan(clips, config, todo, estimated, rates, machine, needs)
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
        if todo.units["faces"]:
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
                if run.rate.processors < _BUSY:
                    warnings.append(
                        f"{stage}: the pilot had a core for {run.rate.processors:.0%} of its time: the machine is busy,"
                        " or its disk slow, and the times may be too long"
                    )
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
    own = by_participant(clips)
    found = {}
    for stage, units in todo.units.items():
        asked = []
        for job in dealt_out(units, config["run"]["participants_per_job"]):
            named = [clip for unit in job for clip in own[unit.participant] if getattr(clip, STAGES[stage].file_column)]
            size = sum(todo.sizes[stage].get(clip.clip, 0) for clip in named)
            asked.append(job_needs(RULES[stage], clips=len(named), size=size))
        if asked:
            found[RULES[stage]] = max(asked, key=lambda needs: (needs.mem_mb, needs.runtime))
    train = config["train"]
    for rule in todo.jobs.keys() - found.keys():
        if rule == "train_model":
            found[rule] = training_needs(
                clips=len(clips),
                epochs=train["epochs"],
                batch_size=train["batch_size"],
                is_frozen=train["freeze_face"],
                has_gpu=False,
            )
        else:
            size = estimated.cache.size if rule in FEATURES else 0  # of their inputs, the units
            found[rule] = job_needs(rule, clips=len(clips), size=size)
    return found
