"""Units and the packed cache on disk: written whole, read back with their checksums checked.

A unit is one participant's share of a stage, one zip file. The cache is one sharded Zarr store of all clips that are
ok.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
import zarr
from zarr.codecs import Crc32cCodec
from zarr.core.buffer import Buffer, default_buffer_prototype
from zarr.storage import MemoryStore

from smad_features import places, schema
from smad_features.atomic import draft_of, writing, written_whole
from smad_features.fingerprints import digest_of
from smad_features.freshness import UNIT_FORMAT, UNIT_VERSION, planned_digest
from smad_features.privacy import current_umask
from smad_features.scheduler import THREADS, run_tasks
from smad_features.sealed import DamagedError, damaged_entries, is_whole, read_entries, seal
from smad_features.shard_tasks import CacheError as CacheError  # whoever reads a unit looks for it here
from smad_features.shard_tasks import Shard, attributes_of, checksum, make_shard, mend_unit, read_shard
from smad_features.shards import clips_a_shard, take_over
from smad_features.summary import LINK, NAME, is_settled, remember_place, store_name, summary_written

_LAYOUT = 2  # of the packed cache: raised when the same rows get other bytes
_PICTURES = ("face", "gaze_content")  # large: each clip is a chunk of its own


@dataclass(frozen=True)
class Unit:
    """One participant's arrays of one stage.

    Attributes
    ----------
    arrays
        As `schema.face_arrays`, `schema.eye_arrays` or `schema.gaze_content_arrays`, a row for each of ``clips``;
        missing values where it has none.
    states
        Of each clip: ``state`` (ok | missing | failed) and ``reason``.
    quality
        Of each clip: what `quality.tsv` shows of this stage.
    record
        What the unit was made from (`freshness.unit_record`).
    """

    participant: str
    clips: list[str]
    arrays: dict[str, np.ndarray]
    states: dict[str, dict[str, str]]
    quality: dict[str, dict[str, Any]]
    record: dict[str, Any]


def write_unit(path: Path, unit: Unit, specs: dict[str, schema.Array]) -> None:
    """Write a unit to ``path``, whole or not at all."""
    contents = _contents(unit.clips, unit.arrays)
    attributes = {
        "format": UNIT_FORMAT,
        "version": UNIT_VERSION,
        "participant": unit.participant,
        "clips": unit.clips,
        "states": unit.states,
        "quality": unit.quality,
        "record": unit.record,
        "digest": planned_digest(unit.record),
        "contents": contents,
        "content": digest_of(contents),
    }
    held: dict[str, Buffer] = {}
    group = zarr.create_group(MemoryStore(held), attributes=attributes)
    for name, spec in specs.items():
        array = _create_array(group, name, spec, clips=len(unit.clips), chunk=1)
        array[...] = unit.arrays[name]
    with written_whole(path) as beside:
        beside.write_bytes(seal({name: buffer.to_bytes() for name, buffer in held.items()}))


def read_unit(path: Path) -> Unit:
    """Read a unit, every checksum checked.

    Raises
    ------
    CacheError
        Not a unit, of another version, or damaged: the clips that are hit are named.
    """
    found = attributes_of(path)
    content = path.read_bytes()
    if not is_whole(content):
        raise CacheError(f"{path}: damaged: {_name_damaged(content, found['clips'])}; {mend_unit(path)}")
    held: dict[str, Buffer] = {
        name: default_buffer_prototype().buffer.from_bytes(x) for name, x in read_entries(content).items()
    }
    group = zarr.open_group(MemoryStore(held, read_only=True), mode="r")
    arrays = {name: np.asarray(array[...]) for name, array in group.arrays()}
    if digest_of(_contents(found["clips"], arrays)) != found["content"]:
        raise CacheError(f"{path}: damaged (its arrays are not those that were written); {mend_unit(path)}")
    keys = ("participant", "clips", "states", "quality", "record")
    return Unit(arrays=arrays, **{key: found[key] for key in keys})


def _name_damaged(content: bytes, clips: Sequence[str]) -> str:
    """Which clips of a damaged unit are hit, in words."""
    try:
        damaged = damaged_entries(content)
    except DamagedError:
        damaged = [""]
    if not damaged:
        return "a byte beside the data, which no clip's arrays depend on"
    rows = {entry.partition("/c/")[2].partition("/")[0] for entry in damaged}
    if not all(row.isdecimal() and int(row) < len(clips) for row in rows):  # what describes an array, or all of them
        return "all clips: " + ", ".join(clips)
    return "clips " + ", ".join(clips[row] for row in sorted(map(int, rows)))


def pack(
    results: Path,
    rows: Sequence[tuple[str, str]],
    units: Sequence[dict[str, Path]],
    specs: dict[str, schema.Array],
    attributes: dict[str, Any],
    *,
    store: str | None = None,
    scheduler: str = THREADS,
) -> str:
    """Build the cache of ``rows`` from the units, and swap it in. Returns its digest; the same content, nothing done.

    Parameters
    ----------
    results
        The folder that gets `cache.zarr` and, last, `cache.json`.
    rows
        (participant, clip) of every row, in order.
    units
        A mapping for each stage from participant to the unit's file. A participant may lack one of a stage that is
        done for some only: the arrays then hold missing values.
    store
        s3://bucket/prefix to keep the cache there, and no `cache.zarr` here.
    scheduler
        Who writes and checks the shards (`scheduler.run_tasks`); the bytes do not depend on it.

    Raises
    ------
    CacheError
        A unit is damaged, or what was written cannot be read back.
    SchedulerError
        The scheduler cannot do it.
    StorageError
        No room, or no leave to write; of an object store, whatever keeps it from being used. The cache is as it was.
    """
    provenance = {}
    for files in units:
        for participant in sorted({participant for participant, _ in rows} & files.keys()):
            path = files[participant]
            provenance[f"{path.parent.name}/{participant}"] = attributes_of(path)["content"]
    digest = digest_of(
        [schema.VERSION, _LAYOUT, rows, provenance, attributes, {name: str(spec) for name, spec in specs.items()}]
    )
    root = {
        "format": schema.FORMAT,
        "version": schema.VERSION,
        "digest": digest,
        "clips": [clip for _, clip in rows],
        "participants": [participant for participant, _ in rows],
        **attributes,
        "provenance": provenance,
    }
    _clear_drafts(results)
    if is_settled(results, store=store, digest=digest):
        return digest
    source = _Source(rows, units, specs, root, scheduler)
    if store is not None:
        _pack_away(results, source, store)
        return digest
    try:
        with writing(results / LINK):
            _pack_here(results, source)
    except BaseException:
        _clear_drafts(results)  # they may be what fills the disk
        raise
    return digest


@dataclass(frozen=True)
class _Source:
    """What a store is made from, and by whom."""

    rows: Sequence[tuple[str, str]]
    units: Sequence[dict[str, Path]]
    specs: dict[str, schema.Array]
    root: dict[str, Any]  # its attributes
    scheduler: str


def _pack_here(results: Path, source: _Source) -> None:
    link, digest = results / LINK, source.root["digest"]
    store = results / store_name(digest)
    beside = draft_of(store)
    previous = link.resolve() if link.exists() else None
    listed = _write_store(str(beside.absolute()), source, previous=previous)
    if store.exists():  # of a run that died, or damaged
        store.rename(results / f".{store.name}.old.tmp")
    beside.rename(store)
    new_link = results / ".cache.zarr.link"
    new_link.unlink(missing_ok=True)
    new_link.symlink_to(store.name)
    with summary_written(results, digest, source.root["clips"], listed):
        new_link.replace(link)
    for old in results.glob("cache-*.zarr"):  # the previous one stays: a reader may have it open
        if old.resolve() not in (store.resolve(), previous):
            shutil.rmtree(old)
    _clear_drafts(results)


def _pack_away(results: Path, source: _Source, store: str) -> None:
    """Pack to an object store. There is no link and no rename there: its `cache.json`, written last, is what points."""
    digest = source.root["digest"]
    place = f"{store}/{store_name(digest)}"
    remember_place(results, store)  # before anything lies there: `forget` must know where to look
    pointer = _pointer(store)
    if left := places.list_files(place):  # of a run that died, or damaged
        places.remove_files(place, left)
    listed = _write_store(place, source, previous=None)
    with summary_written(results, digest, source.root["clips"], listed, store=store) as beside:
        places.write_file(store, NAME, beside.read_bytes(), umask=current_umask())
        (results / LINK).unlink(missing_ok=True)
    for old in places.list_folders(store):  # the previous one stays: a reader may have it open
        if old.startswith("cache-") and old not in (store_name(digest), pointer):
            places.remove_files(f"{store}/{old}", places.list_files(f"{store}/{old}"))
    for old_here in results.glob("cache-*.zarr"):
        shutil.rmtree(old_here)


def _pointer(store: str) -> str | None:
    """The name of the store that the `cache.json` of an object store speaks of."""
    try:
        return store_name(json.loads(places.read_file(store, NAME))["digest"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _write_store(place: str, source: _Source, *, previous: Path | None) -> dict[str, list[Any]]:
    """Write all of a store, shards of the ``previous`` one taken over; size and checksum of each of its files."""
    rows, umask = source.rows, current_umask()
    step = clips_a_shard(source.specs.values())
    listed = {}
    for name, content in _describe(source, step=step).items():
        places.write_file(place, name, content, umask=umask)
        listed[name] = [len(content), checksum(content)]
    kept = set() if previous is None else take_over(previous, Path(place), step=step)
    shards = []
    for first in range(0, len(rows), step):
        own = tuple(rows[first : first + step])
        people = {participant for participant, _ in own}
        files = tuple(
            {participant: str(stage[participant].absolute()) for participant in sorted(people & stage.keys())}
            for stage in source.units
        )
        shards.append(Shard(place, first // step, own, files, source.specs, first in kept, umask))
    made = run_tasks(make_shard, shards, scheduler=source.scheduler)
    if damage := [sentence for shard in made for sentence in shard.damage]:
        raise CacheError("what was packed cannot be read back: " + "; ".join(damage))
    for shard in made:
        listed |= shard.files
    return dict(sorted(listed.items()))


def _describe(source: _Source, *, step: int) -> dict[str, bytes]:
    """The files of a store that describe it and its arrays."""
    held: dict[str, Buffer] = {}
    group = zarr.create_group(MemoryStore(held), attributes=source.root)
    for name, spec in source.specs.items():
        large = name in _PICTURES
        _create_array(
            group, name, spec, clips=len(source.rows), chunk=1 if large else step, shard=step if large else None
        )
    return {name: buffer.to_bytes() for name, buffer in held.items()}


def verify_cache(place: str | Path) -> list[str]:
    """Reread every chunk of a cache; the names of damaged arrays and clips, each in a sentence. Empty = all is well."""
    place = str(place)
    found = json.loads(places.read_file(place, "zarr.json"))["attributes"]
    if found.get("format") != schema.FORMAT or found.get("version") != schema.VERSION:
        return [
            f"{place}: want {schema.FORMAT} version {schema.VERSION},"
            f" found {found.get('format')} {found.get('version')}"
        ]
    clips: list[str] = found["clips"]
    damage = []
    for name in places.list_folders(place):
        layout = json.loads(places.read_file(place, f"{name}/zarr.json"))
        step = layout["chunk_grid"]["configuration"]["chunk_shape"][0]
        for first in range(0, len(clips), step):
            try:
                read_shard(place, name, first // step, clips[first : first + step])
            except CacheError as error:
                damage.append(str(error))
    return damage


def _create_array(
    group: zarr.Group, name: str, spec: schema.Array, *, clips: int, chunk: int, shard: int | None = None
) -> zarr.Array:
    return group.create_array(
        name,
        shape=(clips, *spec.shape),
        dtype=spec.dtype,
        chunks=(chunk, *spec.shape),
        shards=None if shard is None else (shard, *spec.shape),
        # Not compressed: that would save a fifth of the room and cost two thirds of the speed of reading
        # (benchmarks/README.md), and the bytes would follow from a library's version too.
        compressors=[Crc32cCodec()],
        fill_value=spec.missing,
        dimension_names=("clip", *spec.dims),
        attributes={"description": spec.meaning},
    )


def _contents(clips: Sequence[str], arrays: dict[str, np.ndarray]) -> dict[str, dict[str, str]]:
    """Clip -> array -> xxh3-128 of its values: what a stage that reads them is stale by."""
    return {clip: {name: _digest(array[row]) for name, array in arrays.items()} for row, clip in enumerate(clips)}


def _digest(array: np.ndarray) -> str:
    hasher = xxhash.xxh3_128(f"{array.dtype} {array.shape}".encode())
    hasher.update(np.ascontiguousarray(array).tobytes())
    return hasher.hexdigest()


def _clear_drafts(results: Path) -> None:
    """Remove what a run that died, or this one, has left half done."""
    for draft in results.glob(".cache-*.tmp"):
        shutil.rmtree(draft, ignore_errors=True)
