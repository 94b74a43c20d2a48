"""Clips with labels and predictions to score: in memory, and as the files that scoring reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from smad_models.metrics import Scored

EMOTIONS = ["happiness", "sadness", "fear", "disgust", "surprise", "anger", "neutral"]


def close(wanted: Any) -> Any:
    """Equal to 1e-12."""
    return pytest.approx(wanted, rel=0, abs=1e-12)


def some_scored(*, values: bool, n: int = 210, seed: int = 5) -> Scored:
    """Clips of 7 a participant in 3 folds, about half of them predicted well; some scores are tied."""
    rng = np.random.default_rng(seed)
    people = np.arange(n) // 7
    fold, names = people % 3 + 1, np.char.add("P", people.astype(str))
    if values:
        level = rng.uniform(-1, 1, n).round(2)
        return Scored(level, 0.6 * level + rng.normal(0.1, 0.3, n).round(2), fold, names)
    emotion = rng.integers(0, 7, n)
    sure = rng.dirichlet(np.ones(7), n).round(2) + np.eye(7)[emotion] * rng.integers(0, 2, n)[:, None]
    sure /= sure.sum(axis=1, keepdims=True)
    return Scored(emotion, sure.argmax(axis=1), fold, names, sure)


def write_files(
    folder: Path,
    *,
    task: str = "emotion",
    unlabelled: tuple[str, ...] = (),
    rows: Any = lambda made: made,
    record: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Predictions, labels and folds of 30 clips of 6 participants in 3 folds; 20 predictions are right."""
    clips = [(f"p{p}_c{c}", f"p{p}", p % 3 + 1) for p in range(6) for c in range(5)]
    truth: dict[str, Any] = {
        clip: EMOTIONS[n % 6] if task == "emotion" else n / 29 for n, (clip, _, _) in enumerate(clips)
    }
    made = []
    for n, (clip, person, fold) in enumerate(clips):
        wrong = "neutral" if task == "emotion" else truth[clip] + 0.1
        prediction = wrong if n % 3 == 0 else truth[clip]
        made.append(
            {"clip": clip, "participant": person, "fold": fold, "prediction": prediction, "present": "face+eye"}
        )
        if task == "emotion":
            made[-1] |= {f"p_{name}": 0.7 if name == prediction else 0.05 for name in EMOTIONS}
    table = pa.Table.from_pylist(rows(made))
    if record is not None:
        table = table.replace_schema_metadata({"smad_record": json.dumps(record)})
    pq.write_table(table, folder / "predictions.parquet")
    (folder / "folds.tsv").write_text(
        "clip\tparticipant\tfold\n" + "".join(f"{c}\t{p}\t{f}\n" for c, p, f in clips), encoding="utf-8"
    )
    cells = {clip: "" if clip in unlabelled else truth[clip] for clip, _, _ in clips}
    (folder / "labels.tsv").write_text(
        f"clip\t{task}\n" + "".join(f"{clip}\t{cell}\n" for clip, cell in cells.items()) + f"gone\t{truth['p0_c0']}\n",
        encoding="utf-8",
    )
    return {
        "task": task,
        "predictions": folder / "predictions.parquet",
        "labels": folder / "labels.tsv",
        "folds": folder / "folds.tsv",
        "emotions": EMOTIONS,
        "output": folder / "scores" / f"{task}.json",
    }
