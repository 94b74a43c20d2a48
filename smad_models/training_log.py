"""What a training says while it runs: how long it will take, how far it is, and what it measured.

Nothing here changes a number, and nothing of it goes into the checkpoint but the losses and scores: the same training
gives the same file.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

TIMED = 6  # steps, or
TIMED_SECONDS = 5.0  # that long, after the first one: what a step takes


@dataclass
class TrainingLog:
    """The clock and the lines of one training; `training_log` makes it."""

    title: str
    epochs: int  # in all
    done: int  # of them, before this process began
    steps: int  # an epoch
    device: torch.device
    bar: Any = None  # rich's, on a terminal
    writer: Any = None  # tensorboardX's
    _steps: int = 0
    _clips: int = 0
    _first: float | None = None  # when the first step was over: it warms up
    _is_estimated: bool = False
    _began: float = 0.0

    def __post_init__(self) -> None:
        self._began = time.monotonic()

    def end_step(self, clips: int) -> None:
        """One more step; after some of them, once, how long the whole training will take."""
        self._steps += 1
        self._clips += clips
        if self._is_estimated:
            return
        if self._first is None:
            self._first = self._now()
        elif self._steps >= TIMED or time.monotonic() - self._first > TIMED_SECONDS:
            self._is_estimated = True
            each = (self._now() - self._first) / (self._steps - 1)
            self.say(estimate_line(self.title, self.epochs - self.done, self.steps, each, is_rest=self.done > 0))

    def end_epoch(self, entry: Mapping[str, Any]) -> None:
        """One more epoch, with what the history says of it.

        The total loss is no guide: behind the reversal the invariant part is *to* grow, and has no bound.
        """
        epoch = entry["epoch"]
        words = f"task loss {entry['loss']['task']:.4f}"
        words += "".join(f", validation {name} {score:.3f}" for name, score in entry.get("validation", {}).items())
        if self.bar is not None:
            self.bar.update(self.bar.task_ids[0], completed=epoch, description=f"{self.title}, {words}")
        elif epoch % math.ceil(self.epochs / 10) == 0 or epoch == self.epochs:
            self.say(f"{self.title}: epoch {epoch} of {self.epochs}, {words}")
        if self.writer is not None:
            for name, value in flatten(entry).items():
                self.writer.add_scalar(name, value, epoch)
            self.writer.flush()

    def end(self) -> None:
        """The whole time, and clips a second."""
        seconds = self._now() - self._began
        if self._clips:
            rate = self._clips / max(seconds, 1e-9)
            self.say(f"{self.title}: {duration(seconds)}, {rate:,.0f} clips a second")

    def say(self, line: str) -> None:
        """A line on stderr, above the bar where there is one."""
        if self.bar is not None:
            self.bar.console.print(line, highlight=False, soft_wrap=True)
        else:
            print(line, file=sys.stderr, flush=True)

    def _now(self) -> float:
        if self.device.type == "cuda":  # else it would be the time to ask, not to compute
            torch.cuda.synchronize(self.device)
        return time.monotonic()


@contextmanager
def training_log(
    title: str, *, epochs: int, done: int, steps: int, device: torch.device, tensorboard: Path | None
) -> Iterator[TrainingLog]:
    """A log that shows a bar on a terminal and some ten lines elsewhere, and writes for TensorBoard where asked to."""
    log = TrainingLog(title, epochs, done, steps, device)
    try:
        if tensorboard is not None:
            log.writer = open_tensorboard(tensorboard, first=done + 1)
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import Progress

            with Progress(console=Console(stderr=True)) as log.bar:
                log.bar.add_task(title, total=epochs, completed=done)
                yield log
        else:
            yield log
    finally:
        if log.writer is not None:
            log.writer.close()


def open_tensorboard(folder: Path, *, first: int) -> Any:
    """A writer of TensorBoard's event files; what an earlier training wrote there from epoch ``first`` on is hidden.

    Raises
    ------
    ValueError
        If the library is not installed.
    """
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        raise ValueError(
            "--tensorboard needs the library tensorboardX, which is not installed: `pip install tensorboardX`, "
            "or leave the option out (`train.tensorboard: null`); --history writes the same numbers as JSON"
        ) from None
    return SummaryWriter(str(folder), purge_step=first)


def write_history(path: Path, content: Mapping[str, Any]) -> None:
    """Write a training's history as JSON, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        draft.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def columns(epochs: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """A history epoch by epoch as lists by name, without the seconds: what the checkpoint keeps."""
    rows = [flatten({name: x for name, x in entry.items() if name != "seconds"}) for entry in epochs]
    names = {name: name.removeprefix("loss/").replace("/", "_") for name in rows[0]} if rows else {}
    return {short: [row[name] for row in rows] for name, short in names.items()}


def flatten(entry: Mapping[str, Any]) -> dict[str, float]:
    """``{"loss": {"task": 1.0}}`` as ``{"loss/task": 1.0}``; the epoch's number is left out."""
    flat: dict[str, float] = {}
    for name, value in entry.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}/{inner}": x for inner, x in value.items()}
        elif name != "epoch":
            flat[name] = value
    return flat


def estimate_line(title: str, epochs: int, steps: int, seconds: float, *, is_rest: bool) -> str:
    """How long ``epochs`` of ``steps`` will take at ``seconds`` a step, in words."""
    each = f"{seconds:.1f} s" if seconds >= 0.1 else f"{1000 * seconds:.0f} ms"
    what = f"{'the remaining ' if is_rest else ''}{epochs} epochs of {steps} steps ({each} a step)"
    return f"{title}: about {duration(epochs * steps * seconds)} for {what}"


def duration(seconds: float) -> str:
    """Seconds in words: ``40 s``, ``12 min``, ``3 h 20 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"
