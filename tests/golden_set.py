"""The golden set: weights and inputs drawn by its recipe and checked against its manifest, outputs by its names."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from smad_models.maqt import MODALITIES, CrossLayer, Maqt, Output

SEED, BATCH = 1234, 3


@dataclass(frozen=True, eq=False)
class Golden:
    """The folder of golden numbers, and what the recipe draws for it."""

    folder: Path
    manifest: dict[str, Any]
    weights: dict[str, dict[str, Tensor]]  # of each variant under the published keys, float32
    inputs: tuple[Tensor, Tensor, Tensor]  # face, eye, gaze, float32

    @cache  # noqa: B019 - there is one, as long as the tests run
    def read(self, name: str) -> dict[str, np.ndarray]:
        """The arrays of one of its files."""
        with np.load(self.folder / f"{name}.npz") as file:
            return dict(file)

    @cache  # noqa: B019
    def loss(self) -> dict[str, Any]:
        """Its losses, labels and gradients."""
        return json.loads((self.folder / "loss.json").read_text())


@cache
def read_golden(shared: Path) -> Golden:
    """The golden set, its recipes checked key by key."""
    folder = shared / "maqt" / "golden"
    manifest = json.loads((folder / "manifest.json").read_text())
    drawn: dict[tuple[str, tuple[int, ...]], np.ndarray] = {}
    weights: dict[str, dict[str, Tensor]] = {}
    for variant, keys in manifest["variants"].items():
        weights[variant] = {}
        for key, want in keys.items():
            slot = (key, tuple(want["shape"]))
            if slot not in drawn:
                drawn[slot] = draw_weight(key, want["shape"])
            assert digest(drawn[slot]) == want["sha256"], f"the recipe for {key} is wrong"
            weights[variant][key] = torch.from_numpy(drawn[slot])
    return Golden(folder, manifest, weights, _draw_inputs(manifest))


def draw_weight(key: str, shape: Sequence[int]) -> np.ndarray:
    """The golden tensor of a published key, as the golden set's README says."""
    if key.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    z = _rng(key).standard_normal(shape)
    if key.endswith("running_mean"):
        z = 0.1 * z
    elif key.endswith("running_var"):
        z = 1 + 0.5 * np.abs(z)
    elif "pos_embedding" in key:
        z = 0.5 * z
    elif len(shape) == 1:
        z = 1 + 0.2 * z if key.endswith(".weight") else 0.1 * z
    else:
        if len(shape) == 4:
            gain = 1.2
        elif "_lstm." in key:
            gain = 2.5
        elif ".to_q." in key or ".to_k." in key:
            gain = 1.5
        else:
            gain = 2.0 if key.startswith("cls_head") else 1.0
        z = z * (gain / np.sqrt(np.prod(shape[1:])))
    return z.astype(np.float32)


def digest(array: np.ndarray) -> str:
    """The sha256 of an array's bytes."""
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def name_outputs(output: Output) -> dict[str, Tensor]:
    """The outputs under the golden files' names."""
    assert output.invariant_domains is not None
    assert output.specific_domains is not None
    named = {"fused": output.fused}
    for i, name in enumerate(MODALITIES):
        named[f"dom_inv_{name}"] = output.invariant_domains[:, i]
        named[f"dom_spec_{name}"] = output.specific_domains[:, i]
    tasks = {"value": output.value, "logits": output.emotion, "intensity": output.intensity}
    return named | {name: x for name, x in tasks.items() if x is not None}


def watch_trunk(model: Maqt) -> Mapping[str, Tensor]:
    """The intermediates of the next forward, under the names of `trunk.npz`; it is filled while that runs."""
    found: dict[str, Tensor] = {}

    def keep(module: torch.nn.Module, name: str, *, take: Any = lambda args, out: out) -> None:
        module.register_forward_hook(lambda _, args, out: found.__setitem__(name, take(args, out)))

    keep(model.eye_lstm, "eye_feat", take=lambda args, out: out[0])
    keep(model.gaze_lstm, "gaze_feat", take=lambda args, out: out[0])
    keep(model.face_projection, "face_feat", take=lambda args, out: args[0])
    keep(model.face_projection, "face_proj")
    keep(model.fusion, "encoder_out")
    model.fusion.register_forward_pre_hook(
        lambda _, args: found.update({"specific": args[0], "invariant": args[1]}) or None
    )
    for i, module in enumerate(model.fusion.layers):
        layer = cast(CrossLayer, module)
        keep(layer.attention, f"layer{i}_attn_branch")
        keep(layer.feed_forward, f"layer{i}_ffn_branch")
    return found


def _rng(name: str) -> np.random.Generator:
    return np.random.default_rng([SEED, zlib.crc32(name.encode("ascii"))])


def _draw_inputs(manifest: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
    rng = _rng("input:face")
    coarse = rng.standard_normal((BATCH, 8, 3, 14, 14))
    fine = rng.standard_normal((BATCH, 8, 3, 112, 112))
    contrast = 0.25 + 1.5 * rng.random((BATCH, 8, 1, 1, 1))
    level = rng.standard_normal((BATCH, 8, 3, 1, 1))
    face = contrast * (coarse.repeat(8, axis=-1).repeat(8, axis=-2) + 0.25 * fine) + level
    arrays = {
        "face": face,
        "eye": _rng("input:eye").standard_normal((BATCH, 32, 39)),
        "gaze": _rng("input:gaze").standard_normal((BATCH, 32, 2)),
    }
    single = {name: array.astype(np.float32) for name, array in arrays.items()}
    for name, array in single.items():
        assert digest(array) == manifest["inputs"][name]["sha256"], f"the recipe for {name} is wrong"
    face, eye, gaze = (torch.from_numpy(single[name]) for name in MODALITIES)
    return face, eye, gaze
