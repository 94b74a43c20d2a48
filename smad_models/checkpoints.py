"""Weights on disk: our own files with all they need beside them.

A checkpoint is one safetensors file: the network's tensors under our names, its input statistics among them, and in the
metadata what it is for, what it was trained on, and from which inputs it came. No pickle is ever run.

A checkpoint may be passed on where its participants may not, so it names none of them: it holds keyed hashes, and the
key. Whoever has a list of participants can tell which of them it was trained on, and so guard against leaks; nobody
else learns a name. A hash is ``blake2b(id, key=bytes.fromhex(participants_key), digest_size=16)``, in hexadecimal.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from smad_models.inputs import Convention
from smad_models.maqt import Maqt, Variant
from smad_models.resnet import ResNet18
from smad_models.torch_files import read_state_dict

METADATA = "smad"  # the key of ours among a safetensors file's metadata


@dataclass(frozen=True)
class Meta:
    """What a checkpoint says of itself, beside its tensors."""

    task: str
    fold: int
    variant: Variant
    convention: Convention
    emotions: tuple[str, ...]  # in the order of the logits
    channels: tuple[str, ...]  # of the eye sequences, in their order
    frames: int
    steps: int
    size: int  # side of a face crop in pixels
    cache_version: int
    participants: tuple[str, ...]  # it was trained on, as `hash_participants` gives them; empty = unknown
    participants_key: str  # of those hashes, as `make_participants_key` gives it
    code: str  # that made it, as `code_version` gives it
    record: dict[str, Any]  # digests of all it came from
    history: dict[str, list[float]]  # mean training losses, an epoch an entry
    scores: dict[str, float] = field(default_factory=dict)  # of the epoch that was kept, on validation participants

    def knows(self, participant: str) -> bool:
        """Whether it was trained on this participant; False where nobody knows, which ``participants`` tells."""
        return hash_participant(participant, self.participants_key) in self.participants


def make_participants_key(record: Mapping[str, Any]) -> str:
    """The key of a checkpoint's hashes, from its record: the same training gives the same file."""
    return digest_value(["participants", record])


def hash_participant(participant: str, key: str) -> str:
    """A participant's id as checkpoints hold it; ``key`` is hexadecimal."""
    return hashlib.blake2b(participant.encode(), key=bytes.fromhex(key), digest_size=16).hexdigest()


def hash_participants(participants: Iterable[str], key: str) -> tuple[str, ...]:
    """The hashes of all ``participants``, sorted: their order tells nothing of the ids'."""
    return tuple(sorted(hash_participant(participant, key) for participant in participants))


@cache
def code_version() -> str:
    """The version of this package, and behind a plus a digest of the network's source: ``0.1.0+3f2a9c01d4e7``."""
    try:
        number = version("smad")
    except PackageNotFoundError:  # run from a checkout that was never installed
        number = "unknown"
    digest = hashlib.sha256()
    for name in ("maqt.py", "resnet.py", "inputs.py"):
        digest.update(Path(__file__).with_name(name).read_bytes())
    return f"{number}+{digest.hexdigest()[:12]}"


def load_backbone(backbone: ResNet18, source: Path) -> None:
    """Load ImageNet weights, a ``.pth`` or ``.safetensors`` state dict, whose classifier is dropped.

    Raises
    ------
    ValueError
        If they are not those of a ResNet-18; the message names the keys.
    """
    state = read_tensors(source) if source.suffix == ".safetensors" else read_state_dict(source).tensors
    # Files from before 2018 lack the counters, which nothing here reads.
    counters = {key: x for key, x in backbone.state_dict().items() if key.endswith("num_batches_tracked")}
    kept = {key: x for key, x in state.items() if not key.startswith("fc.")}
    load_tensors(backbone, counters | kept, source=str(source))


def digest_file(path: Path) -> str:
    """The sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_value(value: Any) -> str:
    """The sha256 of a value's canonical JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def load_tensors(
    module: torch.nn.Module, state: Mapping[str, Tensor], *, source: str, names: Mapping[str, str] | None = None
) -> None:
    """Load ``state`` strictly, or raise ValueError naming ``source`` and what is missing, unknown or misshapen.

    ``names`` says under which name a key stands in the source, where that differs.
    """
    wanted = module.state_dict()
    names = names or {}
    faults = [f"{names.get(key, key)} is missing" for key in wanted if key not in state]
    faults += [f"{key} is unknown" for key in state if key not in wanted]
    faults += [
        f"{names.get(key, key)} has shape {tuple(state[key].shape)}, want {tuple(wanted[key].shape)}"
        for key in wanted
        if key in state and state[key].shape != wanted[key].shape
    ]
    if faults:
        more = f" and {len(faults) - 8} more" if len(faults) > 8 else ""
        raise ValueError(f"{source} does not fit: {'; '.join(faults[:8])}{more}")
    module.load_state_dict(dict(state))


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write a safetensors file whole or not at all, with all metadata as one JSON text.

    The format stores several texts in any order: with one, the same content is the same file, byte for byte.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        save_file(
            {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()},
            draft,
            metadata={METADATA: json.dumps(dict(metadata), sort_keys=True)},
        )
        with draft.open("rb+") as file:
            os.fsync(file.fileno())
        draft.replace(path)
    except SafetensorError as error:  # it tells what the system said in words alone
        code = re.search(r"os error (\d+)", str(error))
        if code is None:
            raise
        raise OSError(int(code[1]), os.strerror(int(code[1])), str(path)) from error
    finally:
        draft.unlink(missing_ok=True)


def read_metadata(path: Path) -> dict[str, Any]:
    """The metadata of a safetensors file of ours, without its tensors.

    Raises
    ------
    ValueError
        If the file is none of ours.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        return dict(json.loads(metadata.get(METADATA, "{}")))
    except (SafetensorError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: not a checkpoint of this project: {error}") from error


def is_current(path: Path, record: dict[str, Any]) -> bool:
    """Whether the file of ours at ``path`` was made from what ``record`` says."""
    if not path.exists():
        return False
    try:
        return read_metadata(path).get("record") == record
    except ValueError:  # damaged, or another program's: it is made anew
        return False


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file, on the CPU."""
    with safe_open(path, framework="pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - the file is no dict


def save_checkpoint(path: Path, model: Maqt, meta: Meta) -> None:
    """Write ``model`` and ``meta`` to ``path``, whole or not at all."""
    write_tensors(path, model.state_dict(), asdict(meta))


def read_meta(path: Path) -> Meta:
    """What the checkpoint at ``path`` says of itself, without loading it.

    Raises
    ------
    ValueError
        If the file is no checkpoint of ours, or lacks part of what one must say.
    """
    metadata = read_metadata(path)
    needed = [each.name for each in fields(Meta) if each.default_factory is MISSING]
    missing = [name for name in needed if name not in metadata]
    if missing:
        raise ValueError(f"{path}: not a checkpoint of this project: its metadata lack {', '.join(missing)}")
    known = {each.name: metadata[each.name] for each in fields(Meta) if each.name in metadata}
    lists = {name: tuple(known[name]) for name in ("emotions", "channels", "participants")}
    return Meta(**(known | lists))


def load_checkpoint(path: Path) -> tuple[Maqt, Meta]:
    """The network at ``path`` in evaluation mode on the CPU, and what it says of itself.

    Raises
    ------
    ValueError
        If the file is no checkpoint of ours, or its tensors do not fit the network that it describes.
    """
    meta = read_meta(path)
    model = build_model(meta)
    load_tensors(model, read_tensors(path), source=str(path))
    return model.eval(), meta


def build_model(meta: Meta) -> Maqt:
    """The network that ``meta`` describes, with random weights."""
    return Maqt(
        meta.variant,
        convention=meta.convention,
        emotions=len(meta.emotions),
        channels=len(meta.channels),
        frames=meta.frames,
        steps=meta.steps,
    )
