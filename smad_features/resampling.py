"""Samples over time -> steps: windows of real time, each with its value and with how much of it was seen.

What is here knows columns and times alone; what they mean is for `eyes.py` to say. A column lies along memory, as most
of the work is done column by column.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

CONTIGUOUS = 1.5  # neighbours at most this many periods apart have no sample missing between them


@dataclass(frozen=True)
class Samples:
    """Samples in and just around the span, a gap that may be bridged filled up with samples of its own.

    ``low``, ``high``: the time that each stands for, cut to the span. ``there``: False for the added ones.
    """

    time: np.ndarray  # (N,)
    low: np.ndarray  # (N,)
    high: np.ndarray  # (N,)
    there: np.ndarray  # (N,) bool
    values: np.ndarray  # (C, N), short gaps bridged, 0 where nothing is known
    valid: np.ndarray  # (C, N) bool: measured
    usable: np.ndarray  # (C, N) bool: measured or bridged


Steps = tuple[np.ndarray, np.ndarray, np.ndarray]  # value, fraction seen, fraction bridged: (steps, C) each


def near_span(time: np.ndarray, *, edges: np.ndarray, period: float, max_gap: float) -> slice:
    """The samples that matter to the span: beyond its ends as far as a gap that leads into it may be bridged."""
    reach = max_gap + 2 * period
    return slice(np.searchsorted(time, edges[0] - reach), np.searchsorted(time, edges[-1] + reach, side="right"))


def lay_out(
    time: np.ndarray, values: np.ndarray, *, edges: np.ndarray, period: float, max_gap: float, kinds: np.ndarray
) -> Samples:
    """The time that each sample stands for, and short gaps bridged.

    Parameters
    ----------
    time : (N,) float64
    values : (C, N) float64
        NaN where missing. Used up: what becomes of it is in the result.
    edges : (steps + 1,) float64
        Of the steps, in the same seconds.
    kinds : (C,) str
        As in `schema.Channel`.
    """
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
        before = np.repeat(holes, counts)
        added = high[before] + _counted(counts) * width
        time, values, there = (
            np.insert(time, before + 1, added + width / 2),
            np.insert(values, before + 1, np.nan, axis=1),
            np.insert(there, before + 1, False),
        )
        low, high = np.insert(low, before + 1, added), np.insert(high, before + 1, added + width)
    valid = ~np.isnan(values)
    usable = valid.copy()
    able = (kinds == "continuous") | (kinds == "direction")
    _bridge(time, values, usable, able, longest=longest)
    np.copyto(values, 0, where=~usable)
    low, high = (np.minimum(np.maximum(end, edges[0]), edges[-1]) for end in (low, high))
    return Samples(time, low, high, there, values, valid, usable)


def _counted(counts: np.ndarray) -> np.ndarray:
    """0, 1, 2 and so on for each of the counts, one after the other."""
    return np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)


def _bridge(time: np.ndarray, values: np.ndarray, usable: np.ndarray, able: np.ndarray, *, longest: float) -> None:
    """Fill, in place, gaps of at most `longest` seconds linearly in the columns that are `able`."""
    count = len(time)
    if count < 3:
        return
    # No gap leads from one column to the next, none from before the first sample or beyond the last is one.
    missing = ~usable & able[:, None]
    missing[:, [0, -1]] = False
    flat = missing.ravel()
    changes = (flat[1:] != flat[:-1]).nonzero()[0]
    before, after = changes[::2], changes[1::2] + 1  # the neighbours of each gap
    row = before % count
    known = usable.ravel()[before] & usable.ravel()[after]
    short = known & (time[row + after - before] - time[row] <= longest)
    before, after, row = before[short], after[short], row[short]
    lost = after - before - 1
    place = _counted(lost) + 1
    before, after, row = np.repeat(before, lost), np.repeat(after, lost), np.repeat(row, lost)
    start = time[row]
    part = (time[row + place] - start) / (time[row + after - before] - start)
    cells, flat = before + place, values.ravel()
    flat[cells] = (1 - part) * flat[before] + part * flat[after]
    usable.ravel()[cells] = True


def by_windows(samples: Samples, *, edges: np.ndarray, kinds: np.ndarray, nearest: bool) -> Steps:
    """Means of what is continuous or a direction, the longest of categories, counters at the centre.

    With ``nearest`` all is taken from the sample nearest the centre.
    """
    steps, width, count = len(edges) - 1, edges[1] - edges[0], len(kinds)
    value = np.full((steps, count), np.nan)
    if not width > 0 or not len(samples.time):
        return value, np.zeros_like(value), np.zeros_like(value)
    at_centre = np.flatnonzero((kinds == "counter") | nearest).tolist()
    by_mode = np.flatnonzero((kinds == "category") & (not nearest)).tolist()
    codes = [(column, code) for column in by_mode for code in _codes(samples, column)]

    # All that is summed over time lies in one array: one product a step. Where values are missing is much the same in
    # many columns (an eye is lost as a whole), so each such pattern is looked at once: in the first column that has it.
    first_of, pattern_of = _patterns(samples.valid, (kinds == "continuous") | (kinds == "direction"))
    lasting = [(samples.values[column] == code) & samples.valid[column] for column, code in codes]
    summed = np.concatenate(
        [samples.values, *(row[None] for row in lasting), samples.valid[first_of], samples.usable[first_of]],
        dtype=np.float64,
    )

    first = np.searchsorted(samples.high, edges[:-1], side="right")
    last = np.maximum(np.searchsorted(samples.low, edges[1:], side="left"), first)
    counts = last - first
    step, rows = np.repeat(np.arange(steps), counts), np.repeat(first, counts) + _counted(counts)
    weights = np.minimum(samples.high[rows], edges[step + 1]) - np.maximum(samples.low[rows], edges[step])  # s
    ends = np.cumsum(counts)
    totals = np.zeros((steps, len(summed)))
    for number, (low, high, end) in enumerate(zip(first.tolist(), last.tolist(), ends.tolist(), strict=True)):
        totals[number] = summed[:, low:high] @ weights[end - high + low : end]

    ends = np.cumsum([count, len(codes), len(first_of)])
    lasted = totals[:, ends[0] : ends[1]]
    seen, used = totals[:, ends[1] : ends[2]][:, pattern_of], totals[:, ends[2] :][:, pattern_of]
    averaged = np.ones(count, dtype=bool)
    averaged[at_centre] = averaged[by_mode] = False
    np.divide(totals[:, :count], used, out=value, where=(used > 0) & averaged)
    found: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for column in at_centre:
        pattern = pattern_of[column]
        if pattern not in found:
            found[pattern] = _at_centre(samples.time, samples.valid[column], edges=edges, first=first, last=last)
        rows, is_there = found[pattern]
        value[:, column] = np.where(is_there, samples.values[column, rows], np.nan)
    for column in by_mode:
        # Of equally long ones the smallest code.
        place = [number for number, (of, _) in enumerate(codes) if of == column]
        if place:
            names = np.array([codes[number][1] for number in place])
            longest = names[lasted[:, place[0] : place[-1] + 1].argmax(axis=1)]
            value[:, column] = np.where(seen[:, column] > 0, longest, np.nan)
    return value, np.minimum(seen / width, 1.0), (used - seen) / width


def _patterns(valid: np.ndarray, able: np.ndarray) -> tuple[list[int], list[int]]:
    """The first column of each pattern of what is valid, and of whether it may be bridged; each column's pattern."""
    packed = np.packbits(valid, axis=1)
    width, marks = packed.shape[1], packed.tobytes()
    place: dict[tuple[bytes, bool], int] = {}
    first_of: list[int] = []
    pattern_of: list[int] = []
    for column, is_able in enumerate(able.tolist()):
        pattern = place.setdefault((marks[column * width : (column + 1) * width], is_able), len(place))
        if pattern == len(first_of):
            first_of.append(column)
        pattern_of.append(pattern)
    return first_of, pattern_of


def _codes(samples: Samples, column: int) -> list[float]:
    """What occurs in a category, in order. Codes come in long runs: looking at their ends is enough."""
    values, valid = samples.values[column], samples.valid[column]
    ends = ((values[1:] != values[:-1]) | (valid[1:] != valid[:-1])).nonzero()[0]
    found = set(values[ends][valid[ends]].tolist())
    return sorted(found | {float(values[-1])} if valid[-1] else found)


def _at_centre(
    time: np.ndarray, valid: np.ndarray, *, edges: np.ndarray, first: np.ndarray, last: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(steps,) each: the valid sample nearest a step's centre, of two as near the earlier; whether it reaches there.

    ``first``, ``last``: the first sample that reaches into a step, and the first behind it that does not.
    """
    known = valid.nonzero()[0]
    centres = (edges[:-1] + edges[1:]) / 2
    if not len(known):
        return np.zeros(len(centres), dtype=int), np.zeros(len(centres), dtype=bool)
    place = time[known].searchsorted(centres)
    before, after = known[np.maximum(place - 1, 0)], known[np.minimum(place, len(known) - 1)]
    is_before, is_after = (before >= first) & (before < last), (after >= first) & (after < last)
    use_after = is_after & (~is_before | (np.abs(time[after] - centres) < np.abs(time[before] - centres)))
    return np.where(use_after, after, before), is_before | is_after


def interpolate(value: np.ndarray, samples: Samples, *, edges: np.ndarray, period: float, kinds: np.ndarray) -> None:
    """Put, in place, the value at each step's centre where it lies between two neighbours that are known."""
    if len(samples.time) < 2:
        return
    centres = (edges[:-1] + edges[1:]) / 2
    before = np.clip(np.searchsorted(samples.time, centres, side="right") - 1, 0, len(samples.time) - 2)
    gap = samples.time[before + 1] - samples.time[before]
    part = (centres - samples.time[before]) / gap
    line = ((1 - part) * samples.values[:, before] + part * samples.values[:, before + 1]).T
    known = (samples.usable[:, before] & samples.usable[:, before + 1]).T
    between = (part >= 0) & (part <= 1) & (gap <= CONTIGUOUS * period)
    use = between[:, None] & known & ((kinds == "continuous") | (kinds == "direction"))
    value[use] = line[use]


def by_draw(samples: Samples, *, edges: np.ndarray, seed: int) -> Steps:
    """One random sample of each of as many near-equal runs as there are steps; the last two columns by themselves."""
    inside = np.flatnonzero(samples.there & (samples.time >= edges[0]) & (samples.time < edges[-1]))
    steps = len(edges) - 1
    value = np.full((steps, len(samples.values)), np.nan)
    for stream, columns in enumerate((slice(None, -2), slice(-2, None))):  # eye, then gaze: independent draws
        random = np.random.default_rng([seed, stream])
        for step, rows in enumerate(np.array_split(inside, steps)):
            if len(rows):
                row = random.choice(rows)
                value[step, columns] = np.where(samples.valid[columns, row], samples.values[columns, row], np.nan)
    return value, (~np.isnan(value)).astype(np.float64), np.zeros_like(value)
