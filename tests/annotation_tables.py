"""Tables of annotations for tests: a few rows by hand, or a study of invented people."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from smad_features.synthetic_plan import Clip, annotate, plan_clips
from smad_models.annotations import Annotation, Annotations, Label, arrange

EMOTIONS = ("happiness", "sadness", "fear", "disgust", "surprise", "anger", "neutral")
HEADER = "clip\tannotator\tkind\temotion\tintensity\tvalence\tarousal\n"


def write_annotations(path: Path, rows: str, header: str = HEADER) -> Path:
    """A table of rows whose cells stand apart by blanks; a dot is an empty cell."""
    lines = ["\t".join("" if cell == "." else cell for cell in row.split()) for row in rows.strip().splitlines()]
    path.write_text(header + "".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def of_votes(votes: str, *, kinds: Sequence[str] = ("participant", *["expert"] * 4, "model")) -> Annotations:
    """Emotions alone: a line a clip, a letter an annotator (the first of an emotion's name; a dot is none)."""
    names = {"h": "happiness", "s": "sadness", "f": "fear", "n": "neutral"}
    rows = [
        Annotation(f"c{i}", f"{kind[0]}{j}", kind, Label(names[letter]))
        for i, line in enumerate(votes.split())
        for j, (letter, kind) in enumerate(zip(line, kinds, strict=True))
        if letter != "."
    ]
    return arrange(rows, emotions=EMOTIONS)


@cache
def invent(*, participants: int = 121, clips: int = 11, seed: int = 0) -> tuple[list[Clip], Annotations]:
    """What invented people felt, and what the demo's six annotators made of it."""
    plan = plan_clips(participants, clips, seed=seed)
    rows = [
        Annotation(
            row["clip"],
            row["annotator"],
            row["kind"],
            Label(row["emotion"], float(row["intensity"]), float(row["valence"]), float(row["arousal"])),
        )
        for row in annotate(plan, seed=seed)
    ]
    return plan, arrange(rows, emotions=EMOTIONS)
