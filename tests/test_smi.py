"""SMI BeGaze exports: raw data with messages, metrics with categories; and files that are of no use.

The forms are those of recordings.md 2.6; that a message stands in a row of its own, `# Message: ` before it, and how a
blink is labelled, is shown by the texts in pymovements' tests.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from recording_files import as_cell, xlsx

from smad_features import schema
from smad_features.recordings import Recording, RecordingError, read_recording

PREAMBLE = """\
## [BeGaze]
## Converted from:\tC:\\test.idf
## Version:\tBeGaze 3.7.40
## Sample Rate:\t500
## [Calibration]
## Calibration Area:\t1680\t1050
## Calibration Point 0:\tPosition(841;526)
## [Geometry]
## Stimulus Dimension [mm]:\t474\t297
##
"""
RAW = [
    "Time", "Type", "Trial", "L Raw X [px]", "L POR X [px]", "L POR Y [px]", "R POR X [px]", "R POR Y [px]",
    "L Dia X [px]", "L Pupil Diameter [mm]", "R Mapped Diameter [mm]", "Timing", "L Validity", "Pupil Confidence",
    "L Event Info", "Stimulus",
]  # fmt: skip
USUAL = {
    "Type": "SMP", "Trial": "1", "L Raw X [px]": "12.5", "L POR X [px]": "800.50", "L POR Y [px]": "500.25",
    "R POR X [px]": "810.50", "R POR Y [px]": "510.25", "L Dia X [px]": "14.00", "L Pupil Diameter [mm]": "3.50",
    "R Mapped Diameter [mm]": "3.60", "Timing": "0", "L Validity": "1", "Pupil Confidence": "1",
    "L Event Info": "Fixation", "Stimulus": "clip7.avi",
}  # fmt: skip


def raw(number: int, **other: str) -> str:
    """A sample at 500 Hz; a column is named by its words with underscores, without its unit."""
    cells = {**USUAL, "Time": str(10_000_000_123 + number * 2000)}
    for words, cell in other.items():
        cells[next(name for name in RAW if name.startswith(words.replace("_", " ")))] = cell
    return "\t".join(cells[name] for name in RAW)


def message(number: float, text: str) -> str:
    return f"{10_000_000_123 + round(number * 2000)}\tMSG\t1\t# Message: {text}"


def raw_text(rows: list[str], *, preamble: str = PREAMBLE) -> str:
    return preamble + "\n".join(["\t".join(RAW), *rows]) + "\n"


METRICS = (
    "RecordingTime [ms],Time of Day [h:m:s:ms],Trial,Stimulus,Participant,Category Binocular,Index Binocular,Content,"
    "Pupil Size Left X [px],Pupil Diameter Left [mm],Pupil Diameter Right [mm],"
    "Point of Regard Left X [px],Point of Regard Left Y [px],Gaze Vector Left X,Eye Position Left X [mm]"
)


def metrics(
    number: int, *, category: str = "Visual Intake", index: str = "1", more: str = "", content: str = "-"
) -> str:
    values = more or "12.5,3.5,3.6,800.5,500.25,0.1,-31.5"
    time = f"{2_554_850.763 + number * 1000 / 60:.4f}"
    return f"{time},03:55:34:894,Trial001,clip7.avi,P01,{category},{index},{content},{values}"


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Recording]:
    """Writes a file under a name that tells something else, and reads it."""

    def write_and_read(content: str | bytes) -> Recording:
        path = tmp_path / "gaze_positions.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_recording(path)

    return write_and_read


def test_a_raw_export_is_read_with_its_rate_its_screen_and_both_eyes(read: Callable[..., Recording]) -> None:
    recording = read(raw_text([raw(number, L_POR_X=f"{number}.50") for number in range(20)]))
    assert recording.kind == "SMI BeGaze"
    assert (recording.screen, recording.declared_rate) == ((1680, 1050), 500)
    assert recording.rate == pytest.approx(500)
    np.testing.assert_allclose(recording.time, np.arange(20) / 500, atol=1e-9)
    np.testing.assert_array_equal(recording.channels["Gaze point left X"], np.arange(20) + 0.5)
    np.testing.assert_array_equal(recording.channels["Gaze point X"], (np.arange(20) + 0.5 + 810.5) / 2)
    np.testing.assert_array_equal(recording.channels["Gaze point Y"], np.full(20, 505.25))
    assert recording.channels["Pupil diameter left"].tolist() == [3.5] * 20
    assert recording.channels["Pupil diameter right"].tolist() == [3.6] * 20
    assert recording.extra["Pupil width left (camera px)"].tolist() == [14] * 20
    assert not any(name.startswith(("Validity", "Eye position")) for name in recording.channels)  # of unknown meaning


def as_workbook(text: str) -> bytes:
    lines = [line.split("\t") for line in text.rstrip("\n").split("\n")]
    return xlsx([[as_cell(word) for word in line] for line in lines])


def test_a_workbook_is_read_as_its_text_is_with_what_stands_above_and_without_messages(
    read: Callable[..., Recording],
) -> None:
    rows = [raw(0), message(0.5, "film 7 began"), *(raw(number) for number in range(1, 20))]
    text, book = read(raw_text(rows)), read(as_workbook(raw_text(rows)))
    assert (book.screen, book.declared_rate, book.events) == (text.screen, text.declared_rate, text.events)
    assert book.notes == text.notes and book.notes["rows_of_other_sensors"] == 1
    np.testing.assert_allclose(book.time, text.time)
    assert book.channels.keys() == text.channels.keys()
    for name, values in text.channels.items():
        np.testing.assert_array_equal(book.channels[name], values)


def test_a_fault_in_a_workbook_is_named_by_its_row_messages_and_preamble_counted(
    read: Callable[..., Recording],
) -> None:
    rows = [raw(0), message(0.5, "film 7 began"), raw(1), raw(2, L_Pupil="wide")]
    line = PREAMBLE.count("\n") + 5
    with pytest.raises(RecordingError, match=f"line {line}: want a number, found 'wide'"):
        read(as_workbook(raw_text(rows)))


def test_zeros_and_pupils_without_confidence_are_missing(read: Callable[..., Recording]) -> None:
    lost = {"L_POR_X": "0.00", "L_POR_Y": "0.00", "L_Pupil": "0.00"}
    recording = read(raw_text([raw(0), raw(1, **lost), raw(2, Pupil_Confidence="0"), raw(3, L_POR_X="0.00")]))
    assert np.isnan(recording.channels["Gaze point left X"]).tolist() == [False, True, False, False]
    assert recording.channels["Gaze point X"][1] == 810.5  # the other eye's
    assert np.isnan(recording.channels["Pupil diameter left"]).tolist() == [False, True, True, False]
    assert np.isnan(recording.channels["Pupil diameter right"]).tolist() == [False, False, True, False]
    assert recording.notes["values_marked_missing"] == 3
    assert recording.notes["values_flagged_invalid"] == 2 + 1  # both pupils, and the left one's width


def test_messages_among_the_samples_are_events(read: Callable[..., Recording]) -> None:
    rows = [
        message(-2, "calibrated"),
        raw(0),
        message(0.5, "VideoStimulusStart clip 7.avi"),
        raw(1),
        raw(2, Stimulus="b.bmp"),
    ]
    recording = read(raw_text(rows))
    assert [(event.name, event.value) for event in recording.events] == [
        ("calibrated", ""),
        ("Stimulus", "clip7.avi"),
        ("VideoStimulusStart", "clip 7.avi"),
        ("Stimulus", "b.bmp"),
    ]
    assert [event.time for event in recording.events] == pytest.approx([-0.004, 0, 0.001, 0.004], abs=1e-9)
    assert len(recording.time) == 3
    assert recording.notes["rows_of_other_sensors"] == 2


def test_labels_become_eye_movements_counted_by_kind(read: Callable[..., Recording]) -> None:
    labels = ["Fixation", "Fixation", "Saccade", "Blink", "-", "Fixation", "Saccade"]
    recording = read(raw_text([raw(number, L_Event=label) for number, label in enumerate(labels)]))
    names = ["Fixation", "Fixation", "Saccade", "EyesNotFound", "Unclassified", "Fixation", "Saccade"]
    assert recording.channels["Eye movement type"].tolist() == [schema.EYE_MOVEMENT[name] for name in names]
    np.testing.assert_array_equal(recording.channels["Eye movement type index"], [1, 1, 1, 1, np.nan, 2, 2])
    assert "Gaze event duration" not in recording.channels


def test_columns_at_the_end_that_no_sample_has_are_left_out(read: Callable[..., Recording]) -> None:
    text = raw_text([raw(0), message(1, "x"), raw(2)]).replace("\tStimulus\n", "\tStimulus\tMessage\tMore\n")
    assert len(read(text).time) == 2


def test_a_metrics_export_is_read_through_its_category_and_dashes(read: Callable[..., Recording]) -> None:
    dashes = ",".join("-" * 7)
    rows = [
        metrics(0),
        metrics(1),
        metrics(2, category="Saccade", index="1"),
        metrics(3, category="Blink", more="0.0,0.0,0.0,0.0,0.0,0.0,0.0"),
        metrics(4, category="User Event", index="-", content="UE-start of clip", more=dashes),
        metrics(4, index="2"),
        metrics(5, category="-", index="-", more=dashes),
    ]
    recording = read("\n".join([METRICS, *rows]) + "\n")
    assert recording.rate == pytest.approx(60, rel=1e-3)
    np.testing.assert_allclose(recording.time, np.arange(6) / 60, atol=1e-6)
    np.testing.assert_array_equal(recording.channels["Gaze point X"], [800.5] * 3 + [np.nan, 800.5, np.nan])
    np.testing.assert_array_equal(recording.channels["Pupil diameter right"], [3.6] * 3 + [np.nan, 3.6, np.nan])
    names = ["Fixation", "Fixation", "Saccade", "EyesNotFound", "Fixation", "EyesNotFound"]
    assert recording.channels["Eye movement type"].tolist() == [schema.EYE_MOVEMENT[name] for name in names]
    np.testing.assert_array_equal(recording.channels["Eye movement type index"], [1, 1, 1, 1, 2, np.nan])
    assert [(event.name, event.value) for event in recording.events] == [
        ("Stimulus", "clip7.avi"),
        ("UE-start", "of clip"),
    ]
    assert recording.notes["rows_of_other_sensors"] == 1


def test_the_header_may_stand_below_a_table_of_recordings(read: Callable[..., Recording]) -> None:
    """As in the real file of recordings.md: a block of `##` lines, a table, mixed line ends, a byte order mark."""
    top = PREAMBLE.replace("\n", "\r\n") + "Recording\tParticipant\tDuration [ms]\r\nR1\tP01\t1000\r\n\r\n"
    text = top + "\n".join([METRICS, *(metrics(number) for number in range(20))]).replace(",", "\t") + "\n"
    recording = read(text.encode("utf-8-sig"))
    assert len(recording.time) == 20
    assert recording.screen == (1680, 1050)
    assert recording.channels["Gaze point left Y"].tolist() == [500.25] * 20


def test_a_metrics_export_in_a_workbook_is_the_same(read: Callable[..., Recording]) -> None:
    lines = [METRICS, *(metrics(number, index=str(number // 5)) for number in range(20))]
    sheet, text = (
        read(xlsx([[as_cell(word) for word in line.split(",")] for line in lines])),
        read("\n".join(lines) + "\n"),
    )
    assert sheet.channels.keys() == text.channels.keys()
    for name, values in text.channels.items():
        np.testing.assert_array_equal(sheet.channels[name], values, err_msg=name)
    assert sheet.events == text.events


def test_decimal_commas_and_milliseconds_are_read(read: Callable[..., Recording]) -> None:
    rows = [raw(number, Time=str(5000 + number * 2)).replace(".", ",") for number in range(20)]
    recording = read(raw_text(rows).replace("clip7,avi", "clip7.avi"))
    assert recording.rate == pytest.approx(500)
    assert recording.channels["Gaze point left X"].tolist() == [800.5] * 20


def test_gaze_of_glasses_is_on_the_scene_cameras_picture(read: Callable[..., Recording]) -> None:
    text = raw_text([raw(number) for number in range(20)], preamble=PREAMBLE + "## System ID:\tETG-2.6-1649\n")
    recording = read(text)
    assert not any(name.startswith("Gaze point") for name in recording.channels)
    assert recording.extra["Gaze point left X (scene camera px)"].tolist() == [800.5] * 20
    assert recording.channels["Pupil diameter left"].tolist() == [3.5] * 20
    assert (recording.channels["Eye movement type"] == schema.EYE_MOVEMENT["Fixation"]).all()


def test_a_recording_without_an_eye_is_one_of_missing_values(read: Callable[..., Recording]) -> None:
    nothing = {name.split(" [")[0].replace(" ", "_"): "0.00" for name in RAW if "POR" in name or "Diam" in name}
    recording = read(raw_text([raw(number, **nothing, L_Event="-") for number in range(20)]))
    assert np.isnan(recording.channels["Gaze point X"]).all()
    assert "Eye movement type" not in recording.channels  # of nothing but dashes


ROWS = [raw(number) for number in range(20)]
REFUSED = {
    "header only": (raw_text([]), "a header of 16 columns and no row under it"),
    "messages only": (raw_text([message(1, "a"), message(2, "b")]), "a header of 16 columns and no row under it"),
    "cut mid-line": (raw_text(ROWS)[:-50], r"cut off in the middle of its last row \(20\): want 16 fields"),
    "text for a number": (
        raw_text([*ROWS[:3], message(3, "a"), raw(3, L_POR_X="wide")]),
        r"column 'L POR X \[px\]', line 16: want a number, found 'wide'",
    ),
    "two people": (
        "\n".join([METRICS, metrics(0), metrics(1).replace("P01", "P02")]) + "\n",
        r"2 recordings in one file \(Participant: 'P01', 'P02'\): export each by itself",
    ),
    "user events only": (
        "\n".join([METRICS, metrics(0, category="User Event")]) + "\n",
        "1 rows, each of a user's event, and not one sample",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_useless_file_is_refused_with_its_own_reason(what: str, read: Callable[..., Recording]) -> None:
    content, reason = REFUSED[what]
    with pytest.raises(RecordingError, match=reason):
        read(content)
