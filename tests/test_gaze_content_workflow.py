"""Gaze content in the workflow: a stage of its own, where clips name a stimulus, and of nobody else."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import xarray
import yaml
from conftest import run_features, run_workflow

from smad_features.quality import CONTENT_COLUMNS

AFTER = Counter(list_clips=1, quality=1, pack=1)
CONFIG = {
    "clips": "data/clips.tsv",
    "labels": None,
    "face": {"align": "none", "frames": 2, "size": 16},
    "eye": {"columns": {"time": "t", "Gaze point X (MCSnorm)": "x", "Gaze point Y (MCSnorm)": "y"}, "steps": 4},
}
WITH = ("P1_a\tP1\tface\teye.tsv\tfilm", "P1_b\tP1\tface\teye.tsv\t", "P2_a\tP2\tface\teye.tsv\t")
WITHOUT = tuple(row.removesuffix("film") for row in WITH)


def write_table(folder: Path, rows: tuple[str, ...], **settings: object) -> None:
    (folder / "data/clips.tsv").write_text("clip\tparticipant\tvideo\teye\tstimulus\n" + "\n".join(rows) + "\n")
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG | settings))


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the features of three clips were made, of which one names a stimulus."""
    folder = tmp_path_factory.mktemp("gaze-content")
    for name, colour in (("face", 90), ("film", 200)):
        (folder / "data" / name).mkdir(parents=True)
        for n in range(5):
            cv2.imwrite(str(folder / f"data/{name}/{n}.png"), np.full((24, 32, 3), colour + n, np.uint8))
    rows = "".join(f"{n / 50}\t0.5\t0.5\n" for n in range(10))
    (folder / "data/eye.tsv").write_text(f"t\tx\ty\n{rows}")
    write_table(folder, WITH)
    run = run_workflow(folder, "features")
    assert run.returncode == 0, run.output
    assert run.jobs == Counter(extract_faces=2, resample_eyes=2, extract_gaze_content=1) + AFTER
    return folder


@pytest.fixture
def folder(done: Path, tmp_path: Path) -> Path:
    """A copy that a test may edit."""
    return shutil.copytree(done, tmp_path / "copy", symlinks=True)


def test_clips_with_a_stimulus_have_gaze_content_and_a_second_run_finds_nothing_to_do(done: Path) -> None:
    cache = xarray.open_zarr(done / "results/cache.zarr", consolidated=False).load()
    assert cache.attrs["clips"] == ["P1_a", "P1_b", "P2_a"]
    assert cache.gaze_content.dims == ("clip", "frame", "y", "x", "rgb")
    assert cache.gaze_content.dtype == "uint8"
    assert (cache.gaze_content[0, :, 8, 8, 0] == [201, 203]).all()
    assert not cache.gaze_content[1:].any()
    clips = pd.read_csv(done / "results/clips.tsv", sep="\t", keep_default_na=False)
    assert list(clips.gaze_content) == ["ok", "missing", "missing"]
    quality = pd.read_csv(done / "results/quality.tsv", sep="\t", keep_default_na=False).set_index("clip")
    assert quality.loc["P1_a", "gaze_content_found"] == "1"
    assert quality.loc["P2_a", "gaze_content_found"] == ""
    assert run_workflow(done, "features", "-n").jobs == Counter()
    status = run_features(done, "status", "--json", "--configfile", "config.yaml")
    assert status.returncode == 0
    assert '"gaze_content"' in status.stdout
    assert run_features(done, "verify", "--configfile", "config.yaml").stdout.strip() == "every checksum is right"


@pytest.mark.slow
def test_another_stimulus_or_another_offset_reruns_gaze_content_alone(folder: Path) -> None:
    shutil.copy(folder / "data/film/0.png", folder / "data/film/3.png")
    assert run_workflow(folder, "features", "-n").jobs == Counter(extract_gaze_content=1) + AFTER
    shutil.copy(folder / "data/film/4.png", folder / "data/film/3.png")
    write_table(folder, WITH, gaze={"stimulus_offset": -0.08})
    run = run_workflow(folder, "features")
    assert run.returncode == 0, run.output
    assert run.jobs == Counter(extract_gaze_content=1) + AFTER
    cache = xarray.open_zarr(folder / "results/cache.zarr", consolidated=False).load()
    assert (cache.gaze_content[0, :, 8, 8, 0] == [0, 201]).all()
    assert run_workflow(folder, "features", "-n").jobs == Counter()


@pytest.mark.slow  # several runs of the workflow
def test_a_lost_unit_is_made_again_and_a_restored_one_too(folder: Path) -> None:
    unit, eyes = (folder / f"results/{stage}/P1.zarr.zip" for stage in ("gaze_content", "eyes"))
    backup = unit.read_bytes()
    recording = folder / "data/eye.tsv"
    recording.write_text(recording.read_text().replace("0.5\t0.5", "0.25\t0.5"))
    run = run_workflow(folder, "features")
    assert run.jobs == Counter(resample_eyes=2, extract_gaze_content=1) + AFTER
    made = eyes.stat().st_mtime_ns
    unit.write_bytes(backup)
    run = run_workflow(folder, "features")
    assert run.jobs == Counter(extract_gaze_content=1) + AFTER
    assert unit.read_bytes() != backup
    unit.unlink()
    status = run_features(folder, "status", "--why", "--configfile", "config.yaml")
    assert "gaze_content of P1: not made yet" in status.stdout
    assert run_workflow(folder, "features", "-n").jobs == Counter(extract_gaze_content=1) + AFTER
    assert eyes.stat().st_mtime_ns == made


@pytest.mark.slow  # several runs of the workflow
def test_a_missing_stimulus_quarantines_its_clip_and_without_any_stimulus_there_is_no_array(folder: Path) -> None:
    (folder / "data/film").rename(folder / "data/hidden")
    run = run_workflow(folder, "features")
    assert run.returncode == 0, run.output
    assert run.jobs == Counter(extract_gaze_content=1) + AFTER
    clips = pd.read_csv(folder / "results/clips.tsv", sep="\t", keep_default_na=False).set_index("clip")
    assert clips.loc["P1_a"].to_dict() == {
        "participant": "P1", "status": "quarantined", "reason": "stimulus film: no such file", "face": "ok",
        "eye": "ok", "gaze_content": "failed",
    }  # fmt: skip
    assert clips.loc["P1_b", "status"] == "ok"
    cache = xarray.open_zarr(folder / "results/cache.zarr", consolidated=False)
    assert cache.attrs["clips"] == ["P1_b", "P2_a"]
    assert "gaze_content" not in cache  # of none of those that are left

    write_table(folder, WITH, on_bad_clip="fail")
    run = run_workflow(folder, "features")
    assert run.returncode != 0
    assert "clip P1_a: column `stimulus`: no such file" in run.output

    write_table(folder, WITHOUT)
    run = run_workflow(folder, "features")
    assert run.returncode == 0, run.output
    assert run.jobs == AFTER
    assert "gaze_content" not in xarray.open_zarr(folder / "results/cache.zarr", consolidated=False)
    for table in ("clips.tsv", "quality.tsv"):
        columns = pd.read_csv(folder / "results" / table, sep="\t").columns
        assert not set(columns) & set(CONTENT_COLUMNS)
    assert run_workflow(folder, "features", "-n").jobs == Counter()
    status = run_features(folder, "status", "--configfile", "config.yaml")
    assert status.returncode == 0
    assert "gaze_content" not in status.stdout
    by_hand = run_features(folder, "gaze-content", "P1", "--configfile", "config.yaml")
    assert by_hand.returncode == 1
    assert "no clip of participant P1 names a stimulus" in by_hand.stderr


def test_by_hand_the_other_units_must_be_there(folder: Path) -> None:
    (folder / "results/eyes/P1.zarr.zip").unlink()
    run = run_features(folder, "gaze-content", "P1", "--configfile", "config.yaml")
    assert run.returncode == 1
    assert "eyes/P1.zarr.zip: not a whole unit" in run.stderr
    assert "Traceback" not in run.stderr
