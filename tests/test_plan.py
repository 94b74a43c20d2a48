"""What `plan` says of a build before it begins: by hand-computed numbers, and beside what a build then makes."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, environment, run_workflow
from small_study import configure, write_study

from smad_features import machine, plan_commands, schema
from smad_features.cli import main
from smad_features.machine import look_at_machine
from smad_features.manifest import Clip
from smad_features.pilot import _last_word, choose
from smad_features.plan import (
    PilotClip,
    Rate,
    UnitToMake,
    cache_size,
    cores_that_fit,
    dealt_out,
    estimate,
    group_size,
    makespan,
    submissions,
)
from smad_features.plan_faults import in_time

HERE = ["--configfile", "config.yaml"]
# A second a job, one and three seconds a clip of 10 and 30 bytes, on one processor in 100 bytes of memory.
RATE = Rate(1.0, (PilotClip("a", 1.0, 10), PilotClip("b", 3.0, 30)), 1.0, memory=100, rows=2, unit=50, row=10)


def paths(folder: Path) -> dict[str, bytes]:
    """Every file and folder, with its content."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b""
        for path in sorted(folder.rglob("*"))
    }


def planned(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> dict[str, Any]:
    """What `plan --json` says in the current folder."""
    capsys.readouterr()
    assert main(["plan", *HERE, "--json", *arguments]) == code
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two clips each of three participants; the folder where temporary files go is empty, and beside it."""
    folder = tmp_path / "study"
    folder.mkdir()
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.chdir(write_study(folder, participants=3, clips=2))
    return folder


# ---- by hand


def test_jobs_begin_as_cores_are_free() -> None:
    assert makespan([3, 3, 2], cores=2) == 5
    assert makespan([3, 3, 2], cores=3) == 3
    assert makespan([], cores=2) == 0


def test_time_follows_what_the_pilot_shows_that_it_follows() -> None:
    assert RATE.by_size
    assert RATE.seconds([10, 40]) == pytest.approx((6, 6, 6))  # 0.1 s a byte, whichever clip is asked
    alike = replace(RATE, clips=(PilotClip("a", 1.0, 10), PilotClip("b", 2.0, 1000)))
    assert not alike.by_size
    assert alike.seconds([10, 40]) == pytest.approx((3, 4, 5))
    assert not replace(RATE, clips=RATE.clips[:1]).by_size  # one clip shows nothing


def test_an_estimate_is_the_sum_that_a_person_would_make() -> None:
    units = {"faces": [UnitToMake("P1", 3, (10, 20)), UnitToMake("P2", 1, (30,), replaced=40)], "eyes": []}
    specs = schema.face_arrays(frames=1, size=16)
    found = estimate(units, {"faces": RATE}, specs, cores=2, participants=2, clips=4, last_jobs=[], kept=7)
    (faces,) = found.stages
    assert (faces.jobs, faces.clips) == (2, 3)
    assert faces.work == pytest.approx((8, 8, 8))  # two jobs of a second and 3 s
    assert faces.units == (50 + 3 * 10) + (50 + 10)
    assert faces.memory == 100 + 4 * 10  # one clip more than in the pilot, four times over
    assert found.memory == 2 * faces.memory
    assert found.disk["units to make"] == 140
    assert found.disk["units that stay"] == 7
    # 2 s, 2 ms a participant, 20 ms a job, and then two jobs side by side
    assert found.seconds == pytest.approx((6.044, 6.044, 6.044))
    assert cores_that_fit(found, memory=300) == 2
    assert cores_that_fit(found, memory=200) == 1
    assert cores_that_fit(found, memory=100) == 0


def test_a_cluster_gets_fewer_jobs_where_participants_share_one() -> None:
    jobs = {"extract_faces": 121, "resample_eyes": 121, "pack": 1, "train_model": 20}
    assert submissions(jobs, None) == jobs
    assert submissions(jobs, 10) == {"make_units": 26, "pack": 1, "train_model": 20}
    assert [list(job) for job in dealt_out(range(9), 8)] == [[0, 1, 2, 3], [4, 5, 6, 7, 8]]
    units = {"faces": [UnitToMake(f"P{i}", 10, (10,) * 10) for i in range(121)]}
    slow = replace(RATE, clips=(PilotClip("a", 29.9, 10),))  # 300 s a participant
    specs = schema.face_arrays(frames=1, size=16)
    of = {"cores": 2, "participants": 121, "clips": 1210, "last_jobs": []}
    assert group_size(estimate(units, {"faces": slow}, specs, **of)) == 6
    assert group_size(estimate(units, {"faces": replace(RATE, clips=())}, specs, **of)) == 31  # a quarter of them


def test_shards_are_counted_as_the_contract_has_them() -> None:
    found = cache_size(schema.face_arrays(), clips=1303, participants=121)
    assert found.clips_a_shard == 64
    assert found.shards == 21
    assert found.size == pytest.approx(1303 * 8 * 112 * 112 * 3, rel=0.02)


def test_the_pilot_is_spread_over_sizes_and_participants() -> None:
    clips = [Clip(f"P{p}_C{c}", f"P{p}") for p in range(1, 4) for c in range(1, 4)]
    sizes = {clip.clip: 10 * int(clip.participant[1:]) + int(clip.clip[-1]) for clip in clips}
    order = [clip.clip for clip in choose(clips, sizes)]
    assert order[:3] == ["P2_C2", "P3_C3", "P1_C1"]  # the median, the largest, the smallest
    assert sorted(order) == sorted(sizes)  # each once
    assert order == [clip.clip for clip in choose(clips[::-1], sizes)]


# ---- beside what a build makes


def test_a_plan_is_what_a_build_then_makes_and_writes_nothing(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = paths(study.parent)
    said = planned(capsys, "--pilot", "2")
    assert paths(study.parent) == before
    assert said["jobs"] == run_workflow(study, "features", "-n").jobs
    assert said["pilot"]["faces"]["is_measured"]
    assert len(said["pilot"]["faces"]["clips"]) == 2
    assert all(clip["seconds"] > 0 for clip in said["pilot"]["faces"]["clips"])
    assert 30 << 20 < said["pilot"]["faces"]["memory"] < 2 << 30
    assert said["no_benchmark"].startswith("`labels: null`")
    for command in (*[[stage, f"P{i}"] for stage in ("faces", "eyes") for i in (1, 2, 3)], ["list-clips"], ["pack"]):
        assert main([*command, *HERE]) == 0, command
    made = sum(path.stat().st_size for path in study.glob("results/*/*.zarr.zip"))
    assert said["estimate"]["disk"]["units to make"] == pytest.approx(made, rel=0.02)
    store = (study / "results/cache.zarr").resolve()
    packed = [path for path in store.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in packed)
    assert said["estimate"]["disk"]["cache"] == pytest.approx(size, rel=0.02)
    assert said["estimate"]["cache"]["files"] == 1 + sum(1 for _ in store.rglob("*"))
    shards = {path.relative_to(store).parts[2] for path in packed if path.name != "zarr.json"}
    assert said["estimate"]["cache"]["shards"] == len(shards)


@pytest.mark.slow
def test_after_a_build_nothing_is_to_be_made_and_a_new_clip_is_a_job(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = planned(capsys, "--pilot", "0")
    run = run_workflow(study, "features")
    assert first["jobs"] == run.jobs
    found = [path for place in ("results", "logs", ".smad", ".snakemake") for path in (study / place).rglob("*")]
    assert first["estimate"]["inodes"] == pytest.approx(len(found), rel=0.15)

    before = paths(study)
    said = planned(capsys)
    assert said["jobs"] == {}
    assert said["estimate"]["seconds"] == [0, 0, 0]
    assert said["estimate"]["disk"]["units that stay"] == sum(
        path.stat().st_size for path in study.glob("results/*/*.zarr.zip")
    )
    assert main(["plan", *HERE]) == 0
    assert "nothing to make: all is fresh" in capsys.readouterr().out
    assert paths(study) == before

    table = study / "clips.tsv"
    table.write_text(table.read_text() + "P2_C3\tP2\traw/P1_C1\n")
    said = planned(capsys, "--pilot", "1")
    assert said["jobs"] == run_workflow(study, "features", "-n").jobs
    assert (said["jobs"]["extract_faces"], said["estimate"]["stages"][0]["clips"]) == (1, 1)  # the others are kept
    assert said["estimate"]["disk"]["cache before"] > 0


def test_participants_that_share_a_job_are_counted_as_they_are_dealt_out(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    configure(study, run={"participants_per_job": 2})
    said = planned(capsys, "--pilot", "0", "--cores", "2")
    assert said["submissions"] == run_workflow(study, "features", "-n").jobs
    assert said["submissions"]["make_units"] == 4
    assert said["needs"]["extract_faces"]["mem_mb"] >= 1500


@pytest.mark.slow
def test_the_demo_is_planned_as_it_is_then_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    data = ["--participants", "5", "--clips-per-participant", "4", "--seconds", "2"]
    assert main(["demo-data", "data", *data]) == 0
    (tmp_path / "config.yaml").write_text((ROOT / "config/demo/config.yaml").read_text())
    before = paths(tmp_path)
    said = planned(capsys, "--cores", "2")
    assert paths(tmp_path) == before
    assert all(rate["is_measured"] for rate in said["pilot"].values())
    assert said["jobs"] == run_workflow(tmp_path, "all", "-n").jobs
    assert run_workflow(tmp_path, "features").returncode == 0
    for stage in said["estimate"]["stages"]:
        made = sum(path.stat().st_size for path in (tmp_path / "results" / stage["stage"]).iterdir())
        assert stage["units"] == pytest.approx(made, rel=0.05), stage["stage"]
    store = (tmp_path / "results/cache.zarr").resolve()
    size = sum(path.stat().st_size for path in store.rglob("*") if path.is_file())
    assert said["estimate"]["disk"]["cache"] == pytest.approx(size, rel=0.02)


# ---- each fault


def test_without_a_configuration_or_with_a_bad_table_there_is_no_plan(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "--configfile", "other.yaml"]) == 1
    assert "configuration other.yaml: no such file" in capsys.readouterr().err
    (study / "clips.tsv").write_text("clip\tparticipant\nP1_C1\n")
    assert main(["plan", *HERE]) == 1
    assert "clips.tsv, row 2: want 2 cells as in the header, found 1" in capsys.readouterr().err


def test_videos_that_are_not_there_are_counted_and_none_at_all_stops(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (study / "raw/P1_C2").rename(study / "raw/away")
    said = planned(capsys, "--pilot", "0")
    assert not said["stops"]
    (warning,) = said["warnings"]
    assert warning.startswith(
        f"video: 1 of 6 files that are named are not there; the first: {study}/raw/P1_C2; paths in"
    )
    assert warning.endswith("Their clips would be quarantined")
    (study / "raw").rename(study / "elsewhere")
    said = planned(capsys, code=1)
    (stop,) = said["stops"]
    assert stop.startswith("video: none of the 6 files that are named is there; the first: ")
    assert stop.endswith("mend the table, or make their disk available")


def test_a_clip_of_the_pilot_that_cannot_be_read_is_named_and_another_taken(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = planned(capsys, "--pilot", "1")["pilot"]["faces"]["clips"][0]["clip"]
    for picture in (study / "raw" / chosen).iterdir():
        picture.write_bytes(b"no picture".ljust(picture.stat().st_size))
    said = planned(capsys, "--pilot", "1")
    (other,) = said["pilot"]["faces"]["clips"]
    assert other["clip"] != chosen
    (warning,) = [warning for warning in said["warnings"] if "had a core for" not in warning]
    assert warning.startswith(f"clip {chosen}: video ")
    assert warning.endswith("it would be quarantined; another was taken")

    for picture in study.glob("raw/*/*"):
        picture.write_bytes(b"no picture")
    said = planned(capsys, "--pilot", "1", code=1)
    (stop,) = said["stops"]
    assert stop.startswith("faces: none of 3 clips that were tried can be read; the first, clip ")
    assert stop.endswith("mend the files, or see in config/README.md what can be read")


@pytest.fixture
def broken(study: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The module of a library that every job of faces imports, to be broken."""
    stub = study.parent / "broken/av/__init__.py"
    stub.parent.mkdir(parents=True)
    monkeypatch.setenv("PYTHONPATH", str(stub.parents[1]))
    return stub


def test_a_library_that_fails_is_no_fault_of_the_clips(broken: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken.write_text("raise ImportError('libavcodec.so.61: cannot open shared object file')\n")
    before = paths(broken.parents[2])
    (stop,) = planned(capsys, code=1)["stops"]
    assert stop.startswith("faces: the pilot's job failed, and so would every job: ")
    assert "libavcodec.so.61: cannot open shared object file" in stop
    assert stop.endswith("That says nothing about your clips: `smad-features doctor` looks for the cause")
    assert paths(broken.parents[2]) == before
    assert _last_word(-9, []) == "its job was killed (signal 9: most often for want of memory)"


def test_a_pilot_without_room_for_its_files_asks_for_another_place(
    study: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))  # `ulimit -f`, which the job inherits
    try:
        assert main(["plan", *HERE, "--pilot", "1"]) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(f"smad-features plan: the pilot has no temporary folder that it can work in ({study.parent}")
    assert "pilot.zarr.zip: cannot be written: files of that size are not allowed here" in said
    assert said.endswith("TMPDIR=/some/folder")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_plan_that_is_stopped_leaves_nothing(broken: Path, number: signal.Signals) -> None:
    begun = broken.parent / "begun"
    broken.write_text(f"import time\nopen({str(begun)!r}, 'w').close()\ntime.sleep(60)\n")
    study, temporary = broken.parents[2] / "study", broken.parents[2] / "temporary"
    before = paths(study)
    command = [sys.executable, "-m", "smad_features.cli", "plan", *HERE]
    with subprocess.Popen(
        command,
        cwd=study,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a background job's is ignored
    ) as run:
        while not begun.exists():
            assert run.poll() is None
            time.sleep(0.02)
        (folder,) = temporary.iterdir()
        assert folder.stat().st_mode & 0o777 == 0o700  # crops lie there
        run.send_signal(number)
        said = run.communicate(timeout=30)[1]
    assert run.returncode == (130 if number == signal.SIGINT else 128 + number)
    assert "Traceback" not in said
    assert not list(temporary.iterdir())
    assert paths(study) == before


def test_a_model_file_that_is_not_there_is_asked_for(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    configure(study, face={"model": "detector", "model_file": "nowhere.tflite"})
    (stop,) = planned(capsys, code=1)["stops"]
    assert stop.startswith("faces: face.model_file: nowhere.tflite: no such file")
    assert stop.endswith("`smad-features doctor` says what else is not as it should be")


@pytest.fixture
def small_disk(study: Path) -> Iterator[Path]:
    """The folder of results, a file system of its own with little room and few files."""
    results = study / "results"
    results.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m,nr_inodes=20", "none", str(results)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"needs leave to mount a small file system: {mounted.stderr.strip()}")
    yield results
    subprocess.run(["umount", "-l", str(results)], check=True)


def test_a_disk_that_is_too_small_in_bytes_or_files_is_met_before(
    small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    room, files = planned(capsys, "--pilot", "0", code=1)["stops"]
    assert room.startswith("disk: ")
    assert f" must be free on the file system of {small_disk}, 1.0 MiB are: make room, or work in" in room
    assert f"disk: the file system of {small_disk} takes 19 more files and folders, " in files
    assert "`df -i`" in files


def test_a_disk_that_may_not_be_written_to_is_met_before(small_disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    subprocess.run(["mount", "-o", "remount,ro,size=1g,nr_inodes=9999", str(small_disk)], check=True)
    (stop,) = planned(capsys, "--pilot", "0", code=1)["stops"]
    assert stop.startswith(
        f"results: the file system of {small_disk} is read-only: mend that, or work in another folder"
    )


def test_results_that_are_no_folder_or_not_ones_own_are_met_before(
    study: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (study / "logs").write_text("")
    (stop,) = planned(capsys, "--pilot", "0", code=1)["stops"]
    assert stop.startswith(f"logs: {study}/logs is a file, where a folder is wanted: ")
    (study / "logs").unlink()
    monkeypatch.setattr(machine.os, "access", lambda *_: False)
    stops = planned(capsys, "--pilot", "0", code=1)["stops"]
    assert [stop.partition(":")[0] for stop in stops] == ["results", "logs", ".smad"]
    assert f"you may not write in {study}" in stops[0]


def test_memory_and_cores_that_do_not_suffice_are_said_with_what_to_do(
    study: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = replace(look_at_machine(study), cores=4, memory=800 << 20)
    monkeypatch.setattr(plan_commands, "look_at_machine", lambda _: here)
    said = planned(capsys, "--pilot", "0")  # a job takes 350 MiB, as built in
    assert said["estimate"]["cores"] == 4
    (warning,) = said["warnings"]
    assert warning.startswith("memory: 4 jobs at once take some 1.2 GiB, and this machine gives 800 MiB: ")
    assert warning.endswith("run fewer (`--cores 2`), or let Snakemake count (`--resources mem_mb=800`)")
    assert not planned(capsys, "--pilot", "0", "--cores", "2")["warnings"]
    monkeypatch.setattr(plan_commands, "look_at_machine", lambda _: replace(here, memory=100 << 20))
    (stop,) = planned(capsys, "--pilot", "0", code=1)["stops"]
    assert stop.startswith("memory: a job of faces takes some 350 MiB, and this machine gives 100 MiB: ")
    monkeypatch.setattr(plan_commands, "look_at_machine", lambda _: replace(here, memory=64 << 30))
    (warning,) = planned(capsys, "--pilot", "0", "--cores", "32")["warnings"]
    assert warning.startswith("cores: 32 are asked for, and this machine gives 4: ")
    assert warning.endswith("here, give `--cores 4`")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.0421, "42 ms"), (2.345, "2.3 s"), (60, "60 s"), (185, "3 min 05 s"), (2700, "45 min"), (7500, "2 h 05 min")],
)
def test_times_are_as_people_say_them(seconds: float, words: str) -> None:
    assert in_time(seconds) == words


def test_a_person_reads_what_a_program_reads(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *HERE, "--pilot", "0", "--cores", "1"]) == 0
    said = capsys.readouterr().out
    assert "clips.tsv: 6 clips of 3 participants" in said
    assert "Features on 1 cores: about " in said
    assert "Cache: 1 shards of up to 64 clips" in said
    assert "Rates that are built in are of other data and another machine" in said
    assert Counter(said)["Traceback"] == 0
