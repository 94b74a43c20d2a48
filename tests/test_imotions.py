"""iMotions exports of both generations, and a number for "missing" of other software; and files that are of no use.

The columns are those of recordings.md 2.9 and of published readers of such exports: five lines of `#` above plain
names, or `#INFO`, `#METADATA` and `#DATA` above names that begin with ET_.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from smad_features import schema
from smad_features.recordings import Recording, RecordingError, read_recording

NAN = np.nan
OLD_TOP = "#Study: S1\n#Respondent: P01\n#Age: 22\n#Gender: F\n#Exported: 2016\n"
OLD = (
    "StimulusName\tEventSource\tTimestamp\tMediaTime\tGazeLeftx\tGazeLefty\tGazeRightx\tGazeRighty\tPupilLeft\tPupilRight\t"
    "DistanceLeft\tValidityLeft\tValidityRight\tGazeX\tGazeY\tFixationSeq\tFixationX\tFixationY\tFixationDuration\tSaccadeSeq"
)
NEW_TOP = '#INFO,,\n"#Respondent Name","P01",\n#METADATA,,\n#Device,Tobii Pro Fusion,\n#Category,Signal,\n#DATA,,\n'
NEW = (
    "Row,Timestamp,EventSource,SlideEvent,StimType,SourceStimuliName,EventSource,ET_GazeLeftx,ET_GazeLefty,ET_GazeRightx,"
    "ET_GazeRighty,ET_PupilLeft,ET_PupilRight,ET_DistanceLeft,ET_ValidityLeft,ET_ValidityRight,EventSource,GSR RAW,"
    "Fixation Index,Fixation X,Fixation Y,Fixation Duration,Saccade Index,Saccade Duration"
)


def old(
    number: int, *, gaze: str = "800\t500\t810\t510", fixation: str = "1\t805\t505\t230\t-1", valid: str = "0\t0"
) -> str:
    mean = "-1\t-1" if gaze.startswith("-1\t-1\t-1") else "805\t505"
    pupils = "-1\t-1\t-1" if gaze.startswith("-1\t-1\t-1") else "3.5\t3.6\t650"
    return f"clip7\tET\t{597 + round(number * 1000 / 60)}\t0\t{gaze}\t{pupils}\t{valid}\t{mean}\t{fixation}"


def new(
    number: float,
    *,
    gaze: str = "800,500,810,510,3.5,3.6,650,0,0",
    movement: str = "1,805,505,230,,",
    slide: str = ",,",
) -> str:
    return f"{number},{1000 + number * 1000 / 60:.4f},1,{slide},1,{gaze},1,,{movement}"


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Recording]:
    """Writes a file under a name that tells something else, and reads it."""

    def write_and_read(text: str) -> Recording:
        path = tmp_path / "P01_Samples.asc"
        path.write_text(text, encoding="utf-8-sig")
        return read_recording(path)

    return write_and_read


def test_the_old_text_is_read_below_its_five_lines(read: Callable[..., Recording]) -> None:
    recording = read(OLD_TOP + "\n".join([OLD, *(old(number) for number in range(60))]) + "\n")
    assert recording.kind == "iMotions"
    assert recording.rate == pytest.approx(60, rel=0.01)
    for name, value in {
        "Gaze point left X": 800,
        "Gaze point right Y": 510,
        "Gaze point X": 805,
        "Pupil diameter left": 3.5,
        "Pupil diameter right": 3.6,
        "Validity left": 1,
        "Eye movement type": schema.EYE_MOVEMENT["Fixation"],
        "Eye movement type index": 1,
        "Gaze event duration": 230,
        "Fixation point X": 805,
    }.items():
        np.testing.assert_array_equal(recording.channels[name], np.full(60, value), err_msg=name)
    assert recording.extra["Eye distance left (mm)"][0] == 650
    assert recording.normalized == frozenset()


def test_minus_one_is_missing_and_counted(read: Callable[..., Recording]) -> None:
    gone = "-1\t-1\t-1\t-1"
    rows = [
        old(0),
        old(1, gaze=gone, fixation=f"{gone}\t-1"),
        old(2, gaze="-1\t-1\t810\t510"),
        old(3, fixation="-1\t-1\t-1\t-1\t4"),
    ]
    recording = read(OLD_TOP + "\n".join([OLD, *rows]) + "\n")
    np.testing.assert_array_equal(recording.channels["Gaze point left X"], [800, NAN, NAN, 800])
    np.testing.assert_array_equal(recording.channels["Gaze point X"], [805, NAN, 805, 805])
    np.testing.assert_array_equal(recording.channels["Pupil diameter left"], [3.5, NAN, 3.5, 3.5])
    np.testing.assert_array_equal(recording.channels["Fixation point Y"], [505, NAN, 505, NAN])
    np.testing.assert_array_equal(recording.extra["Eye distance left (mm)"], [650, NAN, 650, 650])
    names = ["Fixation", "EyesNotFound", "Fixation", "Saccade"]
    assert recording.channels["Eye movement type"].tolist() == [schema.EYE_MOVEMENT[name] for name in names]
    np.testing.assert_array_equal(recording.channels["Eye movement type index"], [1, NAN, 1, 1])
    assert recording.channels["Validity left"].tolist() == [
        1,
        0,
        1,
        1,
    ]  # with nothing measured a grade of 0 is not believed
    assert recording.notes["values_marked_missing"] == (4 + 2 + 2 + 2) + 2 + 2


def test_a_grade_of_2_and_more_is_invalid(read: Callable[..., Recording]) -> None:
    rows = [old(number, valid=f"{grade}\t0") for number, grade in enumerate([0, 1, 2, 4])]
    recording = read(OLD_TOP + "\n".join([OLD, *rows]) + "\n")
    assert recording.channels["Validity left"].tolist() == [1, 1, 0, 0]
    np.testing.assert_array_equal(recording.channels["Pupil diameter left"], [3.5, 3.5, NAN, NAN])
    assert recording.notes["values_flagged_invalid"] == 2 * 3


def test_the_new_table_is_read_without_the_rows_of_other_sensors(read: Callable[..., Recording]) -> None:
    empty = "," * 8
    rows = [new(-1, gaze=empty, movement="," * 5, slide="StartMedia,Video,clip 7")]
    for number in range(20):
        rows += [new(number), new(number + 0.5, gaze=empty, movement="," * 5)]
    rows.append(new(20, gaze="-1,-1,-1,-1,-1,-1,-1,4,4", movement=",,,,1,33"))
    recording = read(NEW_TOP + "\n".join([NEW, *rows]) + "\n")
    assert len(recording.time) == 21
    assert recording.rate == pytest.approx(60, rel=1e-3)
    assert recording.notes["rows_of_other_sensors"] == 21
    np.testing.assert_array_equal(recording.channels["Gaze point X"], [805] * 20 + [NAN])  # made of both eyes'
    np.testing.assert_array_equal(recording.channels["Gaze event duration"], [230] * 20 + [33])
    assert recording.channels["Eye movement type"][-1] == schema.EYE_MOVEMENT["Saccade"]
    assert [(event.name, event.value) for event in recording.events] == [("StartMedia", "clip 7")]
    assert recording.events[0].time == pytest.approx(-1 / 60, abs=1e-6)


def test_another_stimulus_is_an_event_in_the_old_text(read: Callable[..., Recording]) -> None:
    rows = [old(0), old(1), old(2).replace("clip7", "clip8")]
    events = read(OLD_TOP + "\n".join([OLD, *rows]) + "\n").events
    assert [(event.name, event.value) for event in events] == [("Stimulus", "clip7"), ("Stimulus", "clip8")]
    assert events[1].time == pytest.approx(0.033)


def test_gaze_of_glasses_is_on_the_scene_cameras_picture(read: Callable[..., Recording]) -> None:
    rows = [new(number) + ",1.0" for number in range(20)]
    recording = read(NEW_TOP + "\n".join([NEW + ",ET_Gaze3DX", *rows]) + "\n")
    assert not any("point" in name for name in recording.channels)
    assert recording.extra["Gaze point left X (scene camera px)"].tolist() == [800] * 20
    assert recording.channels["Pupil diameter left"].tolist() == [3.5] * 20


def test_a_recording_without_an_eye_is_one_of_missing_values(read: Callable[..., Recording]) -> None:
    gone = "-1\t-1\t-1\t-1"
    rows = [old(number, gaze=gone, fixation=f"{gone}\t-1", valid="4\t4") for number in range(20)]
    recording = read(OLD_TOP + "\n".join([OLD, *rows]) + "\n")
    assert len(recording.time) == 20
    assert np.isnan(recording.channels["Gaze point X"]).all()
    assert (recording.channels["Eye movement type"] == schema.EYE_MOVEMENT["EyesNotFound"]).all()


def test_the_largest_integer_is_missing_in_any_software(read: Callable[..., Recording]) -> None:
    big = "2147483647"
    recording = read(OLD_TOP + "\n".join([OLD, old(0), old(1).replace("800\t500", f"{big}\t{big}")]) + "\n")
    np.testing.assert_array_equal(recording.channels["Gaze point left X"], [800, NAN])


ROWS = [old(number) for number in range(20)]
WHOLE = OLD_TOP + "\n".join([OLD, *ROWS]) + "\n"
REFUSED = {
    "header only": (OLD_TOP + OLD + "\n", "a header of 20 columns and no row under it"),
    "cut mid-line": (WHOLE[:-12], r"cut off in the middle of its last row \(20\): want 20 fields"),
    "no eye row": (
        NEW_TOP + "\n".join([NEW, new(0, gaze="," * 8, movement="," * 5)]) + "\n",
        "1 rows and not one eye sample: gaze and pupils are all empty",
    ),
    "text for a number": (WHOLE.replace("3.6", "wide", 1), "column 'PupilRight', line 7: want a number, found 'wide'"),
    "lines of # alone": (OLD_TOP, "an unknown kind of file"),
    "somebody's own table": ("Timestamp,GazeLeftX,GazeLeftY,GazeX\n1,2,3,4\n", "an unknown kind of file"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_useless_file_is_refused_with_its_own_reason(what: str, read: Callable[..., Recording]) -> None:
    text, reason = REFUSED[what]
    with pytest.raises(RecordingError, match=reason):
        read(text)
