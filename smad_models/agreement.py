"""How far annotators agree, as one JSON of aggregates: no clip, and no participant, is named in it.

The agreement's JSON
--------------------
A *statistic* is ``{"value": number or null, ...}``; where the value is null, ``"reason"`` says why it does not exist. A
statistic that some clips cannot enter says how many did, in ``"clips"``. Kinds are ``participant`` (all self-reports
together, one column), ``expert``, ``model``. Ratings are ``intensity``, ``valence``, ``arousal``. ::

    {
      "clips": 1303, "annotations": 7818,         # that count here: rows of clips in the table of clips
      "annotators": [{"name", "kind", "clips"}],  # self-reports, experts, models; clips: on which they said anything
      "groups": {"all": [names], "humans": [names], "experts": [names]},   # no model among humans

      "emotion": {
        "classes": [names],
        "groups": {group: {
          "krippendorff_alpha": statistic,        # nominal; clips with two annotations or more
          "fleiss_kappa": statistic,              # clips that the whole group annotated
          "per_class": {class: {
            "annotations": 900,                   # how often the group names it
            "specific_agreement": statistic,      # P(another names it too | one names it)
            "fleiss_kappa": statistic             # of this class against all others
          }}
        }},
        "pairs": [{"a", "b", "clips", "agreement": statistic, "cohen_kappa": statistic}],   # each two annotators
        "kinds": [the same, of kinds],            # a kind's emotion is what most of it name; clips where it is tied
                                                  # do not count
        "annotators": [{"name", "clips", "agreement": statistic, "cohen_kappa": statistic}]   # with the majority
      },                                                                                      # of all the others
      "intensity" | "valence" | "arousal": {
        "range": [low, high],
        "groups": {group: {
          "krippendorff_alpha": statistic,        # interval; clips with two annotations or more
          "icc_2_1": statistic + {"ci95": [low, high] or null},    # one annotator; clips that the whole group annotated
          "icc_2_k": the same + {"k": 6}          # the mean of all k of the group
        }},
        "pairs": [{"a", "b", "clips", "bias": statistic, "mae": statistic, "icc_2_1": statistic}],   # bias: a - b
        "kinds": [the same, of kinds],            # a kind's rating is its mean
        "annotators": [{"name", "clips", "bias": statistic, "mae": statistic, "correlation": statistic}]   # against the
      },                                                                                # mean of all the others; bias:
                                                                                        # this annotator - the others
      "consensus": {
        "rules": {rule: clips},                   # by which emotions are decided (`consensus.RULES`)
        "confidence": {label: statistic}          # mean over clips
      },
      "notes": [sentences],                       # how missing annotations are treated, what the intervals mean
      "provenance": {"key": text, "annotations": sha256 of the rows that count}
    }

For two annotators ICC(2,1) is Lin's concordance correlation (CCC) but for a factor of about 1 + 1/n: what the benchmark
scores a network's ratings by. Any part is null-safe: with one annotator all statistics are null, with their reasons.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import numpy as np

from smad_models.agreement_parts import measure_emotion, measure_rating, statistic
from smad_models.annotations import KINDS, LABELS, RATINGS, Annotations
from smad_models.consensus import RULES, find_consensus

GROUPS = {"all": KINDS, "humans": ("participant", "expert"), "experts": ("expert",)}
NOTES = [
    "Krippendorff's alpha counts every clip that two or more have annotated, by the annotations that it has.",
    "Fleiss' kappa and the ICCs count the clips that the whole group has annotated; Cohen's kappa, biases and errors "
    "those that both have.",
    "The intervals of the ICCs (McGraw and Wong, 1996) take clips for independent; clips of one person are not, so the "
    "true ones are wider.",
    "Self-reports are one column: each participant annotates only the own clips.",
]


def measure_agreement(annotations: Annotations) -> dict[str, Any]:
    """All that is to be said of these annotations; the shape of it stands above."""
    who = annotations.annotators
    said = (annotations.codes >= 0) | np.any([~np.isnan(given) for given in annotations.ratings.values()], axis=0)
    columns = {group: annotations.of_kinds(kinds) for group, kinds in GROUPS.items()}
    return {
        "clips": len(annotations.clips),
        "annotations": int(said.sum()),
        "annotators": [
            {"name": one.name, "kind": one.kind, "clips": int(said[:, i].sum())} for i, one in enumerate(who)
        ],
        "groups": {group: [who[i].name for i in places] for group, places in columns.items()},
        "emotion": measure_emotion(annotations, columns),
        **{name: measure_rating(annotations, name, columns) for name in RATINGS},
        "consensus": _measure_consensus(annotations),
        "notes": NOTES,
    }


def agreement_text(agreement: dict[str, Any]) -> str:
    """The JSON's text."""
    return json.dumps(agreement, indent=1, allow_nan=False) + "\n"


def _measure_consensus(annotations: Annotations) -> dict[str, Any]:
    consensus = find_consensus(annotations)
    rules = Counter(consensus.rules)
    known = {name: sure[~np.isnan(sure)] for name, sure in consensus.confidence.items()}
    return {
        "rules": {rule: rules[rule] for rule in RULES},
        "confidence": {
            name: statistic(float(known[name].mean()) if len(known[name]) else None, "no clip was annotated by two")
            for name in LABELS
        },
    }
