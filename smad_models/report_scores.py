"""The report's part on scores: scoreboard, figures, calibration, and how scores spread over folds and people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup

from smad_models import charts, score_charts
from smad_models.scoreboard import headlines, show

CLIPS_OF_A_PERSON = 3  # behind a dot: of fewer it would show a single clip's values


class Metric(NamedTuple):
    """A metric for the reader: its name, and what is good."""

    title: str
    good: str


METRICS = {
    "war": Metric("accuracy (WAR)", "higher is better"),
    "uar": Metric("mean recall (UAR)", "higher is better"),
    "f1_weighted": Metric("weighted F1", "higher is better"),
    "f1_macro": Metric("macro F1", "higher is better"),
    "kappa": Metric("Cohen's kappa", "higher is better, 0 is chance"),
    "auroc": Metric("macro AUROC", "higher is better, 0.5 is chance"),
    "ece": Metric("calibration error (ECE)", "lower is better"),
    "ccc": Metric("concordance (CCC)", "higher is better"),
    "pearson": Metric("Pearson's r", "higher is better"),
    "spearman": Metric("Spearman's rho", "higher is better"),
    "r2": Metric("R²", "higher is better"),
    "mae": Metric("mean abs. error", "lower is better"),
    "mse": Metric("mean sq. error", "lower is better"),
    "rmse": Metric("root mean sq. error", "lower is better"),
    "bias": Metric("bias (prediction - label)", "0 is best"),
}
BASELINES = {
    "majority_class": "commonest class",
    "training_mean": "mean of the others",
    "linear": "linear model",
}


def is_scored(one: Mapping[str, Any]) -> bool:
    """Whether a task had any label to compare with."""
    return bool(one["clips"]["scored"])


def score_rows(one: Mapping[str, Any], metrics: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """A task's rows of the scoreboard: its headline metrics, or those that are named."""
    protocols = one["protocols"]
    constant, *rest = one["baselines"].values()
    return [
        {
            "task": one["task"],
            "first": not number,
            "title": METRICS[metric].title,
            "good": METRICS[metric].good,
            "fold": protocols["fold"][metric],
            "pooled": protocols["pooled"][metric],
            "published": protocols["published"][metric]["mean"],
            "constant": constant["fold"][metric]["mean"],
            "linear": rest[0]["fold"][metric]["mean"] if rest else None,
        }
        for number, metric in enumerate(metrics or headlines(one["task"]))
    ]


def summary(results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The one number of each task that a reader asks for first, beside its better baseline."""
    tiles = []
    for one in filter(is_scored, results):
        metric = "uar" if one["task"] == "emotion" else "ccc"
        others = {
            BASELINES[name]: rows["fold"][metric]["mean"]
            for name, rows in one["baselines"].items()
            if rows["fold"][metric]["mean"] is not None
        }
        best = max(others, key=lambda name: others[name], default=None)
        tiles.append(
            {
                "task": one["task"],
                "title": METRICS[metric].title,
                "value": one["protocols"]["fold"][metric]["mean"],
                "interval": one["protocols"]["pooled"][metric]["ci95"],
                "baseline": None if best is None else (best, others[best]),
            }
        )
    return tiles


def forests(results: Sequence[Mapping[str, Any]]) -> list[tuple[str, Markup]]:
    """Charts of scores, one for each kind of metric: only numbers on the same scale share an axis."""
    kinds: dict[str, list[score_charts.Line]] = {}
    for one in results:
        for metric in headlines(one["task"]):
            if one["task"] == "emotion":
                kind, name = "Emotion, higher is better", METRICS[metric].title
            elif metric == "ccc":
                kind, name = "Concordance (CCC), higher is better", one["task"]
            else:
                kind, name = "Error, lower is better", f"{one['task']}, {metric.upper()}"
            protocols = one["protocols"]
            if protocols["pooled"][metric]["value"] is not None:
                line = score_charts.Line(
                    name=name,
                    folds=protocols["fold"][metric]["folds"],
                    pooled=protocols["pooled"][metric]["value"],
                    interval=protocols["pooled"][metric]["ci95"],
                    published=protocols["published"][metric]["mean"],
                    baselines=[rows["fold"][metric]["mean"] for rows in one["baselines"].values()],
                )
                kinds.setdefault(kind, []).append(line)
    return [
        (
            kind,
            score_charts.forest(
                lines, label=f"{kind}: {', '.join(f'{line.name} {show(line.pooled)}' for line in lines)}"
            ),
        )
        for kind, lines in kinds.items()
    ]


def emotion_part(results: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The confusion matrix with its classes, and the view of three classes; None where no emotion is scored."""
    for one in results:
        if one["task"] != "emotion" or one["confusion"]["matrix"] is None:
            continue
        view = one["polarity"]
        return {
            **_classes(one),
            "polarity": None
            if view is None or view["confusion"]["matrix"] is None
            else {
                **_classes(view),
                "of": _grouped(view["of"]),
                "left_out": view["left_out"],
                "clips": view["clips"],
                "uar": view["protocols"]["fold"]["uar"],
                "war": view["protocols"]["fold"]["war"],
            },
        }
    return None


def _classes(scored: Mapping[str, Any]) -> dict[str, Any]:
    names, matrix = scored["confusion"]["labels"], np.array(scored["confusion"]["matrix"])
    columns = [*names, "other"][: matrix.shape[1]]  # "other": an emotion of none of the classes was predicted
    rows = names[: matrix.shape[0]]
    return {"chart": charts.confusion(matrix, rows, columns), "per_class": scored["per_class"]}


def _grouped(sides: Mapping[str, str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for emotion, side in sides.items():
        groups.setdefault(side, []).append(emotion)
    return groups


def calibration_part(results: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The reliability diagram of the emotions' probabilities; None where the predictions hold none."""
    for one in results:
        if one["task"] != "emotion" or one.get("calibration") is None:
            continue
        bins = one["calibration"]["bins"]
        known = [row for row in bins if row["clips"]]
        clips = sum(row["clips"] for row in known)
        if not clips:
            continue
        over = sum(row["clips"] * (row["confidence"] - row["accuracy"]) for row in known) / clips
        ece = one["calibration"]["ece"]
        label = f"Reliability diagram of {clips} clips: expected calibration error {show(ece)}"
        return {
            "chart": score_charts.reliability(bins, label=label),
            "ece": ece,
            "interval": one["protocols"]["pooled"]["ece"]["ci95"],
            "bins": known,
            "clips": clips,
            "over": over,
        }
    return None


def spread_over_people(results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Of each task a strip a fold: its participants' scores, and its own."""
    parts = []
    for one in filter(is_scored, results):
        metric = "war" if one["task"] == "emotion" else "mae"
        by_fold: dict[str, list[float]] = {}
        few = 0
        for row in one["per_participant"].values():
            if row["clips"] < CLIPS_OF_A_PERSON or row[metric] is None:
                few += 1
                continue
            by_fold.setdefault(str(row["fold"]), []).append(row[metric])
        values = np.array(sorted(value for rows in by_fold.values() for value in rows), dtype=float)
        wholes = one["protocols"]["fold"][metric]["folds"]
        folds = {str(number): whole for number, whole in enumerate(wholes, start=1)}
        unit = f"{METRICS[metric].title} within a participant; {METRICS[metric].good}"
        label = f"{one['task']}: {unit}, of {len(values)} participants by fold"
        parts.append(
            {
                "task": one["task"],
                "chart": score_charts.strips(by_fold, folds, label=label, unit=unit),
                "few": few,
                "count": len(values),
                "most": score_charts.DOTS if max(map(len, by_fold.values()), default=0) > score_charts.DOTS else None,
                "middle": [float(at) for at in np.quantile(values, (0.1, 0.5, 0.9))] if len(values) >= 10 else None,
            }
        )
    return parts


def people_table(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A row a participant, by name: shown only where single clips may be."""
    table: dict[str, dict[str, Any]] = {}
    tasks = [one["task"] for one in filter(is_scored, results)]
    for one in filter(is_scored, results):
        metric = "war" if one["task"] == "emotion" else "mae"
        for person, row in one["per_participant"].items():
            line = table.setdefault(person, {"fold": row["fold"], "clips": row["clips"], "values": {}})
            line["clips"] = max(line["clips"], row["clips"])
            line["values"][one["task"]] = row[metric]
    return {"tasks": [(task, "WAR" if task == "emotion" else "MAE") for task in tasks], "rows": table}


def undefined(one: Mapping[str, Any]) -> dict[str, str]:
    """Why scores are undefined, but for what the published protocol does not have."""
    return {path: why for path, why in one["reasons"].items() if "published" not in path}
