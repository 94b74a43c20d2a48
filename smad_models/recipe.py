"""The recipe: what is chosen for a training, one step of it, one epoch, and what the network then says of clips."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from smad_models.augment import KINDS, OF_PIXELS, Changes
from smad_models.batches import Clips
from smad_models.inputs import Convention
from smad_models.maqt import Maqt
from smad_models.precision import Precision, autocast, widen
from smad_models.tasks import Losses, LossWeights, Task, compute_loss, predict_values
from smad_models.training_log import TrainingLog

SCORED_TOGETHER = 64  # validation clips in one forward pass


@dataclass(frozen=True)
class TrainOptions:
    """The recipe; the defaults are the published training scripts' (Adam, cosine annealing stepped per epoch)."""

    epochs: int = 200
    batch_size: int = 16
    accumulate: int = 1  # parts in which a batch is taken; each is a batch of its own to BatchNorm
    learning_rate: float = 1e-4
    weight_decay: float = 5e-4
    loss_weights: LossWeights | None = None  # None = the task's published ones
    lstm_init: Literal["published", "xavier"] = "published"  # published = PyTorch's default; see `maqt.draw_lstm`
    convention: Convention = "standard"
    seed: int = 0
    augment: tuple[str, ...] = ()  # of `augment.KINDS`
    validation: float = 0.0  # fraction of the training participants that is set aside
    validation_participants: tuple[str, ...] = ()  # or who it is
    select: Literal["last", "validation"] = "last"  # the epoch whose weights are kept
    precision: Precision = "fp32"
    deterministic: bool = True  # only a GPU can do otherwise


def check_options(options: TrainOptions, *, has_features: bool) -> None:
    """Raise ValueError for what cannot be: what stands together in no training, and words that are none."""
    for kind in options.augment:
        if kind not in KINDS:
            raise ValueError(f"augmentation {kind!r} is none of {', '.join(KINDS)}")
        if kind in OF_PIXELS and has_features:
            raise ValueError(
                f"augmentation {kind} needs the pixels, but the features of a frozen face backbone are computed once, "
                f"from the pixels as they are: train the backbone too (`train.freeze_face: false`), or leave {kind} out"
            )
    if options.precision not in get_args(Precision):
        raise ValueError(f"precision {options.precision!r} is none of {', '.join(get_args(Precision))}")
    if not 1 <= options.accumulate <= options.batch_size:
        raise ValueError(f"a batch of {options.batch_size} clips cannot be taken in {options.accumulate} parts")
    if options.select == "validation" and not (options.validation or options.validation_participants):
        raise ValueError(
            "no participants are set aside for validation, and the held-out fold may not choose an epoch: say which "
            "(`--validation 0.2` or `--validation-participants P01,P07`), or `--select last`"
        )


def train_epoch(
    model: Maqt,
    task: Task,
    options: TrainOptions,
    clips: Clips,
    optimiser: torch.optim.Optimizer,
    order: torch.Generator,
    epoch: int,
    log: TrainingLog,
) -> dict[str, float]:
    """One pass over all clips; the mean of each part of the loss."""
    device = clips.eye.device
    model.train()
    if clips.features is not None:
        model.face_backbone.eval()
    changes = None
    if clips.augmentation is not None:
        changes = clips.augmentation.draw(epoch, len(clips), device=device)
    sums = torch.zeros(len(Losses._fields), device=device)
    for batch in torch.randperm(len(clips), generator=order).split(options.batch_size):
        sums += train_step(model, task, options, clips, batch, changes, optimiser)
        log.end_step(len(batch))
    return {name: total / len(clips) for name, total in zip(Losses._fields, sums.tolist(), strict=True)}


def train_step(
    model: Maqt,
    task: Task,
    options: TrainOptions,
    clips: Clips,
    batch: Tensor,
    changes: Changes | None,
    optimiser: torch.optim.Optimizer,
) -> Tensor:
    """One step of the optimiser on the clips ``batch``, and the sum over them of each part of the loss.

    Taken in parts, a batch gives the same step but for rounding, the draws of dropout and BatchNorm, to which each part
    is a batch of its own; a part counts by its size.
    """
    optimiser.zero_grad()
    sums = torch.zeros(len(Losses._fields), device=clips.eye.device)
    for part in batch.tensor_split(min(options.accumulate, len(batch))):
        with autocast(clips.eye.device, options.precision):
            output = model(*clips.at(part, changes), domains=True)
        losses = compute_loss(task, widen(output), clips.targets_at(part), options.loss_weights or task.weights)
        (losses.total * (len(part) / len(batch))).backward()
        sums += torch.stack(losses).detach() * len(part)
    optimiser.step()
    return sums


def predict_clips(model: Maqt, task: Task, clips: Clips, precision: Precision) -> np.ndarray:
    """What the network says of ``clips`` now, as `validation.score_epoch` takes it."""
    model.eval()
    values = []
    with torch.inference_mode():
        for part in torch.arange(len(clips)).split(SCORED_TOGETHER):
            with autocast(clips.eye.device, precision):
                output = model(*clips.at(part))
            values.append(predict_values(task, widen(output)).double().cpu())
    return torch.cat(values).numpy()


@contextmanager
def room_for(title: str, options: TrainOptions) -> Iterator[None]:
    """Say of a lack of memory what to try. It is a failure of this job, and of no clip."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        is_lack = isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)
        if not is_lack:
            raise
        batch, parts = options.batch_size, options.accumulate
        advice = []
        if 2 * parts <= batch:
            advice.append(f"`--accumulate {2 * parts}` (`train.accumulate`), the same batches in {2 * parts} parts")
        if batch > 1:
            advice.append(f"`--batch-size {batch // 2}` (`train.batch_size`), which is another recipe")
        tried = f"batches of {batch} clips" + (f" in {parts} parts" if parts > 1 else "")
        what = "try " + ", or ".join(advice) if advice else "a single clip is too much for this device"
        raise MemoryError(f"{title}: out of memory with {tried}: {what}") from error
