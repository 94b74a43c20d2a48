"""Plausible results of people who do not exist, from scores to agreement, for the tests of the report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from smad_models.agreement import agreement_text, measure_agreement
from smad_models.annotations import Annotation, Label, arrange
from smad_models.folds import update_folds
from smad_models.report import write_report
from smad_models.score import score_task

EMOTIONS = ["happiness", "sadness", "fear", "disgust", "surprise", "anger", "neutral"]
TASKS = ("emotion", "valence", "arousal", "intensity")
REASON = "eye recording <script>alert(1)</script>: no column 'Gaze point X' & more"
HIDDEN = ("face", "eye")  # modalities that were left out once


def name_clips(participants: int, clips: int) -> list[tuple[str, str]]:
    """(clip, participant), ``clips`` of each."""
    return [(f"P{p:03d}_C{c:02d}", f"P{p:03d}") for p in range(participants) for c in range(clips)]


def make_results(folder: Path, clips: Sequence[tuple[str, str]], *, bad: Sequence[int] = (7, 50, 51)) -> Path:
    """All tables that the report reads; the clips at ``bad`` are quarantined, the first for a reason of its own."""
    rng = np.random.default_rng(4)
    reasons = {clips[row][0]: "video a.mp4: not there" if row == bad[0] else REASON for row in bad}
    labels = {
        clip: (EMOTIONS[rng.integers(7)], rng.uniform(-1, 1), rng.uniform(-1, 1), rng.uniform(0, 3))
        for clip, _ in clips
    }
    lines = {"clips": "clip\tparticipant\tstatus\treason\tface\teye\n"}
    lines["quality"] = "clip\tstatus\tface_found\teye_observed\tsurplus\n"
    lines["labels"] = "clip\t" + "\t".join(TASKS) + "\n"
    for clip, participant in clips:
        status = "quarantined" if clip in reasons else "ok"
        lines["clips"] += f"{clip}\t{participant}\t{status}\t{reasons.get(clip, '')}\tok\tmissing\n"
        lines["quality"] += f"{clip}\t{status}\t{rng.integers(0, 9) / 8}\t{'' if clip in reasons else '0.9'}\tx\n"
        lines["labels"] += "\t".join(map(str, (clip, *labels[clip]))) + "\n"
    lines["quality_participants"] = "participant\tface_found\tgaze_observed\teye_longest_gap\n"
    lines["quality_participants"] += "".join(
        f"Q{number:03d}\t{0.9 if number else ''}\t{number / 10}\t{number}\n" for number in range(11)
    )
    for name, text in lines.items():
        (folder / f"{name}.tsv").write_text(text, encoding="utf-8")
    (folder / "cache.json").write_text(json.dumps({"digest": "d1ge57", "version": 1}), encoding="utf-8")
    (folder / "agreement.json").write_text(_agreement(labels), encoding="utf-8")
    rows = update_folds(
        manifest=folder / "clips.tsv", labels=folder / "labels.tsv", output=folder / "folds.tsv", count=5, seed=0
    )
    for number, task in enumerate(TASKS):
        for name, wrong in (("", 0.4), *((f"-{hidden}", 0.7) for hidden in HIDDEN)):
            made = []
            for row in rows:
                truth = labels[row.clip][number]
                made.append(row._asdict() | {"present": "face+eye+gaze"} | _predict(truth, rng, wrong=wrong))
            table = pa.Table.from_pylist(made)
            table = table.replace_schema_metadata({"smad_notes": json.dumps({"a": "beware of MAQT"})})
            pq.write_table(table, folder / f"{task}{name}.parquet")
        score_task(
            task=task,
            predictions=folder / f"{task}.parquet",
            labels=folder / "labels.tsv",
            folds=folder / "folds.tsv",
            emotions=EMOTIONS,
            output=folder / f"{task}.json",
        )
    return folder


def _predict(truth: Any, rng: np.random.Generator, *, wrong: float) -> dict[str, Any]:
    is_wrong = rng.random() < wrong
    if not isinstance(truth, str):
        return {"prediction": truth * 0.5 + 0.1 if is_wrong else truth}
    said = rng.integers(7) if is_wrong else EMOTIONS.index(truth)
    sure = rng.dirichlet(np.ones(7) * 0.5) * 0.6
    sure[said] = 1 - (sure.sum() - sure[said])
    return {"prediction": EMOTIONS[said]} | {f"p_{name}": p for name, p in zip(EMOTIONS, sure, strict=True)}


def _agreement(labels: dict[str, tuple[Any, ...]]) -> str:
    """What six annotators make of some of the clips, one of whom has a strange name."""
    rng = np.random.default_rng(5)
    who = {"self": "participant", "E<1>": "expert", "E2": "expert", "E3": "expert", "net": "model"}
    rows = []
    for clip, (emotion, valence, arousal, intensity) in list(labels.items())[:60]:
        for name, kind in who.items():
            said = emotion if rng.random() < 0.7 else EMOTIONS[rng.integers(7)]
            values = [float(value + rng.normal(0, 0.1)) for value in (intensity, valence, arousal)]
            rows.append(Annotation(clip, name, kind, Label(said, *values)))
    return agreement_text(measure_agreement(arrange(rows, emotions=EMOTIONS)))


def write(results: Path, output: Path, **changes: Any) -> str:
    """The page of these results, with other options where they are named."""
    wanted: dict[str, Any] = {
        "scores": [results / f"{task}.json" for task in TASKS],
        "predictions": [results / f"{task}.parquet" for task in TASKS],
        "labels": results / "labels.tsv",
        "manifest": results / "clips.tsv",
        "quality": results / "quality.tsv",
        "participants": results / "quality_participants.tsv",
        "cache_json": results / "cache.json",
        "cache": None,
        "output": output,
        "settings": {"tasks": list(TASKS), "face": {"size": 112}, "annotations": None},
        "versions": {"smad": "0.1.0"},
    }
    write_report(**{**wanted, **changes})
    return output.read_text(encoding="utf-8")


def everything(results: Path) -> dict[str, Any]:
    """The options with which the page has all its sections of aggregates."""
    return {
        "folds": results / "folds.tsv",
        "ablations": {(task, hidden): results / f"{task}-{hidden}.parquet" for task in TASKS for hidden in HIDDEN},
        "agreement": results / "agreement.json",
    }
