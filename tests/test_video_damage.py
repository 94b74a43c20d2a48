"""Damage is refused with numbers, a variable rate is not damage, and each error says whose fault it is."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from video_files import (
    GROUPS,
    decoded_in_order,
    numbers_in,
    overwritten,
    picture,
    without_packets,
    write_video,
)

from smad_features.video import VideoError, read_frames

FOUR_SECONDS = [40 * n for n in range(100)]
LONG = {"preset": "veryfast", "x264-params": "keyint=60:min-keyint=60:scenecut=0"}  # B-frames that others refer to
HEVC = {"preset": "ultrafast", "x265-params": "log-level=none:keyint=12"}
FRAGMENTS = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("damaged")


@pytest.fixture(scope="module")
def plain(folder: Path) -> Path:
    """Two seconds, 25 frames a second, a key frame every 12 frames, B-frames."""
    return write_video(folder / "plain.mp4", options=GROUPS, noise=20)


@pytest.mark.parametrize("name", ["cut.ts", "cut.mkv", "cut.flv", "cut.mp4", "fragments.mp4"])
def test_packets_that_are_cut_out_of_h264_are_missed_by_their_numbers(folder: Path, name: str) -> None:
    fragments = name == "fragments.mp4"
    whole = write_video(
        folder / f"whole-{name}", FOUR_SECONDS, options=LONG, container_options=FRAGMENTS if fragments else {}
    )
    cut = without_packets(whole, range(20, 35), folder / name, fragments=fragments)

    with pytest.raises(VideoError, match=r"the frame at 1\.250 s is lost: no frame .* 0\.880 and 1\.400 s"):
        read_frames(cut)
    with pytest.raises(VideoError, match=r"34\.7% of the clip's 1\.500 s is lost \(0 decode errors, 1 gaps, 0\.000 s"):
        read_frames(cut, count=1, start=0, end=1.5)  # the one frame is there, much beside it is not
    assert read_frames(cut, count=1, start=0, end=1.5, max_lost=0.4).facts["time_gaps"] == 1
    with pytest.raises(VideoError, match=r"the frame at 1\.880 s cannot be decoded"):
        read_frames(cut, count=1, start=1.88, end=1.92)  # before the next key frame: made from what is lost
    after = read_frames(cut, count=4, start=2.6, end=3.6)
    assert numbers_in(after) == [68, 74, 80, 86]
    assert (after.facts["time_gaps"], after.facts["lost"]) == (0, 0)


@pytest.mark.parametrize("name", ["sound.mkv", "sound.ts"])
def test_where_sound_and_pictures_break_off_together_something_is_lost(folder: Path, name: str) -> None:
    whole = write_video(folder / f"whole-{name}", FOUR_SECONDS, codec="mpeg4", options={"g": "30"}, sound=4)
    both = without_packets(whole, range(30, 60), folder / f"both-{name}", sound_too=True)
    pictures = without_packets(whole, range(30, 60), folder / f"pictures-{name}")

    with pytest.raises(VideoError, match=r"the frame at 1\.250 s is lost: no frame .* 1\.200 and 2\.400 s"):
        read_frames(both)
    held = read_frames(pictures)  # the sound goes on: a slide that stood still, for all that can be known
    assert numbers_in(held) == [6, 18, 29, 29, 29, 68, 81, 93]
    assert (held.facts["time_gaps"], held.facts["frames_repeated"]) == (0, 2)
    assert held.facts["longest_step"] == pytest.approx(1.24)


def test_bytes_that_are_missing_from_a_transport_stream_are_noticed(folder: Path) -> None:
    data = write_video(
        folder / "whole.ts", FOUR_SECONDS, codec="mpeg2video", time_base=Fraction(1, 25), noise=20
    ).read_bytes()
    packets = len(data) // 188
    cut = folder / "bytes.ts"
    cut.write_bytes(data[: packets * 2 // 5 * 188] + data[packets * 3 // 5 * 188 :])

    with pytest.raises(VideoError, match=r"is lost|cannot be decoded"):
        read_frames(cut)


def test_a_fragment_that_is_missing_is_missed_by_its_number(folder: Path) -> None:
    data = write_video(folder / "numbered.mp4", codec="mpeg4", options={"g": "10"}, container_options=FRAGMENTS)
    content = data.read_bytes()
    begins = [at - 4 for at in range(len(content)) if content[at : at + 4] == b"moof"]
    cut = folder / "fragment.mp4"
    cut.write_bytes(content[: begins[2]] + content[begins[3] :])

    with pytest.raises(VideoError, match=r"no frame is left between 0\.800 and 1\.200 s"):
        read_frames(cut)
    assert numbers_in(read_frames(cut, count=2, start=0.2, end=0.6)) == [7, 12]


SLIDE = [*range(0, 800, 40), *range(3800, 5000, 40)]  # one is shown for 3 s
DECIMATED = [40 * n for n in range(200) if n % 7 == 0 or n % 31 in (3, 4) or n > 180]  # without what repeats
PHONE = np.cumsum(np.random.default_rng(3).choice([14, 28, 33, 42], 120)).tolist()
STALLS = np.cumsum(np.random.default_rng(4).choice([40, 40, 40, 40, 400, 900], 60)).tolist()


@pytest.mark.parametrize("check", ["asked", "full"])
@pytest.mark.parametrize("name", ["vary.mp4", "vary.mkv", "vary.ts", "vary.flv", "fragments.mp4"])
@pytest.mark.parametrize("times", [SLIDE, DECIMATED, PHONE, STALLS], ids=["slide", "decimated", "phone", "stalls"])
def test_a_variable_rate_is_no_damage(folder: Path, times: list[int], name: str, check: str) -> None:
    options = FRAGMENTS if name == "fragments.mp4" else {}
    path = write_video(folder / f"{len(times)}-{name}", times, options=GROUPS, container_options=options)

    frames = read_frames(path, check=check)

    facts = frames.facts
    assert (facts["decode_errors"], facts["time_gaps"], facts["lost"]) == (0, 0, 0)
    assert facts["frames_decoded"] == (len(times) if check == "full" else None)
    assert facts["longest_step"] >= max(np.diff(times)) / 1000 - 0.002
    shown = np.searchsorted(np.array(times) - times[0], frames.times * 1000 + 1, side="right") - 1
    assert numbers_in(frames) == shown.tolist()
    assert facts["frames_repeated"] == 8 - len(set(shown))


def test_everything_is_decoded_and_counted_where_that_is_asked(plain: Path) -> None:
    whole = read_frames(plain, check="full")
    part = read_frames(plain, count=2, start=0.5, end=1.3, check="full")

    assert whole.facts["frames_decoded"] == 50
    assert part.facts["frames_decoded"] == 21  # from the one that is shown at 0.5 s to that at 1.28 s
    for ours, quick in zip(whole.pictures, read_frames(plain).pictures, strict=True):
        np.testing.assert_array_equal(ours, quick)


def test_errors_far_from_the_asked_frames_count_where_everything_is_decoded(plain: Path) -> None:
    path = overwritten(plain, 30)  # 28 to 35 are made from it

    assert numbers_in(read_frames(path, count=2)) == [12, 37]
    with pytest.raises(VideoError, match=r"16\.0% of the clip's 2\.000 s is lost \(\d decode errors, 0 gaps"):
        read_frames(path, count=2, check="full")
    lenient = read_frames(path, count=2, check="full", max_lost=0.2)
    assert lenient.facts["frames_decoded"] == 42
    assert lenient.facts["lost"] == pytest.approx(0.16)


def test_damage_costs_no_third_try(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = overwritten(plain, 24)
    opened = []
    open_container = av.open

    def counting(*given: Any, **options: Any) -> Any:
        opened.append(given)
        return open_container(*given, **options)

    monkeypatch.setattr(av, "open", counting)

    with pytest.raises(VideoError, match="cannot be decoded"):
        read_frames(path, count=1, start=1.2, end=1.24)

    assert len(opened) == 1


@pytest.mark.parametrize(
    ("codec", "damaged", "kept", "spoilt"),
    [
        ("libx264", 24, 0.0, [24, 30, 35]),  # a key frame: frames 24 to 35 hang on it
        ("libx264", 24, 0.5, [24, 30, 35]),  # the decoder paints something in and marks this one frame only
        ("libx264", 30, 0.0, [28, 30, 31, 35]),  # 28 is shown before 30 and made from it
        ("libx265", 30, 0.0, [29, 30]),  # decodes to something without a word unless the decoder is told to be strict
    ],
)
def test_damage_spoils_its_group_of_pictures_and_no_other(
    folder: Path, codec: str, damaged: int, kept: float, spoilt: list[int]
) -> None:
    whole = write_video(
        folder / f"{codec}.mp4", codec=codec, options={"libx264": GROUPS, "libx265": HEVC}[codec], noise=20
    )
    path = overwritten(whole, damaged, kept=kept)
    everything = decoded_in_order(whole)

    for number in spoilt:
        with pytest.raises(VideoError, match=r"cannot be decoded \(1 of 1 asked frames, [1-9]\d* decode errors\)"):
            read_frames(path, count=1, start=number / 25, end=(number + 1) / 25)
    for start in (0.4, 1.6):
        frames = read_frames(path, count=2, start=start, end=start + 0.08)
        for ours, theirs in zip(frames.pictures, everything[round(start * 25) :], strict=False):
            np.testing.assert_array_equal(ours, theirs)


def test_a_truncated_file_tells_what_it_declares_and_what_it_holds(folder: Path) -> None:
    data = write_video(folder / "front.mp4", options=GROUPS, container_options={"movflags": "faststart"}).read_bytes()
    cut = folder / "cut-front.mp4"
    cut.write_bytes(data[: len(data) // 2])

    with pytest.raises(VideoError, match=r"the header declares 2\.000 s, but the video ends at 0\.\d+ s \(\d+% lost\)"):
        read_frames(cut)
    assert numbers_in(read_frames(cut, count=4, start=0.0, end=0.4)) == [1, 3, 6, 8]  # all that was asked for is there


@pytest.mark.parametrize("name", ["cut.mkv", "cut.flv", "cut.avi"])
def test_truncation_is_seen_in_other_containers_too(folder: Path, name: str) -> None:
    path = write_video(folder / f"tail-{name}", options=GROUPS, time_base=Fraction(1, 25))
    data = path.read_bytes()
    cut = folder / f"truncated-{name}"
    cut.write_bytes(data[: len(data) // 2])

    with pytest.raises(VideoError, match=r"the header declares \d\.\d+ s, but the video ends at"):
        read_frames(cut)


def test_an_mp4_without_its_index_says_so(plain: Path) -> None:
    data = plain.read_bytes()
    headless = plain.with_name("recording.mp4")
    headless.write_bytes(data[: data.index(b"moov") - 4])

    with pytest.raises(VideoError, match=r"an MP4 without its index \(moov\).*moov atom not found") as caught:
        read_frames(headless)
    assert not caught.value.library
    assert av.logging.get_level() is None  # FFmpeg's log has one reader in a process: it is given back


def test_a_broken_matroska_header_is_told(folder: Path) -> None:
    data = write_video(folder / "header.mkv").read_bytes()
    broken = folder / "broken.mkv"
    broken.write_bytes(data[:20] + b"\xff" * 80 + data[100:])

    with pytest.raises(VideoError, match=r"its Matroska header is broken.*EBML header parsing failed"):
        read_frames(broken)


@pytest.mark.parametrize("name", ["beginning.mp4", "beginning.mkv"])
def test_hardly_more_than_a_header_is_the_video_s_own_fault(folder: Path, name: str) -> None:
    whole = write_video(folder / f"whole-{name}")
    (folder / name).write_bytes(whole.read_bytes()[:200])

    with pytest.raises(VideoError, match=r"video: (it ends within its header|an MP4 without its index)"):
        read_frames(folder / name)


def test_text_with_the_name_of_a_video_is_not_taken_for_an_mp4_without_its_index(tmp_path: Path) -> None:
    (tmp_path / "notes.mp4").write_text("This is not a video.\n" * 50)

    with pytest.raises(VideoError, match="cannot read it as a video: it is a text file") as caught:
        read_frames(tmp_path / "notes.mp4")
    assert "moov" not in str(caught.value)


def test_a_format_that_nobody_knows_is_the_video_s_own_fault(plain: Path) -> None:
    unknown = plain.with_name("unknown.mp4")
    unknown.write_bytes(plain.read_bytes().replace(b"avc1", b"zzzz"))

    with pytest.raises(VideoError, match=r"in no format that FFmpeg knows \(zzzz\)") as caught:
        read_frames(unknown)
    assert not caught.value.library


def test_a_decoder_that_was_not_built_in_is_the_library_s_fault(plain: Path) -> None:
    known = plain.with_name("evc.mp4")
    known.write_bytes(plain.read_bytes().replace(b"avc1", b"evc1"))  # known to FFmpeg, and decoded by no part of it

    with pytest.raises(VideoError, match=r"FFmpeg has no decoder for its video stream \(evc\)") as caught:
        read_frames(known)
    assert caught.value.library


def test_a_folder_of_pictures_of_two_sizes_is_refused_with_both(tmp_path: Path) -> None:
    for number in range(4):
        size: dict[str, Any] = {"width": 320, "height": 240} if number == 2 else {}
        cv2.imwrite(str(tmp_path / f"{number}.png"), picture(number, **size))

    with pytest.raises(VideoError, match=r"0\.png has 160 x 120 pixels, 2\.png has 320 x 240"):
        read_frames(tmp_path, count=4)
    assert numbers_in(read_frames(tmp_path, count=2, start=0, end=0.08)) == [0, 1]
    with pytest.raises(VideoError, match=r"2\.png has 320 x 240"):
        read_frames(tmp_path, count=1, start=0, end=0.12, check="full")
