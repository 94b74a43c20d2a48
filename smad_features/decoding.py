"""The frames of a video at known times are decoded, and as little else as possible."""

from __future__ import annotations

from bisect import bisect_right
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np

from smad_features.containers import mean_step, opened
from smad_features.packets import Index, index_times
from smad_features.pictures import to_picture

# Decoders that skip, when told so, what no other frame is made from. Not HEVC's: a frame that its own layer does not
# refer to may still be needed by a higher one.
_SKIPPING = {"h264", "mpeg4", "mpeg2video", "mpeg1video"}
_BY_DECODING_TIMES = {"mpegts", "flv"}
_UNKNOWN = float("-inf")


@dataclass
class Decoded:
    """What decoding gave, by times of showing in units of the stream's time base.

    ``good``: all frames that decoded well; ``errors``: packets and frames that did not; ``rotation``: in degrees
    clockwise.
    """

    pictures: dict[int, np.ndarray] = field(default_factory=dict)
    good: set[int] = field(default_factory=set)
    errors: set[int] = field(default_factory=set)
    rotation: int = 0
    interlaced: bool = False


@dataclass(frozen=True)
class _Stretch:
    """Frames that are decoded in one go, from a key frame (shown, decoding time stamp) on; None = the file's start."""

    key: tuple[int, int] | None
    seek_to: int | None
    group: list[int]


def decode(path: Path, source: tuple[Any, Any], index: Index, wanted: list[int], *, everything: list[int]) -> Decoded:
    """Pictures of the ``wanted`` frames, with all that they are made from decoded, or all frames of a span.

    Parameters
    ----------
    source
        The open container and stream that the index is of; opened anew where it cannot be searched.
    wanted, everything
        Times of showing, sorted. ``everything``: all frames of the span; empty = only what is needed.
    """
    decoded = Decoded()
    settled: set[int] = set()
    quick = not everything and not index.is_assumed
    for attempt, stretches in enumerate(_ways(index, everything or wanted, source[0].format.name, whole=not quick)):
        sought = set(wanted) - decoded.pictures.keys() - settled
        left = [stretch for stretch in stretches if sought.intersection(stretch.group)]
        if not left:
            continue
        opening: Any = opened(path) if attempt else nullcontext(source)
        with opening as (container, stream):
            for stretch in left:
                if stretch.seek_to is not None:
                    try:
                        container.seek(stretch.seek_to, stream=stream, backward=True)
                    except av.FFmpegError:  # what cannot be searched is read from its start in the end
                        continue
                errors = len(decoded.errors)
                met = _decode_stretch(container, stream, index, stretch, sought, decoded, quick=quick and not attempt)
                # Where the right packets were read and did not decode, no other way to them would help.
                if met and len(decoded.errors) > errors:
                    settled.update(stretch.group)
    return decoded


def index_frames(path: Path) -> Index:
    """When frames are shown, by decoding everything: where packets do not say."""
    with opened(path) as (container, stream):
        last: int | None = None
        shown, step = [], mean_step(stream)
        for packet in container.demux(stream):
            for frame in decode_packet(packet)[0]:
                last = _time_of(frame, last, step)
                shown.append(last)
    return index_times(shown, max(shown, default=0) + step, [], step=step)


def _ways(index: Index, times: list[int], container_format: str, *, whole: bool) -> list[list[_Stretch]]:
    """Ways to the frames at ``times``, one to be tried after the other; ``whole``: all of them in one stretch.

    Each key frame serves the asked frames up to the next one: what lies between is never decoded.
    """
    from_start = [_Stretch(None, None, times)]
    if index.is_assumed:
        return [[_Stretch(None, index.shown[0], times)], from_start]
    shown = [key for key, _ in index.keyframes]
    groups: dict[int, list[int]] = {}
    for time in times:
        groups.setdefault(bisect_right(shown, times[0] if whole else time) - 1, []).append(time)
    keys = [(index.keyframes[at], group) for at, group in groups.items() if at >= 0]
    by_shown, by_decoding = ([_Stretch(key, key[i], group) for key, group in keys] for i in range(2))
    # Some containers are searched by times of showing, some by decoding times. Last, all is decoded from the start.
    searches = [by_decoding, by_shown] if container_format in _BY_DECODING_TIMES else [by_shown, by_decoding]
    return [*searches, from_start]


def _decode_stretch(
    container: Any,
    stream: Any,
    index: Index,
    stretch: _Stretch,
    wanted: set[int],
    decoded: Decoded,
    *,
    quick: bool,
) -> bool:
    """Decode from where the container stands to the stretch's end; whether it began where it should: a search may miss.

    ``quick``: skip what no other frame is made from, and stop at the last wanted packet: all that its frame is made
    from comes before it, so the decoder need not see more to give it.
    """
    codec, step = stream.codec_context, mean_step(stream)
    skipping = quick and codec.name in _SKIPPING
    key, group = stretch.key, stretch.group
    pending = wanted.intersection(group)
    landed = key is None and stretch.seek_to is None
    # After a seek and after damage all that is decoded is spoilt, up to the next key frame.
    spoilt_until = None if key is None else _UNKNOWN
    spoilt_from = 0  # in the order of decoding: what came before the damage may be shown after it
    order: dict[int | None, int] = {}
    last: int | None = None
    late = 0
    for packet in container.demux(stream):
        if skipping:
            codec.skip_frame = "DEFAULT" if packet.pts in pending else "NONREF"
        if not landed:
            landed = packet.pts == key[0] if key else packet.dts == stretch.seek_to
            if not landed and (key is None or (packet.dts is not None and packet.dts > key[1])):
                return False
        order[packet.pts] = len(order)
        frames, damaged = decode_packet(packet)
        damaged = damaged or (packet.is_corrupt if index.is_assumed else packet.pts in index.flagged)
        pending.discard(packet.pts)
        finished = quick and not pending
        if finished:
            drained, failed = _decode_or_fail(codec.decode)
            frames, damaged = frames + drained, damaged or failed
        if damaged or packet.pts in index.orphans:
            frames = [None, *frames]
        for frame in frames:
            if frame is None:
                shown = next((t for t in (packet.pts, packet.dts, last) if t is not None), 0) - late
            else:
                if last is None and index.is_assumed:  # decoders give a frame the time of the packet that it came after
                    late = _time_of(frame, last, step) - index.shown[0]
                last = _time_of(frame, last, step)
                shown = last - late
            if frame is None or frame.is_corrupt:
                # A seek may land where no decoder can begin: what fails before its key frame is no error.
                if spoilt_until != _UNKNOWN or (landed and key is not None and shown >= key[0]):
                    decoded.errors.add(shown)
                    at = order.get(shown, len(order))
                    spoilt_from = at if spoilt_until is None else min(at, spoilt_from)
                    spoilt_until = max(shown, spoilt_until or shown)
            elif spoilt_until is not None and frame.key_frame and shown > spoilt_until:
                spoilt_until = None
            if frame is None:
                continue
            if not frame.is_corrupt and (spoilt_until is None or order.get(shown, spoilt_from) < spoilt_from):
                decoded.good.add(shown)
                if shown in wanted and shown not in decoded.pictures:
                    decoded.pictures[shown], decoded.rotation = to_picture(frame, stream.sample_aspect_ratio)
                    decoded.interlaced = decoded.interlaced or bool(frame.interlaced_frame)
            if shown >= group[-1]:
                return landed
        if finished:
            return landed
    return landed


def decode_packet(packet: Any) -> tuple[list[Any], bool]:
    """The frames that come out of the decoder after a packet, and whether it failed."""
    return _decode_or_fail(packet.decode)


def _decode_or_fail(decode_more: Any) -> tuple[list[Any], bool]:
    try:
        return decode_more(), False
    except av.FFmpegError as error:
        if isinstance(error, MemoryError):
            raise
        return [], True


def _time_of(frame: Any, last: int | None, step: int) -> int:
    """When a frame is shown; one without any time stamp follows the one before it at the mean rate."""
    following = None if last is None else last + step
    return next((time for time in (frame.pts, frame.dts, following) if time is not None), 0)
