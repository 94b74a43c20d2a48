"""The layout of the database's release, on people who do not exist: from folders of frames to the scoreboard."""

import re
from pathlib import Path

import cv2
import numpy as np
import openpyxl
import pandas as pd
import pytest
import xarray
import yaml
from conftest import run_features, run_workflow
from numpy.testing import assert_allclose

from smad_features import schema
from smad_features.index_release import index_release
from smad_features.recordings import read_recording
from smad_features.release_layout import FOLDER
from smad_features.synthetic import write_demo_data
from smad_features.synthetic_plan import EMOTIONS, plan_clips
from smad_features.synthetic_release import NOTICE
from smad_features.synthetic_takes import take_clips
from smad_features.video import read_frames

TASKS = ("emotion", "valence", "arousal", "intensity")
CONFIG = {
    "face": {"model": "detector"},
    "video": {"frame_rate": 20},
    "train": {"freeze_face": True, "epochs": 1, "learning_rate": 0.001},
}
CLIP = "1_film1_anger Anger"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("release")
    write_demo_data(folder, participants=2, clips_per_participant=1, seconds=1.0, layout="smead-cross")
    return folder


def test_the_release_layout_holds_frames_a_sheet_and_a_label_of_each_clip(small: Path) -> None:
    root = small / FOLDER
    frames = root / "face/set1" / CLIP
    assert sorted(path.name for path in frames.iterdir()) == sorted(f"{number}.jpg" for number in range(1, 21))
    assert NOTICE.encode() in (frames / "1.jpg").read_bytes()
    assert len(list((root / "face").glob("set2/2_film1_*"))) == 1
    book = openpyxl.load_workbook(root / "eye" / f"{CLIP}.xlsx")
    header, *rows = book.active.iter_rows(values_only=True)
    assert len(header) == 39 and header[:2] == ("Gaze point X", "Gaze point Y")
    assert all(isinstance(cell, int | float) for row in rows for cell in row)
    assert book.properties.description == NOTICE
    labels = pd.read_excel(root / "new_label.xlsx", engine="calamine")
    assert set(labels.columns) == {"ID", "Emotion", "Valence", "Arousal", "Intensity"}
    assert labels["ID"][0] == CLIP and labels["Emotion"][0] == "Anger"


def test_both_layouts_hold_the_same_people_and_signals(small: Path) -> None:
    take = next(take_clips(plan_clips(2, 1, seed=0)[:1], seconds=1.0, seed=0))
    assert take.frames is not None and take.samples is not None
    pictures = [cv2.imread(str(small / FOLDER / "face/set1" / CLIP / f"{n}.jpg"))[..., ::-1] for n in range(1, 21)]
    assert np.abs(np.array(pictures).astype(float) - np.array(list(take.frames))).mean() < 3  # JPEG loses a little
    recording = read_recording(small / FOLDER / "eye" / f"{CLIP}.xlsx")
    assert recording.kind == "SMAD sheet"
    for channel in schema.TOBII_PRO_LAB_39:
        wanted, found = take.samples.channels[channel.name], recording.channels[channel.name]
        if channel.kind != "counter":
            assert_allclose(found, wanted, atol=0.5 if channel.unit == "px" else 0.051, err_msg=channel.name)


def test_the_same_seed_gives_the_same_release_whatever_the_workers(small: Path, tmp_path: Path) -> None:
    write_demo_data(tmp_path, participants=2, clips_per_participant=1, seconds=1.0, layout="smead-cross", workers=2)
    files = [path.relative_to(small) for path in small.rglob("*") if path.is_file()]
    assert len(files) == 2 * 20 + 2 + 1 + 1
    for file in files:
        assert (small / file).read_bytes() == (tmp_path / file).read_bytes(), file


def test_frames_are_taken_in_the_order_of_their_numbers(small: Path) -> None:
    folder = small / FOLDER / "face/set1" / CLIP
    read = read_frames(folder, count=20, frame_rate=20)
    for number, picture in enumerate(read.pictures, start=1):
        wanted = cv2.imread(str(folder / f"{number}.jpg"))[..., ::-1]
        assert np.array_equal(picture, wanted), f"{number}.jpg"


def test_the_folder_and_the_one_that_holds_it_are_indexed_alike(small: Path) -> None:
    inner, outer = (index_release(folder, emotions=EMOTIONS) for folder in (small / FOLDER, small))
    assert inner == outer
    assert [row["fold"] for row in inner.clips] == [1, 2]
    assert {row["emotion"] for row in inner.labels} <= set(EMOTIONS) and len(inner.labels) == 2


@pytest.mark.slow
def test_the_release_goes_from_index_to_a_scoreboard(tmp_path: Path) -> None:
    made = run_features(
        tmp_path, "demo-data", "data", "--layout", "smead-cross",
        "--participants", "5", "--clips-per-participant", "2", "--seconds", "1",
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    indexed = run_features(tmp_path, "index", "--layout", "smead-cross", "data")
    assert indexed.returncode == 0, indexed.stderr
    assert "10 of 10 clips have a video and an eye recording" in indexed.stdout
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    checked = run_features(tmp_path, "check", "--configfile", "config.yaml")
    assert checked.returncode == 0 and "10 of these clips are labelled" in checked.stdout, checked.stderr
    run = run_workflow(tmp_path, "all")
    assert run.returncode == 0, run.output

    clips = pd.read_csv(tmp_path / "results/clips.tsv", sep="\t", keep_default_na=False)
    assert len(clips) == 10 and set(clips["status"]) == {"ok"}
    folds = pd.read_csv(tmp_path / "results/folds.tsv", sep="\t").set_index("clip")["fold"]
    for path in (tmp_path / "data" / FOLDER / "face").glob("set*/*"):
        assert folds[re.sub(r"\W", "_", path.name)] == int(path.parent.name[3:]), path.name
    cache = xarray.open_zarr(tmp_path / "results/cache.zarr", consolidated=False).load()
    assert (np.diff(cache.face_time) > 0).all() and float(cache.face_found.mean()) > 0.9
    assert 0.5 < float(cache.gaze_observed.mean()) < 1.0
    scores = pd.read_csv(tmp_path / "results/scores.tsv", sep="\t")
    assert set(scores["task"]) == set(TASKS)
    assert run_workflow(tmp_path, "all").jobs.total() == 0
