"""How exactly a training computes: the width of its numbers, and whether it does the same again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Literal

import torch

from smad_models.inputs import deterministic
from smad_models.maqt import Output

Precision = Literal["fp32", "tf32", "bf16"]


@contextmanager
def computing(device: torch.device, *, precision: Precision, is_deterministic: bool) -> Iterator[None]:
    """Set what holds for a whole training, and put it back afterwards.

    - ``fp32``: full float32 throughout; a GPU's own default rounds what convolutions multiply to 10 bits.
    - ``tf32``: that rounding, for matrix products too. On a CPU it is fp32.
    - ``bf16``: `autocast`, and ``tf32`` for what stays float32.

    Where a training need not repeat itself bit for bit, a GPU may take its fastest algorithms.
    """
    is_rounded = precision != "fp32"
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = is_rounded
    flags = torch.backends.cudnn.flags(
        enabled=True, benchmark=not is_deterministic, deterministic=is_deterministic, allow_tf32=is_rounded
    )
    try:
        with flags, deterministic(device) if is_deterministic else nullcontext():
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[None]:
    """For one forward pass: bfloat16 where it is asked for. Weights, gradients and their moments stay float32."""
    if precision == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()


def widen(output: Output) -> Output:
    """What came out in bfloat16 as float32: losses and scores are computed in that."""
    others = {name: x.float() for name, x in output._asdict().items() if x is not None}
    return output._replace(**others)
