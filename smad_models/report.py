"""Scores and quality to one page: a self-contained HTML file, of aggregates unless more is asked for.

Nothing on the page comes from elsewhere, and nothing in it changes from run to run unless the results do.
"""

from __future__ import annotations

import base64
import io
import json
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from smad_models import charts
from smad_models.folds import read_table
from smad_models.predictions import read_notes
from smad_models.report_quality import FEWEST_OF_TENTHS, histograms, spread
from smad_models.scoreboard import HEADLINES, show

RANGES = {"valence": (-1.0, 1.0), "arousal": (-1.0, 1.0), "intensity": (0.0, 3.0)}
METRICS = {
    "war": "accuracy (WAR)",
    "uar": "mean recall (UAR)",
    "f1_weighted": "weighted F1",
    "ccc": "concordance (CCC)",
    "mae": "mean abs. error",
    "rmse": "root mean sq. error",
}
FEWEST = 3  # clips behind a mean: fewer would show a single clip's values
SHEET = 24  # faces on the contact sheet

LIBRARIES = ("smad", "torch", "numpy", "scipy", "scikit-learn", "pyarrow", "tensorstore", "safetensors")


def library_versions() -> dict[str, str]:
    """The versions of Python and of the libraries between the cache and the scores, by name."""
    return {"Python": platform.python_version(), **{name: version(name) for name in LIBRARIES}}


def write_report(
    *,
    scores: Sequence[Path],
    predictions: Sequence[Path],
    labels: Path | None,
    manifest: Path,
    quality: Path,
    participants: Path,
    cache_json: Path,
    cache: Path | None,
    output: Path,
    settings: Mapping[str, Any],
    versions: Mapping[str, str],
    title: str = "SMAD benchmark report",
    show_clips: bool = False,
    show_faces: bool = False,
    synthetic: bool = False,
) -> None:
    """Write the page, whole or not at all.

    Parameters
    ----------
    scores, predictions
        The tasks' JSON files and Parquet tables; without labels scores are not read.
    labels, manifest, quality, participants, cache_json
        As named in the results; `labels` None where nothing is to be compared.
    cache
        The packed cache; read only when faces are shown.
    settings
        The configuration, shown as it is.
    versions
        The versions of programs and libraries, by name.
    show_clips, show_faces
        Also show single clips' predictions, or a sheet of aligned faces: derived data of participants.
    synthetic
        Say in a banner that no number here is about people.

    Raises
    ------
    ValueError
        A table has no clip column, or faces are asked for without a cache.
    """
    if show_faces and cache is None:
        raise ValueError("report: show_faces is set, but no cache is given to take faces from")
    results = [json.loads(path.read_text(encoding="utf-8")) for path in scores] if labels else []
    clips = read_table(manifest, needed=("clip", "participant", "status"))
    measured = [row for row in read_table(quality, needed=("clip",)) if row.get("status", "ok") == "ok"]
    truth = {row["clip"]: row for row in read_table(labels, needed=("clip",))} if labels else {}
    predicted = {path.stem: pq.read_table(path).to_pylist() for path in predictions}
    ok = [row for row in clips if row["status"] == "ok"]

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["score"] = show
    page = environment.get_template("report.html.jinja").render(
        title=title,
        synthetic=synthetic,
        counts={
            "clips": len(clips),
            "ok": len(ok),
            "quarantined": len(clips) - len(ok),
            "participants": len({row["participant"] for row in ok}),
            "folds": max((len(_any_metric(one)["folds"]) for one in results), default=0),
        },
        cache=json.loads(cache_json.read_text(encoding="utf-8")),
        modalities=[(kind, Counter(row.get(kind) or "unknown" for row in ok)) for kind in ("face", "eye")],
        present=Counter(row["present"] or "nothing" for row in next(iter(predicted.values()), [])),
        scoreboard=[row for one in results for row in _score_rows(one)],
        forests=_forests(results),
        emotion=_emotion(results),
        maps=_maps(predicted, truth),
        plane=_plane(predicted, truth),
        unscored=_unscored(predicted, {one["task"] for one in results if one["clips"]["scored"]}),
        fewest=FEWEST,
        fewest_of_tenths=FEWEST_OF_TENTHS,
        quality=histograms(measured),
        spread=spread(read_table(participants, needed=("participant",)), name_them=show_clips),
        quarantined=_quarantined(clips),
        doubtful=_doubtful(measured),
        singles=_singles(predicted, truth) if show_clips else None,
        faces=_contact_sheet(cache) if show_faces and cache is not None else None,
        notes=sorted({note for path in predictions for note in read_notes(path).values()}),
        undefined=[(one["task"], _reasons(one)) for one in results if _reasons(one)],
        provenance=[(one["task"], one["clips"], one["provenance"]) for one in results],
        settings=_flat(settings),
        versions=dict(versions),
        aggregates_only=not (show_clips or show_faces),
    )
    output.parent.mkdir(parents=True, exist_ok=True)
    new = output.with_name(f".{output.name}.new")
    new.write_text(page, encoding="utf-8")
    new.replace(output)


def _any_metric(one: Mapping[str, Any]) -> dict[str, Any]:
    return next(iter(one["protocols"]["fold"].values()))


def _score_rows(one: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The scoreboard's rows of one task, headline metrics only."""
    protocols = one["protocols"]
    base = next(iter(one["baselines"].values()))
    return [
        {
            "task": one["task"],
            "first": not number,
            "metric": METRICS[metric],
            "fold": protocols["fold"][metric],
            "pooled": protocols["pooled"][metric],
            "published": protocols["published"][metric]["mean"],
            "baseline": base["fold"][metric]["mean"],
        }
        for number, metric in enumerate(_headlines(one["task"]))
    ]


def _headlines(task: str) -> tuple[str, ...]:
    return HEADLINES["emotion" if task == "emotion" else "value"]


def _forests(results: Sequence[Mapping[str, Any]]) -> list[tuple[str, Markup]]:
    """Charts of scores, one for each kind of metric: only numbers on the same scale share an axis."""
    kinds: dict[str, list[charts.Line]] = {}
    for one in results:
        base = next(iter(one["baselines"].values()))
        for metric in _headlines(one["task"]):
            if one["task"] == "emotion":
                kind, name = "Emotion, higher is better", METRICS[metric]
            elif metric == "ccc":
                kind, name = "Concordance (CCC), higher is better", one["task"]
            else:
                kind, name = "Error, lower is better", f"{one['task']}, {metric.upper()}"
            fold, pooled = one["protocols"]["fold"][metric], one["protocols"]["pooled"][metric]
            line = charts.Line(
                name=name,
                folds=fold["folds"],
                pooled=pooled["value"],
                interval=pooled["ci95"],
                published=one["protocols"]["published"][metric]["mean"],
                baseline=base["fold"][metric]["mean"],
            )
            if line.pooled is not None:
                kinds.setdefault(kind, []).append(line)
    return [
        (kind, charts.forest(lines, label=f"{kind}: {', '.join(f'{line.name} {show(line.pooled)}' for line in lines)}"))
        for kind, lines in kinds.items()
    ]


def _emotion(results: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    for one in results:
        if one["task"] == "emotion" and one["confusion"]["matrix"] is not None:
            labels = one["confusion"]["labels"]
            chart = charts.confusion(np.array(one["confusion"]["matrix"]), labels)
            return {"chart": chart, "per_class": one["per_class"]}
    return None


def _pairs(rows: Sequence[Mapping[str, Any]], truth: Mapping[str, Mapping[str, str]], task: str) -> dict[str, Any]:
    """clip -> (true, predicted) of the clips that have a label."""
    return {
        row["clip"]: (float(truth[row["clip"]][task]), row["prediction"])
        for row in rows
        if truth.get(row["clip"], {}).get(task)
    }


def _maps(
    predicted: Mapping[str, Sequence[Mapping[str, Any]]], truth: Mapping[str, Mapping[str, str]]
) -> list[tuple[str, int, Markup]]:
    maps = []
    for task, (low, high) in RANGES.items():
        pairs = np.array(list(_pairs(predicted.get(task, []), truth, task).values()), dtype=float)
        if len(pairs):
            chart = charts.density(pairs[:, 0], pairs[:, 1], low=low, high=high, name=task)
            maps.append((task, len(pairs), chart))
    return maps


def _plane(
    predicted: Mapping[str, Sequence[Mapping[str, Any]]], truth: Mapping[str, Mapping[str, str]]
) -> Markup | None:
    valence = _pairs(predicted.get("valence", []), truth, "valence")
    arousal = _pairs(predicted.get("arousal", []), truth, "arousal")
    groups: dict[str, list[tuple[float, float, float, float]]] = {}
    for clip in valence.keys() & arousal.keys():
        if emotion := truth[clip].get("emotion", ""):
            (true_v, said_v), (true_a, said_a) = valence[clip], arousal[clip]
            groups.setdefault(emotion, []).append((true_v, true_a, said_v, said_a))
    means = {}
    for emotion, rows in sorted(groups.items()):
        if len(rows) >= FEWEST:
            # Sorted, as a set's order and with it the last bit of a mean may differ between runs.
            true_v, true_a, said_v, said_a = np.array(sorted(rows)).mean(axis=0)
            means[emotion] = (float(true_v), float(true_a), float(said_v), float(said_a))
    return charts.plane(means) if means else None


def _unscored(predicted: Mapping[str, Sequence[Mapping[str, Any]]], scored: set[str]) -> list[tuple[str, int, Any]]:
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


def _quarantined(clips: Sequence[Mapping[str, str]]) -> list[tuple[str, list[str]]]:
    """Reason -> clips, the commonest reason first."""
    reasons: dict[str, list[str]] = {}
    for row in clips:
        if row["status"] != "ok":
            reasons.setdefault(row.get("reason") or "no reason recorded", []).append(row["clip"])
    return sorted(reasons.items(), key=lambda item: (-len(item[1]), item[0]))


def _doubtful(measured: Sequence[Mapping[str, str]]) -> list[tuple[str, list[str]]]:
    """What a person should look at -> clips in use; no number of theirs."""
    kinds = {
        "no face in any frame: its crops are black": lambda row: row.get("face_found") == "0",
        "the face may not be the same person's in all frames": lambda row: row.get("face_jump") == "1",
        "the picture lies on its side or head, and was turned": lambda row: row.get("face_turn", "0") not in ("", "0"),
    }
    found = [(kind, [row["clip"] for row in measured if applies(row)]) for kind, applies in kinds.items()]
    return [(kind, names) for kind, names in found if names]


def _singles(
    predicted: Mapping[str, Sequence[Mapping[str, Any]]], truth: Mapping[str, Mapping[str, str]]
) -> dict[str, Any]:
    """A row a clip: what was predicted, and the label beside it."""
    table: dict[str, dict[str, Any]] = {}
    for task, rows in predicted.items():
        for row in rows:
            line = table.setdefault(row["clip"], {"participant": row["participant"], "fold": row["fold"], "cells": {}})
            label = truth.get(row["clip"], {}).get(task, "")
            if task == "emotion":
                line["cells"][task] = (row["prediction"], label)
            else:
                line["cells"][task] = (f"{row['prediction']:.2f}", f"{float(label):.2f}" if label else "")
    return {"tasks": list(predicted), "rows": table}


def _contact_sheet(cache: Path) -> dict[str, Any] | None:
    """Aligned crops of clips spread evenly over the cache, the middle frame of each, as one picture in the page."""
    from PIL import Image

    from smad_models.dataset import open_cache  # only here: most pages show no face

    opened = open_cache(cache)
    rows = np.unique(np.linspace(0, len(opened.clips) - 1, SHEET).round().astype(int))
    faces = opened.read(rows, ["face"])["face"]  # (n, frames, size, size, 3)
    crops = [crop for crop in faces[:, faces.shape[1] // 2] if crop.any()]
    if not crops:
        return None
    size, across = crops[0].shape[0], min(6, len(crops))
    sheet = np.zeros((-(-len(crops) // across) * size, across * size, 3), dtype=np.uint8)
    for number, crop in enumerate(crops):
        y, x = divmod(number, across)
        sheet[y * size : (y + 1) * size, x * size : (x + 1) * size] = crop
    file = io.BytesIO()
    Image.fromarray(sheet).save(file, format="JPEG", quality=88)
    return {
        "source": "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii"),
        "count": len(crops),
        "width": sheet.shape[1],
        "height": sheet.shape[0],
    }


def _reasons(one: Mapping[str, Any]) -> dict[str, str]:
    """Why scores are undefined, but for what the published protocol does not have."""
    return {path: why for path, why in one["reasons"].items() if "published" not in path}


def _flat(settings: Mapping[str, Any], *, above: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, value in settings.items():
        if isinstance(value, Mapping):
            rows += _flat(value, above=f"{above}{key}.")
        else:
            text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
            rows.append((f"{above}{key}", "not set" if value is None else text))
    return rows
