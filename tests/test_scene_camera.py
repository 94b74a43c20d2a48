"""Gaze on a scene camera's picture is no gaze on a screen, whoever made the glasses; the rest is kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from recording_files import Rows, text_of

from smad_features import schema
from smad_features.eyes import resample
from smad_features.recordings import read_recording

FIXATION = schema.EYE_MOVEMENT["Fixation"]


def rows_of(columns: dict[str, str], *, time: str, step: float) -> Rows:
    """Twenty samples, all alike but for the time."""
    return [[time, *columns], *([f"{number * step:.6g}", *columns.values()] for number in range(20))]


TOBII = {"Sensor": "Eye Tracker", "Pupil diameter left{mm}": "3.1", "Validity left": "Valid",
         "Eye movement type": "Fixation", "Eye movement type index": "1"}  # fmt: skip
HEAD = {
    "Gaze direction left X{head}": "0.1",
    "Gaze direction left Y{head}": "0.2",
    "Gaze direction left Z{head}": "0.9",
}
WITH_UNITS = {name.format(mm=" [mm]", head=" [HUCS norm]"): cell for name, cell in (TOBII | HEAD).items()} | {
    "Gaze point X [MCS px]": "800", "Gaze point Y [MCS px]": "500", "Gaze point 3D X [HUCS mm]": "12",
    "Recording resolution height [px]": "1080", "Recording resolution width [px]": "1920",
}  # fmt: skip
WITHOUT = {name.format(mm="", head=""): cell for name, cell in (TOBII | HEAD).items()} | {
    "Gaze point X": "800", "Gaze point Y": "500", "Gaze point 3D X": "12",
}  # fmt: skip
SMI = {"Type": "SMP", "L POR X [px]": "800.5", "L POR Y [px]": "500.5", "L Pupil Diameter [mm]": "3.1",
       "L Event Info": "Fixation"}  # fmt: skip
IMOTIONS = {"ET_GazeLeftx": "800", "ET_GazeLefty": "500", "ET_PupilLeft": "3.1", "Gaze3DX": "12", "Fixation Index": "1"}
NEON = {"gaze x [px]": "800", "gaze y [px]": "500", "pupil diameter left [mm]": "3.1", "worn": "1", "fixation id": "1"}
CORE = {"world_index": "0", "confidence": "0.9", "norm_pos_x": "0.5", "norm_pos_y": "0.5", "base_data": "0"}

FILES = {
    "Tobii, units": text_of(rows_of(WITH_UNITS, time="Recording timestamp [ms]", step=10)),
    "Tobii, no units": text_of(rows_of(WITHOUT, time="Recording timestamp", step=10)),
    "SMI": "## [BeGaze]\n## Converted from:\tETG 2\n" + text_of(rows_of(SMI, time="Time", step=10_000)),
    "iMotions": "#INFO\n#DATA\n" + text_of(rows_of(IMOTIONS, time="Timestamp", step=10)),
    "Neon": text_of(rows_of(NEON, time="timestamp [ns]", step=10_000_000), delimiter=","),
    "Core": text_of(rows_of(CORE, time="gaze_timestamp", step=0.01), delimiter=","),
}


@pytest.mark.parametrize("kind", FILES)
def test_pupils_and_movements_are_kept_and_gaze_is_none(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "recording.txt"
    path.write_text(FILES[kind], encoding="utf-8")
    recording = read_recording(path)
    assert recording.screen is None
    assert any("Gaze" in name and "camera" in name for name in recording.extra)
    assert not [name for name in recording.channels if name.startswith(("Gaze point", "Gaze direction", "Fixation"))]
    out = resample(recording, steps=4)
    assert (out["quality"]["gaze_source"], out["quality"]["stimulus_area"]) == ("none", None)
    assert np.isnan(out["gaze"]).all() and not out["gaze_observed"].any()
    if kind != "Core":  # its gaze file has neither pupils in mm nor movements
        named = [channel.name for channel in schema.TOBII_PRO_LAB_39]
        np.testing.assert_allclose(out["eye"][:, named.index("Pupil diameter left")], 3.1, rtol=1e-6)
        np.testing.assert_array_equal(out["eye"][:, named.index("Eye movement type")], FIXATION)
