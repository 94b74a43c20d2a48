"""The channels of a clip that say most, over time: the recording's samples, the cached steps, and what was lost."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from smad_features import schema
from smad_features.eyes import LONGEST_PERIOD, gaze_on_stimulus
from smad_features.recordings import Recording
from smad_features.resampling import CONTIGUOUS

PUPILS = ("Pupil diameter left", "Pupil diameter right")
DISTANCES = ("Eye position left Z (DACSmm)", "Eye position right Z (DACSmm)")
MOVEMENT = "Eye movement type"

Kind = Literal["value", "gaze", "gaze down", "category"]


@dataclass(frozen=True)
class Span:
    """Seconds in which nothing was observed; ``is_bridged``: the steps hold values interpolated over it."""

    start: float
    end: float
    is_bridged: bool


@dataclass(frozen=True)
class Trace:
    """One channel over a clip. Times in seconds from the clip's start, values in ``unit``.

    Attributes
    ----------
    kind
        A category is drawn as bands of colour; gaze on a scale that holds 0 and 1; gaze down too, with 0 on top.
    samples : (N,) float64
        Of the cleaned recording at ``time`` (N,), NaN where missing; both empty where it was not read.
    period
        Seconds between two samples; NaN where the recording was not read.
    steps : (S,) float64
        The cached values between ``edges`` (S + 1,), NaN where unobserved.
    observed : (S,) float64
        The fraction of each step backed by valid samples.
    """

    name: str
    unit: str
    kind: Kind
    time: np.ndarray
    samples: np.ndarray
    period: float
    edges: np.ndarray
    steps: np.ndarray
    observed: np.ndarray
    lost: list[Span]


def step_edges(quality: dict[str, Any], *, steps: int, start: float) -> np.ndarray:
    """(steps + 1,) float64: where the steps begin, and the last one ends, in seconds from the clip's start.

    ``quality`` is what the eye stage noted, ``start`` the clip's in seconds of the video.
    """
    first, last = quality["eye_start"] - start, quality["eye_end"] - start
    return first + (last - first) * np.arange(steps + 1) / steps


def traces_of(
    arrays: dict[str, np.ndarray],
    quality: dict[str, Any],
    settings: dict[str, Any],
    *,
    edges: np.ndarray,
    start: float,
    recording: Recording | None,
) -> list[Trace]:
    """Gaze, pupils, distance and eye movement type: those of them that the recording has.

    Where no pupil has a channel, as where it is in the camera's own unit, its samples stand alone.

    Parameters
    ----------
    arrays, quality
        The clip's, of the eye stage.
    settings
        The `eye` section of the configuration under which they were made.
    edges
        As `step_edges` gives them for ``start``.
    recording
        Cleaned, or None where it cannot be read any more.
    """
    channels = schema.CHANNELS[settings["channels"]]
    place = {channel.name: number for number, channel in enumerate(channels)}
    had = {} if recording is None else recording.channels
    time = np.empty(0) if recording is None else recording.time - settings["offset"] - start
    period = float("nan")
    if recording is not None:
        period = min(1 / recording.rate, LONGEST_PERIOD) if recording.rate > 0 else LONGEST_PERIOD
    nothing = Trace(
        "", "", "value", time, np.full(len(time), np.nan), period, edges, np.full(len(edges) - 1, np.nan),
        np.zeros(len(edges) - 1), [],
    )  # fmt: skip

    traces = []
    kind: Kind
    gaze = None
    if recording is not None:
        shift = settings["offset"] + start  # recording time = seconds from the clip's start + shift
        gaze, _, _ = gaze_on_stimulus(
            recording,
            slice(None),
            span=(edges[0] + shift, edges[-1] + shift),
            screen=tuple(settings["screen"]),
            stimulus_area=settings["stimulus_area"],
        )
    for axis, (name, unit) in enumerate((("gaze x", "of the width"), ("gaze y", "of the height"))):
        samples, kind = nothing.samples if gaze is None else gaze[axis], "gaze down" if axis else "gaze"
        traces.append(
            replace(nothing, name=name, unit=unit, kind=kind, samples=samples, steps=arrays["gaze"][:, axis],
                    observed=arrays["gaze_observed"])
        )  # fmt: skip
    is_cached = {
        name: name in had or bool(np.isfinite(arrays["eye"][:, number]).any()) for name, number in place.items()
    }
    pupils = [name for name in PUPILS if is_cached[name]]
    if not pupils and recording is not None:
        own = [name for name in recording.extra if name.lower().startswith("pupil")][:2]
        traces += [
            replace(nothing, name=name, unit="as it is, not cached", samples=recording.extra[name]) for name in own
        ]
    distance = [name for name in DISTANCES if is_cached[name]][:1]
    for name in [*pupils, *distance, *([MOVEMENT] if is_cached[MOVEMENT] else [])]:
        number, kind = place[name], "category" if name == MOVEMENT else "value"
        traces.append(
            replace(nothing, name=name, unit=channels[number].unit, kind=kind,
                    samples=had.get(name, nothing.samples), steps=arrays["eye"][:, number],
                    observed=arrays["eye_observed"][:, number])
        )  # fmt: skip
    is_mean = settings["method"] == "mean"
    return [replace(trace, lost=_lost(trace, settings["max_gap"] if is_mean else 0.0)) for trace in traces]


def lost_spans(
    time: np.ndarray, is_valid: np.ndarray, *, start: float, end: float, period: float, max_gap: float
) -> list[Span]:
    """Where in ``start``..``end`` no valid sample stands, by the same rules as `eyes.resample`.

    A sample stands for the time half-way to its neighbours, half a period to a side where one is missing; a loss from
    valid sample to valid sample of at most ``max_gap``, to a quarter of a period, is bridged.

    Parameters
    ----------
    time : (N,) float64
        Of all samples, strictly increasing, in seconds.
    is_valid : (N,) bool
    max_gap
        In seconds; 0 = nothing is bridged.
    """
    gaps = np.diff(time)
    half = np.where(gaps <= CONTIGUOUS * period, gaps, period) / 2
    rows = np.flatnonzero(is_valid)
    lows, highs = time - np.append(period / 2, half)[: len(time)], time + np.append(half, period / 2)[: len(time)]
    starts, ends = np.append(-np.inf, highs[rows]), np.append(lows[rows], np.inf)
    longest = max(max_gap + period / 4, CONTIGUOUS * period) if max_gap > 0 else 0.0
    is_bridged = np.concatenate([[False], np.diff(time[rows]) <= longest, [False]])[: len(starts)]
    starts, ends = np.maximum(starts, start), np.minimum(ends, end)
    real = ends - starts > period / 1000  # neighbours meet, to the last digits
    return [
        Span(float(a), float(b), bool(c)) for a, b, c in zip(starts[real], ends[real], is_bridged[real], strict=True)
    ]


def _lost(trace: Trace, max_gap: float) -> list[Span]:
    edges = trace.edges
    if len(trace.time):
        return lost_spans(
            trace.time, ~np.isnan(trace.samples), start=float(edges[0]), end=float(edges[-1]), period=trace.period,
            max_gap=0.0 if trace.kind == "category" else max_gap,
        )  # fmt: skip
    empty = ~(trace.observed > 0)
    return [
        Span(float(edges[step]), float(edges[step + 1]), bool(np.isfinite(trace.steps[step])))
        for step in np.flatnonzero(empty)
    ]
