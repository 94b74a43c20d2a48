"""The benchmark's metrics under three protocols, with intervals, and the baselines that a model has to beat.

`fold` scores each fold whole and averages the folds: the one to quote. `pooled` scores all clips at once, with an
interval over participants. `published` is the protocol of the published test scripts, kept to compare with printed
numbers: the mean over consecutive batches of 16 clips, whose value depends on the batch size and the clips' order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import pearsonr
from sklearn.metrics import accuracy_score, f1_score, mean_absolute_error, recall_score

EMOTION_METRICS = ("war", "uar", "f1_weighted", "f1_macro")
VALUE_METRICS = ("mae", "mse", "rmse", "ccc", "pearson")
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
