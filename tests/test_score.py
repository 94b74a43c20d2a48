"""Scores from files: what is written, in which shape, and what cannot be scored."""

import io
import json
import math
import re
import subprocess
import sys
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
    assert {"task", "clips", "protocols", "differences", "baselines", "leaks", "per_participant"} <= set(result)
    assert {"reasons", "provenance", "confusion", "per_class", "calibration", "polarity"} <= set(result)
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
    assert result["per_class"]["neutral"] == {
        "recall": None,
        "precision": 0,
        "f1": 0,
        "auroc": None,
        "support": 0,
        "predicted": 9,
    }
    assert result["reasons"]["per_class.neutral.recall"] == "no labelled clips"
    assert result["provenance"]["key"] == "abc"
    assert [path.name for path in files["output"].parent.iterdir()] == ["emotion.json"]


def test_a_task_without_any_label_is_all_null_with_the_reason(tmp_path: Path) -> None:
    everyone = tuple(f"p{p}_c{c}" for p in range(6) for c in range(5))
    for task in ("emotion", "valence"):
        result = score_task(**write_files(tmp_path, task=task, unlabelled=everyone))
        views = [result, result["polarity"]] if task == "emotion" else [result]
        for view in views:
            for protocols in (view["protocols"], *view["baselines"].values()):
                for metrics in protocols.values():
                    assert {row.get("mean", row.get("value")) for row in metrics.values()} == {None}
        assert result["reasons"]["fold.war" if task == "emotion" else "fold.mae"] == "no labelled clips"
        print_scoreboard([result], console=Console(file=io.StringIO()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
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
    # Two views of emotions and one of values, by three protocols, of predictions and a baseline.
    assert len(lines) == len(table) == (2 * 7 + 8) * 3 * 2
    uar = results[0]["protocols"]
    assert [float(cell) for cell in table["emotion", "fold", "uar"][:2]] == [
        uar["fold"]["uar"][k] for k in ("mean", "sd")
    ]
    assert [float(cell) for cell in table["emotion", "pooled", "uar"][2:]] == [
        uar["pooled"]["uar"]["value"],
        *uar["pooled"]["uar"]["ci95"],
    ]
    assert table["valence", "published", "ccc"] == [""] * 5
    row = results[0]["baselines"]["majority_class"]["fold"]["uar"]
    assert [float(cell) for cell in table["emotion", "fold:majority_class", "uar"][:2]] == [row["mean"], row["sd"]]
    row = results[0]["polarity"]["protocols"]["pooled"]["war"]
    assert float(table["emotion", "pooled", "polarity_war"][2]) == row["value"]


def linear_too(result: dict[str, Any]) -> dict[str, Any]:
    """As with a cache at hand, whose linear baseline is as wide as numbers can be."""
    base = json.loads(json.dumps(next(iter(result["baselines"].values()))))
    for row in base["fold"].values():
        row["mean"] = -0.1234
    return result | {"baselines": {**result["baselines"], "linear": base}}


def test_the_scoreboard_shows_headlines_of_all_protocols_and_both_baselines(tmp_path: Path) -> None:
    result = linear_too(score_task(**write_files(tmp_path)))
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
        -0.1234,
    ):
        assert f"{number:.3f}" in line
    assert f"emotion: {result['leaks']['sentence']}" in " ".join(out.getvalue().split())


def test_the_scoreboard_fits_a_terminal_of_80_columns_at_its_widest(tmp_path: Path) -> None:
    results = []
    for task in ("emotion", "valence"):
        one = linear_too(score_task(**write_files(tmp_path, task=task)))
        for metric, row in one["protocols"]["pooled"].items():
            row |= {"value": -0.123, "ci95": [-0.456, -0.123]}
            one["protocols"]["fold"][metric] |= {"mean": -0.123, "sd": 0.123}
        results.append(one | {"task": "intensity" if task == "valence" else task})
    out = io.StringIO()
    print_scoreboard(results, console=Console(file=out, width=80))
    assert max(map(len, out.getvalue().splitlines())) <= 80
    assert out.getvalue().count("-0.123 [-0.456,-0.123]") == 6
    assert out.getvalue().count("-0.123±0.123") == 6
    assert "\u2026" not in out.getvalue()


def test_the_scoreboard_is_printed_without_rich_and_without_scikit_learn(tmp_path: Path) -> None:
    files = write_files(tmp_path)
    score_task(**files)
    program = """
import sys
for name in ("rich", "sklearn", "scipy", "torch", "pandas", "tensorstore"):
    sys.modules[name] = None
from smad_models.cli import main
sys.exit(main(["score", "--show", sys.argv[1], *sys.argv[2:]]))
"""
    command = [sys.executable, "-c", program, str(files["output"])]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert re.search(r"^emotion +war +0\.667±0\.115 ", done.stdout, flags=re.M), done.stdout
    assert max(map(len, done.stdout.splitlines()[:8])) <= 80
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [json.loads(files["output"].read_text(encoding="utf-8"))]


def test_each_participant_has_what_a_few_clips_can_bear(tmp_path: Path) -> None:
    result = score_task(**write_files(tmp_path))
    assert set(result["per_participant"]) == {f"p{n}" for n in range(6)}
    assert result["per_participant"]["p1"] == {"fold": 2, "clips": 5, "war": close(3 / 5)}
    mean = np.average([row["war"] for row in result["per_participant"].values()], weights=[5] * 6)
    assert mean == close(result["protocols"]["pooled"]["war"]["value"])
    values = score_task(**write_files(tmp_path, task="valence"))["per_participant"]["p1"]
    assert values == {"fold": 2, "clips": 5, "mae": close(0.04), "bias": close(0.04)}


def test_the_interval_over_clips_stands_beside_that_over_participants(tmp_path: Path) -> None:
    result = score_task(**write_files(tmp_path))
    for row in result["protocols"]["pooled"].values():
        assert (row["ci95_clips"] is None) == (row["ci95"] is None)
    row = result["protocols"]["pooled"]["war"]
    assert row["ci95_clips"][0] < row["value"] < row["ci95_clips"][1]
    assert "ci95_clips" not in result["baselines"]["majority_class"]["pooled"]["war"]
    assert "too narrow" in result["provenance"]["bootstrap"]["note"]


def test_the_view_of_three_classes_has_scores_and_baselines_of_its_own(tmp_path: Path) -> None:
    result = score_task(**write_files(tmp_path))
    seen = result["polarity"]
    assert seen["left_out"] == ["surprise"]
    assert seen["clips"] == 25
    assert seen["confusion"]["labels"] == ["positive", "neutral", "negative", "other"]
    assert np.array(seen["confusion"]["matrix"]).shape == (3, 4)
    assert np.sum(seen["confusion"]["matrix"]) == 25
    assert set(seen["per_class"]) == {"positive", "neutral", "negative"}
    assert seen["baselines"]["majority_class"]["pooled"]["war"]["value"] == close(20 / 25)  # negative
    mapped = score_task(**write_files(tmp_path), polarity_of={"happiness": "positive", "surprise": "positive"})
    assert mapped["polarity"] is None
    assert mapped["reasons"]["polarity"] == "`score.polarity` puts these emotions into less than two classes"


def test_without_a_cache_the_linear_baseline_is_absent_with_the_reason(tmp_path: Path) -> None:
    result = score_task(**write_files(tmp_path))
    assert list(result["baselines"]) == ["majority_class"]
    assert result["reasons"]["baselines.linear"] == "no cache was at hand to summarise clips from"


@pytest.mark.parametrize(
    ("spoilt", "message"),
    [
        ({"p_fear": None}, "clip p0_c0: its probabilities, .* are not from 0 to 1"),
        ({"p_fear": -0.2}, "clip p0_c0: its probabilities, .* are not from 0 to 1"),
        ({"p_fear": 0.9}, "with a sum of 1"),
    ],
)
def test_probabilities_that_are_none_are_refused_by_clip(tmp_path: Path, spoilt: Any, message: str) -> None:
    files = write_files(tmp_path, rows=lambda rows: [rows[0] | spoilt, *rows[1:]])
    with pytest.raises(ValueError, match=message):
        score_task(**files)


def test_a_table_that_is_none_of_predictions_is_refused_by_name(tmp_path: Path) -> None:
    files = write_files(tmp_path, rows=lambda rows: [{k: v for k, v in row.items() if k != "p_fear"} for row in rows])
    with pytest.raises(ValueError, match=r"has p_happiness but no column `p_fear`"):
        score_task(**files)
    files["predictions"].write_bytes(b"PAR1 no more")
    with pytest.raises(ValueError, match=r"predictions\.parquet: not a Parquet table"):
        score_task(**files)
