"""A tree of files becomes tables that the workflow takes; what does not match is said."""

import csv
import unicodedata
from pathlib import Path

import openpyxl
import pytest
from conftest import run_features

from smad_features.index import Ids, TreeError, write_index
from smad_features.index_release import index_release
from smad_features.index_tree import index_tree
from smad_features.manifest import read_clips

EMOTIONS = ["happiness", "sadness", "neutral"]


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


@pytest.fixture
def release(tmp_path: Path) -> Path:
    root = tmp_path / "smead_cross"
    for fold, clip in ((1, "3_film_happy Happy"), (1, "3_film_sad Sad"), (2, "11_film_happy Happy")):
        touch(root / f"face/set{fold}" / clip / "1.jpg", root / f"eye/{clip}.xlsx")
    (root / "eye/3_film_sad Sad.xlsx").rename(root / "eye/3_Film_sad  sad.xlsx")
    sheet = openpyxl.Workbook()
    for row in (
        ("ID", "Emotion", "Valence", "Arousal", "Intensity", "remark"),
        ("3_film_happy Happy", "Happy", 0.5, 0.25, 2, ""),
        ("3_film_happy Happy", "Sad", -1, 0, 0, "a second row does not count"),
        ("11_film_happy Happy", "puzzled", 0, 0, 1.5, ""),
        ("99_gone", "Sad", 0, 0, 1, ""),
    ):
        sheet.active.append(row)
    sheet.save(root / "new_label.xlsx")
    return root


def test_a_release_becomes_clips_with_folds_and_labels(release: Path, tmp_path: Path) -> None:
    index = index_release(release, emotions=EMOTIONS)
    write_index(index, tmp_path / "config/clips.tsv", tmp_path / "config/labels.tsv")

    clips = {clip.clip: clip for clip in read_clips(tmp_path / "config/clips.tsv")}
    assert sorted(clips) == ["11_film_happy_Happy", "3_film_happy_Happy", "3_film_sad_Sad"]
    first = clips["3_film_happy_Happy"]
    assert (first.participant, first.fold) == ("3", 1)
    assert first.video == release / "face/set1/3_film_happy Happy"
    assert clips["3_film_sad_Sad"].eye == release / "eye/3_Film_sad  sad.xlsx"
    with (tmp_path / "config/labels.tsv").open(newline="") as file:
        labels = {row["clip"]: row for row in csv.DictReader(file, delimiter="\t")}
    assert labels["3_film_happy_Happy"]["emotion"] == "happiness"
    assert labels["3_film_happy_Happy"]["valence"] == "0.5" and labels["3_film_happy_Happy"]["intensity"] == "2"
    assert labels["11_film_happy_Happy"]["emotion"] == ""
    said = " ".join(index.notes)
    assert "'puzzled' (1 clips)" in said and "99_gone" in said and "1 clips without a label" in said


def test_sets_that_divide_a_participant_are_no_folds(release: Path) -> None:
    touch(release / "face/set2/3_film_x X/1.jpg")
    index = index_release(release, emotions=EMOTIONS)
    assert all("fold" not in row for row in index.clips)
    assert {row["set"] for row in index.clips} == {1, 2}
    assert any("stand in several sets (3)" in note for note in index.notes)


def test_an_ordinary_tree_is_matched_by_its_names(tmp_path: Path) -> None:
    root = tmp_path / "study"
    touch(root / "P01/video/c1_webcam.mp4", root / "P01/tobii/c1.tsv", root / "P01/video/c2_webcam.mp4")
    touch(root / "P02/frames/c1/1.png", root / "P02/frames/c1/2.png")
    touch(root / "P02/tobii/c1.tsv", root / "results/cache.tsv", root / ".hidden/x.mp4")
    index = index_tree(root)
    write_index(index, tmp_path / "clips.tsv")
    clips = {clip.clip: clip for clip in read_clips(tmp_path / "clips.tsv")}
    assert clips["P01_c1"].video == root / "P01/video/c1_webcam.mp4"
    assert clips["P01_c1"].eye == root / "P01/tobii/c1.tsv"
    assert clips["P01_c2"].eye is None
    assert {clip.participant for clip in clips.values()} == {"P01", "P02"}
    assert any("clips have no eye recording" in note for note in index.notes)


def test_a_flat_folder_takes_the_participant_from_the_name(tmp_path: Path) -> None:
    touch(tmp_path / "in/P7-film.mov", tmp_path / "in/P7-film.csv")
    (row,) = index_tree(tmp_path / "in").clips
    assert (row["participant"], row["clip"]) == ("P7", "P7-film")


EXPORT = "Recording timestamp [ms]\tSensor\tGaze point X [DACS px]\tGaze point Y [DACS px]\n1\tEye Tracker\t5\t6\n"


def test_names_agree_whatever_their_case_blanks_and_ways_to_write_a_letter(tmp_path: Path) -> None:
    root = tmp_path / "in"
    touch(root / "face/Jörg Groß-film 1.5.mp4", root / "eye" / unicodedata.normalize("NFD", "jörg_Groß film_1.5.tsv"))
    touch(root / "face/Jörg Groß-film 1.6.mp4", root / "face/jörg groß-film 2.mp4")
    index = index_tree(root)
    assert [row["clip"] for row in index.clips] == ["Jorg_Gross-film_1.5", "Jorg_Gross-film_1.6", "jorg_gross-film_2"]
    assert index.clips[0]["eye"] is not None and index.clips[1]["eye"] is None
    assert {row["participant"] for row in index.clips} == {"Jorg"}  # one person, however spelled
    assert any("taken for one participant: 'Jörg', 'jörg'" in note for note in index.notes)


def test_what_is_no_clip_is_left_aside_and_named(tmp_path: Path) -> None:
    root = tmp_path / "in"
    touch(root / "P01/c1.mp4", root / "stimuli/film1.mp4", root / "P01/consent.jpg", root / "~$lock.xlsx")
    touch(root / "README.txt", root / "P01/notes.txt")
    (root / "P01/c2_eye.tsv").write_text(EXPORT, encoding="utf-8")
    index = index_tree(root)
    assert [row["clip"] for row in index.clips] == ["P01_c1", "P01_c2"]  # a recording alone is a clip
    said = "\n".join(index.notes)
    assert "0 of 2 clips have a video and an eye recording" in said
    assert "1 videos are left aside as stimuli: name them in the column `stimulus`: 'stimuli/film1.mp4'" in said
    assert "'README.txt', 'P01/notes.txt'" in said or "'P01/notes.txt', 'README.txt'" in said
    assert "'P01'" in next(note for note in index.notes if "pictures" in note)
    assert "lock" not in said


def test_who_the_participants_are_is_said_and_can_be_told_otherwise(tmp_path: Path) -> None:
    root = tmp_path / "in"
    touch(root / "film1_P01.mp4", root / "film2_P01.mp4", root / "film1_P02.mp4")
    assert index_tree(root).notes[0].startswith("participants: 'film1', 'film2'; told by the outermost folder")
    told = index_tree(root, participant=r"_(P\d+)")
    assert [row["participant"] for row in told.clips] == ["P01", "P02", "P01"]
    with pytest.raises(TreeError, match=r"nothing like 'X\(\.\)' in 'film1_P01.mp4'"):
        index_tree(root, participant="X(.)")
    with pytest.raises(TreeError, match="has no group"):
        index_tree(root, participant="P01")
    with pytest.raises(TreeError, match="is no regular expression"):
        index_tree(root, participant="(")


def test_of_several_files_of_a_clip_the_first_is_taken_and_that_is_said(tmp_path: Path) -> None:
    root = tmp_path / "in"
    touch(root / "P01/c1_face.mp4", root / "P01/c1_webcam.mp4", root / "P01/c1.csv")
    (root / "P01/c1_eye.tsv").write_text(EXPORT, encoding="utf-8")
    index = index_tree(root)
    (row,) = index.clips
    assert row["video"].name == "c1_face.mp4"
    assert row["eye"].name == "c1_eye.tsv"  # the other is a table that no reader knows
    said = "\n".join(index.notes)
    assert (
        "1 clips have several videos, the first is taken; one of them: 'P01/c1_face.mp4' or 'P01/c1_webcam.mp4'" in said
    )
    assert "1 tables are left aside" in said


def test_what_stands_twice_in_a_release_or_has_no_partner_is_said(release: Path) -> None:
    touch(release / "face/set2/3_film_happy Happy/1.jpg", release / "face/set1/Thumbs.db")
    touch(release / "eye/3_FILM_happy Happy.xlsx", release / "eye/11_film_alone X.xlsx", release / "eye/~$3_film.xlsx")
    (release / "face/set2/11_film_empty X").mkdir()
    index = index_release(release, emotions=EMOTIONS)
    rows = {row["source"]: row for row in index.clips}
    assert sorted(rows) == [
        "11_film_alone X", "11_film_empty X", "11_film_happy Happy", "3_film_happy Happy", "3_film_sad Sad",
    ]  # fmt: skip
    assert rows["3_film_happy Happy"]["video"] == release / "face/set1/3_film_happy Happy"
    assert rows["3_film_happy Happy"]["eye"].name == "3_film_happy Happy.xlsx"
    assert rows["11_film_alone X"]["fold"] == 2
    for sentence in (
        "3 of 5 clips have a video and an eye recording",
        "1 clips have no video: '11_film_alone X'",
        "1 clips have no eye recording: '11_film_empty X'",
        "1 folders of frames of a clip that has another already, left aside: 'face/set2/3_film_happy Happy'",
        "1 recordings of a clip that has another already, left aside: 'eye/3_FILM_happy Happy.xlsx'",
        "1 recordings are spelled a little otherwise than their clips: '3_Film_sad  sad'",
        "1 files are neither video nor folder of frames, left aside: 'face/set1/Thumbs.db'",
        "1 folders hold no picture: '11_film_empty X'",
        "1 labels are second ones of their clips, which do not count: '3_film_happy Happy'",
        "1 labels of no clip here: '99_gone'",
        "3 clips without a label: '11_film_alone X', '11_film_empty X', '3_film_sad Sad'",
        "1 clips without frames are put into their participant's set: '11_film_alone X'",
        "folds as in the sets, clips each: 1: 2, 2: 3",
    ):
        assert sentence in index.notes


def test_a_release_that_is_indexed_as_an_ordinary_tree_is_told_from_one(release: Path) -> None:
    done = run_features(release.parent, "index", "smead_cross")
    assert "looks like the database's own release, for --layout smead-cross" in done.stderr


def test_clips_of_a_single_participant_are_doubted(tmp_path: Path) -> None:
    touch(tmp_path / "in/study/P01/c1.mp4", tmp_path / "in/study/P02/c1.mp4")
    assert (
        index_tree(tmp_path / "in").notes[0].startswith("all clips are taken for one participant's, 'study': if that")
    )


def test_an_emotion_can_be_named_and_must_be_one_of_the_configuration(release: Path) -> None:
    index = index_release(release, emotions=EMOTIONS, meaning={"puzzled": "neutral"})
    assert {row["clip"]: row["emotion"] for row in index.labels}["11_film_happy_Happy"] == "neutral"
    with pytest.raises(TreeError, match="'odd' is none of the configuration's: happiness, sadness, neutral"):
        index_release(release, emotions=EMOTIONS, meaning={"puzzled": "odd"})


def test_a_release_without_labels_is_indexed_and_a_damaged_table_of_them_is_refused(release: Path) -> None:
    (release / "new_label.xlsx").write_bytes(b"PK")
    with pytest.raises(TreeError, match=r"new_label\.xlsx: cannot be read as a workbook"):
        index_release(release, emotions=EMOTIONS)
    (release / "new_label.xlsx").unlink()
    index = index_release(release, emotions=EMOTIONS)
    assert index.labels == [] and "there is no new_label.xlsx, so there are no labels" in index.notes


def test_a_tree_without_clips_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(TreeError, match=r"no video .*\.mp4"):
        index_tree(tmp_path)
    with pytest.raises(TreeError, match=r"face/set\{fold\}"):
        index_release(tmp_path, emotions=EMOTIONS)


def test_names_become_safe_ids_that_differ() -> None:
    ids = Ids()
    assert ids.of("Mädchen 1") == "Madchen_1"
    assert ids.of("Mädchen 1") == "Madchen_1"
    assert ids.of("madchen_1") == "madchen_1_2"  # file systems may not tell them apart
    assert ids.of("…") == "clip"
    assert len(ids.of("x" * 200)) == 80


def test_a_table_that_is_there_is_not_overwritten(tmp_path: Path) -> None:
    touch(tmp_path / "in/P7-film.mov")
    (tmp_path / "config").mkdir()
    (tmp_path / "config/clips.tsv").write_text("mine")
    done = run_features(tmp_path, "index", "in")
    assert done.returncode == 1 and "is there already" in done.stderr
    assert (tmp_path / "config/clips.tsv").read_text() == "mine"
