"""Videos made on the spot: the containers, codecs and defects that tests ask for; their frames say which they are."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.stream import Disposition

from smad_features.video import Frames

MS = Fraction(1, 1000)
TWO_SECONDS = [40 * n for n in range(50)]  # 25 frames a second, in ms
# B-frames, and a key frame every 12 frames.
GROUPS = {"preset": "ultrafast", "x264-params": "bframes=2:b-adapt=0:keyint=12:min-keyint=12:scenecut=0"}


def picture(number: int, *, width: int = 160, height: int = 120, noise: int = 0) -> np.ndarray:
    """A frame that says which it is: eight black or white blocks in the upper half; the lower left is red."""
    image = np.full((height, width, 3), 96, np.uint8)
    edges = np.linspace(0, width, 9).round().astype(int)
    for bit in range(8):
        image[: height // 2, edges[bit] : edges[bit + 1]] = 235 if number >> bit & 1 else 16
    image[height // 2 :, : width // 2] = (200, 60, 40)
    if noise:
        grain = np.random.default_rng(number).integers(-noise, noise, image.shape)
        image = np.clip(image.astype(int) + grain, 0, 255).astype(np.uint8)
    return image


def number_in(image: np.ndarray) -> int:
    height, width = image.shape[:2]
    blocks = [image[height // 4, round((bit + 0.5) * width / 8)].mean() > 128 for bit in range(8)]
    return sum(1 << bit for bit, white in enumerate(blocks) if white)


def numbers_in(frames: Frames) -> list[int]:
    return [number_in(image) for image in frames.pictures]


def write_video(
    path: Path,
    times: Sequence[int] = TWO_SECONDS,
    *,
    codec: str = "libx264",
    time_base: Fraction = MS,
    size: tuple[int, int] = (160, 120),
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    aspect: Fraction | None = None,
    noise: int = 0,
    sound: float = 0,
    cover: bool = False,
) -> Path:
    """A video with numbered frames at ``times`` (ms), ``sound`` seconds of silence, a cover picture."""
    with av.open(str(path), "w", options=container_options or {}) as container:
        if cover:
            art = container.add_stream("png", rate=1)
            art.width, art.height, art.pix_fmt, art.disposition = 64, 64, "rgb24", Disposition.attached_pic
        stream: Any = container.add_stream(codec, rate=25, options=options or {})
        stream.width, stream.height = size
        stream.pix_fmt = pix_fmt
        stream.time_base = stream.codec_context.time_base = time_base
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        voice = container.add_stream("aac", rate=16000) if sound else None
        if cover:
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 128, np.uint8), format="rgb24")
            container.mux([*art.encode(frame), *art.encode()])
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(
                picture(number, width=size[0], height=size[1], noise=noise), format="rgb24"
            )
            frame.pts, frame.time_base = round(time * MS / time_base), time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if voice is not None:
            for at in range(0, round(sound * 16000), 1024):
                silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
                silence.sample_rate, silence.pts, silence.time_base = 16000, at, Fraction(1, 16000)
                container.mux(voice.encode(silence))
            container.mux(voice.encode())
    return path


def turned(path: Path, matrix: tuple[int, int, int, int], *, shift: tuple[int, int] = (0, 0)) -> Path:
    """The MP4 with another display matrix (a, b, c, d) in its track header (ISO/IEC 14496-12, 8.3.2)."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40  # version 0: the matrix begins 40 bytes into the box's content
    a, b, c, d = (value << 16 for value in matrix)
    x, y = (value << 16 for value in shift)
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, x, y, 1 << 30)
    other = path.with_name(f"turned{matrix}.mp4")
    other.write_bytes(data)
    return other


def overwritten(path: Path, frame: int, *, kept: float = 0.0) -> Path:
    """The same file with noise for the picture shown as number ``frame``, but for its beginning, at least 12 bytes."""
    with av.open(str(path)) as container:
        packets: list[Any] = [(p.pts, p.pos, p.size) for p in container.demux(video=0) if p.size]
    _, position, size = sorted(packets)[frame]
    data = bytearray(path.read_bytes())
    begin = max(12, round(kept * size))
    noise = np.random.default_rng(1).integers(0, 256, size - begin, dtype=np.uint8).tobytes()
    data[position + begin : position + size] = noise
    other = path.with_name(f"damaged{frame}-{kept}-{path.name}")
    other.write_bytes(data)
    return other


def with_its_cover_first(path: Path) -> Path:
    """The MP4 with its user data, where the cover is, before its tracks: FFmpeg then lists the cover first."""
    data = path.read_bytes()
    start = data.index(b"moov") - 4
    (end,) = (start + size for (size,) in [struct.unpack_from(">I", data, start)])
    boxes, at = [], start + 8
    while at < end:
        (size,) = struct.unpack_from(">I", data, at)
        boxes.append(data[at : at + size])
        at += size
    boxes.sort(key=lambda box: [b"mvhd", b"udta", b"trak"].index(box[4:8]))
    other = path.with_name(f"first-{path.name}")
    other.write_bytes(data[: start + 8] + b"".join(boxes) + data[end:])
    return other


def decoded_in_order(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def without_packets(path: Path, lost: range, to: Path, *, sound_too: bool = False, fragments: bool = False) -> Path:
    """The same packets but for some of the pictures', counted in the order of decoding, and their sound."""
    options = {"movflags": "frag_keyframe+empty_moov"} if fragments else {}
    with av.open(str(path)) as whole, av.open(str(to), "w", options=options) as cut:
        streams = {stream.index: cut.add_stream_from_template(stream) for stream in whole.streams}
        packets: list[Any] = [packet for packet in whole.demux() if packet.size]
        gone = [packet for packet in packets if packet.stream.type == "video"][lost.start : lost.stop]
        times = [packet.pts * packet.time_base for packet in gone]
        for packet in packets:
            inside = min(times) <= packet.pts * packet.time_base <= max(times)
            if any(packet is one for one in gone) or (sound_too and packet.stream.type == "audio" and inside):
                continue
            packet.stream = streams[packet.stream_index]
            cut.mux(packet)
    return to
