"""A training that was killed, whenever, ends with the very weights of one that was not."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import environment
from model_fixtures import Study, make_study

from smad_features.atomic import sweep_drafts
from smad_models import train
from smad_models.checkpoints import read_metadata, read_tensors, write_tensors
from smad_models.cli import main
from smad_models.face_features import embed_faces
from smad_models.recipe import TrainOptions
from smad_models.train import train_fold
from smad_models.training_state import state_path

FROZEN = ["--epochs", "8", "--validation", "0.2", "--select", "validation", "--augment", "time"]
PIXELS = ["--epochs", "4", "--batch-size", "4", "--augment", "flip,colour,time", "--accumulate", "2"]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return make_study(tmp_path_factory.mktemp("study"), participants=8, clips=3)


@pytest.fixture(scope="module")
def features(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("features") / "fold1.safetensors"
    embed_faces(fold=1, cache=study.cache, folds=study.folds, output=path, device="cpu")
    return path


def command(study: Study, output: Path, *words: str) -> list[str]:
    program = ["train", "--task", "emotion", "--fold", "1", "--device", "cpu"]
    program += ["--emotions", ",".join(study.arguments(output)["emotions"]), "--threads", "1", "--save-every", "0"]
    program += ["--cache", str(study.cache), "--folds", str(study.folds), "--labels", str(study.labels)]
    return [*program, "--output", str(output), *words]


def epochs_kept(state: Path) -> int:
    """How many epochs a state holds; 0 where there is none."""
    return len(read_metadata(state)["epochs"]) if state.exists() else 0


def stop_after(words: list[str], output: Path, epochs: int, number: int) -> subprocess.CompletedProcess[str]:
    """Run a training, and send it a signal once its state holds so many epochs."""
    program = [sys.executable, "-m", "smad_models.cli"]
    with subprocess.Popen(program + words, env=environment(), stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and epochs_kept(state_path(output)) < epochs:
            time.sleep(0.03)
        process.send_signal(number)
        said = process.communicate()[1]
    return subprocess.CompletedProcess(words, process.returncode, "", said)


def is_same(one: Path, other: Path) -> bool:
    """Whether two checkpoints are the same file, byte for byte."""
    return one.read_bytes() == other.read_bytes()


def frozen(features: Path) -> list[str]:
    return [*FROZEN, "--face-features", str(features)]


@pytest.mark.parametrize(
    ("recipe", "kills"), [("frozen", 1), pytest.param("pixels", 2, marks=pytest.mark.slow)], ids=["frozen", "pixels"]
)
def test_killed_at_any_epoch_it_ends_with_the_same_checkpoint(
    study: Study, features: Path, tmp_path: Path, recipe: str, kills: int, capsys: pytest.CaptureFixture[str]
) -> None:
    words = frozen(features) if recipe == "frozen" else PIXELS
    whole, output = tmp_path / "whole.safetensors", tmp_path / "fold1.safetensors"
    assert main(command(study, whole, *words)) == 0
    epochs = sorted(np.random.default_rng().choice(np.arange(1, int(words[1])), size=kills, replace=False).tolist())
    for epoch in epochs:  # SIGKILL: nothing can be tidied up
        killed = stop_after(command(study, output, *words), output, epoch, signal.SIGKILL)
        assert killed.returncode == -signal.SIGKILL, f"killed after {epochs}: {killed.stderr}"
        assert not output.exists()
    assert main(command(study, output, *words)) == 0
    assert "train emotion fold 1: goes on after epoch" in capsys.readouterr().err
    assert is_same(output, whole), f"killed after {epochs}"
    assert not state_path(output).exists()
    histories = [json.loads(path.with_suffix(".history.json").read_text())["epochs"] for path in (whole, output)]
    for epoch in (*histories[0], *histories[1]):
        assert epoch.pop("seconds") >= 0
    assert histories[0] == histories[1]


def test_a_training_that_is_asked_to_end_says_how_to_go_on(study: Study, features: Path, tmp_path: Path) -> None:
    output = tmp_path / "fold1.safetensors"
    stopped = stop_after(command(study, output, *frozen(features)), output, 2, signal.SIGTERM)
    assert stopped.returncode == 130
    said = f"train emotion fold 1: interrupted; the same command goes on from {state_path(output)}"
    assert said in stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert 2 <= epochs_kept(state_path(output)) <= 8


def interrupt_at(monkeypatch: pytest.MonkeyPatch, epoch: int, error: type[BaseException] = KeyboardInterrupt) -> None:
    """Stop the next training at the beginning of an epoch."""
    run = train.train_epoch

    def stopping(*arguments: Any) -> dict[str, float]:
        if arguments[6] == epoch:
            raise error
        return run(*arguments)

    monkeypatch.setattr(train, "train_epoch", stopping)


@pytest.fixture
def arguments(study: Study, features: Path, tmp_path: Path) -> dict[str, Any]:
    return study.arguments(
        tmp_path / "fold1.safetensors", face_features=features, options=TrainOptions(epochs=4), save_every=0.0
    )


@pytest.fixture
def whole(arguments: dict[str, Any], tmp_path: Path) -> Path:
    """What the training makes when nothing stops it."""
    path = tmp_path / "whole" / "fold1.safetensors"
    train_fold(**arguments | {"output": path})
    return path


def test_a_state_is_no_draft_and_holds_no_names_and_no_code(
    arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    interrupt_at(monkeypatch, 3)
    with pytest.raises(KeyboardInterrupt):
        train_fold(**arguments)
    state = state_path(arguments["output"])
    sweep_drafts(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [state.name] == ["fold1.state.safetensors"]
    metadata = read_metadata(state)
    assert len(metadata["participants"]) == 4
    assert "P01" not in str(metadata)
    assert not any(name.startswith("model/face_backbone.") for name in read_tensors(state))


def truncate(state: Path) -> None:
    state.write_bytes(state.read_bytes()[:-1000])


def flip_a_bit(state: Path) -> None:
    content = bytearray(state.read_bytes())
    content[-5000] ^= 1
    state.write_bytes(content)


def scribble(state: Path) -> None:
    state.write_bytes(b"no state")


def drop_a_tensor(state: Path) -> None:
    tensors, metadata = read_tensors(state), read_metadata(state)
    del tensors["model/eye_lstm.weight_ih_l0"]
    write_tensors(state, tensors, metadata)


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, scribble, drop_a_tensor])
def test_a_damaged_state_is_left_out_aloud(
    arguments: dict[str, Any],
    whole: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[Path], None],
) -> None:
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        interrupt_at(patched, 3)
        train_fold(**arguments)
    state = state_path(arguments["output"])
    damage(state)
    assert train_fold(**arguments) == "trained"
    assert f"{state} is damaged, and is not used" in capsys.readouterr().err
    assert is_same(arguments["output"], whole)
    assert not state.exists()


def test_a_state_of_another_training_is_left_out_aloud(
    arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], whole: Path
) -> None:
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        interrupt_at(patched, 3)
        train_fold(**arguments | {"options": TrainOptions(epochs=4, seed=1)})
    assert train_fold(**arguments) == "trained"
    assert "is of another training (another record), and is not used" in capsys.readouterr().err
    assert is_same(arguments["output"], whole)


def test_a_training_that_ended_but_for_its_checkpoint_writes_just_that(
    arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch, whole: Path
) -> None:
    def full(*_: Any) -> None:
        raise OSError("no room")

    with monkeypatch.context() as patched, pytest.raises(OSError, match="no room"):
        patched.setattr(train, "save_checkpoint", full)
        train_fold(**arguments)
    assert epochs_kept(state_path(arguments["output"])) == 4
    monkeypatch.setattr(train, "train_epoch", None)  # not called any more
    assert train_fold(**arguments) == "trained"
    assert is_same(arguments["output"], whole)


def test_a_state_is_written_no_more_often_than_asked(
    arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    interrupt_at(monkeypatch, 4)
    with pytest.raises(KeyboardInterrupt):
        train_fold(**arguments | {"save_every": 3600.0})
    assert not list(tmp_path.iterdir())
    assert "interrupted; no epoch was kept yet" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_what_is_not_finished_is_no_checkpoint(arguments: dict[str, Any], whole: Path) -> None:
    assert train_fold(**arguments) == "trained"
    state_path(arguments["output"]).write_bytes(b"left behind")
    assert train_fold(**arguments) == "unchanged"
    assert not state_path(arguments["output"]).exists()
    assert train_fold(**arguments | {"save_every": 7.0, "history": None}) == "unchanged"
