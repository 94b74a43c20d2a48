"""A table of predictions as scoring reads it: checked value by value, joined with labels; and what it was made from."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from smad_models.folds import read_table
from smad_models.metrics import Scored

COLUMNS = ["clip", "participant", "fold", "prediction", "present"]


class Predictions(NamedTuple):
    """One task's predictions in stored order."""

    path: Path
    rows: list[dict[str, Any]]  # clip, participant, fold, prediction (an emotion's name, or a number), present
    probabilities: np.ndarray | None  # (n, emotions) float64, in the order of the configuration's list
    record: dict[str, Any]  # what they were made from; empty where another program made them


def read_predictions(path: Path, *, task: str, emotions: Sequence[str]) -> Predictions:
    """Read one task's table.

    Raises
    ------
    ValueError
        It is no such table, or a value makes no sense: the message names the clip.
    """
    names = [f"p_{name}" for name in emotions] if task == "emotion" else []
    try:
        there = pq.read_schema(path).names
        absent = [name for name in COLUMNS if name not in there]
        if absent:
            raise ValueError(f"{path}: has no column `{absent[0]}`")
        table = pq.read_table(path, columns=[name for name in there if name in (*COLUMNS, *names)])
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path}: not a Parquet table: {error}") from error
    rows = table.select(COLUMNS).to_pylist()
    for row in rows:
        value, clip = row["prediction"], row["clip"]
        if task == "emotion" and value is not None and value not in emotions:
            raise ValueError(f"{path}: clip {clip}: prediction {value!r} is none of {', '.join(emotions)}")
        if value is None or (task != "emotion" and not _is_number(value)):
            raise ValueError(f"{path}: clip {clip}: the prediction is {value}, not a number")
    known = [name for name in names if name in there]
    probabilities = None
    if known:
        lacking = [name for name in names if name not in known]
        if lacking:
            raise ValueError(f"{path}: has {known[0]} but no column `{lacking[0]}`: want one for each emotion")
        probabilities = np.stack([table[name].to_numpy().astype(np.float64) for name in names], axis=1)
        _check_probabilities(path, rows, probabilities)
    return Predictions(path, rows, probabilities, _metadata(path, b"smad_record"))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _check_probabilities(path: Path, rows: Sequence[dict[str, Any]], probabilities: np.ndarray) -> None:
    with np.errstate(invalid="ignore"):
        is_right = ((probabilities >= 0) & (probabilities <= 1 + 1e-6)).all(axis=1)
        is_right &= np.abs(probabilities.sum(axis=1) - 1) < 1e-3
    if not is_right.all():
        first = int(np.flatnonzero(~is_right)[0])
        raise ValueError(
            f"{path}: clip {rows[first]['clip']}: its probabilities, {probabilities[first].tolist()}, are not from 0 to"
            " 1 with a sum of 1"
        )


def read_truth(labels: Path, *, task: str, emotions: Sequence[str]) -> dict[str, float]:
    """The label of each clip that has one; of an emotion its index in the list.

    Raises
    ------
    ValueError
        A label makes no sense: the message names row and clip.
    """
    truth: dict[str, float] = {}
    seen: set[str] = set()
    for number, line in enumerate(read_table(labels, needed=("clip",)), start=2):
        clip, text = line["clip"], line.get(task, "")
        if clip in seen:
            raise ValueError(f"{labels}: row {number}: clip {clip}: labelled twice")
        seen.add(clip)
        if not text:
            continue
        if task == "emotion":
            if text not in emotions:
                raise ValueError(
                    f"{labels}: row {number}: clip {clip}: emotion {text!r} is none of {', '.join(emotions)}"
                )
            truth[clip] = emotions.index(text)
        else:
            try:
                truth[clip] = float(text)
            except ValueError:
                truth[clip] = math.nan
            if not math.isfinite(truth[clip]):
                raise ValueError(f"{labels}: row {number}: clip {clip}: {task}: want a number, got {text!r}")
    return truth


def join_labels(
    predictions: Predictions, truth: Mapping[str, float], *, task: str, emotions: Sequence[str], wanted: Iterable[str]
) -> tuple[Scored, list[str]]:
    """The labelled predictions in stored order, and their clips.

    Parameters
    ----------
    truth
        As `read_truth` gives it.
    wanted
        Clips that must be predicted if they have a label: those of the table of folds.

    Raises
    ------
    ValueError
        One of them is not.
    """
    seen = {row["clip"] for row in predictions.rows}
    lost = [clip for clip in wanted if clip in truth and clip not in seen]
    if lost:
        raise ValueError(
            f"{predictions.path}: clip {lost[0]}: has a label and a fold but no prediction (with {len(lost) - 1} more):"
            " scores over a part of the clips could not be compared"
        )
    kept = np.array([row["clip"] in truth for row in predictions.rows], dtype=bool)
    rows = [row for row in predictions.rows if row["clip"] in truth]
    code = {emotion: index for index, emotion in enumerate(emotions)}
    dtype = np.int64 if task == "emotion" else np.float64
    scored = Scored(
        truth=np.array([truth[row["clip"]] for row in rows], dtype=dtype),
        prediction=np.array([code.get(row["prediction"], row["prediction"]) for row in rows], dtype=dtype),
        fold=np.array([row["fold"] for row in rows], dtype=np.int64),
        participant=np.array([row["participant"] for row in rows], dtype=str),
        probabilities=None if predictions.probabilities is None else predictions.probabilities[kept],
    )
    return scored, [row["clip"] for row in rows]


def read_notes(path: Path) -> dict[str, str]:
    """The warnings that were stored with the predictions, by subject."""
    return _metadata(path, b"smad_notes")


def _metadata(path: Path, key: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((pq.read_schema(path).metadata or {}).get(key, b"{}"))
    return found
