"""Pupil Labs exports: Core's gaze and surfaces, Neon's gaze, surfaces and eye states; and files that are of no use.

The columns are those of recordings.md 2.7 and of docs.pupil-labs.com.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from smad_features import schema
from smad_features.recordings import Recording, RecordingError, read_recording

NAN = np.nan
CORE = (
    "gaze_timestamp,world_index,confidence,norm_pos_x,norm_pos_y,base_data,gaze_point_3d_x,gaze_point_3d_y,"
    "gaze_point_3d_z,eye_center0_3d_x,gaze_normal0_x"
)
SURFACE = "world_timestamp,world_index,gaze_timestamp,x_norm,y_norm,x_scaled,y_scaled,on_surf,confidence"
NEON = (
    "section id,recording id,timestamp [ns],gaze x [px],gaze y [px],worn,fixation id,blink id,"
    "azimuth [deg],elevation [deg]"
)
NEON_SURFACE = (
    "section id,recording id,timestamp [ns],gaze detected on surface,gaze position on surface x [normalized],"
    "gaze position on surface y [normalized],fixation id,blink id"
)
EYE_STATES = (
    "section id,recording id,timestamp [ns],pupil diameter left [mm],pupil diameter right [mm],"
    "eyeball center left x [mm],optical axis left x,eyelid aperture left [mm]"
)
START = 1_678_269_920_123_456_789  # float64 has steps of 256 ns here


def core(time: float, *, confidence: str = "0.95") -> str:
    return f"{time:.6f},12,{confidence},0.6,0.25,{time:.6f}-1 {time:.6f}-0,1.0,2.0,3.0,,0.1"


def surface(time: float, x: float, y: float, *, confidence: str = "0.95") -> str:
    inside = 0 <= x <= 1 and 0 <= y <= 1
    return f"{time:.6f},12,{time:.6f},{x},{y},{x * 100},{y * 100},{inside},{confidence}"


def neon(number: int, *, worn: str = "1.0", fixation: str = "", blink: str = "") -> str:
    return f"s1,r1,{START + number * 5_000_123},812.5,{400 + number},{worn},{fixation},{blink},1.5,-2.5"


def text_of(header: str, rows: list[str]) -> str:
    return "\n".join([header, *rows]) + "\n"


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Recording]:
    """Writes a file under a name that tells something else, and reads it."""

    def write_and_read(header: str, rows: list[str]) -> Recording:
        path = tmp_path / "recording.asc"
        path.write_text(text_of(header, rows), encoding="utf-8")
        return read_recording(path)

    return write_and_read


def test_gaze_of_core_is_on_the_world_cameras_picture_and_no_channel(read: Callable[..., Recording]) -> None:
    times = 2395.5 + np.cumsum([0, 0.0001, 0.004, 0.004, 0.013, 0.004])  # uneven, as it is
    recording = read(CORE, [core(time) for time in times])
    assert recording.kind == "Pupil Labs Core"
    assert recording.channels == {} and recording.normalized == frozenset()
    np.testing.assert_allclose(recording.time, times - times[0], atol=1e-6)
    assert recording.extra["Gaze X (world camera, fraction)"].tolist() == [0.6] * 6
    assert recording.extra["Gaze Y (world camera, fraction)"].tolist() == [0.75] * 6  # counted from the bottom there


def test_samples_of_little_confidence_are_missing_and_counted(read: Callable[..., Recording]) -> None:
    grades = ["0.95", "0.6", "0.59", "0.0", ""]
    recording = read(CORE, [core(number / 100, confidence=grade) for number, grade in enumerate(grades)])
    lost = np.isnan(recording.extra["Gaze X (world camera, fraction)"])
    assert lost.tolist() == [False, False, True, True, True]
    assert recording.notes["values_flagged_invalid"] == 2 * 3


def test_gaze_on_a_surface_of_core_is_gaze_on_the_screen_with_y_down(read: Callable[..., Recording]) -> None:
    points = [(0.0, 1.0), (1.0, 0.0), (0.25, 0.75), (-0.1, 1.2)]  # top left, bottom right, within, beside
    recording = read(SURFACE, [surface(number / 120, x, y) for number, (x, y) in enumerate(points)])
    assert recording.normalized == {"Gaze point X", "Gaze point Y"}
    np.testing.assert_allclose(recording.channels["Gaze point X"], [0, 1, 0.25, -0.1])
    np.testing.assert_allclose(recording.channels["Gaze point Y"], [0, 1, 0.25, -0.2], atol=1e-12)
    assert recording.rate == pytest.approx(120, rel=1e-3)
    old = SURFACE.replace("on_surf,confidence", "on_srf")
    rows = [surface(number / 120, 0.5, 0.5).rpartition(",")[0] for number in range(20)]
    assert read(old, rows).channels["Gaze point X"].tolist() == [0.5] * 20


def test_nanoseconds_stay_exact(read: Callable[..., Recording]) -> None:
    recording = read(NEON, [neon(number) for number in range(20)])
    assert recording.kind == "Pupil Labs Neon or Invisible"
    np.testing.assert_allclose(recording.time, np.arange(20) * 5_000_123 * 1e-9, rtol=0, atol=1e-15)
    assert recording.notes["duplicate_timestamps"] == 0
    close = read(NEON, [neon(0).replace(str(START), str(START + number)) for number in (0, 100, 200)])
    np.testing.assert_allclose(close.time, [0, 1e-7, 2e-7], rtol=1e-12)


def test_gaze_of_neon_is_lost_in_a_blink_and_while_it_is_not_worn(read: Callable[..., Recording]) -> None:
    rows = [
        neon(0, fixation="7"),
        neon(1, fixation="7"),
        neon(2),
        neon(3, blink="3"),
        neon(4, fixation="8"),
        neon(5, worn="0.0"),
    ]
    recording = read(NEON, rows)
    np.testing.assert_array_equal(recording.extra["Gaze Y (scene camera px)"], [400, 401, 402, NAN, 404, NAN])
    names = ["Fixation", "Fixation", "Unclassified", "EyesNotFound", "Fixation", "Unclassified"]
    assert recording.channels["Eye movement type"].tolist() == [schema.EYE_MOVEMENT[name] for name in names]
    np.testing.assert_array_equal(recording.channels["Eye movement type index"], [1, 1, NAN, 1, 2, NAN])
    assert recording.notes["values_flagged_invalid"] == 4
    assert set(recording.channels) == {"Eye movement type", "Eye movement type index"}


def test_gaze_on_a_surface_of_neon_is_gaze_on_the_screen(read: Callable[..., Recording]) -> None:
    cells = ["True,0.25,0.75,1,", "False,1.2,-0.1,1,", "False,,,,", "True,0.5,0.5,,4"]
    rows = [f"s1,r1,{START + number * 5_000_000},{values}" for number, values in enumerate(cells)]
    recording = read(NEON_SURFACE, rows)
    assert recording.normalized == {"Gaze point X", "Gaze point Y"}
    np.testing.assert_array_equal(recording.channels["Gaze point X"], [0.25, 1.2, NAN, NAN])  # the last is a blink
    np.testing.assert_array_equal(recording.channels["Gaze point Y"], [0.75, -0.1, NAN, NAN])


def test_eye_states_give_pupils_in_millimetres(read: Callable[..., Recording]) -> None:
    rows = [
        f"s1,r1,{START + number * 5_000_000},3.1,{'' if number == 1 else 3.3},-31.5,-0.1,9.5" for number in range(20)
    ]
    recording = read(EYE_STATES, rows)
    assert recording.channels["Pupil diameter left"].tolist() == [3.1] * 20
    assert np.isnan(recording.channels["Pupil diameter right"]).tolist() == [False, True] + [False] * 18
    assert recording.extra["Eyelid aperture left (mm)"][0] == 9.5
    assert recording.rate == pytest.approx(200)


def test_gaze_and_eye_states_joined_in_one_table_are_read_whole(read: Callable[..., Recording]) -> None:
    header = NEON + ",pupil diameter left [mm]"
    recording = read(header, [neon(number, blink="1" if number == 3 else "") + ",3.1" for number in range(20)])
    assert np.flatnonzero(np.isnan(recording.channels["Pupil diameter left"])).tolist() == [3]
    assert "Gaze X (scene camera px)" in recording.extra


def test_a_recording_without_an_eye_is_one_of_missing_values(read: Callable[..., Recording]) -> None:
    recording = read(SURFACE, [surface(number / 120, 0.5, 0.5, confidence="0.0") for number in range(20)])
    assert len(recording.time) == 20
    assert np.isnan(recording.channels["Gaze point X"]).all()


NEON_ROWS = [neon(number) for number in range(20)]
REFUSED: dict[str, tuple[str, list[str], str]] = {
    "header only": (NEON, [], "a header of 10 columns and no row under it"),
    "two recordings": (
        NEON,
        [*NEON_ROWS, neon(20).replace("r1", "r2")],
        r"2 recordings in one file \(recording id: 'r1', 'r2'\)",
    ),
    "text for a number": (CORE, [core(1), core(2, confidence="high")], "column 'confidence', line 3: want a number"),
    "a strange flag": (
        NEON,
        [*NEON_ROWS, neon(20, worn="maybe")],
        "column 'worn', line 22: want one of .* found 'maybe'",
    ),
    "a short row": (NEON, [*NEON_ROWS[:2], "s1,r1,17", *NEON_ROWS[3:]], "damaged: row 3 has 3 fields, the header 10"),
    "no clock": (NEON.replace("timestamp [ns]", "when"), NEON_ROWS, "an unknown kind of file"),
    "pupils in the eye camera": (
        "timestamp,index,id,confidence,norm_pos_x,norm_pos_y,diameter",
        ["1.5,0,0,0.9,0.5,0.5,30.5"],
        "an unknown kind of file",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_useless_file_is_refused_with_its_own_reason(what: str, read: Callable[..., Recording]) -> None:
    header, rows, reason = REFUSED[what]
    with pytest.raises(RecordingError, match=reason):
        read(header, rows)


def test_a_file_cut_mid_line_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "gaze.csv"
    path.write_text(text_of(NEON, NEON_ROWS)[:-30], encoding="utf-8")
    with pytest.raises(RecordingError, match=r"cut off in the middle of its last row \(20\): want 10 fields"):
        read_recording(path)
