"""The benchmark's metrics, each with its formula and source; what is undefined is None with a reason, never 0."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import (
    accuracy_score,
    cohen_kappa_score,
    confusion_matrix,
    f1_score,
    mean_absolute_error,
    mean_squared_error,
    precision_recall_fscore_support,
    r2_score,
    recall_score,
    roc_auc_score,
)

from smad_models.calibration import expected_calibration_error

EMOTION_METRICS = ("war", "uar", "f1_weighted", "f1_macro", "kappa", "auroc", "ece")
VALUE_METRICS = ("mae", "mse", "rmse", "ccc", "pearson", "spearman", "r2", "bias")

NO_CLIPS = "no labelled clips"
NO_PROBABILITIES = "the predictions hold no probabilities"
CONSTANT_TRUTH = "the truth is one constant"
CONSTANT_PREDICTION = "the prediction is one constant"
ONE_CLASS = "all clips are of one class"

Values = dict[str, float | None]
Reasons = dict[str, str]


@dataclass(frozen=True)
class Scored:
    """What is scored: labelled clips in stored order. Emotions are indices into the configured list."""

    truth: np.ndarray  # (n,) int64 or float64
    prediction: np.ndarray  # (n,) as truth
    fold: np.ndarray  # (n,) int64
    participant: np.ndarray  # (n,) str
    probabilities: np.ndarray | None = None  # (n, classes) float64, of emotions

    def at(self, rows: np.ndarray) -> Scored:
        """The clips of these rows, in their order."""
        sure = None if self.probabilities is None else self.probabilities[rows]
        return Scored(self.truth[rows], self.prediction[rows], self.fold[rows], self.participant[rows], sure)


def emotion_metrics(
    truth: np.ndarray, prediction: np.ndarray, probabilities: np.ndarray | None = None, *, union: bool = False
) -> tuple[Values, Reasons]:
    """The metrics of class indices and their probabilities.

    - ``war``, weighted average recall, is the accuracy: right clips / clips.
    - ``uar``, unweighted average recall: the mean over classes of (right clips of the class / its clips). B. Schuller,
      S. Steidl, A. Batliner (2009), "The INTERSPEECH 2009 emotion challenge".
    - ``f1_weighted``, ``f1_macro``: the mean over classes of F1 = 2 tp / (2 tp + fp + fn), weighted by the clips of
      each, or plain. C. J. van Rijsbergen (1979), "Information Retrieval", chapter 7. The macro mean is over the
      classes of truth and prediction: there a class that is only predicted is a fault to count.
    - ``kappa`` = (p_o - p_e) / (1 - p_e), p_o the accuracy, p_e = sum over classes of share in truth x share in
      prediction. J. Cohen (1960), "A coefficient of agreement for nominal scales", Educ. Psychol. Meas. 20, 37-46.
      Undefined where p_e is 1.
    - ``auroc``: the mean over classes of the probability that a clip of the class has more of its p than a clip of
      another has, ties counting half (one against the rest). J. A. Hanley, B. J. McNeil (1982), Radiology 143, 29-36.
      Over the classes that the truth has; undefined where it has but one.
    - ``ece``: as `calibration.expected_calibration_error`.

    Parameters
    ----------
    truth, prediction
        (n,) int
    probabilities
        (n, classes) float64; None where unknown.
    union
        Average `uar` over the classes of truth and prediction, as the published scripts do (a class that is only
        predicted counts 0), instead of over the classes of the truth.

    Returns
    -------
    values, reasons
        A value a metric, None where undefined, and why it is.
    """
    if not len(truth):
        return dict.fromkeys(EMOTION_METRICS), dict.fromkeys(EMOTION_METRICS, NO_CLIPS)
    classes = np.union1d(truth, prediction) if union else np.unique(truth)
    values: Values = {
        "war": float(accuracy_score(truth, prediction)),
        "uar": float(recall_score(truth, prediction, labels=classes, average="macro", zero_division=0)),
        "f1_weighted": float(f1_score(truth, prediction, average="weighted", zero_division=0)),
        "f1_macro": float(f1_score(truth, prediction, average="macro", zero_division=0)),
        "kappa": None,
        "auroc": None,
        "ece": None,
    }
    reasons: Reasons = {}
    if len(np.union1d(truth, prediction)) < 2:
        reasons["kappa"] = "truth and prediction are one and the same class: no other agreement is possible"
    else:
        values["kappa"] = float(cohen_kappa_score(truth, prediction))
    if probabilities is None:
        return values, reasons | dict.fromkeys(("auroc", "ece"), NO_PROBABILITIES)
    values["ece"] = expected_calibration_error(truth, prediction, probabilities)
    areas = class_areas(truth, probabilities)
    if areas:
        values["auroc"] = float(np.mean(list(areas.values())))
    else:
        reasons["auroc"] = ONE_CLASS
    return values, reasons


def class_areas(truth: np.ndarray, probabilities: np.ndarray) -> dict[int, float]:
    """The area under the curve of each class against the rest, of classes that some clips have and others have not."""
    if len(np.unique(truth)) < 2:
        return {}
    return {int(c): float(roc_auc_score(truth == c, probabilities[:, c])) for c in np.unique(truth)}


def value_metrics(truth: np.ndarray, prediction: np.ndarray) -> tuple[Values, Reasons]:
    """The metrics of numbers, of errors e = prediction - truth.

    - ``mae`` = mean |e|, ``mse`` = mean e^2, ``rmse`` = its root, ``bias`` = mean e: positive is too high.
    - ``ccc`` = 2 cov / (var + var + (difference of means)^2) with 1/n moments: L. Lin (1989), "A concordance
      correlation coefficient to evaluate reproducibility", Biometrics 45, 255-268. Of a constant truth it would be 0
      whatever is predicted, so there it is undefined; a constant prediction of a moving truth has earned its 0.
    - ``pearson`` = cov / (sd sd): K. Pearson (1895), Proc. R. Soc. 58, 240-242. Undefined where one is constant.
    - ``spearman``: Pearson's of the ranks, ties having their mean rank: C. Spearman (1904), Am. J. Psychol. 15, 72-101.
    - ``r2`` = 1 - sum e^2 / sum (truth - mean truth)^2: S. Wright (1921), J. Agric. Res. 20, 557-585. Undefined of a
      constant truth; below 0 where the truth's own mean would do better.

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
    mse = float(mean_squared_error(truth, prediction))
    values: Values = dict.fromkeys(VALUE_METRICS)
    values |= {"mae": float(mean_absolute_error(truth, prediction)), "mse": mse, "rmse": math.sqrt(mse)}
    values["bias"] = float(np.mean(prediction - truth))
    if np.ptp(truth) == 0:
        return values, dict.fromkeys(("ccc", "pearson", "spearman", "r2"), CONSTANT_TRUTH)
    values["r2"] = float(r2_score(truth, prediction))
    if np.ptp(prediction) == 0:
        return {**values, "ccc": 0.0}, dict.fromkeys(("pearson", "spearman"), CONSTANT_PREDICTION)
    covariance = np.mean((truth - truth.mean()) * (prediction - prediction.mean()))
    spread = truth.var() + prediction.var() + (truth.mean() - prediction.mean()) ** 2
    values["ccc"] = float(2 * covariance / spread)
    values["pearson"] = float(pearsonr(truth, prediction).statistic)
    values["spearman"] = float(spearmanr(truth, prediction).statistic)
    return values, {}


def measure(scored: Scored, classes: int | None) -> tuple[Values, Reasons]:
    """All metrics of these clips: of emotions, where ``classes`` says how many there are, or of values."""
    if classes is None:
        return value_metrics(scored.truth, scored.prediction)
    return emotion_metrics(scored.truth, scored.prediction, scored.probabilities)


def class_metrics(scored: Scored, names: Sequence[str]) -> tuple[dict[str, dict[str, Any]], Reasons]:
    """Each class by its name: recall tp / (tp + fn), precision tp / (tp + fp), F1, area under the curve, and counts.

    Returns
    -------
    table, reasons
        ``table[name]`` has recall, precision, f1, auroc (None where undefined, for ``reasons[name.metric]``), support
        (clips that are of the class) and predicted (that are said to be).
    """
    classes = range(len(names))
    support = np.bincount(scored.truth, minlength=len(names))
    predicted = np.bincount(scored.prediction, minlength=len(names))
    areas: dict[int, float] = {}
    if scored.probabilities is not None and len(scored.truth):
        areas = class_areas(scored.truth, scored.probabilities)
    precision = recall = f1 = np.zeros(len(names))
    if len(scored.truth):
        precision, recall, f1, _ = precision_recall_fscore_support(
            scored.truth, scored.prediction, labels=list(classes), zero_division=0
        )
    table: dict[str, dict[str, Any]] = {}
    reasons: Reasons = {}
    for c, name in enumerate(names):
        table[name] = {
            "recall": float(recall[c]) if support[c] else None,
            "precision": float(precision[c]) if predicted[c] else None,
            "f1": float(f1[c]) if support[c] + predicted[c] else None,
            "auroc": areas.get(c),
            "support": int(support[c]),
            "predicted": int(predicted[c]),
        }
        why = {
            "recall": NO_CLIPS,
            "precision": "never predicted",
            "f1": f"{NO_CLIPS}, and never predicted",
            "auroc": NO_CLIPS if not support[c] else NO_PROBABILITIES if scored.probabilities is None else ONE_CLASS,
        }
        reasons |= {f"{name}.{metric}": reason for metric, reason in why.items() if table[name][metric] is None}
    return table, reasons


def confusion(scored: Scored, classes: int) -> list[list[int]] | None:
    """How many clips of each true class (row) were predicted as each class (column); None without clips."""
    if not len(scored.truth):
        return None
    matrix: list[list[int]] = confusion_matrix(scored.truth, scored.prediction, labels=range(classes)).tolist()
    return matrix
