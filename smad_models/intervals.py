"""Intervals by bootstrap: all metrics of thousands of resamplings at once, drawn as a weight a participant or a clip.

An interval is conditional on the trained models, which stay: it says what other participants would have given, not
what other trainings would have. Clips of one participant resemble each other, so participants are drawn: B. Efron,
R. Tibshirani (1993), "An Introduction to the Bootstrap", chapter 8; C. Field, A. Welsh (2007), "Bootstrapping clustered
data", J. R. Stat. Soc. B 69, 369-390. An interval over clips is given beside it, to be compared: it is too narrow.

A draw is a weight a unit, so most metrics follow from sums over units; of those that go by ranks the clips are sorted
once, and the weights summed in that order.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np

from smad_models.calibration import BINS, bin_of, confidence_of
from smad_models.metrics import Scored

DRAWS = 2000
SEED = 0
LEVEL = (0.025, 0.975)  # percentiles: 95 %
ENOUGH = 0.95  # of the draws must have a value
BLOCK = 4_000_000  # numbers in memory at a time

Over = Literal["participants", "clips"]


def bootstrap(scored: Scored, *, classes: int | None, over: Over = "participants") -> dict[str, np.ndarray]:
    """Each metric in 2,000 resamplings of the participants, or of the clips.

    Parameters
    ----------
    scored
        The clips; at least one.
    classes
        The number of emotions, or None for values.
    over
        What is drawn.

    Returns
    -------
    dict of (2000,) float64
        NaN in draws where the metric is undefined.
    """
    units, unit = len(scored.truth), np.arange(len(scored.truth))
    if over == "participants":
        people, unit = np.unique(scored.participant, return_inverse=True)
        units = len(people)
    sums = emotion_sums(scored, unit, units, classes) if classes is not None else value_sums(scored, unit, units)
    ranks = _Areas(scored) if classes is not None else _Ranks(scored)
    parts = []
    for weights in draw_weights(units, block=BLOCK // len(scored.truth)):
        found = weights @ sums
        if classes is not None:
            linear = emotion_values(found, classes)
        else:
            linear = value_values(found, variance_of_constants(scored))
        parts.append(linear | ranks.values(weights[:, unit]))
    return {metric: np.concatenate([part[metric] for part in parts]) for metric in parts[0]}


def interval(draws: np.ndarray) -> tuple[list[float] | None, int]:
    """The 95 % interval of a metric's draws, and in how many it was undefined; None where those are too many."""
    defined = draws[~np.isnan(draws)]
    if len(defined) < ENOUGH * len(draws):
        return None, len(draws) - len(defined)
    return [float(end) for end in np.quantile(defined, LEVEL)], len(draws) - len(defined)


def draw_weights(units: int, *, block: int | None = None, draws: int = DRAWS, seed: int = SEED) -> Iterator[np.ndarray]:
    """``(block, units)`` float64 at a time: how often each unit was drawn, with replacement, as many as there are."""
    block = max(1, BLOCK // units if block is None else block)
    rng = np.random.default_rng(seed)
    chance = np.full(units, 1 / units)
    for start in range(0, draws, block):
        yield rng.multinomial(units, chance, size=min(block, draws - start)).astype(float)


# ---- metrics that follow from sums over units


def emotion_sums(scored: Scored, unit: np.ndarray, units: int, classes: int) -> np.ndarray:
    """``(units, classes^2 + 15)``: confusion tables; and what bins are too sure of, NaN without probabilities."""
    tables = np.zeros((units, classes, classes))
    np.add.at(tables, (unit, scored.truth, scored.prediction), 1)
    gaps = np.full((units, BINS), np.nan)
    if scored.probabilities is not None:
        confidence = confidence_of(scored.prediction, scored.probabilities)
        gaps = np.zeros((units, BINS))
        np.add.at(gaps, (unit, bin_of(confidence)), (scored.truth == scored.prediction) - confidence)
    return np.concatenate([tables.reshape(units, -1), gaps], axis=1)


def emotion_values(sums: np.ndarray, classes: int, *, union: bool = False) -> dict[str, np.ndarray]:
    """The metrics of `metrics.emotion_metrics` but for the area under the curve, of many sums at once."""
    table = sums[:, : classes**2].reshape(-1, classes, classes)  # (draws, truth, prediction)
    hit = np.diagonal(table, axis1=1, axis2=2)  # (draws, classes)
    support, predicted = table.sum(axis=2), table.sum(axis=1)
    clips = support.sum(axis=1)
    recall = np.divide(hit, support, out=np.zeros_like(hit), where=support > 0)
    f1 = np.divide(2 * hit, support + predicted, out=np.zeros_like(hit), where=support + predicted > 0)
    either = (support + predicted > 0).sum(axis=1)
    agreed, chance = hit.sum(axis=1) / clips, (support * predicted).sum(axis=1) / clips**2
    return {
        "war": agreed,
        "uar": recall.sum(axis=1) / (either if union else (support > 0).sum(axis=1)),
        "f1_weighted": (support * f1).sum(axis=1) / clips,
        "f1_macro": f1.sum(axis=1) / either,
        "kappa": np.divide(agreed - chance, 1 - chance, out=np.full(len(table), np.nan), where=either > 1),
        "ece": np.abs(sums[:, classes**2 :]).sum(axis=1) / clips,
    }


def value_sums(scored: Scored, unit: np.ndarray, units: int) -> np.ndarray:
    """``(units, 8)``: clips, |error|, error^2, truth, prediction, their squares and product, about the mean truth."""
    centre = scored.truth.mean()  # sums of squares about 0 would lose digits
    t, p = scored.truth - centre, scored.prediction - centre
    terms = [np.ones_like(t), abs(p - t), (p - t) ** 2, t, p, t**2, p**2, t * p]
    sums = np.zeros((units, len(terms)))
    np.add.at(sums, unit, np.stack(terms, axis=1))
    return sums


def value_values(sums: np.ndarray, tiny: float) -> dict[str, np.ndarray]:
    """The metrics of `metrics.value_metrics` but for the rank correlation, of many sums at once.

    Variances up to ``tiny`` are those of constants.
    """
    mae, mse, t, p, tt, pp, tp = (sums[:, 1:] / sums[:, :1]).T
    var_t, var_p, covariance = tt - t**2, pp - p**2, tp - t * p
    nan = np.full(len(sums), np.nan)
    root = np.sqrt(np.maximum(var_t, 0) * np.maximum(var_p, 0))
    return {
        "mae": mae,
        "mse": mse,
        "rmse": np.sqrt(mse),
        "ccc": np.divide(2 * covariance, var_t + var_p + (t - p) ** 2, out=nan.copy(), where=var_t > tiny),
        "pearson": np.divide(covariance, root, out=nan.copy(), where=(var_t > tiny) & (var_p > tiny)),
        "r2": 1 - np.divide(mse, var_t, out=nan, where=var_t > tiny),
        "bias": p - t,
    }


def variance_of_constants(scored: Scored) -> float:
    """Variances up to this are rounding errors of a constant."""
    return 1e-12 * float(max(scored.truth.var(), scored.prediction.var()))


# ---- metrics that go by ranks


class _Sorted:
    """Clips in the order of a score, those with an equal one being a group."""

    def __init__(self, score: np.ndarray) -> None:
        self.order = np.argsort(score, kind="stable")
        ordered = score[self.order]
        self.starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
        self.group = np.empty(len(score), dtype=np.int64)
        self.group[self.order] = np.repeat(np.arange(len(self.starts)), np.diff(np.r_[self.starts, len(score)]))

    def sums(self, weights: np.ndarray) -> np.ndarray:
        """``(draws, groups)`` of ``(draws, n)`` weights."""
        ordered = weights[:, self.order]
        return ordered if len(self.starts) == ordered.shape[1] else np.add.reduceat(ordered, self.starts, axis=1)


class _Areas:
    """The mean area under the curve of each class against the rest."""

    def __init__(self, scored: Scored) -> None:
        self.known = scored.probabilities is not None
        self.classes = []
        if scored.probabilities is not None:
            for c in np.unique(scored.truth):
                self.classes.append((scored.truth == c, _Sorted(scored.probabilities[:, c])))

    def values(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        total, defined = np.zeros(len(weights)), np.zeros(len(weights))
        for own, ordered in self.classes:
            inside, outside = ordered.sums(weights * own), ordered.sums(weights * ~own)
            below = np.cumsum(outside, axis=1)
            pairs = inside.sum(axis=1) * below[:, -1]
            won = (inside * (below - outside / 2)).sum(axis=1)
            total += np.divide(won, pairs, out=np.zeros(len(weights)), where=pairs > 0)
            defined += pairs > 0
        return {"auroc": np.divide(total, defined, out=np.full(len(weights), np.nan), where=defined > 0)}


class _Ranks:
    """The correlation of ranks."""

    def __init__(self, scored: Scored) -> None:
        self.sides = (_Sorted(scored.truth), _Sorted(scored.prediction))

    def values(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        middle = (weights.sum(axis=1, keepdims=True) + 1) / 2
        ranks = []
        for side in self.sides:
            groups = side.sums(weights)  # a clip that was drawn thrice is three clips of one rank, the mean of theirs
            ranks.append((np.cumsum(groups, axis=1) - groups / 2 + 0.5)[:, side.group] - middle)
        a, b = ranks
        weighted = weights * a
        root = np.sqrt((weighted * a).sum(axis=1) * (weights * b * b).sum(axis=1))
        product = (weighted * b).sum(axis=1)
        return {"spearman": np.divide(product, root, out=np.full(len(weights), np.nan), where=root > 0)}
