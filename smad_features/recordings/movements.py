"""Eye movements given as events, with a start and an end, become a code, an index and a duration for every sample."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from smad_features import schema

_NOT_FOUND = schema.EYE_MOVEMENT["EyesNotFound"]


@dataclass(frozen=True)
class Movement:
    """One fixation, saccade or blink of one eye."""

    eye: str  # left | right
    code: float  # of `schema.EYE_MOVEMENT`; a blink is EyesNotFound
    start: float  # time of its first sample
    end: float  # time of its last sample
    duration: float  # ms
    point: tuple[float, float] = (np.nan, np.nan)  # where a fixation was, px


def movement_channels(movements: Sequence[Movement], time: np.ndarray, *, seen: np.ndarray) -> dict[str, np.ndarray]:
    """What each sample is part of.

    It is what the left eye did; the right one, where the left did nothing or blinked. The saccade around a blink is an
    artefact: both are EyesNotFound, for as long as the saccade. A sample that is part of nothing is Unclassified, or
    EyesNotFound where no eye was seen. An index counts the movements of its kind from 1.

    Parameters
    ----------
    time : (N,) float64
        In the unit of the movements' own times.
    seen : (N,) bool
        An eye was seen.

    Returns
    -------
    dict
        ``Eye movement type``, ``Eye movement type index``, ``Gaze event duration`` (ms), ``Fixation point X`` and
        ``Y`` (px): (N,) float64 each, NaN where there is none.
    """
    movements = sorted(_without_artefacts(movements), key=lambda movement: (movement.start, movement.end))
    order = np.argsort(time, kind="stable")
    ticks = time[order]
    left, right = np.full(len(time), -1), np.full(len(time), -1)  # which movement, -1 = none
    for number, movement in enumerate(movements):
        rows = slice(np.searchsorted(ticks, movement.start), np.searchsorted(ticks, movement.end, side="right"))
        (left if movement.eye == "left" else right)[order[rows]] = number

    codes = np.array([movement.code for movement in movements] + [np.nan])  # the last is that of no movement
    use_right = (left < 0) | ((codes[left] == _NOT_FOUND) & (right >= 0) & (codes[right] != _NOT_FOUND))
    which = np.where(use_right, right, left)
    index = np.full(len(codes), np.nan)
    used = np.unique(which[which >= 0])
    for code in np.unique(codes[used]):
        same = used[codes[used] == code]
        index[same] = np.arange(1, len(same) + 1)
    points = np.array([movement.point for movement in movements] + [(np.nan, np.nan)])
    idle = np.where(seen, schema.EYE_MOVEMENT["Unclassified"], _NOT_FOUND)
    return {
        "Eye movement type": np.where(which < 0, idle, codes[which]),
        "Gaze event duration": np.array([movement.duration for movement in movements] + [np.nan])[which],
        "Eye movement type index": index[which],
        "Fixation point X": points[which, 0],
        "Fixation point Y": points[which, 1],
    }


def _without_artefacts(movements: Sequence[Movement]) -> list[Movement]:
    kept = []
    for eye in ("left", "right"):
        own = sorted((movement for movement in movements if movement.eye == eye), key=lambda movement: movement.start)
        blinks = [movement for movement in own if movement.code == _NOT_FOUND]
        starts, ends = [blink.start for blink in blinks], [blink.end for blink in blinks]
        alone = np.ones(len(blinks), dtype=bool)
        for movement in own:
            inside = slice(bisect_left(starts, movement.start), bisect_right(ends, movement.end))
            if movement.code == schema.EYE_MOVEMENT["Saccade"] and alone[inside].any():
                alone[inside] = False
                kept.append(replace(movement, code=_NOT_FOUND))
            elif movement.code != _NOT_FOUND:
                kept.append(movement)
        kept += [blink for blink, itself in zip(blinks, alone, strict=True) if itself]
    return kept


def event_index(codes: np.ndarray, numbers: np.ndarray | None = None) -> np.ndarray:
    """Count the movements of each kind from 1, where a file says of every sample what it is part of.

    Parameters
    ----------
    codes : (N,) float64
        Of `schema.EYE_MOVEMENT`; what is Unclassified or NaN is no movement.
    numbers : (N,) float64
        The file's own number of the movement, whatever it counts; without it a movement is a run of equal codes.

    Returns
    -------
    np.ndarray
        (N,) float64, NaN where there is no movement.
    """
    if numbers is None:
        numbers = np.cumsum(np.diff(codes, prepend=codes[:1]) != 0).astype(np.float64)
    index = np.full(len(codes), np.nan)
    for code in set(schema.EYE_MOVEMENT.values()) - {schema.EYE_MOVEMENT["Unclassified"]}:
        rows = np.flatnonzero((codes == code) & np.isfinite(numbers))
        _, first, which = np.unique(numbers[rows], return_index=True, return_inverse=True)
        rank = np.empty(len(first))
        rank[np.argsort(first)] = np.arange(1, len(first) + 1)
        index[rows] = rank[which]
    return index
