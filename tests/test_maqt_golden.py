"""The network against the reference: outputs, intermediates, losses and gradients of the golden set."""

import hashlib
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from smad_models.checkpoints import UNUSED, load_published, published_names, to_published
from smad_models.maqt import MODALITIES, CrossLayer, Maqt, Output
from smad_models.tasks import TASKS, LossWeights, compute_loss

SEED, BATCH = 1234, 3
VARIANTS = ("va", "discrete", "intensity")


@pytest.fixture(scope="module")
def golden(shared: Path) -> Path:
    return shared / "maqt" / "golden"


@pytest.fixture(scope="module")
def manifest(golden: Path) -> dict[str, Any]:
    return json.loads((golden / "manifest.json").read_text())


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _rng(name: str) -> np.random.Generator:
    return np.random.default_rng([SEED, zlib.crc32(name.encode("ascii"))])


def _weight(key: str, shape: list[int]) -> np.ndarray:
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


def _digest(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


@pytest.fixture(scope="module")
def weights(manifest: dict[str, Any]) -> dict[str, dict[str, Tensor]]:
    """The golden state dict of each variant by the recipe, checked against the manifest key by key."""
    drawn: dict[tuple[str, tuple[int, ...]], np.ndarray] = {}
    states: dict[str, dict[str, Tensor]] = {}
    for variant, keys in manifest["variants"].items():
        states[variant] = {}
        for key, want in keys.items():
            slot = (key, tuple(want["shape"]))
            if slot not in drawn:
                drawn[slot] = _weight(key, want["shape"])
            assert _digest(drawn[slot]) == want["sha256"], f"the recipe for {key} is wrong"
            states[variant][key] = torch.from_numpy(drawn[slot])
    return states


@pytest.fixture(scope="module")
def inputs(manifest: dict[str, Any]) -> tuple[Tensor, ...]:
    """(face, eye, gaze) by the recipe, float32, checked against the manifest."""
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
        assert _digest(array) == manifest["inputs"][name]["sha256"], f"the recipe for {name} is wrong"
    return tuple(torch.from_numpy(single[name]) for name in MODALITIES)


def _model(variant: Any, weights: dict[str, dict[str, Tensor]], dtype: torch.dtype) -> Maqt:
    model = Maqt(variant)
    load_published(model, weights[variant])
    return model.to(dtype).eval()


def _named(output: Output) -> dict[str, Tensor]:
    """The outputs under the golden files' names."""
    assert output.invariant_domains is not None
    assert output.specific_domains is not None
    named = {"fused": output.fused}
    for i, name in enumerate(MODALITIES):
        named[f"dom_inv_{name}"] = output.invariant_domains[:, i]
        named[f"dom_spec_{name}"] = output.specific_domains[:, i]
    tasks = {"value": output.value, "logits": output.emotion, "intensity": output.intensity}
    return named | {name: x for name, x in tasks.items() if x is not None}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 2e-5)])
def test_outputs_equal_the_reference(
    golden: Path, weights: Any, inputs: Any, variant: str, dtype: torch.dtype, tolerance: float
) -> None:
    model = _model(variant, weights, dtype)
    with torch.inference_mode():
        found = _named(model(*(x.to(dtype) for x in inputs), domains=True))
    with np.load(golden / f"{variant}.npz") as want:
        names = {name for name in want if not name.endswith("_f32")} - {"seed", "batch"}
        assert set(found) == names
        for name, x in found.items():
            assert x.shape == want[name].shape, name
            assert np.abs(x.numpy() - want[name]).max() <= tolerance, name


def test_every_intermediate_of_the_trunk_equals_the_reference(golden: Path, weights: Any, inputs: Any) -> None:
    model = _model("va", weights, torch.float64)
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
    with torch.inference_mode():
        found["fused"] = model(*(x.double() for x in inputs)).fused
    with np.load(golden / "trunk.npz") as want:
        assert np.array_equal(want["eye_input"], inputs[1].numpy())
        names = {name for name in want if "input" not in name}
        assert set(found) == names
        for name in names:
            assert found[name].shape == want[name].shape, name
            assert np.abs(found[name].numpy() - want[name]).max() <= 1e-10, name


@pytest.mark.parametrize(
    ("golden_name", "task_name"),
    [("valence", "valence"), ("arousal", "arousal"), ("discrete", "emotion"), ("intensity", "intensity")],
)
def test_losses_and_every_gradient_equal_the_reference(
    golden: Path, weights: Any, inputs: Any, golden_name: str, task_name: str
) -> None:
    want = json.loads((golden / "loss.json").read_text())
    task = TASKS[task_name]
    labels = want["labels"]
    targets = {
        name: torch.tensor(labels[name])
        if name == "emotion"
        else torch.tensor(labels[name], dtype=torch.float64).unsqueeze(1)
        for name in task.targets
    }
    model = _model(task.variant, weights, torch.float64)
    output = model(*(x.double() for x in inputs), domains=True)
    losses = compute_loss(task, output, targets, LossWeights(want["alpha"], want["beta"], want["delta"]))
    losses.total.backward()
    expected = want["tasks"][golden_name]
    assert abs(losses.total.item() - expected["total"]) <= 1e-10
    assert abs(losses.invariant.item() - expected["invariant_domain"]) <= 1e-10
    assert abs(losses.specific.item() - expected["specific_domain"]) <= 1e-10
    own = losses.task.item()
    if task_name == "intensity":  # the reference returns the cross-entropy alone
        assert output.emotion is not None
        own = torch.nn.functional.cross_entropy(output.emotion, targets["emotion"]).item()
    assert abs(own - expected["task_returned"]) <= 1e-10

    keys = published_names(model)
    gradients = {keys[name]: parameter.grad for name, parameter in model.named_parameters()}
    used = {key for key, numbers in expected["grads"].items() if numbers is not None}
    assert set(gradients) == used
    assert set(expected["grads"]) - used == set(UNUSED)
    for key in used:
        gradient = gradients[key]
        assert gradient is not None
        norm, total = expected["grads"][key]
        scale = max(1.0, norm)
        assert abs(gradient.norm().item() - norm) <= 1e-9 * scale, key
        assert abs(gradient.sum().item() - total) <= 1e-8 * scale, key


def test_rows_do_not_depend_on_their_batch(golden: Path, weights: Any, inputs: Any) -> None:
    model = _model("discrete", weights, torch.float64)
    with np.load(golden / "discrete.npz") as file:
        want = file["logits"]
    with torch.inference_mode():
        alone = model(*(x[1:2].double() for x in inputs)).emotion
        doubled = model(*(x[[2, 2]].double() for x in inputs)).emotion
    assert np.abs(alone.numpy() - want[1:2]).max() <= 1e-10
    assert np.abs(doubled.numpy() - want[[2, 2]]).max() <= 1e-10


def test_features_of_the_frozen_backbone_stand_in_for_the_pixels(golden: Path, weights: Any, inputs: Any) -> None:
    model = _model("va", weights, torch.float64)
    with np.load(golden / "trunk.npz") as trunk, np.load(golden / "va.npz") as want:
        features = torch.from_numpy(trunk["face_feat"])
        with torch.inference_mode():
            value = model(features, inputs[1].double(), inputs[2].double()).value
        assert np.abs(value.numpy() - want["value"]).max() <= 1e-10


def test_inference_leaves_out_the_domain_branch(weights: Any, inputs: Any) -> None:
    model = _model("va", weights, torch.float32)
    model.discriminator.register_forward_hook(lambda *_: pytest.fail("the discriminator ran"))
    with torch.inference_mode():
        output = model(torch.zeros(3, 8, 512), *inputs[1:])
    assert output.invariant_domains is None
    assert output.specific_domains is None


@pytest.mark.parametrize("variant", VARIANTS)
def test_published_keys_survive_the_way_to_our_names_and_back(weights: Any, manifest: Any, variant: str) -> None:
    back = to_published(_model(variant, weights, torch.float32))
    assert set(back) == set(manifest["variants"][variant]) - set(UNUSED)
    for key, tensor in back.items():
        assert _digest(tensor.numpy()) == manifest["variants"][variant][key]["sha256"], key


def test_published_weights_without_the_unused_tensors_load_too(weights: Any) -> None:
    state = {key: tensor for key, tensor in weights["va"].items() if key not in UNUSED}
    model = Maqt("va")
    load_published(model, state)
    assert to_published(model).keys() == state.keys()


def test_published_weights_that_do_not_fit_are_refused_by_name(weights: Any) -> None:
    state = dict(weights["va"])
    del state["subnet.e_lstm.bias_hh_l2"]
    state["transformer.pos_embedding_s"] = torch.zeros(1, 72, 32)
    state["extra.weight"] = torch.zeros(1)
    with pytest.raises(ValueError, match="does not fit") as caught:
        load_published(Maqt("va"), state)
    message = str(caught.value)
    assert "subnet.e_lstm.bias_hh_l2 is missing" in message
    assert "transformer.pos_embedding_s has shape (1, 72, 32), want (1, 72, 64)" in message
    assert "extra.weight is unknown" in message
    with pytest.raises(ValueError, match=r"cls_head\.1\.weight is missing"):
        load_published(Maqt("discrete"), weights["va"])
