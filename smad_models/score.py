"""Predictions to scores: guarded against leaks, joined with labels and folds, written as one JSON file a task.

The scores' JSON
----------------
``M`` is a metric's name, ``P`` an object ``{"fold": {M: {"mean", "sd", "folds": [...]}}, "pooled": {M: {"value",
"ci95": [lo, hi], "ci95_clips": [lo, hi]}}, "published": {M: {"mean", "folds": [...]}}}``. A number that is undefined
is null, and ``reasons`` says why under its path, such as ``pooled.auroc``, ``polarity.fold.uar.fold3`` or
``baselines.linear``.

- ``task``; ``clips``: ``predicted``, ``scored``, ``unlabelled``, ``participants``, ``present`` {modalities: clips}
- ``protocols``: ``P``. M of emotion: war, uar, f1_weighted, f1_macro, kappa, auroc, ece; of values: mae, mse, rmse,
  ccc, pearson, spearman, r2, bias. ``ci95`` is over participants; ``ci95_clips`` over clips is too narrow, and shown
  for that
- ``differences``: ``sentence`` (why the protocols differ, and by how much here), ``metric`` (the one that it speaks
  of), ``fold``, ``pooled``, ``published`` (its values)
- ``baselines``: {name: ``P``}; the first is ``majority_class`` or ``training_mean``, the second ``linear``.
  ``linear`` is absent where no cache was at hand, with a reason under ``baselines.linear``
- ``leaks``: ``verifiable``, ``certificate`` (one line; null when unverifiable), ``sentence`` (what to show: the
  certificate, or "unverifiable: ..."), ``checks`` {name: "passed" | "not asked" | "unverifiable: ..."} with the names
  participants, stimuli, folds, clips, inputs, checkpoints, statistics
- ``per_participant``: {participant: {"fold", "clips", M...}}, the headline metrics (war, or mae and bias) within a
  person
- ``reasons``: {path: sentence}
- ``provenance``: ``key``, digests ``predictions``, ``labels``, ``folds``, ``cache`` (null = unknown) and
  ``checkpoints`` {fold: sha256}, ``versions`` {program: version}, ``seed``, ``bootstrap`` {"over", "draws", "seed",
  "note"}, ``published`` {"batch", "order"}, ``baselines`` {name: what it is}, ``command`` (to run it again),
  ``notes`` {subject: warning}

Of the emotion task also

- ``confusion``: ``labels`` [...], ``matrix`` [truth][prediction] (null = no clips)
- ``per_class``: {emotion: {"recall", "precision", "f1", "auroc", "support", "predicted"}}
- ``calibration``: ``ece`` and ``bins`` [{"lo", "hi", "clips", "confidence", "accuracy"}], 15 of equal width, means
  null in empty ones; the whole is null where the predictions hold no probabilities
- ``polarity``: the view of three classes: ``of`` {emotion: "positive" | "neutral" | "negative"}, ``left_out``
  [emotions], ``clips`` (scored in it), ``protocols`` ``P``, ``baselines`` {name: ``P``}, ``confusion`` (with a last
  column ``other`` where emotions are left out), ``per_class``; null where the mapping names less than two classes
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from sklearn.metrics import confusion_matrix

from smad_models.folds import check_disjoint, read_folds, read_table
from smad_models.metrics import BATCH, DRAWS, NO_CLIPS, SEED, Scored, baseline, score_protocols

HEADLINES = {"emotion": ("war", "uar", "f1_weighted"), "value": ("ccc", "mae", "rmse")}


def _join(
    *, task: str, predictions: Path, labels: Path, folds: Path, emotions: Sequence[str]
) -> tuple[Scored, list[int], dict[str, Any]]:
    """The labelled predictions in stored order, the benchmark's folds, and the counts to report."""
    home = {row.clip: row for row in read_folds(folds)}
    columns = ["clip", "participant", "fold", "prediction", "present"]
    rows = pq.read_table(predictions, columns=columns).to_pylist()
    seen: set[str] = set()
    for row in rows:
        clip, person, fold = row["clip"], row["participant"], row["fold"]
        if clip in seen:
            raise ValueError(f"{predictions}: clip {clip}: predicted twice")
        seen.add(clip)
        if clip not in home:
            raise ValueError(f"{predictions}: clip {clip}: is not in {folds}: predict again")
        if (person, fold) != (home[clip].participant, home[clip].fold):
            raise ValueError(
                f"{predictions}: clip {clip}: predicted as participant {person} in fold {fold}, but {folds} says "
                f"participant {home[clip].participant} in fold {home[clip].fold}: train and predict again"
            )
        if row["prediction"] is None or (task != "emotion" and not math.isfinite(row["prediction"])):
            raise ValueError(f"{predictions}: clip {clip}: the prediction is {row['prediction']}, not a number")
    check_disjoint((row["clip"], row["participant"], row["fold"]) for row in rows)

    truth = _read_truth(labels, task=task, emotions=emotions)
    lost = [clip for clip in home if clip in truth and clip not in seen]
    if lost:
        raise ValueError(
            f"{predictions}: clip {lost[0]}: has a label and a fold but no prediction (with {len(lost) - 1} more): "
            "scores over a part of the clips could not be compared"
        )
    kept = [row for row in rows if row["clip"] in truth]
    code = {emotion: index for index, emotion in enumerate(emotions)}
    unknown = [row for row in kept if task == "emotion" and row["prediction"] not in code]
    if unknown:
        raise ValueError(
            f"{predictions}: clip {unknown[0]['clip']}: prediction {unknown[0]['prediction']!r} is none of "
            f"{', '.join(emotions)}"
        )
    dtype = np.int64 if task == "emotion" else np.float64
    predicted = [code[row["prediction"]] if task == "emotion" else row["prediction"] for row in kept]
    scored = Scored(
        truth=np.array([truth[row["clip"]] for row in kept], dtype=dtype),
        prediction=np.array(predicted, dtype=dtype),
        fold=np.array([row["fold"] for row in kept], dtype=np.int64),
        participant=np.array([row["participant"] for row in kept], dtype=str),
    )
    counts = {
        "predicted": len(rows),
        "scored": len(kept),
        "unlabelled": len(rows) - len(kept),
        "participants": len({row["participant"] for row in kept}),
        "present": dict(sorted(Counter(row["present"] for row in kept).items())),
    }
    return scored, sorted({row.fold for row in home.values()}), counts


def _read_truth(labels: Path, *, task: str, emotions: Sequence[str]) -> dict[str, float]:
    """The label of each clip that has one; of an emotion its index in the list."""
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


def score_task(
    *,
    task: str,
    predictions: Path,
    labels: Path,
    folds: Path,
    emotions: Sequence[str],
    output: Path,
    key: str = "",
) -> dict[str, Any]:
    """Score one task's predictions and write its JSON.

    Parameters
    ----------
    task
        emotion, valence, arousal or intensity.
    predictions
        A Parquet table: clip, participant, fold, prediction (an emotion's name, or a number), present.
    labels, folds
        Tab-separated tables. Clips without a label are left out and counted.
    emotions
        The emotions in order.
    output
        Written whole or not at all.
    key
        Stored in the provenance.

    Returns
    -------
    dict
        What was written; None is undefined, for the reason in ``["reasons"]``.

    Raises
    ------
    ValueError
        A clip is predicted twice or not at all, a participant is in two folds, a fold is not that of the folds
        table, a value cannot be read: the message names the clip.
    """
    scored, all_folds, counts = _join(task=task, predictions=predictions, labels=labels, folds=folds, emotions=emotions)
    classes = len(emotions) if task == "emotion" else None
    protocols, reasons = score_protocols(scored, folds=all_folds, classes=classes)
    guess = baseline(scored, classes=classes)
    base, why = score_protocols(guess, folds=all_folds, classes=classes)
    if len(scored.truth) > len(guess.truth):
        why = dict.fromkeys(why, "all labelled clips are in one fold: the others have nothing to learn from")
    name = "majority_class" if task == "emotion" else "training_mean"
    result: dict[str, Any] = {
        "task": task,
        "clips": counts,
        "protocols": protocols,
        "baselines": {name: base},
    }
    if classes is not None:
        matrix = confusion_matrix(scored.truth, scored.prediction, labels=range(classes)) if counts["scored"] else None
        support = np.bincount(scored.truth, minlength=classes)
        hit = np.bincount(scored.truth[scored.truth == scored.prediction], minlength=classes)
        result["confusion"] = {"labels": list(emotions), "matrix": None if matrix is None else matrix.tolist()}
        result["per_class"] = {
            emotion: {"recall": float(hit[c] / support[c]) if support[c] else None, "support": int(support[c])}
            for c, emotion in enumerate(emotions)
        }
        reasons |= {f"per_class.{e}.recall": NO_CLIPS for e, row in result["per_class"].items() if not row["support"]}
    result["reasons"] = {**reasons, **{f"baselines.{name}.{path}": reason for path, reason in why.items()}}
    result["provenance"] = {
        "key": key,
        "predictions": _sha256(predictions),
        "labels": _sha256(labels),
        "folds": _sha256(folds),
        "bootstrap": {
            "over": "participants",
            "draws": DRAWS,
            "seed": SEED,
            "note": "conditional on the trained models",
        },
        "published": {"batch": BATCH, "order": "as stored in the predictions"},
        "notes": read_notes(predictions),
    }
    _write(output, json.dumps(result, indent=1, allow_nan=False) + "\n")
    return result


def read_notes(predictions: Path) -> dict[str, str]:
    """The warnings that were stored with the predictions, by subject."""
    metadata = pq.read_schema(predictions).metadata or {}
    return json.loads(metadata.get(b"smad_notes", b"{}"))


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    new.write_text(text, encoding="utf-8", newline="")
    new.replace(path)


def write_scores_table(jsons: Sequence[Path], output: Path) -> None:
    """All tasks' scores as one tab-separated table, a row a task, protocol and metric; an empty cell is undefined."""
    lines = ["\t".join(("task", "protocol", "metric", "mean", "sd", "value", "lo", "hi"))]
    for path in jsons:
        scores = json.loads(path.read_text(encoding="utf-8"))
        for protocol, metrics in scores["protocols"].items():
            for metric, row in metrics.items():
                lo, hi = row.get("ci95") or (None, None)
                numbers = (row.get("mean"), row.get("sd"), row.get("value"), lo, hi)
                cells = ["" if number is None else repr(number) for number in numbers]
                lines.append("\t".join((scores["task"], protocol, metric, *cells)))
    _write(output, "\n".join(lines) + "\n")


def print_scoreboard(scores: Sequence[dict[str, Any]], *, console: Console | None = None) -> None:
    """The headline metrics of all tasks on the terminal."""
    # Narrow enough for a terminal of 80 columns, which is also what a log gets.
    table = Table(
        title="Scores", title_justify="left", box=SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True
    )
    for column in ("task", "metric"):
        table.add_column(column, no_wrap=True)
    for column in ("fold±sd", "pooled [95 % CI]", "published", "baseline"):
        table.add_column(column, justify="right", no_wrap=True)
    for one in scores:
        protocols = one["protocols"]
        base = next(iter(one["baselines"].values()))
        for number, metric in enumerate(HEADLINES["emotion" if one["task"] == "emotion" else "value"]):
            fold, pooled = protocols["fold"][metric], protocols["pooled"][metric]
            interval = pooled["ci95"]
            table.add_row(
                "" if number else one["task"],
                metric,
                show(fold["mean"]) + ("" if fold["sd"] is None else f"±{show(fold['sd'])}"),
                show(pooled["value"]) + ("" if interval is None else rf" \[{show(interval[0])},{show(interval[1])}]"),
                show(protocols["published"][metric]["mean"]),
                show(base["fold"][metric]["mean"]),
            )
        table.add_section()
    (console or Console()).print(table)


def show(value: float | None) -> str:
    """A score as it is printed: three decimals, a dash where undefined."""
    return "\u2013" if value is None else f"{value:.3f}"
