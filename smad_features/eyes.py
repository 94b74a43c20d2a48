"""Channels over time -> a fixed number of steps, and how much of each step was really observed.

Steps are windows of real time, not counts of rows: trackers jitter, drop samples and round their clocks. Nothing is
smoothed, and nothing is invented over a gap longer than is asked for.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal

import numpy as np

from smad_features import schema
from smad_features.cleaning import eye_seen
from smad_features.recordings import Recording
from smad_features.resampling import Samples, by_draw, by_windows, interpolate, lay_out, near_span

Method = Literal["mean", "nearest", "draw"]

# A sample never stands for more than this many seconds: slower than 10 Hz is no tracker, but a recording full of holes.
LONGEST_PERIOD = 0.1
# Of the table of clips: what each group's loss is the mean of. Fixation points are in none of them: they are missing
# between fixations by right.
LOST = {
    "lost_gaze": re.compile(r"Gaze point( left| right)? [XY]( \(DACSmm\))?"),
    "lost_media": re.compile(r"Gaze point( left| right)? [XY] \(MCSnorm\)"),
    "lost_direction": re.compile(r"Gaze direction .*"),
    "lost_pupil": re.compile(r"Pupil diameter .*"),
    "lost_position": re.compile(r"Eye position .*"),
    "lost_movement": re.compile(r"Eye movement type( index)?|Gaze event duration"),
}
BLINK = (0.1, 0.4)  # seconds a blink lasts (Schiffman 2001, as BioNumbers 100706)

_DISPLAY = ("Gaze point X", "Gaze point Y")
_MEDIA = ("Gaze point X (MCSnorm)", "Gaze point Y (MCSnorm)")


def resample(
    recording: Recording,
    *,
    start: float | None = None,
    end: float | None = None,
    offset: float = 0.0,
    steps: int = schema.STEPS,
    channels: Sequence[schema.Channel] = schema.TOBII_PRO_LAB_39,
    method: Method = "mean",
    max_gap: float = 0.075,
    screen: tuple[int, int] = (1920, 1080),
    stimulus_area: Sequence[float] | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Bring a clip's span of a recording to `steps` steps of equal length.

    A sample stands for the time half-way to its neighbours, half a period to a side where its neighbour is missing:
    never more than 1.5 periods. A sample that straddles two steps counts in both by its parts.

    ``mean``: a continuous channel is the time-weighted mean of a step's samples; a direction is that, made a unit
    vector again; a category is the one that lasted longest; a counter is the value nearest the step's centre. In
    continuous channels and directions a gap between valid samples of at most `max_gap` (to a quarter of a period) is
    bridged linearly first. Where steps are shorter than the sampling period, continuous channels and directions are
    interpolated linearly at the step's centre, over the same gaps and no longer ones.
    ``nearest``: every channel is the valid sample nearest the step's centre among those that reach into the step.
    ``draw``: the span's rows are cut into `steps` near-equal runs and one row is drawn at random from each, valid or
    not; gaze is drawn by itself (the way of the published SMAD loader).

    Parameters
    ----------
    recording
        What `read_recording` gave.
    start, end
        The span in seconds of the video; None = where the recording begins, ends (half a period around its samples).
    offset
        Recording time = video time + offset, in seconds.
    max_gap
        Longest gap to bridge, in seconds from valid sample to valid sample.
    screen
        Display size in pixels where the recording does not say.
    stimulus_area
        Left, top, width and height of the stimulus in pixels of the display, where the recording does not say; None =
        the whole screen.
    seed
        For ``draw``: the caller mixes in something stable, such as a checksum of the clip's name.

    Returns
    -------
    dict
        The arrays of `schema.eye_arrays`: ``eye`` (steps, C) float32, NaN where nothing was seen or bridged;
        ``eye_observed`` (steps, C) float32, the fraction of the step that valid samples stand for, bridged time not
        among it (for ``draw``: 1 where the drawn value is valid); ``gaze`` (steps, 2) float32, fractions of the
        stimulus' width and height, y down, outside 0..1 where the eye left it; ``gaze_observed`` (steps,) float32.
        ``quality``, numbers about the whole span: ``eye_rate`` in Hz; ``eye_cover``, the fraction of the span that the
        recording's samples stand for, valid or not; ``eye_observed``, of the mean gaze point in pixels;
        ``gaze_observed``; ``interpolated``, the fraction of the span over which gaze was bridged;
        ``eye_longest_gap``, seconds with neither eye seen; ``blinks``, how many times both eyes were lost for the
        length of a blink and found again, and ``blink_length``, their mean in seconds; ``one_eye``, of the time with
        an eye seen the fraction with just one, NaN where the recording does not tell them apart;
        ``lost_by_channel``, channel -> fraction of the span for which no valid sample of it stands, before bridging;
        ``bridged_by_channel``, the fraction of it over which the channel was bridged;
        ``lost_gaze`` and the other names of `LOST`, the means of such over channels of a kind;
        ``gaze_off_stimulus``, the fraction of the steps with gaze in which it left 0..1; ``gaze_source``, media,
        display or none; ``stimulus_area``, by which place of the stimulus gaze on the display became gaze on it:
        recorded, configured, that of the whole screen, or None; ``screen_assumed``, whether `screen` was used;
        ``eye_start`` and ``eye_end``, where the first step begins and the last one ends, in seconds of the video.

    Raises
    ------
    ValueError
        `end` is not after `start`, or `method` is unknown.
    """
    if start is not None and end is not None and end <= start:
        raise ValueError(f"the span ends before it starts: start {start:g} s, end {end:g} s")
    if method not in ("mean", "nearest", "draw"):
        raise ValueError(f"method: want mean, nearest or draw, got {method!r}")
    rate = recording.rate
    period = min(1 / rate, LONGEST_PERIOD) if rate > 0 else LONGEST_PERIOD
    begin = float(recording.time[0]) - period / 2 if start is None else start + offset
    finish = float(recording.time[-1]) + period / 2 if end is None else end + offset
    finish = max(finish, begin)  # a clip that begins after its recording's end has an empty span, all of it missing
    edges = begin + (finish - begin) * np.arange(steps + 1) / steps

    kinds, directions = _kinds(tuple(channels))
    near = near_span(recording.time, edges=edges, period=period, max_gap=max_gap)
    columns = np.empty((len(kinds), near.stop - near.start))
    for column, channel in zip(columns, channels, strict=False):  # the last two are of gaze
        column[:] = recording.channels[channel.name][near] if channel.name in recording.channels else np.nan
    columns[-2:], source, area = gaze_on_stimulus(
        recording, near, span=(begin, finish), screen=screen, stimulus_area=stimulus_area
    )
    samples = lay_out(recording.time[near], columns, edges=edges, period=period, max_gap=max_gap, kinds=kinds)
    if method == "draw":
        value, seen, bridged = by_draw(samples, edges=edges, seed=seed)
    else:
        value, seen, bridged = by_windows(samples, edges=edges, kinds=kinds, nearest=method == "nearest")
    if method == "mean":
        if 0 < edges[1] - edges[0] < period:
            interpolate(value, samples, edges=edges, period=period, kinds=kinds)
        _make_unit(value, directions)

    on_stimulus, gaze_seen = value[:, -2:], seen[:, -2:].min(axis=1)
    return {
        "eye": value[:, :-2].astype(np.float32),
        "eye_observed": seen[:, :-2].astype(np.float32),
        "gaze": on_stimulus.astype(np.float32),
        "gaze_observed": gaze_seen.astype(np.float32),
        "quality": {
            **_quality(recording, samples, near, begin=begin, finish=finish, period=period),
            **_lost(samples, channels, span=finish - begin),
            "bridged_by_channel": _named(channels, bridged.mean(axis=0)),
            "eye_observed": _mean_of(seen, channels, _DISPLAY),
            "gaze_observed": float(gaze_seen.mean()),
            "interpolated": float(bridged[:, -2:].max(axis=1).mean()),
            "gaze_off_stimulus": _off_stimulus(on_stimulus),
            "gaze_source": source,
            "stimulus_area": area,
            "screen_assumed": source == "display" and recording.screen is None,
            "eye_start": begin - offset,
            "eye_end": finish - offset,
        },
    }


@lru_cache
def _kinds(channels: tuple[schema.Channel, ...]) -> tuple[np.ndarray, list[list[int]]]:
    """What is to be done with each column, those of gaze behind the channels; and which columns are one direction."""
    axes: dict[str, list[int]] = {}
    for column, channel in enumerate(channels):
        if channel.kind == "direction":
            axes.setdefault(channel.name[:-1], []).append(column)
    return np.array([channel.kind for channel in channels] + ["continuous"] * 2), list(axes.values())


def gaze_on_stimulus(
    recording: Recording,
    rows: slice,
    *,
    span: tuple[float, float],
    screen: tuple[int, int],
    stimulus_area: Sequence[float] | None,
) -> tuple[np.ndarray, str, str | None]:
    """(2, N): gaze from the best source that has any in the span, missing where an axis is; the source; the place."""
    time = recording.time[rows]
    inside = slice(np.searchsorted(time, span[0]), np.searchsorted(time, span[1], side="right"))

    def is_empty(values: np.ndarray) -> bool:
        return bool(np.isnan(values[:, inside]).all())

    def pair(names: tuple[str, str]) -> np.ndarray:
        if not recording.channels.keys() >= set(names):
            return np.full((2, len(time)), np.nan)
        both = np.array([recording.channels[name][rows] for name in names], dtype=np.float64)
        both[:, np.isnan(both).any(axis=0)] = np.nan
        return both

    gaze = pair(_MEDIA)
    if not is_empty(gaze):
        return gaze, "media", None
    recorded = None if recording.stimulus_area is None else recording.stimulus_area[rows].T
    if recorded is not None and not is_empty(recorded):
        area, said = recorded, "recorded"  # a sample without one is missing: while nothing is shown, nothing is seen
    elif stimulus_area is not None:
        area, said = np.array(stimulus_area, dtype=np.float64)[:, None], "configured"
    else:
        area, said = np.array([0, 0, *(recording.screen or screen)], dtype=np.float64)[:, None], "screen"
    gaze = (pair(_DISPLAY) - area[:2]) / area[2:]
    return (gaze, "none", None) if is_empty(gaze) else (gaze, "display", said)


def _make_unit(value: np.ndarray, directions: list[list[int]]) -> None:
    """Bring the directions back to length 1, in place: the mean of unit vectors is shorter."""
    for columns in directions:
        mean = value[:, columns]
        length = np.sqrt((mean * mean).sum(axis=1))
        length[length == 0] = np.nan
        value[:, columns] = mean / length[:, None]


def _mean_of(seen: np.ndarray, channels: Sequence[schema.Channel], names: Sequence[str]) -> float:
    columns = [column for column, channel in enumerate(channels) if channel.name in names]
    return float(seen[:, columns].mean()) if columns else 0.0


def _lost(samples: Samples, channels: Sequence[schema.Channel], *, span: float) -> dict[str, Any]:
    seen = samples.valid[: len(channels)] @ (samples.high - samples.low)
    fractions = 1 - np.minimum(seen / span, 1) if span > 0 else np.ones(len(channels))
    lost = _named(channels, fractions)
    groups = {
        group: [value for name, value in lost.items() if pattern.fullmatch(name)] for group, pattern in LOST.items()
    }
    means = {group: float(np.mean(values)) for group, values in groups.items() if values}
    return {**means, "lost_by_channel": lost}


def _named(channels: Sequence[schema.Channel], numbers: np.ndarray) -> dict[str, float]:
    return {channel.name: float(number) for channel, number in zip(channels, numbers, strict=False)}  # gaze is last


def _off_stimulus(gaze: np.ndarray) -> float:
    known = gaze[~np.isnan(gaze[:, 0])]
    return float((np.abs(known - 0.5) > 0.5).any(axis=1).mean()) if len(known) else float("nan")


def _quality(
    recording: Recording, samples: Samples, near: slice, *, begin: float, finish: float, period: float
) -> dict[str, float | int]:
    """What `resample` says of the span as a whole, as far as it is told by the samples and not by the steps."""
    real = samples.there & (samples.high > samples.low)
    low, high, time = samples.low[real], samples.high[real], samples.time[real]
    length = high - low
    own = real[samples.there]  # of the recording's samples near the span, those that stand for a part of it
    left, right = (eye_seen(recording, eye)[near][own] for eye in ("left", "right"))
    told_apart = bool(left.any() or right.any())
    if told_apart:
        either = left | right
    else:
        gaze = recording.channels.get(_DISPLAY[0])
        either = np.zeros(len(time), dtype=bool) if gaze is None else ~np.isnan(gaze[near][own])
    seen_time = float(length[either].sum())
    one_time = float(length[left ^ right].sum())
    # Seconds unseen before the first, between, after the last.
    away = np.concatenate([low[either], [finish]]) - np.concatenate([[begin], high[either]])
    lost = np.diff(time[either]) - period
    blinks = lost[(lost >= BLINK[0]) & (lost <= BLINK[1])]
    covered = float(length.sum())
    return {
        "eye_rate": recording.rate,
        "eye_cover": min(covered / (finish - begin), 1.0) if finish > begin else 0.0,
        "eye_longest_gap": float(max(away.max(), 0.0)),
        "blinks": len(blinks),
        "blink_length": float(blinks.mean()) if len(blinks) else float("nan"),
        "one_eye": one_time / seen_time if told_apart and seen_time > 0 else float("nan"),
    }
