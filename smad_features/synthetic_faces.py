"""Faces that do not exist: two public-domain portraits, warped into participants and expressions.

A portrait is brought into one canonical picture (eyes level, 64 pixels apart); a participant is a smooth warp of it,
with a tone, light and background of its own; an expression is a weighted sum of displacement fields, one
for each facial action. Every frame is one small remap and one similarity (the head's motion).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from smad_features.synthetic_portraits import CANVAS, CENTRE, EYES, PORTRAITS, canonical
from smad_features.synthetic_videos import FPS, HEIGHT, WIDTH, wall

ROI = (slice(76, 320), slice(126, 322))  # rows and columns that an expression can move
ROWS, COLUMNS = np.mgrid[ROI].astype(np.float32)

# fmt: off
# What a facial action moves: point, outward, down, reach; in hundredths of the eye distance. A name without a side
# moves on both sides. Actions are named after the Facial Action Coding System (Ekman & Friesen 1978); jaw and lids,
# which open and close something, are not sums of bumps and stand in `_jaw_drop` and `_lid_close`.
ACTIONS: dict[str, tuple[tuple[str, float, float, float], ...]] = {
    "smile": (("mouth corner", 11, -12, 24), ("cheek", 2, -7, 28), ("lower lid", 0, -3, 12)),  # AU6+12
    "corner_down": (("mouth corner", 1, 14, 20), ("chin", 0, -4, 26)),  # AU15+17
    "brow_lower": (("brow inner", -5, 9, 17), ("brow mid", -1, 6, 18)),  # AU4
    "brow_raise": (("brow inner", 0, -8, 18), ("brow mid", 0, -9, 20), ("brow outer", 0, -7, 17)),  # AU1+2
    "inner_brow": (("brow inner", -2, -13, 17), ("brow outer", 0, 5, 18)),  # AU1
    "jaw_drop": (),  # AU26
    "lid_raise": (("upper lid", 0, -6, 11), ("lower lid", 0, 3, 11)),  # AU5
    "lid_close": (),  # AU43, AU45
    "nose_wrinkle": (("nose side", 1, -10, 20), ("upper lip", 0, -9, 17), ("brow inner", -3, 5, 15)),  # AU9+10
    "lip_press": (("upper lip", 0, 4, 10), ("lower lip", 0, -4, 12), ("mouth corner", -7, 0, 16)),  # AU24
    "lip_stretch": (("mouth corner", 14, 4, 20),),  # AU20
}
# fmt: on

# Which actions an emotion shows, at its fullest: simplified from the emotion prototypes of the
# Facial Action Coding System's Investigator's Guide (Ekman, Friesen & Hager 2002).
PROTOTYPES: dict[str, dict[str, float]] = {
    "happiness": {"smile": 1.1, "jaw_drop": 0.15},
    "sadness": {"inner_brow": 1.0, "corner_down": 1.1, "lid_close": 0.3},
    "fear": {"brow_raise": 0.7, "inner_brow": 0.6, "lid_raise": 0.9, "lip_stretch": 1.0, "jaw_drop": 0.35},
    "disgust": {"nose_wrinkle": 1.2, "brow_lower": 0.5, "corner_down": 0.35, "lid_close": 0.3},
    "surprise": {"brow_raise": 1.2, "lid_raise": 0.8, "jaw_drop": 1.0},
    "anger": {"brow_lower": 1.2, "lip_press": 1.1, "lid_raise": 0.3},
    "neutral": {},
}


@dataclass(frozen=True)
class Face:
    """One participant's look, in the canonical picture; ``fields`` are ``(action, xy, row, column)`` inside `ROI`."""

    picture: np.ndarray  # (352, 448, 3) uint8, RGB
    mask: np.ndarray  # (352, 448) float32, 1 on head and shoulders
    background: np.ndarray  # (240, 320, 3) uint8, RGB
    points: dict[str, np.ndarray]  # name -> x, y
    fields: np.ndarray  # float32, pixels that full action moves the face by
    teeth: float  # gap between the resting portrait's lips, pixels
    resting_smile: float
    zoom: float  # canonical pixel -> video pixel
    expressivity: float
    rest: np.ndarray  # (action,) what this face shows when it shows nothing


def make_face(number: int, *, rng: np.random.Generator) -> Face:
    """The look of participant ``number``: odd and even ones come from different portraits, half are mirrored."""
    portrait = PORTRAITS[number % 2]
    picture, mask, points = canonical(number % 2)
    if number // 2 % 2:
        picture, mask = picture[:, ::-1], mask[:, ::-1]
        other = {"right": "left", "left": "right"}
        points = {" ".join(other.get(word, word) for word in name.split()): xy for name, xy in points.items()}
        points = {name: np.array([CANVAS[1] - 1 - xy[0], xy[1]]) for name, xy in points.items()}
    moved = _proportions(points, rng=rng, smile=portrait.resting_smile)
    x, y = _bend(points, moved)
    picture, mask = (cv2.remap(a, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE) for a in (picture, mask))
    return Face(
        picture=_paint(picture, rng=rng),
        mask=mask.astype(np.float32) / 255,
        background=wall(rng),
        points=moved,
        fields=_action_fields(moved),
        teeth=portrait.teeth * EYES,
        resting_smile=portrait.resting_smile,
        zoom=rng.uniform(0.68, 0.82),
        expressivity=rng.uniform(0.8, 1.15),
        rest=np.clip(rng.normal(0, 0.1, len(ACTIONS)), -0.15, 0.2) * [name != "jaw_drop" for name in ACTIONS],
    )


def _proportions(points: dict[str, np.ndarray], *, rng: np.random.Generator, smile: float) -> dict[str, np.ndarray]:
    """Where this participant has the points: wider or longer faces, other mouths, noses and brows."""
    face, jaw, mouth, nose = (
        rng.uniform(0.92, 1.08),
        rng.uniform(0.88, 1.1),
        rng.uniform(0.9, 1.1),
        rng.uniform(0.9, 1.2),
    )
    length, brow, eyes = rng.uniform(0.93, 1.08), rng.uniform(-2.5, 2.5), rng.uniform(0.96, 1.05)
    moved = {}
    for name, xy in points.items():
        x, y = xy - CENTRE
        x *= eyes if "eye" in name or "lid" in name else face
        x *= jaw if "jaw" in name else mouth if "mouth" in name else nose if "nose side" in name else 1.0
        y *= length if y > 20 else 1.0
        y += brow if "brow" in name else 0.0
        if "mouth corner" in name:  # what is rest for the portrait may be a smile: undo it
            x -= np.sign(x) * smile * 0.09 * EYES
            y += smile * 0.10 * EYES
        moved[name] = np.array([x, y]) + CENTRE + rng.normal(0, 0.5, 2)
    return moved


def _bend(
    source: dict[str, np.ndarray], target: dict[str, np.ndarray], *, reach: float = 34.0
) -> tuple[np.ndarray, np.ndarray]:
    """Maps for `cv2.remap` that bring ``source`` points to ``target`` ones: Gaussian radial basis functions."""
    to, back = (np.array([p[name] for name in source]) for p in (target, source))
    kernel = np.exp(-((to[:, None] - to[None]) ** 2).sum(-1) / (2 * reach**2)) + 0.02 * np.eye(len(to))
    weights = np.linalg.solve(kernel, back - to)  # (point, xy)
    rows, columns = np.mgrid[: CANVAS[0], : CANVAS[1]].astype(np.float32)
    down = np.exp(-((rows[:, :1] - to[:, 1]) ** 2) / (2 * reach**2))  # (row, point): the Gaussian is separable
    along = np.exp(-((columns[:1].T - to[:, 0]) ** 2) / (2 * reach**2))  # (column, point)
    x, y = ((down * weights[:, axis]) @ along.T for axis in (0, 1))
    return (columns + x).astype(np.float32), (rows + y).astype(np.float32)


def _paint(picture: np.ndarray, *, rng: np.random.Generator) -> np.ndarray:
    """Another tone, another light."""
    rows, columns = np.mgrid[: CANVAS[0], : CANVAS[1]].astype(np.float32)
    hsv = cv2.cvtColor(picture, cv2.COLOR_RGB2HSV).astype(np.float32)
    hsv[..., 1] *= rng.uniform(0.7, 1.1)
    rgb = cv2.cvtColor(np.clip(hsv, 0, 255).astype(np.uint8), cv2.COLOR_HSV2RGB).astype(np.float32) / 255
    rgb = rgb ** rng.uniform(0.75, 1.5) * rng.uniform([0.94, 0.9, 0.84], [1.06, 1.0, 1.02]).astype(np.float32)
    angle, depth = rng.uniform(0, 2 * np.pi), rng.uniform(0.05, 0.3)
    slope = ((columns - CENTRE[0]) * np.cos(angle) + (rows - CENTRE[1]) * np.sin(angle)) / (2 * EYES)
    light = 1 + depth * np.tanh(slope) + rng.uniform(-0.08, 0.08)
    return np.clip(rgb * light[..., None] * 255, 0, 255).astype(np.uint8)


def _action_fields(points: dict[str, np.ndarray]) -> np.ndarray:
    """``(action, xy, row, column)`` float32: how far full action moves what is at a pixel of `ROI`."""
    rows, columns = ROWS, COLUMNS
    fields = np.zeros((len(ACTIONS), 2, *rows.shape), np.float32)
    unit = EYES / 100
    for action, (name, moves) in zip(fields, ACTIONS.items(), strict=True):
        for stem, outward, down, reach in moves:
            for point in (stem,) if stem in points else (f"right {stem}", f"left {stem}"):
                side = -1.0 if point.startswith("right") else 1.0
                x, y = points[point] + unit * np.array([side * outward, down]) / 2
                bump = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * (reach * unit) ** 2))
                action[0] += unit * side * outward * bump
                action[1] += unit * down * bump
        if name == "jaw_drop":
            action[1] = _jaw_drop(points, rows, columns)
        elif name == "lid_close":
            action[1] = _lid_close(points, rows, columns)
    height, width = rows.shape  # fields end before the ROI does: no seam
    fade = np.minimum(np.hanning(height)[:, None], np.hanning(width)[None]) * 6
    return fields * np.clip(fade, 0, 1).astype(np.float32)


JAW = 0.34 * EYES  # how far a full jaw drop opens the mouth, pixels


def _jaw_drop(points: dict[str, np.ndarray], rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Lower lip and chin go down, all of it from the line between the lips: the field has a step there."""
    middle = points["upper lip"]
    half = np.ptp([points["right mouth corner"][0], points["left mouth corner"][0]]) / 2
    below = rows >= middle[1]
    lens = np.clip(1 - ((columns - middle[0]) / (0.95 * half)) ** 2, 0, 1)
    lips = below * lens * np.exp(-(((rows - middle[1]) / (0.6 * EYES)) ** 2))
    chin = np.exp(-(((columns - middle[0]) / (0.8 * EYES)) ** 2)) * np.clip((rows - middle[1]) / (0.45 * EYES), 0, 1)
    return JAW * np.maximum(lips, 0.75 * chin * np.clip((points["chin"][1] + 40 - rows) / 40, 0, 1))


def _lid_close(points: dict[str, np.ndarray], rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The upper lid comes down to the lower one and covers the eye: the field has a step at the lower lid."""
    field = np.zeros_like(rows)
    for side in ("right", "left"):
        upper, lower = points[f"{side} upper lid"][1], points[f"{side} lower lid"]
        eye = 1.15 * (lower[1] - upper)
        width = np.clip(1 - ((columns - points[f"{side} eye"][0]) / (0.3 * EYES)) ** 2, 0, 1)
        above = (rows <= lower[1] + 1) * np.exp(-(((lower[1] - rows) / (1.6 * eye)) ** 2))
        field += eye * width * above
    return field


def render(face: Face, action: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """One frame ``(240, 320, 3)`` uint8, RGB: ``action`` ``(action,)`` weights; ``pose`` x, y (pixels), roll, scale."""
    names = list(ACTIONS)
    weights = action.astype(np.float32).copy()
    jaw = names.index("jaw_drop")
    # A portrait that shows its teeth closes its mouth at rest and shows them again when it smiles.
    closed = face.teeth * (1 - np.clip(0.8 * action[names.index("smile")], 0, 0.8))
    opening = JAW * max(float(action[jaw]), 0.0)
    weights[jaw] = (opening - closed) / JAW
    shift = np.einsum("a,axyz->xyz", weights, face.fields)  # no BLAS: its threads would crowd the workers
    canvas = face.picture.copy()
    canvas[ROI] = cv2.remap(face.picture, COLUMNS - shift[0], ROWS - shift[1], cv2.INTER_LINEAR)
    if opening > 1:
        _open_mouth(canvas, face, weights, opening)
    angle, scale = np.deg2rad(pose[2]), face.zoom * pose[3]
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    centre = np.array([WIDTH / 2 + pose[0], 0.45 * HEIGHT + pose[1]])
    matrix = np.column_stack([turn, centre - turn @ CENTRE])
    head, mask = (
        cv2.warpAffine(a, matrix, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        for a in (canvas, face.mask)
    )
    return cv2.blendLinear(head, face.background, mask, 1 - mask)


def _open_mouth(canvas: np.ndarray, face: Face, weights: np.ndarray, opening: float) -> None:
    """Paint the inside of an open mouth between the lips."""
    row, column = ROI[0].start, ROI[1].start
    ends = []
    for name in ("right mouth corner", "left mouth corner"):
        x, y = face.points[name]
        ends.append((x, y) + weights @ face.fields[:, :, int(y) - row, int(x) - column])
    (x0, y0), (x1, y1) = ends
    top = face.points["upper lip"][1]
    t = np.linspace(0, 1, 21)
    lens = 1 - (2 * t - 1) ** 2
    x = x0 + (0.04 + 0.92 * t) * (x1 - x0)
    line = (y0 + t * (y1 - y0)) * (1 - lens) + top * lens
    polygon = np.concatenate([np.column_stack([x, line]), np.column_stack([x, line + opening * lens])[::-1]])
    low, high = polygon.min(0).astype(int) - 4, polygon.max(0).astype(int) + 5
    area = canvas[low[1] : high[1], low[0] : high[0]]
    layer = np.zeros(area.shape[:2], np.uint8)
    cv2.fillPoly(layer, [np.round((polygon - low) * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    alpha = cv2.GaussianBlur(layer, (0, 0), 1.0)[..., None] / 255.0
    area[:] = area + alpha * ((62, 22, 24) - area.astype(float))


def expression(
    emotion: str,
    *,
    intensity: float,
    valence: float,
    arousal: float,
    face: Face,
    seconds: float,
    blinks: Sequence[tuple[float, float]],
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """What a face does in a clip.

    Returns
    -------
    actions : (frame, action) float64
        Weights of `ACTIONS`: rest, onset, apex and a partial offset of the prototype, blinks, and a slow restlessness.
    poses : (frame, 4) float64
        The head's x and y (pixels), roll (degrees) and scale; it moves more when arousal is high.
    """
    t = np.arange(round(seconds * FPS)) / FPS
    names = list(ACTIONS)
    full = np.zeros(len(names))
    for name, weight in PROTOTYPES[emotion].items():
        full[names.index(name)] = weight * rng.uniform(0.8, 1.15)
    full *= face.expressivity * (0.45 + 0.18 * intensity)
    full[names.index("smile")] += 0.25 * max(valence, 0)
    full[names.index("corner_down")] += 0.2 * max(-valence, 0)
    full[names.index("lid_raise")] += 0.3 * arousal
    full[names.index("jaw_drop")] += 0.08 * max(arousal, 0)
    onset, end = rng.uniform(0.0, 0.1) * seconds, rng.uniform(0.8, 1.0) * seconds
    course = 1 / (1 + np.exp(-(t - onset - 0.2) / 0.08)) * (1 - 0.5 / (1 + np.exp(-(t - end) / 0.1)))
    actions = face.rest + course[:, None] * full + _wander(len(t), rng, len(names)) * 0.06
    actions[:, names.index("jaw_drop")] = np.maximum(actions[:, names.index("jaw_drop")] - 0.06, 0)
    lids = names.index("lid_close")
    for start, stop in blinks:
        middle, half = (start + stop) / 2, (stop - start) / 2
        actions[:, lids] = np.maximum(actions[:, lids], np.clip(1.6 - np.abs(t - middle) / half, 0, 1))
    actions[:, lids] = np.clip(actions[:, lids], -0.15, 1)
    restless = 0.7 + 0.5 * arousal
    poses = _wander(len(t), rng, 4) * restless * (3.5, 2.5, 2.0, 0.012) + (*rng.normal(0, (6, 3, 2.5)), 1.0)
    return actions, poses


def _wander(steps: int, rng: np.random.Generator, count: int) -> np.ndarray:
    """``(steps, count)`` slow noise of unit spread: sums of a few sines below 1 Hz."""
    t = np.arange(steps)[:, None, None] / FPS
    rate, phase = rng.uniform(0.1, 0.9, (count, 4)), rng.uniform(0, 2 * np.pi, (count, 4))
    return np.sin(2 * np.pi * rate * t + phase).sum(-1) / np.sqrt(2)
