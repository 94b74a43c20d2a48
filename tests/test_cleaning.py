"""Impossible values and the edges of blinks become missing and are counted; what was seen stays as it was."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smad_features.cleaning import clean
from smad_features.recordings import Recording
from smad_features.recordings.recording import sampling_rate

SETTINGS = {"screen": (1000, 500), "screen_margin": 0.5, "blink_buffer": 0.05}
NAN = np.nan


def recording_of(count: int = 120, *, rate: float = 100.0, **channels: Any) -> Recording:
    time = np.arange(count) / rate
    named = {name.replace("_", " "): np.array(values, dtype=float) for name, values in channels.items()}
    return Recording(time, named, sampling_rate(time), None)


@pytest.mark.parametrize(
    ("x", "y", "stays"), [(-499, 250, True), (1499, 250, True), (-501, 250, False), (500, 751, False)]
)
def test_gaze_beyond_the_screen_by_more_than_the_margin_goes_with_both_its_axes(
    x: float, y: float, stays: bool
) -> None:
    cleaned, counts = clean(recording_of(1, Gaze_point_X=[x], Gaze_point_Y=[y]), SETTINGS)

    assert np.isfinite(list(cleaned.channels.values())).all() == stays
    assert counts["impossible_gaze"] == (0 if stays else 2)


def test_fractions_of_the_medium_are_held_to_its_own_size() -> None:
    channels = {"Gaze point X (MCSnorm)": np.array([0.5, 1.6]), "Gaze point Y (MCSnorm)": np.array([0.5, 0.5])}
    cleaned, counts = clean(Recording(np.array([0.0, 0.01]), channels, 100.0, None), SETTINGS)

    assert np.isnan(cleaned.channels["Gaze point Y (MCSnorm)"]).tolist() == [False, True]
    assert counts["impossible_gaze"] == 2


def test_around_a_blink_the_lid_hides_the_pupil() -> None:
    values = np.full(120, 3.0)
    values[50:70] = NAN  # 200 ms at 100 Hz

    cleaned, counts = clean(recording_of(Pupil_diameter_left=values, Pupil_diameter_right=values), SETTINGS)

    missing = np.flatnonzero(np.isnan(cleaned.channels["Pupil diameter left"]))
    assert missing.tolist() == list(range(45, 75))  # five samples, 50 ms, on each side
    assert counts["blink_edges"] == 20
    assert counts["eye_lost"] == pytest.approx(20 / 120)  # as the tracker had it


def test_a_loss_shorter_than_a_blink_takes_nothing_along() -> None:
    values = np.full(120, 3.0)
    values[50:58] = NAN

    cleaned, counts = clean(recording_of(Pupil_diameter_left=values), SETTINGS)

    assert np.isnan(cleaned.channels["Pupil diameter left"]).sum() == 8 and counts["blink_edges"] == 0


def test_a_gap_in_the_file_is_a_loss_too() -> None:
    time = np.delete(np.arange(120) / 100, range(50, 70))
    values = np.full(100, 3.0)

    cleaned, _ = clean(Recording(time, {"Pupil diameter left": values}, 100.0, None), SETTINGS)

    assert np.flatnonzero(np.isnan(cleaned.channels["Pupil diameter left"])).tolist() == list(range(45, 55))


def test_where_one_eye_is_lost_the_mean_gaze_point_is_the_other_eye_s() -> None:
    left, right = np.full(120, 3.0), np.full(120, 3.0)
    left[50:70] = NAN
    recording = recording_of(
        Pupil_diameter_left=left,
        Pupil_diameter_right=right,
        Gaze_point_X=np.full(120, 9.0),
        Gaze_point_Y=np.full(120, 9.0),
    )

    cleaned, _ = clean(recording, SETTINGS)

    assert np.isnan(cleaned.channels["Pupil diameter left"]).sum() == 30
    assert np.isfinite(cleaned.channels["Gaze point X"]).all()
    assert np.isfinite(cleaned.channels["Pupil diameter right"]).all()


def test_categories_and_counters_are_no_measurements_of_the_pupil() -> None:
    values = np.full(120, 3.0)
    values[50:70] = NAN
    recording = recording_of(
        Pupil_diameter_left=values, Eye_movement_type=np.ones(120), Eye_movement_type_index=np.arange(120)
    )

    cleaned, _ = clean(recording, SETTINGS)

    assert np.isfinite(cleaned.channels["Eye movement type"]).all()
    assert np.isfinite(cleaned.channels["Eye movement type index"]).all()


def test_fractions_of_the_screen_become_pixels() -> None:
    recording = recording_of(2, Gaze_point_X=[0.0, 0.5], Gaze_point_Y=[0.0, 0.5])
    fractions = Recording(
        recording.time, recording.channels, recording.rate, (800, 600), normalized=frozenset(recording.channels)
    )

    cleaned, _ = clean(fractions, SETTINGS)

    assert cleaned.channels["Gaze point X"].tolist() == [0, 400]
    assert cleaned.channels["Gaze point Y"].tolist() == [0, 300]
    assert not cleaned.normalized


@given(lost=st.lists(st.booleans(), min_size=2, max_size=60), buffer=st.sampled_from([0.0, 0.02, 0.05, 0.5]))
def test_cleaning_only_ever_takes_away_and_a_second_time_nothing_more(lost: list[bool], buffer: float) -> None:
    values = np.where(lost, NAN, 3.0)
    recording = recording_of(len(values), Pupil_diameter_left=values, Validity_left=np.where(lost, 0.0, 1.0))
    settings = SETTINGS | {"blink_buffer": buffer}

    once, counts = clean(recording, settings)
    twice, again = clean(once, settings)

    after = once.channels["Pupil diameter left"]
    assert np.isnan(after).sum() == sum(lost) + counts["blink_edges"]
    np.testing.assert_array_equal(after[~np.isnan(after)], 3.0)
    np.testing.assert_array_equal(twice.channels["Pupil diameter left"], after)
    assert again["blink_edges"] == 0
