"""Gazepoint exports: fractions of the screen, flags that alone say what was measured, fixations; and useless files.

The columns and values are those of recordings.md 2.8 and of the Open Gaze API document.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from smad_features import schema
from smad_features.cleaning import clean
from smad_features.recordings import Recording, RecordingError, read_recording

HEADER = (
    "MEDIA_ID,MEDIA_NAME,CNT,TIME(2024/03/08 09:25:20.123),TIMETICK(f=10000000),FPOGX,FPOGY,FPOGS,FPOGD,FPOGID,FPOGV,"
    "BPOGX,BPOGY,BPOGV,CX,CY,CS,USER,LPCX,LPCY,LPD,LPS,LPV,RPCX,RPCY,RPD,RPS,RPV,BKID,BKDUR,BKPMIN,"
    "LPMM,LPMMV,RPMM,RPMMV,DIAL,GSR,HR,TTL0,PIXS,PIXV,AOI,SACCADE_MAG,SACCADE_DIR,"
)
NAMES = [name.partition("(")[0] for name in HEADER.split(",")]
USUAL = {
    "MEDIA_ID": "0", "MEDIA_NAME": "clip7.avi", "FPOGX": "0.40", "FPOGY": "0.30", "FPOGS": "0.0", "FPOGD": "0.1",
    "FPOGID": "1", "FPOGV": "1", "BPOGX": "0.51", "BPOGY": "0.25", "BPOGV": "1", "LPD": "18.3", "LPV": "1",
    "RPD": "18.1", "RPV": "1", "BKID": "0", "LPMM": "3.5", "LPMMV": "1", "RPMM": "3.6", "RPMMV": "1",
}  # fmt: skip


def row(number: int, **other: str) -> str:
    cells = {**USUAL, "CNT": str(number), "TIME": f"{number * 0.01643:.5f}", **other}
    return ",".join(cells.get(name, "") for name in NAMES)


def text_of(rows: list[str], *, header: str = HEADER) -> str:
    return "\r\n".join([header, *rows]) + "\r\n"


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Recording]:
    """Writes a file under a name that tells something else, and reads it."""

    def write_and_read(rows: list[str] | str) -> Recording:
        path = tmp_path / "tobii.tsv"
        path.write_bytes((rows if isinstance(rows, str) else text_of(rows)).encode())
        return read_recording(path)

    return write_and_read


def test_cells_become_channels_on_a_clock_in_seconds(read: Callable[..., Recording]) -> None:
    recording = read([row(number, BPOGX=f"{number / 100:.2f}") for number in range(60)])
    assert recording.kind == "Gazepoint"
    assert recording.rate == pytest.approx(1 / 0.01643, rel=1e-3)
    np.testing.assert_allclose(recording.time, np.arange(60) * 0.01643, atol=1e-5)
    np.testing.assert_allclose(recording.channels["Gaze point X"], np.arange(60) / 100)
    for name, value in {
        "Gaze point Y": 0.25,
        "Fixation point X": 0.4,
        "Pupil diameter left": 3.5,
        "Pupil diameter right": 3.6,
        "Validity left": 1,
    }.items():
        np.testing.assert_array_equal(recording.channels[name], np.full(60, value))
    assert recording.extra["Pupil diameter left (camera px)"][0] == 18.3
    assert recording.screen is None
    assert "Gaze point left X" not in recording.channels


def test_fractions_are_named_so_that_cleaning_makes_pixels_of_them(read: Callable[..., Recording]) -> None:
    recording = read([row(number) for number in range(20)])
    assert recording.normalized == {"Gaze point X", "Gaze point Y", "Fixation point X", "Fixation point Y"}
    settings = {"screen": [1000, 500], "screen_margin": 0.5, "pupil_range": [1.5, 9.0], "blink_buffer": 0.05}
    cleaned, _ = clean(recording, settings)
    assert [cleaned.channels[f"Gaze point {axis}"][0] for axis in "XY"] == [510, 125]
    assert [cleaned.channels[f"Fixation point {axis}"][0] for axis in "XY"] == [400, 150]


def test_stale_values_under_a_flag_of_0_are_missing_each_by_its_own(read: Callable[..., Recording]) -> None:
    rows = [row(0), row(1, BPOGV="0"), row(2, LPMMV="0"), row(3, FPOGV="0"), row(4, LPV="0")]
    recording = read(rows)
    assert np.isnan(recording.channels["Gaze point X"]).tolist() == [False, True, False, False, False]
    assert np.isnan(recording.channels["Gaze point Y"]).tolist() == [False, True, False, False, False]
    assert np.isnan(recording.channels["Pupil diameter left"]).tolist() == [False, False, True, False, False]
    assert np.isnan(recording.channels["Fixation point Y"]).tolist() == [False, False, False, True, False]
    assert recording.channels["Validity left"].tolist() == [1, 1, 1, 1, 0]
    assert np.isnan(recording.extra["Pupil diameter left (camera px)"]).tolist() == [False] * 4 + [True]
    assert recording.notes["values_flagged_invalid"] == 2 + 1 + 2 + 1


def test_fixations_and_blinks_become_eye_movements(read: Callable[..., Recording]) -> None:
    rows = [row(number, FPOGID="41", FPOGD=f"{number / 100:.2f}") for number in range(5)]
    rows += [row(5, FPOGV="0"), row(6, FPOGV="0", BPOGV="0"), row(7, FPOGV="0", BKID="9")]
    rows += [row(number, FPOGID="42", FPOGD=f"{number / 100:.2f}") for number in range(8, 11)]
    recording = read(rows)
    names = ["Fixation"] * 5 + ["Unclassified", "EyesNotFound", "EyesNotFound"] + ["Fixation"] * 3
    assert recording.channels["Eye movement type"].tolist() == [schema.EYE_MOVEMENT[name] for name in names]
    np.testing.assert_array_equal(
        recording.channels["Eye movement type index"], [1] * 5 + [np.nan, np.nan, 1] + [2] * 3
    )
    # The duration grows from record to record: that of the whole fixation is the last.
    np.testing.assert_allclose(recording.channels["Gaze event duration"], [40] * 5 + [np.nan] * 3 + [100] * 3)


def test_media_and_marks_of_the_user_are_events(read: Callable[..., Recording]) -> None:
    rows = [row(0), row(1, USER="EXP1"), row(2, USER="EXP1"), row(3, MEDIA_NAME="clip8.avi", USER="EXP2")]
    events = [(event.name, event.value, round(event.time / 0.01643)) for event in read(rows).events]
    assert events == [
        ("MEDIA_NAME", "clip7.avi", 0),
        ("USER", "EXP1", 1),
        ("MEDIA_NAME", "clip8.avi", 3),
        ("USER", "EXP2", 3),
    ]


def test_a_log_of_the_api_has_each_eye_and_metres(read: Callable[..., Recording]) -> None:
    header = "CNT\tTIME\tLPOGX\tLPOGY\tLPOGV\tRPOGX\tRPOGY\tRPOGV\tLPUPILD\tLPUPILV\tRPUPILD\tRPUPILV"
    rows = [f"{n}\t{n / 60:.5f}\t0.2\t0.3\t1\t0.4\t0.5\t{n % 2}\t0.00350\t1\t0.00360\t1" for n in range(20)]
    recording = read("\n".join([header, *rows]) + "\n")
    np.testing.assert_allclose(recording.channels["Gaze point X"], [0.2, 0.3] * 10)
    np.testing.assert_allclose(recording.channels["Pupil diameter left"], np.full(20, 3.5))
    assert recording.channels["Validity right"].tolist() == [0, 1] * 10
    assert {"Gaze point left X", "Gaze point X"} <= recording.normalized
    assert "Eye movement type" not in recording.channels


def test_the_comma_at_the_end_may_be_missing_in_the_header(read: Callable[..., Recording]) -> None:
    assert len(read(text_of([row(number) for number in range(20)], header=HEADER.rstrip(","))).time) == 20


def test_a_recording_without_an_eye_is_one_of_missing_values(read: Callable[..., Recording]) -> None:
    blind = dict.fromkeys(("FPOGV", "BPOGV", "LPV", "RPV", "LPMMV", "RPMMV"), "0")
    recording = read([row(number, **blind) for number in range(20)])
    for name in ("Gaze point X", "Pupil diameter right", "Fixation point Y"):
        assert np.isnan(recording.channels[name]).all()
    assert (recording.channels["Eye movement type"] == schema.EYE_MOVEMENT["EyesNotFound"]).all()


ROWS = [row(number) for number in range(20)]
REFUSED = {
    "header only": (text_of([]), "a header of 45 columns and no row under it"),
    "cut mid-line": (text_of(ROWS)[:-60], r"cut off in the middle of its last row \(20\): want 45 fields"),
    "no time": (text_of(ROWS, header=HEADER.replace("TIME(", "WHEN(")), r"no time: want a column 'TIME\(...\)'"),
    "fixations": (text_of([row(n, FPOGID=str(n)) for n in range(20)]), "a table of 20 fixations, one a row"),
    "text for a number": (
        text_of([*ROWS[:4], row(4, LPMM="wide")]),
        "column 'LPMM', line 6: want a number, found 'wide'",
    ),
    "a strange flag": (
        text_of([*ROWS[:4], row(4, BPOGV="7")]),
        "column 'BPOGV', line 6: want one of 1, 0, .*found '7'",
    ),
    "times all empty": (text_of([row(n, TIME="") for n in range(20)]), "20 eye samples, and none with a time"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_useless_file_is_refused_with_its_own_reason(what: str, read: Callable[..., Recording]) -> None:
    content, reason = REFUSED[what]
    with pytest.raises(RecordingError, match=reason):
        read(content)
