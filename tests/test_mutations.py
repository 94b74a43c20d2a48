"""Does the golden set see mistakes? One line of the network is changed at a time, and a golden comparison must fail.

Each mistake is planted into the real source, which is then run as a module of its own. The comparisons start from the
golden features of the faces, or, for mistakes in what makes these, from pixels.
"""

import inspect
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from golden_set import Golden, name_outputs, read_golden, watch_trunk

from smad_models import maqt, resnet, tasks
from smad_models.published import load_published, published_names
from smad_models.tasks import LossWeights

VARIANTS = {"valence": "va", "emotion": "discrete", "intensity": "intensity"}  # a task of each
GOLDEN_NAMES = {"emotion": "discrete"}  # where the golden file calls the task otherwise

# What the mistake is -> the line as it stands, and as it is planted.
IN_THE_FUSION = {
    "query and key swapped": ("attention(query, key, value)", "attention(key, query, value)"),
    "source and target swapped": ("self.attention(target, source)", "self.attention(source, target)"),
    "one norm for keys and values": ("self.norm_value(source)", "self.norm_key(source)"),
    "no norm on the query": ("self.norm_query(target)", "target"),
    "source normalised in place": ("self.norm_key(source)", "source := self.norm_key(source)"),
    "source updated": ("target = layer(target, source)", "target = source = layer(target, source)"),
    "no positions of the source": ("specific + self.source_position", "specific"),
    "no positions of the target": ("invariant + self.target_position", "invariant"),
    "the other one's positions": ("specific + self.source_position", "specific + self.target_position"),
    "tanh GELU": ("F.gelu(self.inner(self.norm(x)))", 'F.gelu(self.inner(self.norm(x)), approximate="tanh")'),
    "ReLU for GELU": ("F.gelu(", "F.relu("),
    "norm after the linear map": ("self.inner(self.norm(x))", "self.norm(self.inner(x))"),
    "scale of the inner width": ("attention(query, key, value)", "attention(query, key, value, scale=512**-0.5)"),
    "heads interleaved": (
        "x.unflatten(2, (HEADS, HEAD_WIDTH)).transpose(1, 2)",
        "x.unflatten(2, (HEAD_WIDTH, HEADS)).permute(0, 3, 1, 2)",
    ),
    "heads merged before steps": ("heads.transpose(1, 2).flatten(2)", "heads.reshape(len(heads), -1, 512)"),
    "no residual at the attention": ("target = target + self.attention(", "target = self.attention("),
    "no residual at the perceptron": ("return target + self.feed_forward(", "return self.feed_forward("),
    "LayerNorm's eps": ("self.norm = nn.LayerNorm(width)", "self.norm = nn.LayerNorm(width, eps=1e-6)"),
    "dropout on attention": ("attention(query, key, value)", "attention(query, key, value, dropout_p=0.1)"),
    "one layer instead of two": ("for layer in self.layers:", "for layer in self.layers[:1]:"),
}
IN_THE_NETWORK = {
    "frames in reverse": ("self.face_projection(face)", "self.face_projection(face.flip(1))"),
    "eye movement backwards": ("self.eye_lstm(eye)[0]", "self.eye_lstm(eye.flip(1))[0]"),
    "last state of an LSTM alone": ("self.gaze_lstm(gaze)[0]", "self.gaze_lstm(gaze)[0][:, -1:].expand(-1, 32, -1)"),
    "dropout left on": ("self.dropout(self.face_projection(face))", "F.dropout(self.face_projection(face))"),
    "modalities in another order": ("torch.cat(specific, dim=1)", "torch.cat(specific[::-1], dim=1)"),
    "order of the invariant ones": ("torch.cat(invariant, dim=1)", "torch.cat(invariant[::-1], dim=1)"),
    "shared projection for all": ("self.specific[name](x) for", "self.invariant(x) for"),
    "a mean over the faces' tokens": ("tokens.mean(dim=1)", "tokens[:, :8].mean(dim=1)"),
    "maximum for mean": ("tokens.mean(dim=1)", "tokens.amax(dim=1)"),
    "last step for the domain": ("[x.mean(dim=1) for x in sequences]", "[x[:, -1] for x in sequences]"),
    "no reversal": ("return -gradient", "return gradient"),
    "specific ones reversed too": ("(specific, reverse=False)", "(specific, reverse=True)"),
    "reversed ones to the fusion": ("[self.invariant(x) for", "[_ReverseGradient.apply(self.invariant(x)) for"),
    "slope of the first LeakyReLU": ("nn.LeakyReLU(0.01), nn.Linear(32, 16)", "nn.LeakyReLU(0.1), nn.Linear(32, 16)"),
    "bounded value": ("self.value_head(fused)", "torch.tanh(self.value_head(fused))"),
    "probabilities for logits": ("self.emotion_head(fused)", "self.emotion_head(fused).softmax(dim=1)"),
    "bounded intensity": ("self.intensity_head(fused)", "3 * torch.sigmoid(self.intensity_head(fused))"),
}
IN_THE_LOSS = {
    "mean of the domains for their sum": (" * len(MODALITIES)", ""),
    "domains numbered backwards": ("device=logits.device).expand", "device=logits.device).flip(0).expand"),
    "squares for SmoothL1": ("F.smooth_l1_loss(", "F.mse_loss("),
    "intensity without its regression": ("torch.stack(parts).sum()", "parts[0]"),
}
IN_THE_BACKBONE = {
    "BatchNorm's eps": ("self.bn1 = nn.BatchNorm2d(64)", "self.bn1 = nn.BatchNorm2d(64, eps=1e-3)"),
    "means for maxima": ("nn.MaxPool2d(3", "nn.AvgPool2d(3"),
    "no ReLU after the stem": ("torch.relu_(self.bn1(self.conv1(x)))  # (N, 64, 56, 56)", "self.bn1(self.conv1(x))"),
    "shortcut after the ReLU": ("torch.relu_(branch + self.downsample(x))", "torch.relu_(branch) + self.downsample(x)"),
    "no shortcut": ("torch.relu_(branch + self.downsample(x))", "torch.relu_(branch)"),
    "maximum over the picture": ("x.mean(dim=(2, 3))", "x.amax(dim=(2, 3))"),
}
IN_ITS_FRAMES = {
    "pictures on their side": ("face.flatten(0, 1)", "face.flatten(0, 1).transpose(2, 3)"),
    "frames for clips": ("features.unflatten(0, face.shape[:2])", "features.unflatten(0, (8, -1)).transpose(0, 1)"),
}


@pytest.fixture(scope="module")
def golden(shared: Path) -> Golden:
    return read_golden(shared)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def plant(module: ModuleType, line: str, planted: str) -> Any:
    """The module with one line changed, which must stand there exactly once."""
    source = inspect.getsource(module)
    assert source.count(line) == 1, f"{module.__name__}: {line!r} stands there {source.count(line)} times"
    mutant = ModuleType(module.__name__)
    mutant.__file__ = module.__file__
    exec(compile(source.replace(line, planted), f"<{module.__name__} with a mistake>", "exec"), mutant.__dict__)
    return mutant


def compare_features(golden: Golden, network: Any, losses: Any) -> float:
    """Golden outputs, losses and gradients from features of faces on: the largest error, as a share of what is allowed.

    After the first task with an error beyond that, no other is tried.
    """
    features = torch.from_numpy(golden.read("trunk")["face_feat"])
    eye, gaze = (x.double() for x in golden.inputs[1:])
    expected = golden.loss()
    labels = {name: torch.tensor(x, dtype=torch.float64).unsqueeze(1) for name, x in expected["labels"].items()}
    labels["emotion"] = torch.tensor(expected["labels"]["emotion"])
    weights = LossWeights(expected["alpha"], expected["beta"], expected["delta"])
    worst = 0.0
    for name, variant in VARIANTS.items():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(network, "ResNet18", torch.nn.Identity)  # drawing its weights is what takes long
            model = network.Maqt(variant)
        state = {key: x for key, x in golden.weights[variant].items() if not key.startswith("subnet.f_extractor.")}
        load_published(model, state)
        output = model.double().eval()(features, eye, gaze, domains=True)
        want = golden.read(variant)
        errors = [np.abs(x.detach().numpy() - want[key]).max() / 1e-10 for key, x in name_outputs(output).items()]
        loss = losses.compute_loss(losses.TASKS[name], output, labels, weights)
        loss.total.backward()
        said = expected["tasks"][GOLDEN_NAMES.get(name, name)]
        parts = {"total": loss.total, "invariant_domain": loss.invariant, "specific_domain": loss.specific}
        errors += [abs(x.item() - said[key]) / 1e-10 for key, x in parts.items()]
        keys = published_names(model)
        for own, parameter in model.named_parameters():
            norm, total = said["grads"][keys[own]]
            gradient = torch.zeros(1) if parameter.grad is None else parameter.grad
            scale = max(1.0, norm)
            errors.append(abs(gradient.norm().item() - norm) / (1e-9 * scale))
            errors.append(abs(gradient.sum().item() - total) / (1e-8 * scale))
        worst = max(worst, *errors)
        if worst > 1:
            break
    return worst


def compare_pixels(golden: Golden, network: Any) -> float:
    """Golden features of two clips' faces from pixels on, likewise."""
    model = network.Maqt("va")
    load_published(model, golden.weights["va"])
    watched = watch_trunk(model.double().eval())
    with torch.inference_mode():
        model(*(x[:2].double() for x in golden.inputs))
    return float(np.abs(watched["face_feat"].numpy() - golden.read("trunk")["face_feat"][:2]).max() / 1e-10)


def test_without_a_mistake_all_is_as_it_should_be(golden: Golden) -> None:
    network = plant(maqt, "DEPTH = 2", "DEPTH = 1 + 1")
    assert compare_features(golden, network, plant(tasks, "0.3, 0.1, 1.0", "0.3, 0.10, 1.0")) <= 1
    assert compare_pixels(golden, network) <= 1


@pytest.mark.parametrize("mistake", [*IN_THE_FUSION, *IN_THE_NETWORK])
def test_a_mistake_in_the_network_is_seen(golden: Golden, mistake: str) -> None:
    network = plant(maqt, *(IN_THE_FUSION | IN_THE_NETWORK)[mistake])
    assert compare_features(golden, network, tasks) > 1, mistake


@pytest.mark.parametrize("mistake", IN_THE_LOSS)
def test_a_mistake_in_the_loss_is_seen(golden: Golden, mistake: str) -> None:
    assert compare_features(golden, maqt, plant(tasks, *IN_THE_LOSS[mistake])) > 1


@pytest.mark.parametrize("mistake", IN_THE_BACKBONE)
def test_a_mistake_in_the_backbone_is_seen(golden: Golden, mistake: str) -> None:
    mutant = plant(resnet, *IN_THE_BACKBONE[mistake])
    network = SimpleNamespace(**vars(plant(maqt, "DEPTH = 2", "DEPTH = 2")))
    network.Maqt.__init__.__globals__["ResNet18"] = mutant.ResNet18
    assert compare_pixels(golden, network) > 1


@pytest.mark.parametrize("mistake", IN_ITS_FRAMES)
def test_a_mistake_in_the_order_of_pixels_and_frames_is_seen(golden: Golden, mistake: str) -> None:
    assert compare_pixels(golden, plant(maqt, *IN_ITS_FRAMES[mistake])) > 1
