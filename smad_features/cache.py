"""Units and the packed cache on disk: written whole, read back with their checksums checked.

A unit is one participant's share of a stage, one zip file. The cache is one sharded Zarr store of all clips that are
ok.
"""

from __future__ import annotations

import os
import shutil
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
import zarr
from dask.base import compute
from dask.delayed import delayed
from zarr.codecs import Crc32cCodec
from zarr.core.buffer import Buffer, default_buffer_prototype
from zarr.storage import LocalStore, MemoryStore, ZipStore

from smad_features import schema
from smad_features.atomic import writing, written_whole
from smad_features.fingerprints import digest_of
from smad_features.freshness import UNIT_FORMAT, UNIT_VERSION, planned_digest, read_unit_attributes
from smad_features.sealed import DamagedError, damaged_entries, is_whole, read_entries, seal
from smad_features.shards import clips_a_shard, take_over
from smad_features.summary import LINK, is_settled, list_files, store_name, summary_written

_LAYOUT = 2  # of the packed cache: raised when the same rows get other bytes
_PICTURES = ("face", "gaze_content")  # large: each clip is a chunk of its own

# A missing chunk is damage, never "all zeros": so chunks of nothing but missing values are written too. Set for the
# process: zarr forgets a setting of one array when that array is opened again.
zarr.config.set({"array.write_empty_chunks": True})
_NOT_WRITTEN = np.uint64(2**64 - 1)  # in the index of a shard


class CacheError(RuntimeError):
    """A unit or cache is damaged, incomplete or of another version; the message names it and what heals it."""


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
    found = _attributes_of(path)
    content = path.read_bytes()
    if not is_whole(content):
        raise CacheError(f"{path}: damaged: {_name_damaged(content, found['clips'])}; {_mend(path)}")
    held: dict[str, Buffer] = {
        name: default_buffer_prototype().buffer.from_bytes(x) for name, x in read_entries(content).items()
    }
    group = zarr.open_group(MemoryStore(held, read_only=True), mode="r")
    arrays = {name: np.asarray(array[...]) for name, array in group.arrays()}
    if digest_of(_contents(found["clips"], arrays)) != found["content"]:
        raise CacheError(f"{path}: damaged (its arrays are not those that were written); {_mend(path)}")
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

    Raises
    ------
    CacheError
        A unit is damaged, or what was written cannot be read back.
    StorageError
        No room, or no leave to write: the cache is as it was.
    """
    try:
        with writing(results / LINK):
            return _pack(results, rows, units, specs, attributes)
    except BaseException:
        _clear_drafts(results)  # they may be what fills the disk
        raise


def _pack(
    results: Path,
    rows: Sequence[tuple[str, str]],
    units: Sequence[dict[str, Path]],
    specs: dict[str, schema.Array],
    attributes: dict[str, Any],
) -> str:
    provenance = {}
    for files in units:
        for participant in sorted({participant for participant, _ in rows} & files.keys()):
            path = files[participant]
            provenance[f"{path.parent.name}/{participant}"] = _attributes_of(path)["content"]
    digest = digest_of(
        [schema.VERSION, _LAYOUT, rows, provenance, attributes, {name: str(spec) for name, spec in specs.items()}]
    )
    store, link = results / store_name(digest), results / LINK
    _clear_drafts(results)
    if is_settled(results) and link.resolve() == store.resolve():
        return digest

    beside = results / f".{store.name}.{os.getpid()}.tmp"
    root = {
        "format": schema.FORMAT,
        "version": schema.VERSION,
        "digest": digest,
        "clips": [clip for _, clip in rows],
        "participants": [participant for participant, _ in rows],
        **attributes,
        "provenance": provenance,
    }
    previous = link.resolve() if link.exists() else None
    damage = _write_store(beside, rows, units, specs, root, previous=previous)
    if damage and previous is not None:  # in what was taken over, perhaps
        shutil.rmtree(beside)
        damage = _write_store(beside, rows, units, specs, root, previous=None)
    if damage:
        raise CacheError("what was packed cannot be read back: " + "; ".join(damage))
    listed = list_files(beside, sync=True)
    if store.exists():  # of a run that died, or damaged
        store.rename(results / f".{store.name}.old.tmp")
    beside.rename(store)
    new_link = results / ".cache.zarr.link"
    new_link.unlink(missing_ok=True)
    new_link.symlink_to(store.name)
    with summary_written(results, digest, [clip for _, clip in rows], listed):
        new_link.replace(link)
    for old in results.glob("cache-*.zarr"):  # the previous one stays: a reader may have it open
        if old.resolve() not in (store.resolve(), previous):
            shutil.rmtree(old)
    _clear_drafts(results)
    return digest


def _write_store(
    store: Path,
    rows: Sequence[tuple[str, str]],
    units: Sequence[dict[str, Path]],
    specs: dict[str, schema.Array],
    attributes: dict[str, Any],
    *,
    previous: Path | None,
) -> list[str]:
    """Write all of a store, shards of the ``previous`` one taken over; what `verify_cache` has to say of it."""
    group = zarr.create_group(LocalStore(store), attributes=attributes)
    step = clips_a_shard(specs.values())
    for name, spec in specs.items():
        is_large = name in _PICTURES
        _create_array(
            group, name, spec, clips=len(rows), chunk=1 if is_large else step, shard=step if is_large else None
        )
    kept = set() if previous is None else take_over(previous, store, step=step)

    def write(first: int) -> None:
        _write_shard(store, first, rows[first : first + step], units, specs)

    # One task writes one shard: two writers to a shard would lose data silently.
    compute(*[delayed(write)(first) for first in range(0, len(rows), step) if first not in kept], scheduler="threads")
    return verify_cache(store)


def verify_cache(path: Path) -> list[str]:
    """Reread every chunk of a cache; the names of damaged arrays and clips, each in a sentence. Empty = all is well."""
    group = zarr.open_group(LocalStore(path, read_only=True), mode="r")
    found = dict(group.attrs)
    if found.get("format") != schema.FORMAT or found.get("version") != schema.VERSION:
        return [
            f"{path}: want {schema.FORMAT} version {schema.VERSION}, found {found.get('format')} {found.get('version')}"
        ]
    clips: list[str] = found["clips"]  # type: ignore[assignment]
    damage = []
    for name, array in sorted(group.arrays()):
        step = (array.shards or array.chunks)[0]
        for first in range(0, len(clips), step):
            which = ", ".join(clips[first : first + step])
            file = path / name / "c" / str(first // step) / "/".join("0" * (array.ndim - 1))
            if not file.is_file() or (array.shards and _NOT_WRITTEN in _shard_index(file, step)[: len(clips) - first]):
                damage.append(f"{path}: {name}: {file} lacks data: zarr would read zeros for some of {which}")
                continue
            try:
                array[first : first + step]
            except Exception as error:  # any failure to read is what we look for; it is reported, not passed over
                damage.append(f"{path}: {name}: cannot be read for {which}: {error}")
    return damage


def _shard_index(file: Path, clips: int) -> np.ndarray:
    """(clips, 2) uint64: offset and length of each chunk, at the end of a shard, before a checksum of 4 bytes."""
    with file.open("rb") as shard:
        shard.seek(-16 * clips - 4, os.SEEK_END)
        return np.frombuffer(shard.read(16 * clips), "<u8").reshape(-1, 2)


def _write_shard(
    store: Path,
    first: int,
    rows: Sequence[tuple[str, str]],
    units: Sequence[dict[str, Path]],
    specs: dict[str, schema.Array],
) -> None:
    """Copy the rows of one shard from the units."""
    target = zarr.open_group(LocalStore(store), mode="r+")
    owned: dict[str, list[str]] = {}
    for participant, clip in rows:
        owned.setdefault(participant, []).append(clip)
    parts = {name: spec.empty(len(rows)) for name, spec in specs.items()}
    given: dict[str, set[str]] = {participant: set() for participant in owned}
    for files in units:
        done = 0
        for participant, clips in owned.items():  # rows are sorted by participant
            if participant in files:
                for name, values in _read_rows(files[participant], clips):
                    parts[name][done : done + len(clips)] = values
                    given[participant].add(name)
            done += len(clips)
    for participant, names in given.items():
        if lacking := sorted(specs.keys() - names - schema.gaze_content_arrays().keys()):
            raise CacheError(f"participant {participant}: no unit holds {', '.join(lacking)}")
    for name in specs:
        target[name][first : first + len(rows)] = parts.pop(name)  # type: ignore[index]


def _read_rows(path: Path, clips: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]:
    """Each array's name and its rows of ``clips``, checksums checked; no more of a unit is read than these need."""
    held = _attributes_of(path)["clips"]
    places = np.array([held.index(clip) for clip in clips])
    first, last = places.min(), places.max()
    try:
        with zipfile.ZipFile(path) as archive:
            chunks = Counter(member.partition("/c/")[0] for member in archive.namelist() if "/c/" in member)
        with ZipStore(path, mode="r") as store:
            arrays = dict(zarr.open_group(store, mode="r").arrays())
            lost = [name for name, array in arrays.items() if chunks[name] < array.nchunks]
            if lost:  # zarr would read missing values
                raise ValueError(f"data lost of {', '.join(lost)}")
            for name, array in arrays.items():
                yield name, np.asarray(array[first : last + 1])[places - first]
    except (ValueError, KeyError, RuntimeError, zipfile.BadZipFile) as error:
        raise CacheError(f"{path}: damaged ({error}); {_mend(path)}") from error


def _attributes_of(path: Path) -> dict[str, Any]:
    """What a unit says of itself; CacheError where there is no whole unit of this version."""
    found = read_unit_attributes(path)
    if found is None:
        raise CacheError(f"{path}: not a whole unit of version {UNIT_VERSION}; {_mend(path)}")
    return found


def _mend(path: Path) -> str:
    return f"to mend it, delete it and run the workflow again: rm {path}"


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
