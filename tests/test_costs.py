"""What jobs ask of a cluster: something of everything in each rule, by their input, more when they are tried again."""

import errno
import fcntl
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT, environment, workflow_command
from small_study import write_study

from smad_features import turns
from smad_features.config import complete_config, read_said
from smad_features.costs import Needs, job_needs, training_needs

RULES = {
    name: body
    for path in sorted((ROOT / "workflow/rules").glob("*.smk"))
    for name, body in re.findall(r"^ *rule (\w+):\n(.*?)(?=^ *rule |\Z)", path.read_text(), re.MULTILINE | re.DOTALL)
}


@pytest.mark.parametrize("name", RULES)
def test_every_rule_states_its_threads_memory_time_and_disk(name: str) -> None:
    for wanted in ("threads:", "mem_mb=", "runtime=", "disk_mb="):
        assert wanted in RULES[name]


def test_a_job_asks_for_more_the_larger_its_input_and_with_each_attempt() -> None:
    # 1,500 MiB and 5 % of 4 GiB; 120 s, 10 s for each of 70 clips, half a second for each MiB; by hand.
    assert job_needs("extract_faces", clips=70, size=4 << 30) == Needs(mem_mb=1800, runtime=48, disk_mb=300)
    assert job_needs("extract_faces", clips=70, size=4 << 30, attempt=3) == Needs(mem_mb=5400, runtime=144, disk_mb=300)
    assert job_needs("resample_eyes", clips=1, size=1000).runtime == 10  # never less


def test_a_training_asks_by_its_epochs_clips_and_batches_and_for_less_time_on_a_gpu() -> None:
    on_gpu, on_cpu = (
        training_needs(clips=1000, epochs=200, batch_size=16, is_frozen=False, has_gpu=gpu) for gpu in (True, False)
    )
    assert on_cpu == Needs(mem_mb=4300, runtime=1671, disk_mb=600)  # 240 s and half a second 200,000 times
    assert on_gpu == Needs(mem_mb=4300, runtime=38, disk_mb=600)


@pytest.mark.parametrize(("said", "asked"), [("1", "gpu=1"), ("0", "gpu=0")])
def test_networks_ask_for_a_gpu_where_there_is_one(tmp_path: Path, said: str, asked: str) -> None:
    write_study(tmp_path, participants=4)
    labels = "clip\temotion\tintensity\tvalence\tarousal\n"
    (tmp_path / "labels.tsv").write_text(labels + "".join(f"P{i}_C1\tneutral\t1\t0.5\t0.5\n" for i in range(1, 5)))
    config = yaml.safe_load((tmp_path / "config.yaml").read_text())
    config |= {"labels": "labels.tsv", "tasks": ["valence"], "folds": {"count": 2}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    command = workflow_command(tmp_path, "all", "-n")
    done = subprocess.run(
        command, env=environment() | {"SMAD_GPUS": said}, capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    blocks = re.split(r"\n(?=(?:local)?rule )", done.stdout + done.stderr)
    trainings = [block for block in blocks if block.startswith("rule train_model:")]
    assert len(trainings) == 2
    assert all(asked in re.split(r"[ ,]+", re.findall("resources: (.*)", block)[0]) for block in trainings)


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ({"run": {"participants_per_job": "8"}}, {"run": {"participants_per_job": 8}}),
        ({"run": {"participants_per_job": "null"}}, {"run": {"participants_per_job": None}}),
        ({"face": {"margin": "0.25", "model": "detector"}}, {"face": {"margin": 0.25, "model": "detector"}}),
        ({"cache": {"mode": "0640"}}, {"cache": {"mode": "0640"}}),  # text, and so left as it is
        ({"train": {"freeze_face": "true"}}, {"train": {"freeze_face": True}}),
        ({"clips": "2020"}, {"clips": "2020"}),
    ],
)
def test_what_is_said_on_the_command_line_is_read_as_its_key_wants_it(
    said: dict[str, Any], read: dict[str, Any]
) -> None:
    assert read_said(said) == read
    assert complete_config(read)


def test_where_a_file_system_knows_no_locks_that_is_said_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with turns.hold_lock(tmp_path / "lock") as lock:
        turns.wait_for_jobs(tmp_path / "jobs.lock")
        assert not lock.closed
    assert "this file system knows no locks (No locks available), so nothing keeps a second run" in (
        capsys.readouterr().err
    )
