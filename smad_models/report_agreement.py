"""The report's part on annotations: how far those who labelled the clips agree, as `agreement.json` says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from smad_models import charts

RATINGS = ("intensity", "valence", "arousal")
GROUPS = {"all": "all annotators", "humans": "people only, no model", "experts": "experts only"}
KINDS = {"participant": "self-report", "expert": "expert", "model": "model"}
RULES = {
    "majority": "most of all annotators",
    "experts": "a tie, decided by most of the experts",
    "reliability": "a tie, decided by the more reliable annotators",
    "dawid-skene": "the model of Dawid and Skene",
    "undecided": "undecided: no label",
}
_MOST = 12  # annotators in one matrix: of more a cell could not be read


def agreement_part(found: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Tables and figures of the agreement; None where it was not computed."""
    if not found:
        return None
    emotion = found["emotion"]
    groups = [group for group, members in found["groups"].items() if len(members) > 1]
    rows = [
        ("emotion, Krippendorff's alpha", [emotion["groups"][group]["krippendorff_alpha"] for group in groups]),
        ("emotion, Fleiss' kappa", [emotion["groups"][group]["fleiss_kappa"] for group in groups]),
    ]
    for rating in RATINGS:
        for title, name in (("alpha", "krippendorff_alpha"), ("ICC(2,1)", "icc_2_1"), ("ICC(2,k)", "icc_2_k")):
            rows.append((f"{rating}, {title}", [found[rating]["groups"][group][name] for group in groups]))
    classes = emotion["groups"].get("all", {}).get("per_class", {})
    return {
        "clips": found["clips"],
        "annotations": found["annotations"],
        "annotators": len(found["annotators"]),
        "kinds": _counted(found["annotators"]),
        "ratings": RATINGS,
        "groups": [{"title": GROUPS.get(group, group), "members": len(found["groups"][group])} for group in groups],
        "rows": [{"title": title, "cells": cells} for title, cells in rows],
        "classes": classes,
        "kappas": _matrix(emotion["pairs"], "cohen_kappa", of="Cohen's kappa of emotions"),
        "kinds_compared": _kinds_compared(found),
        "each": _each(found),
        "rules": [(RULES.get(rule, rule), clips) for rule, clips in found["consensus"]["rules"].items() if clips],
        "confidence": found["consensus"]["confidence"],
        "notes": found["notes"],
    }


def _counted(annotators: Sequence[Mapping[str, Any]]) -> str:
    counts = {KINDS[kind]: sum(one["kind"] == kind for one in annotators) for kind in KINDS}
    return ", ".join(f"{number} {kind}{'s' if number > 1 else ''}" for kind, number in counts.items() if number)


def _matrix(pairs: Sequence[Mapping[str, Any]], statistic: str, *, of: str) -> Markup | None:
    """Annotators against annotators, the lower half: shaded by the statistic, 0 (chance) to 1."""
    names: list[str] = []
    for pair in pairs:
        names += [name for name in (pair["a"], pair["b"]) if name not in names]
    if not 2 < len(names) <= _MOST:
        return None
    shares = np.full((len(names), len(names)), np.nan)
    texts = [["" for _ in names] for _ in names]
    said = []
    for pair in pairs:
        row, column = sorted((names.index(pair["a"]), names.index(pair["b"])), reverse=True)
        value = pair[statistic]["value"]
        shares[row, column] = np.nan if value is None else value
        texts[row][column] = "" if value is None else f"{value:.2f}"
        said.append(f"{pair['a']} and {pair['b']} {texts[row][column] or 'undefined'}")
    # The first name has no row of its own, the last no column.
    cut = [line[:-1] for line in texts[1:]]
    return charts.heat(shares[1:, :-1], cut, names[1:], names[:-1], label=f"{of}: {'; '.join(said)}")


def _kinds_compared(found: Mapping[str, Any]) -> dict[str, Any] | None:
    """Participants against experts against model: a column a pair, a row a statistic."""
    pairs = found["emotion"]["kinds"]
    if not pairs:
        return None
    rows = [
        ("same emotion", [pair["agreement"] for pair in pairs]),
        ("emotion, Cohen's kappa", [pair["cohen_kappa"] for pair in pairs]),
    ]
    for rating in RATINGS:
        same = {(one["a"], one["b"]): one for one in found[rating]["kinds"]}
        for title, name in (("ICC(2,1)", "icc_2_1"), ("bias", "bias")):
            rows.append((f"{rating}, {title}", [same.get((pair["a"], pair["b"]), {}).get(name) for pair in pairs]))
    return {
        "pairs": [{"title": f"{KINDS[pair['a']]} and {KINDS[pair['b']]}", "clips": pair["clips"]} for pair in pairs],
        "rows": [{"title": title, "cells": cells} for title, cells in rows],
    }


def _each(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row an annotator: against all the others."""
    kinds = {one["name"]: one for one in found["annotators"]}
    ratings = {rating: {one["name"]: one for one in found[rating]["annotators"]} for rating in RATINGS}
    return [
        {
            "name": one["name"],
            "kind": KINDS.get(kinds[one["name"]]["kind"], ""),
            "clips": kinds[one["name"]]["clips"],
            "agreement": one["agreement"],
            "kappa": one["cohen_kappa"],
            "bias": [ratings[rating].get(one["name"], {}).get("bias", {"value": None}) for rating in RATINGS],
        }
        for one in found["emotion"]["annotators"]
    ]
