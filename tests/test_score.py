"""Scores: golden numbers of the published scripts, scikit-learn, SciPy, closed forms, and the guard against leaks."""

import io
import json
import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sklearn.metrics as sk
from rich.console import Console
from scipy import stats

from smad_models.baselines import constant
from smad_models.intervals import bootstrap
from smad_models.metrics import Scored, emotion_metrics, value_metrics
from smad_models.protocols import published_metrics, score_protocols
from smad_models.score import score_task
from smad_models.scoreboard import print_scoreboard, write_scores_table

EMOTIONS = ["happiness", "sadness", "fear", "disgust", "surprise", "anger", "neutral"]
GOLDEN_NAMES = {"war": "war", "uar": "uar", "f1": "f1_weighted", "mae": "mae", "mse": "mse", "rmse": "rmse"}


def close(wanted: Any) -> Any:
    return pytest.approx(wanted, rel=0, abs=1e-12)


@pytest.fixture(scope="session")
def golden(shared: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    folder = shared / "maqt" / "golden"
    with np.load(folder / "scoring.npz") as arrays:
        return json.loads((folder / "scoring.json").read_text(encoding="utf-8")), dict(arrays)


def golden_clips(arrays: dict[str, np.ndarray], task: str, *, permuted: bool = False) -> Scored:
    parts = []
    for fold in range(1, 6):
        truth, prediction = arrays[f"fold{fold}_{task}"], arrays[f"fold{fold}_{task}_pred"]
        order = arrays[f"fold{fold}_perm"] if permuted else np.arange(len(truth))
        dtype = np.int64 if task == "emotion" else np.float64
        parts.append((truth[order].astype(dtype), prediction[order].astype(dtype), np.full(len(truth), fold)))
    truth, prediction, fold_of = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Scored(truth, prediction, fold_of, np.char.add("p", (np.arange(len(truth)) // 11).astype(str)))


@pytest.mark.parametrize("task", ["emotion", "valence", "arousal", "intensity"])
def test_all_three_protocols_reach_the_golden_numbers(
    golden: tuple[dict[str, Any], dict[str, np.ndarray]], task: str
) -> None:
    expected, arrays = golden[0]["expected"][task], golden[1]
    classes = 7 if task == "emotion" else None
    ours, _ = score_protocols(golden_clips(arrays, task), folds=range(1, 6), classes=classes)
    moved, _ = score_protocols(golden_clips(arrays, task, permuted=True), folds=range(1, 6), classes=classes)
    compared = 0
    for theirs, protocol in (
        ("per_batch", ours["published"]),
        ("whole_fold", ours["fold"]),
        ("per_batch_permuted", moved["published"]),
    ):
        for name, metric in GOLDEN_NAMES.items():
            # Over whole folds our recall averages over classes of the truth: what the golden file calls so.
            source = "uar_present_only" if (name, theirs) == ("uar", "whole_fold") else name
            if source in expected[theirs]["mean"]:
                assert protocol[metric]["mean"] == close(expected[theirs]["mean"][source])
                assert protocol[metric]["folds"] == close([f[source] for f in expected[theirs]["folds"]])
                assert ours["pooled"][metric]["value"] == close(expected["pooled"][source])
                compared += 1
    assert compared == 9


@pytest.mark.parametrize("task", ["emotion", "valence", "arousal", "intensity"])
def test_every_single_batch_reaches_its_golden_numbers(
    golden: tuple[dict[str, Any], dict[str, np.ndarray]], task: str
) -> None:
    clips = golden_clips(golden[1], task)
    measure = partial(emotion_metrics, union=True) if task == "emotion" else value_metrics
    for fold, batches in enumerate(golden[0]["per_batch_values"][task], start=1):
        rows = np.flatnonzero(clips.fold == fold)
        for number in range(math.ceil(len(rows) / 16)):
            batch = clips.at(rows[16 * number : 16 * number + 16])
            values, _ = measure(batch.truth, batch.prediction)
            for name, metric in GOLDEN_NAMES.items():
                if name in batches:
                    assert values[metric] == close(batches[name][number])


def test_hand_size_cases_reach_the_golden_numbers(golden: tuple[dict[str, Any], dict[str, np.ndarray]]) -> None:
    for case in golden[0]["edge_single_batches"]:
        truth, prediction = np.array(case["y_true"]), np.array(case["y_pred"])
        published, _ = emotion_metrics(truth, prediction, union=True)
        assert published["uar"] == close(case["uar"])
        assert published["war"] == close(case["war"])
        assert published["f1_weighted"] == close(case["f1"])
        assert emotion_metrics(truth, prediction)[0]["uar"] == close(case["uar_present_only"])
    for case in golden[0]["small_two_protocol"]:
        truth, prediction = np.array(case["y_true"]), np.array(case["y_pred"])
        batches, _ = published_metrics(truth, prediction, measure=emotion_metrics)
        assert batches["uar"] == close(case["per_batch"]["uar"])
        assert batches["f1_weighted"] == close(case["per_batch"]["f1"])
        whole, _ = emotion_metrics(truth, prediction)
        assert whole["uar"] == close(case["whole"]["uar_present_only"])
        assert whole["war"] == close(case["whole"]["war"])


def test_only_the_published_protocol_depends_on_the_order_of_clips() -> None:
    clips = some_scored(values=False)
    turned = clips.at(np.arange(len(clips.truth))[::-1])
    ours, _ = score_protocols(clips, folds=[1, 2, 3], classes=7)
    other, _ = score_protocols(turned, folds=[1, 2, 3], classes=7)
    assert ours["fold"] == other["fold"]
    assert ours["pooled"] == other["pooled"]
    assert ours["published"]["uar"] != other["published"]["uar"]


def some_scored(*, values: bool, n: int = 210, seed: int = 5) -> Scored:
    rng = np.random.default_rng(seed)
    people = np.arange(n) // 7
    fold, names = people % 3 + 1, np.char.add("P", people.astype(str))
    if values:
        level = rng.uniform(-1, 1, n)
        return Scored(level, 0.6 * level + rng.normal(0.1, 0.3, n), fold, names)
    emotion = rng.integers(0, 7, n)
    return Scored(emotion, np.where(rng.random(n) < 0.5, emotion, rng.integers(0, 7, n)), fold, names)


def test_concordance_is_lins_closed_form_and_correlation_is_scipys() -> None:
    clips = some_scored(values=True)
    values, reasons = value_metrics(clips.truth, clips.prediction)
    r = stats.pearsonr(clips.truth, clips.prediction).statistic
    sx, sy = np.std(clips.truth), np.std(clips.prediction)  # 1/n moments
    closed = 2 * r * sx * sy / (sx**2 + sy**2 + (clips.truth.mean() - clips.prediction.mean()) ** 2)
    assert values["ccc"] == close(closed)
    assert values["pearson"] == close(r)
    assert values["rmse"] == close(sk.root_mean_squared_error(clips.truth, clips.prediction))
    assert not reasons
    # By hand: means 2 and 2, variances 2/3 and 2/3, covariance 1/3.
    assert value_metrics(np.array([1.0, 2, 3]), np.array([1.0, 3, 2]))[0]["ccc"] == close(0.5)


def test_what_is_undefined_is_none_with_its_reason_and_never_zero() -> None:
    steady, moving = np.full(4, 0.5), np.array([0.1, 0.2, 0.3, 0.4])
    values, reasons = value_metrics(steady, moving)
    assert values["ccc"] is None
    assert values["pearson"] is None
    assert reasons == {"ccc": "the truth is one constant", "pearson": "the truth is one constant"}
    assert value_metrics(steady, steady)[0]["ccc"] is None
    # A constant prediction of a moving truth has earned its 0.
    values, reasons = value_metrics(moving, steady)
    assert values["ccc"] == 0
    assert values["pearson"] is None
    assert reasons == {"pearson": "the prediction is one constant"}
    for measure in (emotion_metrics, value_metrics):
        values, reasons = measure(np.empty(0, dtype=int), np.empty(0, dtype=int))
        assert set(values.values()) == {None}
        assert set(reasons) == set(values)


def test_a_fold_without_labels_leaves_the_mean_undefined_and_says_which() -> None:
    clips = some_scored(values=True)
    protocols, reasons = score_protocols(clips, folds=[1, 2, 3, 4])
    assert protocols["fold"]["mae"]["folds"][3] is None
    assert protocols["fold"]["mae"]["mean"] is None
    assert protocols["fold"]["mae"]["sd"] is None
    assert reasons["fold.mae.fold4"] == "no labelled clips"
    assert protocols["pooled"]["mae"]["value"] is not None


def test_the_spread_over_folds_divides_by_folds_less_one() -> None:
    protocols, _ = score_protocols(some_scored(values=False), folds=[1, 2, 3], classes=7)
    row = protocols["fold"]["war"]
    assert row["sd"] == close(np.std(row["folds"], ddof=1))


@pytest.mark.parametrize("values", [False, True])
def test_the_bootstrap_draws_whole_participants_and_scores_each_draw_as_the_metrics_do(values: bool) -> None:
    clips = some_scored(values=values)
    draws = bootstrap(clips, classes=None if values else 8)  # an eighth emotion, which nobody has
    people, rows_of = np.unique(clips.participant), {}
    for person in people:
        rows_of[person] = np.flatnonzero(clips.participant == person)
    weights = np.random.default_rng(0).multinomial(len(people), np.full(len(people), 1 / len(people)), size=2000)
    for draw in (0, 1, 1999):
        rows = np.concatenate([np.tile(rows_of[p], w) for p, w in zip(people, weights[draw], strict=True)])
        expected, _ = (value_metrics if values else emotion_metrics)(clips.truth[rows], clips.prediction[rows])
        for metric, value in expected.items():
            assert draws[metric][draw] == close(value)


def test_the_interval_of_an_accuracy_is_near_the_textbooks() -> None:
    rng = np.random.default_rng(2)
    right = rng.random(900) < 0.7
    clips = Scored(np.ones(900, dtype=int), right.astype(int), np.ones(900, dtype=int), np.arange(900).astype(str))
    lo, hi = score_protocols(clips, folds=[1], classes=2)[0]["pooled"]["war"]["ci95"]
    half = 1.96 * math.sqrt(right.mean() * (1 - right.mean()) / 900)  # normal approximation, independent clips
    assert (lo, hi) == pytest.approx((right.mean() - half, right.mean() + half), abs=0.005)


def test_one_participant_has_a_value_but_no_interval() -> None:
    clips = some_scored(values=True)
    alone = Scored(clips.truth, clips.prediction, np.ones_like(clips.fold), np.full_like(clips.participant, "P1"))
    protocols, reasons = score_protocols(alone, folds=[1])
    assert protocols["pooled"]["mae"]["value"] is not None
    assert protocols["pooled"]["mae"]["ci95"] is None
    assert reasons["pooled.mae.ci95"].startswith("one participant only")
    assert protocols["fold"]["mae"]["sd"] is None


def test_baselines_learn_from_the_other_folds_only() -> None:
    truth = np.array([0, 0, 0, 1, 1, 2])
    clips = Scored(truth, truth, np.array([1, 1, 1, 2, 2, 2]), np.array(list("aaabbb")))
    assert constant(clips, classes=3).prediction.tolist() == [1, 1, 1, 0, 0, 0]
    values = Scored(truth / 1.0, truth / 1.0, clips.fold, clips.participant)
    assert constant(values, classes=None).prediction.tolist() == close([4 / 3] * 3 + [0] * 3)


# ---- files


def write_files(
    folder: Path, *, task: str = "emotion", unlabelled: tuple[str, ...] = (), rows: Any = lambda made: made
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
    pq.write_table(pa.Table.from_pylist(rows(made)), folder / "predictions.parquet")
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
