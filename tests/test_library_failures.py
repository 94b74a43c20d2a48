"""A library that fails is never held against a clip, and stops the run where it fails too many for one reason."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import run_workflow

from smad_features import failures, units
from smad_features.cli import main
from smad_features.config import complete_config
from smad_features.failures import Failure, LibraryFailure, failure_of, reason_of, too_many
from smad_features.freshness import STAGES, common_record
from smad_features.video import VideoError

NO_GRAPH = "RuntimeError: no graph"


def failed(count: int, *, reason: str = NO_GRAPH, stage: str = "faces", first: int = 0) -> list[Failure]:
    return [Failure(stage, f"C{first + i}", reason, reason) for i in range(count)]


# ---- what counts as one reason


def test_one_reason_is_the_same_for_every_clip_and_another_is_not() -> None:
    def reason(text: str, clip: str) -> str:
        return reason_of(RuntimeError(text), clip=clip, source=Path(f"/data/my study/{clip}.mp4"))

    one = reason("cannot map /data/my study/P01_C1.mp4 at 0x7f12ab: 17 of 2.5 s (P01_C1)\n=== trace ===\n1", "P01_C1")
    two = reason("cannot map /data/my study/P02_C9.mp4 at 0x80ffff: 3 of 10 s (P02_C9)\n=== trace ===\n2", "P02_C9")
    assert one == two == "RuntimeError: cannot map ... at ...: ... of ... s (...)"
    assert reason("no decoder for av1", "a") != reason("no decoder for vp9", "a")
    assert reason_of(OSError("x"), clip="a") != reason_of(MemoryError("x"), clip="a")
    assert reason_of(MemoryError(), clip="a") == "MemoryError: "


@pytest.mark.parametrize(
    ("count", "clips", "max_failed", "stops"),
    [
        (2, 4, 0.2, False),  # half of them, but two clips are chance
        (3, 14, 0.2, True),
        (3, 15, 0.2, False),  # just a fifth is not more than a fifth
        (4, 15, 0.2, True),
        (3, 1000, 0.0, True),
        (10, 10, 1.0, False),
    ],
)
def test_the_run_stops_above_the_share_that_may_fail(count: int, clips: int, max_failed: float, stops: bool) -> None:
    assert (too_many(failed(count), clips=clips, max_failed=max_failed) is not None) == stops


def test_only_failures_for_one_and_the_same_reason_in_one_stage_are_counted_together() -> None:
    mixed = failed(2) + failed(2, reason="OSError: no space", first=2) + failed(2, stage="eyes", first=4)
    assert too_many(mixed, clips=6, max_failed=0.2) is None
    assert too_many([*failed(2), *failed(2)], clips=6, max_failed=0.2) is None  # the same two clips, noted twice


def test_the_sentence_says_how_many_why_the_first_and_what_to_do() -> None:
    sentence = too_many(failed(3), clips=10, max_failed=0.2)
    assert sentence is not None
    for part in ("faces: 3 of 10 clips", "the first, C0", "RuntimeError: no graph", "`run.max_failed` (0.2)"):
        assert part in sentence


# ---- one participant's job


def study(folder: Path, *, participants: int = 1, clips: int = 4, **settings: Any) -> Path:
    """Clips whose videos are text: read in no time, and told apart from a failing library."""
    (folder / "text.mp4").write_text("this is no video\n")
    rows = [f"P{p}_C{c}\tP{p}\ttext.mp4\n" for p in range(1, participants + 1) for c in range(1, clips + 1)]
    (folder / "clips.tsv").write_text("clip\tparticipant\tvideo\n" + "".join(rows))
    values = {"clips": "clips.tsv", "labels": None, "face": {"model": "detector"}, **settings}
    (folder / "config.yaml").write_text(yaml.safe_dump(values))
    return folder


def make_faces(folder: Path, participant: str, *options: str) -> int:
    return main(["faces", participant, "--configfile", str(folder / "config.yaml"), *options])


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study of faces that need no finding, on which the library fails at all clips but the first."""
    folder = study(tmp_path, participants=2, face={"align": "none"})
    monkeypatch.chdir(folder)

    def read_frames(path: Path, **_: Any) -> None:
        raise next(errors)

    errors = iter([VideoError("a bad file"), *(RuntimeError(f"the decoder failed, {i}") for i in range(3))])
    monkeypatch.setattr("smad_features.video.read_frames", read_frames)
    return folder


def test_every_clip_is_tried_and_the_job_fails_with_the_clips_named(
    broken: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert make_faces(broken, "P1") == 1
    said = capsys.readouterr().err
    assert "P1_C1: video text.mp4: a bad file" in said  # the one that is the file's own fault
    assert "3 clips, the first of them P1_C2: RuntimeError: the decoder failed, 0" in said
    assert all(f"P1_C{i}: RuntimeError" in said for i in (2, 3, 4))
    assert said.count("Traceback") == 1  # the same one three times would bury the sentence
    assert not (broken / "results/faces/P1.zarr.zip").exists()
    assert not failures.FAILURES.exists()  # by hand, it concerns no run


def test_the_next_job_of_a_run_does_not_begin_and_one_by_hand_does(
    broken: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    key = broken / "any.key"
    key.write_text("0123\n")
    assert make_faces(broken, "P1", "--key", str(key)) == 1
    noted = json.loads((failures.FAILURES / "faces-P1.json").read_text())
    assert [(one["clip"], one["reason"]) for one in noted] == [
        (f"P1_C{i}", "RuntimeError: the decoder failed, ...") for i in (2, 3, 4)
    ]
    begun: list[str] = []
    monkeypatch.setattr(units, "make_faces", lambda clips, *_, **__: begun.append(clips[0].participant))
    capsys.readouterr()
    assert make_faces(broken, "P2", "--key", str(key)) == 1
    said = capsys.readouterr().err
    assert "not begun, as the run stops: faces: 3 of 8 clips failed" in said
    assert begun == []
    assert make_faces(broken, "P2") == 0
    assert begun == ["P2"]
    study(broken, participants=2, run={"max_failed": 0.5})
    assert make_faces(broken, "P1", "--key", str(key)) == 0
    assert begun == ["P2", "P1"]
    assert failures.read_failures() == []  # tried again, and it went well


def test_what_fails_before_the_first_clip_fails_all_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = study(tmp_path)
    monkeypatch.chdir(folder)
    (folder / "any.key").write_text("0123\n")

    def make(*_: Any, **__: Any) -> None:
        raise ImportError("libGL.so.1: cannot open shared object file")

    monkeypatch.setattr(units, "make_faces", make)
    with pytest.raises(ImportError, match="libGL"):
        make_faces(folder, "P1", "--key", str(folder / "any.key"))
    assert [one.clip for one in failures.read_failures()] == ["P1_C1", "P1_C2", "P1_C3", "P1_C4"]
    failures.clear_failures()
    assert failures.read_failures() == []


def test_a_failure_of_one_clip_names_it() -> None:
    failure = failure_of(MemoryError(), stage="eyes", clip="C1")
    assert str(LibraryFailure([failure])).startswith("clip C1: MemoryError: ; this says nothing about the clip")


# ---- a codec that the library was built without


@pytest.mark.parametrize("max_failed", [0.2, 1.0])
def test_videos_without_a_decoder_stop_the_list_of_clips_unless_they_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], max_failed: float
) -> None:
    folder = study(tmp_path, face={"align": "none"}, run={"max_failed": max_failed})
    monkeypatch.chdir(folder)

    def read_frames(path: Path, **_: Any) -> None:
        raise VideoError("FFmpeg has no decoder for vvc", library=True)

    monkeypatch.setattr("smad_features.video.read_frames", read_frames)
    assert make_faces(folder, "P1") == 0
    assert main(["eyes", "P1", "--configfile", "config.yaml"]) == 0
    code = main(["list-clips", "--configfile", "config.yaml"])
    said = capsys.readouterr().err
    if max_failed == 1.0:
        assert code == 0
        assert "clip P1_C4: quarantined: video text.mp4: FFmpeg has no decoder for vvc" in said
    else:
        assert code == 1
        assert "faces: 4 of 4 clips failed for one and the same reason" in said
        assert "the first, P1_C1: video text.mp4: FFmpeg has no decoder for vvc" in said
        assert not (folder / "results/clips.tsv").exists()


def test_files_that_are_bad_themselves_never_stop_the_list_of_clips(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = study(tmp_path, face={"align": "none"})
    monkeypatch.chdir(folder)
    assert make_faces(folder, "P1") == 0
    assert main(["eyes", "P1", "--configfile", "config.yaml"]) == 0
    assert main(["list-clips", "--configfile", "config.yaml"]) == 0
    assert (folder / "results/clips.tsv").read_text().count("quarantined") == 4


def test_the_share_that_may_fail_makes_no_unit_stale() -> None:
    one, two = (complete_config({"run": {"max_failed": share}}) for share in (0.1, 0.9))
    assert all(common_record(stage, one) == common_record(stage, two) for stage in STAGES.values())


# ---- the whole run


@pytest.mark.slow
def test_a_broken_library_stops_the_run_before_all_were_tried_and_the_mended_one_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub = tmp_path / "broken/mediapipe"
    stub.mkdir(parents=True)
    (stub / "__init__.py").write_text("raise RuntimeError('libEGL.so.1: cannot open shared object file')\n")
    folder = tmp_path / "study"
    folder.mkdir()
    study(folder, participants=6, clips=2)
    with monkeypatch.context() as patch:
        patch.setenv("PYTHONPATH", str(stub.parent))
        run = run_workflow(folder, "results/clips.tsv", cores=1)
    assert run.returncode != 0
    logs = [path.read_text() for path in sorted((folder / "logs/extract_faces").glob("*.log"))]
    assert len(logs) == 6
    assert sum("RuntimeError: libEGL" in log and "Traceback" in log for log in logs) == 2  # 4 of 12 clips: enough
    stopped = [log for log in logs if "not begun, as the run stops: faces: 4 of 12 clips failed" in log]
    assert len(stopped) == 4
    assert all("Traceback" not in log for log in stopped)

    run = run_workflow(folder, "results/faces/P1.zarr.zip", cores=1)  # a new run forgets what failed in the last
    assert run.returncode == 0, run.output
    assert (folder / "results/faces/P1.zarr.zip").is_file()
    assert not (folder / failures.FAILURES).exists()
