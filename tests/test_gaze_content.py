"""Gaze content: the stimulus' own pixels around the gaze point, at the right time; and what makes it stale."""

from __future__ import annotations

import shutil
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from video_files import GROUPS, TWO_SECONDS, overwritten, picture, turned, write_video

from smad_features import cache, gaze_content, schema
from smad_features.config import complete_config
from smad_features.fingerprints import Fingerprints
from smad_features.freshness import PlannedUnit, explain, plan_units
from smad_features.gaze_content import cut_patch, extract_gaze_content, gaze_at
from smad_features.manifest import Clip
from smad_features.units import make_eyes, make_faces, make_gaze_content
from smad_features.video import VideoError, read_frames, read_pictures

WIDTH, HEIGHT, RATE = 200, 120, 25
FRAMES, SIZE = 4, 32
CHANNELS = {"time": "t", "Gaze point X (MCSnorm)": "x", "Gaze point Y (MCSnorm)": "y"}


def told(number: int) -> np.ndarray:
    """A frame whose every pixel says where and when it is: red = x, green = y, blue = 3 times the frame's number."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.dstack([x, y, np.full_like(x, 3 * number)]).astype(np.uint8)


def write_folder(folder: Path, count: int = 50, *, blue: int = 0) -> Path:
    folder.mkdir()
    for number in range(count):
        image = told(number) + np.array([0, 0, blue], np.uint8)
        cv2.imwrite(str(folder / f"{number}.png"), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    return folder


def write_lossless(path: Path, count: int = 50) -> Path:
    """The same as a video, every pixel kept (FFV1)."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("ffv1", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "bgr0"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for number in range(count):
            frame = av.VideoFrame.from_ndarray(told(number), format="rgb24")
            frame.pts, frame.time_base = 40 * number, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def stimuli(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("stimuli")
    return {"folder": write_folder(folder / "film"), "file": write_lossless(folder / "film.mkv")}


def extract(stimulus: Path, times: list[float], gaze: list[list[float]], **changes: Any) -> tuple[np.ndarray, Any]:
    """One clip whose steps fill the two seconds from its start on, unless told otherwise."""
    start = changes.get("start", 0.0)
    asked: dict[str, Any] = {"start": start, "steps": (start, start + 2.0), "offset": 0.0, "size": SIZE}
    arrays, quality = extract_gaze_content(
        stimulus, np.array(times), np.array(gaze, np.float32), frame_rate=RATE, max_lost=0.02, **asked | changes
    )
    return arrays["gaze_content"], quality


def at(x: float, y: float) -> list[float]:
    """Gaze in the middle of the pixel x, y."""
    return [(x + 0.5) / WIDTH, (y + 0.5) / HEIGHT]


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_the_middle_of_a_patch_is_the_pixel_that_was_looked_at_then(stimuli: dict[str, Path], kind: str) -> None:
    looked_at = [(20, 100), (150, 30), (199, 0), (0, 119)]
    times = [0.02, 0.46, 0.54, 1.2]  # from the clip's start at 0.1 s; the second and third are of two steps
    patches, quality = extract(
        stimuli[kind], times, [at(*point) for point in looked_at], start=0.1, steps=(0.1, 2.1), offset=0.3
    )
    shown = [(0.1 + 0.3 + time) * RATE // 1 for time in times]
    assert shown == [10, 21, 23, 40]
    middle = patches[:, SIZE // 2, SIZE // 2]
    assert middle.tolist() == [
        [*looked_at[step], 3 * int(number)] for step, number in zip([0, 0, 1, 2], shown, strict=True)
    ]
    assert quality["gaze_content_found"] == 1
    assert (quality["stimulus_width"], quality["stimulus_height"]) == (WIDTH, HEIGHT)
    assert quality["stimulus_missed"] == 0


@pytest.mark.parametrize("size", [16, 31, 112, 300])
@pytest.mark.parametrize("point", [(100, 60), (3, 117), (-40, 50), (199, -1), (-400, 900)])
def test_every_pixel_of_a_patch_is_the_picture_s_own_and_black_beyond_it(size: int, point: tuple[int, int]) -> None:
    image = told(7)
    image[..., 2] = 255  # no pixel of the picture is black
    patch, outside = cut_patch(image, np.array(at(*point)), size=size)
    rows, columns = np.mgrid[:size, :size]
    x, y = point[0] + columns - size // 2, point[1] + rows - size // 2
    inside = (x >= 0) & (x < WIDTH) & (y >= 0) & (y < HEIGHT)
    wanted = np.where(inside[..., None], np.dstack([x, y, np.full_like(x, 255)]), 0)
    np.testing.assert_array_equal(patch, wanted)
    assert outside == pytest.approx(1 - inside.mean())


def test_a_point_belongs_to_the_pixel_that_it_lies_in() -> None:
    for part in (0.001, 0.5, 0.999):
        patch, _ = cut_patch(told(1), np.array([(70 + part) / WIDTH, (30 + part) / HEIGHT]), size=5)
        assert patch[2, 2].tolist() == [70, 30, 3]


def test_gaze_is_that_of_the_step_in_which_a_time_lies() -> None:
    gaze = np.arange(8.0).reshape(4, 2)
    gaze[2] = np.nan
    times = np.array([-0.01, 0.0, 0.2499, 0.25, 0.6, 0.999, 1.0, np.nan])
    found = gaze_at(times, gaze, start=0.0, end=1.0)
    np.testing.assert_array_equal(found[:, 0], [np.nan, 0, 0, 2, np.nan, 6, np.nan, np.nan])
    # 0.1 + 0.2 is a hair above 0.3, and 1.1 - 0.8 one below it.
    np.testing.assert_array_equal(gaze_at(np.array([1.1 - 0.8]), gaze, start=0.1 + 0.2, end=1.3), [gaze[0]])
    for start, end in ((None, None), (1.0, 1.0)):
        assert np.isnan(gaze_at(times, gaze, start=start, end=end)).all()


def test_without_gaze_a_time_or_a_stimulus_that_is_shown_a_patch_is_black_and_quality_says_so(
    stimuli: dict[str, Path],
) -> None:
    gaze = [at(50, 50), [np.nan, np.nan], at(60, 60), at(70, 70)]
    patches, quality = extract(stimuli["file"], [0.3, 0.7, np.nan, 1.9], gaze, offset=0.5)
    assert [bool(patch.any()) for patch in patches] == [True, False, False, False]
    assert quality["gaze_content_found"] == 0.25
    assert quality["stimulus_missed"] == pytest.approx(1 / 3)  # 1.9 + 0.5 s is after its end; one has no time
    early, quality = extract(stimuli["folder"], [0.3, 0.7, 1.1, 1.9], [at(50, 50)] * 4, offset=-1.0)
    assert [bool(patch.any()) for patch in early] == [False, False, True, True]
    assert quality["stimulus_missed"] == 0.5
    beyond, quality = extract(stimuli["file"], [0.3], [[-5.0, 0.5]])
    assert not beyond.any()
    assert (quality["gaze_content_found"], quality["gaze_content_outside"]) == (1, 1)


def test_without_the_other_modalities_a_patch_is_black_but_the_stimulus_must_be_one(
    stimuli: dict[str, Path], tmp_path: Path
) -> None:
    nowhere = [[np.nan, np.nan]] * 4
    for times, steps in (([np.nan] * 4, (0.0, 2.0)), ([0.1, 0.2, 0.3, 0.4], (None, None))):
        patches, quality = extract(stimuli["file"], times, nowhere, steps=steps)
        assert not patches.any()
        assert quality["gaze_content_found"] == 0
        (tmp_path / "film.mp4").write_text("this is no video\n" * 50)
        with pytest.raises(VideoError, match="cannot read it as a video"):
            extract(tmp_path / "film.mp4", times, nowhere, steps=steps)
        with pytest.raises(FileNotFoundError):
            extract(tmp_path / "nothing.mp4", times, nowhere, steps=steps)


# ---- pictures at asked times


def test_pictures_are_those_that_a_plain_decoder_shows_then(tmp_path: Path) -> None:
    times = sorted({0, 40, 75, 200, 210, 300, 333, 500, 640, 641, 900, 1000})  # ms: a variable rate, and B-frames
    path = write_video(tmp_path / "film.mp4", times, options=GROUPS)
    with av.open(str(path)) as container:
        frames = [(float(f.pts * f.time_base), f.to_ndarray(format="rgb24")) for f in container.decode(video=0)]
    frames = [(time - frames[0][0], image) for time, image in frames]
    asked = [0.99, 0.0, 0.0401, 0.074, 0.64, 0.6405, 0.2, 0.299, 0.2]  # in any order, one of them twice
    found = read_pictures(path, asked)
    for time, image in zip(asked, found, strict=True):
        wanted = [image for begin, image in frames if begin <= time + 1e-6][-1]
        assert image is not None
        np.testing.assert_array_equal(image, wanted)
    assert read_pictures(path, [-0.1, 1.0])[0] is None
    assert read_pictures(path, [5.0]) == [None]


def test_pictures_are_upright_with_square_pixels_as_read_frames_gives_them(tmp_path: Path) -> None:
    path = turned(write_video(tmp_path / "film.mp4", aspect=Fraction(4, 3)), (0, 1, -1, 0))
    frames = read_frames(path, count=3)
    for wanted, found in zip(frames.pictures, read_pictures(path, frames.times.tolist()), strict=True):
        assert found is not None
        np.testing.assert_array_equal(found, wanted)
    assert frames.pictures[0].shape != picture(0).shape


def test_a_stimulus_that_is_damaged_or_cut_where_it_is_asked_for_is_refused(tmp_path: Path) -> None:
    path = write_video(tmp_path / "film.avi", codec="mjpeg", pix_fmt="yuvj420p", time_base=Fraction(1, 25))
    damaged = overwritten(path, 20)
    with pytest.raises(VideoError, match=r"0\.800 s cannot be decoded"):
        read_pictures(damaged, [0.1, 0.81])
    assert all(image is not None for image in read_pictures(damaged, [0.1, 1.5]))
    whole = write_video(tmp_path / "film.mkv", TWO_SECONDS, options=GROUPS)
    short = tmp_path / "short.mkv"
    short.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    assert read_pictures(short, [0.1])[0] is not None
    with pytest.raises(VideoError, match=r"the frame at 1\.9\d* s is lost: the header declares 2\.\d+ s, but"):
        read_pictures(short, [0.1, 1.9])


# ---- units


@pytest.fixture
def study(tmp_path: Path, stimuli: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> list[Clip]:
    """Two clips of one participant that share a stimulus, one without, and a participant who was shown none."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(stimuli["folder"], tmp_path / "film")
    write_folder(tmp_path / "face", 25)
    for name in ("a", "b"):
        rows = [f"{n / 50}\t{(20 + n + 40 * (name == 'b')) / WIDTH}\t{(10 + n) / HEIGHT}" for n in range(50)]
        (tmp_path / f"{name}.tsv").write_text("t\tx\ty\n" + "\n".join(rows) + "\n")
    face, film = tmp_path / "face", tmp_path / "film"
    return [
        Clip("P1_a", "P1", face, tmp_path / "a.tsv", film),
        Clip("P1_b", "P1", face, tmp_path / "b.tsv", film, start=0.2, end=0.8),
        Clip("P1_c", "P1", face, tmp_path / "b.tsv"),
        Clip("P2_a", "P2", face, tmp_path / "a.tsv"),
    ]


def settings(**changes: Any) -> dict[str, Any]:
    return complete_config(
        {"face": {"align": "none", "frames": FRAMES, "size": SIZE}, "eye": {"columns": CHANNELS, "steps": 8}, **changes}
    )


MAKERS = {"faces": make_faces, "eyes": make_eyes, "gaze_content": make_gaze_content}


def planned(clips: list[Clip], config: dict[str, Any]) -> dict[str, PlannedUnit]:
    return {f"{u.stage} {u.participant}": u for u in plan_units(clips, config, Fingerprints(None))}


def make(clips: list[Clip], config: dict[str, Any], *, stages: tuple[str, ...] = tuple(MAKERS)) -> list[str]:
    """Make what is stale, as the workflow does; which units that were."""
    made = []
    for stage in stages:
        for name, unit in planned(clips, config).items():
            if unit.stage == stage and not unit.is_fresh:
                own = [clip for clip in clips if clip.participant == unit.participant]
                MAKERS[stage](own, config, unit.path, root=Path.cwd(), key=unit.digest)
                made.append(name)
    return made


def stale(clips: list[Clip], config: dict[str, Any]) -> dict[str, list[str]]:
    return {
        name: explain(unit.made and unit.made["record"], unit.wanted)
        for name, unit in planned(clips, config).items()
        if not unit.is_fresh
    }


def test_a_unit_is_made_only_of_who_was_shown_a_stimulus_and_is_then_fresh(study: list[Clip]) -> None:
    config = settings()
    assert make(study, config) == ["faces P1", "faces P2", "eyes P1", "eyes P2", "gaze_content P1"]
    assert stale(study, config) == {}
    unit = cache.read_unit(Path("results/gaze_content/P1.zarr.zip"))
    faces, eyes = (cache.read_unit(Path(f"results/{stage}/P1.zarr.zip")) for stage in ("faces", "eyes"))
    assert {clip: state["state"] for clip, state in unit.states.items()} == {
        "P1_a": "ok",
        "P1_b": "ok",
        "P1_c": "missing",
    }
    assert not unit.arrays["gaze_content"][2].any()
    for row, clip in enumerate(study[:2]):
        begin, end = (eyes.quality[clip.clip][name] for name in ("eye_start", "eye_end"))
        for frame, patch in enumerate(unit.arrays["gaze_content"][row]):
            time = faces.arrays["face_time"][row, frame] + (clip.start or 0)
            x, y = eyes.arrays["gaze"][row, int((time - begin) / (end - begin) * 8)] * (WIDTH, HEIGHT)
            assert patch[SIZE // 2, SIZE // 2].tolist() == [int(x), int(y), 3 * round(time * RATE)]


def test_what_changes_only_the_stimulus_reruns_only_gaze_content(study: list[Clip]) -> None:
    make(study, settings())
    late = settings(gaze={"stimulus_offset": 0.1})
    assert stale(study, late) == {"gaze_content P1": ["setting `gaze.stimulus_offset`: 0.0 -> 0.1"]}
    assert make(study, late) == ["gaze_content P1"]
    image = cv2.imread("film/7.png")
    assert image is not None
    cv2.imwrite("film/7.png", 255 - image)
    assert list(stale(study, late)) == ["gaze_content P1"]
    assert "content of `clip P1_a` changed" in stale(study, late)["gaze_content P1"]


def test_gaze_or_frames_that_change_are_looked_up_anew_and_clips_that_keep_theirs_are_not(
    study: list[Clip], monkeypatch: pytest.MonkeyPatch
) -> None:
    make(study, settings())
    read: list[Path] = []
    monkeypatch.setattr(
        gaze_content,
        "read_pictures",
        lambda path, *args, **kwargs: read.append(path) or read_pictures(path, *args, **kwargs),
    )
    lines = Path("a.tsv").read_text().splitlines()
    Path("a.tsv").write_text("\n".join([lines[0], *(f"{line.rsplit(chr(9), 1)[0]}\t0.9" for line in lines[1:])]) + "\n")
    assert stale(study, settings())["gaze_content P1"] == ["the units that it reads are not fresh"]
    assert make(study, settings(), stages=("eyes",)) == ["eyes P1", "eyes P2"]
    assert stale(study, settings()) == {"gaze_content P1": ["what other stages give of clip P1_a changed"]}
    make(study, settings())
    assert len(read) == 1
    assert stale(study, settings()) == {}

    # Another setting of the eyes that leaves gaze as it was: made anew, and found to be the same.
    other = settings(eye={"columns": CHANNELS, "steps": 8, "screen": [1280, 720]})
    assert set(stale(study, other)) == {"eyes P1", "eyes P2", "gaze_content P1"}
    assert make(study, other) == ["eyes P1", "eyes P2"]
    assert stale(study, other) == {}
    assert len(read) == 1


def test_a_unit_restored_beside_other_units_than_it_was_made_from_is_stale(study: list[Clip]) -> None:
    unit = Path("results/gaze_content/P1.zarr.zip")
    make(study, settings())
    backup = unit.read_bytes()
    shutil.copy("b.tsv", "a.tsv")
    make(study, settings())
    unit.write_bytes(backup)
    plan = planned(study, settings())["gaze_content P1"]
    assert not plan.is_fresh
    assert plan.made_digest != plan.digest  # so its key changes, though the key alone knows of no difference
    assert make(study, settings()) == ["gaze_content P1"]
    unit.unlink()
    assert planned(study, settings())["gaze_content P1"].made_digest is None


def test_a_stimulus_that_cannot_be_used_fails_its_clips_and_no_others(study: list[Clip]) -> None:
    Path("film.mp4").write_bytes(b"")
    clips = [
        study[0],
        Clip("P1_d", "P1", study[0].video, study[0].eye, Path("film.mp4").absolute()),
        Clip("P1_e", "P1", study[0].video, None, Path("nothing.mp4").absolute()),
        Clip("P1_f", "P1", None, study[0].eye, study[0].stimulus),
    ]
    make(clips, settings())
    unit = cache.read_unit(Path("results/gaze_content/P1.zarr.zip"))
    assert {clip: state["reason"] for clip, state in unit.states.items()} == {
        "P1_a": "",
        "P1_d": "stimulus film.mp4: the file is empty (0 bytes)",
        "P1_e": "stimulus nothing.mp4: no such file",
        "P1_f": "",
    }
    assert unit.states["P1_f"]["state"] == "ok"
    assert unit.quality["P1_f"] == {"gaze_content_found": 0.0}


def test_the_cache_holds_gaze_content_of_some_and_the_models_read_it(study: list[Clip]) -> None:
    from smad_models.dataset import open_cache

    make(study, settings())
    units = [
        {p: Path(f"results/{stage}/{p}.zarr.zip") for p in people}
        for stage, people in (("faces", ("P1", "P2")), ("eyes", ("P1", "P2")), ("gaze_content", ("P1",)))
    ]
    rows = [(clip.participant, clip.clip) for clip in study]
    specs = schema.face_arrays(frames=FRAMES, size=SIZE) | schema.eye_arrays(steps=8)
    channels = {"channels": [{"name": c.name, "unit": c.unit} for c in schema.TOBII_PRO_LAB_39]}
    pictures = schema.gaze_content_arrays(frames=FRAMES, size=SIZE)
    cache.pack(Path("results"), rows, units, specs | pictures, channels)
    opened = open_cache(Path("results/cache.zarr"))
    assert "gaze_content" in opened.specs
    found = opened.read([3, 1, 0], ["gaze_content"])["gaze_content"]
    made = cache.read_unit(units[2]["P1"]).arrays["gaze_content"]
    assert made[:2].any(axis=(2, 3, 4)).all()
    np.testing.assert_array_equal(found[1:], made[[1, 0]])
    assert not found[0].any()
    cache.pack(Path("results"), rows, units[:2], specs, channels)
    assert "gaze_content" not in open_cache(Path("results/cache.zarr")).specs
    with pytest.raises(cache.CacheError, match="participant P2: no unit holds eye, "):
        cache.pack(Path("results"), rows, [units[0], {"P1": units[1]["P1"]}], specs | pictures, channels)
