"""Train MAQT on all folds but one; with a frozen face backbone in seconds, else by the published recipe.

On features that `face_features.embed_faces` kept, `train_fold` trains all but the face backbone. Without them it trains
the whole network from pixels.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from smad_models.checkpoints import (
    Meta,
    build_model,
    code_version,
    digest_file,
    digest_value,
    hash_participants,
    is_current,
    load_backbone,
    make_participants_key,
    read_metadata,
    save_checkpoint,
)
from smad_models.dataset import Cache, open_cache, split_fold
from smad_models.face_features import load_features
from smad_models.folds import read_folds
from smad_models.inputs import Convention, deterministic, find_device, fit_statistics
from smad_models.maqt import Maqt, draw_lstm
from smad_models.tasks import Losses, LossWeights, Task, compute_loss, find_task, read_targets


@dataclass(frozen=True)
class TrainOptions:
    """The recipe; the defaults are the published training scripts' (Adam, cosine annealing stepped per epoch)."""

    epochs: int = 200
    batch_size: int = 16
    learning_rate: float = 1e-4
    weight_decay: float = 5e-4
    loss_weights: LossWeights | None = None  # None = the task's published ones
    lstm_init: Literal["published", "xavier"] = "published"  # published = PyTorch's default; see `maqt.draw_lstm`
    convention: Convention = "standard"
    seed: int = 0


def train_fold(
    *,
    task: str,
    fold: int,
    cache: Path,
    labels: Path,
    folds: Path,
    output: Path,
    emotions: Sequence[str],
    options: TrainOptions,
    key: str = "",
    face_features: Path | None = None,
    backbone: Path | None = None,
    device: str = "auto",
) -> Literal["trained", "unchanged"]:
    """Train one task's network on the participants of all folds but ``fold``, and write its checkpoint.

    Nothing is chosen by the held-out fold: the weights are those after the last epoch. The same inputs on the same
    machine give the same weights.

    Parameters
    ----------
    emotions
        In the order of the logits.
    key
        What the caller knows the result to depend on; kept in the checkpoint's record.
    face_features
        What `embed_faces` wrote for this fold: the face backbone stays as it is there, and goes into the checkpoint.
    backbone
        ImageNet weights to start the face backbone from, when it is trained; without them it starts from noise.
    device
        ``auto``: a GPU if there is one.

    Returns
    -------
    ``unchanged`` when the output was made from just these inputs before, and was left as it is.

    Raises
    ------
    ValueError
        If no training clip is labelled, or the inputs contradict each other; the message names the culprit.
    """
    chosen = find_task(task)
    opened = open_cache(cache)
    places = read_folds(folds)
    split = split_fold(opened, places, fold)
    labelled = read_targets(labels, chosen, emotions)
    rows = np.array([row for row in split.training if opened.clips[row] in labelled], dtype=np.int64)
    if not len(rows):
        raise ValueError(f"{labels}: no clip outside fold {fold} has all of {', '.join(chosen.targets)}")
    values = np.array([labelled[opened.clips[row]] for row in rows])  # (n, targets)
    record = {
        "key": key,
        "cache": opened.digest,
        "folds": digest_value(sorted(places)),
        "targets": digest_value([emotions, rows.tolist(), values.tolist()]),
        "options": digest_value(asdict(options)),
        "face_features": read_metadata(face_features)["record"] if face_features else None,
        "backbone": digest_file(backbone) if backbone else None,
    }
    title = f"train {task} fold {fold}"
    if is_current(output, record):
        return "unchanged"

    participants_key = make_participants_key(record)
    meta = Meta(
        task=task,
        fold=fold,
        variant=chosen.variant,
        convention=options.convention,
        emotions=tuple(emotions),
        channels=opened.channels,
        frames=opened.frames,
        steps=opened.steps,
        size=opened.size,
        cache_version=opened.attributes["version"],
        participants=hash_participants(split.training_participants, participants_key),
        participants_key=participants_key,
        code=code_version(),
        record=record,
        history={},
    )
    torch.manual_seed(options.seed)
    model = build_model(meta)
    if options.lstm_init == "xavier":
        for lstm in (model.eye_lstm, model.gaze_lstm):
            draw_lstm(lstm)
    if options.convention == "standard":
        model.inputs.set_statistics(fit_statistics(opened.read(split.training, ("eye",))["eye"]))
    features = None
    if face_features is not None:
        features = load_features(face_features, model, opened, fold=fold)[rows]
    elif backbone is not None:
        load_backbone(model.face_backbone, backbone)
    else:
        _say(f"{title}: WARNING: no backbone weights are given: the face backbone starts from noise")
    history = _fit(
        model,
        task=chosen,
        options=options,
        cache=opened,
        rows=rows,
        features=features,
        values=values,
        device=find_device(device),
        title=title,
    )
    save_checkpoint(output, model.cpu(), replace(meta, history=history))
    return "trained"


def _fit(
    model: Maqt,
    *,
    task: Task,
    options: TrainOptions,
    cache: Cache,
    rows: np.ndarray,
    features: Tensor | None,
    values: np.ndarray,
    device: torch.device,
    title: str,
) -> dict[str, list[float]]:
    """Train ``model`` on ``rows``, in place; the mean losses of each epoch."""
    model.to(device).train()
    if features is not None:
        features = features.to(device)
        model.face_backbone.eval()
    found = cache.read(rows, ("eye", "gaze"))
    eye, gaze = model.inputs.sequences(*(torch.from_numpy(found[name]).to(device) for name in ("eye", "gaze")))
    targets = _to_tensors(task, values, device)
    weights = options.loss_weights or task.weights
    optimiser = torch.optim.Adam(
        [parameter for parameter in model.parameters() if parameter.requires_grad],
        lr=options.learning_rate,
        weight_decay=options.weight_decay,
        fused=True,
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=options.epochs)
    order = torch.Generator().manual_seed(options.seed)
    history: dict[str, list[float]] = {name: [] for name in Losses._fields}
    if features is None:  # each epoch reads them anew
        cache = cache.preload(("face",))
    with deterministic(device), _progress(title, options.epochs) as advance:
        for _ in range(options.epochs):
            sums = torch.zeros(len(history), device=device)
            for batch in torch.randperm(len(rows), generator=order).split(options.batch_size):
                if features is None:
                    crops = cache.read(rows[batch.numpy()], ("face",))["face"]  # (B, 8, 112, 112, 3)
                    face = model.inputs.pixels(torch.from_numpy(crops).to(device))  # (B, 8, 3, 112, 112)
                else:
                    face = features[batch]  # (B, 8, 512)
                output = model(face, eye[batch], gaze[batch], domains=True)
                losses = compute_loss(task, output, {name: x[batch] for name, x in targets.items()}, weights)
                optimiser.zero_grad()
                losses.total.backward()
                optimiser.step()
                sums += torch.stack(losses).detach() * len(batch)
            schedule.step()
            for name, total in zip(Losses._fields, sums.tolist(), strict=True):
                history[name].append(total / len(rows))
            advance(history["task"][-1])
    if not math.isfinite(history["total"][-1]):
        raise ValueError(f"{title}: the loss is {history['total'][-1]}: training has diverged")
    model.eval()
    return history


def _to_tensors(task: Task, values: np.ndarray, device: torch.device) -> dict[str, Tensor]:
    columns = {name: torch.from_numpy(values[:, i]).to(device) for i, name in enumerate(task.targets)}
    return {name: x.long() if name == "emotion" else x.float().unsqueeze(1) for name, x in columns.items()}


@contextmanager
def _progress(title: str, epochs: int) -> Iterator[Callable[[float], None]]:
    """A function to call after each epoch with its task loss: a bar on a terminal, some ten lines in a log.

    The total is no guide: behind the reversal the invariant part is *to* grow, and has no bound.
    """
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import Progress

        with Progress(console=Console(stderr=True)) as bar:
            line = bar.add_task(title, total=epochs)
            yield lambda loss: bar.update(line, advance=1, description=f"{title}, task loss {loss:.3f}")
        return
    done = 0

    def advance(loss: float) -> None:
        nonlocal done
        done += 1
        if done % math.ceil(epochs / 10) == 0 or done == epochs:
            _say(f"{title}: epoch {done} of {epochs}, task loss {loss:.4f}")

    yield advance


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
