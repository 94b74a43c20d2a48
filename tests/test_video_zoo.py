"""A zoo of video files goes through the workflow in one table: each ends ok, or quarantined with a true reason."""

from __future__ import annotations

import csv
import io
import os
import re
import wave
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import xarray
import yaml
from conftest import run_workflow
from zoo import (
    EVEN,
    GROUPS,
    HEIGHT,
    SHIFT,
    STEP,
    WIDTH,
    Make,
    Pictures,
    content,
    cover_first,
    cut,
    damaged,
    declared_twice_as_long,
    display_matrix,
    edited,
    folder,
    read_pictures,
    steps,
    stretches,
    without_its_beginning,
    without_moov,
    without_packets,
    write,
    written,
    x264,
)

PARTICIPANTS = 5  # each costs two jobs; a job is what one bad file could take down
FASTSTART = {"movflags": "faststart"}
JUMPY = (0, 14, 47, 130, 144, 177, 290, 304, 404, 418, 560, 574,
         590, 690, 730, 744, 760, 860, 880, 894, 990, 1030, 1070, 1110)  # fmt: skip
SECRET = "there.mp4"  # what playlists point at: a good video
DROPPED = tuple(time for time in range(0, 1200, STEP) if time not in (120, 160, 480, 720, 760, 800))
INTRA = x264(keyint=1)

# What reasons say.
NO_VIDEO = "cannot read it as a video"
DECLARED = r"the header declares \d+\.\d+ s, but the video ends at \d\.\d+ s \(\d+% lost\)"
DAMAGED = "cannot be decoded"
LOST = "lost|gap"


@dataclass(frozen=True)
class Video:
    """One animal: its file's name, how the file is made, and how its clip must end.

    Attributes
    ----------
    reason
        What the reason says, a regular expression; empty = the clip is ok.
    quality
        Columns of quality.tsv and what they say.
    times
        When the pictures are shown, from the first on, in ms; ``first`` is the number of that picture.
    size
        Width and height of the upright picture with square pixels; or one such pair a picture.
    colour
        How many levels a crop may differ from the true one, in the mean.
    has_face
        A clip without a face is ok, its crops are black and flagged.
    """

    name: str
    make: Make
    reason: str = ""
    quality: Mapping[str, Any] = field(default_factory=dict)
    times: Sequence[int] = EVEN
    first: int = 0
    size: tuple[int, int] | Sequence[tuple[int, int]] = (WIDTH, HEIGHT)
    span: tuple[float, float] | None = None
    colour: float = 8.0
    is_gray: bool = False
    has_face: bool = True


def plain(name: str, codec: str, *, called: str | None = None, colour: float = 8.0, **how: Any) -> Video:
    """A video with nothing special but its container and codec."""
    width, height = how.get("size", (WIDTH, HEIGHT))
    facts = {"codec": called or codec, "width": width, "height": height, "rotation": 0, "frames_listed": 24}
    return Video(name, written(codec=codec, **how), quality=facts, size=(width, height), colour=colour)


def turned(name: str, matrix: tuple[int, int, int, int], quarters: int, degrees: int) -> Video:
    """A video that was coded turned by ``quarters`` against the clock, and says how to turn it back."""
    size = (WIDTH, HEIGHT) if quarters % 2 == 0 else (HEIGHT, WIDTH)
    edit = edited(display_matrix(*matrix), size=size, turn=lambda picture: np.rot90(picture, quarters))
    return Video(name, edit, quality={"rotation": degrees, "width": size[0], "height": size[1]})


def mirrored(name: str, matrix: tuple[int, int, int, int], axis: int) -> Video:
    """A video that was coded mirrored, and says so."""
    return Video(name, edited(display_matrix(*matrix), turn=lambda picture: np.flip(picture, axis)))


def picture_file(path: Path, pictures: Pictures) -> None:
    """A PNG picture, whatever it is called."""
    path.write_bytes(cv2.imencode(".png", pictures[0][..., ::-1])[1].tobytes())


def archive(path: Path, pictures: Pictures) -> None:
    """A ZIP with a good video in it, not even compressed."""
    video = write(path.with_suffix(".inner.mp4"), pictures)
    with zipfile.ZipFile(path, "w") as file:
        file.write(video, "clip.mp4")


def sound_alone(path: Path, pictures: Pictures) -> None:
    """A recording of a second of silence."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(16000))


def link(target: str) -> Make:
    """A symbolic link."""
    return lambda path, pictures: path.symlink_to(target)


def locked(path: Path, pictures: Pictures) -> None:
    """A good video that nobody may read."""
    write(path, pictures).chmod(0)


def in_latin_1(data: bytes) -> bytes:
    """A title as older programs write it, not in UTF-8."""
    return data.replace(b"Gespraech", "Gespräch ".encode("latin-1"))


def nobody(path: Path, pictures: Pictures) -> None:
    """A wall without a person."""
    wall = np.full((HEIGHT, WIDTH, 3), (180, 170, 150), np.uint8)
    write(path, [wall] * 24)


CODECS = [
    plain("h264.mp4", "libx264", called="h264"),
    plain("h264.mov", "libx264", called="h264", options=GROUPS),
    plain("h264.mkv", "libx264", called="h264", options=GROUPS),
    plain("h264.ts", "libx264", called="h264", options=GROUPS),
    plain("h264.flv", "libx264", called="h264", options=GROUPS),
    plain("h264.avi", "libx264", called="h264"),
    plain("h264-bframes.avi", "libx264", called="h264", options=GROUPS),
    plain("h264.m4v", "libx264", called="h264"),
    plain("raw.264", "libx264", called="h264", options=GROUPS),
    plain("h264.nut", "libx264", called="h264"),
    plain("fragments.mp4", "libx264", called="h264", form_options={"movflags": "frag_keyframe+empty_moov"}),
    plain("ten-bit.mp4", "libx264", called="h264", pix_fmt="yuv420p10le"),
    plain("rgb.mkv", "libx264rgb", called="h264", pix_fmt="rgb24"),
    plain("mpeg4.3gp", "mpeg4"),
    plain("mpeg4.avi", "mpeg4", options={"bf": "2"}),
    plain("hevc.mp4", "libx265", called="hevc"),
    plain("hevc-ten-bit.mkv", "libx265", called="hevc", pix_fmt="yuv420p10le"),
    plain("vp8.webm", "libvpx", called="vp8"),
    plain("vp8.ogg", "libvpx", called="vp8"),
    plain("vp9.webm", "libvpx-vp9", called="vp9"),
    plain("vp9-alpha.webm", "libvpx-vp9", called="vp9", pix_fmt="yuva420p"),
    plain("browser.webm", "libvpx", called="vp8", form_options={"live": "1"}),  # neither length nor index
    plain("av1.mp4", "libsvtav1", called="av1"),
    plain("av1.webm", "libsvtav1", called="av1"),
    plain("mpeg1.mpg", "mpeg1video"),
    plain("mpeg2.mpg", "mpeg2video", options={"bf": "2"}),
    plain("mpeg2.mxf", "mpeg2video", pix_fmt="yuv422p"),
    plain("wmv2.wmv", "wmv2"),
    plain("mjpeg-full-range.avi", "mjpeg", pix_fmt="yuvj420p"),
    plain("full-range.mp4", "libx264", called="h264", pix_fmt="yuvj420p"),
    plain("ffv1.mkv", "ffv1", pix_fmt="yuv444p"),
    plain("prores.mov", "prores_ks", called="prores", pix_fmt="yuv422p10le"),
    plain("dnxhr.mxf", "dnxhd", pix_fmt="yuv422p", options={"profile": "dnxhr_lb"}),
    plain("huffyuv.avi", "huffyuv", pix_fmt="yuv422p"),
    plain("raw.avi", "rawvideo", pix_fmt="bgr24"),
    plain("raw.nut", "rawvideo", pix_fmt="rgb24"),
    plain("raw.y4m", "wrapped_avframe", called="rawvideo"),
    plain("256-colours.gif", "gif", pix_fmt="rgb8", colour=25),
    plain("lossless.apng", "apng", pix_fmt="rgb24"),
    plain("flash.flv", "flv", called="flv1"),
    plain("real.rm", "rv20", size=(320, 176)),
]

SHAPES = [
    Video("gray.mkv", written(codec="ffv1", pix_fmt="gray"), quality={"codec": "ffv1"}, is_gray=True),
    Video("odd-size.mp4", written(size=(321, 181), pix_fmt="yuv444p"), size=(321, 181),
          quality={"width": 321, "height": 181}),
    Video("wide-pixels.mp4", written(size=(160, 180), aspect=Fraction(2)), quality={"width": 160, "height": 180}),
    Video("camcorder.dv", written(codec="dvvideo", size=(720, 576), aspect=Fraction(64, 45)), size=(1024, 576),
          quality={"codec": "dvvideo", "width": 720, "height": 576}),
    Video("phone.3gp", written(codec="h263", size=(352, 288), turn=lambda picture: cv2.copyMakeBorder(
          picture, 0, 108, 0, 64, cv2.BORDER_REPLICATE)), quality={"codec": "h263", "width": 352, "height": 288}),
    Video("interlaced.mkv", written(options=x264(interlaced=1))),
    Video("interlaced.mpg", written(codec="mpeg2video", options={"flags": "+ildct+ilme"})),
    turned("turned90.mp4", (0, 1, -1, 0), 1, 90),
    turned("turned180.mp4", (-1, 0, 0, -1), 2, 180),
    turned("turned270.mov", (0, -1, 1, 0), 3, 270),
    mirrored("mirrored.mp4", (-1, 0, 0, 1), 1),
    mirrored("upside-down.mp4", (1, 0, 0, -1), 0),
    Video("size-changes.ts", lambda p, f: stretches(p, f, sizes=[(320, 180), (640, 360)]),
          size=[(320, 180)] * 12 + [(640, 360)] * 12, quality={"frames_listed": 24}),
    Video("size-changes.264", lambda p, f: stretches(p, f, sizes=[(320, 180), (640, 360)]),
          size=[(320, 180)] * 12 + [(640, 360)] * 12, quality={"frames_listed": 24}),
    Video("intra-only.mp4", written(options=INTRA)),
    Video("one-key-frame.mkv", written(options=x264(keyint=999))),
    Video("open-groups.ts", written(options=x264(bframes=2, keyint=6, min_keyint=6, open_gop=1))),
    Video("nobody.mp4", nobody, has_face=False),
]  # fmt: skip

TIMES = [
    Video("late.mp4", written(late=5000, options=GROUPS)),
    Video("late.mkv", written(late=5000)),
    Video("late.ts", written(late=5000, options=GROUPS)),
    Video("clock-wraps.ts", written(late=95443000, form_options={"mpegts_copyts": "1"})),  # 2**33 / 90 kHz is 95443.7 s
    Video("edit-list.mp4", edited(without_its_beginning(7), options=GROUPS), times=EVEN[:17], first=7),
    Video("variable.mp4", written(times=JUMPY, options=GROUPS), times=JUMPY),
    Video("variable.mkv", written(times=JUMPY), times=JUMPY),
    Video("variable.flv", written(times=JUMPY), times=JUMPY),
    Video("one-frame.mp4", written(times=EVEN[:1]), times=EVEN[:1], quality={"frames_listed": 1}),
    Video("three-frames.mkv", written(times=EVEN[:3]), times=EVEN[:3], quality={"frames_listed": 3}),
    Video("seven-frames.avi", written(times=EVEN[:7]), times=EVEN[:7], quality={"frames_listed": 7}),
    Video("a-span.mp4", written(options=GROUPS), span=(0.3, 0.7)),
    Video("clock-restarts.ts", lambda p, f: stretches(p, f, sizes=[(320, 180)] * 2, is_reset=True), "times|clock"),
    Video("dropped.avi", written(codec="mjpeg", pix_fmt="yuvj420p", times=DROPPED), times=DROPPED),
    Video("no-edit-list.mp4", written(options=GROUPS, form_options={"use_editlist": "0"})),
]

STREAMS = [
    Video("cover-first.mp4", edited(cover_first, extra="cover")),
    Video("two-videos.mkv", written(extra="second")),
    Video("second-is-default.mkv", written(extra="first")),
    Video("longer-sound.mp4", written(sound=3.0)),
    Video("longer-sound.mkv", written(sound=3.0)),
    Video("sound-alone.mp4", sound_alone, "no video stream; found: audio"),
    Video("subtitles.mkv", written(extra="text")),
]

NAMES = [
    Video("Proband Ä 早 1 (final).mp4", written()),
    Video("-rf.mp4", written()),
    Video("it's %03d: 100 % \"odd\".mp4", written()),
    Video("really-an-mp4.avi", written(form="mp4")),
    Video("really-a-stream.mp4", written(form="mpegts", options=GROUPS)),
    Video("title-in-latin-1.avi", edited(in_latin_1, title="Gespraech")),
    Video("no-ending", written()),
    Video("x" * 251 + ".mp4", written()),
    Video("x" * 300 + ".mp4", lambda p, f: None, "no such file"),
    Video("symlink.mp4", link(SECRET)),
    Video("dangling.mp4", link("gone.mp4"), "no such file"),
    Video("loop.mp4", link("loop.mp4"), "no such file"),
    Video("absent.mp4", lambda p, f: None, "no such file"),
    Video("locked.mp4", locked, "may not be read"),
    Video("pipe.mp4", lambda p, f: os.mkfifo(p), "neither a file nor a folder"),
    Video("pictures", folder(*(f"{n}.png" for n in range(24))), quality={"codec": "images", "frames_listed": 24}),
    Video("jpegs", folder(*(f"frame-{n}.JPG" for n in range(24))), quality={"codec": "images"}, colour=10),
    Video("empty-folder", folder(), "holds no pictures"),
    Video("one-bad-picture", folder(*(f"{n}.png" for n in range(24) if n != 13), bad="13.png"), "13.png cannot"),
    Video("list.m3u8", content(f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{SECRET}\n#EXT-X-ENDLIST\n".encode()),
          f"playlist|{NO_VIDEO}"),
    Video("concat.mp4", content(f"ffconcat version 1.0\nfile {SECRET}\n".encode()), f"playlist|{NO_VIDEO}"),
]  # fmt: skip

DEFECTS = [
    Video("zero.mp4", content(b""), "empty"),
    Video("blank-disk.mp4", content(bytes(100_000)), NO_VIDEO),
    Video("text.mp4", content(b"Participant 7 did not come.\n" * 50), NO_VIDEO),
    Video("login-page.mp4", content(b"<!DOCTYPE html><html><body>Please log in</body></html>\n"), NO_VIDEO),
    Video("pointer.mp4", content(b"version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 1\n"), NO_VIDEO),
    Video("random.mp4", content(np.random.default_rng(2).bytes(100_000)), NO_VIDEO),
    Video("archive.mp4", archive, NO_VIDEO),
    Video("document.mp4", content(b"%PDF-1.7\n1 0 obj\n<< /Type /Catalog >>\nendobj\n" * 20), NO_VIDEO),
    Video("picture.mp4", picture_file, times=EVEN[:1], quality={"codec": "png", "frames_listed": 1}),
    Video("subtitles.mp4", content(b"1\n00:00:00,000 --> 00:00:01,000\nHello\n\n" * 3), "no video stream"),
    Video("cut10.mp4", edited(cut(0.1), form_options=FASTSTART), f"{DECLARED}|{NO_VIDEO}"),
    Video("cut50.mp4", edited(cut(0.5), form_options=FASTSTART), DECLARED),
    Video("cut90.mp4", edited(cut(0.9), form_options=FASTSTART), DECLARED),
    Video("cut50.mkv", edited(cut(0.5)), DECLARED),
    Video("cut50.webm", edited(cut(0.5), codec="libvpx-vp9"), DECLARED),
    Video("cut50.avi", edited(cut(0.5), codec="mpeg4"), r"declares 0\.960 s"),
    Video("cut50-and-longer.avi", lambda p, f: edited(cut(0.5), codec="mpeg4", times=range(0, 8000, STEP))(p, f * 9),
          r"declares 8\.000 s"),
    Video("cut50.wmv", edited(cut(0.5), codec="wmv2"), f"{DECLARED}|{DAMAGED}"),
    Video("cut50.nut", edited(cut(0.5)), f"{DECLARED}|{DAMAGED}|{NO_VIDEO}|before its own beginning"),
    Video("cut50-but-asked-before.mp4", edited(cut(0.5), form_options=FASTSTART), span=(0.0, 0.24)),
    Video("index-lost.mp4", edited(cut(0.9)), NO_VIDEO),
    Video("index-missing.mov", edited(without_moov), NO_VIDEO),
    Video("declares-twice.avi", edited(declared_twice_as_long, codec="mpeg4"), DECLARED),
    Video("declares-twice-but-asked-before.avi", edited(declared_twice_as_long, codec="mpeg4"), span=(0.0, 0.96),
          quality={"frames_declared": 48, "frames_listed": 24}),
    Video("unknown-codec.mp4", edited(lambda data: data.replace(b"avc1", b"zzzz")), "no decoder|no format that FFmpeg"),
    Video("encrypted.mp4", written(form_options={"encryption_scheme": "cenc-aes-ctr", "encryption_key": "0" * 31 + "1",
          "encryption_kid": "0" * 31 + "2"}), f"encrypted|{DAMAGED}"),
    Video("garbage-first.mp4", edited(lambda data: b"\x17\x42" * 500 + data), NO_VIDEO),
    Video("garbage-first.ts", edited(lambda data: b"\x17\x42" * 500 + data, form="mpegts")),
    Video("damaged-h264.mp4", damaged(12, options=x264(keyint=6, min_keyint=6)), DAMAGED),
    Video("damaged-hevc.mp4", damaged(12, kept=0, codec="libx265"), DAMAGED),
    Video("damaged-mpeg4.avi", damaged(10, codec="mpeg4"), DAMAGED),
    Video("damaged-mpeg2.ts", damaged(10, codec="mpeg2video"), DAMAGED),
    Video("damaged-vp9.webm", damaged(10, kept=8, codec="libvpx-vp9"), DAMAGED),
    Video("damaged-mjpeg.avi", damaged(10, codec="mjpeg", pix_fmt="yuvj420p"), DAMAGED),
    Video("damaged-wmv.wmv", damaged(10, codec="wmv2"), f"{LOST}|{DAMAGED}"),
    Video("damaged-ffv1.mkv", damaged(10, codec="ffv1"), DAMAGED),
    Video("damaged-elsewhere.mp4", damaged(12, options=x264(keyint=6, min_keyint=6)), span=(0.0, 0.24)),
    Video("lost-packets.ts", without_packets(range(9, 16), options=x264(keyint=999)), f"{LOST}|{DAMAGED}"),
]  # fmt: skip

ZOO = {f"{number:03d}": video for number, video in enumerate([*CODECS, *SHAPES, *TIMES, *STREAMS, *NAMES, *DEFECTS])}
TRUTH = ("truth0", "truth1", "truth2")
OK = {clip: video for clip, video in ZOO.items() if not video.reason}


def named(videos: Mapping[str, Video]) -> list[Any]:
    """Parameters with readable ids."""
    return [pytest.param(clip, id=ascii(video.name)[1:-1][:40]) for clip, video in videos.items()]


@pytest.fixture(scope="module")
def pictures(shared: Path) -> Pictures:
    return read_pictures(shared / "media/pyfeat_single_face.mp4")


@dataclass(frozen=True)
class Results:
    """What the workflow made of the zoo."""

    manifest: dict[str, dict[str, str]]
    quality: dict[str, dict[str, str]]
    cache: xarray.Dataset

    def of(self, clip: str) -> xarray.Dataset:
        """The arrays of a clip that should be ok."""
        assert clip in self.cache.attrs["clips"], self.manifest[clip]["reason"]
        return self.cache.sel(clip=clip)


@pytest.fixture(scope="module")
def results(shared: Path, pictures: Pictures, tmp_path_factory: pytest.TempPathFactory) -> Results:
    directory = tmp_path_factory.mktemp("zoo")
    data = directory / "data"
    data.mkdir()
    write(data / SECRET, pictures)
    table = io.StringIO()
    rows = csv.writer(table, delimiter="\t", lineterminator="\n")
    rows.writerow(["clip", "participant", "video", "start", "end"])
    for number, (clip, video) in enumerate(ZOO.items()):
        video.make(data / video.name, pictures)
        rows.writerow([clip, f"P{number % PARTICIPANTS}", video.name, *(video.span or ("", ""))])
    for number, clip in enumerate(TRUTH):
        folder(*(f"{place}.png" for place in range(8)))(data / clip, pictures[8 * number : 8 * number + 8])
        rows.writerow([clip, "Truth", clip, "", ""])
    (data / "clips.tsv").write_text(table.getvalue(), encoding="utf-8")
    face = {"model": "landmarker", "model_file": str(shared / "models/face_landmarker.task")}
    settings = {"clips": "data/clips.tsv", "face": face, "video": {"frame_rate": 25}}
    (directory / "config.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    run = run_workflow(directory, "features")
    assert run.returncode == 0, run.output  # no file crashes a job, and the rest completes
    cache = xarray.open_zarr(directory / "results/cache.zarr", consolidated=False).load()
    tables = [read_table(directory / f"results/{name}.tsv") for name in ("clips", "quality")]
    return Results(tables[0], tables[1], cache.assign_coords(clip=cache.attrs["clips"]))


@dataclass(frozen=True)
class Truth:
    """Where the face is in each of the 24 pictures, and its crop."""

    eyes: np.ndarray  # (24, 2): the middle between the eyes, pixels
    crops: np.ndarray


@pytest.fixture(scope="module")
def truth(results: Results) -> Truth:
    """Found in the pictures themselves: folders of eight, from which every picture is taken."""
    parts = [results.of(clip) for clip in TRUTH]
    assert all(part.face_found.all() for part in parts)
    eyes = np.concatenate([part.face_points[:, :2].mean("point") for part in parts])
    return Truth(eyes, np.concatenate([part.face for part in parts]))


def read_table(path: Path) -> dict[str, dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return {row["clip"]: row for row in csv.DictReader(file, delimiter="\t")}


def shown(video: Video) -> tuple[list[int], np.ndarray]:
    """The numbers of the pictures that are shown at the segments' centres, and since when, in seconds."""
    ends = np.cumsum(steps(video.times)) / 1000
    begin, end = video.span or (0.0, ends[-1])
    centres = begin + (np.arange(8) + 0.5) / 8 * (end - begin)
    places = np.searchsorted(ends, centres, side="right")
    return [int(place) + video.first for place in places], np.array(video.times)[places] / 1000 - begin


def skip_what_root_may(video: Video) -> None:
    if video.make is locked and os.geteuid() == 0:
        pytest.skip("needs a user who may not read every file: this is root")


def test_no_two_files_have_the_same_name() -> None:
    assert len({video.name for video in ZOO.values()}) == len(ZOO) >= 45


def test_the_face_is_a_clock(truth: Truth) -> None:
    assert np.diff(truth.eyes[:, 0]) == pytest.approx(SHIFT, abs=2.0)  # else a wrong picture would go unseen


@pytest.mark.parametrize("clip", named(ZOO))
def test_each_file_ends_ok_or_quarantined_with_a_true_reason(results: Results, clip: str) -> None:
    video, row = ZOO[clip], results.manifest[clip]
    skip_what_root_may(video)
    if not video.reason:
        assert (row["status"], row["reason"], row["face"]) == ("ok", "", "ok")
        assert clip in results.cache.attrs["clips"]
    else:
        assert (row["status"], row["face"]) == ("quarantined", "failed"), row
        beginning = f"video {video.name}: "  # not searched: a file's name may say what the reason should
        assert row["reason"].startswith(beginning)
        assert re.search(video.reason, row["reason"].removeprefix(beginning)), row["reason"]
        assert clip not in results.cache.attrs["clips"]


@pytest.mark.parametrize("clip", named(OK))
def test_the_right_pictures_are_taken_at_their_real_times(results: Results, truth: Truth, clip: str) -> None:
    video, one = OK[clip], results.of(clip)
    numbers, seconds = shown(video)
    half_a_frame = min(steps(video.times)) / 2000
    np.testing.assert_allclose(one.face_time, seconds, atol=half_a_frame)
    found = one.face_found.to_numpy()
    if not video.has_face:
        assert not found.any()
        assert not one.face.any()
        return
    assert found.sum() >= 6
    sizes = np.broadcast_to(video.size, (24, 2))
    for place in np.flatnonzero(found):
        scale = sizes[numbers[place]] / (WIDTH, HEIGHT)  # whole numbers are pixel centres: hence the halves below
        eyes = (one.face_points[place, :2].mean("point").to_numpy() + 0.5) / scale - 0.5
        assert np.abs(eyes - truth.eyes[numbers[place]]).max() < SHIFT / 2, f"not picture {numbers[place]}"


@pytest.mark.parametrize("clip", named({clip: video for clip, video in OK.items() if video.has_face}))
def test_the_crops_show_the_face_in_its_colours(results: Results, truth: Truth, clip: str) -> None:
    video, one = OK[clip], results.of(clip)
    for place, number in enumerate(shown(video)[0]):
        crop = truth.crops[number]
        if video.is_gray:
            crop = np.dstack([cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)] * 3)
        difference = np.abs(one.face[place].to_numpy().astype(int) - crop)
        assert difference.mean() < video.colour


@pytest.mark.parametrize("clip", named({clip: video for clip, video in ZOO.items() if video.quality}))
def test_quality_says_what_the_file_is(results: Results, clip: str) -> None:
    said = results.quality[clip]
    assert {column: said[column] for column in ZOO[clip].quality} == {
        column: str(value) for column, value in ZOO[clip].quality.items()
    }


def test_what_a_playlist_points_at_is_read_by_no_clip_but_its_own_link(results: Results) -> None:
    links = [clip for clip, video in ZOO.items() if video.name == "symlink.mp4"]
    lists = [clip for clip, video in ZOO.items() if video.name in ("list.m3u8", "concat.mp4")]
    assert [results.manifest[clip]["status"] for clip in links + lists] == ["ok", "quarantined", "quarantined"]
