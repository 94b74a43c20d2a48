"""The narrower sister network: the published counts, and its arithmetic once more by hand.

No golden file exists of it. Its face backbone and LSTMs are MAQT's, though, with the same keys and shapes: the golden
features of the three sequences are its own too. From there on this file reckons by itself, in NumPy.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from golden_set import Golden, draw_weight, name_outputs, read_golden
from scipy.special import erf
from torch import Tensor

from smad_models.maqt import MODALITIES, Maqt
from smad_models.published import UNUSED, find_variant, load_published, published_names, to_published

LETTERS = {"face": "v", "eye": "a", "gaze": "l"}
State = Mapping[str, np.ndarray]


@pytest.fixture(scope="module")
def golden(shared: Path) -> Golden:
    return read_golden(shared)


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    """Golden weights by the recipe under EMERT's published keys, written down here once more from its description."""
    maqt = Maqt("va")  # what the two have in common is MAQT's, which is tested elsewhere
    tensors = maqt.state_dict()
    common = {key: name for name, key in published_names(maqt).items() if key.startswith(("subnet.", "proj_v1."))}
    shapes: dict[str, tuple[int, ...]] = {key: tuple(tensors[name].shape) for key, name in common.items()}
    shapes |= UNUSED
    for stem in [f"specific_projection_{letter}" for letter in LETTERS.values()] + ["invariant_projection"]:
        shapes |= {f"{stem}.0.weight": (64, 128), f"{stem}.0.bias": (64,)}
        shapes |= {f"{stem}.2.weight": (32, 64), f"{stem}.2.bias": (32,)}
    shapes |= {"distriminator.0.weight": (3, 32), "distriminator.0.bias": (3,)}
    shapes |= {"transformer.pos_embedding_s": (1, 72, 32), "transformer.pos_embedding_t": (1, 72, 32)}
    for layer in ("transformer.CrossTransformerEncoder.layers.0", "transformer.CrossTransformerEncoder.layers.1"):
        for norm in ("0.norm_q", "0.norm_k", "0.norm_v", "1.norm"):
            shapes |= {f"{layer}.{norm}.weight": (32,), f"{layer}.{norm}.bias": (32,)}
        shapes |= {f"{layer}.0.fn.to_{x}.weight": (512, 32) for x in "qkv"}
        shapes |= {f"{layer}.0.fn.to_out.0.weight": (32, 512), f"{layer}.0.fn.to_out.0.bias": (32,)}
        for number in (0, 3):
            shapes |= {f"{layer}.1.fn.net.{number}.weight": (32, 32), f"{layer}.1.fn.net.{number}.bias": (32,)}
    shapes |= {"cls_head.0.weight": (7, 32), "cls_head.0.bias": (7,)}
    return {key: torch.from_numpy(draw_weight(key, shape)) for key, shape in shapes.items()}


def test_it_has_the_published_numbers_of_keys_and_parameters(state: dict[str, Tensor]) -> None:
    assert len(state) == 206
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    assert sum(x.numel() for key, x in state.items() if not key.endswith(buffers)) == 12_625_209
    model = Maqt("emert")
    assert len(published_names(model)) + len(UNUSED) == 206
    assert sum(x.numel() for x in model.parameters()) + sum(state[key].numel() for key in UNUSED) == 12_625_209


def test_its_keys_survive_the_way_to_our_names_and_back(state: dict[str, Tensor]) -> None:
    assert find_variant(state) == "emert"
    model = Maqt("emert")
    load_published(model, state)
    back = to_published(model)
    assert set(back) == set(state) - set(UNUSED)
    assert all(torch.equal(back[key], state[key]) for key in back)


def test_its_outputs_equal_the_same_arithmetic_by_hand(golden: Golden, state: dict[str, Tensor]) -> None:
    model = Maqt("emert")
    load_published(model, state)
    model = model.double().eval()
    with torch.inference_mode():
        found = name_outputs(model(*(x.double() for x in golden.inputs), domains=True))
    trunk = golden.read("trunk")
    wide = {key: tensor.double().numpy() for key, tensor in state.items()}
    sequences = {
        "face": _linear(trunk["face_feat"], wide, "proj_v1"),  # (B, 8, 128)
        "eye": trunk["eye_feat"],  # (B, 32, 128)
        "gaze": trunk["gaze_feat"],  # (B, 32, 128)
    }
    want = _reckon(sequences, wide)
    assert want.keys() == found.keys()
    for name, x in found.items():
        assert x.shape == want[name].shape, name
        assert np.abs(x.numpy() - want[name]).max() <= 1e-10, name
    assert found["fused"].shape == (3, 32)
    assert np.abs(want["logits"]).max() > 0.1  # the comparison is not of zeros


def _reckon(sequences: dict[str, np.ndarray], state: State) -> dict[str, np.ndarray]:
    """The outputs by name, from the three sequences ``(B, T, 128)`` on."""
    specific = {name: _project(x, state, f"specific_projection_{LETTERS[name]}") for name, x in sequences.items()}
    invariant = {name: _project(x, state, "invariant_projection") for name, x in sequences.items()}
    said = {}
    for name in MODALITIES:
        said[f"dom_inv_{name}"] = _linear(invariant[name].mean(axis=1), state, "distriminator.0")
        said[f"dom_spec_{name}"] = _linear(specific[name].mean(axis=1), state, "distriminator.0")
    source = np.concatenate([specific[name] for name in MODALITIES], axis=1) + state["transformer.pos_embedding_s"]
    target = np.concatenate([invariant[name] for name in MODALITIES], axis=1) + state["transformer.pos_embedding_t"]
    for number in (0, 1):
        layer = f"transformer.CrossTransformerEncoder.layers.{number}"
        query = _norm(target, state, f"{layer}.0.norm_q") @ state[f"{layer}.0.fn.to_q.weight"].T
        key = _norm(source, state, f"{layer}.0.norm_k") @ state[f"{layer}.0.fn.to_k.weight"].T
        value = _norm(source, state, f"{layer}.0.norm_v") @ state[f"{layer}.0.fn.to_v.weight"].T
        merged = np.empty_like(value)  # (B, 72, 512)
        for head in range(8):
            part = slice(64 * head, 64 * head + 64)
            merged[:, :, part] = _softmax(query[:, :, part] @ key[:, :, part].swapaxes(1, 2) / 8) @ value[:, :, part]
        target = target + _linear(merged, state, f"{layer}.0.fn.to_out.0")
        inner = _linear(_norm(target, state, f"{layer}.1.norm"), state, f"{layer}.1.fn.net.0")
        target = target + _linear(inner * (1 + erf(inner / np.sqrt(2))) / 2, state, f"{layer}.1.fn.net.3")
    fused = target.mean(axis=1)
    return said | {"fused": fused, "logits": _linear(fused, state, "cls_head.0")}


def _project(x: np.ndarray, state: State, name: str) -> np.ndarray:
    inner = _linear(x, state, f"{name}.0")
    return _linear(np.where(inner > 0, inner, 0.1 * inner), state, f"{name}.2")


def _linear(x: np.ndarray, state: State, name: str) -> np.ndarray:
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def _norm(x: np.ndarray, state: State, name: str) -> np.ndarray:
    x = (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(x.var(axis=-1, keepdims=True) + 1e-5)
    return x * state[f"{name}.weight"] + state[f"{name}.bias"]


def _softmax(x: np.ndarray) -> np.ndarray:
    x = np.exp(x - x.max(axis=-1, keepdims=True))
    return x / x.sum(axis=-1, keepdims=True)
