"""Bad clips do not stop a run: each ends quarantined with its own reason, or the run is refused before it begins."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray
import yaml
from conftest import run_features, run_workflow

from smad_features.synthetic import write_demo_data

HEADER = "clip\tparticipant\tvideo\teye\n"


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good clips of two participants, and beside them what a laboratory's disk also holds."""
    folder = tmp_path_factory.mktemp("bad")
    data = folder / "data"
    write_demo_data(data, participants=2, clips_per_participant=2, seconds=1.0)
    (data / "zero.mp4").write_bytes(b"")
    (data / "text.mp4").write_text("this is no video\n" * 50)
    recording = (data / "P01/P01_C1_eye.tsv").read_bytes()
    (data / "header.tsv").write_bytes(recording.split(b"\n")[0] + b"\n")
    good = "P01/P01_C1.mp4\tP01/P01_C1_eye.tsv"
    rows = [
        f"good\tA\t{good}",
        "zero\tA\tzero.mp4\tP01/P01_C1_eye.tsv",
        "text\tA\ttext.mp4\tP01/P01_C1_eye.tsv",
        "noeye\tB\tP01/P01_C1.mp4\tnot_there.tsv",
        "header\tB\tP01/P01_C1.mp4\theader.tsv",
        "both\tB\tzero.mp4\theader.tsv",
        "facesonly\tC\tP01/P01_C2.mp4\t",
        "eyesonly\tC\t\tP02/P02_C1_eye.tsv",
        "folder\tD\tP01/P01_C1.mp4\tP01",
        "below\tD\tP01/P01_C1.mp4/x.mp4\t",
        "loop\tD\tloop.mp4\t",
    ]
    (data / "loop.mp4").symlink_to("loop.mp4")
    rows = [f"{row}\t\t" for row in rows] + ["past\tD\t\tP02/P02_C1_eye.tsv\t100\t101"]
    (data / "clips.tsv").write_text(f"{HEADER.strip()}\tstart\tend\n" + "\n".join(rows) + "\n")
    configure(folder)
    return folder


def configure(folder: Path, **settings: object) -> None:
    """Features want no labels: there are none."""
    values = {"clips": "data/clips.tsv", "face": {"model": "detector"}, **settings}
    (folder / "config.yaml").write_text(yaml.safe_dump(values))


def test_each_bad_clip_is_quarantined_with_its_own_reason_and_the_rest_completes(raw: Path) -> None:
    run = run_workflow(raw, "features")
    assert run.returncode == 0, run.output
    clips = pd.read_csv(raw / "results/clips.tsv", sep="\t", keep_default_na=False).set_index("clip")
    assert dict(clips.status) == {
        "good": "ok",
        "zero": "quarantined",
        "text": "quarantined",
        "noeye": "quarantined",
        "header": "quarantined",
        "both": "quarantined",
        "facesonly": "ok",
        "eyesonly": "ok",
        "folder": "quarantined",
        "below": "quarantined",
        "loop": "quarantined",
        "past": "quarantined",
    }
    assert clips.reason["zero"] == "video zero.mp4: the file is empty (0 bytes)"
    assert "video text.mp4: FFmpeg cannot read it as a video" in clips.reason["text"]
    assert clips.reason["noeye"] == "eye not_there.tsv: no such file"
    assert clips.reason["header"].startswith("eye header.tsv: ")
    assert "zero.mp4" in clips.reason["both"]
    assert "header.tsv" in clips.reason["both"]
    assert clips.reason["folder"] == "eye P01: it is a folder; want a file"
    assert clips.reason["below"] == "video P01/P01_C1.mp4/x.mp4: no such file"
    assert clips.reason["loop"] == "video loop.mp4: no such file"
    assert "no sample lies in the clip's span, 100 s to 101 s" in clips.reason["past"]
    assert (clips.reason[clips.status == "ok"] == "").all()
    assert (clips.face["facesonly"], clips.eye["facesonly"]) == ("ok", "missing")
    assert (clips.face["eyesonly"], clips.eye["eyesonly"]) == ("missing", "ok")

    cache = xarray.open_zarr(raw / "results/cache.zarr", consolidated=False).load()
    assert cache.attrs["clips"] == ["good", "eyesonly", "facesonly"]
    assert not cache.face[1].any()
    assert not cache.face_found[1].any()
    assert np.isnan(cache.face_time[1]).all()
    assert np.isnan(cache.eye[2]).all()
    assert np.isnan(cache.gaze[2]).all()
    assert not cache.gaze_observed[2].any()
    quality = pd.read_csv(raw / "results/quality.tsv", sep="\t").set_index("clip")
    assert len(quality) == 12
    assert quality.face_found["good"] > 0.9
    assert np.isnan(quality.face_found["zero"])


def test_a_mended_clip_comes_back(raw: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(raw, folder, symlinks=True)
    shutil.copy(folder / "data/P01/P01_C2.mp4", folder / "data/zero.mp4")
    run = run_workflow(folder, "features")
    assert run.returncode == 0, run.output
    clips = pd.read_csv(folder / "results/clips.tsv", sep="\t", keep_default_na=False).set_index("clip")
    assert clips.status["zero"] == "ok"
    assert clips.status["both"] == "quarantined"


def test_bad_clips_stay_flagged_under_keep(raw: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(raw, folder, symlinks=True)
    configure(folder, on_bad_clip="keep")
    assert run_workflow(folder, "features").returncode == 0
    clips = pd.read_csv(folder / "results/clips.tsv", sep="\t", keep_default_na=False).set_index("clip")
    assert set(clips.status) == {"ok"}
    assert (clips.face["zero"], clips.eye["header"]) == ("failed", "failed")
    assert "zero.mp4" in clips.reason["zero"]
    cache = xarray.open_zarr(folder / "results/cache.zarr", consolidated=False)
    assert len(cache.attrs["clips"]) == 12


def test_the_run_stops_before_work_under_fail_where_a_file_is_absent(raw: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(raw / "data", folder / "data", symlinks=True)
    configure(folder, on_bad_clip="fail")
    run = run_workflow(folder, "features")
    assert run.returncode != 0
    assert not run.jobs
    assert "clip noeye" in run.output
    assert "not_there.tsv" in run.output


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (["one\tA\tx.mp4\t", "one\tB\ty.mp4\t"], ["row 3", "`clip`", "'one'", "row 2"]),
        (["../../x\tA\tx.mp4\t"], ["row 2", "`clip`", "../../x", "A-Z"]),
        (["<script>alert(1)</script>\tA\tx.mp4\t"], ["row 2", "`clip`", "A-Z"]),
    ],
)
def test_a_bad_table_is_refused_before_any_job(tmp_path: Path, rows: list[str], words: list[str]) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/clips.tsv").write_text(HEADER + "\n".join(rows) + "\n")
    configure(tmp_path)
    run = run_workflow(tmp_path, "all")
    assert run.returncode != 0
    assert not run.jobs
    assert not (tmp_path / "results").exists()
    for word in words:
        assert word in run.output
    assert "Traceback" not in run.output


def test_an_unknown_key_is_refused_before_any_job(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("face: {modle: detector}\n")
    run = run_workflow(tmp_path, "all")
    assert run.returncode != 0
    assert "`face.modle`" in run.output
    assert "min_score" in run.output  # what is allowed


def test_check_says_what_the_tables_hold(raw: Path) -> None:
    said = run_features(raw, "check", "--configfile", "config.yaml")
    assert said.returncode == 0, said.stderr
    assert "12 clips of 4 participants" in said.stdout
    assert "eye: 9 named, 3 missing, 1 not there" in said.stdout


def test_a_missing_model_file_is_told_before_any_job(raw: Path, tmp_path: Path) -> None:
    shutil.copytree(raw / "data", tmp_path / "data", symlinks=True)
    configure(tmp_path, face={"model": "landmarker", "model_file": "nowhere.task"})
    run = run_workflow(tmp_path, "features")
    assert run.returncode != 0
    assert "face.model_file: nowhere.task: no such file" in run.output
    assert "face_landmarker.task" in run.output
    assert "put it at nowhere.task" in run.output
    assert not (tmp_path / "results").exists()
