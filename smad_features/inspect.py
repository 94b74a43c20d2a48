"""One clip on one picture: its frames with crop and points drawn in, its crops, and how much of them to believe."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from smad_features.atomic import written_whole
from smad_features.cache import CacheError, read_unit
from smad_features.fingerprints import Fingerprints
from smad_features.freshness import STAGES, clip_record, common_record, explain, unit_path
from smad_features.manifest import Clip
from smad_features.page import GAP, INK, LINE, MARGIN, PAPER, Page
from smad_features.video import VideoError, read_frames

FOUND, NOT_FOUND = (0, 170, 70), (235, 110, 0)  # the crop's outline: RGB
# `schema.POINTS`: the subject's own right, left, and the nose between them; a mirrored picture shows at once.
RIGHT, LEFT, NOSE = (30, 110, 255), (235, 40, 60), (255, 215, 0)
POINT_COLOURS = (RIGHT, LEFT, NOSE, RIGHT, LEFT)
_ALARM = (190, 0, 0)

_WIDTH = (1012, 1600)  # least and most; frames that do not fit go into the next row
_FEW = 16  # frames that are drawn large


class InspectionError(ValueError):
    """There is nothing to draw of a clip; the message says what is known of it, and what to do."""


@dataclass(frozen=True)
class Inspection:
    """What there is to see of a clip.

    Attributes
    ----------
    arrays
        Its rows of `schema.face_arrays`.
    quality
        What the face stage noted of it.
    pictures
        (H, W, 3) uint8 RGB, a frame each, as the video gives them now; empty where it cannot be read any more.
    warnings
        Why the picture may not show what the file holds, or the settings ask for: a sentence each.
    """

    clip: Clip
    arrays: dict[str, np.ndarray]
    quality: dict[str, Any]
    pictures: list[np.ndarray]
    warnings: list[str] = field(default_factory=list)


def inspect_clip(
    name: str, clips: Sequence[Clip], config: dict[str, Any], fingerprints: Fingerprints, *, results: Path
) -> Inspection:
    """A clip's faces from its participant's unit, beside the frames of its video, read anew as the unit was.

    Raises
    ------
    InspectionError
        The clip is unknown, its unit is not there or damaged, or its face is missing or failed.
    """
    clip = next((clip for clip in clips if clip.clip == name), None)
    if clip is None:
        near = get_close_matches(name, [clip.clip for clip in clips], n=3)
        hint = f"; near to it: {', '.join(near)}" if near else ""
        raise InspectionError(f"{config['clips']}: no clip {name!r} among its {len(clips)}{hint}")
    path = unit_path("faces", clip.participant, results=results)
    how = f"run `snakemake --cores 1 features`, or `smad-features faces {clip.participant}` for this participant alone"
    if not path.exists():
        raise InspectionError(f"clip {name}: {path} is not there yet; {how}")
    try:
        unit = read_unit(path)
    except CacheError as error:
        raise InspectionError(f"clip {name}: {error}") from None
    if name not in unit.clips:
        raise InspectionError(f"clip {name}: {path} was made before this clip stood in {config['clips']}; {how}")
    stage = STAGES["faces"]
    wanted = {**common_record(stage, config), "clips": {name: clip_record(stage, clip, fingerprints)}}
    made = {part: unit.record.get(part) for part in wanted} | {"clips": {name: unit.record["clips"][name]}}
    causes = explain(made, wanted, names={name: str(clip.video)})
    notes = [f"STALE: {cause}; the crops are from before, {how}" for cause in causes]
    state, reason = unit.states[name]["state"], unit.states[name]["reason"]
    if state != "ok":
        known = [f"clip {name}: its face is {state}, so there is nothing to draw: {reason or 'no video is named'}"]
        known += [f"  participant {clip.participant}, video {clip.video or '(none)'}, {_span(clip)}"]
        known += [f"  {key} {_plain(value)}" for key, value in unit.quality[name].items()]
        raise InspectionError("\n".join(known + [f"  {note}" for note in notes]))

    row, settings = unit.clips.index(name), unit.record["settings"]
    try:
        if clip.video is None:
            raise VideoError(f"{config['clips']} names no video any more")
        span = {edge: unit.record["clips"][name][edge] for edge in ("start", "end")}
        pictures = read_frames(clip.video, count=settings["face"]["frames"], **span, **settings["video"]).pictures
    except (VideoError, OSError) as error:
        pictures = []
        notes.append(f"The frames are not shown, as the video cannot be read now: {error}")
    arrays = {array: values[row] for array, values in unit.arrays.items()}
    return Inspection(clip, arrays, unit.quality[name], pictures, notes)


def outline(transform: np.ndarray, *, size: int) -> np.ndarray:
    """(4, 2): the corners of a crop in source pixels, clockwise from its top left; pixel centres are whole numbers.

    ``transform`` is the (2, 3) source -> crop pixel, ``size`` the crop's side, whose edges lie at -0.5 and size - 0.5.
    """
    low, high = -0.5, size - 0.5
    corners = np.array([[low, low], [high, low], [high, high], [low, high]])
    return (corners - transform[:, 2]) @ np.linalg.inv(transform[:, :2]).T


def draw_frame(picture: np.ndarray, arrays: dict[str, np.ndarray], i: int, *, scale: float) -> np.ndarray:
    """Frame ``i`` of a clip, ``scale`` times as large, with its crop's outline and its points: uint8 RGB.

    The outline's thick edge is the crop's top. Dashed = no face was found here, and it is another frame's.
    """
    drawn = _scaled(picture, scale)
    width, height = drawn.shape[1::-1]
    is_found, transform = bool(arrays["face_found"][i]), arrays["face_transform"][i].astype(float)
    ratio = np.array([width, height]) / picture.shape[1::-1]
    if np.isfinite(transform).all():
        corners = (outline(transform, size=arrays["face"].shape[1]) + 0.5) * ratio - 0.5
        for edge in range(4):
            thick, colour = 2 if edge == 0 else 1, FOUND if is_found else NOT_FOUND
            _line(drawn, corners[edge], corners[(edge + 1) % 4], colour, thick=thick, is_dashed=not is_found)
    _draw_points(drawn, (arrays["face_points"][i].astype(float) + 0.5) * ratio - 0.5)
    return drawn


def draw_crop(arrays: dict[str, np.ndarray], i: int, *, side: int) -> np.ndarray:
    """The crop of frame ``i`` with its points, which the stored transform took there: (side, side, 3) uint8 RGB."""
    crop = arrays["face"][i]
    scale = side / len(crop)
    drawn = _scaled(crop, scale)
    transform = arrays["face_transform"][i].astype(float)
    points = arrays["face_points"][i] @ transform[:, :2].T + transform[:, 2]
    _draw_points(drawn, (points + 0.5) * scale - 0.5)
    return drawn


def draw_inspection(inspection: Inspection) -> np.ndarray:
    """The whole picture, (H, W, 3) uint8 RGB."""
    arrays, pictures, clip = inspection.arrays, inspection.pictures, inspection.clip
    count = len(arrays["face"])
    cell = 320 if count <= _FEW else 200  # the width of a frame, and of its crop beside the one with points
    crop_side = (cell - GAP) // 2
    shown = pictures or [np.full((9, 16, 3), 225, np.uint8)] * count
    scales = [min(cell / picture.shape[1], 1.25 * cell / picture.shape[0]) for picture in shown]
    high = max(round(picture.shape[0] * scale) for picture, scale in zip(shown, scales, strict=True))
    columns = min(count, max(1, (_WIDTH[1] - 2 * MARGIN + GAP) // (cell + GAP)))
    width = max(_WIDTH[0], 2 * MARGIN + columns * (cell + GAP) - GAP)

    page = Page(width)
    page.write(f"clip {clip.clip}, participant {clip.participant}", size=18, height=28, weight="bold")
    page.write(f"video {clip.video}, {_span(clip)}")
    page.write("state ok")
    for warning in inspection.warnings:
        page.write(warning, colour=_ALARM, weight="bold")
    page.grid({key: _plain(value) for key, value in inspection.quality.items()})
    right, left = "subject's right eye, mouth corner", "subject's left eye, mouth corner"
    page.write_row(
        [(f"● {right}", RIGHT), (f"● {left}", LEFT), ("● nose tip", NOSE), ("□ crop, thick edge = top", FOUND),
         ("- - no face found", NOT_FOUND)]
    )  # fmt: skip
    page.skip(GAP)
    for first in range(0, count, columns):
        top = page.height
        page.skip(high + crop_side + 2 * LINE + 3 * GAP)
        for column, i in enumerate(range(first, min(first + columns, count))):
            x = MARGIN + column * (cell + GAP)
            page.paste(draw_frame(shown[i], arrays if pictures else _nothing(arrays), i, scale=scales[i]), x, top)
            is_found = bool(arrays["face_found"][i])
            time, score = arrays["face_time"][i], arrays["face_score"][i]
            page.put(f"{i + 1}  at {time:.3f} s", x, top + high + 4)
            said = "found" + ("" if math.isnan(score) else f", score {score:.2f}") if is_found else "NO FACE FOUND"
            page.put(said, x, top + high + 4 + LINE, colour=INK if is_found else NOT_FOUND,
                     weight="normal" if is_found else "bold")  # fmt: skip
            crop = _scaled(arrays["face"][i], crop_side / len(arrays["face"][i]))
            if not is_found:
                cv2.rectangle(crop, (0, 0), (crop_side - 1, crop_side - 1), NOT_FOUND, 3)
            page.paste(crop, x, top + high + 2 * LINE + GAP)
            if np.isfinite(arrays["face_points"][i]).any():
                drawn = draw_crop(arrays, i, side=crop_side)
                page.paste(drawn, x + cell - crop_side, top + high + 2 * LINE + GAP)
    page.write("Derived data of a person: not to be passed on where the terms of the data forbid it, as SMAD's do.")
    return page.drawn()


def write_png(path: Path, picture: np.ndarray) -> None:
    """Write an RGB picture, whole or not at all."""
    done, data = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    if not done:
        raise ValueError(f"{path}: OpenCV cannot write a picture of {picture.shape[1]} x {picture.shape[0]} as PNG")
    with written_whole(path) as beside:
        beside.write_bytes(data.tobytes())


def _nothing(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays without what is drawn into a frame."""
    return arrays | {name: np.full_like(arrays[name], np.nan) for name in ("face_transform", "face_points")}


def _scaled(picture: np.ndarray, scale: float) -> np.ndarray:
    size = tuple(max(1, round(side * scale)) for side in picture.shape[1::-1])
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.ascontiguousarray(cv2.resize(picture, size, interpolation=how))


def _draw_points(picture: np.ndarray, points: np.ndarray) -> None:
    eyes = float(np.hypot(*(points[1] - points[0])))
    radius = 1 if not eyes > 20 else 2 if eyes < 45 else 3  # on a small face they would hide it, and one another
    for point, colour in zip(points, POINT_COLOURS, strict=True):
        if np.isfinite(point).all():
            if radius > 1:
                cv2.circle(picture, _fixed(point), (radius + 1) * 16, PAPER, cv2.FILLED, cv2.LINE_AA, shift=4)
            cv2.circle(picture, _fixed(point), radius * 16, colour, cv2.FILLED, cv2.LINE_AA, shift=4)


def _line(picture: np.ndarray, a: np.ndarray, b: np.ndarray, colour: Any, *, thick: int, is_dashed: bool) -> None:
    dashes = max(1, int(np.hypot(*(b - a)) / 12)) if is_dashed else 1
    for dash in range(dashes):
        ends = [a + (b - a) * part / dashes for part in (dash, dash + (0.55 if is_dashed else 1))]
        cv2.line(picture, _fixed(ends[0]), _fixed(ends[1]), colour, thick, cv2.LINE_AA, shift=4)


def _fixed(point: np.ndarray) -> tuple[int, int]:
    """Pixels with 4 binary places, as OpenCV wants them; a transform may send a corner very far away."""
    x, y = np.clip(np.round(point * 16), -(2**20), 2**20).astype(int)
    return int(x), int(y)


def _span(clip: Clip) -> str:
    end = "its end" if clip.end is None else f"{clip.end:g} s"
    return f"{clip.start or 0:g} s to {end}"


def _plain(value: Any) -> str:
    if value is None or value != value:  # NaN is the one value that is not equal to itself
        return "-"
    if isinstance(value, list | tuple):
        return " ".join(map(_plain, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)
