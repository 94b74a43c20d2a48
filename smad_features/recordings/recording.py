"""What every eye-tracker recording becomes: named channels over one strictly increasing clock."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
# A clock's unit is the coarsest in which its median step is no longer than this. Trackers take between 10 and 2,000
# samples a second: 0.0005 to 0.1 s, 0.5 to 100 ms, 500 to 100,000 us. The header's own word for it is not trusted.
LONGEST_STEP = 0.2


class RecordingError(ValueError):
    """A file that is no usable recording. The message names the file and says what was wrong with it."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path.name}: {reason}")
        self.path = path
        self.reason = reason

    def __reduce__(self) -> tuple[type[RecordingError], tuple[Path, str]]:
        """Survive the way back from a worker process, which an exception of two arguments does not by itself."""
        return RecordingError, (self.path, self.reason)


@dataclass(frozen=True)
class Event:
    """Something that the tracker's software noted: a message, the start of a stimulus.

    ``time`` is in seconds on the recording's clock, on which 0 is the first eye sample: it may be negative.
    """

    name: str
    time: float
    value: str = ""


@dataclass(frozen=True)
class Recording:
    """Eye-movement channels over one clock.

    Attributes
    ----------
    time : (N,) float64
        Seconds from the first eye sample, strictly increasing, N >= 1.
    channels
        Name (as in `schema.TOBII_PRO_LAB_39`) -> (N,) float64 in the channel's own unit, NaN where missing. What the
        tracker does not have is absent. Categories hold the codes of `schema.VALIDITY` and `schema.EYE_MOVEMENT`.
    rate
        Samples a second as the clock shows them, gaps aside; NaN for a single sample.
    screen
        Width and height of the display in pixels, or None where the recording does not say.
    notes
        What was counted on the way: rows left out, times repeated or going backward, values dropped.
    kind
        Which format it was.
    declared_rate
        Samples a second as the file says, or None where it does not.
    normalized
        Names of channels in pixels that hold fractions of the screen instead, 0..1, y down.
    events
        In order of time.
    extra
        What the tracker measured and no channel holds: name with unit -> (N,) float64, NaN where missing.
    stimulus_area : (N, 4) float64
        Left, top, width and height of what was shown, in pixels of the display, sample by sample; NaN where nothing
        was; None where the recording does not say.
    """

    time: np.ndarray
    channels: dict[str, np.ndarray]
    rate: float
    screen: tuple[int, int] | None
    notes: dict[str, int | float] = field(default_factory=dict)
    kind: str = ""
    declared_rate: float | None = None
    normalized: frozenset[str] = frozenset()
    events: tuple[Event, ...] = ()
    extra: dict[str, np.ndarray] = field(default_factory=dict)
    stimulus_area: np.ndarray | None = None


def on_clock(
    time: np.ndarray,
    channels: dict[str, np.ndarray],
    *,
    path: Path,
    kind: str,
    notes: dict[str, int | float],
    screen: tuple[int, int] | None = None,
    declared_rate: float | None = None,
    normalized: Iterable[str] = (),
    events: Iterable[Event] = (),
    extra: dict[str, np.ndarray] | None = None,
    stimulus_area: np.ndarray | None = None,
) -> Recording:
    """Put samples in file order on a strictly increasing clock that begins with the first of them.

    Samples without a time are left out; `increasing` says what becomes of times that repeat or go backward. All are
    counted in the notes: ``rows_without_time``, ``duplicate_timestamps``, ``backward_timestamps``.

    Parameters
    ----------
    time : (N,) float64
        Seconds since whatever moment; NaN where there is none.
    channels, extra
        Name -> (N,) float64.
    stimulus_area
        As in `Recording`.
    events
        Their times in seconds since that same moment.
    notes
        What was counted before.

    Raises
    ------
    RecordingError
        No sample has a time.
    """
    timed = np.flatnonzero(np.isfinite(time))
    if not len(timed):
        raise RecordingError(path, f"{len(time)} eye samples, and none with a time")
    keep, dropped = increasing(time[timed])
    keep = timed[keep]
    begin = time[keep[0]]
    clock = time[keep] - begin
    return Recording(
        clock,
        {name: values[keep] for name, values in channels.items()},
        sampling_rate(clock),
        screen,
        {**notes, "rows_without_time": len(time) - len(timed), **dropped},
        kind=kind,
        declared_rate=declared_rate,
        normalized=frozenset(normalized),
        events=tuple(
            sorted(
                (Event(event.name, float(event.time - begin), event.value) for event in events),
                key=lambda event: event.time,
            )
        ),
        extra={name: values[keep] for name, values in (extra or {}).items()},
        stimulus_area=None if stimulus_area is None else stimulus_area[keep],
    )


def increasing(ticks: np.ndarray) -> tuple[np.ndarray, dict[str, int | float]]:
    """Which samples to keep for a strictly increasing clock, and how many were not.

    Of samples that follow each other at the same time the first is kept. Of the rest, the fewest are dropped that
    leave the clock strictly increasing (all but a longest increasing run), so that a single wild time, far ahead, does
    not take everything after it along.

    Parameters
    ----------
    ticks : (N,) float64
        Times in file order, in any unit.

    Returns
    -------
    keep : (M,) int64
        Rows to keep, in order.
    notes
        ``duplicate_timestamps`` and ``backward_timestamps``: how many samples each rule dropped.
    """
    keep = np.flatnonzero(np.diff(ticks, prepend=np.nan) != 0)
    duplicates = len(ticks) - len(keep)
    backward = 0
    if np.any(np.diff(ticks[keep]) < 0):
        run = _longest_increasing(ticks[keep].tolist())
        backward = len(keep) - len(run)
        keep = keep[run]
    return keep, {"duplicate_timestamps": duplicates, "backward_timestamps": backward}


def _longest_increasing(values: list[float]) -> np.ndarray:
    """Places of a longest strictly increasing subsequence, by patience sorting (Fredman 1975)."""
    tops: list[float] = []  # the smallest last value of an increasing run of each length
    places: list[int] = []
    before = [-1] * len(values)
    for place, value in enumerate(values):
        length = bisect_left(tops, value)
        if length == len(tops):
            tops.append(value)
            places.append(place)
        else:
            tops[length], places[length] = value, place
        before[place] = places[length - 1] if length else -1
    run = [places[-1]]
    while before[run[-1]] >= 0:
        run.append(before[run[-1]])
    return np.array(run[::-1])


def seconds_a_tick(ticks: np.ndarray, *, among: Sequence[str] = tuple(UNITS)) -> float:
    """The unit of a clock, in seconds, told by its median step; the coarsest where there is no step.

    Parameters
    ----------
    ticks : (N,) float64
        Times in any order, NaN where there is none.
    among
        Names of the units that it may be, the coarsest first.
    """
    steps = np.diff(np.unique(ticks[np.isfinite(ticks)]))
    step = np.median(steps) if len(steps) else 0.0
    return next((UNITS[name] for name in among if step * UNITS[name] <= LONGEST_STEP), UNITS[among[-1]])


def sampling_rate(time: np.ndarray) -> float:
    """Samples a second: one over the mean of the steps that are no gaps (at most 1.5 medians).

    The median alone is off where the clock is rounded: 120 Hz in whole milliseconds has steps of 8, 8 and 9.
    """
    steps = np.diff(time)
    if not len(steps):
        return float("nan")
    return float(1 / np.mean(steps[steps <= 1.5 * np.median(steps)]))
