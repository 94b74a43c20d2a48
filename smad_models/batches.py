"""Labelled clips as batches on the device that trains, augmented where that was asked for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from smad_models.augment import Augmentation, Changes
from smad_models.dataset import Cache
from smad_models.inputs import Inputs
from smad_models.tasks import Task


@dataclass(frozen=True)
class Clips:
    """n clips: sequences and targets are on the device, crops come batch by batch, as uint8."""

    cache: Cache
    rows: np.ndarray  # (n,) of the cache
    inputs: Inputs
    eye: Tensor  # (n, steps, channels) as cached, NaN where unobserved
    gaze: Tensor  # (n, steps, 2)
    targets: dict[str, Tensor]
    features: Tensor | None  # (n, frames, 512) of a frozen backbone
    augmentation: Augmentation | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def at(self, batch: Tensor, changes: Changes | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """What `Maqt.forward` takes of the clips ``batch``, whose places are on the CPU."""
        face = self._crops(batch) if self.features is None else self.features[batch]
        eye, gaze = self.eye[batch], self.gaze[batch]
        if self.augmentation is not None and changes is not None:
            face, eye, gaze = self.augmentation.apply(changes.at(batch), face, eye, gaze)
        if self.features is None:
            face = self.inputs.pixels(face)  # (B, 8, 3, H, W)
        return face, *self.inputs.sequences(eye, gaze)

    def targets_at(self, batch: Tensor) -> dict[str, Tensor]:
        """Their targets, as `tasks.compute_loss` takes them."""
        return {name: x[batch] for name, x in self.targets.items()}

    def _crops(self, batch: Tensor) -> Tensor:
        crops = torch.from_numpy(self.cache.read(self.rows[batch.numpy()], ("face",))["face"])  # (B, 8, H, W, 3)
        if self.eye.device.type == "cuda":  # from locked memory a copy does not wait for the work before it
            return crops.pin_memory().to(self.eye.device, non_blocking=True)
        return crops.to(self.eye.device)


def gather_clips(
    task: Task,
    cache: Cache,
    rows: np.ndarray,
    values: np.ndarray,
    inputs: Inputs,
    features: Tensor | None,
    augmentation: Augmentation | None = None,
) -> Clips:
    """The clips ``rows`` with their targets ``values`` ``(n, targets)``, on the device of ``inputs``.

    ``features`` are those of all clips of the cache.
    """
    device = inputs.eye_mean.device
    found = cache.read(rows, ("eye", "gaze"))
    columns = {name: torch.from_numpy(values[:, i]).to(device) for i, name in enumerate(task.targets)}
    return Clips(
        cache=cache,
        rows=rows,
        inputs=inputs,
        eye=torch.from_numpy(found["eye"]).to(device),
        gaze=torch.from_numpy(found["gaze"]).to(device),
        targets={name: x.long() if name == "emotion" else x.float().unsqueeze(1) for name, x in columns.items()},
        features=None if features is None else features[rows].to(device),
        augmentation=augmentation,
    )
