"""What a checkpoint or a network is: its size, its parameters by part, its FLOPs, what goes in and how."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from smad_models.checkpoints import load_checkpoint
from smad_models.maqt import Maqt, Variant
from smad_models.published import UNUSED

# Part of the network -> the modules that it is made of, in the order of the data's flow.
_PARTS = {
    "face backbone": ("face_backbone",),
    "eye LSTM": ("eye_lstm",),
    "gaze LSTM": ("gaze_lstm",),
    "face projection": ("face_projection",),
    "projections to tokens": ("specific", "invariant"),
    "domain discriminator": ("discriminator",),
    "transformer": ("fusion",),
    "head": ("value_head", "emotion_head", "intensity_head"),
}


def describe_checkpoint(path: Path) -> dict[str, Any]:
    """All that can be said of a checkpoint, as JSON takes it.

    Raises
    ------
    ValueError
        If the file is no checkpoint of ours.
    """
    model, meta = load_checkpoint(path)
    trained_on = len(meta.participants) or None
    return {
        "checkpoint": str(path),
        "bytes": path.stat().st_size,
        "task": meta.task,
        "fold": meta.fold,
        "emotions": list(meta.emotions),
        "participants": trained_on,  # how many it was trained on; None = unknown
        "code": meta.code,
        "cache_version": meta.cache_version,
        "scores": meta.scores,
        "epochs": len(next(iter(meta.history.values()), ())) or None,
        **_describe(model, size=meta.size),
        "inputs": _describe_inputs(model, meta.channels, size=meta.size),
    }


def describe_network(variant: Variant) -> dict[str, Any]:
    """The same of a network without weights, in its published shape; its bytes are those of its tensors."""
    model = Maqt(variant).eval()
    tensors = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    return {"bytes": tensors, **_describe(model, size=112), "lengths": model.lengths}


def count_parameters(model: Maqt) -> dict[str, int]:
    """The trainable numbers of each part of the network that it has."""
    parts = {part: [getattr(model, name) for name in names if hasattr(model, name)] for part, names in _PARTS.items()}
    return {part: sum(p.numel() for module in modules for p in module.parameters()) for part, modules in parts.items()}


def count_flops(model: Maqt, *, size: int = 112) -> dict[str, int]:
    """The floating-point operations of one clip (twice its multiply-adds), domain outputs included, by part.

    Convolutions and matrix products are counted by torch. It passes over LSTMs where a library runs them in one piece,
    so these are reckoned: four gates, each a product with the input and one with the state, in every step.
    """
    device = next(model.parameters()).device
    channels = model.eye_lstm.input_size
    face = torch.zeros(1, model.lengths["face"], 3, size, size, device=device)
    eye = torch.zeros(1, model.lengths["eye"], channels, device=device)
    gaze = torch.zeros(1, model.lengths["gaze"], 2, device=device)
    # Attention as plain products: the fused ones are not counted on every device.
    counter = FlopCounterMode(display=False)
    with torch.inference_mode(), counter, sdpa_kernel(SDPBackend.MATH):
        model(face, eye, gaze, domains=True)
    found = {name: sum(counts.values()) for name, counts in counter.get_flop_counts().items()}
    lstms = {name: _lstm_flops(getattr(model, f"{name}_lstm"), model.lengths[name]) for name in ("eye", "gaze")}
    counted = found["Global"] - sum(found.get(f"Maqt.{name}_lstm", 0) for name in lstms)
    backbone, transformer = found["Maqt.face_backbone"], found["Maqt.fusion"]
    return {
        "face backbone": backbone,
        "eye LSTM": lstms["eye"],
        "gaze LSTM": lstms["gaze"],
        "transformer": transformer,
        "all else": counted - backbone - transformer,
    }


def format_description(said: Mapping[str, Any]) -> str:
    """A description as lines for a terminal."""
    parameters, flops = said["parameters"], said["flops"]
    lines = [said.get("checkpoint", f"network {said['variant']}")]
    if "task" in said:
        known = "unknown" if said["participants"] is None else f"{said['participants']} participants"
        lines += [
            f"  task        {said['task']}, fold {said['fold']}; trained on: {known}",
            f"  emotions    {', '.join(said['emotions'])}",
            f"  made by     {said['code']}, for cache version {said['cache_version']}",
            f"  scores      {', '.join(f'{name} {x:.4f}' for name, x in said['scores'].items()) or 'none'}",
        ]
    where = "on disk" if "task" in said else "as float32"
    lines += [
        f"  network     {said['variant']}, {said['bytes'] / 1e6:.1f} MB {where}",
        f"  parameters  {sum(parameters.values()):,}"
        f" ({said['published_parameters']:,} with what the published files hold and never use)",
        *(f"    {part:<22} {number:>13,}" for part, number in parameters.items()),
        f"  FLOPs       {sum(flops.values()):,} a clip, domain outputs included",
        *(f"    {part:<22} {number:>13,}" for part, number in flops.items()),
    ]
    if "inputs" not in said:
        lengths = ", ".join(f"{name} {length}" for name, length in said["lengths"].items())
        return "\n".join([*lines, f"  lengths     {lengths}"])
    inputs = said["inputs"]
    lengths = ", ".join(f"{name} {length}" for name, length in inputs["lengths"].items())
    mean, std = (", ".join(f"{x:.3f}" for x in inputs[name]) for name in ("face_mean", "face_std"))
    lines += [
        f"  lengths     {lengths}; face crops of {inputs['size']} pixels",
        f"  inputs      {inputs['convention']}: {_CONVENTIONS[inputs['convention']]}",
        f"    face                   mean {mean}; deviation {std}",
    ]
    if inputs["convention"] == "standard":
        for channel in inputs["eye"]:
            std = "never observed" if channel["std"] is None else f"{channel['std']:.6g}"
            lines.append(f"    {channel['name']:<40} mean {channel['mean']:.6g}, deviation {std}")
    return "\n".join(lines)


_CONVENTIONS = {
    "standard": "RGB and eye channels standardised by these, 0 where unobserved; gaze 0..1, 0.5 where unobserved",
    "published": "BGR in [0, 1], raw eye channels, gaze = the first two of them, 0 where unobserved",
}


def _describe(model: Maqt, *, size: int) -> dict[str, Any]:
    parameters = count_parameters(model)
    unused = sum(math.prod(shape) for shape in UNUSED.values())
    return {
        "variant": model.variant,
        "parameters": parameters,
        "published_parameters": sum(parameters.values()) + unused,
        "flops": count_flops(model, size=size),
    }


def _describe_inputs(model: Maqt, channels: tuple[str, ...], *, size: int) -> dict[str, Any]:
    inputs = model.inputs
    rows = zip(channels, inputs.eye_mean.tolist(), inputs.eye_std.tolist(), strict=True)
    # An infinite deviation is how a channel is left out that no training clip observed; JSON has no such number.
    eye = [{"name": name, "mean": mean, "std": std if math.isfinite(std) else None} for name, mean, std in rows]
    return {
        "convention": inputs.convention,
        "lengths": model.lengths,
        "size": size,
        "face_mean": inputs.face_mean.tolist(),
        "face_std": inputs.face_std.tolist(),
        "eye": eye,
    }


def _lstm_flops(lstm: nn.LSTM, steps: int) -> int:
    sizes = [lstm.input_size] + [lstm.hidden_size] * (lstm.num_layers - 1)
    return sum(2 * steps * 4 * lstm.hidden_size * (size + lstm.hidden_size) for size in sizes)
