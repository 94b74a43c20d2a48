"""A video file is opened, or it is said in plain words why it cannot be."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
from av.stream import Disposition

# FFmpeg opens URLs and playlists too: it gets an open file, and nothing that this file names may be opened.
# It also makes up times where a container has none, and for AVI with B-frames wrong ones: not here.
_OPTIONS = {"protocol_whitelist": "none", "fflags": "-genpts"}
_CONCEALING = {"hevc", "mjpeg"}  # decoders that conceal damage without a word, unless told not to
_MP4_BOXES = {b"ftyp", b"mdat", b"wide", b"free", b"skip", b"moov"}
# What FFmpeg logs, and what it means to whoever recorded the file.
_MEANINGS = {
    "moov atom not found": "an MP4 without its index (moov): not recorded to the end, or not copied whole",
    "EBML header parsing failed": "its Matroska header is broken",
    "Truncating packet": "it ends within its header",
}
# What files that are no videos begin with.
_OTHERS = {
    b"PK\x03\x04": "it is a ZIP archive",
    b"%PDF": "it is a PDF document",
    b"<!DOCTYPE": "it is a web page",
    b"<html": "it is a web page",
    b"version https://git-lfs": "it is a placeholder of Git LFS: the file itself was not fetched",
    b"#EXTM3U": "it is a playlist, which names other files",
    b"ffconcat": "it is a playlist, which names other files",
}


class VideoError(ValueError):
    """A video cannot be used: what was wanted of it and what was found.

    Attributes
    ----------
    library
        It is this FFmpeg that lacks something, not the file.
    """

    def __init__(self, message: str, *, library: bool = False) -> None:
        super().__init__(message)
        self.library = library


@contextmanager
def opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """The container and the stream that a player would show."""
    with path.open("rb") as file, av.open(file, options=_OPTIONS, metadata_errors="replace") as container:
        stream = _video_stream(container)
        if stream.codec_context is None:
            raise _without_decoder(container)
        stream.codec_context.thread_count = 1  # clips run side by side, one core each
        if stream.codec_context.name in _CONCEALING:
            stream.codec_context.options = {"err_detect": "explode"}
        yield container, stream


def explain(path: Path, error: av.FFmpegError) -> VideoError:
    """What FFmpeg's error says, with the lines that it logs while the file is opened once more."""
    said = str(error.strerror)
    lines: list[str] = []
    with _log_of_ffmpeg(av.logging.ERROR) as log:
        try:
            with opened(path):
                pass
        except av.FFmpegError:
            lines = [message.strip() for _, _, message in log]
        except VideoError as found:
            return found
    with path.open("rb") as file:
        head = file.read(4096)
    if other := _is_other(head):
        return VideoError(f"FFmpeg cannot read it as a video: {other}")
    if head[4:8] not in _MP4_BOXES:  # FFmpeg goes by the name, and asks any file that is called .mp4 for an MP4's index
        lines = [line for line in lines if "moov" not in line]
    meaning = next((meaning for line in lines for key, meaning in _MEANINGS.items() if key in line), None)
    told = [meaning] if meaning else []
    said += f" ({lines[-1]})" if lines else ""
    return VideoError("FFmpeg cannot read it as a video: " + ": ".join([*told, said]))


def declared_end(path: Path, container: Any, stream: Any) -> float | None:
    """When the header says that the pictures end, in seconds.

    None where it says nothing, or speaks of the whole file, where sound may be longer.
    """
    # Matroska: the stream's own tag; FFmpeg gives each stream the whole file's duration.
    if match := re.fullmatch(r"(\d+):(\d+):([\d.]+)", stream.metadata.get("DURATION", "")):
        hours, minutes, seconds = match.groups()
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    # FFmpeg shortens what an AVI declares to what is there. Its count of frames is believed only where it is cut off.
    if container.format.name == "avi" and stream.frames and stream.average_rate and _is_cut_off(path):
        return float(stream.frames / stream.average_rate)
    if stream.duration:
        return float(((stream.start_time or 0) + stream.duration) * stream.time_base)
    return container.duration / av.time_base if container.duration and len(container.streams) == 1 else None


def mean_step(stream: Any) -> int:
    """The mean time between two frames as the header has it, in units of the stream's time base."""
    rate = stream.average_rate or stream.guessed_rate or 25
    return max(1, round(1 / (rate * stream.time_base)))


def _is_cut_off(path: Path) -> bool:
    """Whether a RIFF file is shorter than the chunk that it begins with."""
    with path.open("rb") as file:
        head = file.read(8)
    return path.stat().st_size < 8 + int.from_bytes(head[4:], "little")


def _is_other(head: bytes) -> str | None:
    """What a file is, by its first bytes, where it is something well known and no video."""
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not head.strip(b"\0"):
        return "its beginning is nothing but zeros: it was never written, or the copy failed"
    for magic, what in _OTHERS.items():
        if start[: len(magic)].lower() == magic.lower():
            return what
    text = head.translate(None, bytes(range(32, 127)) + b"\t\n\r")
    return "it is a text file" if len(text) < len(head) / 50 else None


def _video_stream(container: Any) -> Any:
    """The default stream, never a cover picture."""
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not streams:
        found = ", ".join(s.type for s in container.streams) or "nothing"
        raise VideoError(f"it has no video stream; found: {found}")
    return max(streams, key=lambda s: bool(s.disposition & Disposition.default))


def _without_decoder(container: Any) -> VideoError:
    """A format that nobody knows is the file's fault; a known one without its decoder is this FFmpeg's."""
    with _log_of_ffmpeg(av.logging.INFO) as log:
        lines = container.dumps_format().splitlines() + [message for _, _, message in log]
    found = [re.search(r"Video: (\w+)(?:.*?\((\w{4}) /)?", line) for line in lines if "Video:" in line]
    names = [match for match in found if match]
    codec, tag = names[0].groups() if names else ("none", None)
    if codec in ("none", "unknown"):
        return VideoError("its video stream is in no format that FFmpeg knows" + (f" ({tag})" if tag else ""))
    return VideoError(f"FFmpeg has no decoder for its video stream ({codec})", library=True)


@contextmanager
def _log_of_ffmpeg(level: int) -> Iterator[list[tuple[int, str, str]]]:
    """What FFmpeg logs meanwhile. It logs nothing otherwise: its log has one reader in a process."""
    old, skipped = av.logging.get_level(), av.logging.get_skip_repeated()
    av.logging.set_level(level)
    av.logging.set_skip_repeated(False)
    try:
        with av.logging.Capture() as log:
            yield log
    finally:
        av.logging.set_skip_repeated(skipped)
        av.logging.set_level(old)
