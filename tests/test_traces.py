"""Traces show what the recording and the cache hold: values at their heights, losses over just the lost time."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from smad_features import schema
from smad_features.cleaning import clean
from smad_features.config import complete_config
from smad_features.eyes import resample
from smad_features.page import PAPER
from smad_features.recordings import Recording, read_recording
from smad_features.recordings.recording import sampling_rate
from smad_features.trace_drawing import (
    BRIDGED,
    HATCH,
    LOST,
    MOVEMENTS,
    OUTSIDE,
    STEPS,
    TICK,
    Axis,
    draw_trace,
    row_of,
    scales,
    value_ticks,
)
from smad_features.traces import Span, Trace, lost_spans, step_edges, traces_of

EYE = complete_config({})["eye"]
CHANNELS = [channel.name for channel in schema.TOBII_PRO_LAB_39]


def trace(**more: Any) -> Trace:
    """A trace over 10 s at 10 Hz, with ten steps; nothing in it."""
    time = np.arange(100) / 10 + 0.05
    bare = Trace("a", "mm", "value", time, np.full(100, np.nan), 0.1, np.arange(11.0), np.full(10, np.nan),
                 np.zeros(10), [])  # fmt: skip
    return replace(bare, **more)


def is_colour(picture: np.ndarray, colour: tuple[int, ...]) -> np.ndarray:
    return (picture == colour).all(axis=-1)


def is_blue(picture: np.ndarray) -> np.ndarray:
    return picture[..., 2].astype(int) - picture[..., 0] > 20  # samples and steps, however smooth their edge


def resampled(recording: Recording, **more: Any) -> dict[str, Any]:
    return resample(recording, max_gap=EYE["max_gap"], **more)


def traces_from(recording: Recording, made: dict[str, Any], **more: Any) -> list[Trace]:
    edges = step_edges(made["quality"], steps=32, start=0.0)
    return traces_of(made, made["quality"], {**EYE, **more}, edges=edges, start=0.0, recording=recording)


# ---- what was lost


@pytest.mark.parametrize(
    ("lost", "max_gap", "spans"),
    [
        (range(20, 30), 0.075, [Span(0.195, 0.295, False)]),
        (range(20, 26), 0.075, [Span(0.195, 0.255, True)]),  # 70 ms from valid sample to valid sample
        (range(20, 26), 0.0, [Span(0.195, 0.255, False)]),
        (range(5), 0.075, [Span(0.0, 0.045, False)]),  # nothing to bridge from
        (range(95, 100), 0.075, [Span(0.945, 1.0, False)]),
        (range(100), 0.075, [Span(0.0, 1.0, False)]),
        ([], 0.075, []),
    ],
)
@pytest.mark.parametrize("is_in_the_file", [True, False])
def test_a_loss_reaches_from_half_a_period_after_the_last_sample_to_half_a_period_before_the_next(
    lost: list[int], max_gap: float, spans: list[Span], is_in_the_file: bool
) -> None:
    time, is_valid = np.arange(100) / 100, ~np.isin(np.arange(100), lost)
    if not is_in_the_file:
        time, is_valid = time[is_valid], is_valid[is_valid]
    found = lost_spans(time, is_valid, start=0.0, end=1.0, period=0.01, max_gap=max_gap)
    wanted = [*spans, Span(0.995, 1.0, False)] if 99 not in lost else spans
    assert [span.is_bridged for span in found] == [span.is_bridged for span in wanted]
    assert_allclose([(s.start, s.end) for s in found], [(s.start, s.end) for s in wanted] or np.empty((0, 2)))


def holes(seed: int) -> Recording:
    """A jittery recording with samples lost, and rows left out of the file."""
    random = np.random.default_rng(seed)
    time = np.cumsum(random.uniform(0.006, 0.010, 600))
    is_lost = np.zeros(600, dtype=bool)
    for first in random.integers(0, 600, 25):
        is_lost[first : first + random.integers(1, 25)] = True
    point = np.where(is_lost, np.nan, random.uniform(0, 1000, (2, 600)))
    keep = ~is_lost | (random.uniform(size=600) < 0.5)
    keep[0] = True
    time = time[keep] - time[0]
    return Recording(time, dict(zip(("Gaze point X", "Gaze point Y"), point[:, keep], strict=True)),
                     sampling_rate(time), (1000, 1000))  # fmt: skip


@pytest.mark.parametrize("seed", range(8))
def test_lost_and_bridged_time_are_what_the_eye_stage_counted(seed: int) -> None:
    recording = holes(seed)
    made = resampled(recording)
    x = traces_from(recording, made)[0]
    span = x.edges[-1] - x.edges[0]
    lost, bridged = (sum(s.end - s.start for s in x.lost if s.is_bridged is kind) / span for kind in (False, True))
    assert bridged > 0
    assert_allclose(lost + bridged, 1 - made["quality"]["gaze_observed"], atol=1e-6)
    assert_allclose(bridged, made["quality"]["interpolated"], atol=1e-6)


def test_on_a_real_recording_every_loss_is_what_the_eye_stage_counted(shared: Path) -> None:
    settings = EYE | {"offset": 1.5}
    recording, _ = clean(read_recording(shared / "media/tobii_pro_lab_24_120hz.tsv", settings=settings), settings)
    made = resampled(recording, start=2.0, end=14.0, offset=1.5)
    edges = step_edges(made["quality"], steps=32, start=2.0)
    traces = traces_of(made, made["quality"], settings, edges=edges, start=2.0, recording=recording)
    assert [t.name for t in traces] == [
        "gaze x", "gaze y", "Pupil diameter left", "Pupil diameter right", "Eye position left Z (DACSmm)",
        "Eye movement type",
    ]  # fmt: skip
    assert_allclose(edges[[0, -1]], [0, 12])
    for one in traces:
        observed = one.observed.mean()
        assert_allclose(sum(s.end - s.start for s in one.lost) / 12, 1 - observed, atol=1e-6)
    bridged = sum(s.end - s.start for s in traces[0].lost if s.is_bridged)
    assert_allclose(bridged / 12, made["quality"]["interpolated"], atol=1e-6)
    # The samples are on the clip's clock: in each step their mean is the step, where all of it was observed.
    for step in np.flatnonzero(traces[2].observed > 0.9999):
        inside = (traces[2].time >= edges[step]) & (traces[2].time < edges[step + 1])
        assert_allclose(np.nanmean(traces[2].samples[inside]), traces[2].steps[step], atol=0.01)


def test_without_the_recording_the_steps_alone_say_what_was_lost() -> None:
    recording = holes(0)
    made = resampled(recording)
    edges = step_edges(made["quality"], steps=32, start=0.0)
    x, y = traces_of(made, made["quality"], EYE, edges=edges, start=0.0, recording=None)  # no other channel had a value
    assert not len(x.time)
    assert_array_equal(x.steps, made["gaze"][:, 0])
    assert_array_equal(y.steps, made["gaze"][:, 1])
    empty = np.flatnonzero(made["gaze_observed"] == 0)
    assert_allclose([span.start for span in x.lost], edges[empty])


def test_pupils_in_the_cameras_own_unit_are_shown_without_steps() -> None:
    recording = replace(holes(1), extra={"Pupil AREA left (a.u.)": np.arange(len(holes(1).time)) / 1.0})
    pupil = traces_from(recording, resampled(recording))[2]
    assert (pupil.name, pupil.unit) == ("Pupil AREA left (a.u.)", "as it is, not cached")
    assert np.isnan(pupil.steps).all()
    assert_array_equal(pupil.samples, recording.extra[pupil.name])


def test_gaze_on_a_display_is_a_fraction_of_the_screen() -> None:
    recording = replace(holes(2), screen=None)
    x, y = traces_from(recording, resampled(recording, screen=(500, 2000)), screen=[500, 2000])
    assert_allclose(x.samples, recording.channels["Gaze point X"] / 500)
    assert_allclose(y.samples, recording.channels["Gaze point Y"] / 2000)


@pytest.mark.parametrize("method", ["nearest", "draw"])
def test_only_means_bridge(method: str) -> None:
    recording = holes(3)
    x = traces_from(recording, resampled(recording), method=method)[0]
    assert x.lost
    assert not any(span.is_bridged for span in x.lost)


# ---- as a picture


def test_a_shaded_span_covers_exactly_the_columns_of_the_lost_time() -> None:
    picture = draw_trace(
        trace(lost=[Span(2.0, 3.0, False), Span(5.0, 7.5, True)]), Axis(0, 10, 1000), (0, 1), height=40
    )
    row = picture[5]
    assert_array_equal(np.flatnonzero(is_colour(row, LOST)), np.arange(200, 300))
    assert_array_equal(np.flatnonzero(is_colour(row, BRIDGED) | is_colour(row, HATCH)), np.arange(500, 750))
    assert is_colour(row, HATCH).sum() > 30
    assert is_colour(row, PAPER)[[199, 300, 499, 750]].all()


def test_a_loss_shorter_than_a_column_is_seen() -> None:
    picture = draw_trace(trace(lost=[Span(4.001, 4.002, False)]), Axis(0, 10, 1000), (0, 1), height=40)
    assert np.flatnonzero(is_colour(picture[5], LOST)).tolist() == [400]


def test_time_without_steps_is_told_from_lost_time() -> None:
    row = draw_trace(trace(), Axis(-5, 15, 1000), (0, 1), height=40)[5]
    assert_array_equal(np.flatnonzero(is_colour(row, PAPER)), np.arange(250, 750))
    assert is_colour(row, OUTSIDE)[1:250].all()


@pytest.mark.parametrize("kind", ["value", "gaze", "gaze down"])
def test_the_line_at_a_time_lies_at_the_height_of_the_sample_then(kind: Any) -> None:
    values = 0.5 + 0.4 * np.sin(np.arange(100) / 8)
    one, axis, height = trace(samples=values, kind=kind), Axis(0, 10, 1000), 201
    (scale,) = scales([one], axis)
    picture = draw_trace(one, axis, scale, height=height).astype(int)
    picture[[round(row_of(value, scale, height=height)) for value in value_ticks(scale)]] = PAPER
    for time, value in zip(one.time, values, strict=True):
        column = picture[1:-1, round(axis.x(time))]
        darkness = 255 - column.min(axis=1)
        centre = (darkness * np.arange(1, height - 1)).sum() / darkness.sum()
        share = (value - min(scale)) / (
            max(scale) - min(scale)
        )  # of the height, from the side where the least value is
        assert abs(centre - ((share if kind == "gaze down" else 1 - share) * height - 0.5)) < 1.5


def test_a_step_is_a_dot_at_its_centre_hollow_where_little_was_observed() -> None:
    steps = np.linspace(0.2, 0.8, 10)
    steps[4] = np.nan
    one = trace(steps=steps, observed=np.where(np.arange(10) == 7, 0.2, 1.0))
    picture = draw_trace(one, Axis(0, 10, 1000), (0.0, 1.0), height=100)
    for step in range(10):
        column = picture[1:-1, 100 * step + 50]
        assert is_blue(column).any() == (step != 4)
        if step in (0, 7):
            at = picture[round((1 - steps[step]) * 100 - 0.5), 100 * step + 50]
            assert tuple(at) == (STEPS if step == 0 else PAPER)


def test_gaze_shows_all_of_the_stimulus_with_its_top_on_top_and_both_pupils_have_one_scale() -> None:
    axis = Axis(0, 10, 1000)
    x, y = (trace(kind=kind, samples=np.full(100, 0.5)) for kind in ("gaze", "gaze down"))
    left = trace(name="Pupil diameter left", samples=np.full(100, 2.0))
    right = trace(name="Pupil diameter right", samples=np.full(100, 4.0))
    of_x, of_y, of_left, of_right = scales([x, y, left, right], axis)
    assert of_x[0] < 0 < 1 < of_x[1]
    assert of_y == of_x[::-1]
    assert of_left == of_right
    assert of_left[0] < 2 < 4 < of_left[1]


def test_samples_are_not_joined_over_a_loss() -> None:
    values = np.full(100, 0.47)
    values[40:60] = np.nan
    time = np.delete(trace().time, np.arange(75, 80))  # and five are left out of the file
    one = trace(time=time, samples=np.delete(values, np.arange(75, 80)))
    columns = np.flatnonzero(is_blue(draw_trace(one, Axis(0, 10, 1000), (0.0, 1.0), height=101)).any(axis=0))
    wanted = np.concatenate([np.arange(5, 396), np.arange(605, 746), np.arange(805, 996)])
    assert len(np.setxor1d(columns, wanted)) <= 6  # an end may be rounded either way


def test_marks_stand_at_their_times() -> None:
    picture = draw_trace(trace(), Axis(0, 10, 1000), (0, 1), height=40, marks=[2.505, 99.0])
    assert np.flatnonzero(is_colour(picture, TICK).sum(axis=0) > 10).tolist() == [250]


def test_codes_are_bands_above_those_of_the_steps() -> None:
    codes = np.repeat([1.0, 2.0, 3.0, np.nan, 0.0], 20)
    one = trace(kind="category", samples=codes, steps=np.array([1.0, 1, 2, 2, 3, 3, np.nan, 0, 0, 0]))
    picture = draw_trace(one, Axis(0, 10, 1000), (0, 1), height=30)
    for time, code in zip(one.time, codes, strict=True):
        assert tuple(picture[5, round(time * 100)]) == MOVEMENTS.get(code, PAPER)
    for step, code in enumerate(one.steps):
        assert tuple(picture[25, step * 100 + 50]) == MOVEMENTS.get(code, PAPER)


@pytest.mark.parametrize("samples", [0, 1, 2])
@pytest.mark.parametrize("kind", ["value", "gaze", "category"])
def test_hardly_a_sample_or_none_at_all_is_drawn(samples: int, kind: Any) -> None:
    one = trace(kind=kind, time=np.arange(samples) * 1.0, samples=np.ones(samples))
    axis = Axis(0, 10, 300)
    assert draw_trace(one, axis, scales([one], axis)[0], height=50).shape == (50, 300, 3)
