"""Every video that a laboratory has gives the frames at the asked times, or says why not."""

from __future__ import annotations

import io
import shutil
import struct
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from av.stream import Disposition
from video_files import (
    GROUPS,
    TWO_SECONDS,
    decoded_in_order,
    numbers_in,
    picture,
    turned,
    with_its_cover_first,
    write_video,
)

from smad_features import decoding, packets, video
from smad_features.pictures import to_picture
from smad_features.video import VideoError, read_frames, segment_centres


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("videos")


@pytest.fixture(scope="module")
def plain(folder: Path) -> Path:
    """Two seconds, 25 frames a second, several key frames, B-frames; the index in front of the pictures."""
    return write_video(folder / "plain.mp4", options=GROUPS, container_options={"movflags": "faststart"})


def test_the_frame_shown_at_each_segment_s_centre_is_taken(plain: Path) -> None:
    frames = read_frames(plain, count=8)

    # Segments of 0.25 s have their centres at 0.125, 0.375 s ...: frames 3, 9, 15, 21 (at 0.84 s), 28 ...
    assert numbers_in(frames) == [3, 9, 15, 21, 28, 34, 40, 46]
    np.testing.assert_allclose(frames.times, [0.12, 0.36, 0.6, 0.84, 1.12, 1.36, 1.6, 1.84], atol=1e-9)
    assert frames.facts == {
        "codec": "h264",
        "width": 160,
        "height": 120,
        "video_fps": pytest.approx(25),
        "frames_declared": 50,
        "frames_listed": 50,
        "rotation": 0,
        "interlaced": False,
        "frames_decoded": None,
        "decode_errors": 0,
        "time_gaps": 0,
        "lost": 0,
        "longest_step": pytest.approx(0.04),
        "frames_repeated": 0,
    }


def test_pictures_are_those_that_opencv_decodes_one_after_another(plain: Path) -> None:
    capture = cv2.VideoCapture(str(plain))
    by_opencv = [cv2.cvtColor(capture.read()[1], cv2.COLOR_BGR2RGB) for _ in range(50)]
    capture.release()

    frames = read_frames(plain, count=50)

    for ours, theirs in zip(frames.pictures, by_opencv, strict=True):
        assert np.abs(ours.astype(int) - theirs).max() <= 3  # colour conversions round differently
    assert all(image.shape == (120, 160, 3) and image.dtype == np.uint8 for image in frames.pictures)


@pytest.mark.parametrize("count", [1, 5, 10, 25, 50])
def test_a_centre_on_a_frame_s_very_start_takes_that_frame(plain: Path, count: int) -> None:
    frames = read_frames(plain, count=count)

    centres = segment_centres(0.0, 2.0, count)
    assert numbers_in(frames) == [int(25 * t + 1e-6) for t in centres]
    assert np.all(np.diff(frames.times) > 0)


def test_rounding_repeats_no_frame_where_centres_lie_on_frames_very_starts(folder: Path) -> None:
    path = write_video(folder / "even.mp4", [40 * n for n in range(58)])  # 58: here floating point would round down

    assert numbers_in(read_frames(path, count=29)) == list(range(1, 58, 2))


def test_what_an_edit_list_cuts_away_is_not_shown(folder: Path) -> None:
    whole = write_video(folder / "uncut.mp4", options=GROUPS)
    data = bytearray(whole.read_bytes())
    at = data.index(b"elst") + 12  # after version and count: the one entry's length and beginning
    timescale = struct.unpack_from(">I", data, data.index(b"mdhd") + 16)[0]
    length, beginning = struct.unpack_from(">2I", data, at)
    struct.pack_into(">2I", data, at, length - 600, beginning + timescale * 15 // 25)  # 15 frames less
    cut = folder / "edited.mp4"
    cut.write_bytes(data)

    frames = read_frames(cut, count=2)

    assert numbers_in(frames) == [23, 41]  # of frames 15 to 49; 12 to 14 are there, but only to decode these
    np.testing.assert_allclose(frames.times, [0.32, 1.04], atol=1e-6)


@pytest.mark.parametrize("name", ["variable.mp4", "variable.mkv"])
def test_variable_rate_gives_real_times_that_increase(folder: Path, name: str) -> None:
    steps = np.random.default_rng(3).choice([14, 33, 42, 150, 400], 80)
    starts = np.concatenate([[0], np.cumsum(steps)])
    path = write_video(folder / name, starts.tolist(), options=GROUPS)

    frames = read_frames(path, count=20)

    with av.open(str(path)) as container:
        packets: list[Any] = [packet for packet in container.demux(video=0) if packet.size]
    end = float(max((packet.pts + packet.duration) * packet.time_base for packet in packets))
    length = max(end, (starts[-1] + np.median(steps)) / 1000)  # the last frame is shown for a while, too
    shown = np.searchsorted(starts / 1000, segment_centres(0.0, length, 20), side="right") - 1
    assert numbers_in(frames) == shown.tolist()
    np.testing.assert_allclose(frames.times, starts[shown] / 1000, atol=1e-6)
    assert np.all(np.diff(frames.times) > 0)
    assert frames.facts["video_fps"] == pytest.approx(81 / length, rel=0.01)


@pytest.mark.parametrize("name", ["late.mp4", "late.mkv", "late.ts", "late.flv"])
def test_times_count_from_the_first_shown_frame(folder: Path, name: str) -> None:
    path = write_video(folder / name, [5000 + t for t in TWO_SECONDS], options=GROUPS)

    frames = read_frames(path, count=8)

    assert numbers_in(frames) == [3, 9, 15, 21, 28, 34, 40, 46]
    np.testing.assert_allclose(frames.times, [0.12, 0.36, 0.6, 0.84, 1.12, 1.36, 1.6, 1.84], atol=1e-3)


def test_a_span_is_cut_out_and_its_times_count_from_its_start(plain: Path) -> None:
    frames = read_frames(plain, count=4, start=0.5, end=1.3)

    # Centres at 0.6, 0.8, 1.0, 1.2 s.
    assert numbers_in(frames) == [15, 20, 25, 30]
    np.testing.assert_allclose(frames.times, [0.1, 0.3, 0.5, 0.7], atol=1e-9)


def test_a_frame_that_began_before_the_span_has_a_negative_time(folder: Path) -> None:
    path = write_video(folder / "slow.mp4", [0, 1000, 2000])

    frames = read_frames(path, count=1, start=1.4, end=1.8)

    assert numbers_in(frames) == [1]
    assert frames.times[0] == pytest.approx(-0.4)


def test_a_span_after_the_end_is_refused_with_both_times(plain: Path) -> None:
    with pytest.raises(VideoError, match=r"starts at 2.5 s, but the video ends at 2.000 s"):
        read_frames(plain, start=2.5, end=3.0)
    with pytest.raises(VideoError, match=r"the clip is 1 to 2.5 s, but the video ends at 2.000 s \(33% lost\)"):
        read_frames(plain, start=1.0, end=2.5)


def test_a_little_of_a_span_may_be_missing(plain: Path) -> None:
    assert numbers_in(read_frames(plain, count=2, start=0.0, end=2.03)) == [12, 37]
    assert numbers_in(read_frames(plain, count=2, start=0.0, end=2.5, max_lost=0.3)) == [12, 37]


@pytest.mark.parametrize("name", ["seek.mp4", "seek.mov", "seek.mkv", "seek.ts", "seek.flv", "fragments.mp4"])
@pytest.mark.parametrize("open_groups", [False, True])
def test_seeking_gives_the_same_frames_as_decoding_everything(folder: Path, name: str, open_groups: bool) -> None:
    path = folder / name
    options = GROUPS | {"x264-params": GROUPS["x264-params"] + f":open-gop={int(open_groups)}"}
    pieces = {"movflags": "frag_keyframe+empty_moov"} if name == "fragments.mp4" else {}
    write_video(path, options=options, container_options=pieces, noise=8)
    everything = decoded_in_order(path)

    for start in (0.0, 0.44, 0.48, 1.0, 1.48, 1.92):
        frames = read_frames(path, count=2, start=start, end=start + 0.08)

        first = round(start * 25)
        assert numbers_in(frames) == [first, first + 1]
        for ours, theirs in zip(frames.pictures, everything[first:], strict=False):
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("name", ["few.mp4", "few.mkv", "few.ts", "few.flv"])
def test_only_what_the_asked_frame_is_made_from_is_decoded(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = write_video(folder / name, options=GROUPS)
    frames: list[Any] = []
    converted: list[Any] = []
    decode_packet = decoding.decode_packet

    def seen(frame: Any, aspect: Any) -> Any:
        converted.append(frame)
        return to_picture(frame, aspect)

    def counting(packet: Any) -> Any:
        found = decode_packet(packet)
        frames.extend(found[0])
        return found

    monkeypatch.setattr(decoding, "decode_packet", counting)
    monkeypatch.setattr(decoding, "to_picture", seen)

    assert numbers_in(read_frames(path, count=1, start=1.6, end=1.64)) == [40]
    # Of fifty frames its group's key frame and one that both refer to; B-frames between are skipped.
    assert len(frames) <= 3
    assert len(converted) == 1


def test_a_container_is_opened_once(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    open_container = av.open

    def counting(*given: Any, **options: Any) -> Any:
        opened.append(given)
        return open_container(*given, **options)

    monkeypatch.setattr(av, "open", counting)

    read_frames(plain)

    assert len(opened) == 1


@pytest.mark.parametrize("astray", [-1, 1, 2])
def test_a_seek_that_goes_astray_costs_time_and_no_frame(
    plain: Path, monkeypatch: pytest.MonkeyPatch, astray: int
) -> None:
    index_packets = packets.index_packets

    def beside(*given: Any) -> Any:
        index = index_packets(*given)
        keys = [key for key, _ in index.keyframes]
        return replace(index, keyframes=list(zip(keys, keys[astray:] + keys[:astray], strict=True)))

    monkeypatch.setattr(video, "index_packets", beside)

    assert numbers_in(read_frames(plain, count=8)) == [3, 9, 15, 21, 28, 34, 40, 46]


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt", "options"),
    [
        ("b-frames.avi", "libx264", "yuv420p", GROUPS),  # AVI stores no times: the order must not be lost
        ("divx.avi", "mpeg4", "yuv420p", {"bf": "2"}),
        ("webcam.avi", "mjpeg", "yuvj420p", {}),
        ("stream.h264", "libx264", "yuv420p", GROUPS),
        ("stream.m2v", "mpeg2video", "yuv420p", {"bf": "2"}),
        ("disc.mpg", "mpeg2video", "yuv420p", {"bf": "2"}),
        ("windows.wmv", "wmv2", "yuv420p", {}),
        ("browser.webm", "libvpx-vp9", "yuv420p", {"cpu-used": "8", "deadline": "realtime"}),
        ("lossless.mkv", "ffv1", "bgr0", {}),
        ("moving.gif", "gif", "rgb8", {}),
        ("ten-bit.mov", "prores", "yuv422p10le", {}),
        ("ten-bit.mp4", "libx265", "yuv420p10le", {"preset": "ultrafast", "x265-params": "log-level=none:keyint=12"}),
        ("phone.mp4", "libx265", "yuv420p", {"preset": "ultrafast", "x265-params": "log-level=none:keyint=12"}),
        ("broadcast.ts", "libx265", "yuv420p", {"preset": "ultrafast", "x265-params": "log-level=none:keyint=12"}),
        ("gray.mkv", "ffv1", "gray", {}),
    ],
)
def test_every_container_and_codec_gives_the_same_frames(
    folder: Path, name: str, codec: str, pix_fmt: str, options: dict[str, str]
) -> None:
    time_base = Fraction(1, 100) if codec == "gif" else Fraction(1, 25)
    path = write_video(folder / name, codec=codec, pix_fmt=pix_fmt, options=options, time_base=time_base)

    whole = read_frames(path, count=8)
    part = read_frames(path, count=4, start=0.5, end=1.3)

    assert numbers_in(whole) == [3, 9, 15, 21, 28, 34, 40, 46]
    np.testing.assert_allclose(whole.times, [0.12, 0.36, 0.6, 0.84, 1.12, 1.36, 1.6, 1.84], atol=1e-3)
    assert numbers_in(part) == [15, 20, 25, 30]
    assert whole.facts["decode_errors"] == part.facts["decode_errors"] == 0
    if pix_fmt != "gray":
        red, green, blue = whole.pictures[0][90, 40].astype(int)
        assert red > 150 and green < 100 and blue < 100


@pytest.mark.parametrize(
    ("matrix", "shift", "quarter_turns", "degrees"),
    [
        ((1, 0, 0, 1), (0, 0), 0, 0),
        ((0, 1, -1, 0), (120, 0), 1, 90),  # a phone held upright
        ((-1, 0, 0, -1), (160, 120), 2, 180),
        ((0, -1, 1, 0), (0, 160), 3, 270),
    ],
)
def test_rotation_metadata_is_applied(
    plain: Path, matrix: tuple[int, int, int, int], shift: tuple[int, int], quarter_turns: int, degrees: int
) -> None:
    path = turned(plain, matrix, shift=shift)

    frames = read_frames(path, count=2)

    for ours, coded in zip(frames.pictures, read_frames(plain, count=2).pictures, strict=True):
        np.testing.assert_array_equal(ours, np.rot90(coded, -quarter_turns))  # rot90 turns against the clock
    assert frames.facts["rotation"] == degrees
    capture = cv2.VideoCapture(str(path))  # applies the rotation too
    by_opencv = [capture.read()[1][..., ::-1] for _ in range(13)]
    capture.release()
    assert np.abs(frames.pictures[0].astype(int) - by_opencv[12]).max() <= 3


@pytest.mark.parametrize(
    ("matrix", "mirrored"),
    [
        ((-1, 0, 0, 1), lambda image: image[:, ::-1]),
        ((1, 0, 0, -1), lambda image: image[::-1]),
        ((0, 1, 1, 0), lambda image: image.transpose(1, 0, 2)),
    ],
)
def test_a_mirrored_picture_is_mirrored_back(plain: Path, matrix: tuple[int, int, int, int], mirrored: Any) -> None:
    frames = read_frames(turned(plain, matrix), count=2)

    for ours, coded in zip(frames.pictures, read_frames(plain, count=2).pictures, strict=True):
        np.testing.assert_array_equal(ours, mirrored(coded))


@pytest.mark.parametrize(("aspect", "shape"), [(Fraction(2), (120, 320, 3)), (Fraction(1, 2), (240, 160, 3))])
def test_pixels_are_made_square(folder: Path, aspect: Fraction, shape: tuple[int, int, int]) -> None:
    path = write_video(folder / f"wide{aspect.denominator}.mp4", aspect=aspect)

    frames = read_frames(path, count=3)

    assert all(image.shape == shape for image in frames.pictures)
    assert numbers_in(frames) == [8, 25, 41]


def test_wide_pixels_are_stretched_along_the_coded_row_also_where_the_picture_is_turned(folder: Path) -> None:
    path = write_video(folder / "wide-turned.mp4", aspect=Fraction(2))

    frames = read_frames(turned(path, (0, 1, -1, 0), shift=(120, 0)), count=1)

    assert frames.pictures[0].shape == (320, 120, 3)


@pytest.mark.parametrize("size", [(161, 121), (33, 57), (2, 2)])
def test_odd_sizes_keep_their_size(folder: Path, size: tuple[int, int]) -> None:
    path = write_video(folder / f"odd{size[0]}.mp4", size=size, pix_fmt="yuv444p")

    frames = read_frames(path, count=2)

    assert frames.pictures[0].shape == (size[1], size[0], 3)
    if size[0] > 8:
        assert numbers_in(frames) == [12, 37]


def test_a_size_that_changes_in_midstream_changes_the_pictures_size(folder: Path) -> None:
    small = write_video(folder / "small.h264", time_base=Fraction(1, 25))
    large = write_video(folder / "large.h264", time_base=Fraction(1, 25), size=(320, 240))
    both = folder / "both.h264"
    both.write_bytes(small.read_bytes() + large.read_bytes())

    frames = read_frames(both, count=4)

    assert [image.shape[:2] for image in frames.pictures] == [(120, 160), (120, 160), (240, 320), (240, 320)]
    assert numbers_in(frames) == [12, 37, 12, 37]


@pytest.mark.parametrize("name", ["sound.mp4", "sound.mkv"])
def test_sound_that_is_longer_than_the_pictures_does_not_count(folder: Path, name: str) -> None:
    path = write_video(folder / name, sound=4)

    assert numbers_in(read_frames(path, count=8)) == [3, 9, 15, 21, 28, 34, 40, 46]


def test_a_cover_picture_is_not_the_video(folder: Path) -> None:
    path = with_its_cover_first(write_video(folder / "cover.mp4", cover=True))
    with av.open(str(path)) as container:
        assert container.streams[0].disposition & Disposition.attached_pic  # else this test would show nothing

    assert numbers_in(read_frames(path, count=8)) == [3, 9, 15, 21, 28, 34, 40, 46]


def test_fewer_frames_than_asked_for_repeat(folder: Path) -> None:
    frames = read_frames(write_video(folder / "three.mp4", [0, 40, 80]), count=8)

    assert numbers_in(frames) == [0, 0, 0, 1, 1, 2, 2, 2]
    np.testing.assert_allclose(frames.times, [0, 0, 0, 0.04, 0.04, 0.08, 0.08, 0.08], atol=1e-9)


@pytest.mark.parametrize("name", ["one.mp4", "one.mkv", "one.ts", "one.flv", "one.avi"])
def test_one_frame_is_a_video(folder: Path, name: str) -> None:
    path = write_video(folder / name, [0], time_base=Fraction(1, 25))

    frames = read_frames(path, count=3)

    assert numbers_in(frames) == [0, 0, 0]
    np.testing.assert_array_equal(frames.times, [0, 0, 0])
    assert frames.facts["video_fps"] == pytest.approx(25, rel=0.01)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()

    with pytest.raises(VideoError, match=r"the file is empty \(0 bytes\)"):
        read_frames(tmp_path / "empty.mp4")


def test_a_sound_file_has_no_video_stream(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "voice.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), format="s16", layout="mono")
        silence.sample_rate = 8000
        container.mux([*stream.encode(silence), *stream.encode()])

    with pytest.raises(VideoError, match="it has no video stream; found: audio"):
        read_frames(tmp_path / "voice.wav")


def test_a_file_that_is_not_there_is_no_property_of_the_video(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_frames(tmp_path / "gone.mp4")


@pytest.mark.parametrize("reads", [0, 1, 3])
def test_an_io_error_passes_through(plain: Path, monkeypatch: pytest.MonkeyPatch, reads: int) -> None:
    class Failing(io.FileIO):
        left = reads

        def read(self, size: int | None = -1) -> bytes:
            if self.left == 0:
                raise OSError(5, "Input/output error")
            self.left -= 1
            return super().read(min(2048, size or 0))

    monkeypatch.setattr(Path, "open", lambda path, mode: Failing(path))

    with pytest.raises(OSError, match="Input/output error") as caught:
        read_frames(plain)
    assert not isinstance(caught.value, VideoError)


def test_want_of_memory_passes_through(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: object, **__: object) -> None:
        raise av.error.MemoryError(12, "Cannot allocate memory")

    monkeypatch.setattr(av, "open", exhausted)

    with pytest.raises(VideoError, match="a size in it is damaged"):  # there is memory enough for any real video
        read_frames(plain)
    monkeypatch.setattr(video, "_PLENTY", 1 << 62)
    with pytest.raises(MemoryError):
        read_frames(plain)


@pytest.mark.parametrize(
    "playlist",
    [
        "ffconcat version 1.0\nfile secret.mp4\n",
        "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:2\n#EXTINF:2.0,\nsecret.ts\n#EXT-X-ENDLIST\n",
    ],
    ids=["concat", "hls"],
)
@pytest.mark.parametrize("ending", [".mp4", ".m3u8"])
def test_a_playlist_opens_no_other_file(tmp_path: Path, plain: Path, playlist: str, ending: str) -> None:
    shutil.copy(plain, tmp_path / "secret.mp4")
    write_video(tmp_path / "secret.ts")
    (tmp_path / f"list{ending}").write_text(playlist)

    with pytest.raises(VideoError, match="cannot read it as a video"):
        read_frames(tmp_path / f"list{ending}")


@pytest.mark.parametrize("name", ["Proband Ä 1 (final).mp4", "10:30.mp4", "frame%03d.mp4", "really-mp4.avi"])
def test_the_name_of_a_file_does_not_matter(tmp_path: Path, plain: Path, name: str) -> None:
    shutil.copy(plain, tmp_path / name)

    assert numbers_in(read_frames(tmp_path / name, count=2)) == [12, 37]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """0.jpg to 11.jpg, with other things beside them."""
    for number in range(12):
        cv2.imwrite(str(tmp_path / f"{number}.jpg"), picture(number)[..., ::-1])
    (tmp_path / "notes.txt").write_text("not a picture")
    (tmp_path / "._3.jpg").write_text("what some systems leave behind")
    return tmp_path


def test_a_folder_of_pictures_is_in_natural_order(pictures: Path) -> None:
    frames = read_frames(pictures, count=12, frame_rate=10)

    assert numbers_in(frames) == list(range(12))  # 2.jpg before 10.jpg
    np.testing.assert_allclose(frames.times, np.arange(12) / 10)
    assert (frames.pictures[0][90, 40].astype(int) - (200, 60, 40)).max() < 20  # RGB
    assert frames.facts["codec"] == "images" and frames.facts["video_fps"] == 10


def test_a_span_of_a_folder_follows_its_rate(pictures: Path) -> None:
    frames = read_frames(pictures, count=3, start=0.5, end=0.8, frame_rate=10)

    assert numbers_in(frames) == [5, 6, 7]
    np.testing.assert_allclose(frames.times, [0, 0.1, 0.2], atol=1e-12)
    with pytest.raises(VideoError, match=r"the clip is 0 to 2 s, but the video ends at 1.200 s"):
        read_frames(pictures, start=0, end=2, frame_rate=10)


@pytest.mark.parametrize("rate", [12.5, 24.0, 25.0, 29.97, 30.0])
def test_each_picture_of_a_folder_is_taken_once_where_as_many_are_asked_for(pictures: Path, rate: float) -> None:
    # With 6 of 12 each centre lies on a picture's very start: rounding must not repeat one.
    assert numbers_in(read_frames(pictures, count=12, frame_rate=rate)) == list(range(12))
    assert numbers_in(read_frames(pictures, count=6, frame_rate=rate)) == [1, 3, 5, 7, 9, 11]


def test_a_folder_s_order_is_that_of_its_names_whatever_it_lists_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["01.png", "1.png", "3.PNG", "²2.png", "²10.png", "ä.png"]  # ² is no number, though Python calls it a digit
    for number, name in enumerate(names):
        cv2.imwrite(str(tmp_path / name), picture(number))
    for listed in (names, names[::-1]):
        monkeypatch.setattr(Path, "iterdir", lambda folder, listed=listed: (folder / name for name in listed))

        assert numbers_in(read_frames(tmp_path, count=6)) == [0, 1, 2, 3, 4, 5]


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing here")

    with pytest.raises(VideoError, match=r"holds no pictures; looked for .bmp, .jpeg, .jpg, .png"):
        read_frames(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\xff\xd8\xff not a JPEG"])
def test_a_damaged_picture_is_named(pictures: Path, content: bytes) -> None:
    (pictures / "7.jpg").write_bytes(content)

    with pytest.raises(VideoError, match=rf"the picture 7.jpg cannot be decoded \({len(content)} bytes\)"):
        read_frames(pictures, count=12)
    assert numbers_in(read_frames(pictures, count=1, start=0, end=0.04)) == [0]  # only where it is asked for
