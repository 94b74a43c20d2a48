"""A video becomes frames at asked times, with the times that they really have.

Frames are sampled by presentation time, never by index: phones drop frames, and header frame counts lie. The packets
are listed first without decoding (cheap), so that only the stretches that hold an asked frame need to be decoded.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import av
import cv2
import numpy as np
from av.stream import Disposition

_IMAGE_ENDINGS = {".jpg", ".jpeg", ".png", ".bmp"}
# FFmpeg opens URLs and playlists too: it gets an open file, and nothing that this file names may be opened.
# It also makes up times where a container has none, and for AVI with B-frames wrong ones: not here.
_OPTIONS = {"protocol_whitelist": "none", "fflags": "-genpts"}


class VideoError(ValueError):
    """A video cannot be used: what was wanted of it and what was found."""


@dataclass(frozen=True)
class Frames:
    """The frames of a clip.

    Attributes
    ----------
    pictures
        One (H, W, 3) uint8 RGB picture a frame, upright, with square pixels. Sizes may differ within a video.
    times
        (n,) float64, seconds from the clip's start: when each frame is really shown.
    facts
        What the file is: codec, width, height, video_fps (real mean rate), frames_declared, frames_listed,
        rotation (degrees clockwise that make it upright), decode_errors.
    """

    pictures: list[np.ndarray]
    times: np.ndarray
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Index:
    """When the frames of a video are shown, in units of the stream's time base, from its packets."""

    shown: list[int]  # sorted
    keyframes: list[tuple[int, int]]  # (shown, decoding time stamp), sorted
    end: int


def read_frames(
    path: Path,
    *,
    count: int = 8,
    start: float | None = None,
    end: float | None = None,
    frame_rate: float = 25.0,
    max_lost: float = 0.02,
) -> Frames:
    """The frames shown at the centres of ``count`` equal segments of ``start``..``end``.

    Parameters
    ----------
    start, end
        Seconds since the video's first shown frame; None = the video's own.
    frame_rate
        Pictures a second, where ``path`` is a folder of images.
    max_lost
        Fraction of the span that may lie after the video's end.

    Raises
    ------
    VideoError
        Empty, no video, without frames, damaged where a frame is asked for, or shorter than the span.
    FileNotFoundError
        No such file or folder. Other errors of the operating system pass through too: they are not the video's fault.
    """
    if path.is_dir():
        return _read_folder(path, count=count, start=start, end=end, frame_rate=frame_rate, max_lost=max_lost)
    if path.stat().st_size == 0:
        raise VideoError("the file is empty (0 bytes)")
    try:
        return _read_file(path, count=count, start=start, end=end, max_lost=max_lost)
    except av.FFmpegError as error:  # never an I/O error: those come from our own open file, as plain OSError
        if isinstance(error, MemoryError):
            raise
        raise VideoError(f"FFmpeg cannot read it as a video: {error.strerror}") from error


def segment_centres(start: float, end: float, count: int) -> np.ndarray:
    """(count,) float64: the centres of ``count`` equal segments of ``start``..``end``."""
    return start + (np.arange(count) + 0.5) * ((end - start) / count)


def _read_file(path: Path, *, count: int, start: float | None, end: float | None, max_lost: float) -> Frames:
    with _opened(path) as (container, stream):
        index = _index_packets(container, stream)
        tick = float(stream.time_base)
        declared_end = _declared_end(container, stream)
        facts: dict[str, Any] = {
            "codec": stream.codec_context.name,
            "width": stream.codec_context.width,
            "height": stream.codec_context.height,
            "frames_declared": stream.frames or None,
        }
    if index is None:
        with _opened(path) as (container, stream):
            index = _index_frames(container, stream)
    if not index.shown:
        raise VideoError("it has a video stream without a single frame")
    first = index.shown[0]
    length = (index.end - first) * tick
    facts |= {"video_fps": len(index.shown) / length, "frames_listed": len(index.shown)}
    declared = length if declared_end is None else declared_end - max(0.0, first * tick)
    begin, stop = _span(start, end, length, declared=declared, max_lost=max_lost)
    asked = segment_centres(begin, stop, count)
    times = [(shown - first) * tick for shown in index.shown]
    # A hair later: a centre on a frame's very start is that frame's, however it was rounded.
    wanted = [index.shown[bisect_right(times, t + tick / 1000) - 1] for t in asked]

    pictures, errors, rotation = _decode(path, index, sorted(set(wanted)))
    missing = [shown for shown in wanted if shown not in pictures]
    if missing:
        raise VideoError(
            f"the frame at {(missing[0] - first) * tick:.3f} s cannot be decoded"
            f" ({len(set(missing))} of {len(set(wanted))} asked frames, {errors} decode errors)"
        )
    facts |= {"rotation": rotation, "decode_errors": errors}
    seconds = np.array([(shown - first) * tick - begin for shown in wanted])
    return Frames([pictures[shown] for shown in wanted], seconds, facts)


def _span(
    start: float | None, end: float | None, length: float, *, declared: float = 0.0, max_lost: float
) -> tuple[float, float]:
    """The clip's span in a video that really lasts ``length`` seconds. Without an end it should last as declared."""
    begin = 0.0 if start is None else start
    stop = max(length, declared) if end is None else end
    if begin >= length:
        raise VideoError(f"the clip starts at {begin:g} s, but the video ends at {length:.3f} s")
    lost = (stop - length) / (stop - begin)
    if lost > max_lost:
        wanted = f"the clip is {begin:g} to {stop:g} s" if end is not None else f"the header declares {declared:.3f} s"
        raise VideoError(f"{wanted}, but the video ends at {length:.3f} s ({lost:.0%} lost)")
    return begin, min(stop, length)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """The container and the stream that a player would show."""
    with path.open("rb") as file, av.open(file, options=_OPTIONS) as container:
        stream = _video_stream(container)
        if stream.codec_context is None:
            raise VideoError("FFmpeg has no decoder for its video stream")
        stream.codec_context.thread_count = 1  # clips run side by side, one core each
        if stream.codec_context.name == "hevc":  # the one decoder that conceals damage without a word
            stream.codec_context.options = {"err_detect": "explode"}
        yield container, stream


def _video_stream(container: Any) -> Any:
    """The default stream, never a cover picture."""
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not streams:
        found = ", ".join(s.type for s in container.streams) or "nothing"
        raise VideoError(f"it has no video stream; found: {found}")
    return max(streams, key=lambda s: bool(s.disposition & Disposition.default))


def _declared_end(container: Any, stream: Any) -> float | None:
    """When the header says that the pictures end; None where it speaks of the whole file, and sound may be longer."""
    if stream.duration:
        return float(((stream.start_time or 0) + stream.duration) * stream.time_base)
    if match := re.fullmatch(r"(\d+):(\d+):([\d.]+)", stream.metadata.get("DURATION", "")):  # Matroska
        hours, minutes, seconds = match.groups()
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    return container.duration / av.time_base if container.duration and len(container.streams) == 1 else None


def _index_packets(container: Any, stream: Any) -> _Index | None:
    """When frames are shown, from the packets alone; None where the container does not say (AVI, raw streams)."""
    shown, ends, keyframes = [], [], []
    for packet in container.demux(stream):
        if not packet.size or packet.is_discard:  # discarded: cut away by an edit list
            continue
        if packet.pts is None:
            return None
        shown.append(packet.pts)
        ends.append(packet.pts + (packet.duration or 0))
        if packet.is_keyframe:
            keyframes.append((packet.pts, packet.pts if packet.dts is None else packet.dts))
    return _index(shown, ends, keyframes, step=_step(stream))


def _index_frames(container: Any, stream: Any) -> _Index:
    """The same by decoding everything."""
    shown = [time for time, frame in _decoded(container, stream) if frame is not None]
    step = _step(stream)
    return _index(shown, [time + step for time in shown], [], step=step)


def _index(shown: list[int], ends: list[int], keyframes: list[tuple[int, int]], *, step: int) -> _Index:
    """``step``: how long a frame is shown if it is the only one and its packet does not say."""
    shown = sorted(set(shown))
    steps = [b - a for a, b in pairwise(shown)] or [step]
    last = max(ends, default=0)
    return _Index(shown, sorted(keyframes), max(last, round(shown[-1] + median(steps))) if shown else 0)


def _decode(path: Path, index: _Index, wanted: list[int]) -> tuple[dict[int, np.ndarray], int, int]:
    """Pictures by time of showing, the number of decode errors, and the rotation in degrees clockwise."""
    pictures: dict[int, np.ndarray] = {}
    errors: set[int] = set()
    rotation = 0
    # Some containers are searched by times of showing, some by decoding times. Last, all is decoded from the start.
    groups = _groups(index, wanted)
    by_shown, by_decoding = ([(key and key[i], group) for key, group in groups] for i in range(2))
    for attempt in (by_shown, by_decoding, [(None, wanted)]):
        left = [(seek_to, group) for seek_to, group in attempt if any(shown not in pictures for shown in group)]
        if not left:
            break
        with _opened(path) as (container, stream):
            for seek_to, group in left:
                # After a seek and after damage all that is shown is spoilt, up to the next key frame.
                spoilt_until: float | None = None
                if seek_to is not None:
                    spoilt_until = float("-inf")
                    container.seek(seek_to, stream=stream, backward=True)
                for shown, frame in _decoded(container, stream):
                    if frame is None or frame.is_corrupt:
                        if spoilt_until != float("-inf"):  # a seek may land where no decoder can begin: no error
                            errors.add(shown)
                            spoilt_until = max(shown, spoilt_until or shown)
                    elif spoilt_until is not None and frame.key_frame and shown > spoilt_until:
                        spoilt_until = None
                    if spoilt_until is None and shown in group:
                        pictures[shown], rotation = _upright(frame, stream.sample_aspect_ratio)
                    if frame is not None and shown >= group[-1]:
                        break
    return pictures, len(errors), rotation


def _groups(index: _Index, wanted: list[int]) -> list[tuple[tuple[int, int] | None, list[int]]]:
    """Asked frames that one key frame serves, with the key frame to seek to: what lies between is never decoded."""
    shown = [key for key, _ in index.keyframes]
    groups: dict[tuple[int, int] | None, list[int]] = {}
    for time in wanted:
        at = bisect_right(shown, time) - 1
        groups.setdefault(index.keyframes[at] if at > 0 else None, []).append(time)
    return list(groups.items())


def _decoded(container: Any, stream: Any) -> Iterator[tuple[int, Any]]:
    """Frames in the order of showing, with their times; for a packet that is damaged its time and None.

    A frame without any time stamp follows the one before it at the mean rate.
    """
    step = _step(stream)
    last: int | None = None
    for packet in container.demux(stream):
        frames, damaged = [], packet.is_corrupt
        try:
            frames = packet.decode()
        except av.FFmpegError as error:
            if isinstance(error, MemoryError):
                raise
            damaged = True
        if damaged:
            yield _first_known(packet.pts, packet.dts, last), None
        for frame in frames:
            last = _first_known(frame.pts, frame.dts, None if last is None else last + step)
            yield last, frame


def _first_known(*times: int | None) -> int:
    return next((time for time in times if time is not None), 0)


def _step(stream: Any) -> int:
    """The mean time between two frames."""
    rate = stream.average_rate or stream.guessed_rate or 25
    return max(1, round(1 / (rate * stream.time_base)))


def _upright(frame: Any, aspect: Fraction | None) -> tuple[np.ndarray, int]:
    """The frame as RGB, turned and mirrored as its display matrix says, and the turn in degrees clockwise.

    Pixels are made square: ``aspect`` is a coded pixel's width / height.
    Source of the matrix: ISO/IEC 14496-12, 8.2.2 (track header). Its upper left part maps (x, y) to
    (a x + c y, b x + d y), x to the right and y down.
    """
    picture = frame.to_ndarray(format="rgb24")
    if aspect and aspect > 0 and aspect != 1:  # stretch, never shrink: nothing is lost
        height, width = picture.shape[:2]
        size = (round(width * aspect), height) if aspect > 1 else (width, round(height / aspect))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR)
    matrix = next((d for d in frame.side_data if d.type.name == "DISPLAYMATRIX"), None)
    if matrix is None:
        return picture, 0
    a, b, _, c, d = np.frombuffer(matrix, "<i4")[:5].tolist()
    if abs(a) + abs(d) >= abs(b) + abs(c):
        across, down, turn = a, d, 180 if a < 0 and d < 0 else 0
    else:
        picture = picture.transpose(1, 0, 2)
        across, down, turn = c, b, 90 if b > 0 else 270
    if across < 0:
        picture = picture[:, ::-1]
    if down < 0:
        picture = picture[::-1]
    return np.ascontiguousarray(picture), turn


def _read_folder(
    folder: Path, *, count: int, start: float | None, end: float | None, frame_rate: float, max_lost: float
) -> Frames:
    """A folder of images, in the natural order of the number in their names, ``frame_rate`` pictures a second."""
    files = [f for f in folder.iterdir() if f.suffix.lower() in _IMAGE_ENDINGS and not f.name.startswith(".")]
    if not files:
        raise VideoError(f"the folder holds no pictures; looked for {', '.join(sorted(_IMAGE_ENDINGS))}")
    files.sort(key=lambda file: _natural_order(file.name))
    begin, stop = _span(start, end, len(files) / frame_rate, max_lost=max_lost)
    numbers = [min(len(files) - 1, int(t * frame_rate + 1e-6)) for t in segment_centres(begin, stop, count)]
    pictures = {n: _read_picture(files[n]) for n in sorted(set(numbers))}
    first = pictures[numbers[0]]
    facts = {
        "codec": "images",
        "width": first.shape[1],
        "height": first.shape[0],
        "video_fps": frame_rate,
        "frames_declared": len(files),
        "frames_listed": len(files),
        "rotation": 0,
        "decode_errors": 0,
    }
    return Frames([pictures[n] for n in numbers], np.array(numbers) / frame_rate - begin, facts)


def _natural_order(name: str) -> tuple[list[str | int], str]:
    """What sorts `2.jpg` before `10.jpg`, and `01.jpg` and `1.jpg` always the same way."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)], name


def _read_picture(file: Path) -> np.ndarray:
    """One image as RGB. Read as bytes first: an I/O error must not look like a damaged picture."""
    data = np.frombuffer(file.read_bytes(), np.uint8)
    picture = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB) if data.size else None
    if picture is None:
        raise VideoError(f"the picture {file.name} cannot be decoded ({data.size} bytes)")
    return picture
