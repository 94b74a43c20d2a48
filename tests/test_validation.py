"""Which epoch is kept, who chooses it, and that the held-out fold never does."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from model_fixtures import EMOTIONS, Study, make_study

from smad_models import recipe, train
from smad_models.checkpoints import load_checkpoint, read_meta, read_tensors
from smad_models.dataset import Split, open_cache, split_fold
from smad_models.face_features import embed_faces
from smad_models.folds import read_folds
from smad_models.inputs import fit_statistics
from smad_models.metrics import emotion_metrics, value_metrics
from smad_models.recipe import TrainOptions
from smad_models.tasks import TASKS
from smad_models.train import train_fold
from smad_models.training_state import Progress, is_better
from smad_models.validation import Validation, choose_participants, score_epoch

TRAINING = tuple(f"P{i:02d}" for i in range(1, 20, 2))  # of fold 1, where the even ones are held out
CHOSEN = TrainOptions(epochs=3, validation_participants=("P01", "P07"), select="validation")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return make_study(tmp_path_factory.mktemp("study"), participants=20, clips=2)


@pytest.fixture(scope="module")
def features(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("features") / "fold1.safetensors"
    embed_faces(fold=1, cache=study.cache, folds=study.folds, output=path, device="cpu")
    return path


@pytest.fixture
def split(study: Study) -> Split:
    return split_fold(open_cache(study.cache), read_folds(study.folds), 1)


def plant_epochs(monkeypatch: pytest.MonkeyPatch, scores: list[float]) -> list[dict[str, torch.Tensor]]:
    """Give the epochs these scores; the weights after each of them are collected in the list that is returned."""
    seen: list[dict[str, torch.Tensor]] = []
    predict = recipe.predict_clips

    def look(model: Any, *others: Any) -> np.ndarray:
        seen.append({name: x.clone() for name, x in model.state_dict().items()})
        return predict(model, *others)

    monkeypatch.setattr(train, "predict_clips", look)
    monkeypatch.setattr(train, "score_epoch", lambda *_: scores[len(seen) - 1])
    return seen


def test_a_fraction_of_the_training_participants_is_drawn_by_the_seed_alone(split: Split) -> None:
    drawn = choose_participants(split, fraction=0.3, named=(), seed=0)
    assert len(drawn) == 3
    assert set(drawn) < set(TRAINING)
    assert choose_participants(split, fraction=0.3, named=(), seed=0) == drawn
    assert len({choose_participants(split, fraction=0.3, named=(), seed=seed) for seed in range(8)}) > 4
    assert len(choose_participants(split, fraction=0.01, named=(), seed=0)) == 1
    assert choose_participants(split, fraction=0.0, named=(), seed=0) == ()


@pytest.mark.parametrize(
    ("fraction", "named", "message"),
    [
        (0.0, ("P01", "P04"), "P04 is in the held-out fold: its clips are what the scores are made of"),
        (0.0, ("P99",), "P99 is none of P01, P03"),
        (0.3, ("P01",), "not both"),
        (1.0, (), "from 0 to below 1, got 1"),
        (0.99, (), "all 10 training participants are set aside"),
        (0.0, TRAINING, "all 10 training participants are set aside"),
    ],
)
def test_who_cannot_be_set_aside_is_refused_by_name(
    split: Split, fraction: float, named: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        choose_participants(split, fraction=fraction, named=named, seed=0)


def test_a_held_out_participant_who_is_named_chooses_no_epoch(study: Study, features: Path, tmp_path: Path) -> None:
    options = TrainOptions(epochs=1, validation_participants=("P04",), select="validation")
    with pytest.raises(ValueError, match="P04 is in the held-out fold"):
        train_fold(**study.arguments(tmp_path / "fold1.safetensors", face_features=features, options=options))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("leak", ["rows", "participants", "trained"])
def test_a_leak_into_the_validation_clips_is_refused_where_epochs_are_chosen(
    study: Study, features: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, leak: str
) -> None:
    make = train.make_validation

    def leaking(task: Any, cache: Any, split: Split, *, rows: Any, values: Any, trained: np.ndarray) -> Validation:
        if leak == "rows":  # clips of the held-out fold
            rows = split.test[: len(rows)]
        elif leak == "trained":  # of those who are trained on
            rows = trained[: len(rows)]
        found = make(task, cache, split, rows=rows, values=values, trained=trained)
        if leak == "participants":  # rows that are said to be of the training side, and are of a held-out participant
            held_out = Split(np.arange(40), split.test, split.training_participants, ("P01", *split.test_participants))
            return Validation(found.rows, found.truth, found.trained, held_out, found.participants)
        return found

    monkeypatch.setattr(train, "make_validation", leaking)
    message = {
        "rows": "participant P00 is among the validation clips, but not on the training side",
        "participants": "participant P01 is in the held-out fold, which may not choose an epoch",
        "trained": "validation participant P03 is trained on too",
    }[leak]
    with pytest.raises(ValueError, match=message):
        train_fold(**study.arguments(tmp_path / "fold1.safetensors", face_features=features, options=CHOSEN))
    assert not list(tmp_path.iterdir())


def test_the_epoch_with_the_best_score_is_kept_and_of_equals_the_earlier_one(
    study: Study, features: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "fold1.safetensors"
    seen = plant_epochs(monkeypatch, [0.2, 0.5, 0.5])
    train_fold(**study.arguments(output, face_features=features, options=CHOSEN))
    kept = read_tensors(output)
    assert all(torch.equal(kept[name], seen[1][name]) for name in kept)
    assert not torch.equal(kept["eye_lstm.weight_ih_l0"], seen[2]["eye_lstm.weight_ih_l0"])
    meta = read_meta(output)
    assert meta.scores == {"validation_uar": 0.5}
    assert meta.history["validation_uar"] == [0.2, 0.5, 0.5]
    assert json.loads((tmp_path / "fold1.history.json").read_text())["epoch"] == 2


def test_the_last_epoch_is_kept_where_nothing_else_is_asked_for(
    study: Study, features: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = plant_epochs(monkeypatch, [0.9, 0.5, 0.1])
    options = TrainOptions(epochs=3, validation=0.2)
    train_fold(**study.arguments(tmp_path / "fold1", face_features=features, options=options))
    kept = read_tensors(tmp_path / "fold1")
    assert all(torch.equal(kept[name], seen[2][name]) for name in kept)
    assert read_meta(tmp_path / "fold1").scores == {"validation_uar": 0.1}


def test_a_score_that_is_none_keeps_no_epoch() -> None:
    progress = Progress()
    assert not is_better(progress, float("nan"), "ccc")
    progress.epochs, progress.best = [{"validation": {"ccc": -0.5}}], 1
    assert is_better(progress, -0.4, "ccc")
    assert not is_better(progress, -0.5, "ccc")
    assert not is_better(progress, float("nan"), "ccc")


def test_statistics_and_losses_are_of_those_who_are_trained_on(study: Study, features: Path, tmp_path: Path) -> None:
    train_fold(**study.arguments(tmp_path / "fold1", face_features=features, options=CHOSEN))
    model, meta = load_checkpoint(tmp_path / "fold1")
    trained = [i for i, (_, who) in enumerate(study.clips) if who in TRAINING and who not in ("P01", "P07")]
    want = fit_statistics(study.arrays["eye"][trained])
    np.testing.assert_array_equal(model.inputs.eye_mean.numpy(), want.mean)
    assert meta.knows("P01")  # whoever chose the epoch is not unseen
    said = json.loads((tmp_path / "fold1.history.json").read_text())
    assert said["participants"] == {"training": 8, "validation": 2}
    assert said["clips"] == {"training": 16, "validation": 4}


def test_the_score_in_training_is_the_one_that_predictions_get(study: Study, features: Path, tmp_path: Path) -> None:
    for task, measure in (("emotion", emotion_metrics), ("valence", value_metrics)):
        output = tmp_path / task
        train_fold(**study.arguments(output, task=task, face_features=features, options=CHOSEN))
        model, meta = load_checkpoint(output)
        rows = [i for i, (_, who) in enumerate(study.clips) if who in ("P01", "P07")]
        sequences = model.inputs.sequences(*(torch.from_numpy(study.arrays[name][rows]) for name in ("eye", "gaze")))
        with torch.inference_mode():
            found = model(read_tensors(features)["features"][rows], *sequences)
        predicted = found.emotion.argmax(dim=1) if task == "emotion" else found.value[:, 0].double()
        name = "uar" if task == "emotion" else "ccc"
        want = measure(study.values[task][rows].round(6), predicted.numpy())[0][name]
        assert meta.scores[f"validation_{name}"] == pytest.approx(want, abs=1e-6)


def test_the_two_scores_are_those_of_the_benchmark(split: Split) -> None:
    rng = np.random.default_rng(0)
    nobody = np.array([], dtype=np.int64)
    participants = open_participants(split)
    truth, logits = rng.integers(0, 4, 30), rng.normal(size=(30, len(EMOTIONS)))
    rows = np.resize(split.training, 30)
    emotion = Validation(rows, truth, nobody, split, participants)
    want = emotion_metrics(truth, logits.argmax(axis=1))[0]["uar"]
    assert score_epoch(TASKS["emotion"], emotion, logits) == pytest.approx(want)
    truth, predicted = rng.normal(size=(2, 30))
    value = Validation(rows, truth, nobody, split, participants)
    assert score_epoch(TASKS["arousal"], value, predicted) == pytest.approx(value_metrics(truth, predicted)[0]["ccc"])


def open_participants(split: Split) -> tuple[str, ...]:
    return tuple(f"P{row // 2:02d}" for row in range(len(split.training) + len(split.test)))


def test_clips_that_cannot_tell_epochs_apart_are_refused(study: Study, features: Path, tmp_path: Path) -> None:
    text = study.labels.read_text().splitlines()
    cells = [line.split("\t") for line in text]
    for row in cells:
        if row[0].startswith("P01_"):
            row[1:] = ["neutral", "1", "0.5", ""]
    labels = tmp_path / "labels.tsv"
    labels.write_text("".join("\t".join(row) + "\n" for row in cells))
    options = TrainOptions(epochs=1, validation_participants=("P01",))
    arguments = study.arguments(tmp_path / "fold1", face_features=features, options=options, labels=labels)
    with pytest.raises(ValueError, match=r"all 2 validation clips have valence 0\.5"):
        train_fold(**arguments | {"task": "valence"})
    with pytest.raises(ValueError, match="no clip of the validation participants has all of arousal"):
        train_fold(**arguments | {"task": "arousal"})


def test_choosing_an_epoch_without_anybody_set_aside_is_refused(study: Study, features: Path, tmp_path: Path) -> None:
    options = TrainOptions(epochs=1, select="validation")
    with pytest.raises(ValueError, match="no participants are set aside for validation, and the held-out fold may not"):
        train_fold(**study.arguments(tmp_path / "fold1", face_features=features, options=options))
