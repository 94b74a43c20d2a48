"""The command line of smad-features: one command a stage, each what the workflow's rule of that name runs."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from smad_features import schema
from smad_features.config import ConfigError, complete_config, load_config
from smad_features.failures import (
    LibraryFailure,
    failure_of,
    forget_failures,
    note_failures,
    read_failures,
    too_many,
)
from smad_features.fingerprints import Fingerprints
from smad_features.freshness import (
    STAGES,
    by_participant,
    hold_lock,
    plan_units,
    read_key,
    unit_files,
    unit_path,
)
from smad_features.index import write_index
from smad_features.index_release import find_release, index_release
from smad_features.index_tree import index_tree
from smad_features.manifest import Clip, TableError, check_clips, read_clips, read_targets
from smad_features.model_files import ModelFileError
from smad_features.release_layout import LABEL_COLUMNS, PARTICIPANT, PATHS

FINGERPRINTS = Path(".smad/fingerprints.sqlite")
RESULTS = Path("results")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 = done. What the user can mend is said in one sentence, without a traceback."""
    options = _parser().parse_args(arguments)
    try:
        return options.run(options) or 0
    except (ConfigError, TableError, ModelFileError) as error:
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

    command("check", _check, "check the configuration and all tables, and say what they hold")
    for stage in STAGES.values():
        text = f"make one participant's {stage.name.replace('_', ' ')} unit"
        sub = command(stage.name.replace("_", "-"), _make_unit, text)
        sub.set_defaults(stage=stage.name)
        sub.add_argument("participant")
        sub.add_argument("--key", type=Path, help="key file that the unit must agree with")
        sub.add_argument("--output", type=Path, help="default: results/STAGE/PARTICIPANT.zarr.zip")
        sub.add_argument("--threads", type=int, default=1)

    sub = command("list-clips", _list_clips, "list all clips with their status, from the units")
    sub.add_argument("--output", type=Path, default=RESULTS / "clips.tsv")
    sub = command("pack", _pack, "pack the units of all clips that are ok into results/cache.zarr")
    sub.add_argument("--threads", type=int, default=1)
    sub = command("quality", _quality, "write how much of each clip to believe")
    sub.add_argument("--output", type=Path, default=RESULTS / "quality.tsv")
    sub = command("status", _status, "say what is fresh, stale, missing or quarantined; exit 0 only when all is fresh")
    sub.add_argument("--why", action="store_true", help="one line for each cause")
    sub.add_argument("--json", action="store_true", help="for programs")
    sub.add_argument("--rehash", action="store_true", help="read every file anew instead of trusting its times")
    sub = command("verify", _verify, "reread every checksum of the units and the cache")
    sub = command(
        "inspect", _inspect, "draw a clip's frames, crops, gaze on the stimulus, traces and quality into one PNG"
    )
    sub.add_argument("clip")
    sub.add_argument("--output", type=Path, help="default: inspect-CLIP.png")
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


def _check(options: argparse.Namespace) -> None:
    config, clips = _read(options)
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


def _make_unit(options: argparse.Namespace) -> int:
    config, clips = _read(options)
    own = [clip for clip in clips if clip.participant == options.participant]
    if not own:
        raise TableError(f"{config['clips']}: no participant {options.participant!r}")
    stage = STAGES[options.stage]
    if not stage.has_unit(own):
        raise TableError(f"{config['clips']}: no clip of participant {options.participant} names a {stage.file_column}")
    in_a_run = options.key is not None  # by hand, no other job's failure matters
    if in_a_run and (stop := too_many(read_failures(), clips=len(clips), max_failed=config["run"]["max_failed"])):
        print(f"smad-features {options.command}: not begun, as the run stops: {stop}", file=sys.stderr)
        return 1

    from smad_features.cache import CacheError  # these take longer than all the above
    from smad_features.units import StaleKeyError, make_eyes, make_faces, make_gaze_content

    make = {"faces": make_faces, "eyes": make_eyes, "gaze_content": make_gaze_content}[stage.name]
    output = options.output or unit_path(stage.name, options.participant)
    key = read_key(options.key) if in_a_run else None
    try:
        if "opencv" in stage.libraries:
            import cv2

            cv2.setNumThreads(options.threads)
        make(own, config, output, root=Path(config["clips"]).parent.resolve(), key=key)
    except (StaleKeyError, CacheError) as error:
        print(f"smad-features {options.command}: {error}", file=sys.stderr)
        return 1
    except LibraryFailure as error:
        if in_a_run:
            note_failures(options.participant, error.failures)
        print(f"smad-features {options.command}: {error}", file=sys.stderr)
        return 1
    except Exception as error:  # before the first clip or after the last: none of them was made
        if in_a_run:
            failures = [failure_of(error, stage=stage.name, clip=clip.clip) for clip in own]
            note_failures(options.participant, failures)
        raise
    if in_a_run:
        forget_failures(stage.name, options.participant)
    return 0


def _list_clips(options: argparse.Namespace) -> int:
    from smad_features.quality import CONTENT_COLUMNS, MANIFEST_COLUMNS, list_clips, write_table

    config, clips = _read(options)
    try:
        max_failed = config["run"]["max_failed"]
        rows = list_clips(clips, units=unit_files(clips), on_bad_clip=config["on_bad_clip"], max_failed=max_failed)
    except ValueError as error:
        print(f"smad-features list-clips: {error}", file=sys.stderr)
        return 1
    optional = [column for column in (CONTENT_COLUMNS[0], "fold") if any(column in row for row in rows)]
    write_table(options.output, rows, (*MANIFEST_COLUMNS, *optional))
    for row in rows:
        if row["reason"]:
            print(f"clip {row['clip']}: {row['status']}: {row['reason']}", file=sys.stderr)
    return 0


def _pack(options: argparse.Namespace) -> int:
    import dask

    from smad_features.cache import pack

    config, clips = _read(options)
    rows = [(row["participant"], row["clip"]) for row in _manifest() if row["status"] == "ok"]
    if not rows:
        print("smad-features pack: no clip is ok, so there is nothing to pack: see results/clips.tsv", file=sys.stderr)
        return 1
    channels = schema.CHANNELS[config["eye"]["channels"]]
    specs = schema.face_arrays(frames=config["face"]["frames"], size=config["face"]["size"])
    specs |= schema.eye_arrays(steps=config["eye"]["steps"], channels=len(channels))
    packed = {clip for _, clip in rows}
    files = unit_files(clip for clip in clips if clip.clip in packed)
    if "gaze_content" in files:
        specs |= schema.gaze_content_arrays(frames=config["face"]["frames"], size=config["face"]["size"])
    attributes = {
        "channels": [{"name": channel.name, "unit": channel.unit} for channel in channels],
        "face": {name: config["face"][name] for name in ("align", "margin")},
        "eye": {"method": config["eye"]["method"]},
    }
    try:
        lock = hold_lock(Path(".smad/pack.lock"))  # a run that was killed may have left its job behind
    except BlockingIOError as error:
        print(f"smad-features pack: {error}", file=sys.stderr)
        return 1
    with lock, dask.config.set(num_workers=options.threads):
        digest = pack(RESULTS, rows, list(files.values()), specs, attributes)
    print(f"results/cache.zarr: {len(rows)} clips, digest {digest}", file=sys.stderr)
    return 0


def _quality(options: argparse.Namespace) -> None:
    from smad_features.quality import (
        CONTENT_COLUMNS,
        EYE_COLUMNS,
        FACE_COLUMNS,
        MANIFEST_COLUMNS,
        quality_rows,
        write_table,
    )
    from smad_features.quality_parts import CHANNEL_COLUMNS, PARTICIPANT_COLUMNS, channel_rows, participant_rows

    _, clips = _read(options)
    units = unit_files(clips)
    rows = quality_rows(_manifest(), units=units)
    folder = options.output.parent
    write_table(folder / "quality_participants.tsv", participant_rows(rows), PARTICIPANT_COLUMNS)
    write_table(folder / "quality_channels.tsv", channel_rows(rows), CHANNEL_COLUMNS)
    optional = CONTENT_COLUMNS if "gaze_content" in units else ()
    write_table(options.output, rows, (*MANIFEST_COLUMNS, *FACE_COLUMNS, *EYE_COLUMNS, *optional))


def _status(options: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.table import Table

    from smad_features.later_stages import Later
    from smad_features.status import STATES, find_status

    config, clips = _read(options)
    fingerprints = Fingerprints(None if options.rehash else FINGERPRINTS)
    plan = plan_units(clips, config, fingerprints)
    status = find_status(plan, Later(clips, config, fingerprints), root=Path(config["clips"]).parent.resolve())
    fingerprints.save()
    if options.json:
        said = {"stages": status.stages, "clips": status.clips, "why": status.causes, "jobs": status.jobs}
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
    return 1 if status.causes else 0


def _verify(options: argparse.Namespace) -> int:
    from smad_features.cache import CacheError, read_unit, verify_cache

    _, clips = _read(options)
    damage = []
    for files in unit_files(clips).values():
        for path in files.values():
            try:
                if path.exists():
                    read_unit(path)
            except CacheError as error:
                damage.append(str(error))
    cache = RESULTS / "cache.zarr"
    if cache.exists():
        mend = "delete results/cache.json and run the workflow again"
        damage += [f"{sentence}; to mend it, {mend}" for sentence in verify_cache(cache)]
    print("\n".join(damage) or "every checksum is right")
    return 1 if damage else 0


def _inspect(options: argparse.Namespace) -> int:
    from smad_features.film_strip import draw_inspection, write_png
    from smad_features.inspect import InspectionError, inspect_clip

    config, clips = _read(options)
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


def _read(options: argparse.Namespace) -> tuple[dict[str, Any], list[Clip]]:
    config = load_config(options.configfile)
    return config, read_clips(Path(config["clips"]))


def _manifest() -> list[dict[str, str]]:
    import csv

    with (RESULTS / "clips.tsv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


if __name__ == "__main__":
    sys.exit(main())
