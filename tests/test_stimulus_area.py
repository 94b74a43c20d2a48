"""Gaze on the display becomes gaze on the stimulus by the stimulus' own place, wherever that is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recording_files import writer

from smad_features.eyes import resample
from smad_features.recordings import Recording, read_recording

NAN = np.nan
MEDIUM = (100.0, 50.0, 800.0, 600.0)  # left, top, width, height


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Recording]:
    write = writer(tmp_path, "recording.tsv")
    return lambda what: read_recording(write(what))


def looking_at(x: float, y: float, *, area: np.ndarray | None = None, **other: Any) -> Recording:
    """Two seconds at 120 Hz of gaze at one point of a display of 1280 x 1024."""
    channels = {"Gaze point X": np.full(240, x), "Gaze point Y": np.full(240, y)}
    recording = Recording(np.arange(240) / 120, channels, 120.0, (1280, 1024), stimulus_area=area)
    return replace(recording, **other)


def told(recording: Recording, **options: Any) -> tuple[np.ndarray, tuple[str, str | None]]:
    out = resample(recording, steps=4, **options)
    return out["gaze"], (out["quality"]["gaze_source"], out["quality"]["stimulus_area"])


def test_the_recorded_place_comes_before_the_configured_one_and_that_before_the_screen() -> None:
    shown = looking_at(300, 200, area=np.tile(MEDIUM, (240, 1)))
    gaze, said = told(shown, stimulus_area=(0, 0, 10, 10))
    np.testing.assert_allclose(gaze, np.tile([0.25, 0.25], (4, 1)), rtol=1e-6)
    assert said == ("display", "recorded")
    gaze, said = told(looking_at(300, 200), stimulus_area=(200, 0, 400, 400))
    np.testing.assert_allclose(gaze, np.tile([0.25, 0.5], (4, 1)), rtol=1e-6)
    assert said == ("display", "configured")
    gaze, said = told(looking_at(320, 512))
    np.testing.assert_allclose(gaze, np.tile([0.25, 0.5], (4, 1)), rtol=1e-6)
    assert said == ("display", "screen")


def test_the_place_may_change_from_sample_to_sample_and_gaze_follows() -> None:
    area = np.tile(MEDIUM, (240, 1))
    area[120:] = (300, 200, 100, 100)
    gaze, _ = told(looking_at(300, 200, area=area))
    np.testing.assert_allclose(gaze, [[0.25, 0.25]] * 2 + [[0, 0]] * 2, atol=1e-6)


def test_while_nothing_is_shown_there_is_no_gaze_on_it() -> None:
    area = np.tile(MEDIUM, (240, 1))
    area[:120] = NAN
    recording = looking_at(300, 200, area=area)
    gaze, _ = told(recording)
    np.testing.assert_array_equal(np.isnan(gaze).any(axis=1), [True, True, False, False])
    # A span of which the recording says nothing at all is read as one of a recording that says nothing.
    assert told(recording, start=0, end=0.9)[1] == ("display", "screen")


def test_a_place_is_not_asked_for_where_the_tracker_tells_coordinates_of_the_medium() -> None:
    recording = looking_at(300, 200, area=np.tile(MEDIUM, (240, 1)))
    recording.channels.update({f"Gaze point {axis} (MCSnorm)": np.full(240, 0.7) for axis in "XY"})
    gaze, said = told(recording, stimulus_area=(0, 0, 10, 10))
    np.testing.assert_allclose(gaze, 0.7, rtol=1e-6)
    assert said == ("media", None)
    assert told(looking_at(NAN, NAN))[1] == ("none", None)


STUDIO = ["MediaPosX (ADCSpx)", "MediaPosY (ADCSpx)", "MediaWidth", "MediaHeight"]
PRO_LAB = ["Presented Media position X{px}", "Presented Media position Y{px}", *(
    f"Presented Media {side}{{size}}" for side in ("width", "height"))]  # fmt: skip
HEADERS = {
    "Studio": [*STUDIO, "RecordingTimestamp", "GazePointX (ADCSpx)", "GazePointY (ADCSpx)"],
    "Pro Lab, plain": [*(name.format(px=" (DACSpx)", size="") for name in PRO_LAB), "Recording timestamp",
                       "Gaze point X", "Gaze point Y"],
    "Pro Lab, first": [*(name.format(px=" (RCSpx)", size="") for name in PRO_LAB), "Recording timestamp",
                       "Gaze Point X (RCSpx)", "Gaze Point Y (RCSpx)"],
    "Pro Lab, units": [*(name.format(px=" [DACS px]", size=" [px]") for name in PRO_LAB), "Recording timestamp [ms]",
                       "Gaze point X [DACS px]", "Gaze point Y [DACS px]"],
}  # fmt: skip


@pytest.mark.parametrize("kind", HEADERS)
def test_what_tobii_says_of_the_medium_is_read_sample_by_sample(kind: str, read: Callable[..., Recording]) -> None:
    places = [["100", "50", "800", "600"]] * 10 + [["", "", "", ""]] * 5 + [["0", "0", "0", "0"]] * 5
    rows = [[*place, str(round(number * 8.333)), "300", "200"] for number, place in enumerate(places)]
    recording = read([HEADERS[kind], *rows])
    assert recording.stimulus_area is not None
    np.testing.assert_array_equal(recording.stimulus_area, [MEDIUM] * 10 + [(NAN,) * 4] * 10)
    gaze = resample(recording, start=0, end=0.08, steps=2)["gaze"]
    np.testing.assert_allclose(gaze, [[0.25, 0.25]] * 2, rtol=1e-6)


def test_an_export_that_never_shows_anything_says_no_place(read: Callable[..., Recording]) -> None:
    rows = [["", "", "", "", str(8 * number), "300", "200"] for number in range(20)]
    assert read([HEADERS["Studio"], *rows]).stimulus_area is None
