"""Several annotations of a clip -> one label, and how sure it is.

Emotion, ``majority``: the emotion that most annotators name. Where several are named equally often, the one of them
that most experts name; where that is a tie too, the one of them with the largest sum of the reliabilities (below) of
those who name it; where even that is equal (two annotators alone, who differ), there is no label. Its confidence is
the fraction of the clip's annotators who name it.

Emotion, ``dawid-skene``: the most probable emotion under the model of Dawid and Skene (1979), which learns how often
each annotator takes each emotion for each other; its confidence is that probability.

Ratings: the mean, or (``weighted``) the mean weighted by reliability. Their confidence is 1 - sd / sd_max, with the sd
(1/n) of the clip's annotations and sd_max that of a clip half of whose annotators choose either end of the scale.

A clip that one annotator alone has seen has a label and no confidence: there is nothing to compare.

Reliability of an annotator, learnt from the other annotators alone: for emotion Cohen's kappa with the majority of the
others; for a rating the correlation with the mean of the others, as in the evaluator weighted estimator of Grimm and
Kroschel (2005), ASRU, 381-385. Below 0, or undefined, it counts as 0.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from smad_models.annotations import LABELS, RATINGS, Annotations, Label, count_votes, show_number
from smad_models.reliability import Undefined, cohen_kappa

Method = Literal["majority", "dawid-skene"]
Ratings = Literal["mean", "weighted"]
RULES = ("majority", "experts", "reliability", "undecided")
COLUMNS = ("clip", *LABELS, *(f"{name}_confidence" for name in LABELS), "emotion_rule", "annotators")
_FEWEST = 3  # clips: a correlation of two is always 1 or -1
_ROUNDS, _SETTLED = 5000, 1e-9  # of expectation maximisation: at most so many, until no probability moves by more
_NEVER = 1e-300


@dataclass(frozen=True)
class Consensus:
    """One label for each clip, in the order of ``Annotations.clips``."""

    clips: tuple[str, ...]
    labels: tuple[Label, ...]
    confidence: Mapping[str, np.ndarray]  # of each of LABELS: (clips,) float64, 0..1; NaN = nothing to compare
    rules: tuple[
        str, ...
    ]  # by which the emotion was decided: one of RULES, dawid-skene or reviewer; empty = none was named
    annotators: np.ndarray  # (clips,) int64: how many said anything


def find_consensus(
    annotations: Annotations,
    *,
    method: Method = "majority",
    ratings: Ratings = "mean",
    decider: str | None = None,
) -> Consensus:
    """Bring each clip's annotations down to one label, by the rules above.

    ``decider``: an annotator who has the last word on what he or she has annotated; the confidence of such an emotion
    is the fraction of the annotators who name it.
    """
    if method == "majority":
        codes, sure, rules = _decide_by_majority(annotations)
    else:
        codes, sure, rules = _decide_by_model(annotations)
    last = [i for i, who in enumerate(annotations.annotators) if who.name == decider]
    if last:
        own = annotations.codes[:, last[0]]
        decided = np.flatnonzero(own >= 0)
        votes = annotations.votes()[decided]
        codes[decided] = own[decided]
        share = votes[np.arange(len(decided)), own[decided]] / votes.sum(axis=1)
        sure[decided] = np.where(votes.sum(axis=1) > 1, share, np.nan)
        rules = ["reviewer" if own[i] >= 0 else rule for i, rule in enumerate(rules)]
    confidence = {"emotion": sure}
    values = {}
    for name, (low, high) in RATINGS.items():
        given = annotations.ratings[name]
        values[name] = mean_ratings(given, rating_weights(given) if ratings == "weighted" else None)
        if last:
            values[name] = np.where(np.isnan(given[:, last[0]]), values[name], given[:, last[0]])
        many = (~np.isnan(given)).sum(axis=1) > 1
        confidence[name] = np.full(len(given), np.nan)
        confidence[name][many] = 1 - np.nanstd(given[many], axis=1) / ((high - low) / 2)
    labels = tuple(
        Label(
            annotations.emotions[code] if code >= 0 else None,
            **{name: None if math.isnan(values[name][i]) else float(values[name][i]) for name in RATINGS},
        )
        for i, code in enumerate(codes)
    )
    said = (annotations.codes >= 0) | np.any([~np.isnan(given) for given in annotations.ratings.values()], axis=0)
    return Consensus(annotations.clips, labels, confidence, tuple(rules), said.sum(axis=1))


def emotion_weights(annotations: Annotations) -> np.ndarray:
    """The reliability of each annotator's emotions: Cohen's kappa with the majority of the others; (annotators,)."""
    weights = np.zeros(len(annotations.annotators))
    for i in range(len(weights)):
        others = majority_codes(np.delete(annotations.codes, i, axis=1), len(annotations.emotions))
        both = (annotations.codes[:, i] >= 0) & (others >= 0)
        try:
            weights[i] = max(0.0, cohen_kappa(annotations.codes[both, i], others[both]))
        except Undefined:
            continue
    return weights


def rating_weights(given: np.ndarray) -> np.ndarray:
    """The reliability of each annotator's ratings ``(clips, annotators)``: correlation with the mean of the others."""
    weights = np.zeros(given.shape[1])
    for i in range(len(weights)):
        others = mean_ratings(np.delete(given, i, axis=1))
        both = ~np.isnan(given[:, i]) & ~np.isnan(others)
        if both.sum() >= _FEWEST and np.ptp(given[both, i]) > 0 and np.ptp(others[both]) > 0:
            weights[i] = max(0.0, float(np.corrcoef(given[both, i], others[both])[0, 1]))
    return weights


def majority_codes(codes: np.ndarray, classes: int) -> np.ndarray:
    """The class that most of each row name, -1 where that is none or several: (rows,) int64."""
    if classes == 0:
        return np.full(len(codes), -1)
    votes = count_votes(codes, classes)
    most = votes.max(axis=1, keepdims=True)
    return np.where((most[:, 0] > 0) & ((votes == most).sum(axis=1) == 1), votes.argmax(axis=1), -1)


def _decide_by_majority(annotations: Annotations) -> tuple[np.ndarray, np.ndarray, list[str]]:
    votes, classes = annotations.votes(), len(annotations.emotions)
    experts = count_votes(annotations.codes[:, annotations.of_kinds(["expert"])], classes)
    weights = emotion_weights(annotations)
    names = annotations.codes[:, :, None] == np.arange(classes)  # (clips, annotators, emotions)
    weighted = (names * weights[:, None]).sum(axis=1)  # (clips, emotions)
    codes = np.full(len(votes), -1)
    rules = []
    for i, own in enumerate(votes):
        rule = "" if own.sum() == 0 else "undecided"
        tied = np.flatnonzero(own == own.max()) if own.sum() else np.array([], dtype=np.int64)
        # Each rule chooses among what the one before left; rounded, so that the last bit of a sum decides nothing.
        for name, score in zip(RULES, (own, experts[i], weighted[i].round(9)), strict=False):
            if len(tied):
                tied = tied[score[tied] == score[tied].max()]
            if len(tied) == 1:
                codes[i], rule = tied[0], name
                break
        rules.append(rule)
    share = np.full(len(votes), np.nan)
    sure = (codes >= 0) & (votes.sum(axis=1) > 1)
    share[sure] = votes[sure, codes[sure]] / votes[sure].sum(axis=1)
    return codes, share, rules


def _decide_by_model(annotations: Annotations) -> tuple[np.ndarray, np.ndarray, list[str]]:
    given = annotations.codes[:, :, None] == np.arange(len(annotations.emotions))
    votes = given.sum(axis=(1, 2))
    codes, sure = np.full(len(given), -1), np.full(len(given), np.nan)
    if votes.any():
        probability, _, _ = dawid_skene(given[votes > 0])
        codes[votes > 0], sure[votes > 0] = probability.argmax(axis=1), probability.max(axis=1)
    sure[votes < 2] = np.nan
    return codes, sure, ["dawid-skene" if count else "" for count in votes]


def dawid_skene(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Maximum likelihood of the true classes and of each annotator's errors, by expectation maximisation.

    A. P. Dawid and A. M. Skene (1979), "Maximum likelihood estimation of observer error-rates using the EM algorithm",
    Applied Statistics 28, 20-28; equations 2.3 to 2.5, begun as in 3.1 with the fractions of votes.

    Parameters
    ----------
    counts
        (clips, annotators, classes): how often each annotator names each class of each clip; each clip has one vote at
        least.

    Returns
    -------
    probability, prevalence, errors
        (clips, classes); (classes,); (annotators, classes, classes): how often each annotator says the last index when
        the truth is the one before; 0 where that never was.
    """
    counts = counts.astype(np.float64)
    probability = counts.sum(axis=1)
    probability /= probability.sum(axis=1, keepdims=True)
    for _ in range(_ROUNDS):
        prevalence = probability.mean(axis=0)
        errors = np.einsum("nk,njl->jkl", probability, counts)
        errors /= np.maximum(errors.sum(axis=2, keepdims=True), np.finfo(float).tiny)
        # The logarithm of 0 is a number so low that no other evidence outweighs it, and times no vote it is 0.
        logs = np.log(np.maximum(prevalence, _NEVER)) + np.einsum(
            "njl,jkl->nk", counts, np.log(np.maximum(errors, _NEVER))
        )
        new = np.exp(logs - logs.max(axis=1, keepdims=True))
        new /= new.sum(axis=1, keepdims=True)
        step, probability = np.abs(new - probability).max(), new
        if step < _SETTLED:
            break
    return probability, prevalence, errors


def mean_ratings(given: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Each clip's mean of what is given ``(clips, annotators)``, NaN where nothing is: (clips,).

    ``weights`` (annotators,): where none of a clip's is above 0, its mean is the plain one.
    """
    known = ~np.isnan(given)
    weight = known * (np.ones(given.shape[1]) if weights is None else weights)
    weight = np.where(weight.sum(axis=1, keepdims=True) > 0, weight, known)
    total = weight.sum(axis=1)
    sums = (np.where(known, given, 0.0) * weight).sum(axis=1)
    return np.divide(sums, total, out=np.full(len(given), np.nan), where=total > 0)


def consensus_table(consensus: Consensus) -> str:
    """The text of a labels.tsv: the labels, a confidence for each, the rule, and how many annotators the clip had."""
    text = io.StringIO()
    writer = csv.writer(text, dialect="excel-tab", lineterminator="\n")
    writer.writerow(COLUMNS)
    for i, (clip, label) in enumerate(zip(consensus.clips, consensus.labels, strict=True)):
        numbers = [show_number(getattr(label, name)) for name in RATINGS]
        sure = [show_number(consensus.confidence[name][i]) for name in LABELS]
        writer.writerow([clip, label.emotion or "", *numbers, *sure, consensus.rules[i], consensus.annotators[i]])
    return text.getvalue()
