"""A trained network made fast without other numbers: norms folded away, channels last, and what a device can do.

In float32 nothing here moves a prediction by more than rounding (1e-5). Less precision is asked for by name.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_eval

from smad_models.inputs import Convention
from smad_models.maqt import Maqt, Output
from smad_models.resnet import Block, ResNet18

# Of the products: fp32 = all of float32, TF32 off; tf32 = a GPU's of 10-bit mantissas, a processor's as before; bf16 =
# the face backbone's, 99 % of them, in bfloat16 (autocast), the rest as tf32.
Precision = Literal["fp32", "tf32", "bf16"]


def fold_norms(backbone: ResNet18) -> ResNet18:
    """A copy in evaluation mode whose convolutions do the batch norms' work, exact but for one rounding to float32.

    ``norm(conv(x)) = (w * g / s) * x + (b - m * g / s)`` with ``s = sqrt(var + eps)``, computed in float64. The same
    holds at the border: a convolution pads with zeros, and the norm comes after it.
    """
    folded = copy.deepcopy(backbone).eval()
    _fold(folded, "conv1", "bn1")
    for block in (module for module in folded.modules() if isinstance(module, Block)):
        _fold(block, "conv1", "bn1")
        _fold(block, "conv2", "bn2")
        if isinstance(block.downsample, nn.Sequential):
            _fold(block.downsample, "0", "1")
    return folded


def _fold(parent: nn.Module, convolution: str, norm: str) -> None:
    conv = cast(nn.Conv2d, parent.get_submodule(convolution))
    dtype = conv.weight.dtype
    both = fuse_conv_bn_eval(conv.double(), cast(nn.BatchNorm2d, parent.get_submodule(norm)).double())
    parent.set_submodule(convolution, both.to(dtype))
    parent.set_submodule(norm, nn.Identity())


class Engine:
    """One checkpoint's network, ready to predict on one device; to be called within `computing`.

    Parameters
    ----------
    model
        Left as it is.
    compiled
        Let `torch.compile` rewrite the face backbone: minutes at first, for long runs.
    """

    def __init__(
        self, model: Maqt, device: torch.device, *, precision: Precision = "fp32", compiled: bool = False
    ) -> None:
        self.device = device
        self._precision = precision
        backbone = model.face_backbone
        self._model = copy.deepcopy(model, {id(backbone): fold_norms(backbone)}).eval().requires_grad_(False).to(device)
        self._model.face_backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # not in its types
        if compiled:
            self._model.face_backbone.compile()

    @property
    def convention(self) -> Convention:
        """How its inputs are made of the cache's arrays."""
        return self._model.inputs.convention

    def embed_faces(self, face: Tensor) -> Tensor:
        """``(B, frames, H, W, 3)`` uint8 crops on the device to ``(B, frames, 512)``."""
        parts = (face,) if self.device.type == "cuda" else face.split(max(1, _frames_at_a_time() // face.shape[1]))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._precision == "bf16"):
            return torch.cat([self._model.embed_faces(self._model.inputs.pixels(part)).float() for part in parts])

    def embed_no_face(self, size: int) -> Tensor:
        """What `embed_faces` makes of a clip without a face, whose crops are black, ``(1, frames, 512)``."""
        black = torch.zeros(1, 1, size, size, 3, dtype=torch.uint8, device=self.device)
        return self.embed_faces(black).expand(1, self._model.lengths["face"], -1)

    def __call__(
        self, faces: Tensor, eye: Tensor, gaze: Tensor, *, hidden: Collection[str] = (), domains: bool = False
    ) -> Output:
        """Predict a batch.

        Parameters
        ----------
        faces
            ``(B, frames, 512)`` of `embed_faces`.
        eye, gaze
            As cached: ``(B, steps, channels)`` and ``(B, steps, 2)``, NaN where unobserved.
        hidden
            Of `eye` and `gaze`, those taken for unobserved.
        domains
            Also name the modality of each stream.
        """
        output: Output = self._model(faces, *self._model.inputs.sequences(eye, gaze, hidden=hidden), domains=domains)
        return output


def _frames_at_a_time() -> int:
    """So many that what one layer hands to the next, 0.8 MB a frame at first, stays in a processor's caches.

    Measured on one thread: 16 to 32 are a fifth faster than 256.
    """
    return 32 * torch.get_num_threads()


@contextmanager
def exactness(precision: Precision) -> Iterator[None]:
    """How the GPUs of this process multiply, for as long as it lasts; of a processor it changes nothing."""
    before = torch.get_float32_matmul_precision()
    is_exact = precision == "fp32"
    if torch.cuda.is_available():
        torch.set_float32_matmul_precision("highest" if is_exact else "high")
    try:
        # In full float32 the same inputs give the same numbers; what is less exact may try which way is the fastest.
        with torch.backends.cudnn.flags(
            enabled=True, deterministic=is_exact, benchmark=not is_exact, allow_tf32=not is_exact
        ):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextmanager
def computing(device: torch.device) -> Iterator[None]:
    """What a thread that predicts on ``device`` needs round it, within `exactness` of the process."""
    with torch.inference_mode(), torch.cuda.device(device) if device.type == "cuda" else nullcontext():
        yield
