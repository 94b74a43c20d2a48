"""From cached facts to model input, by one of two conventions.

The cache holds facts: uint8 RGB crops, measured traces in their own units, NaN where nothing was observed. What a
network is fed is an opinion, named here and stored with its weights:

- `standard`: RGB standardised by the ImageNet statistics; each eye channel standardised by its statistics among the
  training participants, 0 where unobserved; gaze as fractions of the stimulus, 0.5 (its centre) where unobserved.
- `published`: what the published network was trained on, as far as that is known: BGR in [0, 1]; raw eye channels;
  gaze = the first two eye channels, pixels on the screen; 0 where unobserved.

Crops travel to the device as uint8 and become floats there: a quarter of the traffic.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from smad_models.cards import take_card

Convention = Literal["standard", "published"]

ARRAYS = ("face", "face_found", "eye", "gaze")  # the cached arrays that a model is fed from

# RGB in [0, 1] over the ImageNet training pictures: what all published ResNet-18 files were trained with.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class EyeStatistics:
    """Mean and standard deviation of each eye channel in its own unit, both ``(channels,)`` float32."""

    mean: np.ndarray
    std: np.ndarray


class Inputs(nn.Module):
    """What `convention` does, as buffers that travel with the weights: ``model.inputs``."""

    face_mean: Tensor  # (3,)
    face_std: Tensor  # (3,)
    eye_mean: Tensor  # (channels,)
    eye_std: Tensor  # (channels,)

    def __init__(self, convention: Convention, *, channels: int) -> None:
        if convention not in get_args(Convention):
            raise ValueError(f"input convention {convention!r} is none of {', '.join(get_args(Convention))}")
        super().__init__()
        self.convention = convention
        standard = convention == "standard"
        self.register_buffer("face_mean", torch.tensor(IMAGENET_MEAN if standard else (0.0, 0.0, 0.0)))
        self.register_buffer("face_std", torch.tensor(IMAGENET_STD if standard else (1.0, 1.0, 1.0)))
        self.register_buffer("eye_mean", torch.zeros(channels))
        self.register_buffer("eye_std", torch.ones(channels))

    def set_statistics(self, statistics: EyeStatistics) -> None:
        """Take over the training participants' statistics; the `published` convention standardises nothing."""
        if self.convention == "published":
            raise ValueError("the published convention feeds raw units: it has no use for eye statistics")
        self.eye_mean.copy_(torch.from_numpy(statistics.mean))
        self.eye_std.copy_(torch.from_numpy(statistics.std))

    def pixels(self, face: Tensor) -> Tensor:
        """``(B, frames, H, W, 3)`` uint8 RGB crops to ``(B, frames, 3, H, W)`` floats (channels last in memory)."""
        if self.convention == "published":
            face = face.flip(-1)  # RGB -> BGR
        # (face / 255 - mean) / std as one product and one sum, in place: half the time.
        x = face.to(self.face_mean.dtype).mul_(1 / (255 * self.face_std)).sub_(self.face_mean / self.face_std)
        return x.permute(0, 1, 4, 2, 3)  # (B, 8, 3, 112, 112)

    def sequences(self, eye: Tensor, gaze: Tensor, *, hidden: Collection[str] = ()) -> tuple[Tensor, Tensor]:
        """Cached ``(B, steps, channels)`` and ``(B, steps, 2)``, NaN where unobserved, to the same shapes, finite.

        ``hidden``: `eye`, `gaze` or both are taken for unobserved in all clips, as in a cache without them. The
        `published` convention takes gaze from the eye channels: without eye movement there is no gaze either, and
        without gaze these channels are unobserved for the eye movement, too.
        """
        if "eye" in hidden:
            eye = torch.full_like(eye, torch.nan)
        if "gaze" in hidden:
            gaze = torch.full_like(gaze, torch.nan)
            if self.convention == "published":
                eye = torch.cat((gaze, eye[:, :, 2:]), dim=2)
        if self.convention == "published":
            gaze = eye[:, :, :2]  # (B, 32, 2) pixels
            return torch.nan_to_num(eye), torch.nan_to_num(gaze)
        eye = (eye - self.eye_mean) / self.eye_std  # (B, 32, 39)
        return torch.nan_to_num(eye, nan=0.0), torch.nan_to_num(gaze, nan=0.5)

    def forward(self, face: Tensor, eye: Tensor, gaze: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """All three cached arrays of a batch to what `Maqt.forward` takes."""
        return self.pixels(face), *self.sequences(eye, gaze)


def find_device(name: str) -> torch.device:
    """The device called ``name``; ``auto`` is a GPU where there is one, and of several one that is free.

    Raises
    ------
    ValueError
        If there is no such device here; the message says what is here.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        name = f"cuda:{take_card(gpus)}" if gpus else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"device {name!r} is none: want auto, cpu, cuda, cuda:1, ...") from None
    if device.type == "cuda" and (device.index or 0) >= gpus:
        raise ValueError(f"device {name}: {f'here are cuda:0 to cuda:{gpus - 1}' if gpus else 'there is no GPU here'}")
    return device


@contextmanager
def deterministic(device: torch.device) -> Iterator[None]:
    """Algorithms whose results do not vary from run to run; without them a GPU's do."""
    gpu = device.type == "cuda"
    if gpu:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it when it starts
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        # A GPU's fused attention sums its gradients in any order.
        with sdpa_kernel(SDPBackend.MATH) if gpu else nullcontext():
            yield
    finally:
        torch.use_deterministic_algorithms(before)


def fit_statistics(eye: np.ndarray) -> EyeStatistics:
    """Mean and standard deviation of each eye channel over the observed steps of ``eye``: the *training* clips alone.

    ``eye`` is ``(n, steps, channels)``, NaN where unobserved. A channel that never changes gets deviation 1. One never
    observed gets deviation infinity, so that it is 0 in any clip: the network has learnt nothing of it, and a raw value
    in the hundreds would drown all else.
    """
    eye = eye.astype(np.float64)  # (n, 32, 39)
    observed = np.isfinite(eye)
    count = observed.sum(axis=(0, 1))  # (39,)
    mean = np.where(observed, eye, 0.0).sum(axis=(0, 1)) / np.maximum(count, 1)  # (39,)
    deviation = np.where(observed, eye - mean, 0.0)
    std = np.sqrt((deviation**2).sum(axis=(0, 1)) / np.maximum(count, 1))  # (39,)
    # A constant's deviation is a rounding error, not always 0.
    std = np.where(std <= 1e-6 * np.maximum(1.0, np.abs(mean)), 1.0, std)
    std = np.where(count == 0, np.inf, std)
    return EyeStatistics(mean.astype(np.float32), std.astype(np.float32))


def name_present(
    arrays: Mapping[str, np.ndarray], convention: Convention, *, hidden: Collection[str] = ()
) -> list[str]:
    """Which modalities each clip really has: ``face+eye+gaze``, parts of that, or ``none``.

    A clip has a face when one was found in at least one frame, eye movement or gaze when at least one step was
    observed. What is absent still goes in, as its missing value. ``hidden``: as if these were absent from all clips.
    """
    eye, gaze = arrays["eye"], arrays["gaze"]
    if convention == "published":
        gaze = eye[:, :, :2]
        if "gaze" in hidden:
            eye = eye[:, :, 2:]
    flags = {
        "face": arrays["face_found"].any(axis=1),  # (B,)
        "eye": np.isfinite(eye).any(axis=(1, 2)),  # (B,)
        "gaze": np.isfinite(gaze).any(axis=(1, 2)),  # (B,)
    }
    gone = {*hidden, *(("gaze",) if convention == "published" and "eye" in hidden else ())}
    flags = {name: flag & (name not in gone) for name, flag in flags.items()}
    rows = zip(*flags.values(), strict=True)
    return ["+".join(name for name, flag in zip(flags, row, strict=True) if flag) or "none" for row in rows]
