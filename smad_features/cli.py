"""The command line of smad-features: one command a stage, each what the workflow's rule of that name runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from smad_features import look_commands, machine_commands, stage_commands
from smad_features.atomic import StorageError
from smad_features.config import ConfigError, complete_config, load_config
from smad_features.freshness import STAGES
from smad_features.index import write_index
from smad_features.index_release import find_release, index_release
from smad_features.index_tree import index_tree
from smad_features.manifest import TableError
from smad_features.model_files import ModelFileError
from smad_features.privacy import umask_kept
from smad_features.release_layout import LABEL_COLUMNS, PARTICIPANT, PATHS
from smad_features.shared_jobs import GoneError
from smad_features.study import RESULTS


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 = done. What the user can mend is said in one sentence, without a traceback."""
    options = _parser().parse_args(arguments)
    try:
        with umask_kept():
            return options.run(options) or 0
    except (ConfigError, TableError, GoneError, ModelFileError, StorageError) as error:
        print(f"smad-features {options.command}: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="smad-features", description=sys.modules["smad_features"].__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, run: Any, text: str, *, configured: bool = True) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(run=run)
        if configured:
            sub.add_argument(
                "--configfile", type=Path, default=Path("config/config.yaml"), help="default: config/config.yaml"
            )
        return sub

    sub = command("demo-data", _demo_data, "write synthetic raw clips, recordings and labels", configured=False)
    sub.add_argument("folder", type=Path)
    sub.add_argument(
        "--layout", choices=("laboratory", "smead-cross"), help="smead-cross = as the database's own release"
    )
    sub.add_argument("--participants", type=int, default=None)
    sub.add_argument("--clips-per-participant", type=int, default=None)
    sub.add_argument("--seconds", type=float, default=None, help="length of a clip")
    sub.add_argument("--seed", type=int, default=None)
    sub.add_argument("--workers", type=int, default=None, help="processes; the data do not depend on it")

    sub = command("index", _index, "make a first clips.tsv of a tree of files, by their names")
    sub.add_argument("folder", type=Path)
    sub.add_argument("--layout", choices=("smead-cross",), help="the database's own release; also makes labels.tsv")
    sub.add_argument("--output", type=Path, default=Path("config/clips.tsv"), help="default: config/clips.tsv")
    sub.add_argument("--labels", type=Path, default=Path("config/labels.tsv"), help="default: config/labels.tsv")
    for part, pattern in PATHS.items():
        sub.add_argument(f"--{part}-path", default=pattern, help=f"within the folder; default: {pattern}")
    for column, name in LABEL_COLUMNS.items():
        sub.add_argument(f"--{column}-column", default=name, help=f"of the table of labels; default: {name}")
    sub.add_argument(
        "--participant",
        metavar="REGEX",
        help=f"its group 1, in a file's path, is the participant; in a release, at a clip's beginning: {PARTICIPANT}",
    )
    sub.add_argument(
        "--emotion",
        action="append",
        type=_word_and_name,
        default=[],
        metavar="WORD=NAME",
        help="what the table calls a class",
    )

    command("check", look_commands.run_check, "check the configuration and all tables, and say what they hold")
    sub = command("plan", _plan, "say what a build will need: jobs, time, disk, files, memory; makes nothing")
    sub.add_argument("--cores", type=int, help="jobs at once; default: the cores that can be used here")
    sub.add_argument("--pilot", type=int, default=3, help="clips a stage that are tried out; default: 3, 0 = none")
    sub.add_argument("--json", action="store_true", help="for programs")
    for stage in STAGES.values():
        text = f"make one participant's {stage.name.replace('_', ' ')} unit"
        sub = command(stage.name.replace("_", "-"), stage_commands.make_units, text)
        sub.set_defaults(stage=stage.name)
        whose = sub.add_mutually_exclusive_group(required=True)
        whose.add_argument("participant", nargs="?")
        whose.add_argument("--list", type=Path, help="of participants and the keys of their units: a job of several")
        sub.add_argument("--key", type=Path, help="key file that the unit must agree with")
        sub.add_argument("--output", type=Path, help="default: results/STAGE/PARTICIPANT.zarr.zip")
        sub.add_argument("--threads", type=int, default=1)

    sub = command("list-clips", stage_commands.run_list_clips, "list all clips with their status, from the units")
    sub.add_argument("--output", type=Path, default=RESULTS / "clips.tsv")
    sub = command("pack", stage_commands.run_pack, "pack the units of all clips that are ok into one cache")
    sub.add_argument("--threads", type=int, default=1)
    sub = command("quality", stage_commands.run_quality, "write how much of each clip to believe")
    sub.add_argument("--output", type=Path, default=RESULTS / "quality.tsv")
    sub = command(
        "status",
        look_commands.run_status,
        "say what is fresh, stale, missing or quarantined; exit 0 = all fresh",
    )
    sub.add_argument("--why", action="store_true", help="one line for each cause")
    sub.add_argument("--json", action="store_true", help="for programs")
    sub.add_argument("--rehash", action="store_true", help="read every file anew instead of trusting its times")
    sub = command(
        "statistics", look_commands.run_statistics, "write count, mean, spread and range of each channel of the cache"
    )
    sub.add_argument("--output", type=Path, default=RESULTS / "statistics.tsv", help="default: results/statistics.tsv")
    sub = command("verify", look_commands.run_verify, "reread every checksum of the units and the cache")
    sub = command(
        "forget", look_commands.run_forget, "erase a participant who has left clips.tsv from all that was made"
    )
    sub.add_argument("participant")
    sub.add_argument("--dry-run", action="store_true", help="only say what would be removed")
    sub = command(
        "inspect",
        look_commands.run_inspect,
        "draw a clip's frames, crops, gaze, traces and quality into one PNG",
    )
    sub.add_argument("clip")
    sub.add_argument("--output", type=Path, help="default: inspect-CLIP.png")
    sub = command(
        "doctor", machine_commands.run_doctor, "check this machine, and say how to mend it; exit 0 = a run can start"
    )
    sub.add_argument("--json", action="store_true", help="for programs")
    sub.add_argument(
        "--ask-nodes",
        nargs="?",
        const="",
        metavar="PARTITION",
        help="also ask each node of a SLURM cluster, by a job of a second; default: the default partition's",
    )
    return parser


def _demo_data(options: argparse.Namespace) -> int:
    from smad_features.synthetic import write_demo_data

    names = ("layout", "participants", "clips_per_participant", "seconds", "seed", "workers")
    try:
        write_demo_data(options.folder, **{n: getattr(options, n) for n in names if getattr(options, n) is not None})
    except ValueError as error:
        print(f"smad-features demo-data: {error}", file=sys.stderr)
        return 1
    print(f"{options.folder}: synthetic clips; nobody in them exists (README.txt there says how they were made)")
    return 0


def _plan(options: argparse.Namespace) -> int:
    from smad_features.plan_commands import run_plan  # each job of a run starts this program, and needs none of it

    return run_plan(options)


def _index(options: argparse.Namespace) -> int:
    if options.layout is None and (found := find_release(options.folder)):
        print(f"{found} looks like the database's own release, for --layout smead-cross", file=sys.stderr)
    config = load_config(options.configfile) if options.configfile.exists() else complete_config({})
    try:
        if options.layout is None:
            index = index_tree(options.folder, participant=options.participant, settings=config["eye"])
        else:
            index = index_release(
                options.folder,
                emotions=config["emotions"],
                names={part: getattr(options, f"{part}_path") for part in PATHS},
                columns={column: getattr(options, f"{column}_column") for column in LABEL_COLUMNS},
                participant=options.participant or PARTICIPANT,
                meaning=dict(options.emotion),
            )
        write_index(index, options.output, options.labels if options.layout else None)
    except (ValueError, OSError) as error:
        print(f"smad-features index: {error}", file=sys.stderr)
        return 1
    people = len({row["participant"] for row in index.clips})
    print(f"{options.output}: {len(index.clips)} clips of {people} participants: look them through")
    if index.labels:
        print(f"{options.labels}: {len(index.labels)} labels")
    for note in index.notes:
        print(f"  {note}")
    return 0


def _word_and_name(text: str) -> tuple[str, str]:
    word, sign, name = text.partition("=")
    if not sign:
        raise argparse.ArgumentTypeError(f"want WORD=NAME, got {text!r}")
    return word, name


if __name__ == "__main__":
    sys.exit(main())
