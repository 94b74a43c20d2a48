"""One participant's unit of a stage: made clip by clip, and what has not changed is taken over from the old one."""

from __future__ import annotations

import math
import os
import sys
import traceback
import zlib
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from smad_features import schema
from smad_features.cache import CacheError, Unit, read_unit, write_unit
from smad_features.failures import Failure, LibraryFailure, failure_of, reason_of
from smad_features.fingerprints import NO_SUCH_FILE, Fingerprints
from smad_features.freshness import (
    STAGES,
    clip_inputs,
    clip_record,
    common_record,
    planned_digest,
    read_unit_attributes,
    unit_path,
)
from smad_features.manifest import Clip
from smad_features.model_files import find_models

Arrays = dict[str, np.ndarray]
Quality = dict[str, Any]


class StaleKeyError(RuntimeError):
    """A source changed between the planning of a job and its end."""


def make_faces(clips: Sequence[Clip], config: dict[str, Any], output: Path, *, root: Path, key: str | None) -> None:
    """Write the unit of one participant's face crops to ``output``.

    Parameters
    ----------
    clips
        All clips of the participant.
    root
        Folder that paths in messages are relative to: the table's.
    key
        The digest that this unit was planned under; None = do not compare.

    Raises
    ------
    ModelFileError
        No model file.
    StaleKeyError
        A source changed meanwhile.
    LibraryFailure
        Clips failed for a reason that says nothing about them.
    """
    from smad_features.face_finder import FaceFinder
    from smad_features.faces import extract_faces
    from smad_features.video import VideoError, read_frames

    settings = config["face"]
    specs = schema.face_arrays(frames=settings["frames"], size=settings["size"])
    if settings["align"] == "none":
        opened: Any = nullcontext()
    else:
        files = find_models(settings)
        opened = FaceFinder(
            files[settings["model"]],
            full_range=files.get("full_range"),
            look=settings["range"],
            min_score=settings["min_score"],
        )
    with opened as finder:

        def make(clip: Clip, source: Path) -> tuple[Arrays, Quality]:
            frames = read_frames(source, count=settings["frames"], start=clip.start, end=clip.end, **config["video"])
            arrays, quality = extract_faces(frames, finder, settings)
            return arrays, quality | frames.facts

        _make("faces", clips, config, output, specs=specs, make=make, useless=VideoError, root=root, key=key)


def make_eyes(clips: Sequence[Clip], config: dict[str, Any], output: Path, *, root: Path, key: str | None) -> None:
    """Write the unit of one participant's eye movement and gaze to ``output``. The rest as `make_faces`."""
    from smad_features.cleaning import clean
    from smad_features.eyes import resample
    from smad_features.recordings import RecordingError, read_recording

    settings = config["eye"]
    channels = schema.CHANNELS[settings["channels"]]
    specs = schema.eye_arrays(steps=settings["steps"], channels=len(channels))

    def make(clip: Clip, source: Path) -> tuple[Arrays, Quality]:
        recording = read_recording(source, settings=settings)
        start, end = _span(recording, clip, settings, source)
        recording, counts = clean(recording, settings)
        resampled = resample(
            recording,
            start=start,
            end=end,
            offset=settings["offset"],
            steps=settings["steps"],
            channels=channels,
            method=settings["method"],
            max_gap=settings["max_gap"],
            screen=tuple(settings["screen"]),
            stimulus_area=settings["stimulus_area"],
            seed=settings["seed"] + zlib.crc32(clip.clip.encode()),
        )
        if not resampled["quality"]["eye_cover"] > 0:
            raise RecordingError(
                source,
                f"no sample lies in the clip's span, {clip.start or 0:g} s to {clip.end or math.inf:g} s of the video:"
                f" the recording lasts {recording.time[-1]:.3f} s, `eye.offset` is {settings['offset']:g} s",
            )
        quality = resampled["quality"]
        said = {"eye_tracker": recording.kind, "eye_declared_rate": recording.declared_rate}
        short = {"eye_short": int(quality["eye_cover"] < settings["min_cover"])}
        return {name: resampled[name] for name in specs}, {**said, **quality, **short, **counts}

    _make("eyes", clips, config, output, specs=specs, make=make, useless=RecordingError, root=root, key=key)


def make_gaze_content(
    clips: Sequence[Clip],
    config: dict[str, Any],
    output: Path,
    *,
    root: Path,
    key: str | None,
    results: Path = Path("results"),
) -> None:
    """Write the unit of what one participant looked at to ``output``. The rest as `make_faces`.

    Parameters
    ----------
    results
        The folder of the participant's other two units, which are read.

    Raises
    ------
    CacheError
        One of those is not there, damaged, or lacks a clip.
    """
    from smad_features.gaze_content import extract_gaze_content
    from smad_features.video import VideoError

    settings = config["face"]
    paths = {stage: unit_path(stage, clips[0].participant, results=results) for stage in ("faces", "eyes")}
    units = {stage: read_unit(path) for stage, path in paths.items()}
    for stage, unit in units.items():
        if lacking := [clip.clip for clip in clips if clip.clip not in unit.clips]:
            raise CacheError(f"{paths[stage]}: it lacks clip {lacking[0]}; make it again first")

    def make(clip: Clip, source: Path) -> tuple[Arrays, Quality]:
        rows = {stage: unit.clips.index(clip.clip) for stage, unit in units.items()}
        quality = units["eyes"].quality[clip.clip]
        return extract_gaze_content(
            source,
            units["faces"].arrays["face_time"][rows["faces"]],
            units["eyes"].arrays["gaze"][rows["eyes"]],
            start=clip.start or 0.0,
            steps=(quality.get("eye_start"), quality.get("eye_end")),
            offset=config["gaze"]["stimulus_offset"],
            size=settings["size"],
            frame_rate=config["video"]["frame_rate"],
            max_lost=config["video"]["max_lost"],
        )

    specs = schema.gaze_content_arrays(frames=settings["frames"], size=settings["size"])
    inputs = clip_inputs(STAGES["gaze_content"], {stage: read_unit_attributes(path) for stage, path in paths.items()})
    _make(
        "gaze_content", clips, config, output, specs=specs, make=make, useless=VideoError, root=root, key=key,
        inputs=inputs,
    )  # fmt: skip


def _span(recording: Any, clip: Clip, settings: dict[str, Any], source: Path) -> tuple[float | None, float | None]:
    """The clip's span in seconds of its video: the table's, else between the events that the settings name."""
    from smad_features.recordings import RecordingError

    def first(name: str, after: float) -> float:
        times = [event.time for event in recording.events if event.name == name and event.time > after]
        if not times:
            found = ", ".join(sorted({event.name for event in recording.events})[:8]) or "none"
            raise RecordingError(source, f"no event {name!r} that could bound the clip; its events: {found}")
        return times[0]

    start, end, offset = clip.start, clip.end, settings["offset"]
    if start is None and settings["start_event"] is not None:
        start = first(settings["start_event"], -math.inf) - offset
    if end is None and settings["end_event"] is not None:
        end = first(settings["end_event"], -math.inf if start is None else start + offset) - offset
    return start, end


def _make(
    stage_name: str,
    clips: Sequence[Clip],
    config: dict[str, Any],
    output: Path,
    *,
    specs: dict[str, schema.Array],
    make: Callable[[Clip, Path], tuple[Arrays, Quality]],
    useless: type[ValueError],
    root: Path,
    key: str | None,
    inputs: dict[str, str] | None = None,
) -> None:
    stage = STAGES[stage_name]
    common = common_record(stage, config)
    old = _old_unit(output, common)
    read_anew = Fingerprints(None)  # what was read is what counts, not what is remembered of it
    arrays = {name: spec.empty(len(clips)) for name, spec in specs.items()}
    states: dict[str, dict[str, str]] = {}
    quality: dict[str, Quality] = {}
    records: dict[str, Any] = {}
    failures: list[Failure] = []
    for row, clip in enumerate(clips):
        records[clip.clip] = clip_record(stage, clip, read_anew, inputs)
        if old is not None and old.record["clips"].get(clip.clip) == records[clip.clip]:
            place = old.clips.index(clip.clip)
            made: Arrays | None = {name: old.arrays[name][place] for name in specs}
            states[clip.clip], quality[clip.clip] = old.states[clip.clip], old.quality[clip.clip]
            how = "unchanged, taken over"
        else:
            try:
                made, states[clip.clip], quality[clip.clip] = _make_clip(clip, stage.file_column, make, useless, root)
            except Exception as error:  # the others are tried too: how many fail tells a bad library from a rare clip
                source = getattr(clip, stage.file_column)
                failures.append(failure_of(error, stage=stage_name, clip=clip.clip, source=source))
                if all(failure.reason != failures[-1].reason for failure in failures[:-1]):
                    traceback.print_exc()
                print(f"{stage_name}: {clip.clip}: {failures[-1].message}", file=sys.stderr)
                continue
            if clip_record(stage, clip, read_anew, inputs) != records[clip.clip]:
                raise StaleKeyError(f"clip {clip.clip}: its {stage.file_column} changed while it was read; run again")
            how = states[clip.clip]["reason"] or states[clip.clip]["state"]
        if made is not None:
            schema.check_clip(clip.clip, made, specs)
            for name in specs:
                arrays[name][row] = made[name]
        print(f"{stage_name}: {clip.clip}: {how}", file=sys.stderr)
    if failures:
        raise LibraryFailure(failures)
    record = {"stage": stage.name, "participant": clips[0].participant, **common, "clips": records}
    if key is not None and planned_digest(record) != key:
        raise StaleKeyError(
            f"participant {clips[0].participant}: a source, setting or library is not what it was when this run began;"
            " run again"
        )
    write_unit(output, Unit(clips[0].participant, [c.clip for c in clips], arrays, states, quality, record), specs)


def _make_clip(
    clip: Clip,
    column: str,
    make: Callable[[Clip, Path], tuple[Arrays, Quality]],
    useless: type[ValueError],
    root: Path,
) -> tuple[Arrays | None, dict[str, str], Quality]:
    """Arrays, state and quality of one clip. Only what is wrong with the file itself becomes its state."""
    source: Path | None = getattr(clip, column)
    if source is None:
        return None, {"state": "missing", "reason": ""}, {}
    named = f"{column} {os.path.relpath(source, root)}"
    cause: dict[str, str] = {}
    try:
        if source.exists() and not (source.is_file() or source.is_dir()):  # a pipe would never end
            return None, {"state": "failed", "reason": f"{named}: it is neither a file nor a folder"}, {}
        arrays, quality = make(clip, source)
    except PermissionError:
        reason = "the file may not be read (permission denied)"
    except IsADirectoryError:
        reason = "it is a folder; want a file"
    except useless as error:
        reason = str(error).removeprefix(f"{source.name}: ")
        if getattr(error, "library", False):  # the file may be sound: another build of the library would tell
            cause = {"cause": reason_of(error, clip=clip.clip, source=source)}
    except Exception as error:
        if isinstance(error, OSError) and error.errno in NO_SUCH_FILE:
            return None, {"state": "failed", "reason": f"{named}: no such file"}, {}
        error.add_note(f"This happened at clip {clip.clip}, {column} {source}; it says nothing about the clip itself.")
        raise
    else:
        return arrays, {"state": "ok", "reason": ""}, quality
    return None, {"state": "failed", "reason": f"{named}: {reason}", **cause}, {}


def _old_unit(path: Path, common: dict[str, Any]) -> Unit | None:
    """The unit that stands there, if its clips may be taken over: made with the same settings, code and libraries."""
    found = read_unit_attributes(path)
    if found is None or {key: found["record"].get(key) for key in common} != common:
        return None
    try:
        return read_unit(path)
    except CacheError as error:
        print(f"{error}: nothing is taken over from it", file=sys.stderr)
        return None
