"""A tree of files becomes tables that the workflow takes; what does not match is said."""

import csv
from pathlib import Path

import openpyxl
import pytest
from conftest import run_features

from smad_features.index import Ids, TreeError, index_release, index_tree, write_index
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
    touch(root / "P02/frames/c1/1.png", root / "P02/tobii/c1.tsv", root / "results/cache.tsv", root / ".hidden/x.mp4")
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
