"""The film strip: gaze lies where the cache has it, on the frame that was shown, and what is not there is said."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from numpy.testing import assert_allclose, assert_array_equal

from smad_features.cache import read_unit
from smad_features.cli import main
from smad_features.config import load_config
from smad_features.film_strip import draw_inspection
from smad_features.fingerprints import Fingerprints
from smad_features.gaze_trail import GAZE, OFF, draw_gaze, trail_at
from smad_features.inspect import Inspection, inspect_clip
from smad_features.manifest import read_clips
from smad_features.trace_drawing import LOST

EDGES = np.linspace(-1.0, 3.0, 33)  # steps of 0.125 s
FRAME = np.full((90, 160, 3), 100, np.uint8)


def gaze_along(*, lacks: tuple[int, ...] = ()) -> np.ndarray:
    """32 steps from the top left to the bottom right."""
    gaze = np.stack([np.linspace(0.05, 0.9, 32), np.linspace(0.1, 0.8, 32)], axis=1).astype(np.float32)
    gaze[list(lacks)] = np.nan
    return gaze


def count_of(colour: tuple[int, ...], picture: np.ndarray) -> int:
    return int((picture == colour).all(axis=-1).sum())


# ---- the trail


@pytest.mark.parametrize("scale", [1.0, 2.0])
@pytest.mark.parametrize(("time", "step"), [(-1.0, 0), (0.3, 10), (1.0, 16), (2.999, 31)])
def test_the_newest_point_lies_at_gaze_times_the_size_of_the_frame(time: float, step: int, scale: float) -> None:
    gaze = gaze_along()
    trail = trail_at(time, gaze, EDGES)
    assert_array_equal(trail.now, gaze[step])
    drawn = draw_gaze(FRAME, trail, scale=scale)
    size = np.array([160, 90]) * scale
    x, y = np.round(gaze[step] * size - 0.5).astype(int)
    assert tuple(drawn[y, x]) == GAZE
    ring = drawn[y, x + 10] if x + 10 < size[0] else drawn[y, x - 10]
    assert tuple(ring) == GAZE
    assert (FRAME == 100).all()  # drawn on a copy


def test_the_trail_is_the_last_second_and_no_line_crosses_a_gap() -> None:
    gaze = gaze_along(lacks=(13, 14))
    trail = trail_at(1.03, gaze, EDGES)  # in step 16
    assert_allclose(trail.points, gaze[[8, 9, 10, 11, 12, 15]])
    assert_allclose(trail.ages, 1.03 - (EDGES[[8, 9, 10, 11, 12, 15]] + 0.0625))
    assert trail.follows.tolist() == [False, True, True, True, True, False]
    assert trail.is_unbroken
    assert not trail_at(1.03, gaze_along(lacks=(15,)), EDGES).is_unbroken
    assert_allclose(trail_at(0.8, gaze, EDGES).now, [np.nan, np.nan])  # in step 14


def test_older_points_are_fainter() -> None:
    gaze = np.full((32, 2), np.nan, np.float32)
    gaze[[9, 12, 14, 16]] = [(0.2, 0.5), (0.4, 0.5), (0.6, 0.5), (0.8, 0.5)]
    drawn = draw_gaze(FRAME, trail_at(1.03, gaze, EDGES), scale=4.0).astype(int)
    away = [np.abs(drawn[180, round(x * 640)] - 100).sum() for x in (0.2, 0.4, 0.6, 0.8)]
    assert away == sorted(away)
    assert len(set(away)) == 4
    assert away[0] > 20


@pytest.mark.parametrize("time", [-1.2, 3.2])
def test_before_the_first_step_and_after_the_last_there_is_no_gaze(time: float) -> None:
    trail = trail_at(time, gaze_along(), EDGES)
    assert np.isnan(trail.now).all()
    before = draw_gaze(FRAME, trail_at(-1.2, gaze_along(), EDGES), scale=1.0)
    assert_array_equal(before, FRAME)


def test_gaze_off_the_stimulus_is_drawn_on_its_border_in_another_colour() -> None:
    gaze = gaze_along()
    gaze[16] = (1.4, 0.5)
    drawn = draw_gaze(FRAME, trail_at(1.03, gaze, EDGES), scale=1.0)
    assert tuple(drawn[44, 159]) == OFF
    assert count_of(OFF, draw_gaze(FRAME, trail_at(0.9, gaze, EDGES), scale=1.0)) == 0


# ---- a whole clip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of faces at 25 Hz, three of gaze at 100 Hz with half a second lost, and a stimulus of one second."""
    folder = tmp_path_factory.mktemp("study")
    for name, count in (("frames", 50), ("film", 25)):
        (folder / name).mkdir()
        for i in range(count):
            cv2.imwrite(str(folder / name / f"{i}.png"), np.full((36, 64, 3), 40 + 4 * i, np.uint8))
    rows = ["t_ms\tgx\tgy\tpl"]
    for i in range(300):
        lost = 100 <= i < 150
        rows.append(f"{10 * i}\t" + ("\t\t" if lost else f"{480 + i}\t{540 - i}\t{3 + np.sin(i / 9) / 2:.4f}"))
    (folder / "eye.tsv").write_text("\n".join(rows) + "\n")
    (folder / "bad.tsv").write_text("nothing")
    write_table(folder)
    columns = {"time": "t_ms", "Gaze point X": "gx", "Gaze point Y": "gy", "Pupil diameter left": "pl"}
    config = {
        "clips": "clips.tsv",
        "face": {"align": "none", "frames": 4},
        "eye": {"columns": columns, "blink_buffer": 0.0},
        "gaze": {"stimulus_offset": -0.3},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for stage in ("faces", "eyes"):
            assert run(stage, "P1") == 0
    return folder


@pytest.fixture
def study(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "study"
    shutil.copytree(made, folder)
    monkeypatch.chdir(folder)
    return folder


def write_table(folder: Path, *, stimulus: str = "film") -> None:
    rows = [
        ("both", "frames", "eye.tsv"),
        ("face", "frames", ""),
        ("eye", "bad.tsv", "eye.tsv"),
        ("none", "", "bad.tsv"),
    ]
    text = "".join(f"{clip}\tP1\t{video}\t{eye}\t{stimulus}\n" for clip, video, eye in rows)
    (folder / "clips.tsv").write_text(f"clip\tparticipant\tvideo\teye\tstimulus\n{text}")


def run(*arguments: str) -> int:
    return main([*arguments, "--configfile", "config.yaml"])


def seen(clip: str) -> Inspection:
    config, clips = load_config(Path("config.yaml")), read_clips(Path("clips.tsv"))
    return inspect_clip(clip, clips, config, Fingerprints(None), results=Path("results"))


def test_the_stimulus_is_shown_as_it_was_at_each_face_frame(study: Path) -> None:
    clip = seen("both")
    assert clip.warnings == []
    assert_allclose(clip.times, [0.24, 0.72, 1.24, 1.72])
    assert_allclose(clip.stimulus_times, clip.times - 0.3)
    before, first, second, after = clip.stimulus
    assert before == "the stimulus has not begun"
    assert after == "the stimulus ended at 1.000 s"
    assert isinstance(first, np.ndarray)
    assert isinstance(second, np.ndarray)
    assert first[0, 0, 0] == 40 + 4 * 10  # at 0.42 s, 25 pictures a second
    assert second[0, 0, 0] == 40 + 4 * 23


def test_the_traces_are_the_recordings_own_samples_and_the_cached_steps(study: Path) -> None:
    clip, unit = seen("both"), read_unit(Path("results/eyes/P1.zarr.zip"))
    x, y, pupil = clip.traces
    row = unit.clips.index("both")
    assert_array_equal(x.steps, unit.arrays["gaze"][row, :, 0])
    assert_array_equal(y.steps, unit.arrays["gaze"][row, :, 1])
    assert_allclose(x.samples[:100], (480 + np.arange(100)) / 1920)
    assert_allclose(y.samples[150:], (540 - np.arange(150, 300)) / 1080)
    assert_allclose(x.time, np.arange(300) / 100, atol=1e-9)
    assert [(round(span.start, 6), round(span.end, 6)) for span in pupil.lost] == [(0.995, 1.495)]
    assert_allclose(x.edges[[0, -1]], [-0.005, 2.995])


def test_without_eye_movement_the_faces_are_drawn_just_the_same(study: Path) -> None:
    with_eye, without = draw_inspection(seen("both")), draw_inspection(seen("face"))
    assert with_eye.shape[1] == without.shape[1]
    assert with_eye.shape[0] > without.shape[0] + 300
    assert count_of(LOST, with_eye) > 1000
    assert count_of(LOST, without) == count_of(GAZE, without) == 0
    # The picture of the first frame, its crop and all that is written of it.
    grey = seen("face").pictures[0][0, 0]
    tops = [int(np.flatnonzero((page[:, 20] == grey).all(axis=-1))[0]) for page in (with_eye, without)]
    one, other = (page[top : top + 360] for page, top in zip((with_eye, without), tops, strict=True))
    assert_array_equal(one[:170], other[:170])
    assert np.abs(one.astype(int) - other).max() < 20  # letters may lie a part of a pixel higher


def test_a_clip_whose_video_failed_is_drawn_with_its_eye_movement(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("inspect", "eye") == 0
    assert capsys.readouterr().err == ""
    clip = seen("eye")
    assert clip.faces.state == "failed"
    assert_allclose(clip.times, 2.995 - 3 * np.array([7, 5, 3, 1]) / 8)  # centres of four parts of the steps' span
    page = cv2.imread("inspect-eye.png", cv2.IMREAD_COLOR_RGB)
    assert page is not None
    red = (page[..., 0] > 150) & (page[..., 1:] < 40).all(axis=-1)
    assert red[:100].sum() > 100  # why there is no face
    assert count_of(GAZE, page) > 20


def test_of_a_clip_with_neither_both_reasons_are_said(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("inspect", "none") == 1
    said = capsys.readouterr().err
    assert "its face is missing: no video is named" in said
    assert "its eye movement is failed: eye bad.tsv: an unknown kind of file" in said


def test_a_recording_that_is_gone_leaves_the_steps(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (study / "eye.tsv").unlink()
    assert run("inspect", "both") == 0
    said = capsys.readouterr().err
    assert "eye.tsv` changed; the traces are from before" in said
    assert "or `smad-features eyes P1` for this participant alone" in said
    assert "The traces are the cached steps alone, as the recording cannot be read now" in said
    clip = seen("both")
    assert [len(trace.time) for trace in clip.traces] == [0, 0, 0]
    assert all(np.isfinite(trace.steps).sum() > 20 for trace in clip.traces)


def test_stale_eye_movement_is_said_to_be_stale(study: Path) -> None:
    text = (study / "config.yaml").read_text()
    (study / "config.yaml").write_text(text.replace("blink_buffer: 0.0", "blink_buffer: 0.1"))
    (warning,) = seen("both").warnings
    assert warning.startswith("STALE: setting `eye.blink_buffer`: 0.0 -> 0.1; the traces are from before")


def test_eye_movement_that_was_not_made_yet_is_missed_where_a_recording_is_named(study: Path) -> None:
    (study / "results/eyes/P1.zarr.zip").unlink()
    (warning,) = seen("both").warnings
    assert warning.startswith("No traces: results/eyes/P1.zarr.zip is not there yet; run ")
    assert seen("face").warnings == []
    assert draw_inspection(seen("both")).shape[1] > 1000


@pytest.mark.parametrize("stimulus", ["gone.mp4", "bad.tsv"])
def test_a_stimulus_that_cannot_be_read_is_a_warning(study: Path, stimulus: str) -> None:
    write_table(study, stimulus=stimulus)
    clip = seen("both")
    (warning,) = clip.warnings
    assert warning.startswith("The stimulus is not shown, as it cannot be read: ")
    assert stimulus in warning
    assert clip.stimulus == []
    assert draw_inspection(clip).shape[1] > 1000


def test_a_frame_of_the_stimulus_without_gaze_says_so(study: Path) -> None:
    clip = seen("face")
    assert isinstance(clip.stimulus[1], np.ndarray)
    assert count_of(OFF, draw_inspection(clip)) > 50
