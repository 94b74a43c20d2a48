"""The tables: what is read, what is refused and in which words, and which requests cannot be met."""

import csv
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smad_features.config import complete_config
from smad_features.manifest import (
    Clip,
    TableError,
    check_clips,
    read_annotations,
    read_clips,
    read_labels,
    read_targets,
)

EMOTIONS = ["joy", "calm"]
LABELS = "clip\temotion\tintensity\tvalence\tarousal\n"
ANNOTATIONS = "clip\tannotator\tkind\temotion\tintensity\tvalence\tarousal\n"


def write(folder: Path, text: str | bytes, name: str = "clips.tsv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    return path


def labels_of(folder: Path, rows: str, *, clips: tuple[str, ...] = ("a",)) -> dict[str, dict[str, Any]]:
    return read_labels(write(folder, LABELS + rows, "labels.tsv"), emotions=EMOTIONS, clips=set(clips))


# ---- clips.tsv


def test_two_columns_are_enough_and_everything_else_is_missing(tmp_path: Path) -> None:
    assert read_clips(write(tmp_path, "clip\tparticipant\na\tp\n")) == [Clip("a", "p")]


def test_every_column_becomes_its_type_and_an_empty_cell_is_none(tmp_path: Path) -> None:
    table = (
        "participant\tclip\tend\tstart\tfold\tvideo\teye\tstimulus\n"
        "p\ta\t2.5\t0\t3\tv.mp4\te.tsv\ts.mp4\n"
        "p\tb\t\t\t\t\t\t\n"
    )
    one, two = read_clips(write(tmp_path, table))
    folder = tmp_path.resolve()
    assert one == Clip("a", "p", folder / "v.mp4", folder / "e.tsv", folder / "s.mp4", 0.0, 2.5, 3)
    assert two == Clip("b", "p")


def test_clips_come_in_the_caches_order_by_participant_then_clip(tmp_path: Path) -> None:
    table = "clip\tparticipant\nb\tp2\nz\tp1\na\tp2\nc10\tp10\n"
    assert [clip.clip for clip in read_clips(write(tmp_path, table))] == ["z", "c10", "a", "b"]


def test_paths_are_relative_to_the_tables_folder_or_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tables, elsewhere = tmp_path / "tables", tmp_path / "elsewhere"
    tables.mkdir()
    elsewhere.mkdir()
    write(tables, f"clip\tparticipant\tvideo\teye\na\tp\t../raw/a b.mp4\t{elsewhere}/e.tsv\n")
    monkeypatch.chdir(elsewhere)
    for spelling in (tables / "clips.tsv", Path("../tables/clips.tsv")):
        clip = read_clips(spelling)[0]
        assert clip.video == tmp_path.resolve() / "raw" / "a b.mp4"
        assert clip.eye == elsewhere.resolve() / "e.tsv"


def test_columns_of_the_users_own_are_passed_over(tmp_path: Path) -> None:
    plain = read_clips(write(tmp_path, "clip\tparticipant\tvideo\na\tp\tv.mp4\n"))
    wide = read_clips(write(tmp_path, 'note\tclip\tage\tparticipant\tvideo\n5" screen\ta\told\tp\tv.mp4\n'))
    assert wide == plain


@pytest.mark.parametrize(
    "spelling",
    [
        b"\xef\xbb\xbfclip\tparticipant\na\tp\nb\tp\n",
        b"clip\tparticipant\r\na\tp\r\nb\tp\r\n",
        b"clip\tparticipant\na\tp\nb\tp",
        b"clip\tparticipant\n\na\tp\n\t\nb\tp\n\n",
        b"clip\tparticipant\n a\tp \nb\tp\n",
        b'"clip"\t"participant"\n"a"\t"p"\nb\tp\n',
    ],
    ids=["byte order mark", "CRLF", "no last line end", "blank rows", "blanks around", "quotes"],
)
def test_the_spelling_of_a_table_does_not_matter(tmp_path: Path, spelling: bytes) -> None:
    assert read_clips(write(tmp_path, spelling)) == [Clip("a", "p"), Clip("b", "p")]


@pytest.mark.parametrize("name", ["a" * 80, "P001_C01.v-2", "_x", "-x", "7"])
def test_ids_of_the_agreed_alphabet_are_taken(tmp_path: Path, name: str) -> None:
    assert read_clips(write(tmp_path, f"clip\tparticipant\n{name}\t{name}\n")) == [Clip(name, name)]


@pytest.mark.parametrize(
    "name", ["../../x", "<script>", ".hidden", "..", "a" * 81, "a b", "é", "a/b", "a\\b", "$(x)", "", "a;b", "{a}"]
)
@pytest.mark.parametrize("column", ["clip", "participant"])
def test_ids_that_are_no_file_names_are_refused_by_row_and_column(tmp_path: Path, name: str, column: str) -> None:
    row = {"clip": "b", "participant": "p"} | {column: name}
    path = write(tmp_path, f"clip\tparticipant\na\tp\n{row['clip']}\t{row['participant']}\n")
    wanted = f"{path}, row 3: column `{column}`: {name!r} is not allowed: want 1 to 80 of A-Z a-z 0-9 . _ -, and no"
    with pytest.raises(TableError, match=re.escape(wanted)):
        read_clips(path)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("", "empty; want a header with the columns clip, participant"),
        ("clip\tparticipant\n", "holds no clips, only a header"),
        ("clip\tvideo\na\tv.mp4\n", "column `participant` is missing; found: clip, video$"),
        ("clip,participant\na,p\n", "column `clip` is missing; found: clip,participant; is it separated by commas"),
        ("clip\tparticipant\tclip\na\tp\ta\n", "column `clip` stands twice in the header"),
        ("clip\tparticipant\tVideo\na\tp\tv\n", "column 'Video': want it spelt `video`"),
        ("clip\tparticipant\t eye\na\tp\te\n", "column ' eye': want it spelt `eye`"),
        ("clip\tparticipant\na\tp\nb\tp\na\tq\n", "row 4: column `clip`: 'a' stands in row 2 already"),
        ("clip\tparticipant\na\tp\nA\tp\n", "row 3: column `clip`: 'A' differs only in case from 'a' of row 2"),
        ("clip\tparticipant\na\tp1\nb\tP1\n", "row 3: column `participant`: 'P1' differs only in case from 'p1' of"),
        ("clip\tparticipant\tvideo\na\tp\n", "row 2: want 3 cells as in the header, found 2"),
        ("clip\tparticipant\na\tp\t\n", "row 2: want 2 cells as in the header, found 3"),
        ("clip\tparticipant\tstart\na\tp\tsoon\n", "row 2: column `start`: 'soon' is not allowed: want a number or an"),
        ("clip\tparticipant\tend\na\tp\tnan\n", "row 2: column `end`: 'nan' is not allowed"),
        ("clip\tparticipant\tend\na\tp\tinf\n", "row 2: column `end`: 'inf' is not allowed"),
        ("clip\tparticipant\tend\na\tp\t1,5\n", "row 2: column `end`: '1,5' is not allowed"),
        ("clip\tparticipant\tstart\na\tp\t-1\n", "row 2: column `start`: -1.0 is before the video's first frame"),
        ("clip\tparticipant\tstart\tend\na\tp\t3\t2\n", "row 2: column `end`: 2.0 is not after the start, 3.0"),
        ("clip\tparticipant\tstart\tend\na\tp\t3\t3\n", "row 2: column `end`: 3.0 is not after the start, 3.0"),
        ("clip\tparticipant\tend\na\tp\t0\n", "row 2: column `end`: 0.0 is not after the start, 0.0"),
        ("clip\tparticipant\tfold\na\tp\t0\n", "row 2: column `fold`: 0 is not allowed: want a whole number of at"),
        ("clip\tparticipant\tfold\na\tp\t1.5\n", "row 2: column `fold`: '1.5' is not allowed"),
        (b"clip\tparticipant\tnote\na\tp\tcaf\xe9\n", "not UTF-8 text"),
        ("clip\tparticipant\na\tp\n".encode("utf-16"), "not UTF-8 text"),
        ('clip\tparticipant\tnote\na\tp\t"open\nb\tp\tx\n', "not a table: unexpected end of data"),
        ('clip\tparticipant\tnote\na\tp\t"open\nb\tp\tx"\nc\tp\tx\n', "rows 2 to 3: a cell's quote is open over"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_in_a_sentence(tmp_path: Path, table: str | bytes, message: str) -> None:
    path = write(tmp_path, table)
    with pytest.raises(TableError, match=rf"^{re.escape(str(path))}(: |, ).*{message}"):
        read_clips(path)


def test_an_absent_table_and_a_folder_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"absent\.tsv: no such file; want a table with the columns clip, participant"):
        read_clips(tmp_path / "absent.tsv")
    with pytest.raises(TableError, match="Is a directory"):
        read_clips(tmp_path)


IDS = st.lists(st.from_regex(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,79}", fullmatch=True), unique_by=str.casefold, min_size=1)


@settings(max_examples=50, deadline=None)
@given(ids=IDS, notes=st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"])))
def test_what_the_csv_module_writes_is_read_back_whole(
    tmp_path_factory: pytest.TempPathFactory, ids: list[str], notes: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "round_trip.tsv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t")
        writer.writerows([["note", "clip", "participant"], *([notes, name, "p"] for name in ids)])
    assert [clip.clip for clip in read_clips(path)] == sorted(ids)


# ---- labels.tsv


def test_labels_are_read_by_clip_and_an_empty_cell_is_unlabelled(tmp_path: Path) -> None:
    assert labels_of(tmp_path, "a\tjoy\t3\t-1\t0.5\nother\t\t\t\t\n") == {
        "a": {"emotion": "joy", "intensity": 3.0, "valence": -1.0, "arousal": 0.5},
        "other": {"emotion": None, "intensity": None, "valence": None, "arousal": None},
    }


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("a\tjoy\t3.1\t0\t0\n", "row 2: column `intensity`: 3.1 is not allowed: want a number from 0 to 3 or an empty"),
        ("a\tjoy\t-1\t0\t0\n", "row 2: column `intensity`: -1.0 is not allowed: want a number from 0 to 3"),
        ("a\tjoy\t1\t7\t0\n", "row 2: column `valence`: 7.0 is not allowed: want a number from -1 to 1 or an empty"),
        ("a\tjoy\t1\t0\t-1.01\n", "row 2: column `arousal`: -1.01 is not allowed: want a number from -1 to 1"),
        ("a\tjoy\tnan\t0\t0\n", "row 2: column `intensity`: 'nan' is not allowed"),
        ("a\tjoy\t1\tinf\t0\n", "row 2: column `valence`: 'inf' is not allowed"),
        ("a\tjoy\t1\t0\thigh\n", "row 2: column `arousal`: 'high' is not allowed"),
        ("a\tcalm\t\t\t\nb\tJoy\t1\t0\t0\n", "row 3: column `emotion`: 'Joy' is not one of .*: joy, calm"),
        ("a\tjoy\t\t\t\nb\tjoy\t\t\t\na\tcalm\t\t\t\n", "row 4: column `clip`: 'a' stands in row 2 already"),
        ("x\tjoy\t\t\t\ny\tjoy\t\t\t\n", "none of its 2 clips stands in the table of clips; first here: 'x', .* 'a'"),
    ],
)
def test_labels_that_make_no_sense_are_refused_in_a_sentence(tmp_path: Path, rows: str, message: str) -> None:
    with pytest.raises(TableError, match=rf"labels\.tsv(: |, ){message}"):
        labels_of(tmp_path, rows)


def test_labels_need_all_their_columns(tmp_path: Path) -> None:
    path = write(tmp_path, "clip\temotion\na\tjoy\n", "labels.tsv")
    with pytest.raises(TableError, match="column `intensity` is missing; found: clip, emotion"):
        read_labels(path, emotions=EMOTIONS, clips={"a"})


# ---- annotations.tsv


def test_annotations_of_several_annotators_are_allowed(tmp_path: Path) -> None:
    rows = "a\tE1\texpert\tjoy\t1\t0\t0\na\tE2\texpert\t\t\t\t\nb\tE1\texpert\tcalm\t3\t1\t-1\n"
    table = write(tmp_path, ANNOTATIONS + rows, "annotations.tsv")
    read = read_annotations(table, emotions=EMOTIONS, clips={"b", "c"})  # those of other clips are passed over
    assert read == [["b", "E1", "expert", "calm", 3.0, 1.0, -1.0]]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            "a\tE1\texpert\tjoy\t1\t0\t0\na\tE1\texpert\tcalm\t1\t0\t0\n",
            "row 3: clip 'a', annotator 'E1' stand in row 2",
        ),
        (
            "a\tE1\tjudge\tjoy\t1\t0\t0\n",
            "row 2: column `kind`: 'judge' is not allowed: want one of participant, expert",
        ),
        ("a\tE1\t\tjoy\t1\t0\t0\n", "row 2: column `kind`: '' is not allowed: want one of participant, expert, model"),
        ("a\t\texpert\tjoy\t1\t0\t0\n", "row 2: column `annotator`: '' is not allowed: want text"),
        ("a\tE1\texpert\tanger\t1\t0\t0\n", "row 2: column `emotion`: 'anger' is not one of"),
        ("a\tE1\texpert\tjoy\t4\t0\t0\n", "row 2: column `intensity`: 4.0 is not allowed: want a number from 0 to 3"),
        (
            "a\tP1\tparticipant\tjoy\t1\t0\t0\na\tP2\tparticipant\tjoy\t1\t0\t0\n",
            "row 3: column `kind`: clip 'a' has its participant's annotation in row 2 already; others are experts",
        ),
        (
            "a\tE1\texpert\tjoy\t1\t0\t0\nb\tE1\tmodel\tjoy\t1\t0\t0\n",
            "row 3: column `kind`: annotator 'E1' is of kind expert in row 2, of kind model here",
        ),
        ("a\tparticipant\tmodel\tjoy\t1\t0\t0\n", "row 2: column `annotator`: 'participant' stands for all self-rep"),
    ],
)
def test_annotations_that_make_no_sense_are_refused_in_a_sentence(tmp_path: Path, rows: str, message: str) -> None:
    with pytest.raises(TableError, match=rf"annotations\.tsv, {message}"):
        read_annotations(write(tmp_path, ANNOTATIONS + rows, "annotations.tsv"), emotions=EMOTIONS, clips={"a", "b"})


def test_annotations_of_other_clips_alone_are_refused(tmp_path: Path) -> None:
    table = write(tmp_path, ANNOTATIONS + "z\tE1\texpert\tjoy\t1\t0\t0\n", "annotations.tsv")
    with pytest.raises(TableError, match="none of its 1 clips stands in the table of clips; first here: 'z'"):
        read_annotations(table, emotions=EMOTIONS, clips={"a"})


# ---- what is asked for


def folded(*folds: int | None) -> list[Clip]:
    """Clips c1, c2, ... of two participants in turn, in these folds."""
    return [Clip(f"c{n}", f"p{(n - 1) % 2 + 1}", fold=fold) for n, fold in enumerate(folds, start=1)]


@pytest.mark.parametrize(
    ("clips", "settings"),
    [
        (folded(None, None), {}),
        (folded(1, 2, 1, 2), {}),
        (folded(1, 2), {"checkpoints": "given", "labels": None}),
        ([Clip("a", "p", video=Path("/nowhere.mp4"))], {}),
        ([Clip("a", "p")], {"on_bad_clip": "fail"}),
    ],
    ids=["no folds", "given folds", "predict only", "an absent file is for quarantine", "nothing named, nothing bad"],
)
def test_what_can_be_done_is_let_through(clips: list[Clip], settings: dict[str, Any]) -> None:
    check_clips(clips, complete_config(settings))


@pytest.mark.parametrize(
    ("clips", "settings", "message"),
    [
        (folded(1, 2, None, 2), {}, "column `fold`: filled for 3 of 4 clips; empty for c3"),
        (folded(1, 2, 3, 2), {}, r"participant p1 stands in folds 1 and 3 \(clip c3\); want one fold a participant"),
        (folded(1, 6), {}, "clip c2: column `fold`: 6 is above `folds.count`, 5"),
        (folded(1, 3), {"folds": {"count": 2}}, "clip c2: column `fold`: 3 is above `folds.count`, 2"),
        (folded(None, None), {"checkpoints": "given"}, "`checkpoints: given` needs a column `fold`"),
        (folded(1, 2), {"folds": {"disjoint": ["participant", "stimulus"]}}, "no clip names a stimulus"),
        (
            [replace(clip, stimulus=Path("/film.mp4")) for clip in folded(1, 2)],
            {"folds": {"disjoint": ["participant", "stimulus"]}},
            "clips c1 and c2 show the same stimulus in folds 1 and 2",
        ),
        (folded(None), {"score": {"polarity": {"joy": "positive"}}}, "`score.polarity`: 'joy' is none of `emotions`"),
        (folded(None, None), {"labels": None}, "`labels: null` leaves nothing to train on"),
    ],
)
def test_what_cannot_be_done_is_refused_before_work_begins(
    clips: list[Clip], settings: dict[str, Any], message: str
) -> None:
    config = complete_config(settings)
    with pytest.raises(TableError, match=message):
        check_clips(clips, config)
        read_targets(clips, config)


@pytest.mark.parametrize("column", ["video", "eye"])
def test_under_fail_a_named_file_that_is_not_there_stops_the_run_at_once(tmp_path: Path, column: str) -> None:
    here, gone = write(tmp_path, "x", "here"), tmp_path / "gone"
    config = complete_config({"on_bad_clip": "fail"})
    paths: dict[str, Any] = {column: here}
    check_clips([Clip("a", "p", **paths)], config)
    paths[column] = gone
    with pytest.raises(TableError, match=rf"clip b: column `{column}`: no such file: {re.escape(str(gone))}"):
        check_clips([Clip("a", "p"), Clip("b", "p", **paths)], config)


def test_targets_are_the_labels_of_these_clips_by_task(tmp_path: Path) -> None:
    rows = ["a\tfear\t2\t-0.5\t0.5", "b\t\t1\t\t", "stranger\tanger\t1\t0\t0"]
    labels = write(tmp_path, "clip\temotion\tintensity\tvalence\tarousal\n" + "\n".join(rows) + "\n", "labels.tsv")
    config = complete_config({"labels": str(labels), "tasks": ["emotion", "valence", "intensity"]})
    assert read_targets([Clip("a", "p"), Clip("b", "p"), Clip("c", "q")], config) == {
        "emotion": {"a": ["fear"]},
        "valence": {"a": [-0.5]},
        "intensity": {"a": ["fear", 2.0], "b": [None, 1.0]},
    }


def test_predicting_only_needs_no_labels_but_every_checkpoint(tmp_path: Path) -> None:
    config = complete_config(
        {"checkpoints": str(tmp_path), "labels": None, "tasks": ["emotion"], "folds": {"count": 2}}
    )
    clips = [Clip("a", "p", fold=1), Clip("b", "q", fold=2)]
    (tmp_path / "emotion").mkdir()
    (tmp_path / "emotion/fold1.safetensors").touch()
    with pytest.raises(TableError, match=r"no such file: .*emotion/fold2\.safetensors"):
        read_targets(clips, config)
    (tmp_path / "emotion/fold2.safetensors").touch()
    assert read_targets(clips, config) == {"emotion": {}}


def test_a_task_that_nobody_is_labelled_for_is_refused_before_work_begins(tmp_path: Path) -> None:
    labels = write(tmp_path, LABELS + "a\tfear\t2\t\t0.5\n", "labels.tsv")
    config = complete_config({"labels": str(labels), "tasks": ["emotion", "valence"]})
    with pytest.raises(
        TableError, match="no clip of the table has a value in `valence`; fill some, or take valence out"
    ):
        read_targets([Clip("a", "p")], config)
