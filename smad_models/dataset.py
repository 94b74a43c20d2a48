"""From the cache on disk to arrays in memory: the one door to `smad_features`.

The cache is a Zarr format 3 store. It is read with TensorStore, which fetches single clips out of shards hundreds of
times as fast as zarr-python does, and a chunk that is absent is an error: a lost shard must never read as zeros.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts

from smad_features import schema
from smad_models.cache_files import CONTEXT, CacheStoreError, Place, find_store, read_file, spec_of, wait_for
from smad_models.folds import check_disjoint

CACHE_VERSION = schema.VERSION
CHANNELS = tuple(channel.name for channel in schema.TOBII_PRO_LAB_39)  # of a cache as it is by default, and SMAD's own
PRELOADED = 1 << 30  # bytes: all faces of SMAD are 0.4 GB; of a larger cache each batch is read when it is wanted


@dataclass(frozen=True)
class Cache:
    """An open cache: what it says of itself, and its arrays to be read by row.

    All reads come from the store that `open_cache` found, even if the link to it is swapped meanwhile.
    """

    path: Place  # of the store itself, behind the link
    attributes: dict[str, Any]  # of its root
    clips: tuple[str, ...]  # in row order
    participants: tuple[str, ...]  # of each row
    channels: tuple[str, ...]  # of the eye sequences
    digest: str
    frames: int
    size: int
    steps: int
    specs: dict[str, schema.Array] = field(repr=False)
    _stores: dict[str, ts.TensorStore] = field(repr=False)
    _memory: dict[str, np.ndarray] = field(default_factory=dict, repr=False)

    def read(self, rows: np.ndarray | Sequence[int], arrays: Iterable[str]) -> dict[str, np.ndarray]:
        """The named arrays at ``rows``, each ``(len(rows), ...)``, in the order of ``rows``.

        Raises
        ------
        KeyError
            If the cache has no such array.
        IndexError
            If a row is none of the cache's.
        ValueError
            If a chunk is missing or damaged: the message names the array, the clips, and the file; or the object store
            cannot be used.
        """
        index = np.asarray(rows, dtype=np.int64)
        if len(index) and not (index.min() >= 0 and index.max() < len(self.clips)):
            raise IndexError(f"{self.path}: rows are 0 to {len(self.clips) - 1}, got {index.min()} to {index.max()}")
        names = list(arrays)
        for name in names:
            if name not in self._stores:
                raise KeyError(f"{self.path}: no array {name}; there are {', '.join(self._stores)}")
        # All reads are on their way before the first is waited for.
        pending = {name: self._stores[name][index].read() for name in names if name not in self._memory}
        found = {name: self._memory[name][index] for name in names if name in self._memory}
        for name, future in pending.items():
            try:
                found[name] = wait_for(future, self.path)
            except CacheStoreError:
                raise
            except ValueError as error:
                raise ValueError(
                    f"{self.path}: array {name} cannot be read for {self._name_damaged(name, index)}: {error}\n"
                    "`smad-features verify` says what else is damaged, and what mends it"
                ) from error
        return {name: found[name] for name in names}

    def _name_damaged(self, name: str, index: np.ndarray) -> str:
        """Those clips of ``index`` whose part of an array cannot be read, in words."""
        pending = {row: self._stores[name][row].read() for row in np.unique(index).tolist()}
        clips = [self.clips[row] for row, future in pending.items() if future.exception() is not None]
        more = f" and {len(clips) - 8} more" if len(clips) > 8 else ""
        return f"clip {', '.join(clips[:8])}{more}"

    def preload(self, arrays: Iterable[str], *, limit: int = PRELOADED) -> Cache:
        """The same cache with the named arrays held in memory: later reads of them touch no disk.

        Where they would take more than ``limit`` bytes, with what is held already, they are not, and batches are
        read as they are asked for.
        """
        names = [name for name in arrays if name not in self._memory]
        stores = [self._stores[name] for name in names if name in self._stores]
        held = sum(array.nbytes for array in self._memory.values())
        if held + sum(store.dtype.numpy_dtype.itemsize * store.size for store in stores) > limit:
            return self
        return replace(self, _memory=self._memory | self.read(range(len(self.clips)), names))


@dataclass(frozen=True)
class Split:
    """One fold's rows of a cache, ascending, and who is in them; no participant is on both sides."""

    training: np.ndarray
    test: np.ndarray
    training_participants: tuple[str, ...]
    test_participants: tuple[str, ...]


def split_fold(cache: Cache, folds: Iterable[tuple[str, str, int]], fold: int) -> Split:
    """The rows to train on and to test on when ``fold`` is held out.

    Raises
    ------
    ValueError
        If there is no such fold, a participant is in two, or the folds and the cache disagree about a clip; the message
        names it.
    """
    listed = {clip: (participant, number) for clip, participant, number in folds}
    home = check_disjoint((clip, *place) for clip, place in listed.items())
    if fold not in home.values():
        raise ValueError(f"fold {fold} is none of {', '.join(map(str, sorted(set(home.values()))))}")
    for clip in listed.keys() - set(cache.clips):
        raise ValueError(f"clip {clip} is in the folds but not in the cache {cache.path}")
    for clip, participant in zip(cache.clips, cache.participants, strict=True):
        if clip not in listed:
            raise ValueError(f"clip {clip} is in the cache {cache.path} but in no fold")
        if listed[clip][0] != participant:
            raise ValueError(
                f"clip {clip} is of participant {participant} in the cache but of {listed[clip][0]} in the folds"
            )
    held_out = np.array([listed[clip][1] == fold for clip in cache.clips])
    sides = {participant: number == fold for participant, number in home.items()}
    return Split(
        training=np.flatnonzero(~held_out),
        test=np.flatnonzero(held_out),
        training_participants=tuple(sorted(name for name, tested in sides.items() if not tested)),
        test_participants=tuple(sorted(name for name, tested in sides.items() if tested)),
    )


def open_cache(path: Place) -> Cache:
    """Open the cache at ``path``, a store or a link to one, and check it against the contract.

    In an object store ``s3://bucket/prefix/cache.zarr`` stands for a link: `cache.json` beside it says where it leads.

    Raises
    ------
    FileNotFoundError
        If there is no Zarr store.
    ValueError
        If it is of another format or version (both are named), is being replaced, an array is not what the contract
        says, or the object store cannot be used.
    """
    store = find_store(path)
    root = read_file(store, "zarr.json")
    if root is None:
        raise FileNotFoundError(f"{path}: no cache is there ({store}/zarr.json is absent){_elsewhere(path)}")
    try:
        attributes = json.loads(root.decode("utf-8")).get("attributes", {})
    except ValueError as error:
        raise ValueError(
            f"{path}: {store}/zarr.json is damaged: {error}; `smad-features verify` says what mends it"
        ) from error
    found = (attributes.get("format"), attributes.get("version"))
    if found != (schema.FORMAT, schema.VERSION):
        raise ValueError(
            f"{path}: want format {schema.FORMAT!r} version {schema.VERSION}, got {found[0]!r} version {found[1]}"
        )
    absent = [name for name in ("clips", "participants", "channels", "digest") if name not in attributes]
    if absent:
        raise ValueError(f"{path}: its attributes lack {', '.join(absent)}")
    clips, participants = tuple(attributes["clips"]), tuple(attributes["participants"])
    if len(clips) != len(participants):
        raise ValueError(f"{path}: {len(clips)} clips but {len(participants)} participants")
    _check_settled(path, attributes)
    channels = tuple(channel["name"] for channel in attributes["channels"])

    context = ts.Context(CONTEXT)  # one for all arrays
    stores = {}
    for name in schema.face_arrays() | schema.eye_arrays() | schema.gaze_content_arrays():
        if read_file(store, f"{name}/zarr.json") is not None:
            try:
                stores[name] = wait_for(ts.open(_spec(store, name), open=True, read=True, context=context), store)
            except CacheStoreError:
                raise
            except ValueError as error:
                raise ValueError(f"{path}: array {name} cannot be opened: {error}") from error
    if "face" not in stores or "eye" not in stores:
        raise ValueError(f"{path}: want at least the arrays face and eye, got {', '.join(stores) or 'none'}")
    frames, size = stores["face"].shape[1:3]
    steps = stores["eye"].shape[1]
    specs = schema.face_arrays(frames=frames, size=size) | schema.eye_arrays(steps=steps, channels=len(channels))
    if "gaze_content" in stores:  # only of clips that name a stimulus
        specs |= schema.gaze_content_arrays(frames=frames, size=size)
    _check_arrays(path, stores, specs, len(clips))
    return Cache(
        store, attributes, clips, participants, channels, attributes["digest"], frames, size, steps, specs, stores
    )


def _elsewhere(path: Place) -> str:
    """Where the cache is, if `cache.json` beside a link that is not there knows it."""
    if isinstance(path, Path):
        try:
            store = json.loads(path.with_name("cache.json").read_text(encoding="utf-8"))["store"]
        except (OSError, ValueError, KeyError, TypeError):
            return ""
        return f"; it was packed elsewhere: --cache {store}/cache.zarr"
    return ""


def _check_settled(path: Place, attributes: dict[str, Any]) -> None:
    """Raise ValueError unless the `cache.json` beside a link speaks of the very store that the link leads to.

    It is written last: where the two disagree, the store is being replaced. A store without one, a copy say, is read as
    it is.
    """
    if not isinstance(path, Path):
        return
    summary = path.with_name("cache.json")
    if not path.is_symlink() or not summary.is_file():
        return
    try:
        said = json.loads(summary.read_text(encoding="utf-8"))
        agree = said["digest"] == attributes["digest"] and said["clips"] == attributes["clips"]
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{summary}: damaged; `smad-features verify` says what mends it") from None
    if not agree:
        raise ValueError(
            f"{path}: is being replaced: {summary} speaks of another store than {path.resolve().name}; wait until the"
            " workflow has packed it, or run the workflow again if it was stopped (`smad-features verify` tells)"
        )


def _spec(store: Place, name: str) -> dict[str, Any]:
    return {
        "driver": "zarr3",
        "kvstore": spec_of(store, name),
        "fill_missing_data_reads": False,
    }


def _check_arrays(
    path: Place, stores: Mapping[str, ts.TensorStore], specs: Mapping[str, schema.Array], clips: int
) -> None:
    for name, spec in specs.items():
        if name not in stores:
            raise ValueError(f"{path}: array {name} is missing")
        want = ((clips, *spec.shape), np.dtype(spec.dtype))
        got = (tuple(stores[name].shape), stores[name].dtype.numpy_dtype)
        if got != want:
            raise ValueError(f"{path}: array {name}: want {want[0]} {want[1]}, got {got[0]} {got[1]}")
