"""The whole workflow on a few synthetic clips: what comes out, and what an edit reruns."""

import fcntl
import json
import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from subprocess import PIPE, STDOUT
from typing import Any
from zipfile import ZipFile

import numpy as np
import pandas as pd
import pytest
import xarray
import yaml
from conftest import environment, run_features, run_workflow, workflow_command

from smad_features import schema
from smad_features.synthetic import write_demo_data

TASKS = ["emotion", "valence"]
PREDICT: dict[str, Any] = {"embeddings": True, "ablate": ["gaze", "face"]}
CONFIG = {
    "clips": "data/clips.tsv",
    "labels": "data/labels.tsv",
    "annotations": "data/annotations.tsv",
    "face": {"model": "detector"},
    "tasks": TASKS,
    "folds": {"count": 2},
    "train": {"freeze_face": True, "epochs": 2, "learning_rate": 0.001},
    "predict": PREDICT,
}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the workflow ran once, from raw files to the report."""
    folder = tmp_path_factory.mktemp("workflow")
    write_demo_data(folder / "data", participants=4, clips_per_participant=3, seconds=1.0)
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    run = run_workflow(folder, "all")
    assert run.returncode == 0, run.output
    return folder


def edit(table: Path, clip: str, column: str, value: str) -> None:
    """Change one cell."""
    rows = pd.read_csv(table, sep="\t", dtype=str, keep_default_na=False).set_index("clip")
    rows.loc[clip, column] = value
    rows.to_csv(table, sep="\t")


def test_the_cache_is_as_the_contract_says(done: Path) -> None:
    cache = xarray.open_zarr(done / "results/cache.zarr", consolidated=False)
    wanted = schema.face_arrays() | schema.eye_arrays() | schema.gaze_content_arrays()
    assert set(cache.data_vars) == set(wanted)
    for name, spec in wanted.items():
        assert cache[name].dims == ("clip", *spec.dims), name
        assert cache[name].shape == (12, *spec.shape), name
        assert cache[name].dtype == spec.dtype, name
    assert cache.attrs["format"] == "smad-cache"
    assert cache.attrs["version"] == 1
    assert cache.attrs["clips"] == sorted(cache.attrs["clips"])
    assert [channel["name"] for channel in cache.attrs["channels"]] == [c.name for c in schema.TOBII_PRO_LAB_39]
    stages = ("faces", "eyes", "gaze_content")
    assert set(cache.attrs["provenance"]) == {f"{stage}/P0{i}" for stage in stages for i in range(1, 5)}


def test_the_cache_holds_faces_and_gaze(done: Path) -> None:
    cache = xarray.open_zarr(done / "results/cache.zarr", consolidated=False).load()
    assert cache.face_found.mean() > 0.95
    assert (np.diff(cache.face_time) > 0).all()
    assert float(cache.face.std(dim=["y", "x", "rgb"]).min()) > 10  # no flat picture
    assert 0.5 < float(cache.gaze_observed.mean()) < 1.0  # blinks lose samples
    assert np.isnan(cache.gaze).any() or float(cache.gaze_observed.min()) < 1.0


def test_every_file_of_the_contract_is_there(done: Path) -> None:
    results = done / "results"
    assert (results / "cache.zarr").is_symlink()
    summary = json.loads((results / "cache.json").read_text())
    assert (results / "cache.zarr").resolve().name == f"cache-{summary['digest']}.zarr"
    manifest = pd.read_csv(results / "clips.tsv", sep="\t", keep_default_na=False)
    assert list(manifest.columns) == ["clip", "participant", "status", "reason", "face", "eye", "gaze_content"]
    assert set(manifest.status) == {"ok"}
    assert len(pd.read_csv(results / "quality.tsv", sep="\t")) == 12
    folds = pd.read_csv(results / "folds.tsv", sep="\t")
    assert len(folds[["participant", "fold"]].drop_duplicates()) == 4  # nobody stands in two folds
    for task in TASKS:
        predictions = pd.read_parquet(results / "predictions" / f"{task}.parquet")
        assert list(predictions["clip"]) == list(manifest["clip"])
        assert {"participant", "fold", "prediction", "present"} <= set(predictions.columns)
        assert set(predictions.present) == {"face+eye+gaze"}
        assert len(pd.read_parquet(results / "embeddings" / f"{task}.parquet").filter(like="f").columns) >= 64
        ablations = {path.stem: pd.read_parquet(path) for path in (results / "ablations" / task).iterdir()}
        assert {name: set(table.present) for name, table in ablations.items()} == {
            "gaze": {"face+eye"},
            "face": {"eye+gaze"},
        }
        scores = json.loads((results / "scores" / f"{task}.json").read_text())
        assert set(scores["protocols"]) == {"fold", "pooled", "published"}
        assert all((results / "checkpoints" / task / f"fold{k}.safetensors").is_file() for k in (1, 2))
    assert {f"p_{name}" for name in ("happiness", "neutral")} <= set(
        pd.read_parquet(results / "predictions/emotion.parquet").columns
    )
    agreement = json.loads((results / "agreement.json").read_text())
    assert (agreement["clips"], agreement["annotations"]) == (12, 72)
    assert "P01" not in (results / "agreement.json").read_text()
    table = pd.read_csv(results / "scores.tsv", sep="\t")
    assert list(table.columns) == ["task", "protocol", "metric", "mean", "sd", "value", "lo", "hi"]
    page = (results / "report.html").read_text()
    assert "<script src" not in page
    assert "P01_C1" not in page  # single clips are derived data: off by default


@pytest.mark.slow
def test_snakemakes_own_report_holds_scores_page_and_figure_under_their_captions(done: Path) -> None:
    run = run_workflow(done, "all", "--report", "report.zip")
    assert run.returncode == 0, run.output
    with ZipFile(done / "report.zip") as archive:
        held = {name: archive.read(name) for name in archive.namelist()}
    index = held["report/report.html"].decode()
    for name, caption in (
        ("scores.tsv", "published batches of 16"),
        ("report.html", "how sure that is"),
        ("quality.svg", "how many clips have how much of a face"),
        ("agreement.json", "How far those who labelled the clips agree"),
    ):
        assert f"results/{name}" in index
        assert caption in index
    (figure,) = (content for name, content in held.items() if name.endswith("/quality.svg"))
    assert figure == (done / "results/quality.svg").read_bytes()
    assert b"P01_C1" not in b"".join(held.values())  # it is made to be passed on


def test_a_second_run_starts_no_job_even_when_a_file_was_touched(done: Path) -> None:
    (done / "data/P01/P01_C1.mp4").touch()
    (done / "data/P01/P01_C1_eye.tsv").touch()
    run = run_workflow(done, "all")
    assert run.returncode == 0
    assert run.jobs == Counter()
    assert "Nothing to be done" in run.output


def test_a_dry_run_writes_nothing_and_plans_what_a_new_recording_makes_stale(done: Path, tmp_path: Path) -> None:
    folder = copy(done, tmp_path)
    recording = folder / "data/P02/P02_C1_eye.tsv"
    times = recording.stat()
    shutil.copy(folder / "data/P03/P03_C1_eye.tsv", recording)
    os.utime(recording, ns=(times.st_atime_ns, times.st_mtime_ns))  # changed bytes under an old date: rsync -t does so
    before = snapshot(folder)
    plan = run_workflow(folder, "features", "-n")
    assert snapshot(folder) == before
    assert plan.jobs == Counter(resample_eyes=1, extract_gaze_content=1, list_clips=1, quality=1, pack=1)

    status = run_features(folder, "status", "--why", "--configfile", "config.yaml")
    assert status.returncode == 1
    assert "eyes of P02: content of `P02/P02_C1_eye.tsv` changed" in status.stdout

    run = run_workflow(folder, "features")
    assert run.returncode == 0, run.output
    assert run.jobs == plan.jobs
    log = (folder / "logs/resample_eyes/P02.log").read_text()
    assert "P02_C1: ok" in log
    assert "P02_C2: unchanged, taken over" in log
    assert features_are_fresh(folder)
    assert run_features(folder, "verify", "--configfile", "config.yaml").stdout.strip() == "every checksum is right"


def test_new_valence_labels_touch_neither_features_nor_the_emotion_task(done: Path, tmp_path: Path) -> None:
    folder = copy(done, tmp_path)
    edit(folder / "data/labels.tsv", "P01_C1", "valence", "0.123")
    assert run_workflow(folder, "all", "-n").jobs == Counter(
        train_model=2, predict=1, score=1, tabulate_scores=1, report=1
    )


@pytest.mark.slow
def test_a_new_annotation_reruns_the_agreement_and_the_report_of_it(done: Path, tmp_path: Path) -> None:
    folder = copy(done, tmp_path)
    table = folder / "data/annotations.tsv"
    header, *rows = table.read_text().splitlines(keepends=True)
    table.write_text(header + "".join(rows[::-1]) + "elsewhere\texpert1\texpert\tfear\t1\t0\t0\n")
    assert run_workflow(folder, "all", "-n").jobs == Counter()  # another order, and a clip that is not in the table
    table.write_text(header + "".join(rows[1:]))
    run = run_workflow(folder, "all")
    assert run.returncode == 0, run.output
    assert run.jobs == Counter(agreement=1, report=1)
    assert json.loads((folder / "results/agreement.json").read_text())["annotations"] == 71
    assert run_workflow(folder, "all", "-n").jobs == Counter()
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG | {"annotations": None}))
    assert run_workflow(folder, "all", "-n").jobs == Counter(report=1)  # which loses a section
    refused = run_workflow(folder, "results/agreement.json", "-n")
    assert refused.returncode != 0
    assert "`annotations: null`: name a table of annotations to have their agreement" in refused.output


def test_an_eye_setting_touches_no_video(done: Path, tmp_path: Path) -> None:
    folder = copy(done, tmp_path)
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG | {"eye": {"max_gap": 0.05}}))
    jobs = run_workflow(folder, "features", "-n").jobs
    assert jobs == Counter(resample_eyes=4, extract_gaze_content=4, list_clips=1, quality=1, pack=1)


@pytest.mark.slow
def test_a_unit_restored_from_a_backup_is_made_again(done: Path, tmp_path: Path) -> None:
    folder = copy(done, tmp_path)
    unit = folder / "results/eyes/P01.zarr.zip"
    backup = unit.read_bytes()
    shutil.copy(folder / "data/P03/P03_C1_eye.tsv", folder / "data/P01/P01_C1_eye.tsv")
    assert run_workflow(folder, "features").returncode == 0
    good = unit.read_bytes()
    unit.write_bytes(backup)
    assert run_workflow(folder, "features").jobs["resample_eyes"] == 1
    assert len(unit.read_bytes()) == len(good)
    assert features_are_fresh(folder)


def test_a_lost_or_damaged_unit_is_made_again(done: Path, tmp_path: Path) -> None:
    folder = copy(done, tmp_path)
    (folder / "results/eyes/P01.zarr.zip").unlink()
    damaged = folder / "results/faces/P02.zarr.zip"
    damaged.write_bytes(damaged.read_bytes()[:5000])
    (folder / "results/clips.tsv").unlink()
    assert run_features(folder, "status", "--configfile", "config.yaml").returncode == 1
    run = run_workflow(folder, "features")
    assert run.returncode == 0, run.output
    units = Counter(extract_faces=1, resample_eyes=1, extract_gaze_content=2)
    assert run.jobs == units + Counter(list_clips=1, quality=1, pack=1)
    assert features_are_fresh(folder)


def test_an_error_in_planning_is_never_taken_for_nothing_to_do(done: Path, tmp_path: Path) -> None:
    folder = copy(done, tmp_path)
    settings = CONFIG | {"face": {"model": "detector", "margin": 0.3, "model_file": "nowhere.tflite"}}
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    run = run_workflow(folder, "features")
    assert run.returncode != 0
    assert "nowhere.tflite: no such file" in run.output
    given = CONFIG | {"checkpoints": "nowhere"}
    (folder / "config.yaml").write_text(yaml.safe_dump(given))
    run = run_workflow(folder, "all")
    assert run.returncode != 0
    assert "needs a column `fold`" in run.output


@pytest.mark.slow
def test_who_comes_back_from_quarantine_keeps_the_fold(done: Path, tmp_path: Path) -> None:
    folder = copy(done, tmp_path)
    before = (folder / "results/folds.tsv").read_text()
    hidden = folder / "hidden"
    hidden.mkdir()
    for participant in ("P01", "P02"):
        (folder / "data" / participant).rename(hidden / participant)
    assert run_workflow(folder, "results/folds.tsv").returncode == 0
    assert "P01" not in (folder / "results/folds.tsv").read_text()
    for participant in ("P01", "P02"):
        (hidden / participant).rename(folder / "data" / participant)
    assert run_workflow(folder, "results/folds.tsv").returncode == 0
    assert (folder / "results/folds.tsv").read_text() == before


@pytest.mark.slow
def test_given_checkpoints_are_never_trained_over_and_count_by_content(done: Path, tmp_path: Path) -> None:
    folder = copy(done, tmp_path)
    shutil.copytree(folder / "results/checkpoints", folder / "given")
    folds = pd.read_csv(folder / "results/folds.tsv", sep="\t").set_index("clip")["fold"]
    clips = pd.read_csv(folder / "data/clips.tsv", sep="\t", dtype=str, keep_default_na=False)
    clips["fold"] = clips["clip"].map(folds)
    clips.to_csv(folder / "data/clips.tsv", sep="\t", index=False)
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG | {"checkpoints": "given"}))
    run = run_workflow(folder, "all")
    assert run.returncode == 0, run.output
    assert not {"train_model", "embed_faces"} & set(run.jobs)
    (folder / "given/emotion/fold1.safetensors").touch()
    assert run_workflow(folder, "all", "-n").jobs == Counter()
    one, other = (folder / f"given/valence/fold{k}.safetensors" for k in (1, 2))
    date = one.stat().st_mtime_ns
    one.write_bytes(other.read_bytes())
    os.utime(one, ns=(date, date))
    assert run_workflow(folder, "all", "-n").jobs == Counter(predict=1, score=1, tabulate_scores=1, report=1)
    one.unlink()
    run = run_workflow(folder, "all")
    assert run.returncode != 0
    assert "given/valence/fold1.safetensors" in run.output


def test_a_removed_clip_leaves_the_cache_and_another_run_finds_nothing_to_do(done: Path, tmp_path: Path) -> None:
    folder = copy(done, tmp_path)
    table = folder / "data/clips.tsv"
    rows = table.read_text().splitlines(keepends=True)
    table.write_text("".join(row for row in rows if not row.startswith("P04_C2\t")))
    assert run_workflow(folder, "features").returncode == 0
    assert len(json.loads((folder / "results/cache.json").read_text())["clips"]) == 11
    assert run_workflow(folder, "features").jobs == Counter()


def test_a_lost_store_is_packed_again(done: Path, tmp_path: Path) -> None:
    folder = copy(done, tmp_path)
    shutil.rmtree((folder / "results/cache.zarr").resolve())
    run = run_workflow(folder, "features")
    assert run.returncode == 0, run.output
    assert run.jobs == Counter(pack=1)
    assert (folder / "results/cache.zarr/zarr.json").is_file()


def test_a_second_run_beside_the_first_is_refused_by_name(done: Path, tmp_path: Path) -> None:
    from smad_features.turns import hold_lock

    folder = copy(done, tmp_path)
    with hold_lock(folder / ".smad/lock"):
        run = run_workflow(folder, "all")
    assert run.returncode != 0
    assert f"process {os.getpid()}" in run.output


def features_are_fresh(folder: Path) -> bool:
    """All up to the cache, as `status` sees it."""
    status = json.loads(run_features(folder, "status", "--json", "--configfile", "config.yaml").stdout)
    features = ("faces", "eyes", "gaze_content", "list_clips", "quality", "pack")
    return {state for stage in features for state in status["stages"][stage]} == {"fresh"}


def change_label(folder: Path) -> None:
    edit(folder / "data/labels.tsv", "P01_C1", "valence", "0.123")


def change_annotation(folder: Path) -> None:
    table = folder / "data/annotations.tsv"
    header, *rows = table.read_text().splitlines(keepends=True)
    table.write_text(header + "".join(rows[1:]))


def change_recording(folder: Path) -> None:
    shutil.copy(folder / "data/P03/P03_C1_eye.tsv", folder / "data/P02/P02_C1_eye.tsv")


def change_training(folder: Path) -> None:
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG | {"train": CONFIG["train"] | {"epochs": 3}}))


def change_polarity(folder: Path) -> None:
    polarity = {"happiness": "positive", "neutral": "neutral", "anger": "negative"}
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG | {"score": {"polarity": polarity}}))


def ask_for_stimuli_apart(folder: Path) -> None:
    apart = {"count": 2, "disjoint": ["participant", "stimulus"]}
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG | {"folds": apart}))


def change_precision(folder: Path) -> None:
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG | {"predict": PREDICT | {"precision": "tf32"}}))


def change_speed(folder: Path) -> None:
    speed: dict[str, Any] = {"batch_size": 5, "compile": True, "ablate": ["face", "gaze"]}
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG | {"predict": PREDICT | speed}))


def ablate_more(folder: Path) -> None:
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG | {"predict": {"ablate": ["eye", "face", "gaze"]}}))


def lose_embeddings(folder: Path) -> None:
    (folder / "results/embeddings/valence.parquet").unlink()


def remove_clip(folder: Path) -> None:
    table = folder / "data/clips.tsv"
    rows = table.read_text().splitlines(keepends=True)
    table.write_text("".join(row for row in rows if not row.startswith("P04_C2\t")))


def lose_report(folder: Path) -> None:
    (folder / "results/report.html").unlink()


def lose_store(folder: Path) -> None:
    shutil.rmtree((folder / "results/cache.zarr").resolve())


def lose_notes(folder: Path) -> None:
    shutil.rmtree(folder / ".smad")


def put_back_a_checkpoint(folder: Path) -> None:
    made = folder / "results/checkpoints/valence/fold1.safetensors"
    content = made.read_bytes()
    digest = json.loads((folder / "results/cache.json").read_text())["digest"]
    assert digest.encode() in content
    made.write_bytes(content.replace(digest.encode(), digest[::-1].encode()))  # as one of another cache


RULES = {"faces": "extract_faces", "eyes": "resample_eyes", "gaze_content": "extract_gaze_content"}


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (change_label, "results/checkpoints/valence/fold1.safetensors: labels of `valence` changed"),
        (change_annotation, "results/agreement.json: content of `annotations` changed"),
        (change_recording, "eyes of P02: content of `P02/P02_C1_eye.tsv` changed"),
        (change_training, "results/checkpoints/emotion/fold2.safetensors: setting `train.epochs`: 2 -> 3"),
        (
            change_polarity,
            "results/scores/emotion.json: setting `score.polarity`: None -> {'anger': 'negative', "
            "'happiness': 'positive', 'neutral': 'neutral'}",
        ),
        (
            ask_for_stimuli_apart,
            "results/folds.tsv: setting `folds.disjoint`: ['participant'] -> ['participant', 'stimulus']",
        ),
        (change_precision, "results/predictions/emotion.parquet: setting `predict.precision`: fp32 -> tf32"),
        (change_speed, None),
        (ablate_more, "results/predictions/valence.parquet: results/ablations/valence/eye.parquet is not there"),
        (lose_embeddings, "results/predictions/valence.parquet: results/embeddings/valence.parquet is not there"),
        (remove_clip, "faces of P04: clip P04_C2 was removed"),
        (lose_report, "results/report.html: not made yet"),
        (lose_store, "results/cache.json: it does not belong to `results/cache.zarr`"),
        (put_back_a_checkpoint, "results/checkpoints/valence/fold1.safetensors: it is another than was made last"),
        (lose_notes, None),
    ],
)
def test_status_names_the_cause_and_the_very_jobs_of_a_dry_run(
    done: Path, tmp_path: Path, change: Callable[[Path], None], cause: str | None
) -> None:
    folder = copy(done, tmp_path)
    change(folder)
    found = run_features(folder, "status", "--json", "--configfile", "config.yaml")
    status = json.loads(found.stdout)
    assert cause in [*status["why"], None]
    planned = run_workflow(folder, "all", "-n").jobs
    assert Counter(RULES.get(stage, stage) for stage, _ in status["jobs"]) == planned
    assert found.returncode == (1 if planned else 0)


def test_a_killed_run_leaves_nothing_that_the_next_one_does_not_clear_away(done: Path, tmp_path: Path) -> None:
    folder = copy(done, tmp_path)
    ours = [folder / "results/faces/.P01.zarr.zip.4711.tmp", folder / "results/checkpoints/.fold1.safetensors.12.tmp"]
    theirs = [folder / "results/.notes.tmp", folder / "results/P01.tmp"]
    for file in ours + theirs:
        file.write_text("half")
    with (folder / ".smad/jobs.lock").open() as left_at_work:  # as a job of the killed run holds it
        fcntl.flock(left_at_work, fcntl.LOCK_SH)
        command = workflow_command(folder, "all")
        run = subprocess.Popen(command, env=environment(), cwd=folder, stdout=PIPE, stderr=STDOUT, text=True)
        assert run.stdout is not None
        waits = next(line for line in run.stdout if "jobs of an earlier run are still at work" in line)
        assert str(folder) in waits
        assert run.poll() is None
    output = run.communicate()[0]
    assert "Nothing to be done" in output, output
    assert run.returncode == 0
    assert [file.exists() for file in ours + theirs] == [False, False, True, True]


def copy(done: Path, to: Path) -> Path:
    """The finished folder elsewhere, to be edited."""
    folder = to / "copy"
    shutil.copytree(done, folder, symlinks=True)
    return folder


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of all files that are the user's or ours; Snakemake's own notes aside."""
    files = [path for path in folder.rglob("*") if path.is_file() and ".snakemake" not in path.parts]
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in files}
