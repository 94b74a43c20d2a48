"""The published networks' state dicts: which network one is of, and our name of each of its tensors.

The published forward returns a tuple: the domain logits of the invariant face, eye and gaze, those of the specific
face, eye and gaze, and then by variant: `va` the value; `discrete` the emotion's logits; `intensity` the emotion's
logits and the intensity; `emert` the emotion's logits and the fused feature. `maqt.Output` holds the same by name.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from smad_models.checkpoints import load_tensors
from smad_models.maqt import DEPTH, WIDTHS, Maqt, Variant

# Our module -> the published one. `e`, `v`, `a`, `l` are the published names' leftovers: in projections v is the face,
# in LSTMs it is the gaze.
_MODULES = {
    "face_backbone": "subnet.f_extractor",
    "eye_lstm": "subnet.e_lstm",
    "gaze_lstm": "subnet.v_lstm",
    "face_projection": "proj_v1",
    "specific.face": "specific_projection_v",
    "specific.eye": "specific_projection_a",
    "specific.gaze": "specific_projection_l",
    "invariant": "invariant_projection",
    "discriminator": "distriminator.0",
    "fusion.source_position": "transformer.pos_embedding_s",
    "fusion.target_position": "transformer.pos_embedding_t",
    **{
        f"fusion.layers.{i}.{ours}": f"transformer.CrossTransformerEncoder.layers.{i}.{published}"
        for i in range(DEPTH)
        for ours, published in {
            "attention.norm_query": "0.norm_q",
            "attention.norm_key": "0.norm_k",
            "attention.norm_value": "0.norm_v",
            "attention.to_query": "0.fn.to_q",
            "attention.to_key": "0.fn.to_k",
            "attention.to_value": "0.fn.to_v",
            "attention.to_out": "0.fn.to_out.0",
            "feed_forward.norm": "1.norm",
            "feed_forward.inner": "1.fn.net.0",
            "feed_forward.outer": "1.fn.net.3",
        }.items()
    },
}
# A lone projection is the first of a sequence there; EMERT's are sequences of ours too.
_LONE = {name: f"{_MODULES[name]}.0" for name in ("specific.face", "specific.eye", "specific.gaze", "invariant")}
_OWN: dict[Variant, dict[str, str]] = {
    "va": _LONE | {"value_head": "cls_head"},
    "discrete": _LONE | {"emotion_head": "cls_head"},
    "intensity": _LONE | {"emotion_head": "cls_head_e.0", "intensity_head": "cls_head_in.0"},
    "emert": {"emotion_head": "cls_head.0"},
}
# In the published files, and never called by the published network: key -> shape.
UNUSED = {
    "subnet.f_extractor.fc.weight": (1000, 512),
    "subnet.f_extractor.fc.bias": (1000,),
    "subnet.classifier.weight": (7, 768),
    "subnet.classifier.bias": (7,),
}


def published_names(model: Maqt) -> dict[str, str]:
    """Our name of each tensor -> its published key; the input statistics have none."""
    modules = _MODULES | _OWN[model.variant]
    names = {}
    for name in model.state_dict():
        if name.startswith("inputs."):
            continue
        ours = next(module for module in modules if name == module or name.startswith(module + "."))
        names[name] = modules[ours] + name[len(ours) :]
    return names


def find_variant(state: Mapping[str, Tensor]) -> Variant:
    """Of which network a published state dict is, by its keys and by the width of its positional tables.

    Raises
    ------
    ValueError
        If it is of none of them.
    """
    table = state.get("transformer.pos_embedding_s")
    if table is None:
        few = ", ".join(list(state)[:3])
        raise ValueError(f"of none of the published networks: no transformer.pos_embedding_s among {few}, ...")
    if table.ndim == 3 and table.shape[2] == WIDTHS["emert"]:
        return "emert"
    signs: dict[Variant, str] = {"intensity": "cls_head_e.0.weight", "va": "cls_head.6.weight"}
    signs["discrete"] = "cls_head.1.weight"
    for variant, key in signs.items():
        if key in state:
            return variant
    raise ValueError(f"of none of the published networks: has none of the heads' keys {', '.join(signs.values())}")


def load_published(model: Maqt, state: Mapping[str, Tensor]) -> None:
    """Load a published state dict into ``model``, which keeps its input statistics; the unused tensors may be there.

    Raises
    ------
    ValueError
        Naming the keys, if any is missing or unknown, or a shape or dtype differs, or a number in it is none.
    """
    names = published_names(model)
    keys = {published: ours for ours, published in names.items()}
    own = {name: tensor for name, tensor in model.state_dict().items() if name.startswith("inputs.")}
    theirs = {keys.get(key, key): tensor for key, tensor in state.items() if key not in UNUSED}
    faults = [
        f"{key} has shape {tuple(state[key].shape)}, want {shape}"
        for key, shape in UNUSED.items()
        if key in state and state[key].shape != shape
    ]
    for name, tensor in theirs.items():
        wanted = torch.int64 if name.endswith("num_batches_tracked") else torch.float32
        if tensor.dtype != wanted:
            faults.append(f"{names.get(name, name)} is {_word(tensor.dtype)}, want {_word(wanted)}")
        elif tensor.layout != torch.strided or not tensor.sum(dtype=torch.float64).isfinite():
            faults.append(f"{names.get(name, name)} holds what is no number")
    if faults:
        more = f" and {len(faults) - 8} more" if len(faults) > 8 else ""
        raise ValueError(f"published state dict does not fit: {'; '.join(faults[:8])}{more}")
    load_tensors(model, own | theirs, source="published state dict", names=names)


def to_published(model: Maqt) -> dict[str, Tensor]:
    """The model's tensors under their published keys, without the four unused ones."""
    state = model.state_dict()
    return {published: state[ours] for ours, published in published_names(model).items()}


def _word(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
