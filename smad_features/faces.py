"""Frames become the subject's face, aligned to one template, with a record of how sure we are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from smad_features import schema
from smad_features.face_finder import Face, FaceFinder
from smad_features.subject import Policy, choose_subject, has_jump, is_same_person
from smad_features.video import Frames

# Deng et al. 2019, ArcFace (arXiv:1801.07698): eyes, nose tip, mouth corners in a 112 x 112 crop; the subject's own
# right first.
TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
_TEMPLATE_SIZE = 112

_CHANCE = 2.0  # log odds: one frame's find at a score of 0.88, or three at 0.66; patterns on their side get less


def fit_similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The least-squares similarity without reflection from ``source`` to ``target``, both (n, 2): a (2, 3) matrix.

    With points as complex numbers about their means it is z -> a z, a = sum(conj(z) w) / sum(|z|^2): a turn and a
    scale, so a reflection cannot come out (Umeyama 1991, IEEE TPAMI 13(4), in the plane).
    """
    z, w = source @ (1, 1j), target @ (1, 1j)
    z_mean, w_mean = z.mean(), w.mean()
    a = np.vdot(z - z_mean, w - w_mean) / np.vdot(z - z_mean, z - z_mean).real
    b = w_mean - a * z_mean
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def template_points(*, size: int = schema.SIZE, margin: float = 0.0) -> np.ndarray:
    """(5, 2) float64: the template in a crop of ``size`` pixels with ``margin`` (fraction of the side) around it.

    Whole numbers are pixel centres, so the crop's edges lie at -0.5 and size - 0.5.
    """
    return ((TEMPLATE + 0.5) / _TEMPLATE_SIZE + margin) / (1 + 2 * margin) * size - 0.5


def align_face(
    picture: np.ndarray, face: Face, *, size: int = schema.SIZE, margin: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """The (size, size, 3) uint8 crop of a face on the template, and its (2, 3) transform, source -> crop pixel."""
    target = template_points(size=size, margin=margin)
    if np.isfinite(face.points).all():
        transform = fit_similarity(face.points, target)
    else:  # no mouth corners: their centre stands for both
        transform = fit_similarity(
            np.vstack([face.points[:3], face.mouth]), np.vstack([target[:3], target[3:].mean(axis=0)])
        )
    return warp(picture, transform, size=size), transform


def warp(picture: np.ndarray, transform: np.ndarray, *, size: int) -> np.ndarray:
    """The (size, size, 3) picture under a (2, 3) transform, source -> crop pixel; the border is replicated.

    Bilinear sampling skips pixels where it shrinks by more than 2, so there the picture is averaged down first: only
    that part of it which the crop shows.
    """
    factor = int(1 / np.hypot(*transform[:, 0]))
    if factor > 1:
        left, top, right, bottom = _extent(transform, size=size, room=2 * factor, picture=picture)
        part = picture[top:bottom, left:right]
        height, width = (max(1, side // factor) for side in part.shape[:2])
        # Crop to whole blocks first, so that one small pixel is exactly factor x factor large ones.
        picture = cv2.resize(part[: height * factor, : width * factor], (width, height), interpolation=cv2.INTER_AREA)
        shift = (factor - 1) / 2  # small pixel i covers i * factor .. i * factor + factor - 1
        transform = transform @ np.array([[factor, 0, left + shift], [0, factor, top + shift], [0, 0, 1]])
    return cv2.warpAffine(picture, transform, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def fraction_outside(transform: np.ndarray, *, size: int, picture: np.ndarray) -> float:
    """The fraction of a crop's pixels whose centres lie outside the picture: border, replicated."""
    y, x = np.mgrid[:size, :size]
    source = cv2.invertAffineTransform(transform) @ np.stack([x.ravel(), y.ravel(), np.ones(size * size)])
    limits = np.array(picture.shape[1::-1])[:, None] - 0.5
    return float(np.mean(((source < -0.5) | (source > limits)).any(axis=0)))


def _extent(transform: np.ndarray, *, size: int, room: int, picture: np.ndarray) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of what a crop shows of a picture, with ``room`` pixels around; never empty."""
    corners = np.array([[-1, size, -1, size], [-1, -1, size, size], [1, 1, 1, 1]])
    source = cv2.invertAffineTransform(transform) @ corners  # (2, 4)
    last = np.array(picture.shape[1::-1]) - 1
    left, top = np.clip(np.floor(source.min(axis=1)) - room, 0, np.maximum(0, last - room)).astype(int)
    right, bottom = np.clip(np.ceil(source.max(axis=1)) + room, np.minimum(last, room), last).astype(int) + 1
    return left, top, right, bottom


def extract_faces(
    frames: Frames, finder: FaceFinder | None, settings: dict[str, Any]
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The face arrays of one clip (`schema.face_arrays`, without the clip axis) and how much of them to believe.

    Parameters
    ----------
    finder
        None where ``settings["align"]`` is none: the pictures are faces already and are only resized.
    settings
        The configuration's `face` section.
    """
    count, size = settings["frames"], settings["size"]
    arrays = {name: array.empty(1)[0] for name, array in schema.face_arrays(frames=count, size=size).items()}
    arrays["face_time"][:] = frames.times
    if finder is None:
        for i, picture in enumerate(frames.pictures):
            height, width = picture.shape[:2]
            scale = np.array([size / width, size / height])
            arrays["face"][i] = cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA)
            arrays["face_transform"][i] = np.column_stack([np.diag(scale), (scale - 1) / 2])
        arrays["face_found"][:] = True
        return arrays, {"face_found": 1.0, "faces": 1, **_light(arrays["face"])}

    found = _find_subject(frames, finder, settings["subject"])
    shown = [i for i, face in enumerate(found.subject) if face is not None]
    outside = [0.0]
    for i, (picture, face) in enumerate(zip(frames.pictures, found.subject, strict=True)):
        if face is not None:
            crop, transform = align_face(picture, face, size=size, margin=settings["margin"])
            arrays["face"][i], arrays["face_transform"][i] = crop, transform
            arrays["face_found"][i], arrays["face_score"][i], arrays["face_points"][i] = True, face.score, face.points
            outside.append(fraction_outside(transform, size=size, picture=picture))
    if settings["missing"] == "nearest" and shown:
        for i in sorted(set(range(count)) - set(shown)):
            nearest = _nearest(shown, i, frames.times)
            arrays["face_transform"][i] = arrays["face_transform"][nearest]
            arrays["face"][i] = warp(frames.pictures[i], arrays["face_transform"][i].astype(float), size=size)
    faces = [len(options) for options in found.everyone]
    quality: dict[str, Any] = {
        "face_found": len(shown) / count,
        "faces": max(faces),
        "faces_per_frame": " ".join(map(str, faces)),
        "face_jump": int(found.jump),
        "face_turn": found.turn,
        "face_search": found.search,
    }
    if shown:
        eyes = arrays["face_points"][shown][:, :2].astype(float)
        quality |= {
            "face_score": float(np.mean(arrays["face_score"][shown])),
            "face_size": float(np.median(np.hypot(*(eyes[:, 1] - eyes[:, 0]).T))),
            "face_outside": max(outside),
            **_light(arrays["face"][shown]),
        }
        poses = [face.pose for face in found.subject if face is not None and face.pose is not None]
        if poses:
            quality |= dict(
                zip(("face_roll", "face_yaw", "face_pitch"), np.median(poses, axis=0).tolist(), strict=True)
            )
    return arrays, quality


@dataclass(frozen=True)
class _Found:
    """The subject in each frame and everyone in it, in the picture's pixels; and how they were found."""

    subject: list[Face | None]
    everyone: list[list[Face]]
    turn: int  # degrees clockwise by which the pictures had to be turned for it
    search: str  # whole | turned | tiles; empty = nobody
    jump: bool


def _find_subject(frames: Frames, finder: FaceFinder, policy: Policy) -> _Found:
    """Look at whole pictures, turned where they seem to lie, then at tiles; choose one person and look for it again."""
    turn, search, everyone = _find_everyone(frames.pictures, finder, may_turn=not frames.facts.get("rotation"))
    pictures = [_turned(picture, turn) for picture in frames.pictures]
    if not any(everyone):
        return _Found([None] * len(pictures), everyone, 0, "", jump=False)
    sizes = [picture.shape[:2] for picture in pictures]
    subject = choose_subject(everyone, picture_sizes=sizes, policy=policy)
    shown = [i for i, face in enumerate(subject) if face is not None]
    for i in sorted(set(range(len(subject))) - set(shown)):
        nearest = _nearest(shown, i, frames.times)
        face = subject[nearest]
        if face is not None and not everyone[i]:  # a frame that shows somebody else stays without the subject
            last = face.scaled(max(sizes[i]) / max(sizes[nearest]))
            near = [face for face in finder.find_near(pictures[i], last) if is_same_person(last, face)]
            subject[i], everyone[i] = next(iter(near), None), near[:1]
    jump = has_jump(subject, everyone, picture_sizes=sizes)
    refined = [face and finder.refine(picture, face) for picture, face in zip(pictures, subject, strict=True)]
    if turn:
        heights_widths = [picture.shape[:2] for picture in frames.pictures]
        refined = [f and _turn_back(f, turn, *size) for f, size in zip(refined, heights_widths, strict=True)]
        everyone = [
            [_turn_back(f, turn, *size) for f in some] for some, size in zip(everyone, heights_widths, strict=True)
        ]
    return _Found(refined, everyone, turn, search, jump)


def _find_everyone(
    pictures: Sequence[np.ndarray], finder: FaceFinder, *, may_turn: bool
) -> tuple[int, str, list[list[Face]]]:
    """Everyone in each picture; the turn in degrees clockwise, and the kind of search, that found them best.

    A detector finds many a face that lies on its side, with less score and in fewer frames, and in one upside down it
    sees an upright one that is not there. So where no face is sure and upright, the far ones and the turned pictures
    are looked at too. The odds of the surest upright face of each frame multiply; a turn must win by a quarter.
    """
    everyone = [finder.find_faces(picture) for picture in pictures]
    if not _is_sure(everyone):
        everyone = [found or finder.find_far_faces(picture) for found, picture in zip(everyone, pictures, strict=True)]
    turn, search = 0, "whole"
    if _is_sure(everyone):
        return turn, search, everyone
    if not any(everyone):
        search, everyone = "tiles", [finder.find_small_faces(picture) for picture in pictures]
    if may_turn:
        to_beat = max(_CHANCE, 1.25 * _log_odds(everyone))
        for other in (90, 180, 270):
            turned = [_turned(picture, other) for picture in pictures]
            found = [finder.find_faces(picture) for picture in turned]
            if not any(found):
                found = [finder.find_far_faces(picture) for picture in turned]
            if _log_odds(found) > to_beat:
                turn, search, everyone, to_beat = other, "turned", found, _log_odds(found)
    return turn, search, everyone


def _is_sure(everyone: list[list[Face]]) -> bool:
    """Whether most of the faces that were found are upright, and as surely faces as they are in good pictures."""
    surest = [max(faces, key=lambda face: face.score) for faces in everyone if faces]
    if not surest:
        return False
    return bool(np.median([abs(f.roll) for f in surest]) <= 45 and np.mean([f.score for f in surest]) >= 0.85)


def _log_odds(everyone: list[list[Face]]) -> float:
    upright = [[min(face.score, 0.99) for face in faces if abs(face.roll) <= 45] for faces in everyone]
    return sum(math.log(max(scores) / (1 - max(scores))) for scores in upright if scores)


def _turned(picture: np.ndarray, turn: int) -> np.ndarray:
    """The picture turned clockwise by 0, 90, 180 or 270 degrees."""
    return np.rot90(picture, k=-turn // 90)


def _turn_back(face: Face, turn: int, height: int, width: int) -> Face:
    """A face found in the turned picture, in pixels of the picture of ``height`` x ``width`` before."""

    def back(points: np.ndarray) -> np.ndarray:
        u, v = points[:, 0], points[:, 1]
        columns = {90: (v, height - 1 - u), 180: (width - 1 - u, height - 1 - v), 270: (width - 1 - v, u)}[turn]
        return np.column_stack(columns)

    x, y, w, h = face.box
    corners = back(np.array([[x, y], [x + w, y + h]]) - 0.5) + 0.5
    (left, top), (right, bottom) = corners.min(axis=0), corners.max(axis=0)
    mouth = back(np.array([face.mouth]))[0]
    return Face((left, top, right - left, bottom - top), face.score, back(face.points), tuple(mouth), face.pose)


def _nearest(shown: list[int], i: int, times: np.ndarray) -> int:
    """The frame among ``shown`` that is nearest in time to frame ``i``."""
    return min(shown, key=lambda j: abs(times[j] - times[i]))


def _light(crops: np.ndarray) -> dict[str, float]:
    """Medians over (n, size, size, 3) crops: sharpness and brightness.

    Sharpness is the variance of the Laplacian (Pech-Pacheco et al. 2000, ICPR), brightness the mean grey value, 0..255.
    """
    grey = [cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY) for crop in crops]
    return {
        "face_sharpness": float(np.median([cv2.Laplacian(picture, cv2.CV_64F).var() for picture in grey])),
        "face_brightness": float(np.median([picture.mean() for picture in grey])),
    }
