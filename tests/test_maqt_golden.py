"""The network against the reference: outputs, intermediates, losses and gradients of the golden set."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from golden_set import Golden, digest, name_outputs, read_golden, watch_trunk
from torch import Tensor

from smad_models.maqt import Maqt
from smad_models.published import UNUSED, load_published, published_names, to_published
from smad_models.tasks import TASKS, LossWeights, compute_loss

VARIANTS = ("va", "discrete", "intensity")


@pytest.fixture(scope="module")
def golden(shared: Path) -> Golden:
    return read_golden(shared)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _model(variant: Any, golden: Golden, dtype: torch.dtype) -> Maqt:
    model = Maqt(variant)
    load_published(model, golden.weights[variant])
    return model.to(dtype).eval()


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 2e-5)])
def test_outputs_equal_the_reference(golden: Golden, variant: str, dtype: torch.dtype, tolerance: float) -> None:
    model = _model(variant, golden, dtype)
    with torch.inference_mode():
        found = name_outputs(model(*(x.to(dtype) for x in golden.inputs), domains=True))
    want = golden.read(variant)
    assert set(found) == {name for name in want if not name.endswith("_f32")} - {"seed", "batch"}
    for name, x in found.items():
        assert x.shape == want[name].shape, name
        assert np.abs(x.numpy() - want[name]).max() <= tolerance, name


def test_every_intermediate_of_the_trunk_equals_the_reference(golden: Golden) -> None:
    model = _model("va", golden, torch.float64)
    watched = watch_trunk(model)
    with torch.inference_mode():
        fused = model(*(x.double() for x in golden.inputs)).fused
    found = {**watched, "fused": fused}
    want = golden.read("trunk")
    assert np.array_equal(want["eye_input"], golden.inputs[1].numpy())
    assert set(found) == {name for name in want if "input" not in name}
    for name, x in found.items():
        assert x.shape == want[name].shape, name
        assert np.abs(x.numpy() - want[name]).max() <= 1e-10, name


@pytest.mark.parametrize(
    ("golden_name", "task_name"),
    [("valence", "valence"), ("arousal", "arousal"), ("discrete", "emotion"), ("intensity", "intensity")],
)
def test_losses_and_every_gradient_equal_the_reference(golden: Golden, golden_name: str, task_name: str) -> None:
    want = golden.loss()
    task = TASKS[task_name]
    labels = want["labels"]
    targets = {
        name: torch.tensor(labels[name])
        if name == "emotion"
        else torch.tensor(labels[name], dtype=torch.float64).unsqueeze(1)
        for name in task.targets
    }
    model = _model(task.variant, golden, torch.float64)
    output = model(*(x.double() for x in golden.inputs), domains=True)
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


def test_rows_do_not_depend_on_their_batch(golden: Golden) -> None:
    model = _model("discrete", golden, torch.float64)
    want = golden.read("discrete")["logits"]
    with torch.inference_mode():
        alone = model(*(x[1:2].double() for x in golden.inputs)).emotion
        doubled = model(*(x[[2, 2]].double() for x in golden.inputs)).emotion
    assert np.abs(alone.numpy() - want[1:2]).max() <= 1e-10
    assert np.abs(doubled.numpy() - want[[2, 2]]).max() <= 1e-10


def test_features_of_the_frozen_backbone_stand_in_for_the_pixels(golden: Golden) -> None:
    model = _model("va", golden, torch.float64)
    features = torch.from_numpy(golden.read("trunk")["face_feat"])
    with torch.inference_mode():
        value = model(features, *(x.double() for x in golden.inputs[1:])).value
    assert np.abs(value.numpy() - golden.read("va")["value"]).max() <= 1e-10


def test_inference_leaves_out_the_domain_branch(golden: Golden) -> None:
    model = _model("va", golden, torch.float32)
    model.discriminator.register_forward_hook(lambda *_: pytest.fail("the discriminator ran"))
    with torch.inference_mode():
        output = model(torch.zeros(3, 8, 512), *golden.inputs[1:])
    assert output.invariant_domains is None
    assert output.specific_domains is None


@pytest.mark.parametrize("variant", VARIANTS)
def test_published_keys_survive_the_way_to_our_names_and_back(golden: Golden, variant: str) -> None:
    back = to_published(_model(variant, golden, torch.float32))
    assert set(back) == set(golden.manifest["variants"][variant]) - set(UNUSED)
    for key, tensor in back.items():
        assert digest(tensor.numpy()) == golden.manifest["variants"][variant][key]["sha256"], key


def test_published_weights_without_the_unused_tensors_load_too(golden: Golden) -> None:
    state = {key: tensor for key, tensor in golden.weights["va"].items() if key not in UNUSED}
    model = Maqt("va")
    load_published(model, state)
    assert to_published(model).keys() == state.keys()


def test_published_weights_that_do_not_fit_are_refused_by_name(golden: Golden) -> None:
    state = dict(golden.weights["va"])
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
        load_published(Maqt("discrete"), golden.weights["va"])


@pytest.mark.parametrize(
    ("key", "tensor", "message"),
    [
        ("proj_v1.bias", torch.full((128,), float("nan")), "proj_v1.bias holds what is no number"),
        ("proj_v1.bias", torch.zeros(128, dtype=torch.float16), "proj_v1.bias is float16, want float32"),
        ("subnet.classifier.bias", torch.zeros(8), r"subnet.classifier.bias has shape \(8,\), want \(7,\)"),
    ],
)
def test_published_weights_with_wrong_numbers_are_refused_by_name(
    golden: Golden, key: str, tensor: Tensor, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        load_published(Maqt("va"), golden.weights["va"] | {key: tensor})
