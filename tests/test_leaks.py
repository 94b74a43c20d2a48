"""The leak guard: each planted leak is refused with its own sentence, and what nobody knows is called unverifiable."""

import json
import re
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from model_fixtures import EMOTIONS, draw_arrays, draw_labels, name_clips, write_cache, write_tables

from smad_models.checkpoints import (
    Meta,
    digest_file,
    digest_value,
    hash_participants,
    make_participants_key,
    read_meta,
    read_tensors,
    write_tensors,
)
from smad_models.cli import main
from smad_models.folds import digest_folds, read_folds
from smad_models.inputs import fit_statistics

CLIPS = name_clips(9, 4)
FOLDS = 3


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache, folds, labels, checkpoints without a network, and the predictions that they are said to have made."""
    labels = draw_labels(len(CLIPS))
    write_cache(tmp_path / "cache.zarr", CLIPS, draw_arrays(labels, size=4, frames=2))
    folds, _ = write_tables(tmp_path, CLIPS, labels, folds=FOLDS)
    places = read_folds(folds)
    rows = ["clip\tparticipant\tstimulus", *(f"{c}\t{p}\tfilms/{p}.mp4" for c, p in CLIPS)]
    (tmp_path / "clips.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    for fold in range(1, FOLDS + 1):
        write_checkpoint(tmp_path, fold, trained=sorted({row.participant for row in places if row.fold != fold}))
    predict(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_checkpoint(folder: Path, fold: int, *, trained: list[str], measured: list[str] | None = None) -> None:
    """What the guard reads of a checkpoint: on whom it was trained, and statistics of those ``measured``."""
    record = {"cache": "d0", "fold": fold}
    key = make_participants_key(record)
    eye = draw_arrays(draw_labels(len(CLIPS)), size=4, frames=2)["eye"]
    whose = trained if measured is None else measured
    statistics = fit_statistics(eye[[person in whose for _, person in CLIPS]])
    meta = Meta(
        task="emotion",
        fold=fold,
        variant="discrete",
        convention="standard",
        emotions=EMOTIONS,
        channels=(),
        frames=2,
        steps=32,
        size=4,
        cache_version=1,
        participants=hash_participants(trained, key),
        participants_key=key,
        code="",
        record=record,
        history={},
    )
    tensors = {"inputs.eye_mean": statistics.mean, "inputs.eye_std": statistics.std}
    path = folder / "checkpoints" / "emotion" / f"fold{fold}.safetensors"
    write_tensors(path, {name: torch.from_numpy(x) for name, x in tensors.items()}, asdict(meta))


def predict(folder: Path, *, change: Callable[[list[dict[str, Any]]], Any] = lambda rows: rows, **record: Any) -> None:
    """Predictions of every clip, with the record that `predict` leaves."""
    places = read_folds(folder / "folds.tsv")
    rows = [
        {**row._asdict(), "prediction": EMOTIONS[n % 7], "present": "face+eye+gaze"}
        | {f"p_{name}": 0.4 if name == EMOTIONS[n % 7] else 0.1 for name in EMOTIONS}
        for n, row in enumerate(places)
    ]
    files = {str(k): folder / "checkpoints" / "emotion" / f"fold{k}.safetensors" for k in range(1, FOLDS + 1)}
    said = {
        "cache": "d0",
        "folds": digest_value(sorted(places)),
        "checkpoints": {fold: digest_file(path) for fold, path in files.items()},
        **record,
    }
    table = pa.Table.from_pylist(change(rows)).replace_schema_metadata({"smad_record": json.dumps(said)})
    pq.write_table(table, folder / "predictions.parquet")


def score(*more: str) -> int:
    """Score as a user does; the working directory holds the study."""
    words = ["score", "--task", "emotion", "--emotions", ",".join(EMOTIONS), "--labels", "labels.tsv"]
    words += ["--predictions", "predictions.parquet", "--folds", "folds.tsv", "--output", "emotion.json"]
    return main([*words, "--cache", "cache.zarr", "--checkpoints", "checkpoints", *more])


def result(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "emotion.json").read_text(encoding="utf-8"))
    return found


def test_a_fair_test_is_scored_and_has_a_certificate_and_all_it_takes_to_run_it_again(study: Path) -> None:
    assert score("--stimuli", "clips.tsv") == 0
    found = result(study)
    assert found["leaks"]["verifiable"]
    certificate = found["leaks"]["certificate"]
    assert "\n" not in certificate
    assert certificate == found["leaks"]["sentence"]
    assert certificate == (
        "No leak found: 9 participants, each in one of 3 folds; no stimulus in two folds; 3 checkpoints, trained on"
        " nobody whom they predict; input statistics computed again: of their training participants alone; 36 clips,"
        " each predicted once."
    )
    assert set(found["leaks"]["checks"].values()) == {"passed"}
    said = found["provenance"]
    assert said["cache"] == "d0"
    assert said["checkpoints"] == {
        str(k): digest_file(study / f"checkpoints/emotion/fold{k}.safetensors") for k in (1, 2, 3)
    }
    assert len(said["folds"]) == len(said["predictions"]) == len(said["labels"]) == 64
    assert {"smad", "numpy", "scikit-learn", "scipy", "Python"} <= set(said["versions"])
    assert said["seed"] == 0
    assert set(found["baselines"]) == {"majority_class", "linear"}
    before = (study / "emotion.json").read_bytes()
    (study / "emotion.json").unlink()
    assert main(re.findall(r"\S+", said["command"])[1:]) == 0  # the command that it names makes the very same file
    assert (study / "emotion.json").read_bytes() == before


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def move_a_clip(folder: Path) -> None:
    edit(folder / "folds.tsv", "P00_C1\tP00\t1", "P00_C1\tP00\t2")


def share_a_stimulus(folder: Path) -> None:
    edit(folder / "clips.tsv", "P01_C2\tP01\tfilms/P01.mp4", "P01_C2\tP01\tfilms/P00.mp4")


def train_on_the_test(folder: Path) -> None:
    write_checkpoint(folder, 1, trained=["P00", "P01", "P02", "P04", "P05", "P07", "P08"])
    predict(folder)


def measure_the_test(folder: Path) -> None:
    everyone = sorted({person for _, person in CLIPS})
    write_checkpoint(folder, 2, trained=["P00", "P02", "P03", "P05", "P06", "P08"], measured=everyone)
    predict(folder)


def measure_one_of_the_test(folder: Path) -> None:
    some = ["P00", "P02", "P03", "P05", "P06", "P08"]
    write_checkpoint(folder, 2, trained=some, measured=[*some, "P01"])
    predict(folder)


def lose_a_fold(folder: Path) -> None:
    lines = (folder / "folds.tsv").read_text(encoding="utf-8").splitlines(keepends=True)
    (folder / "folds.tsv").write_text("".join(line for line in lines if not line.endswith("\t2\n")), encoding="utf-8")


def lose_the_predictions_of_a_fold(folder: Path) -> None:
    predict(folder, change=lambda rows: [row for row in rows if row["fold"] != 3])


def predict_a_clip_twice(folder: Path) -> None:
    predict(folder, change=lambda rows: [*rows, rows[5]])


def predict_with_other_folds(folder: Path) -> None:
    predict(folder, folds="0" * 64)


def predict_from_another_cache(folder: Path) -> None:
    predict(folder, cache="another")


def train_again_after_predicting(folder: Path) -> None:
    write_checkpoint(folder, 3, trained=["P00", "P01"])


PLANTED = {
    move_a_clip: r"participant P00: in two folds, 1 \(clip P00_C0\) and 2 \(clip P00_C1\)",
    share_a_stimulus: r"stimulus films/P00\.mp4: in two folds, 1 \(clip P00_C0\) and 2 \(clip P01_C2\)",
    train_on_the_test: r"fold1\.safetensors: was trained on participant P00, whose clips it predicts in fold 1",
    measure_the_test: r"fold2\.safetensors: its input statistics are those of all clips: test clips had a part",
    measure_one_of_the_test: r"fold2\.safetensors: its input statistics are not those of whom it was trained on",
    lose_a_fold: r"fold 2 of 3 is missing: no clip stands in it",
    lose_the_predictions_of_a_fold: r"fold 3 is missing: none of its clips is predicted",
    predict_a_clip_twice: r"clip P01_C1: predicted twice, and would be scored twice",
    predict_with_other_folds: r"made with other folds than those of now",
    predict_from_another_cache: r"made from another cache \(another\) than .* \(d0\)",
    train_again_after_predicting: r"fold3\.safetensors: is another checkpoint than the one that made",
}


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_a_planted_leak_is_refused_with_its_own_sentence(
    study: Path, capsys: pytest.CaptureFixture[str], plant: Callable[[Path], None]
) -> None:
    plant(study)
    assert score("--stimuli", "clips.tsv") == 1
    said = capsys.readouterr().err
    assert [name for name, words in PLANTED.items() if re.search(words, said)] == [plant], said
    assert said.startswith("smad-models score: ")
    assert not (study / "emotion.json").exists()


def test_a_stimulus_may_stand_in_two_folds_where_nobody_asked_otherwise(study: Path) -> None:
    share_a_stimulus(study)
    assert score() == 0
    assert result(study)["leaks"]["checks"]["stimuli"] == "not asked"
    assert result(study)["leaks"]["verifiable"]


def test_a_checkpoint_of_unknown_training_is_unverifiable_and_neither_passed_nor_refused(study: Path) -> None:
    write_checkpoint(study, 2, trained=[], measured=["P00"])
    predict(study)
    assert score() == 0
    found = result(study)["leaks"]
    assert not found["verifiable"]
    assert found["certificate"] is None
    assert found["sentence"].startswith("unverifiable: nobody knows on whom the checkpoint of fold 2 was trained")
    assert found["sentence"].endswith("Neither passed nor refused.")
    assert found["checks"]["participants"] == "passed"


@pytest.mark.parametrize(
    ("change", "doubt"),
    [
        (lambda folder: pq.write_table(bare(folder), folder / "predictions.parquet"), "do not say what they were made"),
        (lambda folder: (folder / "checkpoints").rename(folder / "gone"), "fold1.safetensors is not there"),
        (lambda folder: predict(folder, checkpoints={}), "do not say which checkpoint made those of fold 1"),
    ],
)
def test_what_is_not_at_hand_is_unverifiable(study: Path, change: Callable[[Path], Any], doubt: str) -> None:
    change(study)
    assert score() == 0
    assert doubt in result(study)["leaks"]["sentence"]


def bare(folder: Path) -> pa.Table:
    return pq.read_table(folder / "predictions.parquet").replace_schema_metadata(None)


def test_statistics_of_another_cache_are_taken_from_the_checkpoints_own_record(study: Path) -> None:
    for fold in (1, 2, 3):
        path = study / f"checkpoints/emotion/fold{fold}.safetensors"
        meta = read_meta(path)
        # As one that was trained elsewhere: the hashes keep their key.
        write_tensors(path, read_tensors(path), asdict(replace(meta, record={"cache": "theirs"})))
    predict(study)
    assert score() == 0
    assert "another cache" in result(study)["leaks"]["checks"]["statistics"]
    assert result(study)["leaks"]["verifiable"]


def test_participants_who_were_set_aside_for_validation_may_be_missing_from_the_statistics(study: Path) -> None:
    for fold in (1, 2, 3):
        path = study / f"checkpoints/emotion/fold{fold}.safetensors"
        trained = [f"P0{n}" for n in range(9) if n % 3 + 1 != fold]
        write_checkpoint(study, fold, trained=trained, measured=trained[:-1])
        write_tensors(path, read_tensors(path), asdict(replace(read_meta(path), scores={"validation_uar": 0.4})))
    predict(study)
    assert score() == 0
    assert "validated on some of theirs" in result(study)["leaks"]["checks"]["statistics"]


def test_the_digest_of_folds_is_that_of_the_predictions_record_whatever_the_order(study: Path) -> None:
    places = read_folds(study / "folds.tsv")
    assert digest_folds(places) == digest_folds(places[::-1]) == digest_value(sorted(places))
    moved = [places[0]._replace(fold=places[0].fold + 1), *places[1:]]
    assert digest_folds(moved) != digest_folds(places)


def test_statistics_are_told_apart_where_one_participant_more_had_a_part() -> None:
    eye = draw_arrays(draw_labels(len(CLIPS)), size=4, frames=2)["eye"]
    some, more = (fit_statistics(eye[: 4 * people]) for people in (6, 7))
    assert np.abs((some.mean - more.mean) / some.std).max() > 1e-3
