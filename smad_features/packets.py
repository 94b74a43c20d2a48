"""What a video's packets tell without decoding: when each frame is shown, and where some are lost in between.

A long pause between two frames is no damage in itself: phones vary their rate, and a screen recorder writes no frame
while a slide stands still. Times alone cannot tell such a pause from packets that were cut out, so a gap counts as
damage only where something else proves it, and never for its length:

- H.264 numbers the pictures that others refer to, and a number is missing (any container; not at a key frame);
- an MPEG transport stream says that bytes are missing there, by its continuity counters;
- fragments of an MP4 are missing by their numbers, and the durations of its packets do not reach over the pause;
- an ASF (WMV) has a rare hole in an otherwise even rate: what is damaged there is passed over by FFmpeg;
- the sound breaks off for as long as the pictures do: while a slide stands still, a recorder goes on listening.

What remains without proof is shown as `longest_step` and refuses nothing: pictures lost between two key frames of a
file without sound, or in the middle of codecs that number nothing (but HEVC's decoder notices a missing reference).
"""

from __future__ import annotations

import struct
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from smad_features.containers import VideoError, mean_step
from smad_features.h264 import loses_a_picture, read_numbering

_RARE = 0.05  # of all steps
_JOIN = 2  # packets before a key frame
_LONG = 1.5  # a step longer than this many usual ones may have lost a frame
_PAUSE = 0.5  # seconds; the sound of shorter ones is not looked at: its own packets may be as long
_JUMP_BACK = 0.25  # seconds; what falls back by less is a container's clumsiness
_SILENT = 0.8  # of a pause without sound: the sound broke off, too


@dataclass(frozen=True)
class Index:
    """When the frames of a video are shown, in units of the stream's time base, from its packets."""

    shown: list[int]  # sorted
    keyframes: list[tuple[int, int]]  # (shown, decoding time stamp), sorted
    end: int
    extent: int  # from the first packet's decoding time to the last one's end; 0 = packets do not say
    step: int  # the usual time between two frames
    gaps: list[tuple[int, int]]  # (from, to): where frames are lost, sorted
    flagged: frozenset[int]  # shown: packets that the container calls damaged
    orphans: frozenset[int]  # shown: frames whose references are lost, and all after them up to the next key frame
    is_assumed: bool = False  # one frame a packet, in their order: the container has no times of showing

    def steps_within(self, times: set[int], begin: float, stop: float) -> float:
        """For how long the frames of ``times`` are shown within ``begin``..``stop``."""
        total = 0.0
        for time in times:
            after = bisect_right(self.shown, time)
            until = min(stop, self.shown[after] if after < len(self.shown) else self.end, time + self.step * _LONG)
            total += max(0.0, until - max(begin, time))
        return total


def index_packets(path: Path, container: Any, stream: Any) -> Index:
    """The index from the packets alone."""
    shown: list[int] = []
    ends: dict[int, int] = {}
    keyframes: list[tuple[int, int]] = []
    jumps: list[tuple[int, int]] = []  # decoding times around a proven loss
    orphans = set()
    codec = stream.codec_context
    numbering = read_numbering(codec.extradata) if codec.name == "h264" else None
    usual = float(mean_step(stream))
    delay = 0
    first_decoded: int | None = None
    extent = 0
    before: Any = None
    flagged: dict[int, int] = {}  # the packets that came after each
    decoding: list[int | None] = []
    packets = container.demux(stream)
    for packet in packets:
        if not packet.size:
            continue
        if packet.pts is None and not packet.is_discard:
            rest = [p.dts for p in packets if p.size]
            return _assumed_index([*decoding, packet.dts, *rest], step=mean_step(stream))
        decoding.append(packet.dts)
        # Where two transport streams were joined, the packets just before the new key frame are called damaged; whether
        # they are is for the decoder to say.
        flagged = {time: age + 1 for time, age in flagged.items() if not (packet.is_keyframe and age < _JOIN)}
        if packet.is_corrupt:
            flagged[packet.pts] = 0
        if before is not None and packet.dts is not None and before.dts is not None:
            step = packet.dts - before.dts
            if step * stream.time_base < -_JUMP_BACK:
                raise VideoError(
                    f"its times jump back by {float(-step * stream.time_base):.3f} s after"
                    f" {float((before.dts - (first_decoded or 0)) * stream.time_base):.3f} s: are these two recordings"
                    " in one file?"
                )
            if step > _LONG * usual:
                if _is_broken(before, packet, numbering):
                    jumps.append((before.dts, packet.dts))
                    if not packet.is_keyframe:
                        orphans.add(packet.pts)
            elif step > 0:
                usual = min(usual, step)
        before = packet
        if packet.dts is not None:
            first_decoded = packet.dts if first_decoded is None else first_decoded
            extent = max(extent, packet.dts + (packet.duration or 0) - first_decoded)
        if packet.is_discard:  # cut away by an edit list
            continue
        shown.append(packet.pts)
        ends[packet.pts] = packet.pts + (packet.duration or 0)
        if packet.dts is not None:
            delay = max(delay, packet.pts - packet.dts)
        if packet.is_keyframe:
            keyframes.append((packet.pts, packet.pts if packet.dts is None else packet.dts))
    index = index_times(shown, max(ends.values(), default=0), keyframes, step=mean_step(stream))
    index = replace(index, extent=extent, orphans=frozenset(orphans), flagged=frozenset(flagged))
    holes = [(a, b) for a, b in pairwise(index.shown) if b - a > _LONG * index.step]
    if not holes:
        return index
    gaps = set()
    for begin, stop in jumps:
        lost = [(a, b) for a, b in holes if b > begin and a < stop + delay]
        gaps |= {max(lost, key=lambda hole: hole[1] - hole[0])} if lost else set()
    uncovered = [(a, b) for a, b in holes if ends[a] + index.step / 2 < b]
    if uncovered and "mp4" in container.format.name and _fragments_are_missing(path):
        gaps |= set(uncovered)
    # FFmpeg passes over damaged packets of an ASF (WMV) without a word: a rare hole in an even rate is where they were.
    if container.format.name == "asf" and len(holes) <= _RARE * len(index.shown):
        gaps |= set(holes)
        keys = {key for key, _ in keyframes}
        index = replace(index, orphans=index.orphans | {b for _, b in holes if b not in keys})
    pauses = [hole for hole in uncovered if (hole[1] - hole[0]) * stream.time_base > _PAUSE and hole not in gaps]
    if pauses and container.streams.audio:
        gaps |= set(_without_sound(container, stream, pauses))
    return replace(index, gaps=sorted((a + index.step, b) for a, b in gaps))


def _assumed_index(times: list[int | None], *, step: int) -> Index:
    """The index of a container without times of showing, from its packets' decoding times: their order is known."""
    shown: list[int] = []
    for time in times:
        earliest, following = (shown[-1] + 1, shown[-1] + step) if shown else (0, 0)
        shown.append(following if time is None else max(time, earliest))
    return replace(index_times(shown, max(shown, default=0) + step, [], step=step), is_assumed=True)


def index_times(shown: list[int], end: int, keyframes: list[tuple[int, int]], *, step: int) -> Index:
    """The index of frames that are shown at known times.

    ``end``: when the last is over, as far as its packet says; ``step``: how long it is shown if it is the only one.
    """
    shown = sorted(set(shown))
    usual = round(median([b - a for a, b in pairwise(shown)] or [step]))
    return Index(
        shown, sorted(keyframes), max(end, shown[-1] + usual) if shown else 0, 0, usual, [], frozenset(), frozenset()
    )


def _is_broken(before: Any, after: Any, numbering: Any) -> bool:
    """Whether something that others refer to is lost between two packets, or the container says that bytes are."""
    if before.is_corrupt or after.is_corrupt:
        return True
    return numbering is not None and not after.is_keyframe and loses_a_picture(bytes(before), bytes(after), numbering)


def _fragments_are_missing(path: Path) -> bool:
    """Whether the numbers of an MP4's fragments leave one out; ISO/IEC 14496-12, 8.8.5 (movie fragment header)."""
    numbers = []
    with path.open("rb") as file:
        at, length = 0, path.stat().st_size
        while at + 24 <= length:
            file.seek(at)
            size, kind, inner, inner_kind, _, number = struct.unpack(">I4sI4sII", file.read(24))
            if size == 1:  # the size is a long one, after the kind
                size = inner << 32 | int.from_bytes(inner_kind, "big")
            elif kind == b"moof" and inner_kind == b"mfhd":
                numbers.append(number)
            if size < 8:  # 0 = up to the file's end
                break
            at += size
    return any(b > a + 1 for a, b in pairwise(numbers))


def _without_sound(container: Any, stream: Any, pauses: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Those pauses of the pictures in which the sound breaks off, too, though it goes on after them."""
    sound = container.streams.audio[0]
    container.seek(stream.start_time or 0, stream=stream, backward=True)
    times = [(p.pts, p.pts + (p.duration or 0)) for p in container.demux(sound) if p.size and p.pts is not None]
    times.sort()
    begins = [begin for begin, _ in times]
    silent = []
    for pause in pauses:
        begin, stop = (time * stream.time_base / sound.time_base for time in pause)
        first, last = bisect_right(begins, begin) - 1, bisect_left(begins, stop)
        if first < 0 or last >= len(times):
            continue
        longest, at = 0, begin
        for start, end in times[first:last]:
            longest, at = max(longest, start - at), max(at, end)
        longest = max(longest, stop - at)
        if longest > _SILENT * (stop - begin):
            silent.append(pause)
    return silent
