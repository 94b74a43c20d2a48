"""The report's part on what each modality brings: predictions without it, compared with those with all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from smad_models import score_charts
from smad_models.compare import compare
from smad_models.report_scores import METRICS


def modalities_part(
    ablations: Mapping[tuple[str, str], Path],
    predictions: Mapping[str, Path],
    *,
    labels: Path | None,
    folds: Path | None,
) -> dict[str, Any] | None:
    """Rows and figures of the differences; None where there is nothing to compare by.

    Parameters
    ----------
    ablations
        By task and modality: the predictions without it.
    predictions
        By task: those with all.
    labels, folds
        As for scoring.
    """
    if labels is None or folds is None:
        return None
    rows = []
    for (task, modality), path in ablations.items():
        pair = {task: (path, predictions[task])}
        try:
            found = compare(pair, labels=labels, folds=folds)["tasks"][task]
        except ValueError as error:
            if "has a label for" in str(error):
                continue  # the task is not labelled at all, and so is scored nowhere
            raise
        metric = found["tested"]
        one = found["metrics"][metric]
        rows.append(
            {
                "task": task,
                "modality": modality,
                "title": METRICS[metric].title,
                "without": one["a"],
                "full": one["b"],
                "difference": one["difference"],
                "interval": one["ci95"],
            }
        )
    return {"rows": rows, "charts": _charts(rows)} if rows else None


def _charts(rows: list[dict[str, Any]]) -> list[tuple[str, Any]]:
    """A figure a metric: only numbers on the same scale share an axis."""
    charts = []
    for title in dict.fromkeys(row["title"] for row in rows):
        lines = [
            (f"{row['task']} without {row['modality']}", row["difference"], row["interval"])
            for row in rows
            if row["title"] == title and row["difference"] is not None
        ]
        if lines:
            said = "; ".join(f"{name} {value:+.3f}" for name, value, _ in lines)
            chart = score_charts.changes(lines, label=f"Change of {title}: {said}", unit=f"change of {title}")
            charts.append((title[0].upper() + title[1:], chart))
    return charts
