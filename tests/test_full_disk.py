"""Where nothing more can be written, the last word is a sentence, nothing is lost, and later it ends right."""

import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from conftest import ROOT, environment, run_features, run_workflow
from small_study import configure, write_study

from smad_features.atomic import StorageError, check_writable, sweep_drafts, written_whole
from smad_features.cli import main
from smad_models.checkpoints import write_tensors
from smad_models.cli import main as models

HERE = ["--configfile", "config.yaml"]
EVERY_BYTE = "every checksum is right\n"


@contextmanager
def no_file_above(size: int) -> Iterator[None]:
    """The limit of `ulimit -f`, in bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def make_all() -> None:
    """Everything up to the cache, as the rules do it."""
    commands = [[stage, f"P{i}"] for stage in ("faces", "eyes") for i in (1, 2)]
    for command in [*commands, ["list-clips"], ["pack"]]:
        assert main([*command, *HERE]) == 0, command


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study whose crops are small, with everything made; then larger ones are asked for."""
    folder = write_study(tmp_path, size=16)
    monkeypatch.chdir(folder)
    make_all()
    configure(folder, size=112)
    return folder


@pytest.fixture
def full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of results of a study: a file system of its own, with little room."""
    results = tmp_path / "results"
    results.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1300k", "none", str(results)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"needs leave to mount a small file system: {mounted.stderr.strip()}")
    monkeypatch.chdir(tmp_path)
    yield results
    subprocess.run(["umount", "-l", str(results)], check=True)


def test_a_unit_for_which_there_is_no_room_leaves_the_old_one(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(small / "results")
    capsys.readouterr()
    with no_file_above(100_000):
        assert main(["faces", "P1", *HERE]) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("smad-features faces: results/faces/P1.zarr.zip: cannot be written: files of that size")
    assert said.endswith("what was there before is untouched: make room and run again")
    assert contents(small / "results") == before


def test_a_cache_for_which_there_is_no_room_leaves_the_old_one_and_later_it_is_packed(
    small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for participant in ("P1", "P2"):
        assert main(["faces", participant, *HERE]) == 0
    before = contents(small / "results")
    capsys.readouterr()
    with no_file_above(400_000):
        assert main(["pack", *HERE]) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("smad-features pack: results/cache.zarr: cannot be written: files of that size")
    assert contents(small / "results") == before
    assert main(["verify", *HERE]) == 0
    make_all()
    capsys.readouterr()
    assert main(["verify", *HERE]) == 0
    assert capsys.readouterr().out == EVERY_BYTE
    assert contents(small / "results") != before


def test_a_summary_for_which_there_is_no_room_leaves_the_old_cache_in_its_place(
    small: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for participant in ("P1", "P2"):
        assert main(["faces", participant, *HERE]) == 0
    before = contents(small / "results")

    def run_none(*_: object, **__: object) -> list[object]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        return []

    monkeypatch.setattr("smad_features.cache.run_tasks", run_none)  # the last step before the swap
    with no_file_above(10**9):
        assert main(["pack", *HERE]) == 1
    assert "cache.json: cannot be written" in capsys.readouterr().err
    left = contents(small / "results")
    assert {name: content for name, content in left.items() if name in before} == before
    assert main(["verify", *HERE]) == 0


def test_a_full_file_system_is_told_by_name_and_nothing_is_lost(full: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_study(full.parent, size=16)
    make_all()
    configure(folder, size=112)
    before = contents(full)
    assert main(["faces", "P1", *HERE]) == 0
    after_one = contents(full)
    assert main(["faces", "P2", *HERE]) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert "results/faces/P2.zarr.zip: cannot be written: the disk is full; what was there before is untouched" in said
    assert contents(full) == after_one
    assert after_one.keys() == before.keys()


def test_a_table_for_which_there_is_no_room_is_named(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(small / "results")
    with no_file_above(0):
        assert main(["list-clips", *HERE]) == 1
        assert models(["folds", "--count", "2"]) == 1
    one, two = capsys.readouterr().err.splitlines()[-2:]
    assert one.startswith("smad-features list-clips: results/clips.tsv: cannot be written")
    assert two.startswith("smad-models folds: results/folds.tsv: File too large; what was there")
    left = contents(small / "results")
    assert {name: left[name] for name in before} == before


def test_weights_for_which_there_is_no_room_are_named_and_leave_the_old_ones(tmp_path: Path) -> None:
    path = tmp_path / "fold1.safetensors"
    write_tensors(path, {"x": torch.zeros(3)}, {})
    before = contents(tmp_path)
    with no_file_above(20_000), pytest.raises(OSError, match="File too large") as caught:
        write_tensors(path, {"x": torch.zeros(100_000)}, {})
    assert caught.value.filename == str(path)
    assert contents(tmp_path) == before


def test_what_is_no_matter_of_room_is_raised_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError), written_whole(tmp_path / "a") as beside:
        beside.mkdir()
        beside.write_bytes(b"")


def test_a_folder_that_is_a_file_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("")
    with pytest.raises(StorageError, match=r"results/faces: cannot be written: a folder of its path is a file"):
        check_writable(tmp_path / "results/faces")


def test_a_process_killed_while_it_tries_a_folder_leaves_what_the_next_run_sweeps(tmp_path: Path) -> None:
    code = f"""
import os
from pathlib import Path
from smad_features.atomic import check_writable
Path.unlink = lambda *_, **__: os._exit(9)
check_writable(Path({str(tmp_path)!r}))
"""
    made = subprocess.run([sys.executable, "-c", code], env=environment())
    assert made.returncode == 9
    assert len(list(tmp_path.iterdir())) == 1
    sweep_drafts(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_results_that_may_not_be_written_stop_a_run_and_a_command_before_any_work(
    full: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_study(full.parent)
    subprocess.run(["mount", "-o", "remount,ro", str(full)], check=True)
    run = run_workflow(folder, "features")
    assert run.returncode != 0
    assert "results: cannot be written: the file system is read-only; " in run.output
    assert "or work in another folder (`--directory`)" in run.output
    assert run.jobs == {}
    assert "Traceback" not in run.output
    assert main(["faces", "P1", *HERE]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "results/faces: cannot be written: the file system is read-only" in said


@pytest.mark.slow
def test_a_run_that_meets_a_full_disk_says_which_file_in_its_log_and_the_next_one_ends_right(tmp_path: Path) -> None:
    folder = write_study(tmp_path)
    snakefile = ["--snakefile", str(ROOT / "workflow/Snakefile"), "--directory", str(folder)]
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "features", *snakefile]
    command += ["--configfile", str(folder / "config.yaml")]
    with no_file_above(200_000):  # its jobs inherit it
        assert subprocess.run(command, env=environment(), capture_output=True, check=False).returncode != 0
    logs = "".join(path.read_text() for path in (folder / "logs").rglob("*.log"))
    assert "zarr.zip: cannot be written: files of that size are not allowed here" in logs
    assert not list((folder / "results/faces").glob("*"))
    run = run_workflow(folder, "features")
    assert run.returncode == 0, run.output
    assert run_features(folder, "verify", *HERE).stdout == EVERY_BYTE
    assert len(list((folder / "results/faces").iterdir())) == 2
