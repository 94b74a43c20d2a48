"""`smad-features doctor` as a user runs it: on this machine, and on one where everything is broken."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import environment
from fake_machine import CLUSTER, install, write_program
from small_study import write_study

from smad_features import doctor
from smad_features.findings import COMMAND, Finding

MAY_BE_FOUND_HERE = {
    *("model files", "disk", "inodes", "temporary files", "memory", "gpu", "kind of disk", "locks between machines"),
    *("python's path", "slurm", "munge", "job states", "jobs left behind", "gpu of the cluster"),
}


def run_doctor(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "smad_features.cli", "doctor", *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment() | variables, capture_output=True, text=True, check=False
    )


def test_this_machine_is_told_whole_for_people_and_for_programs(tmp_path: Path) -> None:
    write_study(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    done = run_doctor(tmp_path, "--json", "--configfile", "config.yaml")
    assert done.stderr == ""
    found = [Finding(**one) for one in json.loads(done.stdout)]
    states = {one.name: one.state for one in found}
    bad = {name: state for name, state in states.items() if state != "ok"}
    assert set(bad) <= MAY_BE_FOUND_HERE, [one for one in found if one.name in bad]
    assert done.returncode == (1 if "fault" in states.values() else 0)
    assert next(one.found for one in found if one.name == "configuration") == "config.yaml: 2 clips of 2 participants"
    assert {"python", "packages", "opencv", "mediapipe", "video codecs", "file system", "clock", "runs here"} <= set(
        states
    )
    assert sorted(tmp_path.rglob("*")) == before  # nothing is written
    assert all(one.mend for one in found if one.state in ("fault", "warning"))


def test_without_a_configuration_the_defaults_are_taken_and_that_is_said(tmp_path: Path) -> None:
    config, need, found = doctor._read_tables(tmp_path / "config.yaml")
    assert (found.state, need) == ("skipped", None)
    assert config["face"]["size"] == 112
    assert "is not there: looked at with the defaults" in found.found


@pytest.mark.parametrize(
    ("config", "table", "state", "said"),
    [
        ("{face: {sise: 3}}", None, "fault", "unknown key `face.sise`"),
        ("{clips: clips.tsv}", None, "warning", "clips.tsv is not there yet"),
        ("{clips: clips.tsv}", "clip\n1\n", "fault", "column `participant` is missing"),
    ],
)
def test_a_configuration_or_table_that_cannot_be_read_hides_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: str, table: str | None, state: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("config.yaml").write_text(config, encoding="utf-8")
    if table is not None:
        Path("clips.tsv").write_text(table, encoding="utf-8")
    values, need, found = doctor._read_tables(Path("config.yaml"))
    assert found.state == state
    assert said in found.found
    assert COMMAND in found.mend
    assert need is None
    assert values["face"]["size"] == 112


def break_machine(folder: Path) -> dict[str, str]:
    """Break all that can be broken from outside; the variables that show it to a program."""
    install(folder / "packages", "opencv-python", "4.11.0.86")
    install(folder / "packages", "mediapipe", "0.10.21")
    install(folder / "packages", "numpy", "1.26.4")
    install(
        folder / "packages", "av", "15.0.0", "raise ImportError('libavcodec.so.61: cannot open shared object file')"
    )
    (folder / "models").mkdir()
    (folder / "models" / "face_landmarker.task").write_bytes(b"<html>Access denied</html>")
    queue = f"echo '41|smad_0b5c|RUNNING|{folder}/study'; echo '42|smad_0b5c|PENDING|{folder}/study'"
    disabled = "echo 'Slurm accounting storage is disabled' >&2; exit 1"
    broken = {"squeue": queue, "sacct": disabled, "scontrol": "echo 'MinJobAge               = 5 sec'"}
    broken["sinfo"] = "echo 'work|up|1-00:00:00|2|gpu:2|idle'"
    for name, script in (CLUSTER | broken).items():
        write_program(folder / "bin", name, script)
    study = folder / "study"
    study.mkdir()
    (study / "config.yaml").write_text("{clips: clips.tsv}", encoding="utf-8")
    (study / "clips.tsv").write_text("clip,participant\na,p\n", encoding="utf-8")
    (study / ".snakemake" / "locks").mkdir(parents=True)
    (study / ".snakemake" / "locks" / "0.input.lock").touch()
    return {
        "PATH": str(folder / "bin"),
        "PYTHONPATH": str(folder / "packages"),
        "SMAD_MODELS": str(folder / "models"),
    }


def test_on_a_broken_machine_each_fault_is_told_with_what_to_type(tmp_path: Path) -> None:
    done = run_doctor(tmp_path / "study", "--configfile", "config.yaml", **break_machine(tmp_path))
    assert done.returncode == 1
    assert done.stderr == ""
    text = done.stdout
    assert "Traceback" not in text
    for said in (
        f"! python's path: PYTHONPATH puts the packages of {tmp_path}/packages before",
        "✗ programs: jobs would not get the programs of",
        "numpy 1.26.4 (want >=2)",
        "✗ opencv: 2 packages bring OpenCV, and overwrite each other",
        "✗ mediapipe: mediapipe 0.10.21 is of the old generation",
        "✗ video codecs: PyAV does not load: ImportError: libavcodec.so.61",
        "✗ configuration: clips.tsv: column `clip` is missing; found: clip,participant; is it separated by commas?",
        "(26 B) is not the landmarker model: want sha256 64184e229b",
        "! snakemake's lock: ",
        "! slurm: no partition is the default one: work (2 of 2 nodes up, with GPUs)",
        "✗ job states: SLURM forgets finished jobs too soon for squeue (MinJobAge 5 s, want 120 s), and sacct fails",
        "✗ jobs left behind: 2 jobs of an earlier run in",
        "        scancel 41 42\n",
    ):
        assert said in text, text
    assert "faults, and" in text.splitlines()[-1]
    # Jobs that were left come before anything is unlocked.
    assert text.index("scancel 41 42") < text.index("snakemake --unlock")
    # Each line that is not well is followed by what to do.
    lines = text.splitlines()
    for number, line in enumerate(lines[:-1]):
        if line.startswith(("✗", "!")):
            assert lines[number + 1].startswith("    "), line


def test_a_run_that_is_at_work_keeps_its_jobs(tmp_path: Path) -> None:
    variables = break_machine(tmp_path)
    lock = tmp_path / "study" / ".smad" / "lock"
    lock.parent.mkdir()
    lock.write_text("host login2, process 77\n", encoding="utf-8")
    with lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        done = run_doctor(tmp_path / "study", "--json", **variables)
    found = {one["name"]: one for one in json.loads(done.stdout)}
    assert found["runs here"]["state"] == "warning"
    assert "login2" in found["runs here"]["found"]
    assert found["jobs left behind"]["state"] == "ok"


LONG = Finding("disk", "fault", "word " * 40 + "end", f"{'advice ' * 30}\n{COMMAND}{'command ' * 30}end")


def test_sentences_are_wrapped_to_a_terminal_and_commands_never() -> None:
    lines = doctor.tell(LONG, width=60).splitlines()
    assert lines[0].startswith("✗ disk: word")
    assert all(len(line) <= 60 for line in lines if "command" not in line)
    assert [line for line in lines if "command" in line] == [f"        {'command ' * 30}end"]


def test_in_a_file_each_sentence_is_one_line_without_colours() -> None:
    text = doctor.tell(LONG)
    assert len(text.splitlines()) == 3
    assert "\x1b" not in text
    assert "\x1b[31m✗\x1b[0m disk" in doctor.tell(LONG, colours=True)


@pytest.mark.slow
def test_a_terminal_that_knows_only_ascii_gets_words_for_signs(tmp_path: Path) -> None:
    assert doctor.tell(LONG, signs=False).startswith("FAULT disk: ")
    done = run_doctor(tmp_path, PYTHONIOENCODING="ascii", PATH=os.defpath)
    assert "UnicodeEncodeError" not in done.stderr
    assert "OK python: " in done.stdout


def test_the_last_line_says_whether_a_run_can_start() -> None:
    def of(*states: str) -> str:
        return doctor.tell_all([Finding("x", state, "") for state in states])

    assert of("ok", "skipped") == "nothing to mend"
    assert of("ok", "warning") == "no fault; 1 warning: runs work, read what they may lack"
    assert of("fault", "fault", "warning").startswith("2 faults, and 1 warning: mend the faults from the top")
