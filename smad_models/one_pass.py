"""One pass over clips: each batch is read once and goes through the networks of all tasks, on all devices."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from smad_models.dataset import Cache
from smad_models.feeding import Shared, bring_back, pin, read_ahead, to_device
from smad_models.inference import Engine, computing
from smad_models.inputs import name_present
from smad_models.maqt import Output
from smad_models.tasks import find_task, predict_values

Hidden = tuple[str, ...]  # modalities that are taken for missing in every clip
View = tuple[str, Hidden]  # a task, and what is hidden from its networks
Batch = tuple[np.ndarray, dict[str, np.ndarray]]  # rows of the cache, and their arrays but for the crops

_SMALL = ("face_found", "eye", "gaze")
_GPU_READERS = 4  # threads: one of them gathers and pins some 5,000 clips a second, a GPU takes 15,000


class Found:
    """What a task's networks say of each clip, filled in batch by batch.

    Attributes
    ----------
    present
        ``face+eye+gaze`` or parts of it, a clip.
    values
        ``value`` (probabilities of the emotions, or one number), ``logits`` (of the emotions, where there is such a
        head), ``fused``, and where asked for ``invariant`` and ``specific``: each ``(clips, width)`` float64, NaN where
        no batch has been.
    """

    def __init__(self, clips: int) -> None:
        self.present = np.empty(clips, dtype=object)
        self.values: dict[str, np.ndarray] = {}
        self._lock = threading.Lock()

    def put(self, rows: np.ndarray, present: Sequence[str], values: Mapping[str, np.ndarray]) -> None:
        """Take over a batch's; several threads may do so at the same time."""
        with self._lock:
            for name, x in values.items():
                if name not in self.values:
                    self.values[name] = np.full((len(self.present), x.shape[1]), np.nan)
                self.values[name][rows] = x
        self.present[rows] = present


def pass_clips(
    engines: Sequence[Mapping[str, Engine]],
    cache: Cache,
    rows: np.ndarray,
    found: Mapping[View, Found],
    *,
    features: Mapping[str, Tensor],
    batch_size: int,
    domains: bool,
    advance: Callable[[int], None],
) -> None:
    """Send the clips at ``rows`` through the networks, and put what they say into ``found``.

    Parameters
    ----------
    engines
        Of each device, by task; the devices share the batches out among them.
    found
        By task and what is hidden from it.
    features
        ``(clips, frames, 512)`` of all clips' faces, by task, where they are known: those are not computed.
    advance
        Called with the number of clips after each batch.
    """
    names = _SMALL if all(task in features for task in engines[0]) else (*_SMALL, "face")
    is_gpu = any(engine.device.type == "cuda" for own in engines for engine in own.values())

    def read(chosen: np.ndarray) -> tuple[Batch, dict[str, Tensor]]:
        arrays = cache.read(chosen, names)
        tensors = {name: torch.from_numpy(x) for name, x in arrays.items() if name != "face_found"}
        tensors |= {f"features of {task}": x[chosen] for task, x in features.items()}
        batch = (chosen, {name: arrays[name] for name in _SMALL})
        return batch, pin(tensors) if is_gpu else tensors

    parts = [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
    batches = Shared(read_ahead(read, parts, readers=_GPU_READERS if is_gpu else 1))
    threads = torch.get_num_threads()

    def work(own: Mapping[str, Engine]) -> None:
        torch.set_num_threads(max(1, threads // len(engines)))
        for batch, results in _infer(own, batches, found, cache.size, domains=domains):
            for view, (present, values) in results.items():
                found[view].put(batch[0], present, values)
            advance(len(batch[0]))

    if len(engines) == 1:  # in this thread: in another one, glibc gives large memory back and asks for it again
        work(engines[0])
        return
    with ThreadPoolExecutor(len(engines), thread_name_prefix="predict") as pool:
        futures = [pool.submit(work, own) for own in engines]
        try:
            for future in as_completed(futures):
                future.result()
        finally:
            batches.stop()  # when one fails, the others end too
            torch.set_num_threads(threads)  # it is one number for all threads


def _infer(
    engines: Mapping[str, Engine],
    batches: Shared[tuple[Batch, dict[str, Tensor]]],
    views: Mapping[View, Found],
    size: int,
    *,
    domains: bool,
) -> Iterator[tuple[Batch, dict[View, tuple[list[str], dict[str, np.ndarray]]]]]:
    """Each batch with what the networks of one device say of it, by view; a GPU is a batch ahead of what is yielded."""
    device = next(iter(engines.values())).device
    waiting: list[tuple[Batch, Callable[[], dict[tuple[View, str], np.ndarray]]]] = []

    def collect() -> tuple[Batch, dict[View, tuple[list[str], dict[str, np.ndarray]]]]:
        batch, wait = waiting.pop(0)
        results: dict[View, tuple[list[str], dict[str, np.ndarray]]] = {}
        for (view, name), x in wait().items():
            if view not in results:
                task, hidden = view
                results[view] = (name_present(batch[1], engines[task].convention, hidden=hidden), {})
            results[view][1][name] = x
        return batch, results

    with computing(device):
        hides_face = {task for task, hidden in views if "face" in hidden}
        black = {task: engine.embed_no_face(size) for task, engine in engines.items() if task in hides_face}
        for batch, tensors in to_device(batches, device):
            outputs: dict[tuple[View, str], Tensor] = {}
            for task, engine in engines.items():
                faces = tensors.get(f"features of {task}")
                for view in (view for view in views if view[0] == task):
                    if "face" in view[1]:
                        seen = black[task].expand(len(batch[0]), -1, -1)
                    else:
                        faces = engine.embed_faces(tensors["face"]) if faces is None else faces
                        seen = faces
                    output = engine(seen, tensors["eye"], tensors["gaze"], hidden=view[1], domains=domains)
                    outputs |= {(view, name): x for name, x in _name_parts(task, output).items()}
            waiting.append((batch, bring_back(outputs)))
            if len(waiting) > 1:
                yield collect()
        while waiting:
            yield collect()


def _name_parts(task: str, output: Output) -> dict[str, Tensor]:
    """What is kept of a network's output, each ``(B, width)``."""
    parts = {"value": predict_values(find_task(task), output).reshape(len(output.fused), -1), "fused": output.fused}
    if output.emotion is not None:
        parts["logits"] = output.emotion
    if output.invariant_domains is not None and output.specific_domains is not None:
        parts["invariant"] = output.invariant_domains.flatten(1)  # (B, 3 streams * 3 modalities)
        parts["specific"] = output.specific_domains.flatten(1)
    return parts


@contextmanager
def progress(title: str, clips: int) -> Iterator[Callable[[int], None]]:
    """A function to call with the number of clips done: a bar on a terminal, some ten lines in a log."""
    if sys.stderr.isatty():
        try:
            from rich.console import Console
            from rich.progress import MofNCompleteColumn, Progress
        except ImportError:  # a luxury
            pass
        else:
            with Progress(*Progress.get_default_columns(), MofNCompleteColumn(), console=Console(stderr=True)) as bar:
                line = bar.add_task(title, total=clips)
                yield lambda number: bar.update(line, advance=number)
            return
    done, begun, lock = 0, time.perf_counter(), threading.Lock()

    def advance(number: int) -> None:
        nonlocal done
        with lock:
            before, done = done, done + number
            if done * 10 // clips > before * 10 // clips:
                rate = done / max(time.perf_counter() - begun, 1e-9)
                print(f"{title}: {done} of {clips} clips, {rate:.3g} a second", file=sys.stderr, flush=True)

    yield advance
