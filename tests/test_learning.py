"""Training learns what is there to learn about unseen participants, and nothing where there is nothing: minutes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from model_fixtures import EMOTIONS, Study, make_study, write_tables

from smad_models.checkpoints import load_checkpoint, read_tensors
from smad_models.dataset import open_cache, split_fold
from smad_models.face_features import embed_faces
from smad_models.folds import read_folds
from smad_models.metrics import emotion_metrics, value_metrics
from smad_models.recipe import TrainOptions
from smad_models.tasks import TASKS, predict_values
from smad_models.train import train_fold

# The published recipe with a higher rate, for 60 steps instead of 13,000.
QUICK = TrainOptions(epochs=12, learning_rate=1e-3, lstm_init="xavier")
CHANCE = {"emotion": 1 / len(EMOTIONS), "valence": 0.0, "arousal": 0.0, "intensity": 0.0}

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return make_study(tmp_path_factory.mktemp("study"), participants=20, clips=7)


@pytest.fixture(scope="module")
def features(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("features") / "fold1.safetensors"
    embed_faces(fold=1, cache=study.cache, folds=study.folds, output=path, device="cpu")
    return path


def score_held_out(study: Study, features: Path, checkpoint: Path, task: str) -> float:
    """UAR, or CCC, on the participants of fold 1, who were not trained on."""
    model, _ = load_checkpoint(checkpoint)
    rows = split_fold(open_cache(study.cache), read_folds(study.folds), 1).test
    sequences = model.inputs.sequences(*(torch.from_numpy(study.arrays[name][rows]) for name in ("eye", "gaze")))
    with torch.inference_mode():
        found = predict_values(TASKS[task], model(read_tensors(features)["features"][rows], *sequences)).numpy()
    truth = study.values[task][rows]
    if task == "emotion":
        return emotion_metrics(truth, found.argmax(axis=1))[0]["uar"] or 0.0
    return value_metrics(truth, found.astype(float))[0]["ccc"] or 0.0


@pytest.mark.parametrize("task", list(TASKS))
def test_every_task_beats_chance_on_participants_it_has_not_seen(
    study: Study, features: Path, tmp_path: Path, task: str
) -> None:
    train_fold(**study.arguments(tmp_path / "fold1", task=task, options=QUICK, face_features=features))
    # 70 held-out clips: at chance, UAR and CCC have a standard error of 0.04 and 0.12.
    assert score_held_out(study, features, tmp_path / "fold1", task) > CHANCE[task] + 0.3


@pytest.mark.parametrize("task", list(TASKS))
def test_shuffled_labels_bring_every_task_back_to_chance(
    study: Study, features: Path, tmp_path: Path, task: str
) -> None:
    order = np.random.default_rng(7).permutation(len(study.clips))
    _, labels = write_tables(tmp_path, study.clips, {name: x[order] for name, x in study.values.items()}, folds=2)
    arguments = study.arguments(tmp_path / "fold1", task=task, options=QUICK, face_features=features)
    train_fold(**arguments | {"labels": labels})
    assert abs(score_held_out(study, features, tmp_path / "fold1", task) - CHANCE[task]) < 0.25


def test_validation_and_augmentation_do_not_keep_it_from_learning(study: Study, features: Path, tmp_path: Path) -> None:
    options = TrainOptions(
        epochs=14,
        learning_rate=1e-3,
        lstm_init="xavier",
        augment=("time",),
        validation=0.2,
        select="validation",
    )
    train_fold(**study.arguments(tmp_path / "fold1", options=options, face_features=features))
    assert score_held_out(study, features, tmp_path / "fold1", "emotion") > CHANCE["emotion"] + 0.3
    assert load_checkpoint(tmp_path / "fold1")[1].scores["validation_uar"] > CHANCE["emotion"] + 0.2
