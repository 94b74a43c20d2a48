"""The faces on a clip's picture lie where the unit has them, and what cannot be drawn is said in a sentence."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from numpy.testing import assert_allclose

from smad_features import schema
from smad_features.cache import read_unit
from smad_features.cli import main
from smad_features.config import load_config
from smad_features.face_drawing import FOUND, NOT_FOUND, POINT_COLOURS, draw_crop, draw_frame, outline
from smad_features.film_strip import draw_inspection
from smad_features.fingerprints import Fingerprints
from smad_features.inspect import Inspection, Part, inspect_clip
from smad_features.manifest import Clip, read_clips

POINTS = np.array([[100.0, 60], [140, 64], [118, 84], [102, 108], [134, 112]])
TURN = np.array([[0.6, 0.2, -40.0], [-0.2, 0.6, 30.0]])  # source -> crop pixel, a turn to the left


def inspection(
    count: int, size: int, width: int, height: int, *, lacks: tuple[int, ...] = (), **more: Any
) -> Inspection:
    """A clip of gray frames, whose crops are noise: none is like another."""
    arrays = {name: spec.empty(1)[0] for name, spec in schema.face_arrays(frames=count, size=size).items()}
    arrays["face"][:] = np.random.default_rng(0).integers(0, 256, arrays["face"].shape)
    arrays["face_time"][:] = np.arange(count) / 2
    found = [i for i in range(count) if i not in lacks]
    arrays["face_found"][found] = True
    arrays["face_score"][found] = 0.9
    arrays["face_points"][found] = POINTS
    arrays["face_transform"][:] = TURN
    pictures = [np.full((height, width, 3), 128, np.uint8)] * count
    faces = Part("ok", arrays=arrays, quality={"face_found": 1.0})
    return Inspection(Clip("C", "P", Path("/data/c.mp4")), faces, Part(), arrays["face_time"], pictures, **more)


def place_of(part: np.ndarray, picture: np.ndarray) -> tuple[int, int]:
    """Where exactly this part lies in the picture: (x, y); AssertionError where it does not."""
    height, width = part.shape[:2]
    first = np.ascontiguousarray(picture[..., 0]) == part[0, 0, 0]
    places = np.argwhere(first & (picture[..., 1] == part[0, 0, 1]) & (picture[..., 2] == part[0, 0, 2])).tolist()
    found = [(x, y) for y, x in places if np.array_equal(picture[y : y + height, x : x + width], part)]
    assert len(found) == 1
    return found[0]


def count_of(colour: tuple[int, ...], picture: np.ndarray) -> int:
    return int((picture == colour).all(axis=-1).sum())


# ---- a frame


@pytest.mark.parametrize("scale", [1.0, 2.0, 0.75])
def test_the_points_are_drawn_where_the_unit_has_them(scale: float) -> None:
    clip = inspection(1, 112, 320, 240)
    drawn = draw_frame(clip.pictures[0], clip.faces.arrays, 0, scale=scale)
    assert drawn.shape == (round(240 * scale), round(320 * scale), 3)
    for point, colour in zip(POINTS, POINT_COLOURS, strict=True):
        x, y = np.round((point + 0.5) * scale - 0.5).astype(int)
        assert tuple(drawn[y, x]) == colour
    assert (clip.pictures[0] == 128).all()  # drawn on a copy


def test_the_outline_is_the_crop_mapped_back() -> None:
    corners = outline(TURN, size=112)
    assert_allclose(
        corners @ TURN[:, :2].T + TURN[:, 2], [(-0.5, -0.5), (111.5, -0.5), (111.5, 111.5), (-0.5, 111.5)], atol=1e-9
    )
    clip = inspection(1, 112, 320, 240)
    drawn = draw_frame(clip.pictures[0], clip.faces.arrays, 0, scale=1.0)
    for a, b in ((0, 1), (1, 2), (3, 0)):
        x, y = np.round(corners[a] * 0.4 + corners[b] * 0.6).astype(int)
        if 0 <= x < 320 and 0 <= y < 240:
            around = drawn[y - 1 : y + 2, x - 1 : x + 2].astype(int)
            assert (around[..., 1] - around[..., 0] > 100).any()  # green, as far as a thin smooth line can be
    assert count_of(NOT_FOUND, drawn) == 0


def test_a_frame_without_a_face_has_a_dashed_outline_and_no_points() -> None:
    clip = inspection(2, 112, 320, 240, lacks=(0,))
    drawn, whole = (draw_frame(clip.pictures[i], clip.faces.arrays, i, scale=1.0) for i in (0, 1))
    assert count_of(FOUND, drawn) == 0
    assert 0.3 * count_of(FOUND, whole) < count_of(NOT_FOUND, drawn) < 0.8 * count_of(FOUND, whole)
    assert not any(count_of(colour, drawn) for colour in POINT_COLOURS)


def test_points_that_the_detector_does_not_know_and_crops_of_nothing_are_not_drawn() -> None:
    clip = inspection(1, 112, 320, 240)
    clip.faces.arrays["face_points"][:, 3:] = np.nan
    clip.faces.arrays["face_transform"][:] = np.nan
    drawn = draw_frame(clip.pictures[0], clip.faces.arrays, 0, scale=1.0)
    assert tuple(drawn[60, 100]) == POINT_COLOURS[0]
    assert tuple(drawn[108, 102]) == (128, 128, 128)
    assert count_of(FOUND, drawn) == 0


def test_the_points_on_a_crop_lie_where_the_stored_transform_takes_them() -> None:
    clip = inspection(1, 112, 320, 240)
    drawn = draw_crop(clip.faces.arrays, 0, side=224)
    in_crop = POINTS @ TURN[:, :2].T + TURN[:, 2]
    shown = [i for i, point in enumerate(in_crop) if (point >= 0).all() and (point < 112).all()]
    assert len(shown) >= 3
    for i in shown:
        x, y = np.round((in_crop[i] + 0.5) * 2 - 0.5).astype(int)
        assert tuple(drawn[y, x]) == POINT_COLOURS[i]


# ---- the page


@pytest.mark.parametrize(
    ("count", "crop", "width", "height"),
    [(8, 155, 640, 360), (8, 155, 1080, 1920), (2, 155, 3840, 2160), (8, 155, 32, 24), (1, 155, 640, 480),
     (17, 95, 640, 360), (64, 95, 320, 240)],
)  # fmt: skip
def test_every_crop_is_shown_in_order_below_its_frame_whatever_the_video(
    count: int, crop: int, width: int, height: int
) -> None:
    clip = inspection(count, crop, width, height, lacks=(0,) if count > 1 else ())
    page = draw_inspection(clip)
    assert page.shape[1] <= 1600
    inner = slice(4, -4)  # the crop of a frame without a face has a border
    places = [place_of(part[inner, inner], page) for part in clip.faces.arrays["face"]]
    assert len(set(places)) == count
    assert places == sorted(places, key=lambda place: (place[1], place[0]))
    for i in {0, count - 1}:
        x, y = places[i]
        assert (page[y - 60 : y - 50, x] == 128).all(axis=-1).any() or i == 0  # its frame, above two lines of text
    assert (count_of(NOT_FOUND, page) > 100) == (count > 1)


def test_warnings_quality_and_the_terms_take_room_on_the_page() -> None:
    bare = draw_inspection(inspection(1, 112, 64, 48))
    noted = inspection(1, 112, 64, 48, warnings=["STALE: content of `c.mp4` changed"])
    noted.faces.quality.update({f"number_{i}": i / 3 for i in range(40)} | {"roll": [1.5, None, float("nan")] * 8})
    page = draw_inspection(noted)
    assert page.shape[0] > bare.shape[0] + 3 * 18
    red = (page[..., 0] > 150) & (page[..., 1:] < 40).all(axis=-1)
    assert red[: page.shape[0] // 2, : page.shape[1] // 2].sum() > 100
    assert (bare[-30:] < 100).any()  # the last line: not to be passed on


def test_any_name_of_a_file_can_be_written_on_the_page() -> None:
    clip = inspection(1, 112, 64, 48)
    odd = Clip("C", "P", Path("/data/$x^2$ \\frac 中文 \udce9\n\t.mp4"))
    page = draw_inspection(replace(clip, clip=odd))
    assert page.shape[1] > 1000


# ---- from a unit


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A good clip, a failed one and one without a video; its pictures are faces already."""
    folder = tmp_path / "frames"
    folder.mkdir()
    for i in range(8):
        cv2.imwrite(str(folder / f"{i}.png"), np.full((60, 80, 3), 30 * i, np.uint8))
    (tmp_path / "bad.mp4").write_bytes(b"")
    write_table(tmp_path, "good\tP1\tframes", "bad\tP1\tbad.mp4", "none\tP1\t")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"clips": "clips.tsv", "face": {"align": "none"}}))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_table(folder: Path, *rows: str) -> None:
    (folder / "clips.tsv").write_text("clip\tparticipant\tvideo\n" + "".join(f"{row}\n" for row in rows))


def run(*arguments: str) -> int:
    return main([*arguments, "--configfile", "config.yaml"])


def test_inspect_writes_a_png_beside_you_and_says_where(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("faces", "P1") == 0
    assert run("inspect", "good") == 0
    said = capsys.readouterr()
    assert said.out.startswith("inspect-good.png: ")
    assert "not to be passed on" in said.out
    assert "inspect" not in said.err
    picture = cv2.imread("inspect-good.png")
    assert picture is not None
    assert picture.shape[1] > 1000
    assert run("inspect", "good", "--output", "elsewhere/a.png") == 0
    assert (study / "elsewhere/a.png").read_bytes() == (study / "inspect-good.png").read_bytes()


def test_without_a_unit_it_says_what_to_run(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("inspect", "good") == 1
    said = capsys.readouterr().err
    assert "clip good, participant P1: nothing of it can be drawn" in said
    assert "its face is not made: results/faces/P1.zarr.zip is not there yet; run `snakemake" in said
    assert said.count("is not there yet") == 1  # no recording is named, so no unit of it is missed
    assert "smad-features faces P1" in said
    assert not (study / "inspect-good.png").exists()


@pytest.mark.parametrize(
    ("clip", "parts"),
    [
        (
            "bad",
            [
                "clip bad, participant P1: ",
                "its face is failed: video bad.mp4: the file is empty (0 bytes)",
                "bad.mp4, 0 s to its end",
                "its eye movement is missing: no recording is named",
            ],
        ),
        ("none", ["clip none, participant P1: ", "its face is missing: no video is named"]),
        ("goo", ["clips.tsv: no clip 'goo' among its 3; near to it: good"]),
    ],
)
def test_what_cannot_be_drawn_is_said_with_all_that_is_known(
    study: Path, capsys: pytest.CaptureFixture[str], clip: str, parts: list[str]
) -> None:
    assert run("faces", "P1") == 0
    capsys.readouterr()
    assert run("inspect", clip) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert all(part in said.err for part in parts), said.err
    assert not list(study.glob("*.png"))


def test_a_clip_that_came_later_and_a_damaged_unit_are_told(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("faces", "P1") == 0
    write_table(study, "good\tP1\tframes", "new\tP1\tframes")
    assert run("inspect", "new") == 1
    assert "was made before this clip stood in clips.tsv" in capsys.readouterr().err
    unit = study / "results/faces/P1.zarr.zip"
    unit.write_bytes(unit.read_bytes()[:200])
    assert run("inspect", "good") == 1
    assert "not a whole unit" in capsys.readouterr().err


def test_a_stale_clip_is_drawn_and_said_to_be_stale(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("faces", "P1") == 0
    cv2.imwrite("frames/3.png", np.zeros((60, 80, 3), np.uint8))
    (study / "config.yaml").write_text("{clips: clips.tsv, face: {align: none, min_score: 0.7, frames: 4}}")
    assert run("inspect", "good") == 0
    said = capsys.readouterr().err
    for cause in ("frames` changed", "setting `face.min_score`: 0.5 -> 0.7", "setting `face.frames`: 8 -> 4"):
        assert f"{cause}; the crops are from before" in said
    config = load_config(Path("config.yaml"))
    seen = inspect_clip("good", read_clips(Path("clips.tsv")), config, Fingerprints(None), results=Path("results"))
    assert len(seen.pictures) == len(seen.faces.arrays["face"]) == 8  # read as the unit was
    assert sum("STALE" in warning for warning in seen.warnings) == 3


def test_another_clip_that_changed_makes_this_one_no_less_true(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("faces", "P1") == 0
    (study / "bad.mp4").write_text("still bad")
    capsys.readouterr()
    assert run("inspect", "good") == 0
    assert capsys.readouterr().err == ""


def test_a_video_that_is_gone_leaves_the_crops(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("faces", "P1") == 0
    shutil.rmtree(study / "frames")
    assert run("inspect", "good") == 0
    said = capsys.readouterr().err
    assert "frames` changed" in said
    assert "The frames are not shown, as the video cannot be read now" in said
    assert (study / "inspect-good.png").is_file()


# ---- a real video


def test_on_a_real_video_points_and_outline_lie_on_the_face(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_table(tmp_path, f"leaves\tP1\t{shared / 'media/pyfeat_face_noface.mov'}")
    model = {"model": "landmarker", "model_file": str(shared / "models/face_landmarker.task")}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"clips": "clips.tsv", "face": model}))
    assert run("faces", "P1") == 0
    config, clips = load_config(Path("config.yaml")), read_clips(Path("clips.tsv"))
    seen = inspect_clip("leaves", clips, config, Fingerprints(None), results=Path("results"))
    unit = read_unit(Path("results/faces/P1.zarr.zip"))
    assert seen.warnings == []
    assert seen.faces.quality == unit.quality["leaves"]
    for i in np.flatnonzero(unit.arrays["face_found"][0]).tolist():
        drawn = draw_frame(seen.pictures[i], seen.faces.arrays, i, scale=1.0)
        for point, colour in zip(unit.arrays["face_points"][0, i], POINT_COLOURS, strict=True):
            x, y = np.round(point).astype(int)
            assert tuple(drawn[y, x]) == colour
        # The frame under the stored transform is the stored crop: so the outline is around what was cut.
        again = cv2.warpAffine(seen.pictures[i], unit.arrays["face_transform"][0, i].astype(float), (112, 112))
        assert np.abs(again[20:90, 20:90].astype(int) - unit.arrays["face"][0, i, 20:90, 20:90]).mean() < 6
    assert run("inspect", "leaves") == 0
    page = cv2.imread("inspect-leaves.png", cv2.IMREAD_COLOR_RGB)
    assert page is not None
    assert count_of(NOT_FOUND, page) > 1000  # five of its eight frames show no face
