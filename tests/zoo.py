"""Makers of video files as laboratories have them: a face that moves by five pixels a frame, so that it is a clock."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.stream import Disposition

Pictures = list[np.ndarray]
Make = Callable[[Path, Pictures], object]

COUNT, WIDTH, HEIGHT = 24, 320, 180
STEP = 40  # ms
EVEN = tuple(STEP * n for n in range(COUNT))  # 25 frames a second
SHIFT = 5  # pixels to the right from each picture to the next
_MS = Fraction(1, 1000)

# Fast settings, one thread, no chatter.
_FAST: dict[str, dict[str, str]] = {
    "libx264": {"preset": "ultrafast"},
    "libx264rgb": {"preset": "ultrafast"},
    "libx265": {"preset": "ultrafast", "x265-params": "log-level=none:pools=1:keyint=12"},
    "libvpx": {"deadline": "realtime", "cpu-used": "8"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8"},
    "libsvtav1": {"preset": "12", "svtav1-params": "lp=1"},
}
_FORMATS = {".264": "h264", ".y4m": "yuv4mpegpipe", ".mpg": "vob", "": "mp4"}


def x264(**options: int) -> dict[str, str]:
    """Options of libx264 by x264's own names, with underscores for dashes."""
    words = ":".join(f"{name.replace('_', '-')}={value}" for name, value in options.items())
    return {"preset": "ultrafast", "x264-params": f"scenecut=0:b-adapt=0:{words}"}


GROUPS = x264(bframes=2, keyint=12, min_keyint=12)


def read_pictures(video: Path) -> Pictures:
    """24 pictures of 320 x 180 from a video of one face that hardly moves, each shifted by 5 pixels more."""
    with av.open(str(video)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    pictures = []
    for number, frame in enumerate(frames[:: len(frames) // COUNT][:COUNT]):
        small = cv2.resize(frame, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
        move = np.array([[1.0, 0, SHIFT * (number - COUNT // 2)], [0, 1, 0]])
        pictures.append(cv2.warpAffine(small, move, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REFLECT_101))
    return pictures


def write(
    path: Path,
    pictures: Pictures,
    *,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    times: Sequence[int] = EVEN,
    late: int = 0,
    size: tuple[int, int] = (WIDTH, HEIGHT),
    aspect: Fraction | None = None,
    options: dict[str, str] | None = None,
    form: str | None = None,
    form_options: dict[str, str] | None = None,
    turn: Callable[[np.ndarray], np.ndarray] | None = None,
    sound: float = 0.0,
    extra: str = "",
    title: str = "",
) -> Path:
    """A video of the pictures at ``times`` + ``late`` (ms).

    ``size`` is the coded one; ``turn`` is done to each picture before it is coded; ``sound``: seconds of silence, in a
    stream of its own; ``extra``: another stream, one of "cover", "text" or, of a gray picture, "first" and "second".
    """
    form = form or _FORMATS.get(path.suffix)
    is_even = not late and all(time % STEP == 0 for time in times)
    with av.open(str(path), "w", format=form, options=form_options or {}) as container:
        if title:
            container.metadata["title"] = title
        if extra == "text":
            words = container.add_stream("ass")
            words.codec_context.subtitle_header = b"[Script Info]\nScriptType: v4.00+\n"
        others = [container.add_stream("mjpeg", rate=1)] if extra in ("cover", "first") else []
        voice = container.add_stream("aac", rate=16000) if sound else None
        stream: Any = container.add_stream(codec, rate=25, options=_FAST.get(codec, {}) | (options or {}))
        if extra == "second":
            others = [container.add_stream("mjpeg", rate=1)]
        for other in others:
            other.width, other.height, other.pix_fmt = 64, 64, "yuvj420p"
            other.disposition = Disposition.attached_pic if extra == "cover" else Disposition(0)
            stream.disposition = Disposition.default
        stream.width, stream.height = size
        stream.pix_fmt, stream.bit_rate, stream.codec_context.thread_count = pix_fmt, 1_000_000, 1
        unit = Fraction(1, 25) if is_even else _MS
        stream.time_base = stream.codec_context.time_base = unit
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        for other in others:
            grey = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 128, np.uint8), format="rgb24")
            container.mux([*other.encode(grey), *other.encode()])
        for picture, time in zip(pictures, times, strict=False):
            picture = picture if turn is None else turn(picture)
            if picture.shape[1::-1] != size:
                picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24").reformat(format=pix_fmt)
            frame.pts, frame.time_base = round((time + late) * _MS / unit), unit
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if voice is not None:
            for at in range(0, round(sound * 16000), 1024):
                silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
                silence.sample_rate, silence.pts, silence.time_base = 16000, at, Fraction(1, 16000)
                container.mux(voice.encode(silence))
            container.mux(voice.encode())
    return path


def written(**how: Any) -> Make:
    """`write` with these options."""
    return lambda path, pictures: write(path, pictures, **how)


def edited(edit: Callable[[bytes], bytes], **how: Any) -> Make:
    """`write`, then the bytes changed."""
    return lambda path, pictures: path.write_bytes(edit(write(path, pictures, **how).read_bytes()))


def content(data: bytes) -> Make:
    """These bytes."""
    return lambda path, pictures: path.write_bytes(data)


def cut(fraction: float) -> Callable[[bytes], bytes]:
    """Only the first ``fraction`` of the bytes."""
    return lambda data: data[: round(fraction * len(data))]


def packets(path: Path) -> list[tuple[int, int]]:
    """(position, size) of the video's packets in the file, in the order of showing."""
    with av.open(str(path)) as container:
        found: list[Any] = [packet for packet in container.demux(video=0) if packet.size]
    return [(packet.pos, packet.size) for packet in sorted(found, key=lambda packet: packet.pts)]


def damaged(frame: int, *, kept: int = 1000, **how: Any) -> Make:
    """`write`, then noise over the picture shown as number ``frame``, but for its first ``kept`` bytes."""

    def make(path: Path, pictures: Pictures) -> None:
        data = bytearray(write(path, pictures, **how).read_bytes())
        position, size = packets(path)[frame]
        data[position + kept : position + size] = np.random.default_rng(1).bytes(size - kept)
        path.write_bytes(data)

    return make


def display_matrix(a: int, b: int, c: int, d: int) -> Callable[[bytes], bytes]:
    """Another matrix in the track header of an MP4 (ISO/IEC 14496-12, 8.3.2; version 0: 40 bytes into the box)."""
    matrix = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    return lambda data: data[: (at := data.index(b"tkhd") + 44)] + matrix + data[at + 36 :]


def without_its_beginning(frames: int) -> Callable[[bytes], bytes]:
    """An MP4 whose edit list leaves out the first frames (ISO/IEC 14496-12, 8.6.6)."""

    def edit(data: bytes) -> bytes:
        at = data.index(b"elst") + 12  # after version and count: the one entry's length and beginning
        timescale, film_scale = (struct.unpack_from(">I", data, data.index(box) + 16)[0] for box in (b"mdhd", b"mvhd"))
        length, beginning = struct.unpack_from(">2I", data, at)
        entry = length - film_scale * frames // 25, beginning + timescale * frames // 25
        return data[:at] + struct.pack(">2I", *entry) + data[at + 8 :]

    return edit


def boxes(data: bytes) -> list[tuple[bytes, bytes]]:
    """(type, whole box) of an MP4's outermost boxes."""
    found, at = [], 0
    while at < len(data):
        (size,) = struct.unpack_from(">I", data, at)
        found.append((data[at + 4 : at + 8], data[at : at + size]))
        at += size
    return found


def without_moov(data: bytes) -> bytes:
    """An MP4 whose recorder was switched off before it wrote the index."""
    return b"".join(box for name, box in boxes(data) if name != b"moov")


def cover_first(data: bytes) -> bytes:
    """An MP4 with its user data, where the cover is, before its tracks: FFmpeg then lists the cover first."""
    (moov,) = (box for name, box in boxes(data) if name == b"moov")
    order = [b"mvhd", b"udta", b"trak"]
    inner = sorted(boxes(moov[8:]), key=lambda box: order.index(box[0]))
    return data.replace(moov, moov[:8] + b"".join(box for _, box in inner))


def declared_twice_as_long(data: bytes) -> bytes:
    """An AVI whose header counts twice the frames that are there."""
    main = data.index(b"avih") + 8 + 16  # dwTotalFrames
    stream = data.index(b"strh") + 8 + 32  # dwLength
    changed = bytearray(data)
    for at in (main, stream):
        struct.pack_into("<I", changed, at, 2 * struct.unpack_from("<I", data, at)[0])
    return bytes(changed)


def stretches(path: Path, pictures: Pictures, *, sizes: Sequence[tuple[int, int]], is_reset: bool = False) -> None:
    """Transport streams one after another, as recorders cut them; ``is_reset``: the times begin anew in each."""
    data, share = b"", COUNT // len(sizes)
    for number, size in enumerate(sizes):
        late = 1000 if is_reset else 1000 + STEP * share * number  # 1000: room for decoding times before the first
        own = pictures[share * number : share * (number + 1)]
        data += write(path, own, size=size, late=late, options=GROUPS).read_bytes()
    path.write_bytes(data)


def without_packets(frames: range, **how: Any) -> Make:
    """A transport stream that lost all that was sent from one picture to another."""

    def make(path: Path, pictures: Pictures) -> None:
        data = write(path, pictures, **how).read_bytes()
        positions = [position for position, _ in packets(path)]
        path.write_bytes(data[: positions[frames.start]] + data[positions[frames.stop] :])

    return make


def folder(*names: str, bad: str = "") -> Make:
    """Pictures under these names, in this order; ``bad``: one more of them is no picture."""

    def make(path: Path, pictures: Pictures) -> None:
        path.mkdir()
        for name, picture in zip(names, pictures, strict=False):
            cv2.imwrite(str(path / name), picture[..., ::-1])
        if bad:
            (path / bad).write_bytes(b"\xff\xd8\xff damaged by a bad disk")

    return make


def steps(times: Sequence[int]) -> list[int]:
    """How long each frame is shown, in ms; the last one as long as the middle of all others."""
    found = [b - a for a, b in pairwise(times)] or [STEP]
    return [*found[: len(times) - 1], round(float(np.median(found)))]
