"""Units and the packed cache on disk: written whole, read back with their checksums checked.

A unit is one participant's share of a stage, one zip file. The cache is one sharded Zarr store of all clips that are
ok.
"""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
import zarr
from dask.base import compute
from dask.delayed import delayed
from zarr.codecs import Crc32cCodec, ZstdCodec
from zarr.storage import LocalStore, ZipStore

from smad_features import schema
from smad_features.atomic import written_whole
from smad_features.fingerprints import digest_of
from smad_features.freshness import UNIT_FORMAT, planned_digest, read_unit_attributes

SHARD = 64  # clips a shard of pictures, and a chunk of everything else
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
        "version": schema.VERSION,
        "participant": unit.participant,
        "clips": unit.clips,
        "states": unit.states,
        "quality": unit.quality,
        "record": unit.record,
        "digest": planned_digest(unit.record),
        "contents": contents,
        "content": digest_of(contents),
    }
    with written_whole(path) as beside, ZipStore(beside, mode="w") as store:
        group = zarr.create_group(store, attributes=attributes)
        for name, spec in specs.items():
            array = _create_array(group, name, spec, clips=len(unit.clips), chunk=1)
            array[...] = unit.arrays[name]


def read_unit(path: Path) -> Unit:
    """Read a unit, every checksum checked.

    Raises
    ------
    CacheError
        Not a unit, of another version, or damaged.
    """
    found = read_unit_attributes(path)
    if found is None:
        raise CacheError(f"{path}: not a whole unit of version {schema.VERSION}; delete it and run the workflow again")
    try:
        with ZipStore(path, mode="r") as store:
            arrays = {name: np.asarray(array[...]) for name, array in zarr.open_group(store, mode="r").arrays()}
    except (ValueError, KeyError, RuntimeError, zipfile.BadZipFile) as error:
        raise CacheError(f"{path}: damaged ({error}); delete it and run the workflow again") from error
    if digest_of(_contents(found["clips"], arrays)) != found["content"]:
        raise CacheError(f"{path}: damaged (its arrays are not those that were written); delete it and run again")
    keys = ("participant", "clips", "states", "quality", "record")
    return Unit(arrays=arrays, **{key: found[key] for key in keys})


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
    """
    provenance = {}
    for files in units:
        for participant in sorted({participant for participant, _ in rows} & files.keys()):
            found = read_unit_attributes(files[participant])
            if found is None:
                raise CacheError(f"{files[participant]}: not a whole unit; delete it and run the workflow again")
            provenance[f"{files[participant].parent.name}/{participant}"] = found["content"]
    digest = digest_of(
        [schema.VERSION, rows, provenance, attributes, {name: str(spec) for name, spec in specs.items()}]
    )
    store, link, summary = results / f"cache-{digest}.zarr", results / "cache.zarr", results / "cache.json"
    if _says(summary) == digest and link.exists() and link.resolve() == store.resolve():
        return digest

    for leftover in results.glob(".cache-*.tmp"):
        shutil.rmtree(leftover)
    beside = results / f".{store.name}.{os.getpid()}.tmp"
    group = zarr.create_group(
        LocalStore(beside),
        attributes={
            "format": schema.FORMAT,
            "version": schema.VERSION,
            "digest": digest,
            "clips": [clip for _, clip in rows],
            "participants": [participant for participant, _ in rows],
            **attributes,
            "provenance": provenance,
        },
    )
    for name, spec in specs.items():
        is_large = name in _PICTURES
        _create_array(group, name, spec, clips=len(rows), chunk=1 if is_large else SHARD, shard=is_large)
    # One task writes one shard: two writers to a shard would lose data silently.
    shards = [rows[first : first + SHARD] for first in range(0, len(rows), SHARD)]
    compute(
        *[delayed(_write_shard)(beside, number * SHARD, shard, units, specs) for number, shard in enumerate(shards)],
        scheduler="threads",
    )
    damage = verify_cache(beside)
    if damage:
        raise CacheError("what was packed cannot be read back: " + "; ".join(damage))
    if store.exists():
        shutil.rmtree(store)
    beside.rename(store)
    new_link = results / ".cache.zarr.link"
    new_link.unlink(missing_ok=True)
    new_link.symlink_to(store.name)
    previous = link.resolve() if link.exists() else None
    new_link.replace(link)
    for old in results.glob("cache-*.zarr"):  # the previous one stays: a reader may have it open
        if old.resolve() not in (store.resolve(), previous):
            shutil.rmtree(old)
    text = {"format": schema.FORMAT, "version": schema.VERSION, "digest": digest, "clips": [clip for _, clip in rows]}
    with written_whole(summary) as path:
        path.write_text(json.dumps(text, indent=1) + "\n")
    return digest


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
            if not file.is_file() or (array.shards and _NOT_WRITTEN in _shard_index(file)[: len(clips) - first]):
                damage.append(f"{path}: {name}: {file} lacks data: zarr would read zeros for some of {which}")
                continue
            try:
                array[first : first + step]
            except Exception as error:  # any failure to read is what we look for; it is reported, not passed over
                damage.append(f"{path}: {name}: cannot be read for {which}: {error}")
    return damage


def _shard_index(file: Path) -> np.ndarray:
    """(SHARD, 2) uint64: offset and length of each chunk, at the end of a shard, before a checksum of 4 bytes."""
    return np.frombuffer(file.read_bytes()[-16 * SHARD - 4 : -4], "<u8").reshape(-1, 2)


def _write_shard(
    store: Path,
    first: int,
    rows: Sequence[tuple[str, str]],
    units: Sequence[dict[str, Path]],
    specs: dict[str, schema.Array],
) -> None:
    """Copy the rows of one shard from the units."""
    target = zarr.open_group(LocalStore(store), mode="r+")
    parts = {name: spec.empty(len(rows)) for name, spec in specs.items()}
    given: list[set[str]] = [set() for _ in rows]
    for files in units:
        opened: dict[str, tuple[list[str], dict[str, np.ndarray]]] = {}
        for row, (participant, clip) in enumerate(rows):
            if participant not in files:
                continue
            if participant not in opened:
                opened = {}  # rows are sorted by participant: no earlier unit is needed again
                unit = read_unit(files[participant])
                opened[participant] = unit.clips, unit.arrays
            clips, arrays = opened[participant]
            for name in arrays:
                parts[name][row] = arrays[name][clips.index(clip)]
            given[row].update(arrays)
    for (participant, clip), names in zip(rows, given, strict=True):
        if lacking := sorted(specs.keys() - names - schema.gaze_content_arrays().keys()):
            raise CacheError(f"clip {clip}: no unit of participant {participant} holds {', '.join(lacking)}")
    for name, values in parts.items():
        target[name][first : first + len(rows)] = values  # type: ignore[index]


def _create_array(
    group: zarr.Group, name: str, spec: schema.Array, *, clips: int, chunk: int, shard: bool = False
) -> zarr.Array:
    return group.create_array(
        name,
        shape=(clips, *spec.shape),
        dtype=spec.dtype,
        chunks=(chunk, *spec.shape),
        shards=(SHARD, *spec.shape) if shard else None,
        # Level 1: crops hardly shrink further, and reading is what counts. The checksum is over the stored bytes.
        compressors=[ZstdCodec(level=1), Crc32cCodec()],
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


def _says(summary: Path) -> str | None:
    """The digest that cache.json holds."""
    try:
        return json.loads(summary.read_text())["digest"]
    except (FileNotFoundError, ValueError, KeyError):
        return None
