"""A trace as a picture: samples as a thin line, cached steps as dots, what was lost or bridged as shaded columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from matplotlib.ticker import MaxNLocator

from smad_features import schema
from smad_features.face_drawing import fixed
from smad_features.page import PAPER
from smad_features.resampling import CONTIGUOUS
from smad_features.traces import Trace

# RGB, as all colours here
SAMPLES, STEPS, TICK = (120, 150, 190), (20, 60, 150), (60, 60, 66)
LOST, BRIDGED, HATCH, OUTSIDE = (255, 208, 205), (226, 226, 230), (165, 165, 172), (240, 240, 243)
MOVEMENTS = dict(
    zip(schema.EYE_MOVEMENT.values(), ((176, 176, 184), (70, 165, 140), (245, 175, 40), (205, 70, 70)), strict=True)
)  # Unclassified, Fixation, Saccade, EyesNotFound
_GRID, _BORDER = (214, 214, 220), (150, 150, 158)
_ROOM = 0.08  # of the values' range, above and below them
_HALF = 0.5  # a step less observed than this has a hollow dot


@dataclass(frozen=True)
class Axis:
    """Seconds ``low`` to ``high`` over ``width`` pixels, whose centres are whole numbers."""

    low: float
    high: float
    width: int

    def x(self, time: Any) -> Any:
        """The pixel at which a time lies."""
        return (time - self.low) / (self.high - self.low) * self.width - 0.5

    def columns(self, start: float, end: float) -> slice:
        """The columns that a span fills, to the nearest whole ones: at least one, as a short loss must be seen."""
        first, last = (round(float(np.clip(self.x(edge) + 0.5, 0, self.width))) for edge in (start, end))
        return slice(min(first, self.width - 1), max(last, first + 1))

    def ticks(self, count: int) -> list[float]:
        """Round times within it."""
        return _round_values(self.low, self.high, count)


def scales(traces: Sequence[Trace], axis: Axis) -> list[tuple[float, float]]:
    """The values at the lowest and the highest row of each trace; of both pupils the same."""

    def family(trace: Trace) -> tuple[str, ...]:
        return trace.kind, trace.unit, trace.name.split()[0]

    found: dict[tuple[str, ...], list[float]] = {}
    for trace in traces:
        shown = trace.samples[(trace.time >= axis.low) & (trace.time <= axis.high)]
        values = np.concatenate([shown, trace.steps])
        values = values[np.isfinite(values)]
        ends = [0.0, 1.0] if trace.kind.startswith("gaze") or not len(values) else []
        ends += [float(values.min()), float(values.max())] if len(values) else []
        found.setdefault(family(trace), []).extend(ends)
    pairs = []
    for trace in traces:
        low, high = min(found[family(trace)]), max(found[family(trace)])
        room = _ROOM * (high - low) or 0.5
        low, high = low - room, high + room
        pairs.append((high, low) if trace.kind == "gaze down" else (low, high))
    return pairs


def row_of(value: Any, scale: tuple[float, float], *, height: int) -> Any:
    """The row at which a value lies, in pixels whose centres are whole numbers."""
    lowest, highest = scale
    return (highest - value) / (highest - lowest) * height - 0.5


def value_ticks(scale: tuple[float, float]) -> list[float]:
    """Two to four round values on a scale."""
    return _round_values(min(scale), max(scale), 3)


def draw_trace(
    trace: Trace, axis: Axis, scale: tuple[float, float], *, height: int, marks: Iterable[float] = ()
) -> np.ndarray:
    """One trace over the axis, (height, axis.width, 3) uint8 RGB; ``marks`` are times of dashed upright lines."""
    picture = np.full((height, axis.width, 3), OUTSIDE, np.uint8)
    picture[:, axis.columns(float(trace.edges[0]), float(trace.edges[-1]))] = PAPER
    for span in trace.lost:
        columns = axis.columns(span.start, span.end)
        picture[:, columns] = _hatched(height, axis.width)[:, columns] if span.is_bridged else LOST
    if trace.kind == "category":
        _draw_bands(picture, trace, axis)
    else:
        for value in value_ticks(scale):
            picture[int(np.clip(round(row_of(value, scale, height=height)), 0, height - 1))] = _GRID
        _draw_samples(picture, trace, axis, scale)
        _draw_steps(picture, trace, axis, scale)
    draw_marks(picture, axis, marks)
    cv2.rectangle(picture, (0, 0), (axis.width - 1, height - 1), _BORDER, 1)
    return picture


def draw_marks(picture: np.ndarray, axis: Axis, times: Iterable[float]) -> None:
    """Dashed upright lines at these times, in place."""
    dashes = np.arange(len(picture)) % 6 < 3
    for time in times:
        x = round(float(axis.x(time)))
        if 0 <= x < axis.width:
            picture[dashes, x] = TICK


def _draw_samples(picture: np.ndarray, trace: Trace, axis: Axis, scale: tuple[float, float]) -> None:
    if not len(trace.time):
        return
    points = np.stack([axis.x(trace.time), row_of(trace.samples, scale, height=len(picture))], axis=1)
    is_known = np.isfinite(points).all(axis=1)
    breaks = np.flatnonzero((np.diff(trace.time) > CONTIGUOUS * trace.period) | (np.diff(is_known) != 0)) + 1
    for first, last in pairwise([0, *breaks.tolist(), len(points)]):
        if is_known[first]:
            line = np.clip(np.round(points[first:last] * 16), -(2**20), 2**20).astype(np.int32)
            cv2.polylines(picture, [line], False, SAMPLES, 1, cv2.LINE_AA, shift=4)


def _draw_steps(picture: np.ndarray, trace: Trace, axis: Axis, scale: tuple[float, float]) -> None:
    x, height = axis.x(trace.edges), len(picture)
    wide = float(x[1] - x[0])
    radius = 3 if wide >= 10 else 2 if wide >= 5 else 1
    for step in np.flatnonzero(np.isfinite(trace.steps)).tolist():
        y = float(row_of(float(trace.steps[step]), scale, height=height))
        if wide >= 10:
            ends = [fixed(np.array([side, y])) for side in (x[step] + 1, x[step + 1] - 1)]
            cv2.line(picture, ends[0], ends[1], STEPS, 1, cv2.LINE_AA, shift=4)
        centre = fixed(np.array([(x[step] + x[step + 1]) / 2, y]))
        cv2.circle(picture, centre, radius * 16, STEPS, cv2.FILLED, cv2.LINE_AA, shift=4)
        if trace.observed[step] < _HALF and radius > 1:
            cv2.circle(picture, centre, (radius - 1) * 16, PAPER, cv2.FILLED, cv2.LINE_AA, shift=4)


def _draw_bands(picture: np.ndarray, trace: Trace, axis: Axis) -> None:
    """The samples' codes above, the steps' below, where nothing is known the shade that was there."""
    part = len(picture) * 3 // 5
    centres = axis.low + (np.arange(axis.width) + 0.5) / axis.width * (axis.high - axis.low)
    if len(trace.time):
        after = np.clip(np.searchsorted(trace.time, centres), 1, max(len(trace.time) - 1, 1))
        near = np.stack([after - 1, np.minimum(after, len(trace.time) - 1)])
        away = np.abs(trace.time[near] - centres)
        codes = trace.samples[near[away.argmin(axis=0), np.arange(axis.width)]]
        codes[away.min(axis=0) > CONTIGUOUS / 2 * trace.period] = np.nan
        _paint(picture[: part - 1], codes)
    step = np.searchsorted(trace.edges, centres, side="right") - 1
    inside = (step >= 0) & (step < len(trace.steps))
    codes = np.where(inside, trace.steps[np.clip(step, 0, len(trace.steps) - 1)], np.nan)
    _paint(picture[part + 1 :], codes)


def _paint(picture: np.ndarray, codes: np.ndarray) -> None:
    for code, colour in MOVEMENTS.items():
        picture[:, codes == code] = colour


def _hatched(height: int, width: int) -> np.ndarray:
    rows, columns = np.indices((height, width))
    return np.where(((rows + columns) % 6 == 0)[..., None], HATCH, BRIDGED).astype(np.uint8)


def _round_values(low: float, high: float, count: int) -> list[float]:
    values = MaxNLocator(nbins=count, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    return [float(value) for value in values if low <= value <= high]
