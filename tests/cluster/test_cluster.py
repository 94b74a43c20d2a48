"""The demo's features through a real SLURM of two nodes: the cache of a local run, whatever dies on the way.

Each call of Snakemake has a time limit, as several faults of a cluster are known to hang it without a word.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, Run, run_features, run_workflow
from distributed import LocalCluster
from runners import assert_same_cache, leftovers
from slurm import NODES, Slurm, lacking, running_slurm

from smad_features import cluster
from smad_features.synthetic import write_demo_data

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(lacking()), reason=f"needs SLURM and munge (Debian: slurm-wlm, munge): no {lacking()}"),
]
LIMIT = 400  # seconds
PARTICIPANTS = 4  # fewer than the profile lets share a job
CONFIG = {"clips": "data/clips.tsv", "labels": None, "face": {"model": "detector"}}  # as the demo's


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    """A cluster; its folder has a short path, for the sake of its socket."""
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder, running_slurm(Path(folder) / "c") as cluster_:
        yield cluster_


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's data, and their features as a local run on one core makes them."""
    folder = tmp_path_factory.mktemp("reference")
    write_demo_data(folder / "data", participants=PARTICIPANTS, clips_per_participant=2, seconds=1.0)
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    run = run_workflow(folder, "features", cores=1)
    assert run.returncode == 0, run.output
    return folder


@pytest.fixture
def study(reference: Path, tmp_path: Path, slurm: Slurm) -> Iterator[Path]:
    """The same data with nothing made yet, and an idle cluster."""
    shutil.copytree(reference / "data", tmp_path / "data")
    shutil.copy(reference / "config.yaml", tmp_path / "config.yaml")
    slurm.clear()
    yield tmp_path
    slurm.clear()


def begin(slurm: Slurm, folder: Path, *options: str) -> subprocess.Popen[bytes]:
    """Begin `features` through the profile; what it says goes to run.log."""
    command = [sys.executable, "-m", "snakemake", "--profile", str(ROOT / "workflow/profiles/slurm"), "features"]
    command += ["--snakefile", str(ROOT / "workflow/Snakefile"), "--directory", str(folder)]
    command += ["--configfile", str(folder / "config.yaml")]
    command += ["--slurm-init-seconds-before-status-checks", "10", *options]
    path = f"{Path(sys.executable).parent}{os.pathsep}{slurm.environment['PATH']}"
    environment = slurm.environment | {"PATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    with (folder / "run.log").open("wb") as log:
        return subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        )


def finish(run: subprocess.Popen[bytes], folder: Path) -> Run:
    """How a run ends; one that hangs is ended, and has failed."""
    try:
        code = run.wait(LIMIT)
    except subprocess.TimeoutExpired:
        run.kill()
        code = run.wait()
    return Run(code, (folder / "run.log").read_text())


def wait_for_work(slurm: Slurm, run: subprocess.Popen[bytes], folder: Path) -> list[str]:
    """The job that makes the faces, once it has made some of its units and not all: there it is held."""
    last = time.monotonic() + LIMIT
    while time.monotonic() < last and run.poll() is None:
        made = len(list((folder / "results/faces").glob("*.zarr.zip")))
        working = [job for job in slurm.jobs() if job[2] == "RUNNING" and "faces" in job[4]]
        if working and 0 < made < PARTICIPANTS:
            slurm.signal_job(working[0][0], signal.SIGSTOP)
            return working[0]
        time.sleep(0.1)
    raise AssertionError((folder / "run.log").read_text())


def assert_ended_well(run: Run, folder: Path, reference: Path) -> None:
    """Assert that a run made just what the local one made, and left nothing behind."""
    assert run.returncode == 0, run.output
    assert_same_cache(folder / "results", reference / "results")
    for table in ("clips.tsv", "quality.tsv"):
        assert (folder / "results" / table).read_bytes() == (reference / "results" / table).read_bytes()
    verified = run_features(folder, "verify", "--configfile", "config.yaml")
    assert verified.returncode == 0, verified.stdout


def assert_nothing_is_half_written(folder: Path, *, after: Run) -> None:
    """Assert that a run left no draft, or, where it lost jobs, that the next one removes theirs and makes nothing."""
    if "Trying to restart job" in after.output:
        again = run_workflow(folder, "features")
        assert "Nothing to be done" in again.output, again.output
    assert not leftovers(folder)


def test_the_profile_makes_the_cache_of_a_local_run(slurm: Slurm, study: Path, reference: Path) -> None:
    run = finish(begin(slurm, study), study)
    assert_ended_well(run, study, reference)
    assert_nothing_is_half_written(study, after=run)
    assert run.jobs == {"make_units": 3, "list_clips": 1, "quality": 1, "pack": 1}
    # Light work takes no turn in a queue.
    assert len(re.findall("has been submitted with SLURM jobid", run.output)) == 4
    again = run_workflow(study, "features", "-n")  # the next run is a local one
    assert "Nothing to be done" in again.output


def test_two_cores_and_the_workers_of_a_dask_scheduler_make_the_cache_of_one_core(study: Path, reference: Path) -> None:
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0") as workers:
        packed_by = f'dask={{scheduler: "{workers.scheduler_address}"}}'
        run = run_workflow(study, "features", "--config", packed_by, cores=2)
    assert_ended_well(run, study, reference)
    assert_nothing_is_half_written(study, after=run)
    assert json.loads((study / ".smad/config.json").read_text())["dask"]["scheduler"] == workers.scheduler_address


def test_a_job_that_is_cancelled_is_tried_again_and_makes_what_is_left(
    slurm: Slurm, study: Path, reference: Path
) -> None:
    begun = begin(slurm, study)
    slurm.ask("scancel", wait_for_work(slurm, begun, study)[0])
    run = finish(begun, study)
    assert "Trying to restart job" in run.output
    assert_ended_well(run, study, reference)
    assert_nothing_is_half_written(study, after=run)
    log = next((study / "logs/make_units/faces").glob("*.log")).read_text()
    assert "made already" in log


def test_jobs_of_a_node_that_dies_are_made_elsewhere_and_its_return_damages_nothing(
    slurm: Slurm, study: Path, reference: Path
) -> None:
    begun = begin(slurm, study)
    number, _, _, node, _ = wait_for_work(slurm, begun, study)
    slurm.kill_node(node)
    try:
        run = finish(begun, study)
        assert "Trying to restart job" in run.output
        assert_ended_well(run, study, reference)
        slurm.signal_job(number, signal.SIGCONT)  # what was believed dead goes on beside what has replaced it
        time.sleep(2)
    finally:
        slurm.start_node(node)  # and SLURM ends it
        slurm.wait_for("both nodes", slurm.has_idle_nodes)
    again = finish(begin(slurm, study), study)
    assert_ended_well(again, study, reference)
    assert_nothing_is_half_written(study, after=again)
    assert "make_units" not in again.jobs


def test_a_job_that_runs_out_of_memory_is_tried_again_with_more(slurm: Slurm, study: Path, reference: Path) -> None:
    # Snakemake alone takes more than the first attempt is given.
    options = ("--set-resources", "make_units:mem_mb=150 + 1500 * (attempt - 1)")
    run = finish(begin(slurm, study, *options), study)
    assert "Trying to restart job" in run.output
    assert_ended_well(run, study, reference)
    assert_nothing_is_half_written(study, after=run)


def test_a_run_whose_controller_was_killed_goes_on_and_its_jobs_are_cancelled(
    slurm: Slurm, study: Path, reference: Path
) -> None:
    begun = begin(slurm, study)
    number = wait_for_work(slurm, begun, study)[0]
    begun.kill()
    begun.wait()
    assert number in [job[0] for job in slurm.jobs()]  # the job lives on
    run = finish(begin(slurm, study), study)
    assert "of an earlier run are still in SLURM's queue: cancelling" in run.output
    assert number in run.output
    assert_ended_well(run, study, reference)
    assert_nothing_is_half_written(study, after=run)
    assert not (study / ".smad/on_cluster").exists()


def test_jobs_of_other_folders_and_of_other_programs_are_left_alone(
    slurm: Slurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    slurm.clear()
    for name, value in slurm.environment.items():
        monkeypatch.setenv(name, value)
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    numbers = {}
    for folder, name in ((here, "smad_1"), (here, "another"), (elsewhere, "smad_2")):
        folder.mkdir(exist_ok=True)
        command = ["sbatch", "--parsable", "--job-name", name, "--chdir", str(folder), "--output", "/dev/null"]
        numbers[name] = slurm.ask(*command, "--wrap", "sleep 300").strip()
    assert [job.number for job in cluster.leftover_jobs(here)] == [numbers["smad_1"]]
    note = here / "on_cluster"
    cluster.end_leftovers(here, note)  # no run on a cluster: nobody is asked
    assert capsys.readouterr().err == ""
    note.touch()
    cluster.end_leftovers(here, note)
    assert f"cancelling {numbers['smad_1']};" in capsys.readouterr().err
    assert not note.exists()
    assert cluster.leftover_jobs(here) == []
    assert {job[0] for job in slurm.jobs()} == {numbers["another"], numbers["smad_2"]}
    assert cluster.has_gpus()
    assert NODES[1] in slurm.ask("sinfo", "-N", "-h", "-o", "%N %G").partition("gpu")[0].split()
    slurm.clear()
