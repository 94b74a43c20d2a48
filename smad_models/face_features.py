"""Features of a face backbone that stays as it is: computed once a fold, for the training and prediction of all tasks.

The ResNet is 99 % of the network's arithmetic.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from smad_models.cache_files import Place
from smad_models.checkpoints import (
    digest_file,
    digest_value,
    is_current,
    load_backbone,
    load_tensors,
    read_metadata,
    read_tensors,
    write_tensors,
)
from smad_models.dataset import Cache, open_cache, split_fold
from smad_models.folds import read_folds
from smad_models.inputs import Convention, Inputs, deterministic, find_device
from smad_models.maqt import Maqt
from smad_models.resnet import ResNet18, calibrate_norms

CALIBRATION_CROPS = 128  # for BatchNorm statistics: each is a mean over that many crops times at least 16 pixels
BACKBONE = "backbone."  # prefix of the weights in a file of face features


def embed_faces(
    *,
    fold: int,
    cache: Place,
    folds: Path,
    output: Path,
    seed: int = 0,
    backbone: Path | None = None,
    key: str = "",
    convention: Convention = "standard",
    device: str = "auto",
) -> Literal["embedded", "unchanged"]:
    """Write the features of all clips' faces under one face backbone, and the backbone itself, for `train_fold`.

    Given no ``backbone`` file, the weights are random and only the BatchNorm statistics are fitted, to crops of the
    fold's *training* participants: features of that kind see light, edges and rough shape, and no score made with them
    should stand beside published ones.

    Returns
    -------
    ``unchanged`` when the output was made from just these inputs before, and was left as it is.
    """
    opened = open_cache(cache)
    places = read_folds(folds)
    split = split_fold(opened, places, fold)
    record = {
        "key": key,
        "cache": opened.digest,
        "folds": digest_value(sorted(places)),
        "fold": fold,
        "seed": seed,
        "convention": convention,
        "backbone": digest_file(backbone) if backbone else None,
    }
    if is_current(output, record):
        return "unchanged"
    place = find_device(device)
    torch.manual_seed(seed)
    inputs = Inputs(convention, channels=len(opened.channels)).to(place)
    network = ResNet18().to(place)
    with deterministic(place):
        if backbone is None:
            warning = f"embed faces fold {fold}: WARNING: no backbone weights are given: the face backbone is random"
            print(warning, file=sys.stderr, flush=True)
            crops = torch.from_numpy(_draw_crops(opened, split.training, seed=seed))  # (n, 112, 112, 3)
            if len(crops):
                calibrate_norms(network, (inputs.pixels(batch[None].to(place))[0] for batch in crops.split(64)))
        else:
            load_backbone(network, backbone)
        network.eval()
        features = []
        with torch.inference_mode():
            for rows in np.array_split(np.arange(len(opened.clips)), math.ceil(len(opened.clips) / 16)):
                face = torch.from_numpy(opened.read(rows, ("face",))["face"]).to(place)  # (B, 8, 112, 112, 3)
                pixels = inputs.pixels(face).flatten(0, 1)  # (B * 8, 3, 112, 112)
                features.append(network(pixels).unflatten(0, face.shape[:2]).cpu())  # (B, 8, 512)
    weights = {BACKBONE + name: x for name, x in network.state_dict().items()}
    metadata = {"record": record, "fold": fold, "convention": convention, "clips": opened.clips, "cache": opened.digest}
    write_tensors(output, {"features": torch.cat(features), **weights}, metadata)
    return "embedded"


def load_features(path: Path, model: Maqt, cache: Cache, *, fold: int) -> Tensor:
    """The features of all clips ``(clips, frames, 512)``; the model takes over the backbone that made them.

    Raises
    ------
    ValueError
        If the file is of another fold, cache or input convention.
    """
    metadata = read_metadata(path)
    wanted = {"fold": fold, "convention": model.inputs.convention, "cache": cache.digest}
    for name, value in wanted.items():
        if metadata.get(name) != value:
            raise ValueError(f"{path}: {name}: want {value!r}, got {metadata.get(name)!r}")
    tensors = read_tensors(path)
    features = tensors.pop("features")
    weights = {name.removeprefix(BACKBONE): x for name, x in tensors.items()}
    load_tensors(model.face_backbone, weights, source=str(path))
    model.face_backbone.requires_grad_(False)
    return features


def find_features(path: Path, model: Maqt, cache: Cache) -> Tensor | None:
    """The features of all clips ``(clips, frames, 512)`` in the file at ``path``, if ``model`` would make the same.

    None where there is no such file, or it is of another backbone, cache or input convention: whoever asks computes
    them from the pixels.
    """
    if not path.is_file():
        return None
    try:
        metadata = read_metadata(path)
    except ValueError:  # damaged, or another program's
        return None
    if metadata.get("convention") != model.inputs.convention or metadata.get("cache") != cache.digest:
        return None
    tensors = read_tensors(path)
    own = model.face_backbone.state_dict()
    if any(not torch.equal(x, tensors.get(BACKBONE + name, torch.empty(0))) for name, x in own.items()):
        return None
    return tensors["features"]


def _draw_crops(cache: Cache, rows: np.ndarray, *, seed: int) -> np.ndarray:
    """Up to CALIBRATION_CROPS crops of ``rows`` that show a face, ``(n, size, size, 3)``."""
    found = cache.read(rows, ("face_found",))["face_found"]  # (clips, 8)
    pairs = np.argwhere(found)  # (n, 2) clip, frame
    pairs = np.random.default_rng(seed).permutation(pairs)[:CALIBRATION_CROPS]
    clips, inverse = np.unique(pairs[:, 0], return_inverse=True)
    return cache.read(rows[clips], ("face",))["face"][inverse, pairs[:, 1]]
