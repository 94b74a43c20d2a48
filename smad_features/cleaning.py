"""What a tracker measured but no eye can have done becomes missing, and is counted. Nothing is smoothed or repaired."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from smad_features import schema
from smad_features.recordings import Recording

# A loss of this many seconds and more may be a blink or its like: the lid passes over the pupil before and after it.
# (Schiffman 2001, as BioNumbers 100706: a blink lasts 0.1 to 0.4 s.)
SHORTEST_BLINK = 0.1

_POINT = re.compile(r"(Gaze point(?: left| right)?|Fixation point) [XY]( \(MCSnorm\))?")


def clean(recording: Recording, settings: Mapping[str, Any]) -> tuple[Recording, dict[str, int | float]]:
    """The recording without impossible values and the edges of blinks, gaze in pixels, and how many values went.

    In this order: fractions of the screen become pixels; points beyond the screen, or the medium, by more than
    `screen_margin` of its size on any side go; last, of an eye that is lost for 0.1 s
    or more, all continuous values within `blink_buffer` seconds of the loss. What both eyes make together (the mean
    gaze point) goes where both are lost or so near to it, and each axis of a point takes the others along.

    Parameters
    ----------
    settings
        The configuration's `eye` section: screen, screen_margin, blink_buffer.

    Returns
    -------
    counts
        impossible_pupils (of the reader), impossible_gaze, blink_edges: values, each axis by itself; eye_lost: fraction
        of the samples with neither eye, as the tracker had it.
    """
    width, height = recording.screen or settings["screen"]
    channels = {name: values.copy() for name, values in recording.channels.items()}
    for name in recording.normalized & channels.keys():
        channels[name] *= width if name.endswith("X") else height

    gone = 0
    for names, size in _points(channels, screen=(width, height)):
        margin = settings["screen_margin"]
        beyond = np.any(
            [np.abs(channels[name] / side - 0.5) > 0.5 + margin for name, side in zip(names, size, strict=True)], axis=0
        )
        gone += sum(_drop(channels[name], beyond) for name in names)

    cleaned = replace(recording, channels=channels, normalized=frozenset())
    eyes = {eye: eye_seen(recording, eye) for eye in ("left", "right")}
    if not any(seen.any() for seen in eyes.values()):
        eyes = {}
    either = np.any(list(eyes.values()), axis=0) if eyes else _gaze_seen(recording)
    edges = _drop_edges(cleaned, eyes, either, buffer=settings["blink_buffer"])
    counts = {
        "impossible_pupils": recording.notes.get("impossible_pupils", 0),
        "impossible_gaze": gone,
        "blink_edges": edges,
        "eye_lost": float(1 - either.mean()),
    }
    return cleaned, counts


def eye_seen(recording: Recording, eye: str) -> np.ndarray:
    """(N,) bool: the tracker saw this eye (left | right), by its validity, else by what was measured of it."""
    flag = recording.channels.get(f"Validity {eye}")
    if flag is not None and not np.isnan(flag).all():
        return np.asarray(flag == schema.VALIDITY["Valid"])
    measured = [values for name, values in recording.channels.items() if f" {eye}" in name]
    return np.any(~np.isnan(measured), axis=0) if measured else np.zeros(len(recording.time), dtype=bool)


def _gaze_seen(recording: Recording) -> np.ndarray:
    measured = [values for name, values in recording.channels.items() if name.startswith("Gaze point")]
    return np.any(~np.isnan(measured), axis=0) if measured else np.zeros(len(recording.time), dtype=bool)


def _points(channels: Mapping[str, np.ndarray], *, screen: tuple[int, int]) -> list[tuple[list[str], tuple[int, int]]]:
    """The pairs of channels that are one point, x first, and the size of what they lie on."""
    groups: dict[tuple[str, str], list[str]] = {}
    for name in channels:
        if match := _POINT.fullmatch(name):
            groups.setdefault((match[1], match[2] or ""), []).append(name)
    return [(sorted(names), (1, 1) if frame else screen) for (_, frame), names in groups.items() if len(names) == 2]


def _drop(values: np.ndarray, where: np.ndarray) -> int:
    """Make values missing, in place; how many were not before."""
    where = where & ~np.isnan(values)
    values[where] = np.nan
    return int(where.sum())


def _drop_edges(recording: Recording, eyes: dict[str, np.ndarray], either: np.ndarray, *, buffer: float) -> int:
    """Drop, in place, what was measured within ``buffer`` seconds of a loss; how many values."""
    if not buffer > 0:
        return 0
    near = {eye: _near_loss(recording, seen, buffer=buffer) for eye, seen in eyes.items()}
    # Both: of an eye that is seen, but where the lid may hang over it, nothing is known either.
    both = (
        np.all([near[eye] | ~eyes[eye] for eye in eyes], axis=0)
        if eyes
        else _near_loss(recording, either, buffer=buffer)
    )
    dropped = 0
    for name, values in recording.channels.items():
        kind = _KINDS.get(name, "continuous")
        if kind in ("continuous", "direction"):
            eye = next((eye for eye in eyes if f" {eye}" in name), None)
            dropped += _drop(values, both if eye is None else near[eye])
    return dropped


_KINDS = {channel.name: channel.kind for channel in schema.TOBII_PRO_LAB_39}


def _near_loss(recording: Recording, seen: np.ndarray, *, buffer: float) -> np.ndarray:
    """(N,) bool: seen samples within ``buffer`` seconds of a loss of a blink's length or more."""
    near = np.zeros(len(seen), dtype=bool)
    rows = np.flatnonzero(seen)
    if len(rows) < 2:
        return near
    time, period = recording.time, 1 / recording.rate
    before, after = rows[:-1], rows[1:]
    lost = time[after] - time[before] - period
    # A gap in the file is as good a loss as empty rows; a clock's jitter makes neither.
    for a, b in zip(
        before[lost >= SHORTEST_BLINK - period / 4], after[lost >= SHORTEST_BLINK - period / 4], strict=True
    ):
        # Samples whose centre lies within the buffer of the loss, which begins half a period after the last one seen.
        first = np.searchsorted(time, time[a] + period / 2 - buffer)
        last = np.searchsorted(time, time[b] - period / 2 + buffer, side="right")
        near[first : a + 1] = near[b:last] = True
    return near & seen
