"""What `doctor` says of a cluster, by what SLURM's programs answer; they are stand-ins here, and answer as told."""

from __future__ import annotations

import fcntl
import json
import shutil
import time
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from fake_machine import CLUSTER, only_programs

from smad_features import doctor_nodes
from smad_features.doctor_slurm import FIRST_WAIT, check_slurm
from smad_features.findings import COMMAND, Answer, Finding

INSTALLED = {"av": "18.1.0", "numpy": "2.4.6"}


def commands(finding: Finding) -> list[str]:
    return [line.removeprefix(COMMAND) for line in finding.mend.splitlines() if line.startswith(COMMAND)]


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A cluster that is well, but for the programs that are given; gives what is found of it, by name."""

    def look(*, without: tuple[str, ...] = (), is_run_held: bool = False, torch: str | None = None, **other: str):
        shutil.rmtree(tmp_path / "bin", ignore_errors=True)
        programs = {name: script for name, script in (CLUSTER | other).items() if name not in without}
        only_programs(tmp_path / "bin", monkeypatch, **programs)
        study = tmp_path / "study"
        study.mkdir(exist_ok=True)
        found = check_slurm(study, is_run_held=is_run_held, cpu_torch=torch, install=f"do:\n{COMMAND}pip install x")
        return {one.name: one for one in found}

    return look


def test_a_machine_without_slurm_is_no_broken_one(cluster) -> None:
    found = cluster(without=tuple(CLUSTER))
    assert found["slurm"].state == "skipped"
    assert len(found) == 1


def test_a_cluster_that_is_well_has_nothing_to_mend(cluster) -> None:
    found = cluster()
    assert {name: one.state for name, one in found.items()} == {
        "slurm": "ok", "job states": "ok", "jobs left behind": "ok"
    }  # fmt: skip
    assert "partitions: work (2 of 2 nodes up); default: work" in found["slurm"].found


def test_half_a_client_is_told_by_what_is_missing(cluster) -> None:
    found = cluster(without=("srun", "scancel"))
    assert found["slurm"].state == "fault"
    assert "not found: scancel, srun" in found["slurm"].found


def test_a_client_that_was_told_of_no_cluster_hinders_no_run_here(cluster) -> None:
    found = cluster(scontrol="echo 'scontrol: fatal: Could not establish a configuration source' >&2; exit 1")
    assert found["slurm"].state == "warning"
    assert commands(found["slurm"]) == ["export SLURM_CONF=/path/to/slurm.conf"]


def test_a_controller_that_is_away_is_a_fault_in_its_own_words(
    cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = "slurm_load_ctl_conf error: Unable to contact slurm controller (connect failure)"
    found = cluster(scontrol=f"echo '{away}' >&2; exit 1")
    assert found["slurm"].state == "fault"
    assert "Unable to contact slurm controller" in found["slurm"].found
    assert commands(found["slurm"]) == ["scontrol ping"]
    assert "munge" not in found  # this client does without
    dead = munge("Success (0)") | {"scontrol": f"echo '{away}' >&2; exit 1", "munge": "echo 'no munged' >&2; exit 6"}
    assert "no munged" in cluster(**dead)["munge"].found  # the likely cause, told beside it
    (tmp_path / "slurm.conf").write_text("AuthType=auth/none\n", encoding="utf-8")
    monkeypatch.setenv("SLURM_CONF", str(tmp_path / "slurm.conf"))
    assert "munge" not in cluster(**dead)


def sinfo(*lines: str) -> str:
    return "; ".join(f"echo '{line}'" for line in lines)


def test_partitions_without_a_default_are_named_with_the_line_that_picks_one(cluster) -> None:
    found = cluster(sinfo=sinfo("long|up|10-00:00:00|4|(null)|mixed", "gpu|up|1-00:00:00|1|gpu:a100:4(S:0-1)|idle"))
    assert found["slurm"].state == "warning"
    assert "long (4 of 4 nodes up), gpu (1 of 1 node up, with GPUs)" in found["slurm"].found
    assert commands(found["slurm"]) == ["- slurm_partition=long"]


def test_a_cluster_without_a_node_that_is_up_is_a_fault(cluster) -> None:
    found = cluster(sinfo=sinfo("work*|up|1:00|2|(null)|down*", "rest|inact|1:00|1|(null)|idle"))
    assert found["slurm"].state == "fault"
    assert commands(found["slurm"]) == ["sinfo -R"]
    found = cluster(sinfo=sinfo("work*|up|1:00|2|(null)|drained", "rest|up|1:00|1|(null)|idle"))
    assert found["slurm"].state == "warning"
    assert "no node of the default partition work is up" in found["slurm"].found
    assert commands(found["slurm"]) == ["- slurm_partition=rest"]
    assert cluster(sinfo="exit 0")["slurm"].state == "fault"


def test_a_cluster_with_gpus_and_a_torch_without_are_told(cluster) -> None:
    found = cluster(torch="2.13.0+cpu", sinfo=sinfo("work*|up|1:00|2|gpu:2|idle"))
    assert found["gpu of the cluster"].state == "warning"
    assert "torch 2.13.0+cpu is a CPU build" in found["gpu of the cluster"].found
    assert commands(found["gpu of the cluster"]) == ["pip install x"]
    assert "gpu of the cluster" not in cluster(torch="2.13.0+cpu")


FAILS = "echo 'Slurm accounting storage is disabled' >&2; exit 1"


def test_without_accounting_squeue_will_do_and_what_does_not_is_told(cluster) -> None:
    found = cluster(sacct=FAILS)
    assert found["job states"].state == "ok"
    assert "--slurm-status-command squeue" in found["job states"].found


def test_a_short_memory_of_jobs_is_worse_without_accounting(cluster) -> None:
    short = "echo 'MinJobAge               = 30 sec'"
    found = cluster(scontrol=short)["job states"]
    assert found.state == "warning"
    assert "MinJobAge 30 s, want 120 s" in found.found
    assert commands(found) == ["MinJobAge=300"]
    found = cluster(scontrol=short, sacct=FAILS)["job states"]
    assert found.state == "fault"
    assert "sacct fails: Slurm accounting storage is disabled" in found.found
    assert "wait for ever" in found.mend
    assert commands(found)[1].startswith("sbatch ")
    found = cluster(scontrol=short, without=("sacct",))["job states"]
    assert found.state == "warning"
    assert "may miss that a job has ended" in found.mend
    found = cluster(scontrol="echo 'MinJobAge               = 90 sec'", sacct=FAILS)["job states"]
    assert found.state == "warning"  # squeue is asked all the same


def test_the_first_wait_is_that_of_the_profile() -> None:
    profile = yaml.safe_load((ROOT / "workflow/profiles/slurm/profile.yaml").read_text(encoding="utf-8"))
    assert profile["slurm-init-seconds-before-status-checks"] == FIRST_WAIT
    assert profile["slurm-status-command"] == "squeue"


@pytest.mark.parametrize("spelt", ["300 sec", "1h", "3600", "119", "120 sec", "2 hours"])
def test_the_memory_of_jobs_is_read_as_the_plugin_reads_it(cluster, spelt: str) -> None:
    # What the plugin itself would say at its start, with its own first wait.
    query = pytest.importorskip("snakemake_executor_plugin_slurm.job_status_query")
    found = cluster(scontrol=f"echo 'MinJobAge               = {spelt}'")["job states"]
    assert (found.state == "ok") == query.should_recommend_squeue_status_command()


def munge(status: str) -> dict[str, str]:
    settings = "echo 'AuthType                = auth/munge'; echo 'MinJobAge               = 300 sec'"
    return {
        "scontrol": settings,
        "munge": "echo MUNGE:AwQF:",
        "unmunge": f"read line; echo 'STATUS:          {status}'",
    }


def test_munge_is_tried_out(cluster) -> None:
    assert cluster(**munge("Success (0)"))["munge"].state == "ok"
    found = cluster(**munge("Expired credential (15)"))["munge"]
    assert found.state == "fault"
    assert "Expired credential (15)" in found.found
    assert commands(found)[-1] == "munge -n | unmunge"
    own = munge("Success (0)") | {"munge": 'test "$2" = --socket=/own/socket && echo MUNGE:AwQF:'}
    assert cluster(**own)["munge"].state == "fault"
    own["scontrol"] += "; echo 'AuthInfo                = socket=/own/socket,cred_expire=20'"
    assert cluster(**own)["munge"].state == "ok"
    no_socket = munge("") | {"munge": "echo 'munge: Error: Failed to access \"/run/munge/munge.socket.2\"' >&2; exit 6"}
    assert "Failed to access" in cluster(**no_socket)["munge"].found


def queue(tmp_path: Path) -> str:
    return sinfo(
        f"41|smad_0b5c-11ee|RUNNING|{tmp_path}/study",
        f"42_[3-5]|smad_0b5c-11ee|PENDING|{tmp_path}/study",
        f"42_1|smad_0b5c-11ee|RUNNING|{tmp_path}/study",
        f"43|smad_77aa|RUNNING|{tmp_path}/other",
        f"44|interactive|RUNNING|{tmp_path}/study",
    )


def test_jobs_that_a_killed_run_left_in_the_queue_are_a_fault_with_the_line_that_cancels_them(
    cluster, tmp_path: Path
) -> None:
    found = cluster(squeue=queue(tmp_path))["jobs left behind"]
    assert found.state == "fault"
    assert f"3 jobs of an earlier run in {tmp_path}/study in SLURM's queue (1 PENDING, 2 RUNNING)" in found.found
    assert commands(found) == ["scancel 41 42", "squeue -h -j 41,42"]


def test_jobs_of_a_run_that_is_at_work_are_no_leftovers(cluster, tmp_path: Path) -> None:
    found = cluster(squeue=queue(tmp_path), is_run_held=True)["jobs left behind"]
    assert found.state == "ok"
    assert "3 jobs in SLURM's queue" in found.found


def test_a_queue_that_cannot_be_read_is_no_empty_one(cluster) -> None:
    found = cluster(squeue="echo 'slurm_load_jobs error: Unable to contact' >&2; exit 1")["jobs left behind"]
    assert found.state == "fault"
    assert "Unable to contact" in found.found


# ---- the nodes


def node(answer: dict | str, *, status: int = 0, error: str = "", late: float = 0.0) -> list[Finding]:
    now = time.time()
    if isinstance(answer, dict):
        whole = {"time": now + late, "sees": True, "lock": "refused", "versions": INSTALLED, "python": "3.11.7"}
        answer = json.dumps(whole | answer)
    return list(
        doctor_nodes.judge_node(
            "n7", Answer(status, answer, error), (now - 1, now), folder=Path("/data/study"), installed=INSTALLED,
            python="/home/x/.venv/bin/python",
        )
    )  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "state", "said"),
    [
        ("no folder", "fault", "/data/study is not there"),
        ("no python", "fault", "/home/x/.venv/bin/python is not there"),
        ("Segmentation fault", "fault", "no answer that can be read: 'Segmentation fault'"),
        ({"sees": False}, "fault", "it does not see the files of /data/study"),
        ({"lock": "given"}, "warning", "it gives away a lock that this machine holds"),
        ({"lock": "[Errno 37] No locks available"}, "warning", "it cannot lock files: [Errno 37] No locks available"),
        ({"versions": {"av": "17.0.0", "numpy": None}}, "fault", "av 17.0.0 (here 18.1.0), numpy missing (here 2.4.6)"),
    ],
)
def test_what_a_node_has_otherwise_is_told_by_its_name(answer: dict | str, state: str, said: str) -> None:
    [found] = node(answer)
    assert (found.name, found.state) == ("node n7", state)
    assert said in found.found
    assert found.mend


@pytest.mark.parametrize(("late", "state"), [(0.5, None), (4.0, "warning"), (-4.0, "warning"), (600.0, "fault")])
def test_a_nodes_clock_that_is_off_is_told(late: float, state: str | None) -> None:
    found = node({}, late=late)
    assert [one.state for one in found] == ([] if state is None else [state])
    if late == 600.0:
        assert "600 s ahead of this machine's" in found[0].found
        assert commands(found[0]) == ["srun -w n7 timedatectl"]


def test_a_node_that_is_busy_is_not_a_broken_one() -> None:
    [found] = node("", status=1, error="srun: error: Unable to allocate resources: Requested nodes are busy")
    assert found.state == "warning"
    assert "Requested nodes are busy" in found.found
    assert commands(found) == ["scontrol show node n7"]


# Does what the real one does with the rest of its words, on this machine.
SRUN = 'while [ "${1#--}" != "$1" ]; do shift; done; exec "$@"'


def test_nodes_are_asked_by_srun_and_their_answers_are_this_machines_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from smad_features.doctor_packages import installed_packages

    only_programs(tmp_path / "bin", monkeypatch, **CLUSTER | {"srun": SRUN})
    study = tmp_path / "a study"
    study.mkdir()
    found = doctor_nodes.check_nodes(study, installed=installed_packages())
    assert [(one.name, one.state) for one in found] == [("nodes", "ok")], found
    assert "2 nodes (n1, n2)" in found[0].found
    assert list(study.iterdir()) == []
    found = doctor_nodes.check_nodes(study, installed=installed_packages() | {"numpy": "1.0"}, python="/no/python")
    assert [one.found for one in found] == ["/no/python is not there"] * 2


def test_a_partition_without_nodes_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only_programs(tmp_path / "bin", monkeypatch, **CLUSTER | {"sinfo": ":"})
    [found] = doctor_nodes.check_nodes(tmp_path, partition="quick", installed={})
    assert found.state == "fault"
    assert "no node of partition quick" in found.found


def test_the_lock_that_nodes_try_is_one_that_flock_knows(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        text = doctor_nodes.ask(["python3", "-c", doctor_nodes._ANSWER, str(tmp_path), "numpy"]).output
    said = json.loads(text)
    assert (said["sees"], said["lock"]) == (True, "refused")
