"""Baselines: what needs no input, and a linear model on simple summaries, both blind to the fold that they predict."""

from pathlib import Path

import numpy as np
import pytest
from model_fixtures import draw_arrays, draw_labels, name_clips, write_cache
from scored_clips import close, some_scored

from smad_models.baselines import constant, linear, summarise
from smad_models.dataset import open_cache
from smad_models.metrics import Scored


def test_baselines_learn_from_the_other_folds_only() -> None:
    truth = np.array([0, 0, 0, 1, 1, 2])
    clips = Scored(truth, truth, np.array([1, 1, 1, 2, 2, 2]), np.array(list("aaabbb")))
    assert constant(clips, classes=3).prediction.tolist() == [1, 1, 1, 0, 0, 0]
    values = Scored(truth / 1.0, truth / 1.0, clips.fold, clips.participant)
    assert constant(values, classes=None).prediction.tolist() == close([4 / 3] * 3 + [0] * 3)


def test_the_majority_class_has_the_other_folds_frequencies_as_its_probabilities() -> None:
    truth = np.array([0, 0, 0, 1, 1, 2])
    clips = Scored(truth, truth, np.array([1, 1, 1, 2, 2, 2]), np.array(list("aaabbb")))
    sure = constant(clips, classes=3).probabilities
    assert sure is not None
    assert sure[0] == close([0, 2 / 3, 1 / 3])
    assert sure[5] == close([1, 0, 0])


def test_the_linear_baseline_of_values_is_ridge_in_closed_form_on_standardised_summaries() -> None:
    clips = some_scored(values=True)
    rng = np.random.default_rng(3)
    summaries = 40 + 7 * rng.normal(size=(210, 5)) + clips.truth[:, None]
    summaries[rng.random(summaries.shape) < 0.1] = np.nan
    found = linear(clips, summaries, classes=None)
    for fold in (1, 2, 3):
        here = clips.fold == fold
        x = np.where(np.isnan(summaries), np.nanmean(summaries[~here], axis=0), summaries)
        x = (x - x[~here].mean(axis=0)) / x[~here].std(axis=0)
        known, truth = x[~here], clips.truth[~here]
        weights = np.linalg.solve(known.T @ known + np.eye(5), known.T @ (truth - truth.mean()))
        assert found.prediction[here] == pytest.approx(truth.mean() + x[here] @ weights, abs=1e-9)


def test_the_linear_baseline_of_emotions_minimises_the_penalised_loss_and_gives_probabilities() -> None:
    clips = some_scored(values=False)
    rng = np.random.default_rng(3)
    summaries = rng.normal(size=(210, 3)) + np.eye(7)[clips.truth][:, :3]
    found = linear(clips, summaries, classes=8)  # an eighth emotion, which nobody has
    assert found.probabilities is not None
    assert found.probabilities.sum(axis=1) == close(np.ones(210))
    assert (found.probabilities[:, 7] == 0).all()
    assert (found.prediction == found.probabilities.argmax(axis=1)).all()
    assert np.mean(found.prediction == clips.truth) > 0.25  # chance is 1/7
    # At the minimum of the loss the residuals are orthogonal to the constant: mean probabilities are frequencies.
    here = clips.fold == 1
    within = linear(
        Scored(*(np.r_[part[~here], part[~here]] for part in (clips.truth, clips.truth)),
               np.repeat([1, 2], (~here).sum()), np.r_[clips.participant[~here], clips.participant[~here]]),
        np.r_[summaries[~here], summaries[~here]], classes=7,
    )  # fmt: skip
    assert within.probabilities is not None
    frequencies = np.bincount(clips.truth[~here], minlength=7) / (~here).sum()
    assert within.probabilities[: (~here).sum()].mean(axis=0) == pytest.approx(frequencies, abs=1e-3)


@pytest.mark.parametrize("values", [False, True])
def test_what_a_fold_looks_like_never_touches_how_it_is_predicted_from(values: bool) -> None:
    clips = some_scored(values=values)
    classes = None if values else 7
    summaries = np.random.default_rng(3).normal(size=(210, 4))
    before = linear(clips, summaries, classes=classes)
    here = clips.fold == 2
    truth = clips.truth.copy()
    truth[here] = truth[here][::-1]
    moved = summaries.copy()
    moved[here] = 1000 + 50 * moved[here]
    moved[np.flatnonzero(here)[0]] = summaries[np.flatnonzero(here)[0]]
    after = linear(Scored(truth, clips.prediction, clips.fold, clips.participant), moved, classes=classes)
    first = np.flatnonzero(here)[0]  # its own summaries are as before
    assert after.prediction[first] == close(before.prediction[first])
    assert not np.allclose(after.prediction[clips.fold == 1], before.prediction[clips.fold == 1])  # it learns from them


def test_without_another_fold_to_learn_from_nothing_is_predicted_and_one_class_is_all_that_can_be_learnt() -> None:
    clips = some_scored(values=True)
    alone = Scored(clips.truth, clips.prediction, np.ones_like(clips.fold), clips.participant)
    assert len(linear(alone, np.zeros((210, 2)), classes=None).truth) == 0
    truth = np.array([0, 0, 1, 0])
    emotions = Scored(truth, truth, np.array([1, 1, 2, 2]), np.array(list("aabb")))
    found = linear(emotions, np.array([[1.0], [2], [3], [np.nan]]), classes=2)
    assert found.prediction[2:].tolist() == [0, 0]
    assert found.probabilities is not None
    assert found.probabilities[2:].tolist() == [[1, 0], [1, 0]]


def test_summaries_are_means_of_what_was_observed_and_colours_of_crops_that_show_anything(tmp_path: Path) -> None:
    clips = name_clips(35, 2)  # more than are read at a time
    arrays = draw_arrays(draw_labels(70), size=8, frames=2)
    arrays["face"][3] = 0
    arrays["face"][4, 1] = 0
    arrays["eye"][5, :, 7] = np.nan
    cache = open_cache(write_cache(tmp_path / "cache.zarr", clips, arrays))
    chosen = [66, 3, 4, 5, 0]
    found = summarise(cache, [clips[row][0] for row in chosen])
    assert found.shape == (5, 39 + 6)
    for number, row in enumerate(chosen):
        eye, face = arrays["eye"][row].astype(float), arrays["face"][row].astype(float)
        if row == 4:
            face = face[:1]
        for channel in range(39):
            known = eye[:, channel][np.isfinite(eye[:, channel])]
            wanted = known.mean() if len(known) else np.nan
            assert found[number, channel] == pytest.approx(wanted, rel=1e-6, nan_ok=True)
        pixels = face.reshape(-1, 3)
        wanted = np.r_[pixels.mean(axis=0), pixels.std(axis=0)] if row != 3 else np.full(6, np.nan)
        assert found[number, 39:] == pytest.approx(wanted, rel=1e-5, nan_ok=True)
    with pytest.raises(ValueError, match="clip nobody: is predicted but not in the cache"):
        summarise(cache, ["nobody"])
