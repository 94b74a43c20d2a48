"""Resampling is compared with closed forms, with a brute-force second implementation, and with its own promises."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import interp1d

from smad_features import schema
from smad_features.eyes import resample
from smad_features.recordings import Recording, read_recording
from smad_features.recordings.recording import sampling_rate

X, Y = "Gaze point X", "Gaze point Y"
PUPIL = (schema.Channel("Pupil diameter left", "mm"),)
MOVEMENT = (schema.Channel("Eye movement type", "code", "category"),)
INDEX = (schema.Channel("Eye movement type index", "1", "counter"),)
NAN = np.nan


def recording_of(time: np.ndarray, screen: tuple[int, int] | None = None, **channels: Any) -> Recording:
    """A recording with channels under their names, `_` for a space."""
    named = {name.replace("_", " "): np.array(values, dtype=float) for name, values in channels.items()}
    return Recording(np.asarray(time, dtype=float), named, sampling_rate(np.asarray(time)), screen)


def pupil(time: np.ndarray, values: np.ndarray, **options: Any) -> dict[str, Any]:
    """One continuous channel resampled: its `eye` and `eye_observed` as (steps,)."""
    out = resample(recording_of(time, Pupil_diameter_left=values), channels=PUPIL, **options)
    return {**out, "eye": out["eye"][:, 0], "eye_observed": out["eye_observed"][:, 0]}


def grid(count: int, rate: float = 120.0) -> np.ndarray:
    return np.arange(count) / rate


# --- closed forms ----------------------------------------------------------------------------------------------------


def test_the_arrays_are_those_of_the_contract() -> None:
    out = resample(recording_of(grid(600), Gaze_point_X=np.ones(600), Gaze_point_Y=np.ones(600)))
    schema.check_clip("P001_C07", out, schema.eye_arrays())


@pytest.mark.parametrize("count", [1, 2, 5, 20, 31, 32, 33, 100, 1200])
def test_a_constant_stays_itself_however_many_samples(count: int) -> None:
    out = pupil(grid(count), np.full(count, 3.3))
    np.testing.assert_array_equal(out["eye"], np.float32(3.3))
    np.testing.assert_allclose(out["eye_observed"], 1, rtol=1e-6)


def test_a_ramp_gives_the_centres_of_the_steps() -> None:
    time = grid(1200)
    out = pupil(time, 2 + 0.5 * time)
    centres = -1 / 240 + 10 * (np.arange(32) + 0.5) / 32
    np.testing.assert_allclose(out["eye"], 2 + 0.5 * centres, atol=5e-5)


def test_a_ramp_with_a_jittering_clock_gives_the_centres_too() -> None:
    random = np.random.default_rng(2)
    time = grid(1200) + random.uniform(-0.3, 0.3, 1200) / 120
    out = pupil(time, 2 + 0.5 * time, start=0.5, end=9.5)
    np.testing.assert_allclose(out["eye"], 2 + 0.5 * (0.5 + 9 * (np.arange(32) + 0.5) / 32), atol=2e-3)


@pytest.mark.parametrize("frequency", [0.2, 1.0, 5.0, 23.0])
def test_a_sinusoid_gives_its_mean_over_each_step(frequency: float) -> None:
    time, omega = grid(4800, 480.0), 2 * np.pi * frequency
    out = pupil(time, np.sin(omega * time), start=1, end=9)
    edges = 1 + 8 * np.arange(33) / 32
    wanted = -np.diff(np.cos(omega * edges)) / (omega * 0.25)
    np.testing.assert_allclose(out["eye"], wanted, atol=0.01)  # 23 Hz at 4 steps a second would alias to 1 if picked


def test_an_irregular_clock_weighs_each_sample_by_the_time_it_stands_for() -> None:
    # Half-way points: 0.005, 0.0165, 0.0265; period 0.01. The ends stand for half a period outward.
    out = pupil(np.array([0.0, 0.010, 0.023, 0.030]), np.array([1.0, 2.0, 4.0, 8.0]), start=0.0, end=0.03, steps=1)
    weights = np.array([0.005, 0.0115, 0.010, 0.0035])
    assert out["eye"][0] == pytest.approx(weights @ [1, 2, 4, 8] / 0.03, rel=1e-6)


def test_a_sample_that_straddles_two_steps_counts_in_both_by_its_parts() -> None:
    # Three samples, 0.1 s each, from -0.05 to 0.25; two steps of 0.15: the middle one is shared.
    out = pupil(np.array([0.0, 0.1, 0.2]), np.array([0.0, 3.0, 6.0]), steps=2)
    np.testing.assert_allclose(out["eye"], [1, 5], rtol=1e-6)


def test_upsampling_interpolates_linearly_in_time() -> None:
    time = grid(20)
    values = np.random.default_rng(3).uniform(2, 5, 20)
    out = pupil(time, values)
    centres = -1 / 240 + 20 / 120 * (np.arange(32) + 0.5) / 32
    np.testing.assert_allclose(out["eye"], np.interp(centres, time, values), rtol=1e-5)
    np.testing.assert_allclose(out["eye_observed"], 1, rtol=1e-6)


def test_upsampling_leaves_a_long_gap_open() -> None:
    time = np.concatenate([grid(10), 0.5 + grid(10)])
    out = pupil(time, np.ones(20), steps=300)
    centres = -1 / 240 + (time[-1] + 1 / 120) * (np.arange(300) + 0.5) / 300
    inside = (centres > 9 / 120 + 1 / 240 + 0.002) & (centres < 0.5 - 1 / 240 - 0.002)
    assert np.isnan(out["eye"][inside]).all() and (out["eye_observed"][inside] == 0).all()
    assert np.isfinite(out["eye"][np.abs(centres - 0.25) > 0.25]).all()


def test_one_sample_counts_only_near_itself() -> None:
    out = pupil(np.array([0.0]), np.array([3.0]), start=-5, end=5, steps=10)
    assert np.flatnonzero(np.isfinite(out["eye"])).tolist() == [4, 5]
    np.testing.assert_allclose(out["eye_observed"][4:6], 0.05, rtol=1e-6)
    assert np.isnan(out["quality"]["eye_rate"])


# --- gaps ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("left_out", [False, True])
def test_a_short_gap_is_bridged_and_not_called_observed(left_out: bool) -> None:
    time, values = grid(240), 2 + grid(240)
    lost = slice(100, 108)  # 8 samples: 75 ms from valid to valid
    if left_out:
        time, values = np.delete(time, lost), np.delete(values, lost)
    else:
        values[lost] = NAN
    out = pupil(time, values, steps=10)
    centres = -1 / 240 + 2 * (np.arange(10) + 0.5) / 10
    np.testing.assert_allclose(out["eye"], 2 + centres, atol=1e-5)
    wanted = np.ones(10)
    wanted[4] = 16 / 24  # samples 96 to 119
    np.testing.assert_allclose(out["eye_observed"], wanted, rtol=1e-5)


@pytest.mark.parametrize("left_out", [False, True])
def test_a_gap_longer_than_allowed_stays_open(left_out: bool) -> None:
    time, values = grid(240), np.full(240, 3.0)
    lost = slice(90, 126)
    if left_out:
        time, values = np.delete(time, lost), np.delete(values, lost)
    else:
        values[lost] = NAN
    out = pupil(time, values, steps=20)  # 12 samples a step: 7.5 to 10.5 are lost
    np.testing.assert_allclose(out["eye_observed"][6:12], [1, 0.5, 0, 0, 0.5, 1], rtol=1e-5)
    assert np.isnan(out["eye"]).tolist() == [step in (8, 9) for step in range(20)]


def test_a_longer_gap_is_bridged_where_that_is_asked_for() -> None:
    values = np.full(240, 3.0)
    values[90:126] = NAN
    out = pupil(grid(240), values, steps=20, max_gap=0.4)
    np.testing.assert_array_equal(out["eye"], np.float32(3))
    np.testing.assert_allclose(out["eye_observed"][8:10], 0)


def test_a_gap_into_the_span_is_bridged_from_outside_it() -> None:
    values = 2 + grid(240)
    values[116:123] = NAN
    out = pupil(grid(240), values, start=1.0, end=1.04, steps=1)  # begins inside the gap
    assert out["eye"][0] == pytest.approx(3.02, abs=2e-3)
    assert out["eye_observed"][0] == pytest.approx((0.04 - 2.5 / 120) / 0.04, rel=1e-5)


def test_nothing_seen_gives_nothing() -> None:
    out = pupil(grid(240), np.full(240, NAN))
    assert np.isnan(out["eye"]).all() and not out["eye_observed"].any()
    assert np.isnan(out["gaze"]).all() and not out["gaze_observed"].any()
    quality = out["quality"]
    assert quality["gaze_source"] == "none" and not quality["screen_assumed"]
    assert quality["eye_longest_gap"] == pytest.approx(2) and quality["eye_cover"] == pytest.approx(1)


# --- kinds of channel ------------------------------------------------------------------------------------------------


def test_directions_are_averaged_and_made_unit_vectors_again() -> None:
    angle = np.pi / 2 * (np.arange(240) + 0.5) / 240
    axes = [channel for channel in schema.TOBII_PRO_LAB_39 if channel.name.startswith("Gaze direction left")]
    recording = recording_of(
        grid(240),
        Gaze_direction_left_X=np.sin(angle),
        Gaze_direction_left_Y=0 * angle,
        Gaze_direction_left_Z=-np.cos(angle),
    )
    eye = resample(recording, channels=axes, steps=4)["eye"]
    np.testing.assert_allclose(np.linalg.norm(eye, axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(np.arctan2(eye[:, 0], -eye[:, 2]), np.pi / 2 * (np.arange(4) + 0.5) / 4, atol=1e-3)


def test_a_category_is_the_one_that_lasted_longest_and_is_never_averaged() -> None:
    codes = [0, 2, 2, 1, 1, 1, NAN, NAN, 2, 0, 0, 2, NAN, NAN, NAN, NAN]
    out = resample(recording_of(grid(16, 20), Eye_movement_type=codes), channels=MOVEMENT, steps=4, max_gap=9)
    np.testing.assert_array_equal(out["eye"][:, 0], [2, 1, 0, NAN])  # of equals the smaller code
    np.testing.assert_allclose(out["eye_observed"][:, 0], [1, 0.5, 1, 0])  # no category is bridged


def test_a_category_weighs_time_not_rows() -> None:
    time = np.array([0, 1, 2, 3, 3.6, 4.2, 4.8, 6, 7]) / 100
    out = resample(recording_of(time, Eye_movement_type=[1, 1, 1, 1, 2, 2, 2, 2, 2]), channels=MOVEMENT, steps=1)
    weights = np.array([0.95, 1, 1, 0.8, 0.6, 0.6, 0.9, 1.1, 0.95])
    assert weights[:4].sum() < weights[4:].sum() and out["eye"][0, 0] == 2


def test_a_counter_takes_the_valid_value_nearest_the_centre() -> None:
    counter = np.arange(40.0)
    counter[4:6] = NAN
    out = resample(recording_of(grid(40), Eye_movement_type_index=counter), channels=INDEX, steps=4)
    assert out["eye"][0, 0] in (3, 6)
    for step, centre in ((1, 14), (2, 24), (3, 34)):
        assert out["eye"][step, 0] in (centre, centre + 1)


# --- a second implementation -----------------------------------------------------------------------------------------


def brute(time: np.ndarray, values: np.ndarray, edges: np.ndarray, *, max_gap: float) -> tuple[np.ndarray, np.ndarray]:
    """Mean over each step of scipy's nearest (valid) or linear (bridged) interpolation on a fine grid."""
    period = 1 / sampling_rate(time)
    nearest = interp1d(time, np.arange(len(time)), kind="nearest", bounds_error=False, fill_value="extrapolate")
    valid = ~np.isnan(values)
    means, seen = np.full(len(edges) - 1, NAN), np.zeros(len(edges) - 1)
    for step, (low, high) in enumerate(pairwise(edges)):
        at = low + (high - low) * (np.arange(20_000) + 0.5) / 20_000
        row = np.clip(nearest(at).astype(int), 0, len(time) - 1)
        near = np.abs(at - time[row]) <= period / 2 * 1.001
        observed = near & valid[row]
        after = np.clip(np.searchsorted(time[valid], at), 1, valid.sum() - 1)
        gap = time[valid][after] - time[valid][after - 1]
        between = (at >= time[valid][0]) & (at <= time[valid][-1]) & (gap <= max_gap)
        line = interp1d(time[valid], values[valid], bounds_error=False)(at)
        known = np.concatenate([values[row][observed], line[between & ~observed]])
        if len(known):
            means[step] = known.mean()
        seen[step] = observed.mean()
    return means, seen


@pytest.mark.parametrize("seed", range(4))
def test_downsampling_agrees_with_brute_force_on_a_fine_grid(seed: int) -> None:
    random = np.random.default_rng(seed)
    time = grid(400)
    values = 3 + np.cumsum(random.normal(0, 0.05, 400))
    for place in random.integers(5, 380, 12):
        values[place : place + random.integers(1, 15)] = NAN
    holes = random.choice(np.arange(20, 380), 6, replace=False)
    time, values = np.delete(time, holes), np.delete(values, holes)
    edges = 0.1 + 3 * np.arange(17) / 16
    means, seen = brute(time, values, edges, max_gap=0.078)
    out = pupil(time, values, start=0.1, end=3.1, steps=16)
    np.testing.assert_allclose(out["eye_observed"], seen, atol=2e-3)
    np.testing.assert_array_equal(np.isnan(out["eye"]), np.isnan(means))
    np.testing.assert_allclose(out["eye"], means, atol=3e-3)


# --- promises --------------------------------------------------------------------------------------------------------


@st.composite
def signals(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    count = draw(st.integers(1, 60))
    steps = draw(
        st.lists(st.sampled_from([0.0041, 0.0083, 0.0097, 0.031, 0.23]), min_size=count - 1, max_size=count - 1)
    )
    value = st.one_of(st.just(NAN), st.floats(1.5, 9))
    values = draw(st.lists(value, min_size=count, max_size=count))
    return np.concatenate([[0.0], np.cumsum(steps)]), np.array(values)


@given(signals(), st.integers(1, 40))
@settings(max_examples=80, deadline=None)
def test_values_lie_within_those_of_the_valid_samples_and_only_where_there_are_some(
    signal: tuple[np.ndarray, np.ndarray], steps: int
) -> None:
    time, values = signal
    out = pupil(time, values, steps=steps)
    eye, observed = out["eye"], out["eye_observed"]
    assert np.all((observed >= 0) & (observed <= 1))
    assert np.isfinite(eye[observed > 0]).all()
    if np.isnan(values).all():
        assert np.isnan(eye).all()
    else:
        known = eye[np.isfinite(eye)]
        assert len(known)
        assert np.all((known >= np.nanmin(values) - 1e-5) & (known <= np.nanmax(values) + 1e-5))
        edges = np.linspace(time[0] - 0.1, time[-1] + 0.1, steps + 1)
        width = edges[1] - edges[0]
        reach = 0.2 + width  # no value further from a valid sample than a period, a bridge and the step itself
        centres = (edges[:-1] + edges[1:]) / 2
        away = np.abs(centres[:, None] - time[np.isfinite(values)]).min(axis=1)
        assert np.all(away[np.isfinite(eye)] <= reach)


@given(signals(), st.floats(-1e4, 1e4), st.booleans())
@settings(max_examples=60, deadline=None)
def test_shifting_the_clock_changes_nothing(
    signal: tuple[np.ndarray, np.ndarray], shift: float, by_offset: bool
) -> None:
    time, values = signal
    span = {"start": -0.0123, "end": float(time[-1]) + 0.0321, "steps": 8}
    here = pupil(time, values, **span)
    if by_offset:
        there = pupil(time + shift, values, offset=shift, **span)
    else:
        there = pupil(time + shift, values, steps=8, start=shift - 0.0123, end=shift + span["end"])
    for array in ("eye", "eye_observed"):
        np.testing.assert_allclose(there[array], here[array], atol=1e-3)


@given(signals(), st.data())
@settings(max_examples=60, deadline=None)
def test_more_gaps_never_raise_what_was_observed(signal: tuple[np.ndarray, np.ndarray], data: st.DataObject) -> None:
    time, values = signal
    recording = recording_of(time, Pupil_diameter_left=values)
    lost = np.isin(np.arange(len(time)), data.draw(st.lists(st.integers(0, len(time) - 1))))
    emptied = replace(recording, channels={"Pupil diameter left": np.where(lost, NAN, values)})
    # Left out instead, at least one row must stay, and rows that were empty before say that nothing was seen.
    stay = ~(lost & np.isfinite(values)) | (np.arange(len(time)) == 0)
    thinned = replace(recording, time=time[stay], channels={"Pupil diameter left": values[stay]})
    span: dict[str, Any] = {"start": -0.01, "end": float(time[-1]) + 0.01, "channels": PUPIL}
    before, emptied_after, thinned_after = (
        resample(one, **span)["eye_observed"] for one in (recording, emptied, thinned)
    )
    assert np.all(emptied_after <= before + 1e-6)
    assert np.all(thinned_after <= before + 1e-6)


# --- spans, gaze, methods, quality -----------------------------------------------------------------------------------


def test_a_span_is_in_video_time_and_the_offset_leads_to_recording_time() -> None:
    out = pupil(grid(1200), grid(1200), start=2, end=4, offset=0.5, steps=4)
    np.testing.assert_allclose(out["eye"], [2.75, 3.25, 3.75, 4.25], atol=1e-4)


def test_what_the_recording_does_not_cover_is_missing_and_said() -> None:
    out = pupil(grid(600), np.ones(600), start=0, end=10, steps=10)
    np.testing.assert_array_equal(np.isnan(out["eye"]), np.arange(10) >= 5)
    assert out["quality"]["eye_cover"] == pytest.approx(0.5, abs=1e-3)
    beyond = pupil(grid(600), np.ones(600), start=8)  # begins after the recording's end
    assert np.isnan(beyond["eye"]).all() and beyond["quality"]["eye_cover"] == 0


def test_a_span_that_ends_before_it_starts_is_refused() -> None:
    with pytest.raises(ValueError, match="start 4 s, end 2 s"):
        pupil(grid(600), np.ones(600), start=4, end=2)
    with pytest.raises(ValueError, match="want mean, nearest or draw, got 'median'"):
        pupil(grid(600), np.ones(600), method="median")


def gaze_recording(screen: tuple[int, int] | None) -> Recording:
    return recording_of(grid(240), screen, Gaze_point_X=np.full(240, 480.0), Gaze_point_Y=np.full(240, 810.0))


@pytest.mark.parametrize(
    ("recorded", "wanted", "assumed"), [(None, (0.25, 0.75), True), ((960, 1620), (0.5, 0.5), False)]
)
def test_gaze_is_a_fraction_of_the_recorded_else_the_configured_screen(
    recorded: tuple[int, int] | None, wanted: tuple[float, float], assumed: bool
) -> None:
    out = resample(gaze_recording(recorded))
    np.testing.assert_allclose(out["gaze"], np.tile(wanted, (32, 1)), rtol=1e-6)
    assert (out["quality"]["gaze_source"], out["quality"]["screen_assumed"]) == ("display", assumed)


def test_gaze_comes_from_the_medium_where_one_was_shown() -> None:
    recording = gaze_recording(None)
    media = np.where(grid(240) < 1, NAN, 0.4)
    channels = {"Gaze point X (MCSnorm)": media, "Gaze point Y (MCSnorm)": media + 1}
    recording = replace(recording, channels={**recording.channels, **channels})
    shown = resample(recording, start=1.1, end=1.9)
    np.testing.assert_allclose(shown["gaze"], np.tile([0.4, 1.4], (32, 1)), rtol=1e-6)
    assert shown["quality"]["gaze_source"] == "media" and not shown["quality"]["screen_assumed"]
    assert shown["quality"]["gaze_off_stimulus"] == 1
    assert resample(recording, start=0, end=0.9)["quality"]["gaze_source"] == "display"


def test_gaze_needs_both_its_axes() -> None:
    recording = gaze_recording(None)
    recording.channels[Y][:120] = NAN
    out = resample(recording, steps=4)
    np.testing.assert_array_equal(np.isnan(out["gaze"]), [[True] * 2] * 2 + [[False] * 2] * 2)
    np.testing.assert_allclose(out["gaze_observed"], [0, 0, 1, 1], rtol=1e-6)


def test_nearest_takes_whole_samples() -> None:
    values = np.random.default_rng(1).uniform(2, 4, 1200)
    values[18:20] = NAN
    out = pupil(grid(1200), values, method="nearest")
    centres = -1 / 240 + 10 * (np.arange(32) + 0.5) / 32
    wanted = [values[np.nanargmin(np.where(np.isnan(values), NAN, np.abs(grid(1200) - at)))] for at in centres]
    np.testing.assert_array_equal(out["eye"], np.array(wanted, dtype=np.float32))


def draws(seed: int, values: np.ndarray) -> dict[str, Any]:
    channels: Sequence[schema.Channel] = [schema.Channel(X, "px"), *PUPIL]
    recording = recording_of(
        grid(len(values)), (1, 1), Gaze_point_X=values, Gaze_point_Y=values, Pupil_diameter_left=values
    )
    return resample(recording, channels=channels, method="draw", seed=seed)


def test_draw_takes_one_whole_row_of_each_segment_and_gaze_by_itself() -> None:
    out = draws(7, np.arange(100.0))
    for step, segment in enumerate(np.array_split(np.arange(100), 32)):
        assert out["eye"][step, 0] in segment and out["gaze"][step, 0] in segment
    np.testing.assert_array_equal(out["eye"][:, 0], out["eye"][:, 1])
    np.testing.assert_array_equal(out["gaze"][:, 0], out["gaze"][:, 1])
    assert np.any(out["eye"][:, 0] != out["gaze"][:, 0])


def test_draw_is_the_same_for_a_seed_and_another_for_another() -> None:
    first, again, other = (draws(seed, np.arange(100.0))["eye"] for seed in (7, 7, 8))
    np.testing.assert_array_equal(first, again)
    assert np.any(first != other)


def test_draw_of_fewer_rows_than_steps_leaves_steps_empty_and_a_lost_row_missing() -> None:
    out = draws(1, np.array([1.0, NAN, 3.0]))
    np.testing.assert_array_equal(out["eye"][:4, 0], [1, NAN, 3, NAN])
    np.testing.assert_array_equal(out["eye_observed"][:4, 0], [1, 0, 1, 0])


def test_quality_counts_blinks_gaps_and_single_eyes() -> None:
    left, right = np.full(1200, 3.0), np.full(1200, 3.0)
    for both in (slice(100, 118), slice(400, 424)):  # 150 and 200 ms: blinks
        left[both] = right[both] = NAN
    left[600:606] = right[600:606] = NAN  # 50 ms: too short
    left[800:920] = right[800:920] = NAN  # 1 s: looked away
    right[1000:1060] = NAN
    gaze = np.where(np.isnan(left), NAN, 100.0)
    recording = recording_of(
        grid(1200), Pupil_diameter_left=left, Pupil_diameter_right=right, Gaze_point_X=gaze, Gaze_point_Y=gaze
    )
    quality = resample(recording)["quality"]
    seen = 1200 - 18 - 24 - 6 - 120
    assert quality["blinks"] == 2
    assert quality["eye_longest_gap"] == pytest.approx(1, abs=1e-6)
    assert quality["one_eye"] == pytest.approx(60 / seen, rel=1e-6)
    assert quality["eye_observed"] == quality["gaze_observed"] == pytest.approx(seen / 1200, rel=1e-6)
    assert quality["interpolated"] == pytest.approx(6 / 1200, rel=1e-5)
    assert quality["eye_rate"] == pytest.approx(120)


def test_a_real_export_loses_what_its_own_flags_say(shared: Path) -> None:
    recording = read_recording(shared / "media" / "tobii_pro_lab_24_120hz.tsv")
    quality = resample(recording)["quality"]
    left, right = (recording.channels[f"Validity {eye}"] == 1 for eye in ("left", "right"))
    assert quality["eye_observed"] == pytest.approx((left | right).mean(), abs=1e-4)
    assert quality["one_eye"] == pytest.approx((left ^ right).sum() / (left | right).sum(), abs=1e-4)
    assert quality["eye_cover"] == pytest.approx(1)
    assert (quality["gaze_source"], quality["screen_assumed"]) == ("display", False)
