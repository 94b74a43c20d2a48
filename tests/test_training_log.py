"""What a training says: an estimate before long work, its history as JSON, and files that TensorBoard reads."""

import json
import struct
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from model_fixtures import Study, make_study

from smad_models import training_log
from smad_models.checkpoints import read_meta
from smad_models.face_features import embed_faces
from smad_models.recipe import TrainOptions
from smad_models.train import train_fold
from smad_models.training_log import TrainingLog, duration, estimate_line

OPTIONS = TrainOptions(epochs=3, batch_size=4, validation=0.3)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return make_study(tmp_path_factory.mktemp("study"), participants=8, clips=3)


@pytest.fixture(scope="module")
def features(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("features") / "fold1.safetensors"
    embed_faces(fold=1, cache=study.cache, folds=study.folds, output=path, device="cpu")
    return path


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (89, "89 s"), (90, "2 min"), (1200, "20 min"), (12_000, "3 h 20 min"), (360_000, "100 h 0 min")],
)
def test_a_duration_is_told_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_the_estimate_is_of_all_epochs_or_of_those_that_remain() -> None:
    line = estimate_line("train emotion fold 1", 200, 66, 0.909, is_rest=False)
    assert line == "train emotion fold 1: about 3 h 20 min for 200 epochs of 66 steps (0.9 s a step)"
    line = estimate_line("train emotion fold 1", 2, 50, 0.012, is_rest=True)
    assert line == "train emotion fold 1: about 1 s for the remaining 2 epochs of 50 steps (12 ms a step)"


def test_the_first_step_which_warms_up_is_not_counted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 0.0
    monkeypatch.setattr(training_log.time, "monotonic", lambda: now)
    log = TrainingLog("train", 10, 4, 100, torch.device("cpu"))
    for seconds in (60.0, *[1.0] * 20):
        now += seconds
        log.end_step(16)
    log.end()
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "train: about 10 min for the remaining 6 epochs of 100 steps (1.0 s a step)",
        "train: 80 s, 4 clips a second",  # 21 * 16 clips
    ]


def test_slow_steps_are_not_waited_for(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    monkeypatch.setattr(training_log.time, "monotonic", lambda: now)
    log = TrainingLog("train", 200, 0, 66, torch.device("cpu"))
    for _ in range(2):
        now += 30.0
        log.end_step(16)
    assert capsys.readouterr().err == "train: about 110 h 0 min for 200 epochs of 66 steps (30.0 s a step)\n"


def test_the_history_holds_every_epoch_and_the_checkpoint_no_times(
    study: Study, features: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "fold1.safetensors"
    train_fold(**study.arguments(output, options=OPTIONS, face_features=features))
    said = json.loads((tmp_path / "fold1.history.json").read_text())
    assert said["epoch"] == 3
    assert [epoch["epoch"] for epoch in said["epochs"]] == [1, 2, 3]
    for epoch in said["epochs"]:
        assert set(epoch) == {"epoch", "loss", "learning_rate", "validation", "seconds"}
        assert set(epoch["loss"]) == {"total", "invariant", "specific", "task"}
    rates = [epoch["learning_rate"] for epoch in said["epochs"]]
    assert rates == pytest.approx([1e-4, 7.5e-5, 2.5e-5])  # half a cosine, as the published scripts step it
    history = read_meta(output).history
    assert set(history) == {"total", "invariant", "specific", "task", "learning_rate", "validation_uar"}
    assert history["task"] == [epoch["loss"]["task"] for epoch in said["epochs"]]
    lines = capsys.readouterr().err
    assert "train emotion fold 1: epoch 3 of 3, task loss" in lines
    assert ", validation uar 0." in lines
    assert " clips a second" in lines
    assert "P0" not in (tmp_path / "fold1.history.json").read_text()


def test_the_history_goes_where_it_is_asked_for(study: Study, features: Path, tmp_path: Path) -> None:
    arguments = study.arguments(tmp_path / "fold1", options=TrainOptions(epochs=1), face_features=features)
    train_fold(**arguments, history=tmp_path / "there" / "h.json")
    assert (tmp_path / "there/h.json").is_file()
    assert not list(tmp_path.glob("*.json"))


def read_events(folder: Path) -> list[tuple[str, int, float]]:
    """Name, step and value of all scalars: records of a length, its checksum, a protocol buffer and its checksum."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted(folder.glob("events.out.tfevents.*")):
        content, at = path.read_bytes(), 0
        while at < len(content):
            (length,) = struct.unpack_from("<Q", content, at)
            event = Event.FromString(content[at + 12 : at + 12 + length])
            found += [(value.tag, event.step, value.simple_value) for value in event.summary.value]
            at += 16 + length
    return found


def test_tensorboard_can_read_what_was_written(study: Study, features: Path, tmp_path: Path) -> None:
    arguments = study.arguments(tmp_path / "fold1", options=OPTIONS, face_features=features)
    train_fold(**arguments, tensorboard=tmp_path / "board")
    events = read_events(tmp_path / "board/emotion_fold1")
    names = {"loss/total", "loss/invariant", "loss/specific", "loss/task", "learning_rate", "validation/uar", "seconds"}
    assert {name for name, _, _ in events} == names
    losses = [value for name, _, value in events if name == "loss/task"]
    assert losses == pytest.approx(read_meta(tmp_path / "fold1").history["task"], rel=1e-6)
    assert [step for name, step, _ in events if name == "loss/task"] == [1, 2, 3]


def test_without_the_library_the_option_is_refused_before_anything_is_trained(
    study: Study, features: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    arguments: dict[str, Any] = study.arguments(tmp_path / "fold1", options=TrainOptions(epochs=1))
    arguments["face_features"] = features
    with pytest.raises(ValueError, match=r"tensorboardX, which is not installed: `pip install tensorboardX`, or leave"):
        train_fold(**arguments | {"tensorboard": tmp_path / "board"})
    assert not list(tmp_path.iterdir())
    assert train_fold(**arguments) == "trained"
