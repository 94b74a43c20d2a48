"""The commands that the workflow's rules run, one a rule; each returns its exit status."""

from __future__ import annotations

import argparse
import json
import socket
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

from smad_features import schema
from smad_features.atomic import check_writable
from smad_features.failures import (
    LibraryFailure,
    failure_of,
    forget_failures,
    note_failures,
    read_failures,
    too_many,
)
from smad_features.freshness import (
    STAGES,
    Stage,
    common_path,
    common_record,
    explain_common,
    read_key,
    read_unit_attributes,
    unit_files,
    unit_path,
)
from smad_features.manifest import Clip, TableError
from smad_features.privacy import TERMS
from smad_features.shared_jobs import read_list
from smad_features.study import RESULTS, read_manifest, read_study
from smad_features.turns import hold_lock


def make_units(options: argparse.Namespace) -> int:
    """Make a stage's unit of one participant, or of all whom a job's list names: one that fails holds up none."""
    study = read_study(options.configfile)
    stage = STAGES[options.stage]
    in_a_run = options.key is not None or options.list is not None  # by hand, no other job's failure matters
    if in_a_run and (causes := _other_than_planned(stage, study[0])):
        node = socket.gethostname()
        print(
            f"smad-features {options.command}: not begun, as {node} is not as this run was planned:"
            f" {'; '.join(causes)}. Give {node} the same environment, or begin the run there",
            file=sys.stderr,
        )
        return 1
    if options.list is None:
        key = None if options.key is None else read_key(options.key)
        output = options.output or unit_path(stage.name, options.participant)
        return _make_unit(options, stage, study, options.participant, output=output, key=key)
    failed = 0
    for participant, digest in read_list(options.list).items():
        output = unit_path(stage.name, participant)
        # Made meanwhile: by this job's first attempt, or by one that was believed dead.
        if not stage.inputs and (read_unit_attributes(output) or {}).get("digest") == digest:
            print(f"{stage.name}: participant {participant}: made already", file=sys.stderr)
            continue
        try:
            failed += _make_unit(options, stage, study, participant, output=output, key=digest)
        except Exception:  # said and counted; what hits one participant need not hit the next
            traceback.print_exc()
            failed += 1
    return 1 if failed else 0


def _other_than_planned(stage: Stage, config: dict[str, Any]) -> list[str]:
    """How settings, code, libraries and models here differ from those that the run was planned with."""
    try:
        planned = json.loads(common_path(stage.name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    return explain_common(planned, common_record(stage, config))


def _make_unit(
    options: argparse.Namespace,
    stage: Stage,
    study: tuple[dict[str, Any], list[Clip]],
    participant: str,
    *,
    output: Path,
    key: str | None,
) -> int:
    config, clips = study
    own = [clip for clip in clips if clip.participant == participant]
    if not own:
        raise TableError(f"{config['clips']}: no participant {participant!r}")
    if not stage.has_unit(own):
        raise TableError(f"{config['clips']}: no clip of participant {participant} names a {stage.file_column}")
    in_a_run = key is not None
    if in_a_run and (stop := too_many(read_failures(), clips=len(clips), max_failed=config["run"]["max_failed"])):
        print(f"smad-features {options.command}: not begun, as the run stops: {stop}", file=sys.stderr)
        return 1

    from smad_features.cache import CacheError  # these take longer than all the above
    from smad_features.units import StaleKeyError, make_eyes, make_faces, make_gaze_content

    make = {"faces": make_faces, "eyes": make_eyes, "gaze_content": make_gaze_content}[stage.name]
    check_writable(output.parent)  # before minutes of work, not after
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
            note_failures(participant, error.failures)
        print(f"smad-features {options.command}: {error}", file=sys.stderr)
        return 1
    except Exception as error:  # before the first clip or after the last: none of them was made
        if in_a_run:
            failures = [failure_of(error, stage=stage.name, clip=clip.clip) for clip in own]
            with suppress(OSError):  # a full disk takes the note no more than the unit
                note_failures(participant, failures)
        raise
    if in_a_run:
        forget_failures(stage.name, participant)
    return 0


def run_list_clips(options: argparse.Namespace) -> int:
    """Write the manifest."""
    from smad_features.quality import CONTENT_COLUMNS, MANIFEST_COLUMNS, list_clips, write_table

    config, clips = read_study(options.configfile)
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


def run_pack(options: argparse.Namespace) -> int:
    """Pack the units of all clips that are ok."""
    import dask

    from smad_features.cache import CacheError, pack
    from smad_features.scheduler import SchedulerError
    from smad_features.summary import place_of, read_summary, remembered_places

    config, clips = read_study(options.configfile)
    rows = [(row["participant"], row["clip"]) for row in read_manifest() if row["status"] == "ok"]
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
        "terms": TERMS,
    }
    try:
        lock = hold_lock(Path(".smad/pack.lock"))  # a run that was killed may have left its job behind
    except BlockingIOError as error:
        print(f"smad-features pack: {error}", file=sys.stderr)
        return 1
    where = {"store": config["cache"]["store"], "scheduler": config["dask"]["scheduler"]}
    try:
        with lock, dask.config.set(num_workers=options.threads):
            digest = pack(RESULTS, rows, list(files.values()), specs, attributes, **where)
    except (CacheError, SchedulerError) as error:
        print(f"smad-features pack: {error}", file=sys.stderr)
        return 1
    place = place_of(RESULTS, read_summary(RESULTS)) if where["store"] else "results/cache.zarr"
    print(f"{place}: {len(rows)} clips, digest {digest}", file=sys.stderr)
    for other in remembered_places(RESULTS):
        if other != where["store"]:
            print(
                f"{other}: may still hold what was packed there before, persons' data: remove it there", file=sys.stderr
            )
    return 0


def run_quality(options: argparse.Namespace) -> None:
    """Write the three tables of quality, participant by participant: 100,000 clips have four million channels."""
    from smad_features.quality import (
        CONTENT_COLUMNS,
        EYE_COLUMNS,
        FACE_COLUMNS,
        MANIFEST_COLUMNS,
        quality_rows,
        table_written,
    )
    from smad_features.quality_parts import CHANNEL_COLUMNS, PARTICIPANT_COLUMNS, channel_rows, participant_rows

    _, clips = read_study(options.configfile)
    units = unit_files(clips)
    groups: dict[str, list[dict[str, str]]] = {}
    for row in read_manifest():
        groups.setdefault(row["participant"], []).append(row)
    folder = options.output.parent
    optional = CONTENT_COLUMNS if "gaze_content" in units else ()
    with (
        table_written(options.output, (*MANIFEST_COLUMNS, *FACE_COLUMNS, *EYE_COLUMNS, *optional)) as write_clips,
        table_written(folder / "quality_channels.tsv", CHANNEL_COLUMNS) as write_channels,
        table_written(folder / "quality_participants.tsv", PARTICIPANT_COLUMNS) as write_participants,
    ):
        for participant, manifest in sorted(groups.items()):
            own = {name: {p: files[p] for p in (participant,) if p in files} for name, files in units.items()}
            rows = quality_rows(manifest, units=own)
            write_clips(rows)
            write_channels(channel_rows(rows))
            write_participants(participant_rows(rows))
