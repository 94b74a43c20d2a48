"""The demo data as a laboratory has them: videos, recordings and films in folders, and tables that name them."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from smad_features.synthetic_exports import write_export
from smad_features.synthetic_plan import FILMS, Clip, annotate
from smad_features.synthetic_recordings import ANCHORS
from smad_features.synthetic_takes import Take
from smad_features.synthetic_videos import film, write_video

FILES = """\
Recordings and tables are laid out like an eye tracker's export and a laboratory's tables.

clips.tsv        a row a clip: its participant and files
labels.tsv       what each clip shows: emotion, intensity 0..3, valence and arousal -1..1
annotations.tsv  six annotations a clip: the participant's own, four experts', one model's
P*/              videos (H.264) and recordings (tab-separated, 120 Hz) of each participant
stimulus/        the films they watched
"""


def write_films(folder: Path, *, seconds: float, seed: int) -> None:
    """What the participants watched."""
    anchors = np.array(list(ANCHORS.values()))
    for number in range(FILMS):
        frames = film(anchors=anchors, seconds=seconds, rng=np.random.default_rng([seed, 1, number]))
        write_video(folder / f"stimulus/film{number + 1}.mp4", frames, title=f"film {number + 1}")


def write_take(folder: Path, take: Take) -> None:
    """A clip's video and recording; some participants' computers write decimal commas, some count microseconds."""
    clip = take.clip
    if take.frames is not None:
        write_video(folder / f"{clip.participant}/{clip.clip}.mp4", take.frames, title=clip.clip)
    if take.samples is not None:
        write_export(
            folder / f"{clip.participant}/{clip.clip}_eye.tsv",
            take.samples,
            participant=clip.participant,
            clip=clip.clip,
            film=f"film{clip.film}",
            decimal_comma=clip.number % 5 == 3,
            microseconds=clip.number % 4 == 1,
            rng=take.rng,
        )


def write_tables(folder: Path, plan: Sequence[Clip], *, seconds: float, seed: int) -> None:
    """labels.tsv, annotations.tsv, and last clips.tsv: where it is, all is."""
    _write_table(folder / "labels.tsv", [{"clip": clip.clip} | clip.felt.row() for clip in plan])
    _write_table(folder / "annotations.tsv", annotate(plan, seed=seed))
    _write_table(folder / "clips.tsv", [_clip_row(clip, seconds) for clip in plan])


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


def _write_table(path: Path, rows: Iterable[Mapping[str, str]]) -> None:
    rows = list(rows)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
