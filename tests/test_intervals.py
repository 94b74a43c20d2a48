"""Intervals by bootstrap: each draw scored as the metrics do, textbook widths, and how often they hold the truth."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scored_clips import close, some_scored

from smad_models.intervals import (
    Over,
    bootstrap,
    draw_weights,
    emotion_sums,
    emotion_values,
    interval,
    value_sums,
    value_values,
)
from smad_models.metrics import Scored, measure
from smad_models.protocols import score_protocols


@pytest.mark.parametrize("values", [False, True])
@pytest.mark.parametrize("over", ["participants", "clips"])
def test_each_draw_of_participants_or_clips_is_scored_as_the_metrics_do(values: bool, over: Over) -> None:
    clips = some_scored(values=values)
    if clips.probabilities is not None:  # an eighth emotion, which nobody has
        clips = replace(clips, probabilities=np.pad(clips.probabilities, ((0, 0), (0, 1))))
    classes = None if values else 8
    draws = bootstrap(clips, classes=classes, over=over)
    unit = clips.participant if over == "participants" else np.arange(len(clips.truth)).astype(str)
    rows_of = [np.flatnonzero(unit == name) for name in dict.fromkeys(sorted(unit, key=str))]
    if over == "clips":
        rows_of = [np.array([row]) for row in range(len(clips.truth))]
    units = len(rows_of)
    weights = np.random.default_rng(0).multinomial(units, np.full(units, 1 / units), size=2000)
    for draw in (0, 1, 1999):
        rows = np.concatenate([np.tile(own, w) for own, w in zip(rows_of, weights[draw], strict=True)])
        expected, reasons = measure(clips.at(rows), classes)
        assert not reasons
        assert set(expected) == set(draws)
        for metric, value in expected.items():
            assert draws[metric][draw] == close(value)


def test_draws_are_the_same_whatever_the_blocks() -> None:
    whole = next(draw_weights(30, block=2000))
    assert (np.concatenate(list(draw_weights(30, block=7))) == whole).all()
    assert (whole.sum(axis=1) == 30).all()


def test_a_metric_that_most_draws_cannot_have_gets_no_interval() -> None:
    assert interval(np.r_[np.full(101, np.nan), np.ones(1899)]) == (None, 101)
    assert interval(np.r_[np.full(100, np.nan), np.ones(1900)]) == ([1.0, 1.0], 100)
    # Nine in ten clips are of one person, of one class: in every third draw nobody else is drawn.
    truth = np.r_[np.zeros(9, dtype=int), 1]
    clips = Scored(truth, truth, np.ones(10), np.array(list("aaaaaaaaab")), np.eye(2)[truth])
    protocols, reasons = score_protocols(clips, folds=[1], classes=2)
    assert protocols["pooled"]["auroc"] == {"value": 1.0, "ci95": None}
    assert reasons["pooled.auroc.ci95"].startswith("undefined in ")


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


# ---- coverage: 2,000 studies of 121 participants, whose own skill makes their clips alike

STUDIES, PEOPLE, CLIPS = 2000, 121, 11
SKILL = 0.12  # standard deviation of the share that is right, from person to person
RECALL = np.array([0.75, 0.6, 0.5])  # of three emotions
SLOPE, SHARED, OWN = 0.6, 0.25, 0.3  # of a regressor: its slope, the deviation of a person's bias, of a clip's error


def emotion_study(rng: np.random.Generator) -> Scored:
    """Each person's recalls are the population's plus one deviation; who is wrong takes either of the others."""
    truth = rng.integers(0, 3, PEOPLE * CLIPS)
    person = np.repeat(np.arange(PEOPLE), CLIPS)
    # Uniform, so that no share leaves 0 to 1, where cutting would move the mean.
    skill = rng.uniform(-1, 1, PEOPLE) * SKILL * math.sqrt(3)
    right = rng.random(len(truth)) < RECALL[truth] + skill[person]
    prediction = np.where(right, truth, (truth + rng.integers(1, 3, len(truth))) % 3)
    return Scored(truth, prediction, np.ones_like(truth), person)


def value_study(rng: np.random.Generator) -> Scored:
    """Each person is taken for more or less positive than they are, by an own amount."""
    person = np.repeat(np.arange(PEOPLE), CLIPS)
    truth = rng.uniform(-1, 1, PEOPLE * CLIPS)
    prediction = SLOPE * truth + SHARED * rng.normal(size=PEOPLE)[person] + OWN * rng.normal(size=len(truth))
    return Scored(truth, prediction, np.ones(len(truth), dtype=int), person)


def emotion_truth() -> dict[str, float]:
    """What the metrics are of endlessly many participants."""
    table = np.full((3, 3), 0.0)
    for emotion, recall in enumerate(RECALL):
        table[emotion] = (1 - recall) / 2
        table[emotion, emotion] = recall
    found = emotion_values(np.concatenate([table.reshape(1, 9), np.zeros((1, 15))], axis=1), 3)
    assert found["uar"] == close(RECALL.mean())
    return {name: float(value[0]) for name, value in found.items()}


def value_truth() -> dict[str, float]:
    moment, noise = 1 / 3, SHARED**2 + OWN**2  # of a uniform truth; of the error
    predicted, covariance = SLOPE**2 * moment + noise, SLOPE * moment
    mse = (1 - SLOPE) ** 2 * moment + noise
    return {
        "mse": mse,
        "rmse": math.sqrt(mse),
        "ccc": 2 * covariance / (moment + predicted),
        "pearson": covariance / math.sqrt(moment * predicted),
        "r2": 1 - mse / moment,
        "bias": 0.0,
    }


def coverage(kind: str, over: Over, metrics: dict[str, float]) -> dict[str, float]:
    """How often the interval of each metric holds its truth; the draws are those of every study of its size."""
    units = PEOPLE if over == "participants" else PEOPLE * CLIPS
    weights = np.concatenate(list(draw_weights(units)))
    hits = dict.fromkeys(metrics, 0)
    rng = np.random.default_rng(11)
    studies = STUDIES if over == "participants" else STUDIES // 4
    for _ in range(studies):
        clips = emotion_study(rng) if kind == "emotion" else value_study(rng)
        unit = clips.participant if over == "participants" else np.arange(PEOPLE * CLIPS)
        if kind == "emotion":
            draws = emotion_values(weights @ emotion_sums(clips, unit, units, 3), 3)
        else:
            draws = value_values(weights @ value_sums(clips, unit, units), 1e-12)
        for metric, truth in metrics.items():
            ends, undefined = interval(draws[metric])
            assert ends is not None
            assert not undefined
            hits[metric] += ends[0] <= truth <= ends[1]
    return {metric: count / studies for metric, count in hits.items()}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["emotion", "value"])
def test_intervals_over_participants_hold_the_truth_as_often_as_they_say_and_those_over_clips_do_not(kind: str) -> None:
    truth = emotion_truth() if kind == "emotion" else value_truth()
    wanted = ("war", "uar", "f1_weighted", "f1_macro", "kappa") if kind == "emotion" else tuple(truth)
    found = coverage(kind, "participants", {name: truth[name] for name in wanted})
    assert all(0.925 <= share <= 0.97 for share in found.values()), found
    shared = ("war", "uar", "f1_weighted", "kappa") if kind == "emotion" else ("mse", "rmse", "pearson", "bias")
    narrow = coverage(kind, "clips", {name: truth[name] for name in shared})
    assert all(share < 0.925 for share in narrow.values()), narrow
