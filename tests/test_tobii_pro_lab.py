"""Tobii Pro Lab exports of every kind are read to the same numbers, and useless files are refused with their reason."""

from __future__ import annotations

import csv
import gzip
import io
import pickle
import random
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from recording_files import Rows, as_cell, text_of, xlsx

from smad_features import schema
from smad_features.eyes import resample
from smad_features.recordings import Recording, RecordingError, read_recording
from smad_features.recordings.recording import increasing, sampling_rate

HEADER = [
    "Recording timestamp [ms]",
    "Sensor",
    "Recording name",
    "Recording resolution height [px]",
    "Recording resolution width [px]",
    "Eyetracker timestamp [μs]",
    "Event",
    "Gaze point X [DACS px]",
    "Gaze point Y [DACS px]",
    "Gaze point left X [DACS px]",
    "Gaze point left Y [DACS px]",
    "Gaze direction left X [DACS norm]",
    "Gaze direction left Y [DACS norm]",
    "Gaze direction left Z [DACS norm]",
    "Pupil diameter left [mm]",
    "Validity left",
    "Validity right",
    "Eye movement type",
    "Eye movement event duration [ms]",
]


def sample(number: int, **other: str) -> list[str]:
    """One row of a 120 Hz export, its cells changeable by the first words of their column."""
    row = [
        str(round(number * 1000 / 120)),
        "Eye Tracker",
        "Recording1",
        "1200",
        "1600",
        str(7_000_000_000 + round(number * 1e6 / 120)),
        "",
        str(800 + number),
        "450",
        str(790 + number),
        "440",
        "0.6",
        "0.0",
        "-0.8",
        "3.125",
        "Valid",
        "Invalid",
        "Fixation",
        "250",
    ]
    for words, cell in other.items():
        row[next(i for i, name in enumerate(HEADER) if name.startswith(words.replace("_", " ")))] = cell
    return row


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Recording]:
    """Writes rows (or text, or bytes) to a file and reads it as a recording."""

    def write_and_read(what: Rows | str | bytes) -> Recording:
        path = tmp_path / "P001_C07.tsv"
        text = text_of(what) if isinstance(what, list) else what
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return read_recording(path)

    return write_and_read


@pytest.fixture(scope="module")
def real(shared: Path) -> Path:
    return shared / "media" / "tobii_pro_lab_24_120hz.tsv"


@pytest.fixture(scope="module")
def real_rows(real: Path) -> Rows:
    return list(csv.reader(io.StringIO(real.read_text(encoding="utf-8")), delimiter="\t"))


@pytest.fixture(scope="module")
def real_recording(real: Path) -> Recording:
    return read_recording(real)


# --- the real file ---------------------------------------------------------------------------------------------------


def test_a_real_export_has_its_true_rate_screen_and_all_39_channels(real_recording: Recording) -> None:
    assert real_recording.rate == pytest.approx(120, abs=0.01)
    assert real_recording.screen == (1920, 1080)
    assert tuple(real_recording.channels) == tuple(channel.name for channel in schema.TOBII_PRO_LAB_39)
    assert real_recording.time[0] == 0
    assert np.all(np.diff(real_recording.time) > 0)


def test_a_real_export_keeps_every_eye_sample_and_no_mouse_or_event_row(
    real_recording: Recording, real_rows: Rows
) -> None:
    header, rows = real_rows[0], real_rows[1:]
    sensor, gaze = header.index("Sensor"), header.index("Gaze point X [DACS px]")
    eye = [row for row in rows if row[sensor] == "Eye Tracker"]
    assert len(real_recording.time) == len(eye) == 2509
    assert real_recording.notes["rows_of_other_sensors"] == 90
    lost = sum(row[gaze] == "" for row in eye)
    assert np.isnan(real_recording.channels["Gaze point X"]).sum() == lost == 396


def test_a_real_export_gives_the_numbers_that_stand_in_its_cells(real_recording: Recording, real_rows: Rows) -> None:
    header = real_rows[0]
    eye = [row for row in real_rows[1:] if row[header.index("Sensor")] == "Eye Tracker"]
    columns = {
        "Gaze point left X (DACSmm)": "Gaze point left X [DACS mm]",
        "Gaze direction right Z": "Gaze direction right Z [DACS norm]",
        "Gaze event duration": "Eye movement event duration [ms]",
        "Pupil diameter right": "Pupil diameter right [mm]",
    }
    for name, column in columns.items():
        cells = [row[header.index(column)].replace(",", ".") for row in eye]
        np.testing.assert_array_equal(real_recording.channels[name], [float(cell or "nan") for cell in cells])


def _first_generation(rows: Rows) -> Rows:
    """The same table under the header without units, its recording clock in microseconds."""
    header = [
        re.sub(r" \[(DACS px|DACS norm|mm|ms|μs|px|°)\]", "", name)
        .replace("[MCS norm]", "(MCSnorm)")
        .replace("[DACS mm]", "(DACSmm)")
        .replace("Eye movement event duration", "Gaze event duration")
        for name in rows[0]
    ]
    return [header, *([str(int(row[0]) * 1000), *row[1:]] for row in rows[1:])]


def _oldest_generation(rows: Rows) -> Rows:
    """The same table under the header of the first Pro Lab: RCS frames, validity from 0 (sure) to 4 (not found)."""
    header = [
        re.sub(r" \[(ms|μs)\]", "", name)
        .replace("Eye movement event duration", "Gaze event duration")
        .replace("[DACS ", "(RCS")
        .replace("[MCS ", "(MCS")
        .replace("]", ")")
        for name in rows[0]
    ]
    header = [name.title().replace("(Rcs", "(RCS") if "(RCS" in name else name for name in header]
    header = [re.sub(r"\(RCS\w+\)", lambda match: f"(RCS{match[0][4:].lower()}", name) for name in header]
    grade = {"Valid": "0", "Invalid": "4"}
    eyes = [number for number, name in enumerate(rows[0]) if name.startswith("Validity")]
    body = [[grade.get(cell, cell) if number in eyes else cell for number, cell in enumerate(row)] for row in rows[1:]]
    return [header, *body]


def _with_points(rows: Rows) -> Rows:
    return [rows[0], *([re.sub(r"^(-?\d+),(\d+)$", r"\1.\2", cell) for cell in row] for row in rows[1:])]


def _shuffled(rows: Rows) -> Rows:
    order = random.Random(5).sample(range(len(rows[0])), len(rows[0]))
    return [[row[place] for place in order] for row in rows]


REWRITES: dict[str, Callable[[Rows], bytes]] = {
    "header of the first Pro Lab": lambda rows: text_of(_oldest_generation(rows)).encode(),
    "header without units": lambda rows: text_of(_first_generation(rows)).encode(),
    "UTF-16 with a byte order mark": lambda rows: text_of(rows).encode("utf-16"),
    "UTF-16 without one": lambda rows: text_of(rows).encode("utf-16-le"),
    "UTF-8 byte order mark and CRLF": lambda rows: text_of(rows, end="\r\n").encode("utf-8-sig"),
    "Windows code page, micro sign": lambda rows: text_of(rows).replace("μ", "\u00b5").encode("cp1252"),
    "semicolons, decimal commas": lambda rows: text_of(rows, delimiter=";").encode(),
    "commas, decimal points": lambda rows: text_of(_with_points(rows), delimiter=",").encode(),
    "commas, quoted decimal commas": lambda rows: text_of(rows, delimiter=",").encode(),
    "tabs, decimal points": lambda rows: text_of(_with_points(rows)).encode(),
    "other column order": lambda rows: text_of(_shuffled(rows)).encode(),
    "packed by gzip": lambda rows: gzip.compress(text_of(rows).encode(), compresslevel=1),
    "workbook": lambda rows: xlsx([list(rows[0]), *([as_cell(cell) for cell in row] for row in rows[1:])]),
}


@pytest.mark.parametrize("how", REWRITES)
def test_the_same_recording_written_in_another_way_gives_the_same_steps(
    how: str, real_recording: Recording, real_rows: Rows, tmp_path: Path
) -> None:
    path = tmp_path / "recording"  # nothing in the name tells
    path.write_bytes(REWRITES[how](real_rows))
    found, wanted = resample(read_recording(path)), resample(real_recording)
    for array in schema.eye_arrays():
        np.testing.assert_array_equal(found[array], wanted[array])
    assert found["quality"] == wanted["quality"]


def test_every_kind_of_header_gives_all_39_channels_and_the_same_events(
    real_recording: Recording, real_rows: Rows, tmp_path: Path
) -> None:
    for rows in (_oldest_generation(real_rows), _first_generation(real_rows)):
        path = tmp_path / "recording"
        path.write_text(text_of(rows), encoding="utf-8")
        recording = read_recording(path)
        assert recording.channels.keys() == real_recording.channels.keys()
        assert [(event.name, event.value) for event in recording.events] == [
            (event.name, event.value) for event in real_recording.events
        ]
        np.testing.assert_allclose(
            [event.time for event in recording.events], [event.time for event in real_recording.events], atol=1e-9
        )


# --- clocks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("scale", "heading"), [(1e3, "Recording timestamp [μs]"), (1e6, "Recording timestamp [ms]")])
def test_the_unit_of_the_clock_is_told_by_its_step_not_by_its_name(
    scale: float, heading: str, read: Callable[..., Recording]
) -> None:
    rows = [[heading, "Gaze point X", "Gaze point Y"]]
    rows += [[str(round(5e5 + number * scale / 60)), "1", "2"] for number in range(30)]
    recording = read(rows)
    assert recording.rate == pytest.approx(60, rel=0.01)
    assert recording.time[-1] == pytest.approx(29 / 60, abs=1e-3)


def test_a_clock_in_whole_milliseconds_still_tells_120_hz() -> None:
    assert sampling_rate(np.round(np.arange(600) / 0.12) / 1000) == pytest.approx(120, abs=0.1)
    assert sampling_rate(np.delete(np.arange(600) / 120, slice(100, 300))) == pytest.approx(120)


@pytest.mark.parametrize("device", ["", "7.00E+09"])
def test_the_recording_clock_serves_where_the_device_clock_is_of_no_use(
    device: str, read: Callable[..., Recording]
) -> None:
    recording = read([HEADER, *(sample(number, Eyetracker=device) for number in range(240))])
    assert len(recording.time) == 240
    assert recording.rate == pytest.approx(120, abs=0.1)


def test_repeated_and_backward_times_are_dropped_and_counted(read: Callable[..., Recording]) -> None:
    rows = [sample(number) for number in range(60)]
    rows.insert(20, sample(19, Gaze_point_X="1"))  # the same time again
    rows.insert(40, sample(10))  # back in time
    rows.insert(50, sample(99_999))  # a wild leap ahead: it must not take the rest along
    rows.append(sample(61, Eyetracker=""))
    recording = read([HEADER, *rows])
    np.testing.assert_array_equal(recording.channels["Gaze point X"], np.arange(800, 860))
    assert recording.notes["duplicate_timestamps"] == 1
    assert recording.notes["backward_timestamps"] == 2
    assert recording.notes["rows_without_time"] == 1


@given(st.lists(st.integers(0, 12), min_size=1, max_size=14))
def test_no_more_samples_are_dropped_than_a_strictly_increasing_clock_needs(ticks: list[int]) -> None:
    keep, notes = increasing(np.array(ticks, dtype=float))
    assert np.all(np.diff(keep) > 0)
    assert np.all(np.diff(np.array(ticks)[keep]) > 0)
    assert len(keep) + notes["duplicate_timestamps"] + notes["backward_timestamps"] == len(ticks)
    longest = [1] * len(ticks)  # by comparing all pairs
    for place in range(len(ticks)):
        for before in range(place):
            if ticks[before] < ticks[place]:
                longest[place] = max(longest[place], longest[before] + 1)
    assert len(keep) == max(longest)


def test_a_number_with_either_decimal_sign_is_read_whatever_the_rest_uses(read: Callable[..., Recording]) -> None:
    cells = ["3.5", "3,5", " 3.5", "3", "35e-1"]
    recording = read([HEADER, *(sample(number, Pupil=cell, Event="1,5") for number, cell in enumerate(cells))])
    assert recording.channels["Pupil diameter left"].tolist() == [3.5, 3.5, 3.5, 3, 3.5]
    assert recording.channels["Gaze direction left X"].tolist() == [0.6] * 5


# --- cleaning --------------------------------------------------------------------------------------------------------


def test_values_under_an_invalid_flag_of_their_eye_are_missing(read: Callable[..., Recording]) -> None:
    rows = [sample(0), sample(1, Validity_left="Invalid"), sample(2, Validity_left="Invalid", Validity_right="Valid")]
    recording = read([HEADER, *rows])
    for name in ("Gaze point left X", "Gaze direction left Z", "Pupil diameter left"):
        assert np.isnan(recording.channels[name]).tolist() == [False, True, True]
    assert np.isnan(recording.channels["Gaze point X"]).tolist() == [False, True, False]  # it has the other eye
    assert recording.channels["Validity left"].tolist() == [1, 0, 0]
    assert recording.notes["values_flagged_invalid"] == 2 * 6 + 2


def test_marks_for_no_value_are_missing_and_counted(read: Callable[..., Recording]) -> None:
    rows = [
        sample(0, Gaze_point_X="0", Gaze_point_Y="0"),
        sample(1, Gaze_point_X="-1", Gaze_point_Y="-1"),
        sample(2, Gaze_point_X="2147483647", Gaze_point_Y="5"),
        sample(3, Gaze_point_X="-1", Gaze_point_Y="0"),  # a pixel off the screen is a place
        sample(4, Pupil="-1"),
        sample(5, Pupil="0.4"),
        sample(6, Gaze_direction_left_X="0", Gaze_direction_left_Z="0"),
        sample(7, Gaze_point_X="NaN", Gaze_point_Y=""),
    ]
    recording = read([HEADER, *rows])
    assert np.flatnonzero(np.isnan(recording.channels["Gaze point X"])).tolist() == [0, 1, 2, 7]
    assert np.flatnonzero(np.isnan(recording.channels["Gaze point Y"])).tolist() == [0, 1, 7]
    assert np.flatnonzero(np.isnan(recording.channels["Pupil diameter left"])).tolist() == [4, 5]
    assert np.flatnonzero(np.isnan(recording.channels["Gaze direction left Y"])).tolist() == [6]
    assert recording.notes["values_marked_missing"] == 2 + 2 + 1 + 1 + 3
    assert recording.notes["impossible_pupils"] == 1


def test_a_recording_that_never_saw_an_eye_is_a_recording(read: Callable[..., Recording]) -> None:
    blind = {"Validity left": "Invalid", "Eye movement type": "EyesNotFound"}
    keep = {"Sensor", "Eyetracker timestamp [μs]", "Recording timestamp [ms]"}
    rows = [
        [
            blind.get(name, cell if name in keep else "Invalid" if name.startswith("Val") else "")
            for name, cell in zip(HEADER, sample(number), strict=True)
        ]
        for number in range(20)
    ]
    recording = read([HEADER, *rows])
    assert len(recording.time) == 20
    assert np.isnan(recording.channels["Gaze point X"]).all()
    assert (recording.channels["Eye movement type"] == schema.EYE_MOVEMENT["EyesNotFound"]).all()
    assert recording.screen is None


def test_words_of_mapped_movements_mean_the_same_and_columns_of_other_things_do_no_harm(
    read: Callable[..., Recording],
) -> None:
    others = ["Pupil diameter filtered [mm]", "Eye openness left [mm]", "AOI hit [film - face]", "Ungrouped"]
    words = ["EyesNotFoundMovement", "UnknownEyeMovement", "Saccade"]
    rows = [[*sample(n, Eye_movement_type=word), "3,9", "11.5", "1", "x"] for n, word in enumerate(words)]
    recording = read([[*HEADER, *others], *rows])
    wanted = [schema.EYE_MOVEMENT[word] for word in ("EyesNotFound", "Unclassified", "Saccade")]
    assert recording.channels["Eye movement type"].tolist() == wanted
    assert recording.channels["Pupil diameter left"].tolist() == [3.125] * 3
    assert recording.channels.keys() == read([HEADER, *SOME]).channels.keys()


def test_titles_above_the_names_of_the_columns_are_passed_over_and_lines_counted_from_the_top(
    read: Callable[..., Recording],
) -> None:
    titles = "Recording of P7\nExported\t1 March\tby x\n"
    recording = read(titles + text_of([HEADER, *SOME]))
    assert recording.channels["Gaze point X"].tolist() == [800 + number for number in range(20)]
    with pytest.raises(RecordingError, match="line 8: want a number, found 'wide'"):
        read(titles + text_of([HEADER, *SOME[:4], sample(4, Pupil="wide")]))


def test_what_the_export_does_not_have_is_absent(read: Callable[..., Recording]) -> None:
    recording = read([HEADER, sample(0), sample(1)])
    assert "Gaze point right X" not in recording.channels
    assert recording.screen == (1600, 1200)


def test_rows_without_a_sensor_column_are_told_by_what_they_hold(read: Callable[..., Recording]) -> None:
    mouse = ["" if name != "Recording timestamp [ms]" else "12" for name in HEADER]
    mouse[HEADER.index("Eye movement type")] = "Fixation"  # a mouse's row repeats it
    lost = [sample(1)[i] if HEADER[i].startswith(("Eyetracker", "Validity")) else "" for i in range(len(HEADER))]
    rows = [[cell for name, cell in zip(HEADER, row, strict=True) if name != "Sensor"] for row in
            (HEADER, sample(0), mouse, lost, sample(2))]  # fmt: skip
    recording = read(rows)
    assert recording.notes["rows_of_other_sensors"] == 1
    assert np.isnan(recording.channels["Gaze point X"]).tolist() == [False, True, False]


# --- events ----------------------------------------------------------------------------------------------------------


def event(at: int, name: str, value: str) -> list[str]:
    """A row of an event: it has the recording's time and no other."""
    row = ["" for _ in HEADER]
    row[0], row[HEADER.index("Event")] = str(at), name
    return [*row, value]


def test_events_are_on_the_clock_of_the_eye_samples(read: Callable[..., Recording]) -> None:
    samples = [[*sample(number), ""] for number in range(0, 60, 3)]  # 40 Hz: every 25 ms from 0 on
    late = [[str(int(row[0]) + 2000), *row[1:]] for row in samples]  # on the recording's clock they begin at 2 s
    rows = [
        event(0, "RecordingStart", ""),
        event(1500, "VideoStimulusStart", "film"),
        *late[:10],
        event(2235, "MouseEvent", "Down, Left"),
        *late[10:],
        event(2975, "VideoStimulusEnd", "film"),
    ]
    recording = read([[*HEADER, "Event value"], *rows])
    assert recording.notes["rows_of_other_sensors"] == 4
    assert [event.name for event in recording.events] == [row[HEADER.index("Event")] for row in rows if row[6]]
    assert [event.value for event in recording.events] == ["", "film", "Down, Left", "film"]
    np.testing.assert_allclose([event.time for event in recording.events], [-2, -0.5, 0.235, 0.975], atol=1e-9)


def test_an_export_without_events_has_none(read: Callable[..., Recording]) -> None:
    assert read([HEADER, sample(0), sample(1)]).events == ()


def test_events_keep_to_the_eye_samples_where_the_two_clocks_drift_apart(read: Callable[..., Recording]) -> None:
    # The recording's clock runs 10 % faster here: an event at its 550 ms is at 500 ms of the tracker's.
    rows = [sample(number, Recording_timestamp=str(round(number * 1100 / 120))) for number in range(120)]
    rows.insert(60, event(550, "VideoStimulusStart", "")[:-1])
    (found,) = read([HEADER, *rows]).events
    assert (found.name, found.time) == ("VideoStimulusStart", pytest.approx(0.5, abs=1e-3))


# --- refusals --------------------------------------------------------------------------------------------------------

SOME = [sample(number) for number in range(20)]
MOUSE = sample(0, Sensor="Mouse")
NO_TIME = [[cell for i, cell in enumerate(row) if i not in (0, 5)] for row in (HEADER, *SOME)]
TWO_PEOPLE = [*SOME, sample(21, Recording_name="Recording2")]
REFUSED: dict[str, tuple[Rows | str | bytes, str]] = {
    "empty file": (b"", r"an empty file \(0 bytes\)"),
    "blank file": (" \r\n\r\n", "an empty file"),
    "header only": ([HEADER], "a header of 19 columns and no row"),
    "no eye row": (
        [HEADER, MOUSE],
        "1 rows and not one eye sample: want rows of the sensor 'Eye Tracker', found 'Mouse'",
    ),
    "no time": (NO_TIME, "want a column 'Eyetracker timestamp' or 'Recording timestamp', found neither"),
    "times all empty": (
        [HEADER, sample(0, Recording_timestamp="", Eyetracker="")],
        "1 eye samples, and none with a time",
    ),
    "cut in the middle of a line": (
        text_of([HEADER, *SOME])[:-40],
        r"cut off in the middle of its last row \(20\): want 19",
    ),
    "cut in the middle of a letter": (
        text_of([HEADER, *SOME]).encode("utf-16")[:-41],
        "cut off in the middle of its last",
    ),
    "a short row within": ([HEADER, *SOME[:3], SOME[3][:7], *SOME[4:]], "damaged: row 4 has 7 fields, the header 19"),
    "text for a number": (
        [HEADER, *SOME[:4], sample(4, Pupil="wide")],
        r"column 'Pupil diameter left \[mm\]', line 6: want a number, found 'wide'",
    ),
    "an unknown word": (
        [HEADER, *SOME[:4], sample(4, Validity_left="Perhaps")],
        "column 'Validity left', line 6: want one of Invalid, Valid, 0, 1, 2, 3, 4, found 'Perhaps'",
    ),
    "an unknown table": (
        "name,age,city\nx,3,y\n",
        r"an unknown kind of file: found 3 column\(s\), 'name', 'age', 'city'; looked for .*a Tobii Pro Lab export",
    ),
    "a picture": (
        b"\xff\xd8\xff\xe0\x00\x10JFIF\x00" + bytes(range(256)),
        r"no text: it begins with the bytes b'\\xff\\xd8",
    ),
    "two recordings": (
        [HEADER, *TWO_PEOPLE],
        r"2 recordings in one file \(recording name: 'Recording1', 'Recording2'\)",
    ),
    "a quote that never ends": (
        text_of([HEADER, *SOME[:5]]) + '"' + text_of(SOME[5:]),
        "damaged: row 6 has 1 fields, the header 19",
    ),
    "a packed file cut off": (gzip.compress(text_of([HEADER, *SOME]).encode())[:-20], "a damaged gzip file"),
    "the same channel twice": (
        [[*HEADER, "Gaze point X"], *([*row, "1"] for row in SOME)],
        r"columns 'Gaze point X \[DACS px\]' and 'Gaze point X' are both Gaze point X",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_useless_file_is_refused_with_its_name_and_its_own_reason(what: str, read: Callable[..., Recording]) -> None:
    content, reason = REFUSED[what]
    with pytest.raises(RecordingError, match=reason) as refusal:
        read(content)
    assert str(refusal.value).startswith("P001_C07.tsv: ")
    assert str(pickle.loads(pickle.dumps(refusal.value))) == str(refusal.value)  # it may come from a worker process


def test_a_file_that_cannot_be_read_is_not_blamed_on_the_recording(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nowhere"):
        read_recording(tmp_path / "nowhere.tsv")


def test_twenty_rows_are_a_recording(read: Callable[..., Recording]) -> None:
    recording = read([HEADER, *SOME])
    assert len(recording.time) == 20
    assert recording.rate == pytest.approx(120, abs=0.01)
    out = resample(recording)
    assert np.isfinite(out["eye"][:, 0]).all()
    assert (out["eye_observed"][:, 0] == pytest.approx(1)) and out["eye_observed"][:, 4].max() == 0
