"""Predictions to scores: the benchmark's metrics under three protocols, beside what no model would reach.

`fold` scores each fold whole and averages the folds: the one to quote. `pooled` scores all clips at once, with an
interval over participants. `published` is the protocol of the published test scripts, kept to compare with printed
numbers: the mean over consecutive batches of 16 clips, whose value depends on the batch size and the clips' order.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from scipy.stats import pearsonr
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, mean_absolute_error, recall_score

from smad_models.folds import check_disjoint, read_folds, read_table

EMOTION_METRICS = ("war", "uar", "f1_weighted", "f1_macro")
VALUE_METRICS = ("mae", "mse", "rmse", "ccc", "pearson")
HEADLINES = {"emotion": ("war", "uar", "f1_weighted"), "value": ("ccc", "mae", "rmse")}
# What the published test scripts average over batches; for the rest there is no printed number to compare with.
PUBLISHED = ("war", "uar", "f1_weighted", "mae", "mse", "rmse")
BATCH = 16  # clips, the published scripts' default batch size
DRAWS = 2000  # of the bootstrap
SEED = 0

NO_CLIPS = "no labelled clips"

Values = dict[str, float | None]
Reasons = dict[str, str]
Measure = Callable[..., tuple[Values, Reasons]]


@dataclass(frozen=True)
class Scored:
    """What is scored: labelled clips in stored order. Emotions are indices into the configured list."""

    truth: np.ndarray  # (n,) int64 or float64
    prediction: np.ndarray  # (n,) as truth
    fold: np.ndarray  # (n,) int64
    participant: np.ndarray  # (n,) str

    def at(self, rows: np.ndarray) -> Scored:
        """The clips of these rows, in their order."""
        return Scored(self.truth[rows], self.prediction[rows], self.fold[rows], self.participant[rows])


def emotion_metrics(truth: np.ndarray, prediction: np.ndarray, *, union: bool = False) -> tuple[Values, Reasons]:
    """Accuracy (`war`), mean recall (`uar`), weighted and macro F1 of class indices.

    Parameters
    ----------
    truth, prediction
        (n,) int
    union
        Average `uar` over the classes of truth and prediction, as the published scripts do (a class that is only
        predicted counts 0), instead of over the classes of the truth. `f1_macro` is over both always: there a
        class that is only predicted is a fault to count.

    Returns
    -------
    values, reasons
        A value a metric, None where undefined, and why it is.
    """
    if not len(truth):
        return dict.fromkeys(EMOTION_METRICS), dict.fromkeys(EMOTION_METRICS, NO_CLIPS)
    classes = np.union1d(truth, prediction) if union else np.unique(truth)
    return {
        "war": float(accuracy_score(truth, prediction)),
        "uar": float(recall_score(truth, prediction, labels=classes, average="macro", zero_division=0)),
        "f1_weighted": float(f1_score(truth, prediction, average="weighted", zero_division=0)),
        "f1_macro": float(f1_score(truth, prediction, average="macro", zero_division=0)),
    }, {}


def value_metrics(truth: np.ndarray, prediction: np.ndarray, **_: Any) -> tuple[Values, Reasons]:
    """Mean absolute and squared error, its root, concordance and correlation.

    Concordance (CCC) is 2 cov / (var + var + (difference of means)^2) with 1/n moments: L. Lin (1989), "A concordance
    correlation coefficient to evaluate reproducibility", Biometrics 45, 255-268. Of a constant truth it would be 0
    whatever is predicted, so there it is undefined.

    Parameters
    ----------
    truth, prediction
        (n,) float64

    Returns
    -------
    values, reasons
        A value a metric, None where undefined, and why it is.
    """
    if not len(truth):
        return dict.fromkeys(VALUE_METRICS), dict.fromkeys(VALUE_METRICS, NO_CLIPS)
    mse = float(np.mean((truth - prediction) ** 2))
    values: Values = {
        "mae": float(mean_absolute_error(truth, prediction)),
        "mse": mse,
        "rmse": math.sqrt(mse),
        "ccc": None,
        "pearson": None,
    }
    if np.ptp(truth) == 0:
        return values, dict.fromkeys(("ccc", "pearson"), "the truth is one constant")
    if np.ptp(prediction) == 0:
        return {**values, "ccc": 0.0}, {"pearson": "the prediction is one constant"}
    covariance = np.mean((truth - truth.mean()) * (prediction - prediction.mean()))
    spread = truth.var() + prediction.var() + (truth.mean() - prediction.mean()) ** 2
    values["ccc"] = float(2 * covariance / spread)
    values["pearson"] = float(pearsonr(truth, prediction).statistic)
    return values, {}


def published_metrics(truth: np.ndarray, prediction: np.ndarray, *, measure: Measure) -> tuple[Values, Reasons]:
    """The unweighted mean of a metric over consecutive batches of 16; the ragged last batch counts as a full one."""
    starts = range(0, max(len(truth), 1), BATCH)
    batches = [measure(truth[at : at + BATCH], prediction[at : at + BATCH], union=True)[0] for at in starts]
    reasons = {name: "the published protocol has no such metric" for name in batches[0] if name not in PUBLISHED}
    if not len(truth):
        reasons |= {name: NO_CLIPS for name in batches[0] if name in PUBLISHED}
    return {name: None if name in reasons else _mean([b[name] for b in batches]) for name in batches[0]}, reasons


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean of all, or None: a mean over fewer folds than the others' could not be compared with them."""
    return None if None in values or not values else float(np.mean(np.array(values, dtype=float)))


def _by_fold(scored: Scored, folds: Sequence[int], measure: Measure, name: str) -> tuple[dict[str, Any], Reasons]:
    parts = [scored.at(np.flatnonzero(scored.fold == fold)) for fold in folds]
    measured = [measure(part.truth, part.prediction) for part in parts]
    table: dict[str, Any] = {}
    reasons: Reasons = {}
    for metric in measured[0][0]:
        each = [values[metric] for values, _ in measured]
        table[metric] = {"mean": _mean(each), "folds": each}
        if name == "fold":
            known = np.array([value for value in each if value is not None])
            sd = float(known.std(ddof=1)) if len(known) == len(folds) > 1 else None
            table[metric] = {"mean": _mean(each), "sd": sd, "folds": each}
        why = {fold: reason[metric] for fold, (_, reason) in zip(folds, measured, strict=True) if metric in reason}
        if len(why) == len(folds) and len(set(why.values())) == 1:
            reasons[f"{name}.{metric}"] = why[folds[0]]
        else:
            reasons |= {f"{name}.{metric}.fold{fold}": reason for fold, reason in why.items()}
    return table, reasons


def bootstrap(scored: Scored, *, classes: int | None) -> dict[str, np.ndarray]:
    """Each metric in 2,000 resamplings of the participants: conditional on the trained models, which stay.

    Participants and not clips are drawn, as one participant's clips resemble each other. A draw is a weight a
    participant, so all metrics follow from sums over participants and no clip is touched twice.

    Parameters
    ----------
    scored
        The clips; at least one.
    classes
        The number of emotions, or None for values.

    Returns
    -------
    dict of (2000,) float64
        NaN in draws where the metric is undefined.
    """
    people, who = np.unique(scored.participant, return_inverse=True)
    chance = np.full(len(people), 1 / len(people))
    weights = np.random.default_rng(SEED).multinomial(len(people), chance, size=DRAWS)  # (draws, people)
    if classes is not None:
        tables = np.zeros((len(people), classes, classes))
        np.add.at(tables, (who, scored.truth, scored.prediction), 1)
        return _emotion_draws(np.tensordot(weights, tables, axes=1))
    centre = scored.truth.mean()  # moments about a near point: sums of squares about 0 would lose digits
    truth, prediction = scored.truth - centre, scored.prediction - centre
    error = truth - prediction
    terms = [np.ones_like(truth), abs(error), error**2, truth, prediction, truth**2, prediction**2, truth * prediction]
    sums = np.zeros((len(people), len(terms)))
    np.add.at(sums, who, np.stack(terms, axis=1))
    return _value_draws(weights @ sums, tiny=1e-12 * max(truth.var(), prediction.var()))


def _emotion_draws(table: np.ndarray) -> dict[str, np.ndarray]:
    """The emotion metrics of many confusion tables at once: (draws, truth, prediction)."""
    hit = np.diagonal(table, axis1=1, axis2=2)  # (draws, classes)
    support, predicted = table.sum(axis=2), table.sum(axis=1)
    clips = support.sum(axis=1)
    recall = np.divide(hit, support, out=np.zeros_like(hit), where=support > 0)
    f1 = np.divide(2 * hit, support + predicted, out=np.zeros_like(hit), where=support + predicted > 0)
    return {
        "war": hit.sum(axis=1) / clips,
        "uar": recall.sum(axis=1) / (support > 0).sum(axis=1),
        "f1_weighted": (support * f1).sum(axis=1) / clips,
        "f1_macro": f1.sum(axis=1) / (support + predicted > 0).sum(axis=1),
    }


def _value_draws(sums: np.ndarray, *, tiny: float) -> dict[str, np.ndarray]:
    """The value metrics of many draws at once, from their sums; variances up to ``tiny`` are those of constants."""
    mae, mse, t, p, tt, pp, tp = (sums[:, 1:] / sums[:, :1]).T
    var_t, var_p, covariance = tt - t**2, pp - p**2, tp - t * p
    nan = np.full(len(sums), np.nan)
    root = np.sqrt(np.maximum(var_t, 0) * np.maximum(var_p, 0))
    return {
        "mae": mae,
        "mse": mse,
        "rmse": np.sqrt(mse),
        "ccc": np.divide(2 * covariance, var_t + var_p + (t - p) ** 2, out=nan.copy(), where=var_t > tiny),
        "pearson": np.divide(covariance, root, out=nan, where=(var_t > tiny) & (var_p > tiny)),
    }


def _pooled(scored: Scored, measure: Measure, classes: int | None) -> tuple[dict[str, Any], Reasons]:
    values, why = measure(scored.truth, scored.prediction)
    reasons = {f"pooled.{metric}": reason for metric, reason in why.items()}
    table: dict[str, Any] = {metric: {"value": value, "ci95": None} for metric, value in values.items()}
    people = len(np.unique(scored.participant))
    draws = bootstrap(scored, classes=classes) if people > 1 else {}
    for metric, value in values.items():
        if value is None:
            continue
        defined = draws[metric][~np.isnan(draws[metric])] if draws else np.empty(0)
        if people < 2:
            reasons[f"pooled.{metric}.ci95"] = "one participant only: nobody to draw instead"
        elif len(defined) < 0.95 * DRAWS:
            reasons[f"pooled.{metric}.ci95"] = f"undefined in {DRAWS - len(defined)} of {DRAWS} draws of participants"
        else:
            table[metric]["ci95"] = [float(end) for end in np.quantile(defined, [0.025, 0.975])]
    return table, reasons


def score_protocols(
    scored: Scored, *, folds: Sequence[int], classes: int | None = None
) -> tuple[dict[str, dict[str, Any]], Reasons]:
    """All metrics under the protocols `fold`, `pooled` and `published`.

    Parameters
    ----------
    scored
        The labelled clips in stored order, on which `published` depends.
    folds
        The benchmark's folds; one without labelled clips is undefined.
    classes
        The number of emotions, or None for values.

    Returns
    -------
    protocols, reasons
        ``protocols[protocol][metric]``, and why what is None is so.
    """
    measure: Measure = value_metrics if classes is None else emotion_metrics
    fold, why_fold = _by_fold(scored, folds, measure, "fold")
    pooled, why_pooled = _pooled(scored, measure, classes)

    def batches(truth: np.ndarray, prediction: np.ndarray) -> tuple[Values, Reasons]:
        return published_metrics(truth, prediction, measure=measure)

    published, why_published = _by_fold(scored, folds, batches, "published")
    return {"fold": fold, "pooled": pooled, "published": published}, {**why_fold, **why_pooled, **why_published}


def baseline(scored: Scored, *, classes: int | None) -> Scored:
    """What a model without input predicts: the other folds' commonest emotion, or their mean value.

    Of equally common emotions the first of the list. Without labels in other folds there is nothing to learn from:
    then no clip is left.
    """
    if len(np.unique(scored.fold)) < 2:
        return scored.at(np.empty(0, dtype=np.int64))
    prediction = np.empty_like(scored.truth)
    for fold in np.unique(scored.fold):
        others = scored.truth[scored.fold != fold]
        best = others.mean() if classes is None else np.bincount(others, minlength=classes).argmax()
        prediction[scored.fold == fold] = best
    return Scored(scored.truth, prediction, scored.fold, scored.participant)


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
    for column in ("fold ± sd", "pooled [95 % CI]", "published", "baseline"):
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
                show(fold["mean"]) + ("" if fold["sd"] is None else f" ± {show(fold['sd'])}"),
                show(pooled["value"]) + ("" if interval is None else rf" \[{show(interval[0])}, {show(interval[1])}]"),
                show(protocols["published"][metric]["mean"]),
                show(base["fold"][metric]["mean"]),
            )
        table.add_section()
    (console or Console()).print(table)


def show(value: float | None) -> str:
    """A score as it is printed: three decimals, a dash where undefined."""
    return "\u2013" if value is None else f"{value:.3f}"
