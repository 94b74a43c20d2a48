"""A video becomes frames at asked times, with the times that they really have.

Frames are sampled by presentation time, never by index: phones drop frames, and header frame counts lie. The packets
are listed first without decoding (cheap), so that only what an asked frame is made from needs to be decoded.
"""

from __future__ import annotations

import errno
import gc
import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np

from smad_features.containers import VideoError, declared_end, explain, opened
from smad_features.decoding import Decoded, decode, index_frames
from smad_features.frame_folders import list_pictures, read_picture
from smad_features.packets import Index, index_packets

__all__ = ["Frames", "VideoError", "read_frames", "read_pictures", "segment_centres"]

_PLENTY = 1 << 28  # bytes
_LARGE = 4 << 20  # bytes of a picture


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
        What the file is: codec, width, height, video_fps (real mean rate), frames_declared, frames_listed (in the whole
        file), rotation (degrees clockwise that make it upright), interlaced. What is wrong with the clip's span:
        frames_decoded (None unless everything was), decode_errors (in what was decoded), time_gaps (where frames are
        provably lost), lost (fraction of the span lost to errors, gaps and a missing end), longest_step (seconds
        between two frames), frames_repeated (asked frames that repeat the one before, for want of others).
    """

    pictures: list[np.ndarray]
    times: np.ndarray
    facts: dict[str, Any] = field(default_factory=dict)


class _OtherTimesError(Exception):
    """A container that does not say when its frames are shown shows them at other times than was assumed."""


def read_frames(
    path: Path,
    *,
    count: int = 8,
    start: float | None = None,
    end: float | None = None,
    frame_rate: float = 25.0,
    max_lost: float = 0.02,
    check: str = "asked",
) -> Frames:
    """The frames shown at the centres of ``count`` equal segments of ``start``..``end``.

    Parameters
    ----------
    start, end
        Seconds since the video's first shown frame; None = the video's own.
    frame_rate
        Pictures a second, where ``path`` is a folder of images.
    max_lost
        Fraction of the span that may be lost: to decode errors, to gaps where frames are provably lost (see
        `packets`; a variable rate is none), and after the video's end.
    check
        asked = decode what the asked frames are made from; full = decode the whole span once, and count.

    Raises
    ------
    VideoError
        Empty, no video, without frames, damaged or lost where a frame is asked for, or too much of the span is lost.
    FileNotFoundError
        No such file or folder. Other errors of the operating system pass through too: they are not the video's fault.
    """
    if path.is_dir():
        return _read_folder(
            path, count=count, start=start, end=end, frame_rate=frame_rate, max_lost=max_lost, full=check == "full"
        )
    with _in_plain_words(path):
        frames = _read_file(path, count=count, start=start, end=end, max_lost=max_lost, full=check == "full")
    _forget_decoders(frames.pictures)
    return frames


def read_pictures(
    path: Path, times: Sequence[float], *, frame_rate: float = 25.0, max_lost: float = 0.02
) -> list[np.ndarray | None]:
    """The pictures shown at ``times``, (H, W, 3) uint8 RGB, upright, with square pixels; None outside the video.

    Parameters
    ----------
    times
        Seconds since the video's first shown frame, in any order.
    frame_rate, max_lost
        As of `read_frames`; the span is the whole video.

    Raises
    ------
    VideoError
        Empty, no video, without frames, damaged or lost where a picture is asked for, or asked for after the end of a
        video that should last longer.
    FileNotFoundError
        As `read_frames`.
    """
    if path.is_dir():
        return _pictures_of_folder(path, times, frame_rate=frame_rate)
    with _in_plain_words(path), opened(path) as source:
        index = index_packets(path, *source)
        try:
            pictures = _pictures_of_file(path, source, index, times, max_lost=max_lost)
        except _OtherTimesError:
            pictures = _pictures_of_file(path, source, index_frames(path), times, max_lost=max_lost)
    _forget_decoders([picture for picture in pictures if picture is not None])
    return pictures


def segment_centres(start: float, end: float, count: int) -> np.ndarray:
    """(count,) float64: the centres of ``count`` equal segments of ``start``..``end``."""
    return start + (np.arange(count) + 0.5) * ((end - start) / count)


@contextmanager
def _in_plain_words(path: Path) -> Iterator[None]:
    """What FFmpeg finds wrong with a file that is read here becomes a VideoError."""
    if path.stat().st_size == 0:
        raise VideoError("the file is empty (0 bytes)")
    try:
        yield
    except av.FFmpegError as error:  # never an I/O error: those come from our own open file, as plain OSError
        if isinstance(error, MemoryError):
            bytearray(_PLENTY)  # want of memory raises here, and is not the video's fault
            raise VideoError("it asks for more memory than there is: a size in it is damaged") from error
        raise explain(path, error) from error
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise VideoError("it points to a place before its own beginning") from error


def _forget_decoders(pictures: list[np.ndarray]) -> None:
    # A frame and its side data refer to each other, and one that is left keeps all memory of its decoder: 100 MB for a
    # 4K video, and of a small one not worth the time. They are young: the whole heap is not looked through.
    if max((picture.nbytes for picture in pictures), default=0) > _LARGE:
        gc.collect(1)


def _read_file(path: Path, *, max_lost: float, **asked: Any) -> Frames:
    with opened(path) as (container, stream):
        index = index_packets(path, container, stream)
        try:
            return _read_indexed(path, (container, stream), index, max_lost=max_lost, **asked)
        except _OtherTimesError:
            index = index_frames(path)
        return _read_indexed(path, (container, stream), index, max_lost=max_lost, **asked)


def _read_indexed(
    path: Path,
    source: tuple[Any, Any],
    index: Index,
    *,
    count: int,
    start: float | None,
    end: float | None,
    max_lost: float,
    full: bool,
) -> Frames:
    _, stream = source
    length, declared = _lengths(path, source, index)
    tick, first = float(stream.time_base), index.shown[0]
    begin, stop, wanted_stop = _span(start, end, length, declared=declared, max_lost=max_lost)
    wanted = _shown_at(segment_centres(begin, stop, count), index, tick=tick)
    span = (first + round(begin / tick), first + round(stop / tick))
    within = [s for s in index.shown[max(0, bisect_right(index.shown, span[0]) - 1) :] if s < span[1]]
    decoded = _decode_all(path, source, index, wanted, everything=within if full else [])
    bad = set(within) - decoded.good if full else decoded.errors
    gaps = [(max(a, span[0]), min(b, span[1])) for a, b in index.gaps if a < span[1] and b > span[0]]
    lost = (index.steps_within(bad, *span) + sum(b - a for a, b in gaps)) * tick + wanted_stop - stop
    fraction = lost / (wanted_stop - begin)
    if fraction > max_lost:
        raise VideoError(
            f"{fraction:.1%} of the clip's {wanted_stop - begin:.3f} s is lost ({len(decoded.errors)} decode errors,"
            f" {len(gaps)} gaps, {wanted_stop - stop:.3f} s missing at the end); `video.max_lost` allows {max_lost:.1%}"
        )
    edges = [span[0], *(s for s in within if s > span[0]), span[1]]
    facts = {
        "codec": stream.codec_context.codec.canonical_name,
        "width": stream.codec_context.width,
        "height": stream.codec_context.height,
        "video_fps": len(index.shown) / length,
        "frames_declared": stream.frames or None,
        "frames_listed": len(index.shown),
        "rotation": decoded.rotation,
        "interlaced": decoded.interlaced,
        "frames_decoded": len(decoded.good & set(within)) if full else None,
        "decode_errors": len(decoded.errors),
        "time_gaps": len(gaps),
        "lost": fraction,
        "longest_step": max(b - a for a, b in pairwise(edges)) * tick,
        "frames_repeated": count - len(set(wanted)),
    }
    seconds = np.array([(shown - first) * tick - begin for shown in wanted])
    return Frames([decoded.pictures[shown] for shown in wanted], seconds, facts)


def _pictures_of_file(
    path: Path, source: tuple[Any, Any], index: Index, times: Sequence[float], *, max_lost: float
) -> list[np.ndarray | None]:
    length, declared = _lengths(path, source, index)
    tick = float(source[1].time_base)
    if declared - length > max_lost * declared:
        for time in times:
            if length <= time < declared:
                raise VideoError(
                    f"the frame at {time:.3f} s is lost: the header declares {declared:.3f} s, but the video ends at"
                    f" {length:.3f} s"
                )
    within = [i for i, time in enumerate(times) if -tick / 1000 <= time < length - tick / 1000]
    wanted = _shown_at(np.array([times[i] for i in within]), index, tick=tick)
    decoded = _decode_all(path, source, index, wanted, everything=[])
    shown = dict(zip(within, wanted, strict=True))
    return [decoded.pictures[shown[i]] if i in shown else None for i in range(len(times))]


def _lengths(path: Path, source: tuple[Any, Any], index: Index) -> tuple[float, float]:
    """How many seconds a video really lasts, and how many it should."""
    if not index.shown:
        raise VideoError("it has a video stream without a single frame")
    container, stream = source
    tick, first = float(stream.time_base), index.shown[0]
    length, declared = (index.end - first) * tick, declared_end(path, container, stream)
    # Where packets fill the declared time nothing is missing, whatever offset the header adds (fragments of an MP4).
    filled = "mp4" in container.format.name and stream.duration is not None and index.extent >= stream.duration
    origin = stream.start_time if index.is_assumed and stream.start_time is not None else first
    return length, length if declared is None or filled else declared - max(0.0, origin * tick)


def _shown_at(times: np.ndarray, index: Index, *, tick: float) -> list[int]:
    """Which frame is shown at each of ``times``, seconds since the first one, by when it begins to be shown."""
    first = index.shown[0]
    begins = [(shown - first) * tick for shown in index.shown]
    asked = times + tick / 1000  # a hair later: a time at a frame's very start is that frame's, however it was rounded
    wanted = [index.shown[bisect_right(begins, time) - 1] for time in asked]
    for time, shown in zip(asked, wanted, strict=True):
        _refuse_gap(index, time, shown, first=first, tick=tick)
    return wanted


def _decode_all(
    path: Path, source: tuple[Any, Any], index: Index, wanted: list[int], *, everything: list[int]
) -> Decoded:
    """What decoding gave, with a picture of each of the ``wanted`` frames."""
    if not wanted:
        return Decoded()
    decoded = decode(path, source, index, sorted(set(wanted)), everything=everything)
    missing = [shown for shown in wanted if shown not in decoded.pictures]
    if missing and index.is_assumed and not decoded.errors:
        raise _OtherTimesError
    if missing:
        raise VideoError(
            f"the frame at {(missing[0] - index.shown[0]) * float(source[1].time_base):.3f} s cannot be decoded"
            f" ({len(set(missing))} of {len(set(wanted))} asked frames, {len(decoded.errors)} decode errors)"
        )
    return decoded


def _span(
    start: float | None, end: float | None, length: float, *, declared: float = 0.0, max_lost: float
) -> tuple[float, float, float]:
    """The clip's span in a video that really lasts ``length`` seconds, and the end that it should have.

    Without an end it should last as declared.
    """
    begin = 0.0 if start is None else start
    stop = max(length, declared) if end is None else end
    if begin >= length:
        raise VideoError(f"the clip starts at {begin:g} s, but the video ends at {length:.3f} s")
    lost = (stop - length) / (stop - begin)
    if lost > max_lost:
        wanted = f"the clip is {begin:g} to {stop:g} s" if end is not None else f"the header declares {declared:.3f} s"
        raise VideoError(f"{wanted}, but the video ends at {length:.3f} s ({lost:.0%} lost)")
    return begin, min(stop, length), stop


def _refuse_gap(index: Index, time: float, shown: int, *, first: int, tick: float) -> None:
    """The last frame before a gap is not what was shown in it."""
    for begin, stop in index.gaps:
        if shown < begin <= first + time / tick < stop:
            raise VideoError(
                f"the frame at {time:.3f} s is lost: no frame is left between {(begin - first) * tick:.3f}"
                f" and {(stop - first) * tick:.3f} s, where there were some"
            )


def _read_folder(
    folder: Path,
    *,
    count: int,
    start: float | None,
    end: float | None,
    frame_rate: float,
    max_lost: float,
    full: bool,
) -> Frames:
    """A folder of images, in the natural order of the number in their names, ``frame_rate`` pictures a second."""
    files = list_pictures(folder)
    begin, stop, wanted_stop = _span(start, end, len(files) / frame_rate, max_lost=max_lost)
    numbers = [min(len(files) - 1, int(t * frame_rate + 1e-6)) for t in segment_centres(begin, stop, count)]
    within = range(int(begin * frame_rate + 1e-6), min(len(files), math.ceil(stop * frame_rate - 1e-6)))
    pictures: dict[int, np.ndarray] = {}
    first: np.ndarray | None = None
    for n in sorted(set(within if full else numbers) | set(numbers)):
        picture = read_picture(files[n])
        if first is None:
            first, first_name = picture, files[n].name
        elif picture.shape != first.shape:
            (height, width), (other_height, other_width) = first.shape[:2], picture.shape[:2]
            raise VideoError(
                f"its pictures differ in size: {first_name} has {width} x {height} pixels,"
                f" {files[n].name} has {other_width} x {other_height}"
            )
        if n in numbers:
            pictures[n] = picture
    facts = {
        "codec": "images",
        "width": pictures[numbers[0]].shape[1],
        "height": pictures[numbers[0]].shape[0],
        "video_fps": frame_rate,
        "frames_declared": len(files),
        "frames_listed": len(files),
        "rotation": 0,
        "interlaced": False,
        "frames_decoded": len(within) if full else None,
        "decode_errors": 0,
        "time_gaps": 0,
        "lost": (wanted_stop - stop) / (wanted_stop - begin),
        "longest_step": 1 / frame_rate,
        "frames_repeated": count - len(pictures),
    }
    return Frames([pictures[n] for n in numbers], np.array(numbers) / frame_rate - begin, facts)


def _pictures_of_folder(folder: Path, times: Sequence[float], *, frame_rate: float) -> list[np.ndarray | None]:
    files = list_pictures(folder)
    numbers = [math.floor(time * frame_rate + 1e-6) for time in times]
    read = {n: read_picture(files[n]) for n in sorted(set(numbers)) if 0 <= n < len(files)}
    return [read.get(n) for n in numbers]
