"""A demo data set as a laboratory would have it: videos, recordings, films and tables, with a planted signal.

Nobody in it exists. What each invented participant feels in a clip leaves traces in the face (`synthetic_faces`) and
in gaze and pupils (`synthetic_recordings`), so that a pipeline that works scores above chance on participants it has
not seen, and one that is broken does not.
"""

from __future__ import annotations

import csv
import multiprocessing
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console
from rich.progress import track

from smad_features import synthetic_faces as faces
from smad_features import synthetic_recordings as recordings
from smad_features import synthetic_videos as videos

FILMS = 3

# Valence and arousal of each emotion at its fullest, after the circumplex of Russell (1980), doi:10.1037/h0077714.
CIRCUMPLEX = {
    "happiness": (0.8, 0.4),
    "sadness": (-0.7, -0.5),
    "fear": (-0.6, 0.7),
    "disgust": (-0.6, 0.2),
    "surprise": (0.3, 0.8),
    "anger": (-0.75, 0.55),
    "neutral": (0.0, -0.2),
}
EMOTIONS = tuple(CIRCUMPLEX)

# How far annotators of each kind are off: chance to name a neighbouring emotion, bias and noise of a rating whose
# range is 1. Assumed, so that the participant knows best and the model least.
ANNOTATORS = {"participant": (0.06, 0.03, 0.04), "expert": (0.2, 0.05, 0.07), "model": (0.35, 0.05, 0.14)}

README = """\
This data set is SYNTHETIC. It was made by `smad-features demo-data`; nobody was filmed or recorded.

The people in it do not exist. Their faces are smooth warps of two public-domain portraits: Eileen Collins (NASA;
shipped with scikit-image) and Grace Hopper (US Navy; shipped with matplotlib). What the warped faces show is not what
these two persons felt, did or looked like. Recordings, labels and annotations are random numbers with a planted signal,
laid out like an eye tracker's export and a laboratory's tables. Scores on them say that a pipeline works, and nothing
about people.

clips.tsv        a row a clip: its participant and files
labels.tsv       what each clip shows: emotion, intensity 0..3, valence and arousal -1..1
annotations.tsv  six annotations a clip: the participant's own, four experts', one model's
P*/              videos (H.264) and recordings (tab-separated, 120 Hz) of each participant
stimulus/        the films they watched
"""


@dataclass(frozen=True)
class Felt:
    """The truth of a clip."""

    emotion: str
    intensity: float  # 0..3
    valence: float  # -1..1
    arousal: float  # -1..1

    def row(self) -> dict[str, str]:
        """The label columns as text."""
        numbers = {name: f"{getattr(self, name):.2f}" for name in ("intensity", "valence", "arousal")}
        return {"emotion": self.emotion} | numbers


@dataclass(frozen=True)
class Clip:
    """A row of clips.tsv before it is one, and the truth of it."""

    clip: str
    participant: str
    number: int  # of the participant, from 0
    order: int  # of the clip among the participant's, from 0
    film: int
    felt: Felt
    with_video: bool
    with_eye: bool


def write_demo_data(
    folder: Path,
    *,
    participants: int = 18,
    clips_per_participant: int = 7,
    seconds: float = 3.0,
    seed: int = 0,
    workers: int = 1,
) -> None:
    """Write a synthetic data set under ``folder``: the same files for the same seed, whatever the ``workers``.

    With seven clips each participant shows each emotion once. A set of 100 clips or more has, like real ones, gaps:
    two clips without a recording and one without a video. Every fifth participant's recordings come from a computer
    that writes decimal commas.

    Raises
    ------
    ValueError
        When a number is too small to make a clip of, or the folder holds other files.
    """
    for name, value, least in (
        ("participants", participants, 1),
        ("clips_per_participant", clips_per_participant, 1),
        ("seconds", seconds, 1),
        ("seed", seed, 0),
        ("workers", workers, 1),
    ):
        if value < least:
            raise ValueError(f"{name}: want at least {least}, got {value}")
    notice = folder / "README.txt"
    if folder.exists() and any(folder.iterdir()) and not (notice.exists() and notice.read_text() == README):
        raise ValueError(f"{folder} is not empty, and what is there is not ours: name a new folder")
    plan = plan_clips(participants, clips_per_participant, seed=seed)
    folder.mkdir(parents=True, exist_ok=True)
    notice.write_text(README, encoding="utf-8")
    for film in range(FILMS):
        rng = np.random.default_rng([seed, 1, film])
        anchors = np.array(list(recordings.ANCHORS.values()))
        frames = videos.film(anchors=anchors, seconds=seconds, rng=rng)
        videos.write_video(folder / f"stimulus/film{film + 1}.mp4", frames, title=f"film {film + 1}")
    work = [[clip for clip in plan if clip.number == number] for number in range(participants)]
    write = partial(_write_participant, folder, seconds=seconds, seed=seed)
    console = Console(stderr=True)
    show = partial(track, description="synthetic participants", total=participants, console=console)
    if workers == 1:
        for _ in show(map(write, work), disable=not console.is_terminal):
            pass
    else:
        spawn = multiprocessing.get_context("spawn")
        with (
            _one_blas_thread(),
            ProcessPoolExecutor(workers, mp_context=spawn, initializer=cv2.setNumThreads, initargs=(1,)) as pool,
        ):
            for _ in show(pool.map(write, work), disable=not console.is_terminal):
                pass
    # The tables last: where clips.tsv is, all is.
    _write_table(folder / "labels.tsv", [{"clip": clip.clip} | clip.felt.row() for clip in plan])
    _write_table(folder / "annotations.tsv", _annotations(plan, seed=seed))
    _write_table(folder / "clips.tsv", [_clip_row(clip, seconds) for clip in plan])


@contextmanager
def _one_blas_thread() -> Iterator[None]:
    """For processes that begin meanwhile: threads of several OpenBLAS that wait for each other spin for minutes."""
    name = "OPENBLAS_NUM_THREADS"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def plan_clips(participants: int, clips_per_participant: int, *, seed: int) -> list[Clip]:
    """Who shows what in which clip. A participant's clips do not depend on how many others there are."""
    width = max(2, len(str(participants)))
    total = participants * clips_per_participant
    no_eye = {total // 7, 3 * total // 5} if total >= 100 else set()
    no_video = {total // 3} if total >= 100 else set()
    plan: list[Clip] = []
    for number in range(participants):
        rng = np.random.default_rng([seed, 2, number])
        rounds = -(-clips_per_participant // len(EMOTIONS))
        emotions = np.concatenate([rng.permutation(len(EMOTIONS)) for _ in range(rounds)])
        for order in range(clips_per_participant):
            participant = f"P{number + 1:0{width}d}"
            plan.append(
                Clip(
                    clip=f"{participant}_C{order + 1}",
                    participant=participant,
                    number=number,
                    order=order,
                    film=(number + order) % FILMS + 1,
                    felt=_feel(EMOTIONS[emotions[order]], rng=rng),
                    with_video=len(plan) not in no_video,
                    with_eye=len(plan) not in no_eye,
                )
            )
    return plan


def _feel(emotion: str, *, rng: np.random.Generator) -> Felt:
    """An emotion at some intensity, and the valence and arousal that go with both."""
    intensity = rng.uniform(0, 0.4) if emotion == "neutral" else rng.uniform(0.8, 3.0)
    strength = 1.0 if emotion == "neutral" else 0.4 + 0.2 * intensity
    valence, arousal = np.clip(strength * np.array(CIRCUMPLEX[emotion]) + rng.normal(0, 0.08, 2), -1, 1)
    return Felt(emotion, round(float(intensity), 2), round(float(valence), 2), round(float(arousal), 2))


def _write_participant(folder: Path, clips: Sequence[Clip], *, seconds: float, seed: int) -> None:
    """All videos and recordings of one participant."""
    number = clips[0].number
    look, eyes, *_ = (np.random.default_rng([seed, 3, number, part]) for part in range(2))
    face = faces.make_face(number, rng=look)
    viewer = recordings.make_viewer(rng=eyes)
    for clip in clips:
        face_rng, eye_rng, blink_rng = (np.random.default_rng([seed, 4, number, clip.order, part]) for part in range(3))
        felt = clip.felt
        blinks = recordings.blink_times(seconds=seconds, intensity=felt.intensity, rng=blink_rng)
        if clip.with_video:
            actions, poses = faces.expression(
                felt.emotion,
                intensity=felt.intensity,
                valence=felt.valence,
                arousal=felt.arousal,
                face=face,
                seconds=seconds,
                blinks=blinks,
                rng=face_rng,
            )
            frames = (faces.render(face, action, pose) for action, pose in zip(actions, poses, strict=True))
            videos.write_video(folder / f"{clip.participant}/{clip.clip}.mp4", frames, title=clip.clip)
        if clip.with_eye:
            recordings.write_recording(
                folder / f"{clip.participant}/{clip.clip}_eye.tsv",
                participant=clip.participant,
                clip=clip.clip,
                film=f"film{clip.film}",
                emotion=felt.emotion,
                intensity=felt.intensity,
                valence=felt.valence,
                arousal=felt.arousal,
                viewer=viewer,
                blinks=blinks,
                seconds=seconds,
                decimal_comma=number % 5 == 3,
                microseconds=number % 4 == 1,
                rng=eye_rng,
            )


def _clip_row(clip: Clip, seconds: float) -> dict[str, str]:
    """A clip's row; one participant's clips are spans of their videos."""
    stem = f"{clip.participant}/{clip.clip}"
    span = clip.number == 4 and seconds >= 2
    return {
        "clip": clip.clip,
        "participant": clip.participant,
        "video": f"{stem}.mp4" if clip.with_video else "",
        "eye": f"{stem}_eye.tsv" if clip.with_eye else "",
        "stimulus": f"stimulus/film{clip.film}.mp4",
        "start": "0.1" if span else "",
        "end": f"{seconds - 0.1:g}" if span else "",
    }


def _annotations(plan: Sequence[Clip], *, seed: int) -> list[dict[str, str]]:
    """Six annotations a clip: the truth with each annotator's bias, noise and confusions."""
    experts = [f"expert{i + 1}" for i in range(4)]
    rows = []
    biases: dict[str, np.ndarray] = {}
    for clip in plan:
        annotators = [(clip.participant, "participant"), *((name, "expert") for name in experts), ("model1", "model")]
        for part, (annotator, kind) in enumerate(annotators):
            _, bias, _ = ANNOTATORS[kind]
            if annotator not in biases:
                own = clip.number if kind == "participant" else 0
                biases[annotator] = np.random.default_rng([seed, 5, part, own]).normal(0, bias, 3)
            rng = np.random.default_rng([seed, 6, clip.number, clip.order, part])
            seen = _annotate(clip.felt, kind=kind, bias=biases[annotator], rng=rng)
            rows.append({"clip": clip.clip, "annotator": annotator, "kind": kind} | seen.row())
    return rows


def _annotate(felt: Felt, *, kind: str, bias: np.ndarray, rng: np.random.Generator) -> Felt:
    """What an annotator makes of it; emotions that lie near each other are confused more often."""
    confusion, _, noise = ANNOTATORS[kind]
    emotion = felt.emotion
    if rng.random() < confusion:
        others = [name for name in EMOTIONS if name != emotion]
        away = [np.hypot(*np.subtract(CIRCUMPLEX[name], CIRCUMPLEX[emotion])) for name in others]
        near = np.exp(-np.array(away) / 0.4)
        emotion = str(rng.choice(others, p=near / near.sum()))
    off = bias + rng.normal(0, noise, 3)
    return Felt(
        emotion,
        float(np.clip(felt.intensity + 3 * off[0], 0, 3)),
        float(np.clip(felt.valence + 2 * off[1], -1, 1)),
        float(np.clip(felt.arousal + 2 * off[2], -1, 1)),
    )


def _write_table(path: Path, rows: Iterable[Mapping[str, str]]) -> None:
    rows = list(rows)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
