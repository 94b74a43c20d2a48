"""Train MAQT on all folds but one; with a frozen face backbone in seconds, else by the published recipe.

On features that `face_features.embed_faces` kept, `train_fold` trains all but the face backbone. Without them it trains
the whole network from pixels.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from smad_models.augment import Augmentation, make_mirror
from smad_models.batches import Clips, gather_clips
from smad_models.cache_files import Place
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
from smad_models.inputs import find_device, fit_statistics
from smad_models.maqt import Maqt, draw_lstm
from smad_models.precision import computing
from smad_models.recipe import TrainOptions, check_options, predict_clips, room_for, train_epoch
from smad_models.tasks import Task, find_task, read_targets
from smad_models.training_log import columns, open_tensorboard, training_log, write_history
from smad_models.training_state import Progress, StateFile, is_better, state_path, weights_of
from smad_models.validation import Validation, choose_participants, make_validation, measure_name, score_epoch


def train_fold(
    *,
    task: str,
    fold: int,
    cache: Place,
    labels: Path,
    folds: Path,
    output: Path,
    emotions: Sequence[str],
    options: TrainOptions,
    key: str = "",
    face_features: Path | None = None,
    backbone: Path | None = None,
    device: str = "auto",
    save_every: float = 60.0,
    tensorboard: Path | None = None,
    history: Path | None = None,
) -> Literal["trained", "unchanged"]:
    """Train one task's network on the participants of all folds but ``fold``, and write its checkpoint.

    Nothing is chosen by the held-out fold: the weights are those after the last epoch, or after the one that was best
    on participants who were set aside from the training side. The same inputs on the same machine give the same
    weights, however often the training was interrupted: called again, it goes on after the last epoch that was kept.

    Parameters
    ----------
    emotions
        In the order of the logits.
    key
        What the caller knows the result to depend on; kept in the checkpoint's record.
    face_features
        What `embed_faces` wrote for this fold: the face backbone stays as it is there, and goes into the checkpoint. It
        was calibrated on the crops of the whole training side, those set aside for validation included.
    backbone
        ImageNet weights to start the face backbone from, when it is trained; without them it starts from noise.
    device
        ``auto``: a GPU if there is one.
    save_every
        Seconds that pass at least between two writes of the training's state, ``fold{k}.state.safetensors``.
    tensorboard
        Folder for TensorBoard, where each training has a folder of its own.
    history
        JSON file of losses, rates, scores and seconds an epoch; None = ``fold{k}.history.json`` beside the output.

    Returns
    -------
    ``unchanged`` when the output was made from just these inputs before, and was left as it is.

    Raises
    ------
    ValueError
        If no training clip is labelled, or the inputs contradict each other; the message names the culprit.
    MemoryError
        If a batch does not fit; the message says what to try.
    """
    check_options(options, has_features=face_features is not None)
    chosen = find_task(task)
    opened = open_cache(cache)
    places = read_folds(folds)
    split = split_fold(opened, places, fold)
    aside = choose_participants(
        split, fraction=options.validation, named=options.validation_participants, seed=options.seed
    )
    labelled = read_targets(labels, chosen, emotions)
    training = np.array([row for row in split.training if opened.participants[row] not in aside], dtype=np.int64)
    rows, values = _find_labelled(training, opened.clips, labelled, width=len(chosen.targets))
    if not len(rows):
        raise ValueError(f"{labels}: no clip outside fold {fold} has all of {', '.join(chosen.targets)}")
    others = np.setdiff1d(split.training, training)
    aside_rows, aside_values = _find_labelled(others, opened.clips, labelled, width=len(chosen.targets))
    record = {
        "key": key,
        "cache": opened.digest,
        "folds": digest_value(sorted(places)),
        "targets": digest_value([emotions, *(x.tolist() for x in (rows, values, aside_rows, aside_values))]),
        "options": digest_value(asdict(options)),
        "face_features": read_metadata(face_features)["record"] if face_features else None,
        "backbone": digest_file(backbone) if backbone else None,
    }
    title = f"train {task} fold {fold}"
    if is_current(output, record):
        state_path(output).unlink(missing_ok=True)  # of a training that was killed between its last two lines
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
        # Those set aside among them: whoever chose the epoch is not unseen.
        participants=hash_participants(split.training_participants, participants_key),
        participants_key=participants_key,
        code=code_version(),
        record=record,
        history={},
    )
    place = find_device(device)
    model, features = _start(
        meta, options, opened, training, face_features=face_features, backbone=backbone, device=place, title=title
    )
    if features is None:  # each epoch reads them anew
        opened = opened.preload(("face",))
    augmentation = None
    if options.augment:
        mirror = make_mirror(opened.attributes["channels"], opened.read(training, ("eye",))["eye"])
        augmentation = Augmentation(options.augment, options.seed, mirror)
    clips = gather_clips(chosen, opened, rows, values, model.inputs, features, augmentation)
    validation, held = None, None
    if aside:
        validation = make_validation(chosen, opened, split, rows=aside_rows, values=aside_values, trained=rows)
        held = gather_clips(chosen, opened, aside_rows, aside_values, model.inputs, features)
    if tensorboard is not None:
        tensorboard = tensorboard / f"{task}_fold{fold}"
        open_tensorboard(tensorboard, first=1).close()  # if it cannot be, then now
    facts = {"record": record, "device": place.type, "participants": meta.participants}
    # A processor gains nothing by less, and its bfloat16 gradients of the last convolutions can be no numbers at all.
    feasible = options if place.type == "cuda" else replace(options, precision="fp32")
    with room_for(title, options):
        progress, state = _fit(
            model,
            chosen,
            feasible,
            clips,
            held,
            validation,
            state_file=state_path(output),
            facts=facts | {"participants_key": participants_key},
            save_every=save_every,
            tensorboard=tensorboard,
            title=title,
        )
    kept = progress.best or options.epochs
    scores = {f"validation_{name}": x for name, x in progress.epochs[kept - 1].get("validation", {}).items()}
    said = {
        "task": task,
        "fold": fold,
        "epoch": kept,
        "scores": scores,
        "participants": {"training": len(split.training_participants) - len(aside), "validation": len(aside)},
        "clips": {"training": len(rows), "validation": len(aside_rows)},
        "options": asdict(options) | {"validation_participants": len(options.validation_participants)},
        "device": place.type,
        "epochs": progress.epochs,
    }
    write_history(history or output.with_name(f"{output.name.removesuffix('.safetensors')}.history.json"), said)
    save_checkpoint(output, model.cpu(), replace(meta, history=columns(progress.epochs), scores=scores))
    state.discard()
    return "trained"


def _find_labelled(
    rows: np.ndarray, clips: Sequence[str], labelled: dict[str, tuple[float, ...]], *, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Those of ``rows`` that are labelled, and their targets ``(n, width)``."""
    found = np.array([row for row in rows if clips[row] in labelled], dtype=np.int64)
    return found, np.array([labelled[clips[row]] for row in found]).reshape(-1, width)


def _start(
    meta: Meta,
    options: TrainOptions,
    cache: Cache,
    training: np.ndarray,
    *,
    face_features: Path | None,
    backbone: Path | None,
    device: torch.device,
    title: str,
) -> tuple[Maqt, Tensor | None]:
    """The network before its first step, on ``device``, and the features of all clips where its backbone is frozen."""
    torch.manual_seed(options.seed)
    model = build_model(meta)
    if options.lstm_init == "xavier":
        for lstm in (model.eye_lstm, model.gaze_lstm):
            draw_lstm(lstm)
    if options.convention == "standard":
        model.inputs.set_statistics(fit_statistics(cache.read(training, ("eye",))["eye"]))
    features = None
    if face_features is not None:
        features = load_features(face_features, model, cache, fold=meta.fold)
    elif backbone is not None:
        load_backbone(model.face_backbone, backbone)
    else:
        _say(f"{title}: WARNING: no backbone weights are given: the face backbone starts from noise")
    if options.precision != "fp32" and device.type != "cuda":
        _say(f"{title}: {options.precision} is a matter of GPUs: here it is fp32")
    return model.to(device), features


def _is_finite(model: Maqt) -> bool:
    return all(bool(torch.isfinite(parameter).all()) for parameter in model.parameters())


def _fit(
    model: Maqt,
    task: Task,
    options: TrainOptions,
    clips: Clips,
    held: Clips | None,
    validation: Validation | None,
    *,
    state_file: Path,
    facts: dict[str, Any],
    save_every: float,
    tensorboard: Path | None,
    title: str,
) -> tuple[Progress, StateFile]:
    """Train ``model`` on ``clips``, in place, from where it was interrupted; ``held`` are what is validated on."""
    device = clips.eye.device
    is_frozen = clips.features is not None
    optimiser = torch.optim.Adam(
        [parameter for parameter in model.parameters() if parameter.requires_grad],
        lr=options.learning_rate,
        weight_decay=options.weight_decay,
        fused=True,
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=options.epochs)
    order = torch.Generator().manual_seed(options.seed)
    state = StateFile(state_file, facts, model, optimiser, schedule, order, device, save_every, is_frozen)
    progress = state.restore(title)
    done = len(progress.epochs)
    steps = math.ceil(len(clips) / options.batch_size)
    with (
        computing(device, precision=options.precision, is_deterministic=options.deterministic),
        state.interruptible(title),
        training_log(
            title, epochs=options.epochs, done=done, steps=steps, device=device, tensorboard=tensorboard
        ) as log,
    ):
        for epoch in range(done + 1, options.epochs + 1):
            began = time.monotonic()
            rate = optimiser.param_groups[0]["lr"]
            losses = train_epoch(model, task, options, clips, optimiser, order, epoch, log)
            schedule.step()
            entry: dict[str, Any] = {"epoch": epoch, "loss": losses, "learning_rate": rate}
            if not math.isfinite(losses["total"]):
                raise ValueError(f"{title}: epoch {epoch}: the loss is {losses['total']}: training has diverged")
            if not _is_finite(model):
                raise ValueError(f"{title}: epoch {epoch}: weights are no numbers any more: training has diverged")
            if held is not None and validation is not None:
                score = score_epoch(task, validation, predict_clips(model, task, held, options.precision))
                entry["validation"] = {measure_name(task): score}
                if options.select == "validation" and is_better(progress, score, measure_name(task)):
                    progress.best = epoch
                    now = weights_of(model, is_frozen=is_frozen)
                    progress.best_weights = {name: x.detach().clone() for name, x in now.items()}
            progress.epochs.append(entry | {"seconds": round(time.monotonic() - began, 3)})
            log.end_epoch(progress.epochs[-1])
            state.keep(progress)
        log.end()
    model.load_state_dict(model.state_dict() | progress.best_weights)
    return progress, state


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
