"""Scores from files: what is written, in which shape, and what cannot be scored."""

import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from scored_clips import close, write_files

from smad_models.score import score_task
from smad_models.scoreboard import print_scoreboard, write_scores_table


def test_a_task_is_scored_from_files_and_written_as_agreed(tmp_path: Path) -> None:
    files = write_files(tmp_path, unlabelled=("p0_c0", "p0_c1"))
    result = score_task(**files, key="abc")
    assert json.loads(files["output"].read_text(encoding="utf-8")) == result
    assert {"task", "protocols", "baselines", "provenance", "reasons", "confusion", "per_class"} <= set(result)
    assert result["clips"] == {
        "predicted": 30,
        "scored": 28,
        "unlabelled": 2,
        "participants": 6,
        "present": {"face+eye": 28},
    }
    assert result["protocols"]["pooled"]["war"]["value"] == close(19 / 28)
    assert len(result["protocols"]["fold"]["war"]["folds"]) == 3
    assert np.sum(result["confusion"]["matrix"]) == 28
    assert result["per_class"]["neutral"] == {"recall": None, "support": 0}
    assert result["reasons"]["per_class.neutral.recall"] == "no labelled clips"
    assert result["provenance"]["key"] == "abc"
    assert [path.name for path in files["output"].parent.iterdir()] == ["emotion.json"]


def test_a_task_without_any_label_is_all_null_with_the_reason(tmp_path: Path) -> None:
    everyone = tuple(f"p{p}_c{c}" for p in range(6) for c in range(5))
    for task in ("emotion", "valence"):
        result = score_task(**write_files(tmp_path, task=task, unlabelled=everyone))
        for metrics in (*result["protocols"].values(), *next(iter(result["baselines"].values())).values()):
            assert {row.get("mean", row.get("value")) for row in metrics.values()} == {None}
        assert result["reasons"]["fold.war" if task == "emotion" else "fold.mae"] == "no labelled clips"
        print_scoreboard([result], console=Console(file=io.StringIO()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: [*rows, rows[3]], "clip p0_c3: predicted twice"),
        (
            lambda rows: [{**row, "fold": 2} if row["clip"] == "p0_c3" else row for row in rows],
            "clip p0_c3: predicted as participant p0 in fold 2, but .* says participant p0 in fold 1",
        ),
        (
            lambda rows: [{**row, "participant": "p3"} if row["clip"] == "p0_c3" else row for row in rows],
            "clip p0_c3: predicted as participant p3",
        ),
        (lambda rows: [{**row, "clip": "x" + row["clip"]} for row in rows], "clip xp0_c0: is not in "),
        (lambda rows: rows[:-2], r"clip p5_c3: has a label and a fold but no prediction \(with 1 more\)"),
        (
            lambda rows: [{**rows[0], "prediction": "joy"}, *rows[1:]],
            "clip p0_c0: prediction 'joy' is none of happiness",
        ),
    ],
)
def test_predictions_that_do_not_fit_the_folds_are_refused_by_name(tmp_path: Path, change: Any, message: str) -> None:
    files = write_files(tmp_path, rows=change)
    with pytest.raises(ValueError, match=message):
        score_task(**files)
    assert not files["output"].exists()


def test_a_participant_in_two_folds_is_never_scored(tmp_path: Path) -> None:
    files = write_files(tmp_path)
    text = files["folds"].read_text(encoding="utf-8").replace("p0_c3\tp0\t1", "p0_c3\tp0\t2")
    files["folds"].write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="participant p0: in two folds"):
        score_task(**files)


def test_a_prediction_that_is_not_a_number_is_refused(tmp_path: Path) -> None:
    def spoil(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{**rows[0], "prediction": math.nan}, *rows[1:]]

    with pytest.raises(ValueError, match="clip p0_c0: the prediction is nan"):
        score_task(**write_files(tmp_path, task="valence", rows=spoil))


@pytest.mark.parametrize(("task", "cell"), [("emotion", "joy"), ("valence", "high"), ("valence", "inf")])
def test_a_label_that_makes_no_sense_is_refused_by_row_and_clip(tmp_path: Path, task: str, cell: str) -> None:
    files = write_files(tmp_path, task=task)
    with files["labels"].open("a", encoding="utf-8") as file:
        file.write(f"odd\t{cell}\n")
    with pytest.raises(ValueError, match=rf"labels.tsv: row 33: clip odd: {task}.*'{cell}'"):
        score_task(**files)


def test_the_table_holds_each_score_once_and_in_full(tmp_path: Path) -> None:
    results, paths = [], []
    for task in ("emotion", "valence"):
        files = write_files(tmp_path, task=task)
        results.append(score_task(**files))
        paths.append(files["output"])
    write_scores_table(paths, tmp_path / "scores.tsv")
    header, *lines = [line.split("\t") for line in (tmp_path / "scores.tsv").read_text(encoding="utf-8").splitlines()]
    assert header == ["task", "protocol", "metric", "mean", "sd", "value", "lo", "hi"]
    table = {tuple(line[:3]): line[3:] for line in lines}
    assert len(lines) == len(table) == 3 * (4 + 5)
    uar = results[0]["protocols"]
    assert [float(cell) for cell in table["emotion", "fold", "uar"][:2]] == [
        uar["fold"]["uar"][k] for k in ("mean", "sd")
    ]
    assert [float(cell) for cell in table["emotion", "pooled", "uar"][2:]] == [
        uar["pooled"]["uar"]["value"],
        *uar["pooled"]["uar"]["ci95"],
    ]
    assert table["valence", "published", "ccc"] == [""] * 5


def test_the_scoreboard_shows_headlines_of_all_protocols_and_the_baseline(tmp_path: Path) -> None:
    result = score_task(**write_files(tmp_path))
    out = io.StringIO()
    print_scoreboard([result], console=Console(file=out, width=120))
    line = next(line for line in out.getvalue().splitlines() if " war " in line)
    protocols = result["protocols"]
    for number in (
        protocols["fold"]["war"]["mean"],
        protocols["fold"]["war"]["sd"],
        protocols["pooled"]["war"]["ci95"][0],
        protocols["published"]["war"]["mean"],
        result["baselines"]["majority_class"]["fold"]["war"]["mean"],
    ):
        assert f"{number:.3f}" in line
