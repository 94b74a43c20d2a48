"""Baselines: what needs no input, and a linear model on simple summaries, both blind to the fold that they predict."""

from pathlib import Path

import numpy as np
import pytest
from model_fixtures import write_cache
from scored_clips import close

from smad_models.baselines import constant, linear, summarise
from smad_models.dataset import open_cache
from smad_models.metrics import Scored


def test_baselines_learn_from_the_other_folds_only() -> None:
    truth = np.array([0, 0, 0, 1, 1, 2])
    clips = Scored(truth, truth, np.array([1, 1, 1, 2, 2, 2]), np.array(list("aaabbb")))
    assert constant(clips, classes=3).prediction.tolist() == [1, 1, 1, 0, 0, 0]
    values = Scored(truth / 1.0, truth / 1.0, clips.fold, clips.participant)
    assert constant(values, classes=None).prediction.tolist() == close([4 / 3] * 3 + [0] * 3)
