"""Metrics and protocols: golden numbers of the published scripts, SciPy's tests, closed forms, and numbers by hand."""

import json
import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.metrics as sk
from scipy import stats
from scored_clips import EMOTIONS, close, some_scored

from smad_models.calibration import reliability
from smad_models.metrics import Scored, class_metrics, confusion, emotion_metrics, value_metrics
from smad_models.polarity import DEFAULT, choose_groups, view
from smad_models.protocols import explain_differences, published_metrics, score_protocols

GOLDEN_NAMES = {"war": "war", "uar": "uar", "f1": "f1_weighted", "mae": "mae", "mse": "mse", "rmse": "rmse"}


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
    if task != "emotion":  # computed by the published scripts, and never printed: it has no place among batches
        assert ours["fold"]["r2"]["folds"] == close([fold["r2"] for fold in expected["whole_fold"]["folds"]])
        assert ours["pooled"]["r2"]["value"] == close(expected["pooled"]["r2"])


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
        clips = Scored(truth, prediction, np.ones_like(truth), truth.astype(str))
        batches, _ = published_metrics(clips, 7)
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
    for metric in ours["fold"]:
        assert ours["fold"][metric]["folds"] == close(other["fold"][metric]["folds"])
        assert ours["pooled"][metric]["value"] == close(other["pooled"][metric]["value"])
        assert ours["pooled"][metric]["ci95"] == close(other["pooled"][metric]["ci95"])
    assert ours["published"]["uar"] != other["published"]["uar"]


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
    assert reasons == dict.fromkeys(("ccc", "pearson", "spearman", "r2"), "the truth is one constant")
    assert value_metrics(steady, steady)[0]["ccc"] is None
    # A constant prediction of a moving truth has earned its 0.
    values, reasons = value_metrics(moving, steady)
    assert values["ccc"] == 0
    assert values["pearson"] is None
    assert values["r2"] is not None
    assert reasons == dict.fromkeys(("pearson", "spearman"), "the prediction is one constant")
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


def test_rank_correlation_determination_and_bias_are_the_closed_forms() -> None:
    clips = some_scored(values=True)
    t, p = clips.truth, clips.prediction
    values, _ = value_metrics(t, p)
    assert values["r2"] == close(1 - ((p - t) ** 2).sum() / ((t - t.mean()) ** 2).sum())
    assert values["bias"] == close(p.mean() - t.mean())
    assert len(np.unique(t)) < len(t)  # ties, which have their mean rank
    assert values["spearman"] == close(np.corrcoef(stats.rankdata(t), stats.rankdata(p))[0, 1])
    # C. Spearman's formula without ties, by hand: ranks 1 2 3 4 5 against 2 1 4 3 5, sum of squares 4.
    ranks = value_metrics(np.array([1.0, 2, 3, 4, 5]), np.array([20.0, 10, 40, 30, 500]))[0]["spearman"]
    assert ranks == close(1 - 6 * 4 / (5 * 24))


def test_kappa_is_the_textbooks() -> None:
    # Two readers of 50 grant proposals: 20 yes-yes, 5 yes-no, 10 no-yes, 15 no-no: 0.7 agreed, 0.5 expected.
    truth = np.repeat([1, 1, 0, 0], [20, 5, 10, 15])
    prediction = np.repeat([1, 0, 1, 0], [20, 5, 10, 15])
    assert emotion_metrics(truth, prediction)[0]["kappa"] == close((0.7 - 0.5) / (1 - 0.5))
    values, reasons = emotion_metrics(np.ones(4, dtype=int), np.ones(4, dtype=int))
    assert values["kappa"] is None
    assert "one and the same class" in reasons["kappa"]
    assert values["war"] == 1


def test_recall_precision_and_f1_are_those_of_the_confusion_table() -> None:
    clips = some_scored(values=False)
    table = np.array(confusion(clips, 7))
    assert table.sum() == len(clips.truth)
    per_class, reasons = class_metrics(clips, EMOTIONS)
    assert not reasons
    tp, support, predicted = np.diag(table), table.sum(axis=1), table.sum(axis=0)
    for c, name in enumerate(EMOTIONS):
        row = per_class[name]
        assert (row["support"], row["predicted"]) == (support[c], predicted[c])
        assert row["recall"] == close(tp[c] / support[c])
        assert row["precision"] == close(tp[c] / predicted[c])
        assert row["f1"] == close(2 * tp[c] / (support[c] + predicted[c]))
    values, _ = emotion_metrics(clips.truth, clips.prediction)
    assert values["uar"] == close(sk.balanced_accuracy_score(clips.truth, clips.prediction))
    assert values["f1_macro"] == close(np.mean([row["f1"] for row in per_class.values()]))
    assert values["f1_weighted"] == close(np.average([row["f1"] for row in per_class.values()], weights=support))
    p_o, p_e = tp.sum() / 210, (support * predicted).sum() / 210**2
    assert values["kappa"] == close((p_o - p_e) / (1 - p_e))


def test_the_area_under_the_curve_is_mann_and_whitneys_u() -> None:
    clips = some_scored(values=False)
    assert clips.probabilities is not None
    areas = []
    for c in range(7):
        score, own = clips.probabilities[:, c], clips.truth == c
        assert len(np.unique(score)) < len(score)  # ties count half
        areas.append(stats.mannwhitneyu(score[own], score[~own]).statistic / (own.sum() * (~own).sum()))
    values, _ = emotion_metrics(clips.truth, clips.prediction, clips.probabilities)
    assert values["auroc"] == close(np.mean(areas))
    per_class, _ = class_metrics(clips, EMOTIONS)
    assert [per_class[name]["auroc"] for name in EMOTIONS] == close(areas)


def test_the_calibration_error_is_the_definitions() -> None:
    clips = some_scored(values=False)
    assert clips.probabilities is not None
    confidence = clips.probabilities[np.arange(210), clips.prediction]
    error = 0.0
    for m in range(15):  # C. Guo et al. (2017), equations 1 to 3: I_m = ((m - 1) / M, m / M]
        inside = (confidence > m / 15) & (confidence <= (m + 1) / 15)
        if inside.any():
            right = (clips.prediction == clips.truth)[inside].mean()
            error += inside.sum() / 210 * abs(right - confidence[inside].mean())
    values, _ = emotion_metrics(clips.truth, clips.prediction, clips.probabilities)
    assert values["ece"] == close(error)
    bins = reliability(clips.truth, clips.prediction, clips.probabilities)
    assert sum(row["clips"] for row in bins) == 210
    weighted = [row["clips"] / 210 * abs(row["accuracy"] - row["confidence"]) for row in bins if row["clips"]]
    assert sum(weighted) == close(error)
    assert all(row["accuracy"] is None for row in bins if not row["clips"])
    # By hand: two clips of confidence 0.9, one right; one of 0.6, right. (2/3) 0.4 + (1/3) 0.4.
    sure = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6]])
    assert emotion_metrics(np.array([0, 1, 1]), np.array([0, 0, 1]), sure)[0]["ece"] == close(0.4)


def test_what_probabilities_are_needed_for_is_undefined_without_them() -> None:
    values, reasons = emotion_metrics(np.array([0, 1]), np.array([0, 1]))
    assert values["auroc"] is None
    assert values["ece"] is None
    assert reasons == dict.fromkeys(("auroc", "ece"), "the predictions hold no probabilities")
    sure = np.array([[0.9, 0.1], [0.8, 0.2]])
    values, reasons = emotion_metrics(np.array([0, 0]), np.array([0, 0]), sure)
    assert values["auroc"] is None
    assert reasons["auroc"] == "all clips are of one class"


def test_a_class_without_clips_or_predictions_has_reasons_instead_of_zeros() -> None:
    sure = np.full((4, 3), 1 / 3)
    clips = Scored(np.array([0, 0, 1, 1]), np.array([0, 0, 0, 0]), np.ones(4), np.array(list("abcd")), sure)
    table, reasons = class_metrics(clips, ["one", "two", "three"])
    assert table["two"] == {"recall": 0, "precision": None, "f1": 0, "auroc": 0.5, "support": 2, "predicted": 0}
    assert table["three"] == {
        **dict.fromkeys(("recall", "precision", "f1", "auroc")),
        "support": 0,
        "predicted": 0,
    }
    assert set(reasons) == {"two.precision", *(f"three.{name}" for name in ("recall", "precision", "f1", "auroc"))}


def test_three_classes_are_seen_as_the_mapping_says() -> None:
    clips = some_scored(values=False)
    assert clips.probabilities is not None
    of = choose_groups(EMOTIONS)
    assert of == DEFAULT
    seen, rows, names = view(clips, EMOTIONS, of)
    assert names == ["positive", "neutral", "negative", "other"]
    assert [EMOTIONS[code] for code in np.unique(np.delete(clips.truth, rows))] == ["surprise"]
    for number, row in enumerate(rows):
        group = of[EMOTIONS[clips.truth[row]]]
        assert names[seen.truth[number]] == group
        assert names[seen.prediction[number]] == of.get(EMOTIONS[clips.prediction[row]], "other")
    assert seen.probabilities is not None
    negative = [EMOTIONS.index(name) for name in ("sadness", "fear", "disgust", "anger")]
    assert seen.probabilities[:, 2] == close(clips.probabilities[rows][:, negative].sum(axis=1))
    assert seen.probabilities.sum(axis=1) == close(np.ones(len(rows)))
    # A prediction of what is left out is right for nobody.
    values, _ = emotion_metrics(seen.truth, seen.prediction)
    assert values["war"] == close(np.mean(seen.truth == seen.prediction))
    assert (seen.prediction[seen.truth == seen.prediction] < 3).all()
    with pytest.raises(ValueError, match="'joy' is none of happiness"):
        choose_groups(EMOTIONS, {"joy": "positive"})
    with pytest.raises(ValueError, match="happiness: 'good' is none of positive, neutral, negative"):
        choose_groups(EMOTIONS, {"happiness": "good"})


@pytest.mark.parametrize("task", ["emotion", "valence"])
def test_the_sentence_on_the_protocols_holds_their_numbers(task: str) -> None:
    protocols, _ = score_protocols(
        some_scored(values=task != "emotion"), folds=[1, 2, 3], classes=7 if task == "emotion" else None
    )
    said = explain_differences(protocols, task=task)
    numbers = [protocols["fold"][said["metric"]]["mean"], protocols["pooled"][said["metric"]]["value"]]
    numbers.append(protocols["published"][said["metric"]]["mean"])
    assert [said["fold"], said["pooled"], said["published"]] == numbers
    assert all(f"{number:.3f}" in said["sentence"] for number in (*numbers, max(numbers) - min(numbers)))
    nothing, _ = score_protocols(some_scored(values=True).at(np.empty(0, dtype=int)), folds=[1])
    assert "here RMSE" not in explain_differences(nothing, task="valence")["sentence"]
