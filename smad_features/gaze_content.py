"""The stimulus and the gaze on it become what was looked at: a patch of the stimulus' own pixels a face frame."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from smad_features.video import read_pictures

_HAIR = 1e-6  # seconds: a time at a step's very start is that step's, however it was rounded


def gaze_at(times: np.ndarray, gaze: np.ndarray, *, start: float | None, end: float | None) -> np.ndarray:
    """(n, 2) float64: gaze in the step in which each time lies; NaN outside the steps, and where nothing was seen.

    Parameters
    ----------
    times
        (n,) seconds of the video; NaN = none.
    gaze
        (steps, 2): steps of equal length that fill ``start``..``end``, as `eyes.resample` made them.
    start, end
        Seconds of the video; None = there are no steps.
    """
    found = np.full((len(times), 2), np.nan)
    if start is None or end is None or not end > start:
        return found
    steps = np.floor((times + _HAIR - start) * (len(gaze) / (end - start)))
    within = (steps >= 0) & (steps < len(gaze))  # False for NaN
    found[within] = gaze[steps[within].astype(int)]
    return found


def cut_patch(picture: np.ndarray, point: np.ndarray, *, size: int) -> tuple[np.ndarray, float]:
    """The (size, size, 3) uint8 pixels around a point, and the fraction of them beyond the picture, which are black.

    Nothing is scaled or interpolated. The pixel in which the point lies becomes the patch's pixel ``size // 2``,
    counted from 0: an odd size has as many pixels on either side of it, an even one has one more before it than after.

    Parameters
    ----------
    picture
        (H, W, 3) uint8.
    point
        (2,): fractions of the picture's width and height, y down; below 0 and above 1 beyond it.
    """
    height, width = picture.shape[:2]
    # The pixel that spans i..i + 1: its centre is at i + 0.5, so this is the nearest centre.
    left = int(np.floor(float(point[0]) * width)) - size // 2
    top = int(np.floor(float(point[1]) * height)) - size // 2
    patch = np.zeros((size, size, 3), np.uint8)
    x, y = (slice(max(0, first), max(0, min(first + size, side))) for first, side in ((left, width), (top, height)))
    part = picture[y, x]
    if part.size:
        patch[y.start - top : y.stop - top, x.start - left : x.stop - left] = part
    return patch, 1 - part.shape[0] * part.shape[1] / size**2


def extract_gaze_content(
    stimulus: Path,
    face_time: np.ndarray,
    gaze: np.ndarray,
    *,
    start: float,
    steps: tuple[float | None, float | None],
    offset: float,
    size: int,
    frame_rate: float,
    max_lost: float,
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The gaze content of one clip (`schema.gaze_content_arrays`, without the clip axis), and how much there is of it.

    Parameters
    ----------
    stimulus
        A video, or a folder of images.
    face_time
        (frames,) seconds from the clip's start; NaN = no such frame.
    gaze
        (steps, 2): fractions of the stimulus' width and height; NaN = unobserved.
    start
        Where the clip starts, in seconds of its video.
    steps
        Where the first of the steps begins and the last one ends, in seconds of the video; None = there are none.
    offset
        Stimulus time = video time + offset, in seconds.
    frame_rate, max_lost
        As of `video.read_pictures`.

    Returns
    -------
    dict
        ``gaze_content`` (frames, size, size, 3) uint8 RGB; black without gaze, without a frame's time, and where the
        stimulus is not shown.
    dict
        ``gaze_content_found``, the fraction of the frames with a patch; ``gaze_content_outside``, the mean fraction of
        those patches that lies beyond the picture; ``stimulus_missed``, the fraction of the frames with a time that lie
        before the stimulus or after its end; ``stimulus_width`` and ``stimulus_height``, of the pictures in pixels.

    Raises
    ------
    VideoError
        The stimulus cannot be used.
    FileNotFoundError
        There is no such file.
    """
    times = face_time + start
    points = gaze_at(times, gaze, start=steps[0], end=steps[1])
    timed = np.flatnonzero(np.isfinite(times))
    # All frames with a time are asked for, with gaze or without: a stimulus that is damaged there is a bad one.
    pictures = read_pictures(stimulus, (times[timed] + offset).tolist(), frame_rate=frame_rate, max_lost=max_lost)
    patches = np.zeros((len(times), size, size, 3), np.uint8)
    outside = []
    for frame, picture in zip(timed, pictures, strict=True):
        if picture is not None and np.isfinite(points[frame]).all():
            patches[frame], beyond = cut_patch(picture, points[frame], size=size)
            outside.append(beyond)
    shown = next((picture for picture in pictures if picture is not None), None)
    quality: dict[str, Any] = {"gaze_content_found": len(outside) / len(times)}
    if outside:
        quality["gaze_content_outside"] = float(np.mean(outside))
    if pictures:
        quality["stimulus_missed"] = sum(picture is None for picture in pictures) / len(pictures)
    if shown is not None:
        quality |= {"stimulus_width": shown.shape[1], "stimulus_height": shown.shape[0]}
    return {"gaze_content": patches}, quality
