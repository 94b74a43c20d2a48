"""Two predictions of the same clips: how far apart they score, and whether that could be chance.

The test swaps the two models' predictions of whole participants at random: if neither is better, either could have made
them (E. J. G. Pitman (1937), "Significance tests which may be applied to samples from any populations", J. R. Stat.
Soc. Suppl. 4, 119-130; for measures such as F1: A. Yeh (2000), "More accurate tests for the statistical significance of
result differences", COLING). The interval of the difference draws participants, the same for both.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq

from smad_models.folds import Row, read_folds
from smad_models.intervals import (
    BLOCK,
    draw_weights,
    emotion_sums,
    emotion_values,
    interval,
    value_sums,
    value_values,
    variance_of_constants,
)
from smad_models.leaks import guard
from smad_models.metrics import Scored
from smad_models.predictions import join_labels, read_predictions, read_truth
from smad_models.scoreboard import headlines, print_table, show

if TYPE_CHECKING:
    from rich.console import Console

TESTED = {"emotion": "uar", "value": "ccc"}  # one a task; the other differences are described, not tested
LOWER_IS_BETTER = ("mae", "mse", "rmse")
SWAPS = 9_999  # random ones, beside what was found itself
EXACT = 13  # participants up to whom all 2^n swaps are tried
SEED = 0


def pair_files(a: Path, b: Path, *, task: str | None = None) -> dict[str, tuple[Path, Path]]:
    """The tables to compare, by task: two files of one task, or two folders with ``{task}.parquet``.

    Raises
    ------
    ValueError
        One is a folder and the other a file, folders have no task in common, or a file does not say its task.
    """
    tasks = ("emotion", "valence", "arousal", "intensity")
    for path in (a, b):
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such file or folder")
    if a.is_dir() != b.is_dir():
        raise ValueError(f"want two files or two folders, got {a} and {b}")
    if a.is_dir():
        files = {name: (a / f"{name}.parquet", b / f"{name}.parquet") for name in tasks}
        both = {name: pair for name, pair in files.items() if pair[0].exists() and pair[1].exists()}
        if not both:
            raise ValueError(f"{a} and {b} have no {{task}}.parquet of one task in common")
        return both
    name = task or next((path.stem for path in (a, b) if path.stem in tasks), None)
    if name is None and not _is_of_numbers(a):
        name = "emotion"
    if name is None:
        raise ValueError(f"{a}: does not say of which task it is: name it with --task")
    return {name: (a, b)}


def _is_of_numbers(path: Path) -> bool:
    schema = pq.read_schema(path)
    return "prediction" not in schema.names or str(schema.field("prediction").type) not in ("string", "large_string")


def find_emotions(path: Path) -> list[str]:
    """The classes of an emotion table in their order: its columns ``p_{name}``.

    Raises
    ------
    ValueError
        It has none.
    """
    found = [name.removeprefix("p_") for name in pq.read_schema(path).names if name.startswith("p_")]
    if not found:
        raise ValueError(f"{path}: holds no probabilities that name the emotions: name them with --emotions")
    return found


def compare(
    pairs: dict[str, tuple[Path, Path]], *, labels: Path, folds: Path, emotions: Sequence[str] | None = None
) -> dict[str, Any]:
    """Compare two models on one or more tasks.

    Parameters
    ----------
    pairs
        As `pair_files` gives them.
    labels, folds
        As for scoring.
    emotions
        The emotions in order; None = as the first table names them.

    Returns
    -------
    dict
        ``tasks[task]``: ``a`` and ``b`` (files), ``clips``, ``participants``, ``metrics`` {name: {"a", "b",
        "difference" (a - b), "ci95"}}, ``tested`` (a metric), ``p``, ``p_holm`` (corrected over the tasks), ``swaps``
        (how many, and whether all), ``identical`` (whether every prediction is equal). None is undefined: see
        ``reasons`` {path: sentence}.

    Raises
    ------
    LeakError, ValueError
        As for scoring; or the two are not of the same clips: the message names the first.
    """
    places = read_folds(folds)
    tasks: dict[str, dict[str, Any]] = {}
    reasons: dict[str, str] = {}
    for task, (a, b) in pairs.items():
        known = emotions or (find_emotions(a) if task == "emotion" else [])
        one, other = _read_pair(task, a, b, places=places, labels=labels, emotions=known)
        tasks[task] = {"a": str(a), "b": str(b), **_compare_task(one, other, len(known) if task == "emotion" else None)}
        if tasks[task]["p"] is None:
            reasons[f"{task}.p"] = f"{tasks[task]['tested']} is undefined of these clips"
    corrected = holm([found["p"] for found in tasks.values()])
    for found, p in zip(tasks.values(), corrected, strict=True):
        found["p_holm"] = p
    return {"tasks": tasks, "reasons": reasons, "note": NOTE, "seed": SEED}


NOTE = (
    "Pooled clips. p: participants swapped between the two, two-sided; Holm: p corrected over the tasks. Intervals:"
    " bootstrap over participants, given the trained models."
)


def _read_pair(
    task: str, a: Path, b: Path, *, places: Sequence[Row], labels: Path, emotions: Sequence[str]
) -> tuple[Scored, Scored]:
    """The labelled clips of both, in one order."""
    truth = read_truth(labels, task=task, emotions=emotions)
    tables = [read_predictions(path, task=task, emotions=emotions) for path in (a, b)]
    clips = [{row["clip"] for row in table.rows} for table in tables]
    for first, second, alone in ((a, b, clips[0] - clips[1]), (b, a, clips[1] - clips[0])):
        if alone:
            raise ValueError(
                f"clip {min(alone)}: is in {first} but not in {second} (with {len(alone) - 1} more): only predictions"
                " of the same clips can be compared"
            )
    scored = []
    for table in tables:
        guard(table, places, task=task)
        found, names = join_labels(table, truth, task=task, emotions=emotions, wanted=[row.clip for row in places])
        scored.append(found.at(np.argsort(np.array(names, dtype=str))))
    if not len(scored[0].truth):
        raise ValueError(f"{labels}: no clip of {a} has a label for {task}: nothing can be compared")
    return scored[0], scored[1]


def _compare_task(a: Scored, b: Scored, classes: int | None) -> dict[str, Any]:
    people, unit = np.unique(a.participant, return_inverse=True)
    if classes is not None:
        sums = [emotion_sums(scored, unit, len(people), classes)[:, : classes**2] for scored in (a, b)]
    else:
        sums = [value_sums(scored, unit, len(people)) for scored in (a, b)]
    tiny = max(variance_of_constants(a), variance_of_constants(b))

    def values(total: np.ndarray) -> dict[str, np.ndarray]:
        return value_values(total, tiny) if classes is None else emotion_values(total, classes)

    names = headlines("emotion" if classes is not None else "value")
    whole = [values(part.sum(axis=0, keepdims=True)) for part in sums]
    blocks = [[weights @ part for part in sums] for weights in draw_weights(len(people))]
    drawn = [values(np.concatenate(part)) for part in zip(*blocks, strict=True)]
    metrics: dict[str, dict[str, Any]] = {}
    for name in names:
        one, other = (_number(part[name][0]) for part in whole)
        known = one is not None and other is not None
        metrics[name] = {
            "a": one,
            "b": other,
            "difference": one - other if one is not None and other is not None else None,
            "ci95": interval(drawn[0][name] - drawn[1][name])[0] if known and len(people) > 1 else None,
        }
    tested = TESTED["emotion" if classes is not None else "value"]
    found = metrics[tested]["difference"]
    p, swaps = None, "none"
    if found is not None:
        p, swaps = _permute(sums, lambda total: values(total)[tested], found)
    return {
        "clips": len(a.truth),
        "participants": len(people),
        "metrics": metrics,
        "tested": tested,
        "p": p,
        "p_holm": None,
        "swaps": swaps,
        "identical": bool((a.prediction == b.prediction).all()),
    }


def _permute(sums: Sequence[np.ndarray], value: Any, found: float) -> tuple[float, str]:
    """The share of swaps that set the two at least as far apart as they were found."""
    people = len(sums[0])
    a, b, apart = sums[0].sum(axis=0), sums[1].sum(axis=0), sums[1] - sums[0]
    moved = []
    if people <= EXACT:
        every = np.arange(2**people)[:, None] >> np.arange(people) & 1  # (2^n, n), that of none first
        moved.append(every.astype(float) @ apart)
    else:
        moved.append(np.zeros((1, len(a))))
        rng, block = np.random.default_rng(SEED), max(1, BLOCK // people)
        for start in range(0, SWAPS, block):
            some = rng.integers(0, 2, size=(min(block, SWAPS - start), people))
            moved.append(some.astype(float) @ apart)
    one = a + np.concatenate(moved)
    share = float(np.mean(np.abs(value(one) - value(a + b - one)) >= abs(found) - 1e-12))
    return share, f"all {len(one)}" if people <= EXACT else f"{SWAPS} at random"


def holm(p: Sequence[float | None]) -> list[float | None]:
    """P values corrected so that the chance of any false alarm among them stays what each had alone.

    S. Holm (1979), "A simple sequentially rejective multiple test procedure", Scand. J. Stat. 6, 65-70. None, of what
    could not be tested, stays.
    """
    known = sorted((value, place) for place, value in enumerate(p) if value is not None)
    corrected: list[float | None] = [None] * len(p)
    highest = 0.0
    for rank, (value, place) in enumerate(known):
        highest = max(highest, min(1.0, (len(known) - rank) * value))
        corrected[place] = highest
    return corrected


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def print_comparison(found: dict[str, Any], *, console: Console | None = None) -> None:
    """The comparison on the terminal."""
    sections = []
    notes = []
    for task, one in found["tasks"].items():
        rows = []
        for number, (metric, row) in enumerate(one["metrics"].items()):
            ci = row["ci95"]
            tested = [one["p"], one["p_holm"]] if metric == one["tested"] else []
            rows.append(
                [
                    "" if number else task,
                    metric,
                    show(row["a"]),
                    show(row["b"]),
                    show(row["difference"]) + ("" if ci is None else f" [{show(ci[0])},{show(ci[1])}]"),
                    *([show(None) if p is None else f"{p:.4f}" for p in tested] or ["", ""]),
                ]
            )
        sections.append(rows)
        same = ", every prediction equal" if one["identical"] else ""
        notes.append(f"{task}: {one['clips']} clips of {one['participants']} participants, swaps: {one['swaps']}{same}")
        notes.append(f"  A = {one['a']}, B = {one['b']}")
    notes += [found["note"], f"Lower is better: {', '.join(LOWER_IS_BETTER)}.", *found["reasons"].values()]
    print_table(("task", "metric", "A", "B", "A-B [95 % CI]", "p", "Holm"), sections, notes=notes, console=console)
