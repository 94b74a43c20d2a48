"""A frame of a clip with its crop and points drawn in, and the crop with its points."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from smad_features.page import PAPER

FOUND, NOT_FOUND = (0, 170, 70), (235, 110, 0)  # the crop's outline: RGB
# `schema.POINTS`: the subject's own right, left, and the nose between them; a mirrored picture shows at once.
RIGHT, LEFT, NOSE = (30, 110, 255), (235, 40, 60), (255, 215, 0)
POINT_COLOURS = (RIGHT, LEFT, NOSE, RIGHT, LEFT)


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
    drawn = scaled(picture, scale)
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
    drawn = scaled(crop, scale)
    transform = arrays["face_transform"][i].astype(float)
    points = arrays["face_points"][i] @ transform[:, :2].T + transform[:, 2]
    _draw_points(drawn, (points + 0.5) * scale - 0.5)
    return drawn


def scaled(picture: np.ndarray, scale: float) -> np.ndarray:
    """The picture ``scale`` times as large, at least a pixel a side."""
    size = tuple(max(1, round(side * scale)) for side in picture.shape[1::-1])
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.ascontiguousarray(cv2.resize(picture, size, interpolation=how))


def _draw_points(picture: np.ndarray, points: np.ndarray) -> None:
    eyes = float(np.hypot(*(points[1] - points[0])))
    radius = 1 if not eyes > 20 else 2 if eyes < 45 else 3  # on a small face they would hide it, and one another
    for point, colour in zip(points, POINT_COLOURS, strict=True):
        if np.isfinite(point).all():
            if radius > 1:
                cv2.circle(picture, fixed(point), (radius + 1) * 16, PAPER, cv2.FILLED, cv2.LINE_AA, shift=4)
            cv2.circle(picture, fixed(point), radius * 16, colour, cv2.FILLED, cv2.LINE_AA, shift=4)


def _line(picture: np.ndarray, a: np.ndarray, b: np.ndarray, colour: Any, *, thick: int, is_dashed: bool) -> None:
    dashes = max(1, int(np.hypot(*(b - a)) / 12)) if is_dashed else 1
    for dash in range(dashes):
        ends = [a + (b - a) * part / dashes for part in (dash, dash + (0.55 if is_dashed else 1))]
        cv2.line(picture, fixed(ends[0]), fixed(ends[1]), colour, thick, cv2.LINE_AA, shift=4)


def fixed(point: np.ndarray) -> tuple[int, int]:
    """Pixels with 4 binary places, as OpenCV wants them under ``shift=4``; a point may lie very far away."""
    x, y = np.clip(np.round(point * 16), -(2**20), 2**20).astype(int)
    return int(x), int(y)
