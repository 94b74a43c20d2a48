"""Channels over time -> a fixed number of steps, and how much of each step was really observed.

Steps are windows of real time, not counts of rows: trackers jitter, drop samples and round their clocks. Nothing is
smoothed, and nothing is invented over a gap longer than is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from smad_features import schema
from smad_features.cleaning import eye_seen
from smad_features.recordings import Recording

Method = Literal["mean", "nearest", "draw"]

CONTIGUOUS = 1.5  # neighbours at most this many periods apart have no sample missing between them
# A sample never stands for more than this many seconds: slower than 10 Hz is no tracker, but a recording full of holes.
LONGEST_PERIOD = 0.1
BLINK = (0.1, 0.4)  # seconds a blink lasts (Schiffman 2001, as BioNumbers 100706)

_DISPLAY = ("Gaze point X", "Gaze point Y")
_MEDIA = ("Gaze point X (MCSnorm)", "Gaze point Y (MCSnorm)")


@dataclass(frozen=True)
class _Samples:
    """Samples in and just around the span, a gap that may be bridged filled up with rows of its own.

    ``low``, ``high``: the time that each row stands for, cut to the span. ``there``: False for the added rows.
    """

    time: np.ndarray  # (N,)
    low: np.ndarray  # (N,)
    high: np.ndarray  # (N,)
    there: np.ndarray  # (N,) bool
    values: np.ndarray  # (N, C), NaN where missing
    filled: np.ndarray  # (N, C), the same with short gaps bridged


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
        ``gaze_off_stimulus``, the fraction of the steps with gaze in which it left 0..1; ``gaze_source``, media,
        display or none; ``screen_assumed``, whether `screen` was used; ``eye_start`` and ``eye_end``, where the first
        step begins and the last one ends, in seconds of the video.

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

    kinds = np.array([channel.kind for channel in channels] + ["continuous"] * 2)
    columns, source, assumed = _columns(recording, channels, span=(begin, finish), screen=screen)
    samples = _samples(recording.time, columns, edges=edges, period=period, max_gap=max_gap, kinds=kinds)
    if method == "draw":
        value, seen, bridged = _draw(samples, edges=edges, seed=seed)
    else:
        value, seen, bridged = _windows(samples, edges=edges, kinds=kinds, nearest=method == "nearest")
    if method == "mean":
        if 0 < edges[1] - edges[0] < period:
            _interpolate(value, samples, edges=edges, period=period, kinds=kinds)
        _make_unit(value, channels)

    gaze, gaze_seen = value[:, -2:], seen[:, -2:].min(axis=1)
    return {
        "eye": value[:, :-2].astype(np.float32),
        "eye_observed": seen[:, :-2].astype(np.float32),
        "gaze": gaze.astype(np.float32),
        "gaze_observed": gaze_seen.astype(np.float32),
        "quality": {
            **_quality(recording, samples, begin=begin, finish=finish, period=period),
            "eye_observed": _mean_of(seen, channels, _DISPLAY),
            "gaze_observed": float(gaze_seen.mean()),
            "interpolated": float(bridged[:, -2:].max(axis=1).mean()),
            "gaze_off_stimulus": _off_stimulus(gaze),
            "gaze_source": source,
            "screen_assumed": assumed,
            "eye_start": begin - offset,
            "eye_end": finish - offset,
        },
    }


def _columns(
    recording: Recording, channels: Sequence[schema.Channel], *, span: tuple[float, float], screen: tuple[int, int]
) -> tuple[np.ndarray, str, bool]:
    """(N, C + 2): the channels asked for, and gaze from the best source, missing where one of its axes is."""
    nothing = np.full(len(recording.time), np.nan)
    inside = (recording.time >= span[0]) & (recording.time <= span[1])

    def pair(names: tuple[str, str]) -> np.ndarray:
        both = np.stack([recording.channels.get(name, nothing) for name in names], axis=1)
        return np.where(np.isnan(both).any(axis=1, keepdims=True), np.nan, both)

    gaze, source = pair(_MEDIA), "media"
    if np.isnan(gaze[inside]).all():
        gaze, source = pair(_DISPLAY) / np.array(recording.screen or screen, dtype=np.float64), "display"
    if np.isnan(gaze[inside]).all():
        source = "none"
    eye = [recording.channels.get(channel.name, nothing) for channel in channels]
    return np.column_stack([*eye, gaze]), source, source == "display" and recording.screen is None


def _samples(
    time: np.ndarray, values: np.ndarray, *, edges: np.ndarray, period: float, max_gap: float, kinds: np.ndarray
) -> _Samples:
    reach = max_gap + 2 * period  # so that a gap that leads into the span is bridged from both its ends
    near = slice(np.searchsorted(time, edges[0] - reach), np.searchsorted(time, edges[-1] + reach, side="right"))
    time, values = time[near], values[near]
    there = np.ones(len(time), dtype=bool)
    # A clock's rounding must not decide on a gap of exactly the length allowed.
    longest = max(max_gap + period / 4, CONTIGUOUS * period)

    gaps = np.diff(time)
    half = np.where(gaps <= CONTIGUOUS * period, gaps, period) / 2
    low = time - np.concatenate([[period / 2], half])[: len(time)]
    high = time + np.concatenate([half, [period / 2]])[: len(time)]

    # A sample left out of the file is the same as one that is there and empty: fill up what may be bridged with such.
    holes = np.flatnonzero((gaps > CONTIGUOUS * period) & (gaps <= longest))
    if len(holes):
        lost = gaps[holes] - period
        counts = np.maximum(np.rint(lost / period).astype(int), 1)
        width = np.repeat(lost / counts, counts)
        number = np.concatenate([np.arange(count) for count in counts])
        before = np.repeat(holes, counts)
        added = high[before] + number * width
        time, values, there = (
            np.insert(time, before + 1, added + width / 2),
            np.insert(values, before + 1, np.nan, axis=0),
            np.insert(there, before + 1, False),
        )
        low, high = np.insert(low, before + 1, added), np.insert(high, before + 1, added + width)
    return _Samples(
        time,
        np.clip(low, edges[0], edges[-1]),
        np.clip(high, edges[0], edges[-1]),
        there,
        values,
        _bridge(time, values, longest=longest, able=(kinds == "continuous") | (kinds == "direction")),
    )


def _bridge(time: np.ndarray, values: np.ndarray, *, longest: float, able: np.ndarray) -> np.ndarray:
    """`values` with gaps of at most `longest` seconds filled linearly in the columns that are `able`."""
    filled = values.copy()
    missing = np.isnan(values)
    columns = np.flatnonzero(able & missing.any(axis=0) & ~missing.all(axis=0))
    missing = missing[:, columns]
    rows = np.arange(len(time))[:, None]
    last = np.maximum.accumulate(np.where(missing, -1, rows), axis=0)
    following = np.minimum.accumulate(np.where(missing, len(time), rows)[::-1], axis=0)[::-1]
    row, place = np.nonzero(missing & (last >= 0) & (following < len(time)))
    before, after = last[row, place], following[row, place]
    short = time[after] - time[before] <= longest
    row, column, before, after = row[short], columns[place[short]], before[short], after[short]
    part = (time[row] - time[before]) / (time[after] - time[before])
    filled[row, column] = (1 - part) * values[before, column] + part * values[after, column]
    return filled


def _windows(
    samples: _Samples, *, edges: np.ndarray, kinds: np.ndarray, nearest: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Value, fraction seen and fraction bridged of each step: (steps, C) each."""
    steps, width, count = len(edges) - 1, edges[1] - edges[0], len(kinds)
    valid, usable = ~np.isnan(samples.values), ~np.isnan(samples.filled)
    at_centre = np.flatnonzero((kinds == "counter") | nearest)
    by_mode = np.flatnonzero((kinds == "category") & ~nearest)
    codes = [(column, code) for column in by_mode for code in np.unique(samples.values[valid[:, column], column])]
    lasting = [samples.values[:, column] == code for column, code in codes]
    # All that is summed over time stands side by side: one product a step.
    summed = np.column_stack([valid, usable, np.where(usable, samples.filled, 0.0), *lasting])

    value, totals = np.full((steps, count), np.nan), np.zeros((steps, summed.shape[1]))
    first = np.searchsorted(samples.high, edges[:-1], side="right")
    last = np.searchsorted(samples.low, edges[1:], side="left")
    for step in range(steps):
        rows = slice(first[step], last[step])
        weight = np.minimum(samples.high[rows], edges[step + 1]) - np.maximum(samples.low[rows], edges[step])  # (n,) s
        if not weight.sum() > 0:
            continue
        totals[step] = weight @ summed[rows]
        away = np.abs(samples.time[rows] - (edges[step] + edges[step + 1]) / 2)[:, None]
        pick = np.where(valid[rows, at_centre], away, np.inf).argmin(axis=0)
        value[step, at_centre] = samples.values[rows][pick, at_centre]

    seen, used = totals[:, :count], totals[:, count : 2 * count]
    averaged = np.setdiff1d(np.arange(count), np.concatenate([at_centre, by_mode]))
    total = totals[:, 2 * count : 3 * count][:, averaged]
    value[:, averaged] = np.divide(
        total, used[:, averaged], out=np.full_like(total, np.nan), where=used[:, averaged] > 0
    )
    for column in by_mode:
        # Of equally long ones the smallest code.
        place = [3 * count + number for number, (of, _) in enumerate(codes) if of == column]
        names = np.array([code for of, code in codes if of == column])
        if len(place):
            longest = names[totals[:, place].argmax(axis=1)]
            value[:, column] = np.where(seen[:, column] > 0, longest, np.nan)
    if not width > 0:
        return value, np.zeros_like(seen), np.zeros_like(seen)
    return value, np.minimum(seen / width, 1.0), (used - seen) / width


def _interpolate(value: np.ndarray, samples: _Samples, *, edges: np.ndarray, period: float, kinds: np.ndarray) -> None:
    """Put, in place, the value at each step's centre where it lies between two neighbours that are known."""
    if len(samples.time) < 2:
        return
    centres = (edges[:-1] + edges[1:]) / 2
    before = np.clip(np.searchsorted(samples.time, centres, side="right") - 1, 0, len(samples.time) - 2)
    gap = samples.time[before + 1] - samples.time[before]
    part = (centres - samples.time[before]) / gap
    line = (1 - part)[:, None] * samples.filled[before] + part[:, None] * samples.filled[before + 1]
    between = (part >= 0) & (part <= 1) & (gap <= CONTIGUOUS * period)
    use = between[:, None] & ~np.isnan(line) & ((kinds == "continuous") | (kinds == "direction"))
    value[use] = line[use]


def _draw(samples: _Samples, *, edges: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    inside = np.flatnonzero(samples.there & (samples.time >= edges[0]) & (samples.time < edges[-1]))
    steps = len(edges) - 1
    value = np.full((steps, samples.values.shape[1]), np.nan)
    for stream, columns in enumerate((slice(None, -2), slice(-2, None))):  # eye, then gaze: independent draws
        random = np.random.default_rng([seed, stream])
        for step, rows in enumerate(np.array_split(inside, steps)):
            if len(rows):
                value[step, columns] = samples.values[random.choice(rows), columns]
    return value, (~np.isnan(value)).astype(np.float64), np.zeros_like(value)


def _make_unit(value: np.ndarray, channels: Sequence[schema.Channel]) -> None:
    """Bring the directions back to length 1, in place: the mean of unit vectors is shorter."""
    axes: dict[str, list[int]] = {}
    for column, channel in enumerate(channels):
        if channel.kind == "direction":
            axes.setdefault(channel.name[:-1], []).append(column)
    for columns in axes.values():
        length = np.linalg.norm(value[:, columns], axis=1, keepdims=True)
        value[:, columns] = np.divide(
            value[:, columns], length, out=np.full_like(value[:, columns], np.nan), where=length > 0
        )


def _mean_of(seen: np.ndarray, channels: Sequence[schema.Channel], names: Sequence[str]) -> float:
    columns = [column for column, channel in enumerate(channels) if channel.name in names]
    return float(seen[:, columns].mean()) if columns else 0.0


def _off_stimulus(gaze: np.ndarray) -> float:
    known = gaze[~np.isnan(gaze).any(axis=1)]
    return float(np.any((known < 0) | (known > 1), axis=1).mean()) if len(known) else float("nan")


def _quality(
    recording: Recording, samples: _Samples, *, begin: float, finish: float, period: float
) -> dict[str, float | int]:
    """What `resample` says of the span as a whole, as far as it is told by the samples and not by the steps."""
    real = samples.there & (samples.high > samples.low)
    low, high, time = samples.low[real], samples.high[real], samples.time[real]
    rows = np.searchsorted(recording.time, time)
    eyes = [eye_seen(recording, eye)[rows] for eye in ("left", "right")]
    told_apart = any(eye.any() for eye in eyes)
    either = (
        eyes[0] | eyes[1]
        if told_apart
        else ~np.isnan(recording.channels.get(_DISPLAY[0], recording.time * np.nan)[rows])
    )
    seen_time = float((high - low)[either].sum())
    one_time = float((high - low)[eyes[0] ^ eyes[1]].sum())
    away = np.append(low[either], finish) - np.insert(high[either], 0, begin)  # seconds unseen before, between, after
    lost = np.diff(time[either]) - period
    blinks = lost[(lost >= BLINK[0]) & (lost <= BLINK[1])]
    covered = float((high - low).sum())
    return {
        "eye_rate": recording.rate,
        "eye_cover": min(covered / (finish - begin), 1.0) if finish > begin else 0.0,
        "eye_longest_gap": float(max(away.max(), 0.0)),
        "blinks": len(blinks),
        "blink_length": float(blinks.mean()) if len(blinks) else float("nan"),
        "one_eye": one_time / seen_time if told_apart and seen_time > 0 else float("nan"),
    }
