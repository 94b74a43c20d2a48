"""Predict every clip by the network that has not seen its participant, from the cache's pixels and traces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from smad_models.cache_files import Place
from smad_models.checkpoints import Meta, digest_file, digest_value, load_checkpoint, read_meta
from smad_models.dataset import Cache, Split, open_cache, split_fold
from smad_models.face_features import find_features
from smad_models.folds import read_folds
from smad_models.inference import Engine, Precision, exactness
from smad_models.inputs import find_device
from smad_models.one_pass import Found, View, pass_clips, progress
from smad_models.prediction_tables import Product, is_made, write_product
from smad_models.tasks import Task, find_task


@dataclass(frozen=True)
class PredictOptions:
    """How fast and how exactly: of these only the precision changes a number by more than rounding.

    Attributes
    ----------
    devices
        ``auto``: a GPU if there is one; with several, ``cuda:0,cuda:1``, the clips are shared out among them.
    compiled
        Let `torch.compile` rewrite the face backbones: worth its minutes for some ten thousand clips.
    """

    batch_size: int = 32
    precision: Precision = "fp32"
    compiled: bool = False
    devices: str = "auto"


def predict_task(
    *,
    task: str,
    cache: Place,
    folds: Path,
    checkpoints: Path,
    output: Path,
    emotions: Sequence[str],
    key: str = "",
    face_features: Path | None = None,
    **options: Any,
) -> Literal["predicted", "unchanged"]:
    """The predictions of one task, as `predict_products` makes them; ``options`` are those of `PredictOptions`."""
    done = predict_products(
        [Product(task, output)],
        cache=cache,
        folds=folds,
        checkpoints=checkpoints,
        emotions=emotions,
        options=PredictOptions(**options),
        key=key,
        face_features=face_features,
    )
    return done[task]


def predict_products(
    products: Sequence[Product],
    *,
    cache: Place,
    folds: Path,
    checkpoints: Path,
    emotions: Sequence[str],
    options: PredictOptions,
    key: str = "",
    face_features: Path | None = None,
) -> dict[str, Literal["predicted", "unchanged"]]:
    """Predict the clips of each fold by ``{checkpoints}/{task}/fold{k}.safetensors``, and write the tables asked for.

    All tasks share one pass over the cache, and all tables of a task the work of its face backbone.

    Parameters
    ----------
    emotions
        The configuration's list; a checkpoint with another one is refused.
    key
        What the caller knows the results to depend on; kept in the tables' records.
    face_features
        A folder where `embed_faces` may have left ``fold{k}.safetensors``: what a checkpoint's own backbone made of
        this cache is taken from there instead of being computed again. It changes no prediction by more than rounding.

    Returns
    -------
    By task; ``unchanged`` when its tables were made from just these inputs before, and were left as they are.

    Raises
    ------
    FileNotFoundError
        If a fold has no checkpoint.
    ValueError
        If a checkpoint is not for these inputs, or was trained on a participant that it is to predict; or there is no
        such device.
    """
    opened = open_cache(cache)
    places = read_folds(folds)
    splits = {fold: split_fold(opened, places, fold) for fold in sorted({place.fold for place in places})}
    tasks = {product.task: find_task(product.task) for product in products}
    records = {
        name: {
            "key": key,
            "cache": opened.digest,
            "folds": digest_value(sorted(places)),
            "emotions": list(emotions),
            "checkpoints": _digest_checkpoints(checkpoints, name, list(splits)),
            "precision": options.precision,
        }
        for name in tasks
    }
    stale = [name for name in tasks if not all(is_made(p, records[name]) for p in products if p.task == name)]
    notes = {name: _check_task(tasks[name], checkpoints, splits, opened, emotions) for name in stale}
    wanted = [product for product in products if product.task in stale]
    found = _predict(wanted, opened, splits, checkpoints, face_features, options) if wanted else {}
    fold_of = np.zeros(len(opened.clips), dtype=np.int64)
    for fold, split in splits.items():
        fold_of[split.test] = fold
    clips = {"clip": opened.clips, "participant": opened.participants, "fold": fold_of}
    for product in wanted:
        own = found[product.task, product.hidden]
        record, doubts = records[product.task], notes[product.task]
        write_product(product, clips, own, emotions=emotions, record=record, notes=doubts)
    return {name: "predicted" if name in stale else "unchanged" for name in tasks}


def _predict(
    products: Sequence[Product],
    cache: Cache,
    splits: Mapping[int, Split],
    checkpoints: Path,
    face_features: Path | None,
    options: PredictOptions,
) -> dict[View, Found]:
    """What the networks say of every clip, by task and what is hidden from them."""
    tasks = list(dict.fromkeys(product.task for product in products))
    found = {(product.task, product.hidden): Found(len(cache.clips)) for product in products}
    devices = [find_device(name) for name in options.devices.split(",")]
    cache = cache.preload(("face_found", "eye", "gaze"))
    with exactness(options.precision), progress(f"predict {', '.join(tasks)}", len(cache.clips)) as advance:
        for fold, split in splits.items():
            models = {name: load_checkpoint(_checkpoint(checkpoints, name, fold))[0] for name in tasks}
            features = {}
            if face_features is not None:
                file = face_features / f"fold{fold}.safetensors"
                known = {name: find_features(file, model, cache) for name, model in models.items()}
                features = {name: x for name, x in known.items() if x is not None}
            if len(features) < len(models):
                cache = cache.preload(("face",))
            pass_clips(
                [
                    {
                        name: Engine(model, device, precision=options.precision, compiled=options.compiled)
                        for name, model in models.items()
                    }
                    for device in devices
                ],
                cache,
                split.test,
                found,
                features=features,
                batch_size=options.batch_size,
                domains=any(product.domains for product in products),
                advance=advance,
            )
    return found


def _checkpoint(folder: Path, task: str, fold: int) -> Path:
    return folder / task / f"fold{fold}.safetensors"


def _digest_checkpoints(folder: Path, task: str, folds: Sequence[int]) -> dict[str, str]:
    for fold in folds:
        if not (file := _checkpoint(folder, task, fold)).is_file():
            raise FileNotFoundError(f"fold {fold} of {task} has no checkpoint: {file} is absent")
    return {str(fold): digest_file(_checkpoint(folder, task, fold)) for fold in folds}


def _check_task(
    task: Task, checkpoints: Path, splits: Mapping[int, Split], cache: Cache, emotions: Sequence[str]
) -> dict[str, str]:
    """The doubts about a task's checkpoints, all of which are looked at before the first one predicts."""
    notes: dict[str, str] = {}
    for fold, split in splits.items():
        file = _checkpoint(checkpoints, task.name, fold)
        meta = read_meta(file)
        check_checkpoint(file, meta, task=task, fold=fold, emotions=emotions, cache=cache, split=split)
        notes |= _note_doubts(meta, cache)
    return notes


def check_checkpoint(
    path: Path, meta: Meta, *, task: Task, fold: int, emotions: Sequence[str], cache: Cache, split: Split
) -> None:
    """Raise ValueError, with what is wanted and what was found, unless the checkpoint may predict this fold."""
    pairs: dict[str, tuple[Any, Any, str]] = {
        "task": (task.name, meta.task, ""),
        "fold": (fold, meta.fold, ""),
        "emotions": (", ".join(emotions), ", ".join(meta.emotions), ""),
        "cache version": (cache.attributes["version"], meta.cache_version, ""),
        "face frames": (cache.frames, meta.frames, "face.frames"),
        "face size": (cache.size, meta.size, "face.size"),
        "eye steps": (cache.steps, meta.steps, "eye.steps"),
        "eye channels": (", ".join(cache.channels), ", ".join(meta.channels), ""),
    }
    for name, (here, there, setting) in pairs.items():
        if here != there:
            mend = f"; its input convention, {meta.convention}, takes a cache made with `{setting}: {there}`"
            raise ValueError(
                f"{path}: {name}: the checkpoint is for {there}, but here it is {here}{mend if setting else ''}"
            )
    seen = [participant for participant in split.test_participants if meta.knows(participant)]
    if seen:
        raise ValueError(
            f"{path}: was trained on participant {', '.join(seen)}, whose clips are in fold {fold}: "
            "it has seen what it is to predict"
        )


def _note_doubts(meta: Meta, cache: Cache) -> dict[str, str]:
    """What a reader of the predictions should know of a checkpoint's fit to this cache, by subject."""
    notes = {}
    align, method = (
        cache.attributes.get(stage, {}).get(name) for stage, name in (("face", "align"), ("eye", "method"))
    )
    if meta.convention == "published" and (align, method) != ("none", "draw"):
        notes["inputs"] = (
            "the published network saw unaligned faces and one random sample a step (align: none, method: draw); "
            f"this cache was made with align: {align}, method: {method}"
        )
    if not meta.participants:
        notes["participants"] = "unverifiable: nobody knows on whom the checkpoints were trained: leaks cannot be told"
    return notes
