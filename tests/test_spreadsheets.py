"""Workbooks are read like tables of text, cell for cell, and useless ones are refused with their own reason."""

from __future__ import annotations

import datetime
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
import pytest
from recording_files import ods, writer, xlsx

from smad_features import schema
from smad_features.recordings import RecordingError, read_recording

HEADER = [
    "Recording timestamp [ms]",
    "Sensor",
    "Participant name",
    "Gaze point X [DACS px]",
    "Pupil diameter left [mm]",
    "Validity left",
]


def rows(count: int = 20, *, header: bool = True) -> list[list[Any]]:
    body: list[list[Any]] = [
        [8.0 * number, "Eye Tracker", 7.0, 100.0 + number, 3.125, "Valid"] for number in range(count)
    ]
    return [HEADER, *body] if header else body


def changed(line: int, column: int, cell: Any) -> list[list[Any]]:
    """The rows with one cell changed; the header is line 1."""
    table = rows()
    table[line - 1] = [*table[line - 1][:column], cell, *table[line - 1][column + 1 :]]
    return table


@pytest.mark.parametrize("write", [xlsx, ods], ids=["XLSX", "ODS"])
def test_a_workbook_is_told_by_its_content_and_read_cell_for_cell(write: Any, tmp_path: Path) -> None:
    table = rows()
    table[3][4] = None  # an empty cell
    table[4][4] = "3,25"  # a number that a program wrote as text
    recording = read_recording(writer(tmp_path, "recording.tsv")(write(table)))
    assert recording.kind == "Tobii Pro Lab"
    assert recording.channels["Gaze point X"].tolist() == [100.0 + number for number in range(20)]
    assert recording.channels["Validity left"].tolist() == [schema.VALIDITY["Valid"]] * 20
    np.testing.assert_array_equal(recording.channels["Pupil diameter left"][:5], [3.125, 3.125, np.nan, 3.25, 3.125])
    assert recording.rate == pytest.approx(125)


def test_the_first_sheet_that_is_a_recording_is_read(tmp_path: Path) -> None:
    about = [["Project", "Operator"], ["film", "x"]]
    recording = read_recording(writer(tmp_path, "a.xlsx")(xlsx(rows(), before={"About": about, "Empty": []})))
    assert len(recording.time) == 20


def test_rows_above_left_of_and_below_the_table_do_not_shift_it(tmp_path: Path) -> None:
    table = [[None] * 7, *([None, *row] for row in rows()), [None] * 7, [None] * 7]
    recording = read_recording(writer(tmp_path, "a.xlsx")(xlsx(table)))
    assert recording.channels["Gaze point X"].tolist() == [100.0 + number for number in range(20)]


@pytest.mark.parametrize("write", [xlsx, ods], ids=["XLSX", "ODS"])
def test_titles_above_the_names_of_the_columns_are_passed_over(write: Any, tmp_path: Path) -> None:
    title = [["Recording of P7", *[None] * 5], [None] * 6, ["Exported", "1 March", "by", "x", None, None]]
    recording = read_recording(writer(tmp_path, "a.xlsx")(write([*title, *rows()])))
    assert recording.channels["Gaze point X"].tolist() == [100.0 + number for number in range(20)]


def test_a_fault_below_titles_is_named_by_its_row_in_the_sheet(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="line 9: want a number, found 'wide'"):
        read_recording(writer(tmp_path, "a.xlsx")(xlsx([["A title"], [None], *changed(7, 4, "wide")])))


def test_names_of_one_letter_above_rows_with_words_are_names(tmp_path: Path) -> None:
    table = [["t", "x", "v"], *([8.0 * number, 100.0 + number, "Valid"] for number in range(20))]
    columns = {"time": "t", "Gaze point X": "x", "Validity left": "v"}
    recording = read_recording(writer(tmp_path, "a.xlsx")(xlsx(table)), settings={"columns": columns})
    assert recording.channels["Gaze point X"].tolist() == [100.0 + number for number in range(20)]


def test_an_imotions_workbook_is_read_below_its_own_lines(tmp_path: Path) -> None:
    above = [["#INFO"], ["#Respondent", "P1"], ["#DATA"]]
    names = ["Timestamp", "ET_GazeLeftx", "ET_GazeLefty", "ET_PupilLeft"]
    body = [[10.0 * number, 800.0 + number, 500.0, 3.1] for number in range(20)]
    recording = read_recording(writer(tmp_path, "a.xlsx")(xlsx([*above, names, *body])))
    assert recording.kind == "iMotions"
    assert recording.channels["Gaze point left X"].tolist() == [800.0 + number for number in range(20)]


def zipped(name: str) -> bytes:
    out = BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(name, "nothing")
    return out.getvalue()


REFUSED: dict[str, tuple[bytes, str]] = {
    "a date for a number": (
        xlsx(changed(5, 3, datetime.datetime(2026, 3, 1, 12))),
        r"column 'Gaze point X \[DACS px\]', line 5: want a number, found '2026-03-01 12:00:00'",
    ),
    "a yes or no for a number": (xlsx(changed(6, 4, True)), "line 6: want a number, found 'True'"),
    "a word for a number": (xlsx(changed(7, 4, "wide")), "line 7: want a number, found 'wide'"),
    "a word that is no validity": (xlsx(changed(9, 5, "Perhaps")), "line 9: want one of Invalid, .* found 'Perhaps'"),
    "a header alone": (xlsx([HEADER]), "a header of 6 columns and no row under it"),
    "nothing at all": (xlsx([]), "a spreadsheet in which nothing stands"),
    "another table": (xlsx([["name", "age"], ["x", 3]]), "an unknown kind .* found 2 column.*'name', 'age'"),
    "cut off": (xlsx(rows())[:-300], "begins like a spreadsheet and cannot be read as one"),
    "an archive of something else": (zipped("notes.txt"), "begins like a spreadsheet and cannot be read as one"),
    "damage in the old format": (
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600),
        "begins like a spreadsheet and cannot be read as one",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_a_useless_workbook_is_refused_with_its_name_and_its_own_reason(what: str, tmp_path: Path) -> None:
    content, reason = REFUSED[what]
    with pytest.raises(RecordingError, match=f"^P001_C07.xlsx: .*{reason}"):
        read_recording(writer(tmp_path, "P001_C07.xlsx")(content))


def test_a_cell_in_error_is_a_missing_value(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    for row in rows():
        sheet.append(row)
    sheet["E4"] = "#DIV/0!"
    sheet["E4"].data_type = "e"
    path = tmp_path / "a.xlsx"
    book.save(path)
    assert np.flatnonzero(np.isnan(read_recording(path).channels["Pupil diameter left"])).tolist() == [2]


def test_numbers_that_stand_for_names_are_names(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"2 recordings in one file \(participant name: '7', '8'\)"):
        read_recording(writer(tmp_path, "a.xlsx")(xlsx(changed(9, 2, 8.0))))
