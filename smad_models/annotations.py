"""annotations.tsv and labels.tsv as arrays: who said what of which clip.

Each participant annotates only the own clips, so all self-reports are one column here, `participant`: what is computed
of an annotator is computed of self-reports as such, and names nobody.
"""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from smad_models.folds import read_table

KINDS = ("participant", "expert", "model")
SELF = "participant"  # name of the column of all self-reports
RATINGS = {"intensity": (0.0, 3.0), "valence": (-1.0, 1.0), "arousal": (-1.0, 1.0)}  # and what a rating may be
LABELS = ("emotion", *RATINGS)
COLUMNS = ("clip", "annotator", "kind", *LABELS)


class Label(NamedTuple):
    """What is said of a clip; None = nothing."""

    emotion: str | None = None
    intensity: float | None = None
    valence: float | None = None
    arousal: float | None = None


class Annotation(NamedTuple):
    """One row of annotations.tsv."""

    clip: str
    annotator: str
    kind: str
    label: Label


class Annotator(NamedTuple):
    """One column of the arrays."""

    name: str
    kind: str


@dataclass(frozen=True)
class Annotations:
    """What every annotator said of every clip."""

    clips: tuple[str, ...]  # in the order of the table
    annotators: tuple[Annotator, ...]  # self-reports, then experts, then models; by name
    emotions: tuple[str, ...]
    codes: np.ndarray  # (clips, annotators) int64: an index into emotions; -1 = not given
    ratings: Mapping[str, np.ndarray]  # each (clips, annotators) float64; NaN = not given

    def of_kinds(self, kinds: Collection[str]) -> np.ndarray:
        """The columns of the annotators of these kinds."""
        return np.array([i for i, who in enumerate(self.annotators) if who.kind in kinds], dtype=np.int64)

    def votes(self) -> np.ndarray:
        """How many annotators name each emotion: (clips, emotions) int64."""
        return count_votes(self.codes, len(self.emotions))


def count_votes(codes: np.ndarray, classes: int) -> np.ndarray:
    """How often each class stands in each row of ``codes``, where -1 is none: (rows, classes) int64."""
    return (codes[:, :, None] == np.arange(classes)).sum(axis=1)


def read_annotations(path: Path, *, emotions: Sequence[str] | None, clips: Collection[str] | None) -> list[Annotation]:
    """The rows of annotations.tsv.

    Parameters
    ----------
    emotions
        The configuration's; None = whichever the table names.
    clips
        Rows of other clips are passed over; None = none are.

    Raises
    ------
    ValueError
        A cell is not allowed, an annotator says two things of a clip or is of two kinds, a clip has two self-reports:
        the message names the row.
    """
    rows: list[Annotation] = []
    seen: set[tuple[str, str]] = set()
    kind_of: dict[str, str] = {}
    for number, line in enumerate(read_table(path, needed=COLUMNS), start=2):
        where = f"{path}: row {number}: clip {line['clip']}"
        kind, name = line["kind"], line["annotator"]
        if kind not in KINDS:
            raise ValueError(f"{where}: kind {kind!r} is none of {', '.join(KINDS)}")
        if not name:
            raise ValueError(f"{where}: the annotator has no name")
        label = read_label(line, where, emotions=emotions)
        if clips is not None and line["clip"] not in clips:
            continue
        if kind != SELF and kind_of.setdefault(name, kind) != kind:
            raise ValueError(f"{where}: annotator {name} is a{'n' * (kind == 'expert')} {kind} here, and none above")
        if kind != SELF and name == SELF:
            raise ValueError(f"{where}: no {kind} can be called {SELF!r}: that is the name of all self-reports")
        column = SELF if kind == SELF else name
        if (line["clip"], column) in seen:
            what = "a second self-report" if kind == SELF else f"annotated twice by {name}"
            raise ValueError(f"{where}: {what}")
        seen.add((line["clip"], column))
        rows.append(Annotation(line["clip"], name, kind, label))
    if not rows:
        raise ValueError(f"{path}: holds no annotation" + ("" if clips is None else " of a clip in the table of clips"))
    return rows


def read_label(line: Mapping[str, str], where: str, *, emotions: Sequence[str] | None, prefix: str = "") -> Label:
    """The label in the cells of a row, an empty one as None; ValueError, beginning with ``where``, if none is there."""
    emotion = line.get(f"{prefix}emotion", "") or None
    if emotion is not None and emotions is not None and emotion not in emotions:
        raise ValueError(f"{where}: emotion {emotion!r} is none of {', '.join(emotions)}")
    numbers = {}
    for name, (low, high) in RATINGS.items():
        text = line.get(f"{prefix}{name}", "")
        try:
            number = float(text) if text else None
        except ValueError:
            number = math.nan
        if number is not None and not low <= number <= high:
            raise ValueError(f"{where}: {name}: want a number from {low:g} to {high:g}, got {text!r}")
        numbers[name] = number
    return Label(emotion, **numbers)


def arrange(rows: Iterable[Annotation], *, emotions: Sequence[str] | None) -> Annotations:
    """The rows as arrays; without ``emotions``, those that are named, in alphabetical order."""
    rows = list(rows)
    known = tuple(emotions or sorted({row.label.emotion for row in rows if row.label.emotion is not None}))
    clips = tuple(dict.fromkeys(row.clip for row in rows))
    columns = dict.fromkeys(Annotator(SELF if row.kind == SELF else row.annotator, row.kind) for row in rows)
    annotators = tuple(sorted(columns, key=lambda who: (KINDS.index(who.kind), who.name)))
    place = {clip: i for i, clip in enumerate(clips)}
    column = {who.name: i for i, who in enumerate(annotators)}
    code = {name: i for i, name in enumerate(known)}
    codes = np.full((len(clips), len(annotators)), -1, dtype=np.int64)
    ratings = {name: np.full(codes.shape, np.nan) for name in RATINGS}
    for row in rows:
        at = place[row.clip], column[SELF if row.kind == SELF else row.annotator]
        if row.label.emotion is not None:
            codes[at] = code[row.label.emotion]
        for name, array in ratings.items():
            value = getattr(row.label, name)
            array[at] = math.nan if value is None else value
    return Annotations(clips, annotators, known, codes, ratings)


def read_labels(path: Path, *, emotions: Sequence[str] | None) -> dict[str, Label]:
    """The rows of labels.tsv by clip.

    Raises
    ------
    ValueError
        A cell is not allowed, or a clip is labelled twice; the message names the row.
    """
    labels: dict[str, Label] = {}
    for number, line in enumerate(read_table(path, needed=("clip", *LABELS)), start=2):
        where = f"{path}: row {number}: clip {line['clip']}"
        if line["clip"] in labels:
            raise ValueError(f"{where}: labelled twice")
        labels[line["clip"]] = read_label(line, where, emotions=emotions)
    return labels


def read_clip_names(path: Path) -> set[str]:
    """The clips of a table that has a column `clip`."""
    return {line["clip"] for line in read_table(path, needed=("clip",))}


def write_texts(texts: Mapping[Path, str]) -> None:
    """Write files that belong together: none is replaced before all are on disk."""
    drafts = {path: path.with_name(f".{path.name}.{os.getpid()}.tmp") for path in texts}
    try:
        for path, draft in drafts.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with draft.open("w", encoding="utf-8", newline="") as file:
                file.write(texts[path])
                file.flush()
                os.fsync(file.fileno())
        for path, draft in drafts.items():
            draft.replace(path)
    finally:
        for draft in drafts.values():
            draft.unlink(missing_ok=True)


def show_number(value: float | None) -> str:
    """A rating in a table: at most four decimals; nothing for None."""
    return "" if value is None or math.isnan(value) else f"{round(value, 4):g}"
