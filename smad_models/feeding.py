"""Batches from the disk to a device while the one before is computed, and the results back.

On a processor the copies are none, and the same code runs.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

J = TypeVar("J")
B = TypeVar("B")
K = TypeVar("K", bound=Hashable)


def read_ahead(read: Callable[[J], B], jobs: Iterable[J], *, readers: int = 1) -> Iterator[B]:
    """What ``read`` makes of each job, in their order; the next ones are read meanwhile, by threads of their own.

    At most two batches a reader are under way or wait, however slow the taker is.
    """
    with ThreadPoolExecutor(readers, thread_name_prefix="read") as pool:
        pending: deque[Future[B]] = deque()
        try:
            for job in jobs:
                pending.append(pool.submit(read, job))
                if len(pending) > 2 * readers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


class Shared(Generic[B]):
    """One iterator for several threads: each item goes to the first that asks."""

    def __init__(self, items: Iterator[B]) -> None:
        self._items = items
        self._lock = threading.Lock()
        self._is_over = False

    def __iter__(self) -> Iterator[B]:
        return self

    def __next__(self) -> B:
        with self._lock:
            if self._is_over:
                raise StopIteration
            return next(self._items)

    def stop(self) -> None:
        """Hand out nothing more."""
        self._is_over = True


def pin(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors in memory that a GPU copies from by itself."""
    return {name: x.pin_memory() for name, x in tensors.items()}


def to_device(
    batches: Iterable[tuple[J, dict[str, Tensor]]], device: torch.device
) -> Iterator[tuple[J, dict[str, Tensor]]]:
    """The batches on ``device``; on a GPU the next one's copy runs while the taker computes on this one."""
    if device.type != "cuda":
        yield from batches
        return
    copying, computing = torch.cuda.Stream(device), torch.cuda.current_stream(device)
    held: deque[tuple[J, dict[str, Tensor], torch.cuda.Event]] = deque()
    for job, tensors in batches:
        with torch.cuda.stream(copying):
            moved = {name: x.to(device, non_blocking=True) for name, x in tensors.items()}
            held.append((job, moved, copying.record_event()))
        if len(held) > 1:
            yield _hand_over(*held.popleft(), computing)
    while held:
        yield _hand_over(*held.popleft(), computing)


def _hand_over(
    job: J, tensors: dict[str, Tensor], arrived: torch.cuda.Event, computing: torch.cuda.Stream
) -> tuple[J, dict[str, Tensor]]:
    computing.wait_event(arrived)
    for tensor in tensors.values():
        tensor.record_stream(computing)  # its memory is not another batch's before this one's work is done
    return job, tensors


def bring_back(tensors: Mapping[K, Tensor]) -> Callable[[], dict[K, np.ndarray]]:
    """Begin to copy results to the host; the function that is returned waits for these alone, as float64 arrays."""
    if all(x.device.type != "cuda" for x in tensors.values()):
        return lambda: {name: x.double().numpy() for name, x in tensors.items()}
    copies = {name: torch.empty(x.shape, dtype=x.dtype, pin_memory=True) for name, x in tensors.items()}
    for name, x in tensors.items():
        copies[name].copy_(x, non_blocking=True)
    done = torch.cuda.Event()
    done.record()

    def wait() -> dict[K, np.ndarray]:
        done.synchronize()
        return {name: x.double().numpy() for name, x in copies.items()}

    return wait
