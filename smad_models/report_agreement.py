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
    groups = [
        {
            "title": GROUPS.get(group, group),
            "members": len(members),
            "alpha": emotion["groups"][group]["krippendorff_alpha"],
            "kappa": emotion["groups"][group]["fleiss_kappa"],
            "ratings": [found[rating]["groups"][group] for rating in RATINGS],
        }
        for group, members in found["groups"].items()
        if len(members) > 1
    ]
    classes = emotion["groups"].get("all", {}).get("per_class", {})
    return {
        "clips": found["clips"],
        "annotations": found["annotations"],
        "annotators": len(found["annotators"]),
        "kinds": _counted(found["annotators"]),
        "ratings": RATINGS,
        "groups": groups,
        "classes": classes,
        "kappas": _matrix(emotion["pairs"], "cohen_kappa", of="Cohen's kappa of emotions"),
        "kind_rows": _kind_rows(found),
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


def _kind_rows(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Participants against experts against model."""
    rows = []
    for pair in found["emotion"]["kinds"]:
        same = {
            rating: next((one for one in found[rating]["kinds"] if (one["a"], one["b"]) == (pair["a"], pair["b"])), None)
            for rating in RATINGS
        }
        rows.append(
            {
                "title": f"{KINDS.get(pair['a'], pair['a'])} and {KINDS.get(pair['b'], pair['b'])}",
                "clips": pair["clips"],
                "agreement": pair["agreement"],
                "kappa": pair["cohen_kappa"],
                "ratings": same,
            }
        )
    return rows


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
