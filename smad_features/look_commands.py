"""The commands by which a person looks at a study, and takes a participant out of it; each returns its exit status."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from smad_features.fingerprints import Fingerprints
from smad_features.freshness import STAGES, by_participant, plan_units, unit_files
from smad_features.manifest import check_clips, read_targets
from smad_features.remains import name_gone
from smad_features.study import FINGERPRINTS, RESULTS, read_study


def run_check(options: argparse.Namespace) -> None:
    """Say what the tables hold, and which files are not there."""
    config, clips = read_study(options.configfile)
    participants = by_participant(clips)
    print(f"{config['clips']}: {len(clips)} clips of {len(participants)} participants")
    for column in ("video", "eye", "stimulus"):
        named = [path for clip in clips if (path := getattr(clip, column)) is not None]
        absent = [path for path in named if not path.exists()]
        first = f"; the first: {absent[0]}" if absent else ""
        print(f"  {column}: {len(named)} named, {len(clips) - len(named)} missing, {len(absent)} not there{first}")
    check_clips(clips, config)
    if config["labels"] is not None and not Path(config["labels"]).exists():
        print(f"{config['labels']}: not there; `features` needs no labels, all else does")
        return
    for task, labels in read_targets(clips, config).items():
        print(
            f"{config['labels']}: {task}: {sum(None not in row for row in labels.values())} of these clips are labelled"
        )


def run_status(options: argparse.Namespace) -> int:
    """Say what is fresh, stale, missing or quarantined."""
    from rich.console import Console
    from rich.table import Table

    from smad_features.later_stages import Later
    from smad_features.status import STATES, find_status

    config, clips = read_study(options.configfile)
    fingerprints = Fingerprints(None if options.rehash else FINGERPRINTS)
    plan = plan_units(clips, config, fingerprints)
    status = find_status(plan, Later(clips, config, fingerprints, plan), root=Path(config["clips"]).parent.resolve())
    fingerprints.save()
    gone = name_gone(clips, config["clips"])
    if options.json:
        said = {"stages": status.stages, "clips": status.clips, "why": status.causes, "jobs": status.jobs, "gone": gone}
        print(json.dumps(said, indent=1))
        return 1 if status.causes else 0
    shown = [
        state for state in STATES if any(counts[state] for counts in status.stages.values()) or state in STATES[:3]
    ]
    table = Table("stage", "of", *shown, title=f"{len(clips)} clips of {len(by_participant(clips))} participants")
    for stage, counts in status.stages.items():
        unit = "clips" if stage in STAGES else "files"
        table.add_row(stage, f"{counts.total()} {unit}", *(str(counts[state] or "") for state in shown))
    Console().print(table)
    if options.why:
        print("\n".join(status.causes) or "nothing is stale")
    elif status.causes:
        print(f"{len(status.causes)} causes: see them with --why")
    print("".join(f"{sentence}\n" for sentence in gone), end="")
    return 1 if status.causes else 0


def run_statistics(options: argparse.Namespace) -> int:
    """Write the statistics of the packed cache."""
    from smad_features.scheduler import SchedulerError
    from smad_features.shard_tasks import CacheError
    from smad_features.statistics import write_statistics

    config, _ = read_study(options.configfile)
    try:
        clips = write_statistics(RESULTS, options.output, scheduler=config["dask"]["scheduler"])
    except (CacheError, SchedulerError) as error:
        print(f"smad-features statistics: {error}", file=sys.stderr)
        return 1
    print(f"{options.output}: {clips} clips, each channel")
    return 0


def run_verify(options: argparse.Namespace) -> int:
    """Reread every checksum."""
    from smad_features.verify import verify_packed, verify_units

    config, clips = read_study(options.configfile)
    damage = verify_units(path for files in unit_files(clips).values() for path in files.values())
    damage += verify_packed(RESULTS)
    print("\n".join(damage) or "every checksum is right")
    print("".join(f"{sentence}\n" for sentence in name_gone(clips, config["clips"])), end="")
    return 1 if damage else 0


def run_forget(options: argparse.Namespace) -> int:
    """Erase a participant."""
    from smad_features.forget import ForgetError, forget

    config, clips = read_study(options.configfile)
    try:
        said = forget(options.participant, clips, config, database=FINGERPRINTS, is_dry=options.dry_run)
    except (ForgetError, BlockingIOError) as error:
        print(f"smad-features forget: {error}", file=sys.stderr)
        return 1
    print("\n".join(said))
    return 0


def run_inspect(options: argparse.Namespace) -> int:
    """Draw a clip."""
    from smad_features.film_strip import draw_inspection, write_png
    from smad_features.inspect import InspectionError, inspect_clip

    config, clips = read_study(options.configfile)
    output = options.output or Path(f"inspect-{options.clip}.png")
    try:
        inspection = inspect_clip(options.clip, clips, config, Fingerprints(FINGERPRINTS), results=RESULTS)
        write_png(output, draw_inspection(inspection))
    except (InspectionError, OSError) as error:
        print(f"smad-features inspect: {error}", file=sys.stderr)
        return 1
    for warning in inspection.warnings:
        print(f"smad-features inspect: clip {options.clip}: {warning}", file=sys.stderr)
    print(
        f"{output}: clip {options.clip}; derived data of a person, not to be passed on where the data's terms forbid it"
    )
    return 0
