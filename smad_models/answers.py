"""A reviewer's answers, taken back into annotations and labels; and what became of the agreement."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from smad_models.annotations import (
    LABELS,
    Annotation,
    Label,
    arrange,
    read_annotations,
    read_label,
    read_labels,
    show_number,
)
from smad_models.consensus import Consensus, Method, Ratings, consensus_table, find_consensus
from smad_models.folds import read_table
from smad_models.relabel import ANSWERS
from smad_models.reliability import Undefined, krippendorff_alpha


@dataclass(frozen=True)
class Merged:
    """What the answers make of the tables, and the agreement before and after.

    Attributes
    ----------
    annotations, labels
        Texts of the new tables.
    changes
        ``{"answered", "clips", "annotator", "confirmed": {label: clips}, "changed": {label: clips}, "alpha": {label:
        {"answered": [before, after], "all": [before, after]}}}``: how many clips got an answer, and of how many; whose
        label the answer confirms; whose label is another now; Krippendorff's alpha over the answered clips, and over
        all; None where it does not exist.
    """

    annotations: str
    labels: str
    changes: dict[str, Any]


def read_answers(path: Path, *, clips: Sequence[str], emotions: Sequence[str] | None) -> dict[str, Label]:
    """The rows of a queue that were filled in, by clip.

    Raises
    ------
    ValueError
        A clip is unknown or stands twice, an answer is not allowed, or there is none; the message names the row.
    """
    known = set(clips)
    answers: dict[str, Label] = {}
    seen: set[str] = set()
    for number, line in enumerate(read_table(path, needed=("clip", *ANSWERS)), start=2):
        where = f"{path}: row {number}: clip {line['clip']}"
        if line["clip"] not in known:
            raise ValueError(f"{where}: is in neither the annotations nor the labels")
        if line["clip"] in seen:
            raise ValueError(f"{where}: stands there twice")
        seen.add(line["clip"])
        label = read_label(line, where, emotions=emotions, prefix="new_")
        if label != Label():
            answers[line["clip"]] = label
    if not answers:
        raise ValueError(f"{path}: no row has an answer: want some of the columns {', '.join(ANSWERS)} filled")
    return answers


def merge_answers(
    answers: Path,
    *,
    annotator: str,
    annotations: Path,
    labels: Path | None,
    emotions: Sequence[str] | None = None,
    decides: bool = False,
    method: Method = "majority",
    ratings: Ratings = "mean",
) -> Merged:
    """Add a reviewer's answers to the annotations, as those of an expert, and bring the labels up to date.

    Labels change where a clip was answered, and in what was answered, unless the answer is the very label; all others
    stay as they are in ``labels``, and so do its other columns. Without ``labels`` all of them are the consensus of the
    annotations.

    Parameters
    ----------
    annotator
        The reviewer's name; one who has annotated a clip already cannot do so again under it.
    decides
        The answer is the label, whatever others said; else it is one vote more.
    method, ratings
        As for `find_consensus`.

    Raises
    ------
    ValueError
        As `read_answers`, `read_annotations`, `read_labels`; or the annotator has spoken of a clip before.
    """
    rows = read_annotations(annotations, emotions=emotions, clips=None)
    kept = None if labels is None else read_labels(labels, emotions=emotions)
    found = emotions or sorted(
        {one for one in (*(row.label.emotion for row in rows), *(old.emotion for old in (kept or {}).values())) if one}
    )
    places = list(dict.fromkeys([*(row.clip for row in rows), *(kept or {})]))
    given = read_answers(answers, clips=places, emotions=found)
    twice = {row.clip for row in rows if row.annotator == annotator} & given.keys()
    if twice:
        raise ValueError(
            f"{annotations}: clip {min(twice)}: was annotated by {annotator} before (with {len(twice) - 1} more of"
            " these answers): give the second look another name"
        )
    other = next((row for row in rows if row.annotator == annotator and row.kind != "expert"), None)
    if other is not None:
        raise ValueError(f"{annotations}: {annotator} is a {other.kind} there, not an expert: choose another name")
    new = [Annotation(clip, annotator, "expert", label) for clip, label in given.items()]
    before = find_consensus(arrange(rows, emotions=found), method=method, ratings=ratings)
    after = find_consensus(
        arrange([*rows, *new], emotions=found), method=method, ratings=ratings, decider=annotator if decides else None
    )
    old = dict(zip(before.clips, before.labels, strict=True)) if kept is None else kept
    after = _keep_confirmed(after, old, given)
    labelled = dict(zip(after.clips, after.labels, strict=True))
    confirmed, changed = dict.fromkeys(LABELS, 0), dict.fromkeys(LABELS, 0)
    for clip, answer in given.items():
        for name in LABELS:
            cell = _cell(old.get(clip, Label()), name)
            confirmed[name] += _cell(answer, name) == cell != ""
            changed[name] += _cell(answer, name) != "" and _cell(labelled[clip], name) != cell
    changes = {
        "answered": len(given),
        "clips": len(places),
        "annotator": annotator,
        "confirmed": confirmed,
        "changed": changed,
        "alpha": _compare_alpha(rows, new, given, found),
    }
    text = consensus_table(after) if labels is None else _update_labels(labels, after, given)
    return Merged(_append(annotations, new), text, changes)


def _keep_confirmed(after: Consensus, old: Mapping[str, Label], given: Mapping[str, Label]) -> Consensus:
    """What a reviewer finds right stays, even where the single annotations had it otherwise."""
    labels = []
    for clip, label in zip(after.clips, after.labels, strict=True):
        answer, current = given.get(clip, Label()), old.get(clip, Label())
        right = {name: getattr(current, name) for name in LABELS if _cell(answer, name) == _cell(current, name) != ""}
        labels.append(label._replace(**right))
    return replace(after, labels=tuple(labels))


def _cell(label: Label, name: str) -> str:
    """What a table says of it."""
    return label.emotion or "" if name == "emotion" else show_number(getattr(label, name))


def _compare_alpha(
    rows: Sequence[Annotation], new: Sequence[Annotation], given: Mapping[str, Label], emotions: Sequence[str]
) -> dict[str, dict[str, list[float | None]]]:
    """Krippendorff's alpha of each label, before and after, over the answered clips and over all."""
    alphas: dict[str, dict[str, list[float | None]]] = {name: {"answered": [], "all": []} for name in LABELS}
    for table in (rows, [*rows, *new]):
        arrays = arrange(table, emotions=emotions)
        answered = np.array([clip in given for clip in arrays.clips], dtype=bool)
        codes = np.where(arrays.codes >= 0, arrays.codes, np.nan)
        for name, alpha in alphas.items():
            values = codes if name == "emotion" else arrays.ratings[name]
            for part, chosen in (("answered", values[answered]), ("all", values)):
                try:
                    alpha[part].append(krippendorff_alpha(chosen, level="nominal" if name == "emotion" else "interval"))
                except Undefined:
                    alpha[part].append(None)
    return alphas


def _append(path: Path, new: Sequence[Annotation]) -> str:
    """The table's own text with the new rows below."""
    text = path.read_text(encoding="utf-8-sig")
    header = next(csv.reader([text.splitlines()[0]], dialect="excel-tab"))
    below = io.StringIO()
    writer = csv.DictWriter(below, header, dialect="excel-tab", lineterminator="\n", restval="")
    for row in new:
        cells = {"clip": row.clip, "annotator": row.annotator, "kind": row.kind}
        writer.writerow(cells | {name: _cell(row.label, name) for name in LABELS})
    return text + ("" if text.endswith("\n") else "\n") + below.getvalue()


def _update_labels(path: Path, after: Consensus, given: Mapping[str, Label]) -> str:
    """The table of labels with the answered cells brought up to date, and rows for clips that it did not have."""
    place = {clip: i for i, clip in enumerate(after.clips)}
    with path.open(encoding="utf-8-sig", newline="") as file:
        header = list(csv.DictReader(file, dialect="excel-tab").fieldnames or [])
    rows = read_table(path, needed=("clip", *LABELS))
    rows += [{"clip": clip} for clip in given if clip not in {row["clip"] for row in rows}]
    for row in rows:
        answer = given.get(row["clip"])
        if answer is None:
            continue
        i = place[row["clip"]]
        for name in LABELS:
            if getattr(answer, name) is not None:
                row[name] = _cell(after.labels[i], name)
                row[f"{name}_confidence"] = show_number(after.confidence[name][i])
        row["annotators"] = str(after.annotators[i])
        if answer.emotion is not None:
            row["emotion_rule"] = after.rules[i]
    text = io.StringIO()
    writer = csv.DictWriter(text, header, dialect="excel-tab", lineterminator="\n", restval="", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
