"""A training that was interrupted goes on where it was, to the very weights that it would have had.

Beside the checkpoint that is being made lies its state: everything that decides what the next epoch does. It is written
at the end of an epoch, whole or not at all, and goes when the checkpoint is there. It holds tensors and JSON, no code.
"""

from __future__ import annotations

import hashlib
import json
import math
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from smad_models.checkpoints import load_tensors, read_metadata, read_tensors, write_tensors

STATE = ".state.safetensors"  # instead of the checkpoint's ending
BACKBONE = "face_backbone."


@dataclass
class Progress:
    """How far a training is."""

    epochs: list[dict[str, Any]] = field(default_factory=list)  # what the history says of each that is done
    best: int | None = None  # the epoch with the best validation score, from 1
    best_weights: dict[str, Tensor] = field(default_factory=dict)


@dataclass
class StateFile:
    """The state of one training on disk.

    Attributes
    ----------
    facts
        What the state belongs to (``record``, device), and on whom the network is trained (``participants``), for
        whoever must erase a participant.
    every
        Seconds that pass at least between two writes.
    is_frozen
        The face backbone is that of a file of face features, and need not be kept.
    """

    path: Path
    facts: dict[str, Any]
    model: nn.Module
    optimiser: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    order: torch.Generator
    device: torch.device
    every: float
    is_frozen: bool
    _written: float = field(default_factory=time.monotonic)

    def restore(self, title: str) -> Progress:
        """Put all back as it was after the last epoch that was kept; a state that is not ours is left out, aloud."""
        if not self.path.exists():
            return Progress()
        try:
            metadata, tensors = read_metadata(self.path), read_tensors(self.path)
            facts = json.loads(json.dumps(self.facts))  # as the file gives them back
            different = [name for name, value in facts.items() if metadata.get(name) != value]
            if different:
                _say(f"{title}: {self.path} is of another training (another {different[0]}), and is not used")
                return Progress()
            if metadata["sha256"] != _digest(tensors):
                raise ValueError("its bytes are not those that were written")
            progress = self._take_over(metadata, tensors)
        except (ValueError, KeyError, OSError, RuntimeError, SafetensorError) as error:
            _say(f"{title}: {self.path} is damaged, and is not used: {error}")
            return Progress()
        _say(f"{title}: goes on after epoch {len(progress.epochs)}, from {self.path}")
        return progress

    def _take_over(self, metadata: dict[str, Any], tensors: dict[str, Tensor]) -> Progress:
        parts: dict[str, dict[str, Tensor]] = {"model": {}, "best": {}, "adam": {}, "random": {}}
        for name, tensor in tensors.items():
            part, _, rest = name.partition("/")
            parts[part][rest] = tensor
        adam = self.optimiser.state_dict()
        for group, kept in zip(adam["param_groups"], metadata["rates"], strict=True):
            group.update(kept)
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in parts["adam"].items():
            number, _, what = name.partition("/")
            moments.setdefault(int(number), {})[what] = tensor
        progress = Progress(metadata["epochs"], metadata["best"], parts["best"])
        random = parts["random"]
        own = {name: x for name, x in self.model.state_dict().items() if self.is_frozen and name.startswith(BACKBONE)}
        load_tensors(self.model, own | parts["model"], source=str(self.path))
        self.optimiser.load_state_dict(adam | {"state": moments})
        self.schedule.load_state_dict(metadata["schedule"])
        self.order.set_state(random["order"])
        torch.set_rng_state(random["cpu"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(random["cuda"], self.device)
        return progress

    def keep(self, progress: Progress) -> None:
        """Write the state, if the last time is long enough ago."""
        if time.monotonic() - self._written < self.every:
            return
        random = {"order": self.order.get_state(), "cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            random["cuda"] = torch.cuda.get_rng_state(self.device)
        adam = self.optimiser.state_dict()
        parts: dict[str, Mapping[str, Tensor]] = {
            "model": weights_of(self.model, is_frozen=self.is_frozen),
            "best": progress.best_weights,
            "adam": {f"{i}/{what}": x for i, kept in adam["state"].items() for what, x in kept.items()},
            "random": random,
        }
        tensors = {f"{part}/{name}": x.detach().cpu() for part, kept in parts.items() for name, x in kept.items()}
        metadata = {
            **self.facts,
            "epochs": progress.epochs,
            "best": progress.best,
            "rates": [{name: group[name] for name in ("lr", "initial_lr")} for group in adam["param_groups"]],
            "schedule": self.schedule.state_dict(),
            "sha256": _digest(tensors),
        }
        write_tensors(self.path, tensors, metadata)
        self._written = time.monotonic()

    def discard(self) -> None:
        """The checkpoint is there: its state is of no more use."""
        self.path.unlink(missing_ok=True)

    @contextmanager
    def interruptible(self, title: str) -> Iterator[None]:
        """Let SIGTERM end the training as Ctrl-C does, and say how to go on."""
        is_main = threading.current_thread() is threading.main_thread()
        before = signal.signal(signal.SIGTERM, _interrupt) if is_main else None
        try:
            yield
        except KeyboardInterrupt:
            is_kept = self.path.exists()
            advice = f"the same command goes on from {self.path}" if is_kept else "no epoch was kept yet"
            _say(f"{title}: interrupted; {advice}")
            raise
        finally:
            if is_main:
                signal.signal(signal.SIGTERM, before)


def state_path(output: Path) -> Path:
    """Where the state of the training that makes ``output`` lies."""
    return output.with_name(output.name.removesuffix(".safetensors") + STATE)


def is_better(progress: Progress, score: float, measure: str) -> bool:
    """Whether an epoch of this score is to be kept: better than the best so far; of equals the earlier one stays."""
    if math.isnan(score):
        return False
    return progress.best is None or score > progress.epochs[progress.best - 1]["validation"][measure]


def weights_of(model: nn.Module, *, is_frozen: bool) -> dict[str, Tensor]:
    """What training changes of ``model``: all its tensors, or those beside the face backbone."""
    state = model.state_dict()
    return {name: x for name, x in state.items() if not (is_frozen and name.startswith(BACKBONE))}


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
