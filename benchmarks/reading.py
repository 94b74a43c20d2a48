"""Readers of face crops that take turns: TensorStore, JPEG folders, one .npz a clip, HDF5, zarr-python, memory."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

BATCH = 32
RATES = ("one process", "two processes", "two threads")


@dataclass(frozen=True)
class Reader:
    """A way to read crops: of ``rows``, as one array; slow ones read fewer batches a turn."""

    read: Callable[[np.ndarray], np.ndarray]
    megabytes: float
    batches: int = 40

    def rate(self, rows: np.ndarray) -> float:
        """MB of crops a second, batch by batch."""
        begin, total = time.perf_counter(), 0
        for first in range(0, min(len(rows) - BATCH, self.batches * BATCH), BATCH):
            total += self.read(rows[first : first + BATCH]).nbytes
        return total / 1e6 / (time.perf_counter() - begin)


def store_raw_and_packed(folder: Path, crops: np.ndarray, clips: int) -> dict[str, Reader]:
    """The same crops, laid out as in the cache, under several codecs."""
    import tensorstore as ts
    import zarr
    from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec

    codecs: dict[str, list[Any]] = {
        "raw": [Crc32cCodec()],
        "blosc-lz4": [BloscCodec(cname="lz4", clevel=1, shuffle="noshuffle", typesize=1), Crc32cCodec()],
        "blosc-lz4, bits shuffled": [
            BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle", typesize=1),
            Crc32cCodec(),
        ],
        "zstd-1": [ZstdCodec(level=1), Crc32cCodec()],
    }
    readers = {}
    for name, chosen in codecs.items():
        path = folder / name.replace(" ", "-")
        array = zarr.create_array(
            path, shape=(clips, *crops.shape[1:]), dtype="uint8", chunks=(1, *crops.shape[1:]),
            shards=(64, *crops.shape[1:]), compressors=chosen, fill_value=0,
        )  # fmt: skip
        for first in range(0, clips, 64):
            array[first : first + 64] = crops[np.arange(first, min(first + 64, clips)) % len(crops)]
        spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(path)}}
        context = ts.Context({"cache_pool": {"total_bytes_limit": 0}})
        store = ts.open(spec, open=True, read=True, context=context).result()
        readers[name] = Reader(lambda rows, store=store: store[rows].read().result(), _size(path))
    return readers


def open_readers(folder: Path, store: Path) -> dict[str, Reader]:
    """Ours, and the same crops in the ways that others keep them."""
    import cv2
    import h5py
    import zarr

    from smad_models.dataset import open_cache

    cache = open_cache(store)
    held = cache.preload(["face"])
    crops = held.read(range(len(cache.clips)), ["face"])["face"]
    folder.mkdir(parents=True)
    for clip, frames in enumerate(crops):
        (folder / f"jpeg/{clip}").mkdir(parents=True)
        for number, frame in enumerate(frames):
            cv2.imwrite(str(folder / f"jpeg/{clip}/{number}.jpg"), frame[..., ::-1])
        np.savez(_made(folder / "npz") / f"{clip}.npz", face=frames)
    with h5py.File(folder / "crops.h5", "w") as file:
        file.create_dataset("face", data=crops, chunks=(1, *crops.shape[1:]))
    dataset = h5py.File(folder / "crops.h5")["face"]
    plain = zarr.open_group(store, mode="r")["face"]

    def jpeg(rows: np.ndarray) -> np.ndarray:
        clips = [[cv2.imread(str(folder / f"jpeg/{row}/{n}.jpg"))[..., ::-1] for n in range(8)] for row in rows]
        return np.array(clips)

    def npz(rows: np.ndarray) -> np.ndarray:
        return np.stack([np.load(folder / f"npz/{row}.npz")["face"] for row in rows])

    def hdf5(rows: np.ndarray) -> np.ndarray:
        return np.stack([dataset[row] for row in rows])  # a list of rows at once takes several times as long

    return {
        "ours": Reader(lambda rows: cache.read(rows, ["face"])["face"], _size(store.resolve() / "face")),
        "JPEG folders, OpenCV": Reader(jpeg, _size(folder / "jpeg"), batches=6),
        "one .npz a clip": Reader(npz, _size(folder / "npz"), batches=10),
        "HDF5, a clip a chunk": Reader(hdf5, _size(folder / "crops.h5"), batches=10),
        "zarr-python, `oindex`": Reader(
            lambda rows: np.asarray(plain.oindex[rows]), _size(store.resolve() / "face"), batches=2
        ),
        "ours, preloaded": Reader(lambda rows: held.read(rows, ["face"])["face"], 0),
        "memory, `numpy`": Reader(lambda rows: crops[rows], 0),
    }


def read_at_once(what: str, store: Path, clips: int) -> float:
    """MB/s of all readers together, each with rows of its own; processes are spawned, and start together."""
    if what == "two threads":
        from smad_models.dataset import open_cache

        cache = open_cache(store)
        reader = Reader(lambda rows: cache.read(rows, ["face"])["face"], 0)
        with ThreadPoolExecutor(2) as pool:
            return sum(pool.map(reader.rate, [_rows(clips, seed) for seed in range(2)]))
    context = multiprocessing.get_context("spawn")
    count = 2 if what == "two processes" else 1
    barrier, answers = context.Barrier(count), context.SimpleQueue()
    workers = [context.Process(target=_read, args=(store, clips, n, barrier, answers)) for n in range(count)]
    for worker in workers:
        worker.start()
    rates = [answers.get() for _ in workers]
    for worker in workers:
        worker.join()
    return sum(rates)


def _read(store: Path, clips: int, seed: int, barrier: Any, answers: Any) -> None:
    from smad_models.dataset import open_cache

    cache = open_cache(store)
    reader = Reader(lambda rows: cache.read(rows, ["face"])["face"], 0)
    barrier.wait()
    answers.put(reader.rate(_rows(clips, seed)))


def _rows(clips: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).permutation(clips)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _size(path: Path) -> float:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files) / 1e6
