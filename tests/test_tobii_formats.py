"""Tobii Studio, Tobii Pro SDK and PsychoPy files: cells become channels, marks become missing, each fault its reason.

The small files are written after real ones: column names, encodings, line ends, marks for "missing" and validity codes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from recording_files import Rows, text_of, writer

from smad_features import schema
from smad_features.eyes import resample
from smad_features.recordings import Recording, RecordingError, read_recording

NAN = float("nan")
FIXATION, SACCADE = schema.EYE_MOVEMENT["Fixation"], schema.EYE_MOVEMENT["Saccade"]


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Recording]:
    """Writes rows (or text, or bytes) to a file whose name misleads and reads it as a recording."""
    write = writer(tmp_path, "recording.asc")
    return lambda what: read_recording(write(what))


# --- Tobii Studio 3 --------------------------------------------------------------------------------------------------

# As 3.4 writes them: UTF-8 with a byte order mark, CRLF, and a tab behind the last column.
STUDIO = [
    "ParticipantName", "RecordingName", "RecordingResolution", "MediaName", "MediaPosX (ADCSpx)", "MediaPosY (ADCSpx)",
    "MediaWidth", "MediaHeight", "RecordingTimestamp", "EyeTrackerTimestamp", "StudioEvent", "StudioEventData",
    "KeyPressEvent", "FixationIndex", "SaccadeIndex", "GazeEventType", "GazeEventDuration", "FixationPointX (MCSpx)",
    "FixationPointY (MCSpx)", "GazePointIndex", "GazePointLeftX (ADCSpx)", "GazePointLeftY (ADCSpx)",
    "GazePointRightX (ADCSpx)", "GazePointX (ADCSpx)", "GazePointY (ADCSpx)", "GazePointX (MCSpx)",
    "GazePointLeftX (ADCSmm)", "EyePosLeftZ (ADCSmm)", "DistanceLeft", "PupilLeft", "PupilRight", "ValidityLeft",
    "ValidityRight", "",
]  # fmt: skip


def studio(number: int, **other: str) -> list[str]:
    """One sample of a 120 Hz export; the pupil is measured in two rows of five."""
    measured = number % 5 in (0, 2)
    cells = {
        "ParticipantName": "P1", "RecordingName": "Rec 1", "RecordingResolution": "1280 x 1024", "MediaName": "a.avi",
        "MediaPosX (ADCSpx)": "240", "MediaPosY (ADCSpx)": "212", "MediaWidth": "800", "MediaHeight": "600",
        "RecordingTimestamp": str(500 + round(number * 1000 / 120)),
        "EyeTrackerTimestamp": str(1_424_768_000_000 + round(number * 1e6 / 120)),
        "FixationIndex": "3", "GazeEventType": "Fixation", "GazeEventDuration": "250", "FixationPointX (MCSpx)": "200",
        "FixationPointY (MCSpx)": "150", "GazePointIndex": str(number + 1), "GazePointLeftY (ADCSpx)": "362",
        "GazePointLeftX (ADCSpx)": str(430 + number), "GazePointRightX (ADCSpx)": "450",
        "GazePointX (ADCSpx)": str(440 + number), "GazePointY (ADCSpx)": "362",
        "GazePointX (MCSpx)": str(200 + number), "GazePointLeftX (ADCSmm)": "113,52",
        "EyePosLeftZ (ADCSmm)": "632,77", "DistanceLeft": "640,10", "PupilLeft": "3,27" if measured else "-1,00",
        "PupilRight": "3,11" if measured else "-1,00", "ValidityLeft": "0", "ValidityRight": "1",
    }  # fmt: skip
    return [(cells | other).get(name, "") for name in STUDIO]


def noted(at: int, name: str, value: str) -> list[str]:
    cells = {"ParticipantName": "P1", "RecordingName": "Rec 1", "RecordingTimestamp": str(at), name: value}
    if name == "StudioEvent":
        cells["StudioEventData"] = "a.avi"
    return [cells.get(name, "") for name in STUDIO]


def studio_bytes(rows: Rows) -> bytes:
    return text_of([STUDIO, *rows], end="\r\n").encode("utf-8-sig")


def test_a_studio_export_gives_the_numbers_that_stand_in_its_cells(read: Callable[..., Recording]) -> None:
    recording = read(studio_bytes([studio(number) for number in range(60)]))
    assert (recording.kind, recording.screen) == ("Tobii Studio", (1280, 1024))
    assert recording.rate == pytest.approx(120, abs=0.01)
    wanted = {
        "Gaze point left Y": 362, "Gaze point right X": 450, "Gaze point left X (DACSmm)": 113.52,
        "Eye position left Z (DACSmm)": 632.77, "Eye movement type": FIXATION, "Gaze event duration": 250,
        "Eye movement type index": 3, "Validity left": 1, "Validity right": 1,
    }  # fmt: skip
    for name, value in wanted.items():
        np.testing.assert_array_equal(recording.channels[name], value, err_msg=name)
    np.testing.assert_array_equal(recording.channels["Gaze point X"], 440 + np.arange(60))
    assert "Eye position left X (DACSmm)" not in recording.channels  # the file has none


def test_studio_pixels_of_the_medium_become_its_fractions_and_pixels_of_the_display(
    read: Callable[..., Recording],
) -> None:
    recording = read(studio_bytes([studio(0), studio(1, MediaWidth="", MediaHeight="", **{"MediaPosX (ADCSpx)": ""})]))
    np.testing.assert_array_equal(recording.channels["Gaze point X (MCSnorm)"], [200 / 800, NAN])
    np.testing.assert_array_equal(recording.channels["Fixation point Y (MCSnorm)"], [150 / 600, NAN])
    np.testing.assert_array_equal(recording.channels["Fixation point X"], [200 + 240, NAN])


def test_a_studio_pupil_that_was_not_measured_in_a_row_is_missing_and_is_no_loss(
    read: Callable[..., Recording],
) -> None:
    recording = read(studio_bytes([studio(number) for number in range(1200)]))
    assert np.isnan(recording.channels["Pupil diameter left"]).mean() == pytest.approx(0.6)
    assert recording.notes["values_marked_missing"] == 2 * 720
    out = resample(recording)
    np.testing.assert_allclose(out["eye"][:, 12:14], np.tile([3.27, 3.11], (32, 1)), rtol=1e-6)
    assert out["quality"]["eye_observed"] == pytest.approx(1)


@pytest.mark.parametrize(("grade", "valid"), [("0", 1), ("1", 1), ("2", 0), ("3", 0), ("4", 0)])
def test_a_studio_validity_of_two_and_more_is_no_measurement(
    grade: str, valid: float, read: Callable[..., Recording]
) -> None:
    recording = read(studio_bytes([studio(0, ValidityLeft=grade)]))
    assert recording.channels["Validity left"].tolist() == [valid]
    assert np.isnan(recording.channels["Gaze point left X"][0]) == (not valid)
    assert np.isfinite(recording.channels["Gaze point X"][0])  # of the other eye


def test_studio_events_are_no_samples_and_keep_their_names(read: Callable[..., Recording]) -> None:
    rows = [noted(400, "StudioEvent", "MovieStart"), *(studio(number) for number in range(30))]
    rows.insert(10, noted(560, "KeyPressEvent", "Space"))
    recording = read(studio_bytes(rows))
    assert len(recording.time) == 30
    assert recording.notes["rows_of_other_sensors"] == 2
    assert [(event.name, event.value) for event in recording.events] == [
        ("MovieStart", "a.avi"),
        ("KeyPressEvent", "Space"),
    ]
    np.testing.assert_allclose([event.time for event in recording.events], [-0.1, 0.06], atol=1e-3)


def test_a_studio_saccade_has_the_saccades_index(read: Callable[..., Recording]) -> None:
    recording = read(studio_bytes([studio(0, FixationIndex="", SaccadeIndex="7", GazeEventType="Saccade")]))
    assert recording.channels["Eye movement type"].tolist() == [SACCADE]
    assert recording.channels["Eye movement type index"].tolist() == [7]


# --- Tobii Pro SDK ---------------------------------------------------------------------------------------------------


def tuples(number: int, *, valid: str = "1", point: str | None = None) -> dict[str, str]:
    """One sample of a dump that keeps the SDK's tuples as text; of the right eye nothing is valid."""
    out = {"device_time_stamp": str(420_000_000 + 16_667 * number), "system_time_stamp": str(10**15 + 16_667 * number)}
    for eye in ("left", "right"):
        ok = valid if eye == "left" else "0"
        seen = ok == "1"
        out |= {
            f"{eye}_gaze_point_on_display_area": (point or "(0.63, 0.25)") if seen else "(nan, nan)",
            f"{eye}_gaze_point_in_user_coordinate_system": "(60.5, 120.25, 10.0)" if seen else "(nan, nan, nan)",
            f"{eye}_gaze_point_validity": ok,
            f"{eye}_pupil_diameter": "3.5" if seen else "nan",
            f"{eye}_pupil_validity": ok,
            f"{eye}_gaze_origin_in_user_coordinate_system": "(-30.0, 12.0, 640.5)" if seen else "(nan, nan, nan)",
            f"{eye}_gaze_origin_in_trackbox_coordinate_system": "(0.5, 0.5, 0.5)",
            f"{eye}_gaze_origin_validity": ok,
        }
    return out


def dump(samples: list[dict[str, str]], *, delimiter: str = ",") -> str:
    return text_of([list(samples[0]), *(list(sample.values()) for sample in samples)], delimiter=delimiter)


def split(sample: dict[str, str], names: str = "xyz") -> dict[str, str]:
    """The same sample with a column a coordinate."""
    out: dict[str, str] = {}
    for name, cell in sample.items():
        if cell.startswith("("):
            parts = cell.strip("()").split(", ")
            out |= {f"{name}_{axis}": part for axis, part in zip(names, parts, strict=False)}
        else:
            out[name] = cell
    return out


@pytest.mark.parametrize(
    "text",
    [
        dump([tuples(number) for number in range(20)]),
        dump([tuples(number) for number in range(20)], delimiter="\t"),
        dump([split(tuples(number)) for number in range(20)]),
        dump([split(tuples(number), "012") for number in range(20)], delimiter=";"),
        dump([tuples(number) for number in range(20)]).replace("(", "[").replace(")", "]"),
        dump([tuples(number) for number in range(20)]).replace("_validity", "_valid").replace("_left_", "_left_"),
    ],
    ids=["tuples", "tuples and tabs", "x, y, z", "0, 1, 2", "lists", "another word for validity"],
)
def test_an_sdk_dump_is_read_however_it_writes_a_point(text: str, read: Callable[..., Recording]) -> None:
    recording = read(text)
    assert recording.kind == "Tobii Pro SDK"
    assert recording.rate == pytest.approx(60, abs=0.01)
    assert recording.channels["Gaze point left X"].tolist() == [0.63] * 20
    assert recording.channels["Gaze point Y"].tolist() == [0.25] * 20  # of the one eye that is there
    assert np.isnan(recording.channels["Gaze point right X"]).all()
    assert recording.channels["Pupil diameter left"].tolist() == [3.5] * 20
    assert (recording.channels["Validity left"] == 1).all() and (recording.channels["Validity right"] == 0).all()
    assert recording.extra["Eye position left Z (UCSmm)"].tolist() == [640.5] * 20
    assert recording.normalized == {f"Gaze point {eye}{axis}" for eye in ("", "left ", "right ") for axis in "XY"}
    assert "Eye position left Z (DACSmm)" not in recording.channels  # where the display is, is not told


def test_each_field_of_the_sdk_has_a_validity_of_its_own(read: Callable[..., Recording]) -> None:
    samples = [tuples(number) for number in range(4)]
    samples[1]["left_pupil_validity"] = "0"
    samples[2]["left_gaze_point_validity"] = "0"
    recording = read(dump(samples))
    assert np.isnan(recording.channels["Pupil diameter left"]).tolist() == [False, True, False, False]
    assert np.isnan(recording.channels["Gaze point left X"]).tolist() == [False, False, True, False]
    assert recording.notes["values_flagged_invalid"] == 1 + 2 + 3  # the point on the display, and that in space


# --- PsychoPy --------------------------------------------------------------------------------------------------------

SESSION = [
    "TimeStamp", "GazePointXLeft", "GazePointYLeft", "PupilLeft", "ValidityLeft",
    "GazePointXRight", "GazePointYRight", "PupilRight", "ValidityRight", "GazePointX", "GazePointY",
]  # fmt: skip


def session(
    rows: Rows, *, after: str = "TimeStamp\tEvent\n5.0\tmovie starts\nSession End\n\n", event: bool = False
) -> str:
    """A file of the controller: a header of text, then samples (times in ms), then events."""
    top = "Recording date:\t2020/02/02\nRecording time:\t12:00:00\nRecording resolution:\t1920 x 1080\n"
    header = [*SESSION, "Event"] if event else SESSION
    return f"{top}Event recording mode:\tSeparated\n\nSession Start\n{text_of([header, *rows])}{after}"


def gaze(number: int, x: str = "-480.0000", y: str = "270.0000") -> list[str]:
    nothing = ["nan", "nan", "nan", "0"]
    return [f"{number * 16.7:.1f}", x, y, "3.1000", "1", *nothing, x, y]


def test_a_controller_file_counts_pixels_from_the_centre_and_upward(read: Callable[..., Recording]) -> None:
    recording = read(session([gaze(number) for number in range(20)]))
    assert (recording.kind, recording.screen) == ("PsychoPy Tobii controller", (1920, 1080))
    assert recording.channels["Gaze point X"].tolist() == [480.0] * 20  # a quarter from the left
    assert recording.channels["Gaze point left Y"].tolist() == [270.0] * 20  # a quarter from the top
    assert recording.channels["Pupil diameter left"].tolist() == [3.1] * 20
    assert (recording.channels["Validity right"] == 0).all()  # 0 is invalid: the reverse of Studio
    assert recording.rate == pytest.approx(1000 / 16.7, abs=0.01)
    assert [(event.name, event.time) for event in recording.events] == [("movie starts", pytest.approx(0.005))]


def test_a_controller_file_in_a_unit_that_is_not_told_has_no_gaze_channel(read: Callable[..., Recording]) -> None:
    recording = read(session([gaze(number, "-0.4444", "0.2500") for number in range(20)]))
    assert not any(name.startswith("Gaze point") for name in recording.channels)
    assert recording.extra["Gaze point X (PsychoPy's unit)"].tolist() == [-0.4444] * 20


def test_an_event_among_the_samples_is_no_sample(read: Callable[..., Recording]) -> None:
    rows = [[*gaze(number), ""] for number in range(4)]
    rows.insert(2, [*gaze(1), "movie starts"])
    recording = read(session(rows, after="Session End\n", event=True))
    assert len(recording.time) == 4
    assert [(event.name, event.time) for event in recording.events] == [("movie starts", pytest.approx(0.0167))]


# --- refusals, and what is no reason for one -------------------------------------------------------------------------

SAMPLES = [studio(number) for number in range(20)]
TUPLES = [tuples(number) for number in range(20)]
GAZE = [gaze(number) for number in range(20)]
REFUSED: dict[str, tuple[str | bytes, str]] = {
    "studio: header only": (studio_bytes([]), "a header of 34 columns and no row"),
    "studio: cut in a line": (studio_bytes(SAMPLES)[:-40], r"cut off in the middle of its last row \(20\): want 34"),
    "studio: no sample": (studio_bytes([noted(1, "StudioEvent", "MovieStart")]), "1 rows and not one eye sample"),
    "studio: two people": (studio_bytes([studio(0), studio(1, ParticipantName="P2")]), "2 recordings in one file"),
    "studio: a grade of 5": (studio_bytes([studio(0, ValidityLeft="5")]), "'ValidityLeft', line 2: .* found '5'"),
    "studio: no time": (text_of([["PupilLeft"], ["3.1"]]), "no time"),
    "sdk: header only": (dump(TUPLES[:1]).split("\n")[0] + "\n", "a header of 18 columns and no row"),
    "sdk: cut in a line": (dump(TUPLES)[:-5], "cut off in the middle of its last row"),
    "sdk: cut in a tuple": (dump([tuples(0, point="(0.63, 0.2")]), r"line 2: want 2 numbers in brackets.*'\(0.63,"),
    "sdk: a word in a tuple": (dump([tuples(0, point="(a, 0.2)")]), r"want 2 numbers in brackets, found '\(a, 0.2\)'"),
    "sdk: three for two": (dump([tuples(0, point="(1, 2, 3)")]), "want 2 numbers in brackets"),
    "sdk: no time": (dump([{"left_pupil_diameter": "3"}], delimiter="\t"), "no time: want .*'device_time_stamp'"),
    "sdk: flags alone": (dump([{"device_time_stamp": "1", "left_pupil_validity": "1"}]), "neither a gaze point nor"),
    "sdk: one field twice": (
        dump([{"device_time_stamp": "1", "left_pupil_diameter": "3", "Left_Pupil_Diameter": "3"}]),
        "'left_pupil_diameter' and 'Left_Pupil_Diameter' are the same field",
    ),
    "psychopy: header only": (session([]), "a header of 11 columns and no row"),
    "psychopy: no end": (session(GAZE, after=""), r"cut off: a line 'Session Start' \(6\) and none 'Session End'"),
    "psychopy: a torn row": (session([*GAZE, GAZE[0][:5], *GAZE]), "damaged: row 21 has 5 fields, the header 11"),
    "psychopy: a row torn to two fields": (session([*GAZE, GAZE[0][:2], *GAZE]), "damaged: row 21 has 2 fields"),
    "psychopy: two sessions": (2 * session(GAZE), "2 sessions in one file"),
    "psychopy: only events": (session([[*GAZE[0], "x"]], after="Session End\n", event=True), "and not one sample"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_a_useless_file_is_refused_with_its_own_reason(what: str, read: Callable[..., Recording]) -> None:
    content, reason = REFUSED[what]
    with pytest.raises(RecordingError, match=reason):
        read(content)


BLIND = {
    "studio": studio_bytes([studio(n, ValidityLeft="4", ValidityRight="4") for n in range(20)]),
    "sdk": dump([tuples(number, valid="0") for number in range(20)]),
    "psychopy": session([[row[0], *["nan", "nan", "nan", "0"] * 2, "nan", "nan"] for row in GAZE]),
}


@pytest.mark.parametrize("kind", BLIND)
def test_a_recording_that_never_saw_an_eye_is_a_recording(kind: str, read: Callable[..., Recording]) -> None:
    recording = read(BLIND[kind])
    assert len(recording.time) == 20
    assert np.isnan(recording.channels["Pupil diameter left"]).all()
    assert resample(recording)["eye_observed"][:, :14].max() == 0
