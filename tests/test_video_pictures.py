"""What is decoded looks right, costs no more than it must, and is the same as if everything had been decoded."""

from __future__ import annotations

import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from conftest import environment
from video_files import decoded_in_order, write_video

from smad_features.video import read_frames

PYRAMID = {"preset": "veryfast", "x264-params": "keyint=40:bframes=6:b-pyramid=normal"}
BT601, BT709, BT2020 = (0.299, 0.114), (0.2126, 0.0722), (0.2627, 0.0593)  # Kr, Kb; ITU-R BT.601, BT.709, BT.2020
SPACES = {BT709: 1, BT601: 5, BT2020: 9}  # their numbers in ITU-T H.273, table 4
PERCEPTUAL_QUANTIZER, HYBRID_LOG_GAMMA = 16, 18  # ITU-T H.273, table 3
SILENT_HEVC = {"preset": "ultrafast", "x265-params": "log-level=none"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pictures")


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("pyramid.mp4", "libx264", PYRAMID),
        ("pyramid.ts", "libx264", PYRAMID),
        ("pyramid.mkv", "libx264", PYRAMID | {"tune": "grain"}),
        ("open.mp4", "libx264", {"preset": "veryfast", "x264-params": "keyint=15:open-gop=1:bframes=4"}),
        ("layers.mp4", "libx265", {"preset": "ultrafast", "x265-params": "log-level=none:keyint=40:temporal-layers=3"}),
        ("old.mp4", "mpeg4", {"bf": "2", "g": "20"}),
        ("disc.ts", "mpeg2video", {"bf": "2", "g": "15"}),
        ("camera.avi", "mjpeg", {}),
        ("browser.webm", "libvpx-vp9", {"cpu-used": "8", "deadline": "realtime", "g": "20"}),
        ("hidden.webm", "libvpx", {"auto-alt-ref": "1", "lag-in-frames": "16", "cpu-used": "8", "g": "30"}),
        ("new.mp4", "libsvtav1", {"preset": "10", "g": "20"}),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_skipping_what_is_not_needed_changes_no_bit(
    folder: Path, name: str, codec: str, options: dict[str, str]
) -> None:
    times = [40 * n for n in range(60)]
    pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    path = write_video(
        folder / name, times, codec=codec, options=options, time_base=Fraction(1, 25), pix_fmt=pix_fmt, noise=12
    )
    everything = decoded_in_order(path)
    assert len(everything) == 60

    for count in (3, 8, 60):
        frames = read_frames(path, count=count)

        numbers = ((np.arange(count) + 0.5) / count * 60 + 1e-6).astype(int)
        np.testing.assert_allclose(frames.times, numbers / 25, atol=0.02)  # half a frame
        for ours, number in zip(frames.pictures, numbers, strict=True):
            np.testing.assert_array_equal(ours, everything[number])


def flat_video(
    path: Path,
    codec: str,
    pix_fmt: str,
    yuv: tuple[int, ...],
    *,
    space: int | None = None,
    full: bool = False,
    transfer: int | None = None,
) -> Path:
    """Five frames of one colour, given as it is stored, with what the stream says of its colours."""
    with av.open(str(path), "w") as container:
        options = {"libx264": {"qp": "1"}, "libx265": SILENT_HEVC}.get(codec, {})
        stream: Any = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pix_fmt
        context = stream.codec_context
        context.color_range = 2 if full else 1
        if space is not None:
            context.colorspace = space
        if transfer is not None:
            context.color_trc = transfer
        for number in range(5):
            frame = av.VideoFrame(64, 48, pix_fmt)
            for plane, value in zip(frame.planes, yuv, strict=True):
                kind = np.uint16 if "10" in pix_fmt else np.uint8
                plane.update(np.full(plane.buffer_size // np.dtype(kind).itemsize, value, kind).tobytes())
            frame.pts, frame.time_base, frame.color_range = number, Fraction(1, 25), context.color_range
            if space is not None:
                frame.colorspace = space
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def to_rgb(yuv: tuple[int, ...], weights: tuple[float, float], *, full: bool, bits: int) -> list[float]:
    """ITU-T H.273, 8.3, equations 20 to 25 and 38 to 40: what is stored -> R'G'B' in 0..255."""
    red_weight, blue_weight = weights
    unit = 1 << bits - 8
    if full:
        y, u, v = yuv[0] / (256 * unit - 1), *((c - 128 * unit) / (256 * unit - 1) for c in yuv[1:])
    else:
        y, u, v = (yuv[0] - 16 * unit) / (219 * unit), *((c - 128 * unit) / (224 * unit) for c in yuv[1:])
    red, blue = y + 2 * (1 - red_weight) * v, y + 2 * (1 - blue_weight) * u
    green = (y - red_weight * red - blue_weight * blue) / (1 - red_weight - blue_weight)
    return [255 * red, 255 * green, 255 * blue]


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "weights", "full"),
    [
        ("libx264", "yuv420p", BT601, False),
        ("libx264", "yuv420p", BT709, False),
        ("libx264", "yuv420p", BT601, True),
        ("libx264", "yuv420p", BT709, True),
        ("libx264", "yuv444p", BT709, False),
        ("libx264", "yuv422p", BT709, False),
        ("mjpeg", "yuvj420p", BT601, True),
        ("libx265", "yuv420p10le", BT709, False),
    ],
)
def test_colours_are_those_that_the_stream_describes(
    folder: Path, codec: str, pix_fmt: str, weights: tuple[float, float], full: bool
) -> None:
    bits = 10 if "10" in pix_fmt else 8
    yuv = tuple(value << bits - 8 for value in (120, 100, 170))
    path = folder / f"{pix_fmt}-{SPACES[weights]}-{full}.mkv"

    frames = read_frames(flat_video(path, codec, pix_fmt, yuv, space=SPACES[weights], full=full), count=2)

    want = to_rgb(yuv, weights, full=full, bits=bits)
    for image in frames.pictures:
        np.testing.assert_allclose(image.reshape(-1, 3).mean(axis=0), want, atol=3)


@pytest.mark.parametrize(("pix_fmt", "value"), [("gray", 120), ("gray10le", 480)])
def test_gray_stays_gray(folder: Path, pix_fmt: str, value: int) -> None:
    frames = read_frames(flat_video(folder / f"{pix_fmt}.mkv", "ffv1", pix_fmt, (value,), full=True), count=1)

    assert np.abs(frames.pictures[0].astype(int) - 120).max() <= 1


@pytest.mark.parametrize("transfer", [PERCEPTUAL_QUANTIZER, HYBRID_LOG_GAMMA])
def test_high_dynamic_range_comes_out_flat_but_comes_out(folder: Path, transfer: int) -> None:
    yuv = (480, 400, 680)
    path = flat_video(
        folder / f"hdr{transfer}.mp4", "libx265", "yuv420p10le", yuv, space=SPACES[BT2020], transfer=transfer
    )

    frames = read_frames(path, count=1)

    want = to_rgb(yuv, BT2020, full=False, bits=10)  # no tone mapping
    np.testing.assert_allclose(frames.pictures[0].reshape(-1, 3).mean(axis=0), want, atol=4)


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("fields.ts", "libx264", {"preset": "veryfast", "x264-params": "tff=1"}),
        ("fields.mpg", "mpeg2video", {"flags": "+ildct+ilme", "b": "4000000"}),
    ],
)
def test_an_interlaced_frame_shows_one_moment(folder: Path, name: str, codec: str, options: dict[str, str]) -> None:
    path = folder / name
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for number in range(20):
            image = np.full((240, 320, 3), (180, 60, 40), np.uint8)
            for field in (0, 1):  # a bar that moves from field to field
                at = 20 + (2 * number + field) * 6
                image[field::2, at : at + 60] = 235
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    torn = decoded_in_order(path)[10].astype(int)

    frames = read_frames(path, count=1)

    assert frames.facts["interlaced"]
    whole = frames.pictures[0].astype(int)
    assert np.abs(np.diff(torn, axis=0)).mean() > 3
    assert np.abs(np.diff(whole, axis=0)).mean() < 0.5
    np.testing.assert_allclose(whole[:, 300].mean(axis=0), torn[:, 300].mean(axis=0), atol=2)  # the same colours
    assert not read_frames(write_video(folder / "progressive.ts"), count=1).facts["interlaced"]


MEASURE = """
import re, sys
from pathlib import Path
from smad_features.video import read_frames
frames = read_frames(Path(sys.argv[1]), check=sys.argv[2])
print(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1], len(frames.pictures))
"""


def memory_of_reading(path: Path, check: str) -> float:
    """MB of a process that reads a video, at most. Not `getrusage`: there a child begins with its parent's peak."""
    if not Path("/proc/self/status").exists():
        pytest.skip("needs /proc, which this system does not have")
    command = [sys.executable, "-c", MEASURE, str(path), check]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True)
    peak, count = map(int, done.stdout.split())
    assert count == 8
    return peak / 1000


@pytest.mark.parametrize("check", ["asked", "full"])
def test_memory_does_not_grow_with_length(folder: Path, check: str) -> None:
    long, short = folder / "long.mp4", folder / "short.mp4"
    for path, count in ((long, 5000), (short, 100)):
        if not path.exists():
            write_video(path, [40 * n for n in range(count)], options={"preset": "ultrafast"})

    peak = memory_of_reading(long, check)

    assert peak < memory_of_reading(short, check) + 20
    assert peak < 200


@pytest.fixture(scope="module")
def large(folder: Path) -> Path:
    times = [40 * n for n in range(16)]
    return write_video(folder / "large.mp4", times, size=(3840, 2160), options={"preset": "ultrafast"})


def test_a_4k_video_takes_little_more_memory_than_its_pictures(large: Path) -> None:
    pictures = 8 * 3840 * 2160 * 3 / 1e6  # MB

    assert memory_of_reading(large, "asked") < pictures + 250


@pytest.mark.slow
@pytest.mark.parametrize("name", ["large", "long"])
def test_the_whole_job_stays_below_600_mb(folder: Path, large: Path, tmp_path: Path, name: str) -> None:
    path = large
    if name == "long":
        path = write_video(folder / "job.mp4", [40 * n for n in range(5000)], options={"preset": "ultrafast"})
    (tmp_path / "clips.tsv").write_text(f"clip\tparticipant\tvideo\na\tp\t{path}\n", encoding="utf-8")
    (tmp_path / "config.yaml").write_text("{clips: clips.tsv, face: {model: detector}}", encoding="utf-8")
    program = (
        "import atexit, sys; from pathlib import Path; from smad_features.cli import main;"
        "atexit.register(lambda: print(Path('/proc/self/status').read_text()));"
        "sys.argv[1:] = ['faces', '--configfile', 'config.yaml', 'p']; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True
    )

    assert "faces: a: ok" in done.stderr
    found = re.search(r"VmHWM:\s+(\d+) kB", done.stdout)
    assert found is not None
    assert int(found[1]) / 1000 < 600
