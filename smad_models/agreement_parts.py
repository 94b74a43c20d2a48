"""The parts of the agreement's JSON: emotions and ratings of groups, pairs, kinds and single annotators."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from smad_models.annotations import KINDS, RATINGS, Annotations, count_votes
from smad_models.consensus import majority_codes, mean_ratings
from smad_models.reliability import (
    Undefined,
    cohen_kappa,
    fleiss_kappa,
    icc_agreement,
    krippendorff_alpha,
    specific_agreement,
)

Statistic = dict[str, Any]
_NO_PAIR = "no clip was annotated by both"


def measure_emotion(annotations: Annotations, columns: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The emotions' part; ``columns``: the annotators of each group."""
    classes, codes = len(annotations.emotions), annotations.codes
    names = [one.name for one in annotations.annotators]
    kinds = _kinds(annotations)
    return {
        "classes": list(annotations.emotions),
        "groups": {
            group: _agree_on_emotion(codes[:, places], annotations.emotions) for group, places in columns.items()
        },
        "pairs": [
            {"a": names[i], "b": names[j], **_compare_emotions(codes[:, i], codes[:, j])}
            for i, j in combinations(range(len(names)), 2)
        ],
        "kinds": [
            {"a": a, "b": b, **_compare_emotions(*(majority_codes(codes[:, kinds[one]], classes) for one in (a, b)))}
            for a, b in combinations(kinds, 2)
        ],
        "annotators": [
            {
                "name": name,
                **_compare_emotions(codes[:, i], majority_codes(np.delete(codes, i, axis=1), classes)),
            }
            for i, name in enumerate(names)
        ],
    }


def _agree_on_emotion(codes: np.ndarray, emotions: Sequence[str]) -> dict[str, Any]:
    """The statistics of a group: ``codes`` are (clips, annotators of the group)."""
    votes = count_votes(codes, len(emotions))
    whole = votes[(codes >= 0).all(axis=1)] if codes.shape[1] else votes[:0]
    pairs = specific_agreement(votes)
    try:
        kappa, each = fleiss_kappa(whole)
        fleiss: Statistic = {"value": kappa}
        classwise = [statistic(one, "nobody names it, or everybody always does") for one in each]
    except Undefined as why:
        fleiss = _missing(why)
        classwise = [fleiss] * len(emotions)
    return {
        "krippendorff_alpha": _alpha(np.where(codes >= 0, codes, np.nan).astype(np.float64), "nominal"),
        "fleiss_kappa": fleiss | {"clips": len(whole)},
        "per_class": {
            emotion: {
                "annotations": int(votes[:, k].sum()),
                "specific_agreement": statistic(pairs[k], "nobody names it where another has annotated, too"),
                "fleiss_kappa": classwise[k],
            }
            for k, emotion in enumerate(emotions)
        },
    }


def _compare_emotions(one: np.ndarray, other: np.ndarray) -> dict[str, Any]:
    both = (one >= 0) & (other >= 0)
    a, b = one[both], other[both]
    return {
        "clips": int(both.sum()),
        "agreement": statistic(float((a == b).mean()) if len(a) else None, _NO_PAIR),
        "cohen_kappa": _try(lambda: cohen_kappa(a, b)),
    }


def measure_rating(annotations: Annotations, name: str, columns: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """A rating's part; ``columns``: the annotators of each group."""
    given = annotations.ratings[name]
    names = [one.name for one in annotations.annotators]
    kinds = {kind: mean_ratings(given[:, places]) for kind, places in _kinds(annotations).items()}
    annotators = []
    for i, one in enumerate(names):
        others = mean_ratings(np.delete(given, i, axis=1))
        compared = _compare_ratings(given[:, i], others)
        del compared["icc_2_1"]
        annotators.append({"name": one, **compared, "correlation": _correlate(given[:, i], others)})
    return {
        "range": list(RATINGS[name]),
        "groups": {group: _agree_on_rating(given[:, places]) for group, places in columns.items()},
        "pairs": [
            {"a": names[i], "b": names[j], **_compare_ratings(given[:, i], given[:, j])}
            for i, j in combinations(range(len(names)), 2)
        ],
        "kinds": [{"a": a, "b": b, **_compare_ratings(kinds[a], kinds[b])} for a, b in combinations(kinds, 2)],
        "annotators": annotators,
    }


def _agree_on_rating(given: np.ndarray) -> dict[str, Any]:
    whole = given[~np.isnan(given).any(axis=1)] if given.shape[1] else given[:0]
    try:
        single, average = (
            {"value": icc.value, "ci95": None if icc.ci95 is None else list(icc.ci95)} for icc in icc_agreement(whole)
        )
    except Undefined as why:
        single, average = ({**_missing(why), "ci95": None} for _ in range(2))
    return {
        "krippendorff_alpha": _alpha(given, "interval"),
        "icc_2_1": {**single, "clips": len(whole)},
        "icc_2_k": {**average, "clips": len(whole), "k": given.shape[1]},
    }


def _compare_ratings(one: np.ndarray, other: np.ndarray) -> dict[str, Any]:
    both = ~np.isnan(one) & ~np.isnan(other)
    off = one[both] - other[both]
    return {
        "clips": int(both.sum()),
        "bias": statistic(float(off.mean()) if len(off) else None, _NO_PAIR),
        "mae": statistic(float(np.abs(off).mean()) if len(off) else None, _NO_PAIR),
        "icc_2_1": _try(lambda: icc_agreement(np.stack([one[both], other[both]], axis=1))[0].value),
    }


def _correlate(one: np.ndarray, other: np.ndarray) -> Statistic:
    both = ~np.isnan(one) & ~np.isnan(other)
    if both.sum() < 3:
        return statistic(None, "fewer than three clips were annotated by both")
    if min(np.ptp(one[both]), np.ptp(other[both])) == 0:
        return statistic(None, "one of the two never varies")
    return {"value": float(np.corrcoef(one[both], other[both])[0, 1])}


def _kinds(annotations: Annotations) -> dict[str, np.ndarray]:
    """The columns of each kind that there is."""
    places = {kind: annotations.of_kinds([kind]) for kind in KINDS}
    return {kind: own for kind, own in places.items() if len(own)}


def _alpha(values: np.ndarray, level: Any) -> Statistic:
    clips = int(((~np.isnan(values)).sum(axis=1) > 1).sum())
    return _try(lambda: krippendorff_alpha(values, level=level)) | {"clips": clips}


def _try(compute: Callable[[], float]) -> Statistic:
    try:
        return {"value": compute()}
    except Undefined as why:
        return _missing(why)


def _missing(why: Undefined) -> Statistic:
    return {"value": None, "reason": str(why)}


def statistic(value: float | None, reason: str) -> Statistic:
    """A statistic of the JSON, with the reason where there is none."""
    return {"value": None, "reason": reason} if value is None else {"value": value}
