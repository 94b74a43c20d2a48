"""What there is to see of one clip: what its units hold, beside its video, recording and stimulus, read anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from smad_features.cache import CacheError, read_unit
from smad_features.cleaning import clean
from smad_features.fingerprints import Fingerprints
from smad_features.freshness import STAGES, clip_record, common_record, explain, unit_path
from smad_features.manifest import Clip
from smad_features.page import plain
from smad_features.recordings import RecordingError, read_recording
from smad_features.traces import Trace, step_edges, traces_of
from smad_features.video import VideoError, read_frames, segment_centres

_AN_INSTANT = 1e-3  # seconds: shorter than any frame is shown


class InspectionError(ValueError):
    """There is nothing to draw of a clip; the message says what is known of it, and what to do."""


@dataclass(frozen=True)
class Part:
    """What the unit of one stage holds of a clip.

    Attributes
    ----------
    state
        ok, missing, failed, or "not made": there is no unit that knows it.
    reason
        Why it is not ok.
    arrays
        Its rows; empty unless it is ok.
    quality
        What the stage noted of it.
    settings
        The sections of the configuration under which it was made.
    start, end
        Its span when it was made, in seconds of the video; None = the file's own.
    """

    state: str = "missing"
    reason: str = ""
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    quality: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    start: float | None = None
    end: float | None = None

    @property
    def is_ok(self) -> bool:
        """There is something of it to draw."""
        return self.state == "ok"


@dataclass(frozen=True)
class Inspection:
    """What there is to see of a clip. Times in seconds from its start.

    Attributes
    ----------
    times : (T,) float64
        Of what is shown side by side: the face frames; without them as many moments of the eye movement, where there
        is a stimulus to be shown.
    pictures
        (H, W, 3) uint8 RGB, a face frame each, as the video gives them now; empty where it cannot be read any more.
    traces
        Channels over time; empty without eye movement.
    stimulus
        What was on the screen at ``times``: pictures as above, or why there is none; empty where no stimulus is named
        or it cannot be read.
    stimulus_times : (T,) float64
        ``times`` on the stimulus' own clock.
    warnings
        Why the picture may not show what the files hold, or the settings ask for: a sentence each.
    """

    clip: Clip
    faces: Part
    eyes: Part
    times: np.ndarray
    pictures: list[np.ndarray] = field(default_factory=list)
    traces: list[Trace] = field(default_factory=list)
    stimulus: list[np.ndarray | str] = field(default_factory=list)
    stimulus_times: np.ndarray = field(default_factory=lambda: np.empty(0))
    warnings: list[str] = field(default_factory=list)


def inspect_clip(
    name: str, clips: Sequence[Clip], config: dict[str, Any], fingerprints: Fingerprints, *, results: Path
) -> Inspection:
    """A clip's faces and eye movement from its participant's units, beside their sources, read anew as the units were.

    Raises
    ------
    InspectionError
        The clip is unknown, or neither its face nor its eye movement is there to be drawn.
    """
    clip = next((clip for clip in clips if clip.clip == name), None)
    if clip is None:
        near = get_close_matches(name, [clip.clip for clip in clips], n=3)
        hint = f"; near to it: {', '.join(near)}" if near else ""
        raise InspectionError(f"{config['clips']}: no clip {name!r} among its {len(clips)}{hint}")
    notes: list[str] = []
    faces, eyes = (
        _read_part(stage, clip, config, fingerprints, results=results, notes=notes) for stage in ("faces", "eyes")
    )
    if not (faces.is_ok or eyes.is_ok):
        raise InspectionError(_nothing_to_draw(clip, faces, eyes, notes))

    pictures = _read_pictures(clip, faces, config, notes) if faces.is_ok else []
    traces = _read_traces(clip, eyes, config, notes) if eyes.is_ok else []
    if faces.is_ok:
        times = faces.arrays["face_time"]
    elif traces and clip.stimulus is not None:
        times = segment_centres(float(traces[0].edges[0]), float(traces[0].edges[-1]), config["face"]["frames"])
    else:
        times = np.empty(0)
    start = (faces if faces.is_ok else eyes).start or 0.0
    stimulus_times = start + times + config["gaze"]["stimulus_offset"]
    stimulus: list[np.ndarray | str] = []
    if clip.stimulus is not None:
        stimulus = _read_stimulus(clip.stimulus, stimulus_times, config, notes)
    return Inspection(clip, faces, eyes, times, pictures, traces, stimulus, stimulus_times, notes)


def span_of(part: Part) -> str:
    """A part's span, in words."""
    return f"{part.start or 0:g} s to " + ("its end" if part.end is None else f"{part.end:g} s")


def _read_part(
    stage_name: str, clip: Clip, config: dict[str, Any], fingerprints: Fingerprints, *, results: Path, notes: list[str]
) -> Part:
    stage, name = STAGES[stage_name], clip.clip
    source = getattr(clip, stage.file_column)
    drawn = {"faces": "crops", "eyes": "traces"}[stage_name]
    path = unit_path(stage_name, clip.participant, results=results)
    how = (
        "run `snakemake --cores 1 features`,"
        f" or `smad-features {stage_name} {clip.participant}` for this participant alone"
    )
    nothing = Part(start=clip.start, end=clip.end)
    reason = ""
    if not path.exists():
        reason = f"{path} is not there yet; {how}"
    else:
        try:
            unit = read_unit(path)
        except CacheError as error:
            reason = str(error)
        else:
            if name not in unit.clips:
                reason = f"{path} was made before this clip stood in {config['clips']}; {how}"
    if reason:
        if source is None:
            return nothing  # and nothing will be there when it is made
        notes.append(f"No {drawn}: {reason}")
        return Part("not made", reason, start=clip.start, end=clip.end)

    record = unit.record["clips"][name]
    wanted = {**common_record(stage, config), "clips": {name: clip_record(stage, clip, fingerprints)}}
    made = {part: unit.record.get(part) for part in wanted} | {"clips": {name: record}}
    causes = explain(made, wanted, names={name: str(source)})
    notes += [f"STALE: {cause}; the {drawn} are from before, {how}" for cause in causes]
    state, row = unit.states[name], unit.clips.index(name)
    is_ok = state["state"] == "ok"
    return Part(
        state["state"],
        state["reason"],
        {array: values[row] for array, values in unit.arrays.items()} if is_ok else {},
        # What is told channel by channel would fill the page; it stands in quality_channels.tsv.
        {key: value for key, value in unit.quality[name].items() if not isinstance(value, dict)},
        unit.record["settings"],
        record["start"],
        record["end"],
    )


def _read_pictures(clip: Clip, faces: Part, config: dict[str, Any], notes: list[str]) -> list[np.ndarray]:
    settings = faces.settings
    try:
        if clip.video is None:
            raise VideoError(f"{config['clips']} names no video any more")
        frames = read_frames(
            clip.video, count=settings["face"]["frames"], start=faces.start, end=faces.end, **settings["video"]
        )
    except (VideoError, OSError) as error:
        notes.append(f"The frames are not shown, as the video cannot be read now: {error}")
        return []
    return frames.pictures


def _read_traces(clip: Clip, eyes: Part, config: dict[str, Any], notes: list[str]) -> list[Trace]:
    settings, start = {**config["eye"], **eyes.settings["eye"]}, eyes.start or 0.0
    if "eye_start" not in eyes.quality:
        notes.append("No traces: the unit is of an earlier version, which did not note when its steps are")
        return []
    recording, reason = None, f"{config['clips']} names none any more"
    if clip.eye is not None:
        try:
            recording, _ = clean(read_recording(clip.eye, settings=settings), settings)
        except (RecordingError, OSError) as error:
            reason = str(error)
    if recording is None:
        notes.append(f"The traces are the cached steps alone, as the recording cannot be read now: {reason}")
    edges = step_edges(eyes.quality, steps=len(eyes.arrays["gaze"]), start=start)
    return traces_of(eyes.arrays, eyes.quality, settings, edges=edges, start=start, recording=recording)


def _read_stimulus(path: Path, times: np.ndarray, config: dict[str, Any], notes: list[str]) -> list[np.ndarray | str]:
    """The stimulus' frames at these times of its own clock; empty, and a note, where it gives none."""
    shown: list[np.ndarray | str] = []
    length, rate = float("inf"), config["video"]["frame_rate"]
    for time in times.tolist():
        if time < 0:
            shown.append("the stimulus has not begun")
            continue
        if time >= length:
            shown.append(f"the stimulus ended at {length:.3f} s")
            continue
        try:  # a moment alone may lie at the very end, of which nearly all is then "lost"
            frames = read_frames(path, count=1, start=time, end=time + _AN_INSTANT, max_lost=1.0, frame_rate=rate)
        except (VideoError, OSError) as error:
            shown.append(str(error))
            continue
        length = frames.facts["frames_listed"] / frames.facts["video_fps"]
        shown.append(frames.pictures[0])
    if any(isinstance(one, np.ndarray) for one in shown):
        return shown
    reasons = "; ".join(dict.fromkeys(str(one) for one in shown))
    notes.append(f"The stimulus is not shown, as it cannot be read: {path}: {reasons}")
    return []


def _nothing_to_draw(clip: Clip, faces: Part, eyes: Part, notes: list[str]) -> str:
    known = [f"clip {clip.clip}, participant {clip.participant}: nothing of it can be drawn"]
    for part, called, kind, source in (
        (faces, "its face", "video", clip.video),
        (eyes, "its eye movement", "recording", clip.eye),
    ):
        known.append(f"  {called} is {part.state}: {part.reason or f'no {kind} is named'}")
        if source is not None:
            known.append(f"  {kind} {source}, {span_of(part)}")
        known += [f"  {key} {plain(value)}" for key, value in part.quality.items()]
    return "\n".join([*known, *(f"  {note}" for note in notes if note.startswith("STALE"))])
