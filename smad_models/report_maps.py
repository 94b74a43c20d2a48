"""The report's part on values: where labels and predictions lie, and what was predicted where there is no label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from smad_models import charts

RANGES = {"valence": (-1.0, 1.0), "arousal": (-1.0, 1.0), "intensity": (0.0, 3.0)}
FEWEST = 3  # clips behind a mean: fewer would show a single clip's values

Predicted = Mapping[str, Sequence[Mapping[str, Any]]]  # by task: the rows of its table
Truth = Mapping[str, Mapping[str, str]]  # by clip: its row of the labels


def _pairs(predicted: Predicted, truth: Truth, task: str) -> dict[str, tuple[float, float]]:
    """clip -> (true, predicted) of the clips that have a label."""
    return {
        row["clip"]: (float(truth[row["clip"]][task]), float(row["prediction"]))
        for row in predicted.get(task, [])
        if truth.get(row["clip"], {}).get(task)
    }


def maps(predicted: Predicted, truth: Truth) -> list[tuple[str, int, Markup]]:
    """Predicted against true values: task, clips, chart."""
    found = []
    for task, (low, high) in RANGES.items():
        pairs = np.array(list(_pairs(predicted, truth, task).values()), dtype=float)
        if len(pairs):
            chart = charts.density(pairs[:, 0], pairs[:, 1], low=low, high=high, name=task)
            found.append((task, len(pairs), chart))
    return found


def plane_part(predicted: Predicted, truth: Truth) -> dict[str, Any] | None:
    """Valence and arousal together: all clips as shades, and of each emotion the mean label and prediction."""
    valence, arousal = (_pairs(predicted, truth, task) for task in ("valence", "arousal"))
    both = sorted(valence.keys() & arousal.keys())
    if not both:
        return None
    true = np.array([(valence[clip][0], arousal[clip][0]) for clip in both])
    said = np.array([(valence[clip][1], arousal[clip][1]) for clip in both])
    groups: dict[str, list[int]] = {}
    for number, clip in enumerate(both):
        if emotion := truth[clip].get("emotion", ""):
            groups.setdefault(emotion, []).append(number)
    means = {}
    for emotion, rows in sorted(groups.items()):
        if len(rows) >= FEWEST:
            (true_v, true_a), (said_v, said_a) = true[rows].mean(axis=0).tolist(), said[rows].mean(axis=0).tolist()
            means[emotion] = (true_v, true_a, said_v, said_a)
    return {"clips": len(both), "all": charts.planes(true, said), "means": charts.plane(means) if means else None}


def unscored(predicted: Predicted, scored: set[str]) -> list[tuple[str, int, Any]]:
    """What was predicted for tasks without labels: counts of emotions, or a histogram."""
    shown: list[tuple[str, int, Any]] = []
    for task, rows in predicted.items():
        if task in scored or not rows:
            continue
        if task == "emotion":
            shown.append((task, len(rows), Counter(row["prediction"] for row in rows).most_common()))
        else:
            values = np.array([row["prediction"] for row in rows], dtype=float)
            low, high = RANGES[task]
            label = f"Predicted {task} of {len(rows)} clips"
            chart = charts.histogram(values, edges=np.linspace(low, high, 13), label=label, unit=f"predicted {task}")
            shown.append((task, len(rows), chart))
    return shown
