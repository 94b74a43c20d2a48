"""Sheets of 39 numbers a row, and tables of one's own with a column map: taken as they are said to be, or refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recording_files import Rows, text_of, writer, xlsx

from smad_features import schema
from smad_features.eyes import resample
from smad_features.recordings import Recording, RecordingError, read_recording
from smad_features.recordings.generic_table import check_columns

NAMES = [channel.name for channel in schema.TOBII_PRO_LAB_39]
RNG = np.random.default_rng(39)


def numbers(count: int = 240) -> np.ndarray:
    """(count, 39): plausible numbers; each tenth row is one in which no eye was found: 0 throughout."""
    table = RNG.uniform(0.1, 0.9, (count, 39)).round(4)
    for column, channel in enumerate(schema.TOBII_PRO_LAB_39):
        if channel.unit == "px":
            table[:, column] = RNG.uniform(100, 900, count).round(1)
        if channel.name.startswith("Pupil"):
            table[:, column] = RNG.uniform(2, 5, count).round(3)
        if channel.name.startswith("Validity") or channel.name == "Eye movement type":
            table[:, column] = 1
        if channel.kind == "counter":
            table[:, column] = RNG.integers(1, 50, count)
    table[5::10] = 0
    return table


def rows_of(table: np.ndarray, header: list[str] | None = NAMES) -> list[list[Any]]:
    return [*([list(header)] if header else []), *table.tolist()]


def as_text(rows: list[list[Any]], *, delimiter: str = "\t") -> str:
    return text_of([[str(cell) for cell in row] for row in rows], delimiter=delimiter)


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Recording]:
    write = writer(tmp_path, "recording.dat")
    return lambda what, **settings: read_recording(write(what), settings=settings)


TABLE = numbers()
UNITS = {"px": "[DACS px]", "mm": "[DACS mm]", "ms": "[ms]"}
SHEETS: dict[str, bytes | str] = {
    "workbook": xlsx(rows_of(TABLE)),
    "workbook without a header": xlsx(rows_of(TABLE, None)),
    "workbook, unknown header": xlsx(rows_of(TABLE, [f"V{number}" for number in range(39)])),
    "workbook, names of gaze alone": xlsx(rows_of(TABLE, [*NAMES[:2], *(f"V{number}" for number in range(37))])),
    "text": as_text(rows_of(TABLE)),
    "text without a header": as_text(rows_of(TABLE, None), delimiter=","),
    "text without a header, decimal commas": as_text(rows_of(TABLE, None)).replace(".", ","),
}


@pytest.mark.parametrize("how", SHEETS)
def test_39_columns_of_numbers_are_the_39_channels_in_their_order(how: str, read: Callable[..., Recording]) -> None:
    recording = read(SHEETS[how])
    assert recording.kind == "SMAD sheet"
    assert list(recording.channels) == NAMES
    seen = np.arange(240) % 10 != 5
    for column, name in enumerate(NAMES):
        wanted = TABLE[:, column] if name.startswith("Validity") else np.where(seen, TABLE[:, column], np.nan)
        np.testing.assert_array_equal(recording.channels[name], wanted, err_msg=name)
    assert recording.notes["values_marked_missing"] == 24 * 37  # all but the validity
    assert recording.notes["clock_assumed"] == 1
    np.testing.assert_allclose(recording.time, np.arange(240) / 120)


def test_a_header_in_another_order_is_followed(read: Callable[..., Recording]) -> None:
    order = RNG.permutation(39)
    shuffled = read(xlsx(rows_of(TABLE[:, order], [NAMES[place] for place in order])))
    plain = read(SHEETS["workbook"])
    for name in NAMES:
        np.testing.assert_array_equal(shuffled.channels[name], plain.channels[name])


def test_the_rate_of_a_sheet_is_the_configurations(read: Callable[..., Recording]) -> None:
    recording = read(SHEETS["text"], sheet_rate=60)
    assert recording.rate == pytest.approx(60)
    assert resample(recording)["quality"]["eye_rate"] == pytest.approx(60)


def test_zero_is_a_number_where_the_configuration_says_so(read: Callable[..., Recording]) -> None:
    recording = read(SHEETS["text"], zero_is_missing="never")
    assert recording.channels["Eye movement type"][5] == 0
    assert recording.channels["Gaze event duration"][5] == 0
    assert np.isnan(recording.channels["Gaze point X"][5])  # a point at exactly 0, 0 is none anywhere
    assert np.isnan(recording.channels["Pupil diameter left"][5])


def test_zero_is_missing_in_an_export_only_where_the_configuration_says_so(read: Callable[..., Recording]) -> None:
    header = ["Recording timestamp", "Gaze point X", "Eye movement type", "Gaze event duration"]
    export = [header, ["0", "5", "Unclassified", "0"], ["8", "5", "Fixation", "90"]]
    assert read(export).channels["Gaze event duration"].tolist() == [0, 90]
    np.testing.assert_array_equal(read(export, zero_is_missing="always").channels["Gaze event duration"], [np.nan, 90])
    np.testing.assert_array_equal(
        read(export, zero_is_missing="always").channels["Eye movement type"], [np.nan, schema.EYE_MOVEMENT["Fixation"]]
    )


def test_a_pair_is_missing_only_where_both_are_zero(read: Callable[..., Recording]) -> None:
    table = TABLE.copy()
    table[0, 0] = table[1, 30] = 0
    recording = read(xlsx(rows_of(table)))
    assert recording.channels["Gaze point X"][0] == 0 and recording.channels[NAMES[30]][1] == 0


@pytest.mark.parametrize(("valid", "lost"), [(1, 0), (0, 1), (0, 4), (1, 3)])
def test_what_stands_for_valid_is_told_by_what_was_measured(
    valid: int, lost: int, read: Callable[..., Recording]
) -> None:
    table = TABLE.copy()
    table[:, 14:16] = np.where(TABLE[:, :1] == 0, lost, valid)
    flags = read(xlsx(rows_of(table))).channels["Validity left"]
    np.testing.assert_array_equal(flags, np.arange(240) % 10 != 5)


def test_validities_and_eye_movements_may_be_words(read: Callable[..., Recording]) -> None:
    rows = rows_of(TABLE)
    for row in rows[1:]:
        row[14], row[15], row[32] = "Valid", "Invalid", "Saccade"
    recording = read(xlsx(rows))
    assert recording.channels["Eye movement type"].tolist() == [schema.EYE_MOVEMENT["Saccade"]] * 240
    assert recording.channels["Validity right"].tolist() == [schema.VALIDITY["Invalid"]] * 240


def test_a_column_of_another_name_is_kept_aside(read: Callable[..., Recording]) -> None:
    header = [name.replace("Validity left", "Eye openness left") for name in NAMES]
    recording = read(xlsx(rows_of(TABLE, header)))
    assert "Validity left" not in recording.channels
    np.testing.assert_array_equal(recording.extra["Eye openness left"], TABLE[:, 14])


def test_few_names_out_of_place_are_all_that_is_known(read: Callable[..., Recording]) -> None:
    header = [f"V{number}" for number in range(39)]
    header[7] = "Gaze point X [DACS px]"
    recording = read(xlsx(rows_of(TABLE, header)))
    assert list(recording.channels) == ["Gaze point X"]
    assert len(recording.extra) == 38


LETTERS: Rows = [[f"c{number}" for number in range(39)], *([["x"] * 39] * 3)]
WRONG = rows_of(np.where(np.arange(39) == 14, 3.21, TABLE), None)
REFUSED: dict[str, tuple[bytes | str, str]] = {
    "header only": (as_text(rows_of(TABLE[:0])), "a header of 39 columns and no row"),
    "no numbers": (text_of(LETTERS), "an unknown kind of file.* found 39 column"),
    "38 columns": (as_text(rows_of(TABLE[:, :38], None)), "an unknown kind of file.* found 38 column"),
    "38 columns with a header": (as_text(rows_of(TABLE[:, :38], NAMES[:38])), "no time: want"),
    "cut in a row": (as_text(rows_of(TABLE))[:-60], r"cut off in the middle of its last row \(240\)"),
    "a word": (as_text(rows_of(TABLE)).replace(str(TABLE[2, 0]), "wide", 1), "line 4: want a number, found 'wide'"),
    "columns 15 and 16 of something else": (
        as_text(WRONG), "column 'column 15', line 1: want a validity of left eye, .*`eye.columns`.*found '3.21'",
    ),
    "one channel twice": (as_text(rows_of(TABLE, [*NAMES[:38], NAMES[0]])), "'Gaze point X' and .* are both"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_a_useless_sheet_is_refused_with_its_own_reason(what: str, read: Callable[..., Recording]) -> None:
    content, reason = REFUSED[what]
    with pytest.raises(RecordingError, match=reason):
        read(content)


def test_a_sheet_in_which_no_eye_was_found_is_a_recording(read: Callable[..., Recording]) -> None:
    recording = read(xlsx(rows_of(np.zeros((20, 39)))))
    assert len(recording.time) == 20
    assert np.isnan(recording.channels["Gaze point X"]).all()


# --- a table of one's own --------------------------------------------------------------------------------------------

COLUMNS = {"time": "t", "Gaze point X": "gx", "Gaze point Y": "gy", "Validity left": "ok", "Eye movement type": "what"}


def own(scale: float, *, start: float = 0, x: str = "640", y: str = "360") -> Rows:
    """A table at 50 Hz whose clock has 1 / `scale` seconds a tick."""
    rows = [[f"{start + number * scale / 50:.6f}", x, y, "n/a", "1", "Fixation"] for number in range(20)]
    return [["t", "gx", "gy", "note", "ok", "what"], *rows]


@pytest.mark.parametrize("scale", [1, 1e3, 1e6, 1e9], ids=["s", "ms", "us", "ns"])
def test_a_column_map_makes_a_recording_of_any_table_and_tells_its_clock(
    scale: float, read: Callable[..., Recording]
) -> None:
    recording = read(own(scale), columns=COLUMNS)
    assert (recording.kind, recording.rate) == ("generic table", pytest.approx(50))
    assert recording.channels["Gaze point Y"].tolist() == [360] * 20
    assert recording.channels["Validity left"].tolist() == [1] * 20
    assert recording.channels["Eye movement type"].tolist() == [schema.EYE_MOVEMENT["Fixation"]] * 20
    assert not recording.normalized


def test_the_unit_of_the_clock_may_be_said(read: Callable[..., Recording]) -> None:
    assert read(own(1e3), columns=COLUMNS, time_unit="s").rate == pytest.approx(0.05)


def test_nanoseconds_since_1970_keep_their_steps(read: Callable[..., Recording]) -> None:
    start = 1_790_000_000_000_000_001  # float64 has 256 ns between neighbours there
    rows = [["t", "gx"], *([str(start + 5_000_000 * number + 1), "1000"] for number in range(50))]
    recording = read(rows, columns={"time": "t", "Gaze point X": "gx"})
    np.testing.assert_array_equal(recording.time, np.arange(50) * 5_000_000 * 1e-9)


def test_gaze_that_stays_within_0_to_1_is_taken_for_fractions_of_the_screen(read: Callable[..., Recording]) -> None:
    recording = read(own(1, x="0.25", y="1.1"), columns=COLUMNS)
    assert recording.normalized == {"Gaze point X", "Gaze point Y"}
    assert recording.channels["Gaze point X"].tolist() == [0.25] * 20


def test_a_column_map_goes_before_what_would_be_recognised(read: Callable[..., Recording]) -> None:
    export = [["Recording timestamp", "Gaze point X", "raw"], *([str(8 * row), "5", "7"] for row in range(20))]
    assert read(export).channels["Gaze point X"].tolist() == [5] * 20
    columns = {"time": "Recording timestamp", "Gaze point X": "raw"}
    assert read(export, columns=columns).channels["Gaze point X"].tolist() == [7] * 20
    assert read(export, columns=COLUMNS).kind == "Tobii Pro Lab"  # which has none of these columns


def test_a_table_without_the_columns_named_is_refused_with_those_that_lack(read: Callable[..., Recording]) -> None:
    with pytest.raises(RecordingError, match=r"found 2 column.*of `eye.columns` 'gx', 'gy', 'ok', 'what' not there"):
        read([["t", "x"], ["1", "2"]], columns=COLUMNS)
    with pytest.raises(RecordingError, match="column 'gx', line 3: want a number, found 'n/a'"):
        read([["t", "gx"], ["1", "2"], ["2", "n/a"]], columns={"time": "t", "Gaze point X": "gx"})


def test_a_channel_that_there_is_none_of_is_refused_with_its_like() -> None:
    check_columns(COLUMNS)
    with pytest.raises(ValueError, match=r"no channel is called 'Gaze X': .*'Gaze point X'"):
        check_columns({"time": "t", "Gaze X": "gx"})
    with pytest.raises(ValueError, match="want a column for 'time', found none"):
        check_columns({"Gaze point X": "gx"})
