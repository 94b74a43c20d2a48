"""The four tasks: which head and targets each has, its loss, and how an output becomes a prediction."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from smad_models.folds import read_table
from smad_models.maqt import MODALITIES, Output, Variant


class LossWeights(NamedTuple):
    """Weights of the three parts of the loss: alpha, beta and delta in the published code."""

    invariant: float
    specific: float
    task: float


@dataclass(frozen=True)
class Task:
    """One column of the benchmark."""

    name: str
    variant: Variant
    targets: tuple[str, ...]  # columns of labels.tsv that its training needs
    weights: LossWeights  # the published training scripts'


TASKS = {
    task.name: task
    for task in (
        Task("emotion", "discrete", ("emotion",), LossWeights(0.01, 0.01, 1.0)),
        Task("valence", "va", ("valence",), LossWeights(0.01, 0.01, 1.0)),
        Task("arousal", "va", ("arousal",), LossWeights(0.01, 0.01, 1.0)),
        Task("intensity", "intensity", ("emotion", "intensity"), LossWeights(0.3, 0.1, 1.0)),
    )
}


class Losses(NamedTuple):
    """Parts of a training loss, each a mean over the batch (the domain ones sums of three such means)."""

    total: Tensor
    invariant: Tensor
    specific: Tensor
    task: Tensor


def find_task(name: str) -> Task:
    """The task called ``name``, or a ValueError that lists them."""
    if name not in TASKS:
        raise ValueError(f"task {name!r} is none of {', '.join(TASKS)}")
    return TASKS[name]


def compute_loss(task: Task, output: Output, targets: Mapping[str, Tensor], weights: LossWeights) -> Losses:
    """The training loss of a batch: two domain parts and the task's own, weighted and added.

    Parameters
    ----------
    output
        Of a forward pass with ``domains=True``.
    targets
        ``emotion``: ``(B,)`` int64 class indices; the others ``(B, 1)`` floats: a ``(B,)`` one would broadcast to
        ``(B, B)``.

    Raises
    ------
    ValueError
        If a regression target is not of the prediction's shape, or the output lacks the domain logits.
    """
    if output.invariant_domains is None or output.specific_domains is None:
        raise ValueError("the loss needs the domain logits: call the network with domains=True")
    invariant = _domain_loss(output.invariant_domains)
    specific = _domain_loss(output.specific_domains)
    parts = []
    for name in task.targets:
        if name == "emotion":
            assert output.emotion is not None
            parts.append(F.cross_entropy(output.emotion, targets[name]))
            continue
        predicted = output.intensity if name == "intensity" else output.value
        assert predicted is not None
        if targets[name].shape != predicted.shape:
            raise ValueError(f"{name}: want targets {tuple(predicted.shape)}, got {tuple(targets[name].shape)}")
        parts.append(F.smooth_l1_loss(predicted, targets[name]))
    own = torch.stack(parts).sum()
    total = weights.invariant * invariant + weights.specific * specific + weights.task * own
    return Losses(total, invariant, specific, own)


def _domain_loss(logits: Tensor) -> Tensor:
    modality = torch.arange(len(MODALITIES), device=logits.device).expand(len(logits), -1)  # (B, 3)
    # The mean over B * 3 streams, times 3, is the sum of the three modalities' means over B.
    return F.cross_entropy(logits.flatten(0, 1), modality.flatten()) * len(MODALITIES)


def predict_values(task: Task, output: Output) -> Tensor:
    """Class probabilities ``(B, emotions)`` for the emotion task, ``(B,)`` values in the label's unit for others."""
    if task.name == "emotion":
        assert output.emotion is not None
        return output.emotion.softmax(dim=1)
    values = output.intensity if task.name == "intensity" else output.value
    assert values is not None
    return values.squeeze(1)


def read_targets(labels: Path, task: Task, emotions: Sequence[str]) -> dict[str, tuple[float, ...]]:
    """Each fully labelled clip's targets in the order of ``task.targets``, an emotion as its index in ``emotions``.

    Clips that lack one of the targets are left out.

    Raises
    ------
    ValueError
        Naming the file, the clip and the value: an emotion that is not in the list, a number that is none, a clip given
        twice, a column that is absent.
    """
    index = {name: i for i, name in enumerate(emotions)}
    targets: dict[str, tuple[float, ...]] = {}
    seen: set[str] = set()
    for row in read_table(labels, needed=("clip", *task.targets)):
        clip = row["clip"]
        if clip in seen:
            raise ValueError(f"{labels}: clip {clip} is labelled twice")
        seen.add(clip)
        if all(row[name] for name in task.targets):
            targets[clip] = tuple(_parse(labels, clip, name, row[name], index) for name in task.targets)
    return targets


def _parse(labels: Path, clip: str, name: str, cell: str, emotions: Mapping[str, int]) -> float:
    if name == "emotion":
        if cell not in emotions:
            raise ValueError(f"{labels}: clip {clip}: emotion {cell!r} is none of {', '.join(emotions)}")
        return float(emotions[cell])
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{labels}: clip {clip}: {name} {cell!r} is no number")
    return value
