"""Jobs that make the units of several participants: dealt out, made, resumed, and refused where a node is another."""

import json
import subprocess
import time
from pathlib import Path

import pytest
from conftest import run_features, run_workflow
from runners import assert_same_cache, begin_workflow, ended, kill_group, leftovers
from small_study import configure, write_study

from smad_features.config import load_config
from smad_features.fingerprints import Fingerprints
from smad_features.freshness import PlannedUnit, common_path, plan_units, unit_path, write_common
from smad_features.manifest import read_clips
from smad_features.shared_jobs import deal_out, read_list, write_list

SHARED = ("--config", "run={participants_per_job: 2}")


def plan(folder: Path) -> list[PlannedUnit]:
    """The units of a study as they should be and as they are."""
    config = load_config(folder / "config.yaml")
    return plan_units(read_clips(folder / config["clips"]), config, Fingerprints(None), results=folder / "results")


def write_jobs(folder: Path, *, per_job: int = 3) -> dict[str, Path]:
    """The list of the first job of each stage, as a run would write it."""
    jobs = deal_out(plan(folder), run="0f", per_job=per_job)
    return {job.stage: write_list(job, folder=folder / ".smad/jobs") for job in reversed(jobs)}


def test_stale_units_are_spread_evenly_over_jobs_and_fresh_ones_are_in_none(tmp_path: Path) -> None:
    write_study(tmp_path, participants=5)
    jobs = deal_out(plan(tmp_path), run="0f", per_job=3)
    assert [(job.stage, job.name, list(job.digests)) for job in jobs] == [
        ("faces", "0f-0001", ["P1", "P2"]),
        ("faces", "0f-0002", ["P3", "P4", "P5"]),
        ("eyes", "0f-0001", ["P1", "P2"]),
        ("eyes", "0f-0002", ["P3", "P4", "P5"]),
    ]
    for path in write_jobs(tmp_path, per_job=5).values():
        stage = path.parent.name
        assert run_features(tmp_path, stage, "--configfile", "config.yaml", "--list", str(path)).returncode == 0
    assert deal_out(plan(tmp_path), run="1f", per_job=3) == []
    unit_path("eyes", "P4", results=tmp_path / "results").unlink()
    assert [(job.stage, list(job.digests)) for job in deal_out(plan(tmp_path), run="1f", per_job=3)] == [
        ("eyes", ["P4"])
    ]


def test_a_job_that_is_tried_again_makes_only_what_is_not_made_yet(tmp_path: Path) -> None:
    write_study(tmp_path, participants=3)
    path = write_jobs(tmp_path)["faces"]
    command = ("faces", "--configfile", "config.yaml", "--list", str(path))
    assert run_features(tmp_path, *command).returncode == 0
    unit = unit_path("faces", "P2", results=tmp_path / "results")
    before = {who: unit_path("faces", who, results=tmp_path / "results").stat().st_mtime_ns for who in ("P1", "P3")}
    unit.unlink()
    again = run_features(tmp_path, *command)
    assert again.returncode == 0
    assert [line for line in again.stderr.splitlines() if "made already" in line] == [
        "faces: participant P1: made already",
        "faces: participant P3: made already",
    ]
    assert unit.exists()
    assert before == {who: unit_path("faces", who, results=tmp_path / "results").stat().st_mtime_ns for who in before}


def test_one_participant_that_cannot_be_made_holds_up_no_other_of_the_job(tmp_path: Path) -> None:
    write_study(tmp_path, participants=3)
    path = write_jobs(tmp_path)["faces"]
    digests = read_list(path)
    path.write_text("".join(f"{who}\t{'0' * 32 if who == 'P1' else key}\n" for who, key in digests.items()))
    done = run_features(tmp_path, "faces", "--configfile", "config.yaml", "--list", str(path))
    assert done.returncode == 1
    assert "participant P1: a source, setting or library is not what it was when this run began" in done.stderr
    assert sorted(unit.name for unit in (tmp_path / "results/faces").iterdir()) == ["P2.zarr.zip", "P3.zarr.zip"]


def test_a_node_with_another_library_is_named_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_study(tmp_path, participants=2)
    path = write_jobs(tmp_path)["faces"]
    monkeypatch.chdir(tmp_path)
    write_common(plan(tmp_path))
    planned = json.loads(common_path("faces").read_text())
    version = planned["libraries"]["av"]
    planned["libraries"]["av"] = "1.2.3"
    common_path("faces").write_text(json.dumps(planned))
    done = run_features(tmp_path, "faces", "--configfile", "config.yaml", "--list", str(path))
    assert done.returncode == 1
    assert f"is not as this run was planned: library av: 1.2.3 -> {version}" in done.stderr
    assert not (tmp_path / "results").exists()


def test_a_job_that_an_earlier_run_left_in_a_queue_finds_its_list_gone_and_touches_nothing(tmp_path: Path) -> None:
    write_study(tmp_path)
    done = run_features(tmp_path, "faces", "--configfile", "config.yaml", "--list", ".smad/jobs/faces/0f-0001.tsv")
    assert done.returncode == 1
    assert "smad-features faces: .smad/jobs/faces/0f-0001.tsv: no such list: this job belongs to a run" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_shared_jobs_make_the_same_cache_and_what_follows_one_edit_is_one_job(tmp_path: Path) -> None:
    shared, alone = (write_study(tmp_path / name, participants=5, clips=2) for name in ("shared", "alone"))
    for folder, options in ((shared, SHARED), (alone, ())):
        assert run_workflow(folder, "features", *options).returncode == 0
    assert_same_cache(shared / "results", alone / "results")
    assert "Nothing to be done" in run_workflow(shared, "features", *SHARED, "-n").output
    assert "Nothing to be done" in run_workflow(shared, "features", "-n").output  # and without them

    for folder in (shared, alone):
        (folder / "raw/P3_C1/0.png").write_bytes((folder / "raw/P3_C2/0.png").read_bytes())
    edited = run_workflow(shared, "features", *SHARED)
    assert edited.jobs == {"make_units": 1, "list_clips": 1, "quality": 1, "pack": 1}
    assert run_workflow(alone, "features").returncode == 0
    assert_same_cache(shared / "results", alone / "results")

    configure(shared, size=64)
    assert run_workflow(shared, "features", *SHARED, "-n").jobs["make_units"] == 3  # faces alone


@pytest.mark.slow
def test_a_run_of_shared_jobs_that_is_killed_anywhere_ends_in_the_same_cache(tmp_path: Path) -> None:
    whole = write_study(tmp_path / "whole", participants=5, clips=2, run={"participants_per_job": 2})
    begun = time.monotonic()
    assert ended(begin_workflow(whole), whole).code == 0
    seconds = time.monotonic() - begun
    for number in range(1, 6):
        folder = write_study(tmp_path / str(number), participants=5, clips=2, run={"participants_per_job": 2})
        run = begin_workflow(folder)
        try:
            run.wait(seconds * (0.15 + 0.15 * number))
        except subprocess.TimeoutExpired:
            kill_group(run)
        again = ended(begin_workflow(folder), folder)
        assert again.code == 0, again.said
        assert_same_cache(folder / "results", whole / "results")
        assert not leftovers(folder)
