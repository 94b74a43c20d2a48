"""A frame of the stimulus with where the participant looked: the cached gaze of the last second, fading with age."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from smad_features.face_drawing import fixed, scaled
from smad_features.page import PAPER

GAZE, OFF = (225, 0, 160), (235, 110, 0)  # RGB; a colour that few films hold
TRAIL = 1.0  # seconds
_HAIR = 1e-6  # seconds: a time at a step's very start is that step's, however it was rounded
_FAINT = 0.15  # the opacity of the oldest point


@dataclass(frozen=True)
class Trail:
    """Where the gaze was until a moment: fractions of the stimulus, y down.

    Attributes
    ----------
    now : (2,) float64
        The gaze of the step that holds the moment; NaN where there is none.
    points : (P, 2) float64
        The earlier steps with gaze, the oldest first.
    ages : (P,) float64
        Seconds since the centres of those.
    follows : (P,) bool
        A point is the next step after the one before it in ``points``: no gap lies between.
    is_unbroken : bool
        ``now`` is the next step after the last of the ``points``.
    """

    now: np.ndarray
    points: np.ndarray
    ages: np.ndarray
    follows: np.ndarray
    is_unbroken: bool


def trail_at(time: float, gaze: np.ndarray, edges: np.ndarray, *, length: float = TRAIL) -> Trail:
    """The gaze of the ``length`` seconds before a moment.

    Parameters
    ----------
    time
        On the clock of ``edges``, in seconds.
    gaze : (S, 2)
        As `schema.eye_arrays` has it.
    edges : (S + 1,)
        Where the steps begin, and the last one ends.
    """
    centres = (edges[:-1] + edges[1:]) / 2
    step = int(np.searchsorted(edges, time + _HAIR, side="right")) - 1
    now = gaze[step].astype(float) if 0 <= step < len(gaze) else np.full(2, np.nan)
    rows = np.arange(len(gaze))
    is_known = np.isfinite(gaze).all(axis=1)
    earlier = rows[is_known & (rows < step) & (time - centres <= length) & (centres <= time)]
    return Trail(
        now if np.isfinite(now).all() else np.full(2, np.nan),
        gaze[earlier].astype(float),
        time - centres[earlier],
        np.diff(earlier, prepend=-2) == 1,
        bool(len(earlier)) and int(earlier[-1]) == step - 1,
    )


def draw_gaze(picture: np.ndarray, trail: Trail, *, scale: float, length: float = TRAIL) -> np.ndarray:
    """A frame of the stimulus ``scale`` times as large, with the trail: uint8 RGB.

    The current point has a ring. What lies off the stimulus is drawn on its border, the current point in orange.
    """
    drawn = scaled(picture, scale)
    size = np.array(drawn.shape[1::-1])
    where = [_within(point, size) for point in trail.points]
    for number, age in enumerate(trail.ages):
        opacity = _FAINT + (1 - _FAINT) * max(0.0, 1 - age / length)
        layer = drawn.copy()
        if trail.follows[number]:
            cv2.line(layer, fixed(where[number - 1]), fixed(where[number]), GAZE, 2, cv2.LINE_AA, shift=4)
        _dot(layer, where[number], 3, GAZE)
        cv2.addWeighted(layer, opacity, drawn, 1 - opacity, 0, dst=drawn)
    if np.isfinite(trail.now).all():
        point, colour = _within(trail.now, size), OFF if is_off(trail.now) else GAZE
        if trail.is_unbroken:
            cv2.line(drawn, fixed(where[-1]), fixed(point), GAZE, 2, cv2.LINE_AA, shift=4)
        for thick, edge in ((5, PAPER), (2, colour)):
            cv2.circle(drawn, fixed(point), 10 * 16, edge, thick, cv2.LINE_AA, shift=4)
        _dot(drawn, point, 3, colour)
    return drawn


def is_off(point: np.ndarray) -> bool:
    """The gaze left the stimulus."""
    return bool(np.any((point < 0) | (point > 1)))


def _within(point: np.ndarray, size: np.ndarray) -> np.ndarray:
    """The pixel of a gaze point, or the nearest one of the picture."""
    return np.clip(point * size - 0.5, 0, size - 1)


def _dot(picture: np.ndarray, point: np.ndarray, radius: int, colour: Any) -> None:
    cv2.circle(picture, fixed(point), (radius + 1) * 16, PAPER, cv2.FILLED, cv2.LINE_AA, shift=4)
    cv2.circle(picture, fixed(point), radius * 16, colour, cv2.FILLED, cv2.LINE_AA, shift=4)
