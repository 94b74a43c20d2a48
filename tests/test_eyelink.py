"""EyeLink ASC files: every form of sample line, blocks, blinks, messages; and files that are of no use.

The lines are written after recordings.md 2.5 and the line formats of the EyeLink 1000 Plus user manual, 4.9.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smad_features import schema
from smad_features.eyes import resample
from smad_features.recordings import Recording, RecordingError, read_recording
from smad_features.recordings.movements import Movement, movement_channels

UNCLASSIFIED, FIXATION, SACCADE, NOT_FOUND = range(4)

PREAMBLE = """\
** CONVERTED FROM P01.edf using edfapi 3.1 Win32
** VERSION: EYELINK II 1
** SOURCE: EYELINK CL
**

MSG\t900 DISPLAY_COORDS 0 0 1279 1023
>>>>>>> CALIBRATION (HV9,P-CR) FOR LEFT: <<<<<<<<<
MSG\t901 !CAL eye check box: (L,R,T,B)
\t  -59     5   -46   -17
   0.0002854  137.26  1.2339  0.40941  1.528
"""


def block(
    samples: list[str], *, start: int = 1000, eyes: str = "LEFT", rate: int = 1000, more: str = "", pupil: str = "AREA"
) -> str:
    """One block, its samples written as they are; an event's line is put among them as one more."""
    spec = f"GAZE\t{eyes}\tRATE\t{rate}.00\tTRACKING\tCR\tFILTER\t2"
    return "\n".join(
        [
            f"MSG\t{start} GAZE_COORDS 0.00 0.00 1919.00 1079.00",
            f"START\t{start} \t{eyes}\tSAMPLES\tEVENTS",
            "PRESCALER\t1",
            "VPRESCALER\t1",
            f"PUPIL\t{pupil}",
            f"EVENTS\t{spec}",
            f"SAMPLES\t{spec}{more}",
            *samples,
            f"END\t{start + len(samples)} \tSAMPLES\tEVENTS\tRES\t  38.54\t  31.12\n",
        ]
    )


def mono(times: range, *, flags: str = "...") -> list[str]:
    return [f"{time}\t  {time / 10:.1f}\t  540.0\t  714.0\t{flags}" for time in times]


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Recording]:
    """Writes a file under a name that tells something else, and reads it."""

    def write_and_read(content: str | bytes) -> Recording:
        path = tmp_path / "P001_C07.xlsx"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_recording(path)

    return write_and_read


def test_one_eye_is_read_into_its_channels_and_the_mean(read: Callable[..., Recording]) -> None:
    recording = read(PREAMBLE + block(mono(range(1000, 1020), flags="..."), eyes="RIGHT"))
    assert recording.kind == "EyeLink ASC"
    assert (recording.screen, recording.declared_rate) == ((1920, 1080), 1000)
    assert recording.rate == pytest.approx(1000)
    np.testing.assert_allclose(recording.time, np.arange(20) / 1000, atol=1e-12)
    for name in ("Gaze point X", "Gaze point right X"):
        np.testing.assert_allclose(recording.channels[name], np.arange(1000, 1020) / 10, atol=1e-9)
    assert set(recording.channels) == {"Gaze point X", "Gaze point Y", "Gaze point right X", "Gaze point right Y"}
    assert recording.extra["Pupil area right (a.u.)"].tolist() == [714] * 20  # no millimetres: no channel holds it


def test_both_eyes_are_averaged_and_one_stands_for_both_where_the_other_is_lost(read: Callable[..., Recording]) -> None:
    samples = [
        "1000\t  100.0\t  200.0\t  700.0\t  110.0\t  220.0\t  800.0\t.....",
        "1001\t  100.0\t  200.0\t  700.0\t   .\t   .\t    0.0\t.....",
        "1002\t   .\t   .\t    0.0\t  110.0\t  220.0\t  800.0\t.....",
        "1003\t   .\t   .\t    0.0\t   .\t   .\t    0.0\t.....",
    ]
    recording = read(block(samples, eyes="LEFT\tRIGHT", pupil="DIAMETER"))
    np.testing.assert_array_equal(recording.channels["Gaze point X"], [105, 100, 110, np.nan])
    np.testing.assert_array_equal(recording.channels["Gaze point Y"], [210, 200, 220, np.nan])
    np.testing.assert_array_equal(recording.extra["Pupil diameter left (a.u.)"], [700, 700, np.nan, np.nan])
    np.testing.assert_array_equal(recording.extra["Pupil diameter right (a.u.)"], [800, np.nan, 800, np.nan])
    assert recording.notes["values_marked_missing"] == 4  # the zeros; a dot is an empty cell
    assert "Eye movement type" not in recording.channels


# What is behind x, y and pupil in each form of line: manual 4.9.2, 4.9.3.1 and 4.9.3.2.
FORMS = {
    "plain": ("", "", "..."),
    "input port": ("\tINPUT", "\t  127.0", "..."),
    "velocity": ("\tVEL", "\t    0.5\t   -0.5", "..."),
    "resolution": ("\tRES", "\t   38.2\t   31.1", "..."),
    "all of them": ("\tVEL\tRES\tINPUT\tBUTTONS", "\t 0.5\t -0.5\t 38.2\t 31.1\t 127.0\t 0", "..."),
    "remote": ("\tHTARGET", "", "...\t-1234.0\t  567.0\t  601.5\t............."),
    "remote, no tab": ("\tINPUT\tHTARGET", "\t  127.0", "...\t-1234.0\t  567.0\t  601.5 ............."),
    "declared remote, but is not": ("\tHTARGET", "", "..."),
    "no flags": ("", "", ""),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_sample_line_of_any_form_gives_the_same_gaze(form: str, read: Callable[..., Recording]) -> None:
    words, numbers, flags = FORMS[form]
    samples = [f"{time}\t  {time / 10:.1f}\t  540.0\t  714.0{numbers}\t{flags}".rstrip() for time in range(1000, 1020)]
    recording = read(block(samples, more=words))
    np.testing.assert_allclose(recording.channels["Gaze point left X"], np.arange(1000, 1020) / 10, atol=1e-9)
    np.testing.assert_array_equal(recording.channels["Gaze point Y"], np.full(20, 540.0))
    np.testing.assert_array_equal(recording.extra["Pupil area left (a.u.)"], np.full(20, 714.0))
    if "remote" in form and "not" not in form:
        np.testing.assert_array_equal(recording.extra["Target distance (mm)"], np.full(20, 601.5))
    else:
        assert "Target distance (mm)" not in recording.extra


def test_a_lost_target_and_what_the_tracker_warns_of_are_missing(read: Callable[..., Recording]) -> None:
    samples = [
        "1000\t 100.0\t 200.0\t 700.0\t...\t-1234.0\t  567.0\t  600.0\t.............",
        "1001\t 100.0\t 200.0\t 700.0\tI..\t-32768.0\t-32768.0\t-32768.0\tM............",
        "1002\t 100.0\t 200.0\t 700.0\t.C.\t-1234.0\t  567.0\t  600.0\t...........L.",
        "1003\t 100.0\t 200.0\t 700.0\t..R\t-1234.0\t  567.0\t  600.0\t.............",
    ]
    recording = read(block(samples, more="\tHTARGET"))
    np.testing.assert_array_equal(recording.channels["Gaze point X"], [100, np.nan, np.nan, 100])
    np.testing.assert_array_equal(recording.extra["Target distance (mm)"], [600, np.nan, 600, 600])
    assert recording.notes["values_flagged_invalid"] == 6
    assert recording.notes["values_marked_missing"] == 3


def test_a_warning_about_one_of_two_eyes_is_about_that_one(read: Callable[..., Recording]) -> None:
    samples = [
        f"{1000 + number} 1 2 3 4 5 6 {flags}" for number, flags in enumerate([".....", ".C...", "...C.", "I...."])
    ]
    recording = read(block(samples, eyes="LEFT\tRIGHT"))
    assert np.isnan(recording.channels["Gaze point left X"]).tolist() == [False, True, False, True]
    assert np.isnan(recording.channels["Gaze point right X"]).tolist() == [False, False, True, True]


def test_one_dot_for_all_flags_of_a_lost_sample_hides_no_other_flag(read: Callable[..., Recording]) -> None:
    samples = ["1000 . . 0.0 . . 0.0 .", "1001 1 2 3 4 5 6 .....", "1002 1 2 3 4 5 6 I....", "1003 . . 0.0 . . 0.0 ."]
    recording = read(block(samples, eyes="LEFT\tRIGHT"))
    assert np.isnan(recording.channels["Gaze point X"]).tolist() == [True, False, True, True]


@pytest.mark.parametrize(("rate", "step"), [(250, 4), (500, 2), (1000, 1)])
def test_the_gap_between_blocks_stays_a_gap_and_the_rate_is_that_within_them(
    rate: int, step: int, read: Callable[..., Recording]
) -> None:
    first, second = range(1000, 1000 + 40 * step, step), range(9000, 9000 + 40 * step, step)
    recording = read(
        block(mono(first), rate=rate) + "\nMSG 5000 TRIALID 2\n" + block(mono(second), start=9000, rate=rate)
    )
    assert recording.rate == pytest.approx(rate) == recording.declared_rate
    assert len(recording.time) == 80
    assert recording.time[40] == pytest.approx(8)
    out = resample(recording)
    assert np.isnan(out["gaze"][4:28]).all()  # nothing is invented between the trials


@pytest.mark.parametrize("times", ["floats", "whole milliseconds"])
def test_2000_hz_has_half_milliseconds_even_where_they_are_not_written(
    times: str, read: Callable[..., Recording]
) -> None:
    numbers = [1000 + number / 2 for number in range(40)]
    written = [f"{number:.1f}" if times == "floats" else f"{int(number)}" for number in numbers]
    samples = [f"{time}\t  {number:.1f}\t  540.0\t  714.0\t..." for time, number in zip(written, numbers, strict=True)]
    recording = read(block(samples, rate=2000))
    np.testing.assert_allclose(recording.time, np.arange(40) / 2000, atol=1e-12)
    assert recording.notes["duplicate_timestamps"] == 0


def test_blocks_of_different_eyes_fill_their_own_channels(read: Callable[..., Recording]) -> None:
    recording = read(
        block(mono(range(1000, 1010))) + block(mono(range(2000, 2010)), start=2000, eyes="RIGHT", more="\tINPUT")
    )
    assert np.isnan(recording.channels["Gaze point left X"]).tolist() == [False] * 10 + [True] * 10
    assert np.isnan(recording.channels["Gaze point right X"]).tolist() == [True] * 10 + [False] * 10
    assert not np.isnan(recording.channels["Gaze point X"]).any()


def test_positions_are_counted_from_the_corner_of_the_display_and_undo_the_prescaler(
    read: Callable[..., Recording],
) -> None:
    text = block(["1000 900.0 2200.0 700.0 ...", "1001 900.0 2200.0 700.0 ...", "EFIX L 1000 1001 2 900.0 2200.0 700"])
    text = text.replace("PRESCALER\t1\n", "PRESCALER\t10\n", 1).replace("0.00 0.00 1919.00", "-10.00 20.00 1909.00")
    recording = read(text.replace(" 1079.00", " 1099.00"))
    assert recording.screen == (1920, 1080)
    for name in ("Gaze point left", "Fixation point"):
        assert recording.channels[f"{name} X"].tolist() == [100, 100]
        assert recording.channels[f"{name} Y"].tolist() == [200, 200]


def test_a_display_given_by_its_size_is_not_a_pixel_larger(read: Callable[..., Recording]) -> None:
    samples = block(mono(range(1000, 1010))).replace(
        "GAZE_COORDS 0.00 0.00 1919.00 1079.00", "DISPLAY_COORDS = 0 0 1920 1080"
    )
    assert read(samples).screen == (1920, 1080)
    assert read(samples.replace("DISPLAY_COORDS", "RECCFG")).screen is None


def test_a_blink_and_the_saccade_around_it_are_one_time_of_no_eyes(read: Callable[..., Recording]) -> None:
    samples = mono(range(1000, 1100))
    samples[40:60] = [f"{time}\t   .\t   .\t    0.0\t..." for time in range(1040, 1060)]
    at = {  # line by the sample that it stands before
        100: "ESACC L  1080\t1089\t10\t 100.0\t 200.0\t  300.0\t  200.0\t  4.38\t    161",
        80: "EFIX L   1070\t1079\t10\t  107.5\t  540.0\t    430",
        70: "ESACC L  1030\t1069\t40\t 1018.9\t 1195.7\t  160.8\t  438.2\t  17.38\t    461",
        60: "EBLINK L 1040\t1059\t20",
        20: "EFIX L   1005\t1019\t15\t 1008.6\t 1190.4\t    430",
    }
    for place, line in at.items():
        samples.insert(place, line)
    recording = read(block(samples))
    expected = np.full(100, UNCLASSIFIED)
    expected[5:20] = expected[70:80] = FIXATION
    expected[30:70] = NOT_FOUND
    expected[80:90] = SACCADE
    np.testing.assert_array_equal(recording.channels["Eye movement type"], expected)
    index, duration = recording.channels["Eye movement type index"], recording.channels["Gaze event duration"]
    assert [index[5], index[30], index[69], index[70], index[80]] == [1, 1, 1, 2, 1]
    assert [duration[5], duration[30], duration[70], duration[80]] == [15, 40, 10, 10]
    assert np.isnan(index[expected == UNCLASSIFIED]).all() and np.isnan(duration[0])
    assert recording.channels["Fixation point X"][[5, 19, 75]].tolist() == [1008.6, 1008.6, 107.5]
    assert np.isnan(recording.channels["Fixation point X"][expected != FIXATION]).all()


def test_of_two_eyes_the_left_leads_and_the_right_stands_in_while_it_blinks(read: Callable[..., Recording]) -> None:
    samples = [f"{time}\t 1.0\t 2.0\t 3.0\t 4.0\t 5.0\t 6.0\t....." for time in range(1000, 1040)]
    samples += [
        "EFIX L 1000 1019 20 1.0 2.0 3",
        "EFIX R 1005 1029 25 4.0 5.0 6",
        "EBLINK L 1020 1039 20",
        "EBLINK R 1030 1039 10",
    ]
    recording = read(block(samples, eyes="LEFT\tRIGHT"))
    np.testing.assert_array_equal(recording.channels["Eye movement type"], [FIXATION] * 30 + [NOT_FOUND] * 10)
    np.testing.assert_array_equal(recording.channels["Fixation point X"][:30], [1] * 20 + [4] * 10)


SPANS = st.lists(st.tuples(st.integers(1, 6), st.sampled_from([FIXATION, SACCADE]), st.booleans()), max_size=8)


@given(SPANS, SPANS)
def test_every_sample_is_part_of_what_a_reading_one_by_one_says(
    left: list[tuple[int, int, bool]], right: list[tuple[int, int, bool]]
) -> None:
    movements, truth = [], {"left": [UNCLASSIFIED] * 60, "right": [UNCLASSIFIED] * 60}
    for eye, spans in (("left", left), ("right", right)):
        at = 0
        for length, code, blinks in spans:
            movements.append(Movement(eye, code, at, at + length - 1, length))
            if blinks and code == SACCADE:
                movements.append(Movement(eye, NOT_FOUND, at + length // 2, at + length - 1, 1))
                code = NOT_FOUND
            truth[eye][at : at + length] = [code] * length
            at += length + 1
    found = movement_channels(movements, np.arange(60.0), seen=np.ones(60, dtype=bool))["Eye movement type"]
    for here, there, code in zip(truth["left"], truth["right"], found, strict=True):
        stands_in = here == UNCLASSIFIED or (here == NOT_FOUND and there in (FIXATION, SACCADE))
        assert code == (there if stands_in else here)


def test_a_sample_lost_outside_of_any_movement_is_one_without_eyes(read: Callable[..., Recording]) -> None:
    samples = ["1000 1.0 2.0 3.0 ...", "1001 . . 0.0 ...", "EFIX L 998 999 2 1.0 2.0 3"]
    assert read(block(samples)).channels["Eye movement type"].tolist() == [UNCLASSIFIED, NOT_FOUND]


def test_messages_ports_and_blocks_are_events_on_the_recordings_clock(read: Callable[..., Recording]) -> None:
    samples = [
        *mono(range(1000, 1010)),
        "MSG\t1004 -2 VideoStimulusStart  clip 7.mp4",
        "INPUT\t1005\t127",
        "BUTTON 1006 2 1",
    ]
    events = read(PREAMBLE + "MSG 990 TRIALID 1\n" + block(samples)).events
    wanted = {
        "TRIALID": (-0.010, "1"),
        "VideoStimulusStart": (0.006, "clip 7.mp4"),  # 2 ms after the message was sent
        "INPUT": (0.005, "127"),
        "BUTTON": (0.006, "2 1"),
        "START": (0.0, ""),
    }
    assert {name: (pytest.approx(time), value) for name, (time, value) in wanted.items()} == {
        event.name: (event.time, event.value) for event in events if event.name in wanted
    }
    assert [event.time for event in events] == sorted(event.time for event in events)


def test_a_message_of_many_lines_is_no_damage(read: Callable[..., Recording]) -> None:
    samples = mono(range(1000, 1020))
    samples[10:10] = ["MSG\t1009 text", "END of the first part", "START again", "MSG", "", "\t120 in all"]
    assert len(read(block(samples)).time) == 20


@pytest.mark.parametrize("pack", [lambda text: gzip.compress(text.encode()), lambda text: text.replace("\n", "\r\n")])
def test_packed_and_windows_files_are_read_alike(
    pack: Callable[[str], str | bytes], read: Callable[..., Recording]
) -> None:
    text = PREAMBLE + block(mono(range(1000, 1020)))
    np.testing.assert_array_equal(read(pack(text)).channels["Gaze point X"], read(text).channels["Gaze point X"])


def test_bare_samples_are_read_and_no_eye_is_made_up(read: Callable[..., Recording]) -> None:
    recording = read("\n".join(mono(range(1000, 1020))) + "\n")
    assert set(recording.channels) == {"Gaze point X", "Gaze point Y"}
    assert list(recording.extra) == ["Pupil size (a.u.)"]
    both = read("".join(f"{time} 1.0 2.0 3.0 4.0 5.0 6.0 .....\n" for time in range(1000, 1020)))
    assert both.channels["Gaze point right X"].tolist() == [4] * 20


def test_a_recording_that_saw_no_eye_and_one_of_20_samples_are_recordings(read: Callable[..., Recording]) -> None:
    recording = read(block([f"{time}\t   .\t   .\t    0.0\t..." for time in range(1000, 1020)]))
    assert len(recording.time) == 20
    assert np.isnan(recording.channels["Gaze point X"]).all()
    assert resample(recording)["quality"]["gaze_source"] == "none"


def test_pupils_that_were_not_recorded_take_no_gaze_along(read: Callable[..., Recording]) -> None:
    recording = read(block([f"{time}\t 100.0\t 200.0\t    0.0\t..." for time in range(1000, 1020)]))
    assert recording.channels["Gaze point X"].tolist() == [100] * 20


def test_a_short_line_of_nothing_is_a_lost_sample(read: Callable[..., Recording]) -> None:
    samples = mono(range(1000, 1010), flags="...\t 1.0\t 2.0\t 600.0\t.............")
    samples[4] = "1004\t   .\t   .\t    0.0\t..."
    recording = read(block(samples, more="\tHTARGET"))
    assert np.isnan(recording.channels["Gaze point X"]).tolist() == [False] * 4 + [True] + [False] * 5


WHOLE = PREAMBLE + block(mono(range(1000, 1020)))
REFUSED = {
    "preamble only": (
        PREAMBLE,
        "not one sample, but 0 eye movements and 2 events: convert the recording with its samples",
    ),
    "events only": (block(["EFIX L 1000 1100 101 1.0 2.0 3"]), "not one sample, but 1 eye movements and 3 events"),
    "cut in a sample": (WHOLE[: WHOLE.index("1019\t") + 9], r"cut off in the middle of its last line \(37\)"),
    "cut in an event": (
        WHOLE[: WHOLE.index("END\t")] + "EFIX L   100",
        r"cut off in the middle of its last line \(38\), in a block that has no END",
    ),
    "cut bare samples": (
        "\n".join(mono(range(1000, 1020)))[:-9],
        r"middle of its last line \(20\): want 5 fields, found 3",
    ),
    "a short line within": (WHOLE.replace("\t  540.0", "", 1), "damaged: line 18 has 4 fields, the other samples 5"),
    "text for a number": (WHOLE.replace("540.0", "wide", 1), "column '3', line 18: want a number, found 'wide'"),
    "a torn event within": (WHOLE.replace("END", "EBLINK L 10\nEND"), "damaged: line 38 is no EBLINK: 'EBLINK L 10'"),
    "head-referenced": (
        WHOLE.replace("GAZE\t", "HREF\t"),
        "its samples are HREF, not GAZE: convert the recording with",
    ),
    "one eye of two": (
        WHOLE.replace("LEFT\t", "LEFT\tRIGHT\t"),
        r"line 18: want 7 numbers for 2 eye\(s\), found 5 fields",
    ),
    "a damaged gzip": (gzip.compress(WHOLE.encode())[:-20], "a damaged gzip file"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_useless_file_is_refused_with_its_own_reason(what: str, read: Callable[..., Recording]) -> None:
    content, reason = REFUSED[what]
    with pytest.raises(RecordingError, match=reason) as refusal:
        read(content)
    assert str(refusal.value).startswith("P001_C07.xlsx: ")


def test_codes_are_those_of_the_schema() -> None:
    names = ["Unclassified", "Fixation", "Saccade", "EyesNotFound"]
    assert [schema.EYE_MOVEMENT[name] for name in names] == [UNCLASSIFIED, FIXATION, SACCADE, NOT_FOUND]
