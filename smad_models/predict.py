"""Predict every clip by the network that has not seen its participant, from the cache's pixels and traces."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from smad_models.checkpoints import Meta, digest_file, digest_value, load_checkpoint
from smad_models.dataset import Cache, Split, open_cache, split_fold
from smad_models.face_features import find_features
from smad_models.folds import read_folds
from smad_models.inputs import ARRAYS, find_device, name_present
from smad_models.maqt import Maqt
from smad_models.tasks import Task, find_task, predict_values

RECORD = b"smad_record"  # key of the record in the parquet file's metadata
NOTES = b"smad_notes"  # and of the warnings that go with the predictions


def predict_task(
    *,
    task: str,
    cache: Path,
    folds: Path,
    checkpoints: Path,
    output: Path,
    emotions: Sequence[str],
    batch_size: int = 32,
    device: str = "auto",
    key: str = "",
    face_features: Path | None = None,
) -> Literal["predicted", "unchanged"]:
    """Predict the clips of each fold by ``{checkpoints}/{task}/fold{k}.safetensors``, and write one table of all.

    The table has a row a clip, in the cache's order: clip, participant, fold, prediction (an emotion's name, else a
    number), present (``face+eye+gaze``), and for the emotion task ``p_{name}`` of each class. No targets: scoring joins
    them.

    Parameters
    ----------
    emotions
        The configuration's list; a checkpoint with another one is refused.
    batch_size
        Clips at a time; it changes no prediction by more than rounding.
    device
        ``auto``: a GPU if there is one.
    key
        What the caller knows the result to depend on; kept in the table's record.
    face_features
        A folder where `embed_faces` may have left ``fold{k}.safetensors``: what a checkpoint's own backbone made of
        this cache is taken from there instead of being computed again. It changes no prediction by more than rounding.

    Returns
    -------
    ``unchanged`` when the table was made from just these inputs before, and was left as it is.

    Raises
    ------
    FileNotFoundError
        If a fold has no checkpoint.
    ValueError
        If a checkpoint is not for these inputs, or was trained on a participant that it is to predict.
    """
    chosen = find_task(task)
    opened = open_cache(cache)
    places = read_folds(folds)
    files = {fold: checkpoints / task / f"fold{fold}.safetensors" for fold in sorted({place.fold for place in places})}
    for fold, file in files.items():
        if not file.is_file():
            raise FileNotFoundError(f"fold {fold} of {task} has no checkpoint: {file} is absent")
    record = {
        "key": key,
        "cache": opened.digest,
        "folds": digest_value(sorted(places)),
        "emotions": list(emotions),
        "checkpoints": {str(fold): digest_file(file) for fold, file in files.items()},
    }
    if output.exists() and _read_record(output) == record:
        return "unchanged"

    fold_of = np.zeros(len(opened.clips), dtype=np.int64)
    width = len(emotions) if task == "emotion" else 1
    values = np.full((len(opened.clips), width), np.nan)
    present = np.empty(len(opened.clips), dtype=object)
    notes: dict[str, str] = {}
    for fold, file in files.items():
        split = split_fold(opened, places, fold)
        model, meta = load_checkpoint(file)
        check_checkpoint(file, meta, task=chosen, fold=fold, emotions=emotions, cache=opened, split=split)
        notes |= _note_doubts(meta, opened)
        features = None
        if face_features is not None:
            features = find_features(face_features / f"fold{fold}.safetensors", model, opened)
        fold_of[split.test] = fold
        values[split.test], present[split.test] = _predict_rows(
            model, chosen, opened, split.test, features, batch_size=batch_size, device=find_device(device)
        )
    columns: dict[str, Any] = {"clip": opened.clips, "participant": opened.participants, "fold": fold_of}
    if task == "emotion":
        columns["prediction"] = [emotions[index] for index in values.argmax(axis=1)]
    else:
        columns["prediction"] = values[:, 0]
    columns["present"] = present.tolist()
    if task == "emotion":
        columns |= {f"p_{name}": values[:, i] for i, name in enumerate(emotions)}
    _write_table(output, columns, {RECORD: record, NOTES: notes})
    return "predicted"


def check_checkpoint(
    path: Path, meta: Meta, *, task: Task, fold: int, emotions: Sequence[str], cache: Cache, split: Split
) -> None:
    """Raise ValueError, with what is wanted and what was found, unless the checkpoint may predict this fold."""
    pairs = {
        "task": (task.name, meta.task),
        "fold": (fold, meta.fold),
        "emotions": (", ".join(emotions), ", ".join(meta.emotions)),
        "cache version": (cache.attributes["version"], meta.cache_version),
        "face frames": (cache.frames, meta.frames),
        "face size": (cache.size, meta.size),
        "eye steps": (cache.steps, meta.steps),
        "eye channels": (", ".join(cache.channels), ", ".join(meta.channels)),
    }
    for name, (here, there) in pairs.items():
        if here != there:
            raise ValueError(f"{path}: {name}: the checkpoint is for {there}, but here it is {here}")
    seen = [participant for participant in split.test_participants if meta.knows(participant)]
    if seen:
        raise ValueError(
            f"{path}: was trained on participant {', '.join(seen)}, whose clips are in fold {fold}: "
            "it has seen what it is to predict"
        )


def _predict_rows(
    model: Maqt,
    task: Task,
    cache: Cache,
    rows: np.ndarray,
    features: torch.Tensor | None,
    *,
    batch_size: int,
    device: torch.device,
) -> tuple[np.ndarray, list[str]]:
    """``(n, width)`` values and the modalities present of ``rows``; ``features``: of all clips' faces, if known."""
    model.to(device)
    values, present = [], []
    # A GPU's default for convolutions, TF32, rounds to 10 bits: the golden tolerances and ours are of full float32.
    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
        for start in range(0, len(rows), batch_size):
            chosen = rows[start : start + batch_size]
            names = ARRAYS if features is None else [name for name in ARRAYS if name != "face"]
            arrays = cache.read(chosen, names)
            eye, gaze = (torch.from_numpy(arrays[name]).to(device) for name in ("eye", "gaze"))
            if features is None:
                face = model.inputs.pixels(torch.from_numpy(arrays["face"]).to(device))  # (B, 8, 3, 112, 112)
            else:
                face = features[chosen].to(device)  # (B, 8, 512)
            output = model(face, *model.inputs.sequences(eye, gaze))
            found = predict_values(task, output).double().cpu()  # (B, emotions) or (B,)
            values.append(found.reshape(len(found), -1).numpy())
            present.extend(name_present(arrays, model.inputs.convention))
    return np.concatenate(values), present


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
        notes["participants"] = "nobody knows on whom the checkpoints were trained: leaks cannot be told"
    return notes


def _read_record(path: Path) -> Any:
    """The record in a table of ours; None if there is none."""
    try:
        metadata = pq.read_schema(path).metadata or {}
    except pa.ArrowInvalid:  # damaged: it is made anew
        return None
    return json.loads(metadata.get(RECORD, b"null"))


def _write_table(path: Path, columns: dict[str, Any], metadata: dict[bytes, Any]) -> None:
    """Write a parquet table whole or not at all."""
    table = pa.table(columns)
    table = table.replace_schema_metadata({name: json.dumps(x, sort_keys=True) for name, x in metadata.items()})
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        pq.write_table(table, draft)
        with draft.open("rb+") as file:
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
