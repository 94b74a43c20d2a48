"""The quality of participants and channels is made of that of clips, by numbers that a reader can check."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from smad_features import schema
from smad_features.eyes import LOST, resample
from smad_features.quality_parts import channel_rows, participant_rows
from smad_features.recordings import Recording


def clip(name: str, participant: str = "P1", **measured: Any) -> dict[str, Any]:
    return {"clip": name, "participant": participant, "status": "ok"} | measured


def test_a_participant_has_one_row_of_the_clips_in_use() -> None:
    eyes = {"eye_start": 0.0, "eye_end": 30.0, "eye_cover": 1.0}
    rows = participant_rows(
        [
            clip("a", face_found=1.0, eye_rate=120.0, eye_longest_gap=0.5, blinks=6, **eyes),
            clip("b", face_found=0.5, eye_rate=60.0, eye_longest_gap=2.0, blinks=0, **eyes),
            clip("c", face_found=0.0, eye_rate=None, gaze_observed=float("nan")),  # no recording
            clip("d", status="quarantined", face_found=0.0, eye_rate=500.0),
            clip("e", "P0"),
        ]
    )
    assert [row["participant"] for row in rows] == ["P0", "P1"]
    assert rows[0] == {"participant": "P0", "clips": 1, "ok": 1, "quarantined": 0}
    assert rows[1] == {
        "participant": "P1", "clips": 4, "ok": 3, "quarantined": 1, "face_found": 0.5, "eye_rate": 90.0,
        "eye_cover": 1.0, "eye_longest_gap": 2.0, "blinks_per_minute": 6.0,
    }  # fmt: skip


def test_blinks_are_counted_by_the_minute_that_was_recorded() -> None:
    half = clip("a", eye_start=0.0, eye_end=60.0, eye_cover=0.5, blinks=10)
    assert participant_rows([half])[0]["blinks_per_minute"] == 20


def recording(**channels: np.ndarray) -> Recording:
    named = {name.replace("_", " "): values for name, values in channels.items()}
    return Recording(np.arange(240) / 120, named, 120.0, (1920, 1080))


def test_the_loss_of_a_channel_is_the_time_without_a_valid_sample_even_where_it_was_bridged() -> None:
    left, right = np.full(240, 3.0), np.full(240, 3.0)
    left[100:106] = np.nan  # 50 ms: bridged
    right[120:] = np.nan
    quality = resample(recording(Pupil_diameter_left=left, Pupil_diameter_right=right))["quality"]
    lost = quality["lost_by_channel"]
    assert list(lost) == [channel.name for channel in schema.TOBII_PRO_LAB_39]
    assert lost["Pupil diameter left"] == pytest.approx(6 / 240)
    assert lost["Pupil diameter right"] == pytest.approx(0.5)
    assert quality["lost_pupil"] == pytest.approx((6 / 240 + 0.5) / 2)
    assert lost["Gaze point X"] == quality["lost_gaze"] == 1  # the tracker has none
    rows = {row["channel"]: row for row in channel_rows([clip("a", **quality), clip("b")])}
    assert len(rows) == 39
    left_row, right_row = rows["Pupil diameter left"], rows["Pupil diameter right"]
    assert (left_row["clip"], left_row["lost"]) == ("a", lost["Pupil diameter left"])
    assert (left_row["bridged"], right_row["bridged"]) == (pytest.approx(6 / 240), 0)


def test_time_that_the_recording_does_not_cover_is_lost() -> None:
    quality = resample(recording(Pupil_diameter_left=np.full(240, 3.0)), start=0, end=4)["quality"]
    assert quality["lost_by_channel"]["Pupil diameter left"] == pytest.approx(0.5, abs=0.01)


def test_every_channel_but_fixation_points_belongs_to_one_group() -> None:
    groups = {
        channel.name: [group for group, pattern in LOST.items() if pattern.fullmatch(channel.name)]
        for channel in schema.TOBII_PRO_LAB_39
    }
    # The two flags of validity say of loss what `eye_lost` says.
    alone = [name for name, found in groups.items() if not found]
    assert all(name.startswith(("Fixation point", "Validity")) for name in alone) and len(alone) == 6
    assert all(len(found) <= 1 for found in groups.values())
