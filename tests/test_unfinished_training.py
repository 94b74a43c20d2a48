"""A training that was stopped inside the workflow: what stays, what goes on, what is not stale, what is erased."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
import yaml
from conftest import environment, run_workflow, workflow_command

from smad_features.config import complete_config
from smad_features.fingerprints import Fingerprints
from smad_features.forget import erase
from smad_features.later_stages import LATER_STAGES, Later
from smad_features.remains import Person, find_remains
from smad_features.synthetic import write_demo_data
from smad_models.checkpoints import hash_participants, make_participants_key, write_tensors

CONFIG = {
    "clips": "data/clips.tsv",
    "labels": "data/labels.tsv",
    "face": {"model": "detector"},
    "tasks": ["valence"],
    "folds": {"count": 2},
    "train": {"freeze_face": True, "epochs": 120, "save_every": 0},
}


def record(tmp_path: Path, **train: object) -> object:
    later = Later([], complete_config({"labels": None, "train": train}), Fingerprints(tmp_path / "prints.sqlite"))
    return later._settings("train_model", "emotion") | later._contents("train_model", "emotion")


def test_settings_that_change_no_number_make_no_training_stale(tmp_path: Path) -> None:
    before = record(tmp_path)
    assert record(tmp_path, save_every=5, tensorboard="board") == before
    for name, value in {
        "validation": 0.2,
        "select": "validation",
        "augment": ["flip"],
        "precision": "bf16",
        "accumulate": 2,
        "deterministic": False,
        "loss_weights": [0.01, 0.01, 1],
        "backbone": "imagenet",
    }.items():
        assert record(tmp_path, **{name: value}) != before, name


def test_all_code_that_trains_makes_trainings_stale() -> None:
    listed = set(LATER_STAGES["train_model"].modules)
    # The first only speaks, folds are made by the time of the second, and any card computes the same.
    idle = {"smad_models.training_log", "smad_models.stimuli", "smad_models.cards"}
    folder = Path(__file__).resolve().parents[1] / "smad_models"
    waiting, seen = ["train"], set()
    while waiting:
        name = waiting.pop()
        if name in seen or not (folder / f"{name}.py").exists():
            continue
        seen.add(name)
        text = (folder / f"{name}.py").read_text(encoding="utf-8")
        waiting += re.findall(r"^from smad_models\.(\w+) import", text, flags=re.M)
    assert {f"smad_models.{name}" for name in seen} - listed == idle


def write_state(path: Path, *participants: str) -> None:
    key = make_participants_key({"cache": "d0"})
    facts = {"participants": hash_participants(participants, key), "participants_key": key}
    write_tensors(path, {"model/weight": torch.zeros(2)}, facts)


def test_an_unfinished_training_on_a_person_is_erased_with_the_person(tmp_path: Path) -> None:
    folder = tmp_path / "results/checkpoints/emotion"
    states = [folder / f"fold{k}.state.safetensors" for k in (1, 2, 3)]
    write_state(states[0], "P01", "P04")
    write_state(states[1], "P01", "P040")
    states[2].write_bytes(b"half")
    write_tensors(folder / "fold1.safetensors", {"weight": torch.zeros(2)}, {"task": "emotion"})
    person = Person("P04", frozenset({"P04_C1"}))
    remains = find_remains(person, checkpoints=None, folder=tmp_path)
    assert {remain.path: remain.what for remain in remains} == {
        states[0]: "an unfinished training on the person",
        states[2]: "an unfinished training that cannot be read",
    }
    erase(remains, person)
    assert sorted(folder.iterdir()) == [folder / "fold1.safetensors", states[1]]


def trainings_in(folder: Path) -> list[int]:
    """The processes that train in a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words, cwd = (process / "cmdline").read_bytes(), (process / "cwd").readlink()
        except OSError:  # it has ended, or is another user's
            continue
        if b"smad-models" in words and b"train" in words and cwd == folder:
            found.append(int(process.name))
    return found


@pytest.mark.slow
def test_a_job_that_was_killed_leaves_its_state_to_the_next_one(tmp_path: Path) -> None:
    write_demo_data(tmp_path / "data", participants=4, clips_per_participant=3, seconds=1.0)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    target = "results/checkpoints/valence/fold1.safetensors"
    state = tmp_path / "results/checkpoints/valence/fold1.state.safetensors"
    words = workflow_command(tmp_path, target, cores=1)
    for number in (signal.SIGTERM, signal.SIGKILL):  # to the job alone, then to the whole run
        run = subprocess.Popen(
            words, env=environment(), cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        before = state.stat().st_mtime_ns if state.exists() else 0
        while run.poll() is None and (not state.exists() or state.stat().st_mtime_ns == before):
            time.sleep(0.05)
        assert run.poll() is None
        if number == signal.SIGKILL:
            run.kill()
        for process in trainings_in(tmp_path):
            os.kill(process, number)
        assert run.wait() != 0
        assert state.exists()
        assert not (tmp_path / target).exists()
    done = run_workflow(tmp_path, target)
    assert done.returncode == 0, done.output
    log = (tmp_path / "logs/train_model/valence/fold1.log").read_text()
    assert re.search(r"train valence fold 1: goes on after epoch \d+, from", log), log
    assert not state.exists()
    assert run_workflow(tmp_path, target).jobs == {}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(CONFIG | {"train": CONFIG["train"] | {"save_every": 9}}))
    assert run_workflow(tmp_path, target).jobs == {}
