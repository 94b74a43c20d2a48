"""Who does the tasks of packing and of whole-cache statistics: threads of this process, or a dask cluster."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

from smad_features.fingerprints import code_digest

THREADS = "threads"
_CONNECT = 10  # seconds
_FIRST_WORKER = 300  # seconds: workers that a batch system starts may wait in its queue
# Whose versions decide whether a task means the same there, and comes out as the same bytes.
_SAME_ON_WORKERS = ("python", "dask", "distributed", "numpy", "zarr", "obstore", "xxhash")
_SAME_ON_SCHEDULER = ("python", "dask", "distributed")
_OUR_CODE = ("smad_features.shard_tasks", "smad_features.statistics", "smad_features.places", "smad_features.schema")

Task = TypeVar("Task")
Result = TypeVar("Result")


class SchedulerError(RuntimeError):
    """A cluster cannot do the tasks; the message names its address, why, and what to do."""


def run_tasks(work: Callable[[Task], Result], tasks: Sequence[Task], *, scheduler: str = THREADS) -> list[Result]:
    """Do ``work`` on each task, and return what came of them in their order.

    Parameters
    ----------
    work
        A function of this package. Done twice it must do the same: a cluster asks another worker where one is lost.
    scheduler
        ``threads``, as many as dask is configured to; or the address of a cluster's scheduler.

    Raises
    ------
    SchedulerError
        The cluster is not to be reached, has no workers, is of other versions, or loses its workers.
    """
    if scheduler == THREADS:
        from dask.base import compute
        from dask.delayed import delayed

        # Bound to its task beforehand: dask would else look through each for other tasks.
        return list(compute(*[delayed(partial(work, task))() for task in tasks], scheduler="threads"))
    from distributed import CancelledError, KilledWorker

    with _connected(scheduler) as client:
        futures = client.map(work, tasks, pure=False)
        try:
            return list(client.gather(futures))
        except KilledWorker as error:
            raise SchedulerError(
                f"dask.scheduler: {scheduler}: a task was given up, as worker after worker died at it, the last one at"
                f" {error.last_worker.address}: their logs say why; too little memory is the commonest reason"
            ) from None
        except CancelledError:
            raise SchedulerError(
                f"dask.scheduler: {scheduler}: the scheduler ended before all was done; start it and run again"
            ) from None


@contextmanager
def _connected(address: str) -> Iterator[Any]:
    """A client of a scheduler that answers, has workers, and is of our versions."""
    from distributed import Client

    where = f"dask.scheduler: {address}"
    otherwise = "or set `dask: {scheduler: threads}`"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of versions that differ: below, in our own words
            client = Client(address, timeout=_CONNECT, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:  # TypeError: an address of tls:// without certificates
        raise SchedulerError(
            f"{where}: no scheduler answers there within {_CONNECT} s ({error}): start one (`dask scheduler`),"
            f" {otherwise}"
        ) from None
    with client:
        if not client.scheduler_info(n_workers=-1)["workers"]:
            print(f"{where}: has no workers yet; waits for the first one, up to {_FIRST_WORKER} s", file=sys.stderr)
            try:
                client.wait_for_workers(1, timeout=_FIRST_WORKER)
            except TimeoutError:
                raise SchedulerError(
                    f"{where}: no worker came within {_FIRST_WORKER} s: start some (`dask worker {address}`),"
                    f" {otherwise}"
                ) from None
        if differences := _differences(client):
            raise SchedulerError(
                f"{where}: is not of this environment: {'; '.join(differences)}. Start scheduler and workers from the"
                f" environment of `smad-features`, {otherwise}"
            )
        yield client


def _differences(client: Any) -> list[str]:
    """What a scheduler and its workers have otherwise than this process, in words."""
    found = client.get_versions(packages=[name for name in _SAME_ON_WORKERS if name != "python"])
    ours = found["client"]["packages"]
    sides: list[tuple[str, tuple[str, ...], dict[str, str | None]]] = [
        ("the scheduler", _SAME_ON_SCHEDULER, found["scheduler"]["packages"])
    ]
    sides += [(f"worker {name}", _SAME_ON_WORKERS, said["packages"]) for name, said in found["workers"].items()]
    differences = []
    for who, names, theirs in sides:
        for name in names:
            want, got = (_short(name, side.get(name)) for side in (ours, theirs))
            if want != got:
                differences.append(f"{who} has {name} {got}, want {want}")
    if not differences:
        try:
            codes = client.run(_our_code)
        except ImportError as error:  # ours is not installed there at all
            return [f"a worker lacks a module: {error}"]
        wanted = _our_code()
        differences = [f"worker {who} has other code of SMAD" for who, code in codes.items() if code != wanted]
    return differences[:3]


def _short(name: str, version: str | None) -> str:
    """Of Python's version the two numbers that decide what a pickled function means."""
    return "none" if version is None else ".".join(version.split(".")[:2]) if name == "python" else version


def _our_code() -> dict[str, str]:
    return {module: code_digest(module) for module in _OUR_CODE}
