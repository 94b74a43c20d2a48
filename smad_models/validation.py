"""Which epoch is kept: participants set aside from the training side, and how well the network does on them.

The held-out fold is what the scores are made of. It is never looked at here, and whoever tries is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from smad_models.dataset import Cache, Split
from smad_models.tasks import Task


@dataclass(frozen=True)
class Validation:
    """Labelled clips of the participants who are set aside, and the rows that are trained on."""

    rows: np.ndarray  # (v,) of the cache
    truth: np.ndarray  # (v,) emotion indices, or values
    trained: np.ndarray  # (n,) rows of the cache
    split: Split
    participants: tuple[str, ...]  # of each row of the cache


def choose_participants(split: Split, *, fraction: float, named: Sequence[str], seed: int) -> tuple[str, ...]:
    """Who of the training side is set aside: those named, else a seeded draw of ``fraction`` of them (at least one).

    Labels have no part in it: the same people are set aside for all tasks of a fold.

    Raises
    ------
    ValueError
        If one who is named is in the held-out fold or nowhere, both ways are asked for, or nobody is left to train on.
    """
    training = split.training_participants
    if named and fraction:
        raise ValueError("validation participants are named, or a fraction of them is drawn: not both")
    if not 0 <= fraction < 1:
        raise ValueError(f"the fraction of participants for validation is from 0 to below 1, got {fraction:g}")
    for participant in named:
        if participant in split.test_participants:
            raise ValueError(
                f"validation participant {participant} is in the held-out fold: its clips are what the scores are made "
                "of, and may not choose an epoch"
            )
        if participant not in training:
            raise ValueError(f"validation participant {participant} is none of {', '.join(training)}")
    chosen = set(named)
    if fraction:
        order = np.random.default_rng([seed, len(training)]).permutation(np.array(sorted(training)))
        chosen = set(order[: max(1, round(fraction * len(training)))].tolist())
    if chosen == set(training):
        raise ValueError(f"all {len(training)} training participants are set aside for validation: nobody is left")
    return tuple(sorted(chosen))


def make_validation(
    task: Task, cache: Cache, split: Split, *, rows: np.ndarray, values: np.ndarray, trained: np.ndarray
) -> Validation:
    """The validation clips ``rows`` with their targets ``values`` ``(v, targets)``.

    Raises
    ------
    ValueError
        If there are none, or all have one value: agreement with a constant is not defined.
    """
    truth = values[:, task.targets.index(task.name)]
    if not len(rows):
        raise ValueError(f"no clip of the validation participants has all of {', '.join(task.targets)}")
    if task.name != "emotion" and np.ptp(truth) == 0:
        raise ValueError(
            f"all {len(rows)} validation clips have {task.name} {truth[0]:g}: no epoch can be told by that"
        )
    return Validation(rows, truth, trained, split, cache.participants)


def check_unseen(validation: Validation) -> None:
    """Raise ValueError unless every validation clip is of the training side, and of nobody who is trained on."""
    people = np.array(validation.participants)
    for row in validation.rows[~np.isin(validation.rows, validation.split.training)]:
        raise ValueError(
            f"a clip of participant {people[row]} is among the validation clips, but not on the training side: "
            "the held-out fold may not choose an epoch"
        )
    for person in sorted(set(people[validation.rows]) & set(validation.split.test_participants)):
        raise ValueError(f"validation participant {person} is in the held-out fold, which may not choose an epoch")
    for person in sorted(set(people[validation.rows]) & set(people[validation.trained])):
        raise ValueError(
            f"validation participant {person} is trained on too: that would choose what is learnt by heart"
        )


def measure_name(task: Task) -> str:
    """What epochs are compared by: ``uar`` of the emotion task, ``ccc`` of the others."""
    return "uar" if task.name == "emotion" else "ccc"


def score_epoch(task: Task, validation: Validation, predicted: np.ndarray) -> float:
    """The score of predictions for the validation clips; better is higher, and NaN is no score.

    Parameters
    ----------
    predicted
        ``(v, emotions)`` probabilities or ``(v,)`` values: what `tasks.predict_values` gives.

    Raises
    ------
    ValueError
        As `check_unseen`.
    """
    check_unseen(validation)
    truth = validation.truth
    if task.name == "emotion":
        hits = predicted.argmax(axis=1) == truth
        return float(np.mean([hits[truth == emotion].mean() for emotion in np.unique(truth)]))
    covariance = np.mean((truth - truth.mean()) * (predicted - predicted.mean()))
    spread = truth.var() + predicted.var() + (truth.mean() - predicted.mean()) ** 2
    return float(2 * covariance / spread)  # Lin (1989): see `metrics.value_metrics`, which needs more libraries
