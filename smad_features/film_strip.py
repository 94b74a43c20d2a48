"""One clip on one picture: frames and crops, what was on the screen and looked at, and the channels over time."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np

from smad_features import schema
from smad_features.atomic import written_whole
from smad_features.face_drawing import FOUND, LEFT, NOSE, NOT_FOUND, RIGHT, draw_crop, draw_frame, scaled
from smad_features.gaze_trail import GAZE, OFF, TRAIL, Trail, draw_gaze, is_off, trail_at
from smad_features.inspect import Inspection, Part, span_of
from smad_features.page import GAP, INK, LINE, MARGIN, PAPER, Page, length_of, plain
from smad_features.trace_drawing import (
    HATCH,
    MOVEMENTS,
    SAMPLES,
    STEPS,
    TICK,
    Axis,
    draw_marks,
    draw_trace,
    row_of,
    scales,
    value_ticks,
)
from smad_features.traces import MOVEMENT

_ALARM, _GREY = (190, 0, 0), (110, 110, 118)
_RED = (215, 110, 105)  # of words about what is shaded in a light red

_WIDTH = (1012, 1600)  # least and most; frames that do not fit go into the next row
_FEW = 16  # frames that are drawn large
_EYES_ALONE = 4  # columns' room that the traces have where there are no frames
_LABELS = 190  # pixels left of the traces
_TRACE, _BAND, _BETWEEN = 84, 30, 6  # heights of a trace and of a band of codes, and what lies between two
_SMALL, _SMALLEST = 112, 36  # side of a crop above the traces, at most and at least


def draw_inspection(inspection: Inspection) -> np.ndarray:
    """The whole picture, (H, W, 3) uint8 RGB."""
    count = len(inspection.times) or _EYES_ALONE
    cell = 320 if count <= _FEW else 200  # the width of a frame, and of its crop beside the one with points
    columns = min(count, max(1, (_WIDTH[1] - 2 * MARGIN + GAP) // (cell + GAP)))
    page = Page(max(_WIDTH[0], 2 * MARGIN + columns * (cell + GAP) - GAP))
    _write_facts(page, inspection)
    _write_legend(page, inspection)
    page.skip(GAP)
    for first in range(0, len(inspection.times), columns):
        shown = range(first, min(first + columns, len(inspection.times)))
        if inspection.faces.is_ok:
            _put_faces(page, inspection, shown, cell=cell)
        if inspection.stimulus:
            _put_stimulus(page, inspection, shown, cell=cell)
    if inspection.traces:
        _put_traces(page, inspection)
    page.write("Derived data of a person: not to be passed on where the terms of the data forbid it, as SMAD's do.")
    return page.drawn()


def write_png(path: Path, picture: np.ndarray) -> None:
    """Write an RGB picture, whole or not at all."""
    done, data = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    if not done:
        raise ValueError(f"{path}: OpenCV cannot write a picture of {picture.shape[1]} x {picture.shape[0]} as PNG")
    with written_whole(path) as beside:
        beside.write_bytes(data.tobytes())


def _write_facts(page: Page, inspection: Inspection) -> None:
    clip = inspection.clip
    page.write(f"clip {clip.clip}, participant {clip.participant}", size=18, height=28, weight="bold")
    for called, part, kind, source in (
        ("face", inspection.faces, "video", clip.video),
        ("eye movement", inspection.eyes, "recording", clip.eye),
    ):
        named = f"{kind} {source}, {span_of(part)}" if source else f"no {kind} is named"
        state = f"{called} {part.state}" + (f": {part.reason}" if part.state == "failed" else "")
        is_bad = part.state in ("failed", "not made")
        page.write(f"{state}  -  {named}", colour=_ALARM if is_bad else INK, weight="bold" if is_bad else "normal")
    if clip.stimulus is not None:
        page.write(f"stimulus {clip.stimulus}")
    for warning in inspection.warnings:
        page.write(warning, colour=_ALARM, weight="bold")
    for part in (inspection.faces, inspection.eyes):
        if part.quality:
            page.grid({key: plain(value) for key, value in part.quality.items()})


def _write_legend(page: Page, inspection: Inspection) -> None:
    if inspection.faces.is_ok:
        right, left = "subject's right eye, mouth corner", "subject's left eye, mouth corner"
        page.write_row(
            [(f"● {right}", RIGHT), (f"● {left}", LEFT), ("● nose tip", NOSE), ("□ crop, thick edge = top", FOUND),
             ("- - no face found", NOT_FOUND)]
        )  # fmt: skip
    if inspection.stimulus and inspection.traces:
        page.write_row(
            [("◉ gaze on the stimulus at that time", GAZE), (f"● cached steps of the {TRAIL:g} s before", GAZE),
             ("◉ off the stimulus, drawn on its border", OFF)]
        )  # fmt: skip


def _put_faces(page: Page, inspection: Inspection, shown: range, *, cell: int) -> None:
    """A row of frames, and their crops below them."""
    arrays = inspection.faces.arrays
    pictures = inspection.pictures or [np.full((9, 16, 3), 225, np.uint8)] * len(inspection.times)
    drawn_in = arrays if inspection.pictures else _nothing(arrays)
    crop_side = (cell - GAP) // 2
    sizes = [_scale(picture, cell) for picture in pictures]
    high = max(round(picture.shape[0] * scale) for picture, scale in zip(pictures, sizes, strict=True))
    top = page.height
    page.skip(high + crop_side + 2 * LINE + 3 * GAP)
    for column, i in enumerate(shown):
        x = MARGIN + column * (cell + GAP)
        page.paste(draw_frame(pictures[i], drawn_in, i, scale=sizes[i]), x, top)
        is_found, score = bool(arrays["face_found"][i]), arrays["face_score"][i]
        page.put(f"{i + 1}  at {inspection.times[i]:.3f} s", x, top + high + 4)
        said = "found" + ("" if math.isnan(score) else f", score {score:.2f}") if is_found else "NO FACE FOUND"
        page.put(said, x, top + high + 4 + LINE, colour=INK if is_found else NOT_FOUND,
                 weight="normal" if is_found else "bold")  # fmt: skip
        page.paste(_crop(arrays, i, side=crop_side), x, top + high + 2 * LINE + GAP)
        if np.isfinite(arrays["face_points"][i]).any():
            drawn = draw_crop(arrays, i, side=crop_side)
            page.paste(drawn, x + cell - crop_side, top + high + 2 * LINE + GAP)


def _put_stimulus(page: Page, inspection: Inspection, shown: range, *, cell: int) -> None:
    """A row of the stimulus' frames with the gaze trail, under the face frames of the same moments."""
    real = [one for one in inspection.stimulus if not isinstance(one, str)]
    blank = np.full(real[0].shape, 225, np.uint8)
    is_any = any(not isinstance(inspection.stimulus[i], str) for i in shown)
    high = max(round(picture.shape[0] * _scale(picture, cell)) for picture in real) if is_any else 0
    top = page.height
    page.skip(high + 2 * LINE + 3 * GAP)
    for column, i in enumerate(shown):
        x, one = MARGIN + column * (cell + GAP), inspection.stimulus[i]
        trail = None
        if inspection.traces:
            trail = trail_at(float(inspection.times[i]), inspection.eyes.arrays["gaze"], inspection.traces[0].edges)
        if isinstance(one, str):
            said, is_bad = one, True
            drawn = scaled(blank, _scale(blank, cell))
        else:
            said, is_bad = _say_gaze(trail)
            drawn = scaled(one, _scale(one, cell)) if trail is None else draw_gaze(one, trail, scale=_scale(one, cell))
            if trail is None or np.isnan(trail.now).any():
                drawn[4 : 6 + LINE, 4 : 12 + length_of("NO GAZE")] = PAPER
                page.put("NO GAZE", x + 8, top + 6, colour=OFF, weight="bold")
        if is_any:
            page.paste(drawn, x, top)
        page.put(f"{i + 1}  stimulus at {inspection.stimulus_times[i]:.3f} s", x, top + high + 4)
        page.put(_cut(said, cell), x, top + high + 4 + LINE, colour=OFF if is_bad else INK)


def _say_gaze(trail: Trail | None) -> tuple[str, bool]:
    """Where the gaze is, in words, and whether that is worth a look."""
    if trail is None or np.isnan(trail.now).any():
        return "no gaze at this time", True
    said = f"gaze {trail.now[0]:.2f}, {trail.now[1]:.2f}"
    return (f"{said}, off the stimulus", True) if is_off(trail.now) else (said, False)


def _put_traces(page: Page, inspection: Inspection) -> None:
    """Small crops at their times, and below them the channels over the same axis."""
    traces, times = inspection.traces, inspection.times
    axis = _axis(inspection, width=page.width - 2 * MARGIN - _LABELS)
    left = MARGIN + _LABELS
    page.write("over time, in seconds from the clip's start", height=LINE + 4, weight="bold")
    page.write_row(
        [("— samples, cleaned", SAMPLES), ("● cached step", STEPS), ("○ less than half of it observed", STEPS),
         ("■ lost", _RED), ("▨ bridged", _GREY), ("■ no steps here", HATCH)]
        + ([("┆ the moments above", TICK)] if len(times) else [])
        + ([("▬ the video", FOUND)] if inspection.faces.is_ok else [])
    )  # fmt: skip
    page.skip(GAP)
    _put_small_crops(page, inspection, axis, left=left)
    if inspection.faces.is_ok:
        filled = axis.columns(0.0, _length(inspection.faces, float(times[-1])))
        page.paste(np.full((3, filled.stop - filled.start, 3), FOUND, np.uint8), left + filled.start, page.height - 3)
    for trace, scale in zip(traces, scales(traces, axis), strict=True):
        height = _BAND if trace.kind == "category" else _TRACE
        page.paste(draw_trace(trace, axis, scale, height=height, marks=times), left, page.height)
        unit = "above samples, below steps" if trace.name == MOVEMENT else trace.unit
        page.put(_cut(trace.name.split(" (")[0], _LABELS), MARGIN, page.height, weight="bold")
        page.put(_cut(unit, _LABELS - (0 if trace.name == MOVEMENT else 40)), MARGIN, page.height + LINE, colour=_GREY)
        if trace.kind != "category":
            for value in value_ticks(scale):
                y = round(row_of(value, scale, height=height))
                page.put(f"{value:g}", left - 6 - length_of(f"{value:g}"), page.height + y - 8, colour=_GREY)
        page.skip(height + _BETWEEN)
        between = np.full((_BETWEEN, axis.width, 3), PAPER, np.uint8)
        draw_marks(between, axis, times)
        page.paste(between, left, page.height - _BETWEEN)
    for time in axis.ticks(12):
        x, said = left + round(float(axis.x(time))), f"{time:g} s"
        page.paste(np.full((_BETWEEN, 1, 3), INK, np.uint8), min(x, left + axis.width - 1), page.height - _BETWEEN)
        page.put(said, min(x - length_of(said) // 2, page.width - MARGIN - length_of(said)), page.height)
    page.skip(LINE + 4)
    if any(trace.name == MOVEMENT for trace in traces):
        names = {code: name for name, code in schema.EYE_MOVEMENT.items()}
        page.write_row([(f"■ {names[code]}", colour) for code, colour in MOVEMENTS.items()])
    page.skip(GAP)


def _put_small_crops(page: Page, inspection: Inspection, axis: Axis, *, left: int) -> None:
    """The crops, or without faces the numbers alone, each above its time; those that have no room are left out."""
    places = [left + float(axis.x(time)) for time in inspection.times]
    room = min(np.diff(places), default=float(_SMALL)) - 4
    side = int(np.clip(room, _SMALLEST, _SMALL)) if inspection.faces.is_ok else 0
    top, after = page.height, -math.inf
    page.skip(LINE + side + 6 if places else 0)
    for i, x in enumerate(places):
        wide = max(side, length_of(str(i + 1)))
        first = round(np.clip(x - wide / 2, left, left + axis.width - wide))
        if first < after:
            continue
        page.put(str(i + 1), round(x) - length_of(str(i + 1)) // 2, top, weight="bold")
        if side:
            page.paste(_crop(inspection.faces.arrays, i, side=side), first, top + LINE)
        after = first + wide + 2


def _axis(inspection: Inspection, *, width: int) -> Axis:
    """From the first to the last of what the clip's video and its steps hold."""
    edges = inspection.traces[0].edges
    ends = [float(edges[0]), float(edges[-1])]
    if inspection.faces.is_ok:
        ends += [0.0, _length(inspection.faces, float(inspection.times[-1]))]
    low, high = min(ends), max(ends)
    return Axis(low, high if high > low else low + 1.0, width)


def _length(faces: Part, last: float) -> float:
    """Seconds that a clip's video lasts, at least to its last frame."""
    listed, rate, start = faces.quality.get("frames_listed"), faces.quality.get("video_fps"), faces.start or 0.0
    end = faces.end if faces.end is not None else listed / rate if listed and rate else start
    return max(end - start, last)


def _crop(arrays: dict[str, np.ndarray], i: int, *, side: int) -> np.ndarray:
    crop = scaled(arrays["face"][i], side / len(arrays["face"][i]))
    if not arrays["face_found"][i]:
        cv2.rectangle(crop, (0, 0), (side - 1, side - 1), NOT_FOUND, 3)
    return crop


def _nothing(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays without what is drawn into a frame."""
    return arrays | {name: np.full_like(arrays[name], np.nan) for name in ("face_transform", "face_points")}


def _scale(picture: np.ndarray, cell: int) -> float:
    return float(min(cell / picture.shape[1], 1.25 * cell / picture.shape[0]))


def _cut(text: str, width: int) -> str:
    """The text, cut where it is wider."""
    letters = width // length_of("m") - 1
    return text if len(text) <= letters else text[: letters - 1] + "…"
