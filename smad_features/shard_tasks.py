"""What is done to one shard of the packed cache, by whichever process a scheduler gives it to: made, read, checked.

A task carries what it needs and no more: its own rows, and the files of their units. It opens no group, as the root's
attributes name every clip of the cache.
"""

from __future__ import annotations

import platform
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
import zarr
from zarr.core.buffer import Buffer, default_buffer_prototype
from zarr.storage import MemoryStore, ZipStore

from smad_features import schema
from smad_features.freshness import UNIT_VERSION, read_unit_attributes
from smad_features.places import is_remote, read_file, write_file

# A missing chunk is damage, never "all zeros": so chunks of nothing but missing values are written too. Set for the
# process: zarr forgets a setting of one array when that array is opened again.
zarr.config.set({"array.write_empty_chunks": True})
_NOT_WRITTEN = np.uint64(2**64 - 1)  # in the index of a shard


class CacheError(RuntimeError):
    """A unit or cache is damaged, incomplete or of another version; the message names it and what heals it."""


@dataclass(frozen=True)
class Shard:
    """The rows of one shard, and where they come from and go to.

    Attributes
    ----------
    place
        The store that it belongs to, described already: a folder's absolute path, or s3://bucket/prefix/name.
    rows
        (participant, clip) of each.
    units
        A mapping for each stage from participant to the absolute path of the unit's file.
    is_kept
        It was taken over from the store before, and is written only where it is damaged.
    umask
        Of the process that packs: a worker has its own.
    """

    place: str
    number: int
    rows: tuple[tuple[str, str], ...]
    units: tuple[dict[str, str], ...]
    specs: dict[str, schema.Array]
    is_kept: bool
    umask: int


@dataclass(frozen=True)
class Made:
    """What came of a shard: size and checksum of each of its files, and what cannot be read back, a sentence each."""

    files: dict[str, list[Any]]
    damage: list[str]


def make_shard(shard: Shard) -> Made:
    """Write a shard, unless it is kept, and read it back.

    Raises
    ------
    CacheError
        A unit is damaged, or none holds an array.
    StorageError, OSError
        No room, or no leave to write.
    """
    _check_seen(shard)
    if shard.is_kept:
        made = _check_shard(shard)
        if not made.damage:
            return made
    metadata = {name: _read_metadata(shard.place, name) for name in shard.specs}
    for name, values in _gather_rows(shard).items():
        file, content = _encode(metadata[name], name, shard.number, values)
        write_file(shard.place, file, content, umask=shard.umask)
    return _check_shard(shard)


def read_shard(place: str, name: str, number: int, clips: Sequence[str]) -> tuple[str, bytes, np.ndarray]:
    """One file of a shard: its name, its content, and its rows, every checksum checked.

    Raises
    ------
    CacheError
        It is lost, lacks data or cannot be read; the message names the file, and ``clips``, which are the shard's own.
    """
    metadata = _read_metadata(place, name)
    which = ", ".join(clips)
    array = open_held(metadata, {})
    file = _file_of(array, name, number)
    lacks = f"{place}: {name}: {place}/{file} lacks data: zarr would read zeros for some of {which}"
    try:
        content = read_file(place, file)
    except FileNotFoundError:
        raise CacheError(lacks) from None
    step = (array.shards or array.chunks)[0]
    try:
        is_whole = not array.shards or _NOT_WRITTEN not in _index_of(content, step)[: len(clips)]
        array = open_held(metadata, {file.partition("/")[2]: content})
        values = np.asarray(array[number * step : number * step + len(clips)])
    except Exception as error:  # any failure to read is what we look for; it is reported, not passed over
        raise CacheError(f"{place}: {name}: cannot be read for {which}: {error}") from error
    if not is_whole:
        raise CacheError(lacks)
    return file, content, values


def _check_seen(shard: Shard) -> None:
    """Raise CacheError where a worker on another machine does not see the files that it is to read and write."""
    needed = [file for files in shard.units for file in files.values()]
    for path in [*needed, *([] if is_remote(shard.place) else [shard.place])]:
        if not Path(path).exists():
            raise CacheError(
                f"{path}: is not there as {platform.node()} sees it: workers need the working directory under the same"
                " path, on a file system that they share"
            )


def _read_metadata(place: str, name: str) -> bytes:
    try:
        return read_file(place, f"{name}/zarr.json")
    except FileNotFoundError:
        raise CacheError(f"{place}: {name}/zarr.json is not there: all clips of {name} are lost") from None


def open_held(metadata: bytes, files: Mapping[str, bytes]) -> zarr.Array:
    """An array of which only some files are at hand, by their names within it."""
    make = default_buffer_prototype().buffer.from_bytes
    held: dict[str, Buffer] = {name: make(content) for name, content in {"zarr.json": metadata, **files}.items()}
    return zarr.open_array(MemoryStore(held), mode="r+")


def checksum(content: bytes) -> str:
    """xxh3-128, as `fingerprints.hash_file` has it of a file."""
    return "xxh3:" + xxhash.xxh3_128_hexdigest(content)


def _encode(metadata: bytes, name: str, number: int, values: np.ndarray) -> tuple[str, bytes]:
    """The file of a shard, by its name in the store, and its content."""
    held: dict[str, Buffer] = {"zarr.json": default_buffer_prototype().buffer.from_bytes(metadata)}
    array = zarr.open_array(MemoryStore(held), mode="r+")
    first = number * (array.shards or array.chunks)[0]
    array[first : first + len(values)] = values
    file = _file_of(array, name, number)
    return file, held[file.partition("/")[2]].to_bytes()


def _file_of(array: zarr.Array, name: str, number: int) -> str:
    return "/".join([name, "c", str(number), *["0"] * (array.ndim - 1)])


def _index_of(content: bytes, clips: int) -> np.ndarray:
    """(clips, 2) uint64: offset and length of each chunk, at the end of a shard, before a checksum of 4 bytes."""
    return np.frombuffer(content[-16 * clips - 4 : -4], "<u8").reshape(clips, 2)


def _check_shard(shard: Shard) -> Made:
    made = Made({}, [])
    for name in shard.specs:
        try:
            file, content, _ = read_shard(shard.place, name, shard.number, [clip for _, clip in shard.rows])
            made.files[file] = [len(content), checksum(content)]
        except CacheError as error:
            made.damage.append(str(error))
    return made


def _gather_rows(shard: Shard) -> dict[str, np.ndarray]:
    """The rows of one shard, of all arrays, from the units."""
    owned: dict[str, list[str]] = {}
    for participant, clip in shard.rows:
        owned.setdefault(participant, []).append(clip)
    parts = {name: spec.empty(len(shard.rows)) for name, spec in shard.specs.items()}
    given: dict[str, set[str]] = {participant: set() for participant in owned}
    for files in shard.units:
        done = 0
        for participant, clips in owned.items():  # rows are sorted by participant
            if participant in files:
                for name, values in _read_rows(Path(files[participant]), clips):
                    parts[name][done : done + len(clips)] = values
                    given[participant].add(name)
            done += len(clips)
    for participant, names in given.items():
        if lacking := sorted(shard.specs.keys() - names - schema.gaze_content_arrays().keys()):
            raise CacheError(f"participant {participant}: no unit holds {', '.join(lacking)}")
    return parts


def _read_rows(path: Path, clips: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]:
    """Each array's name and its rows of ``clips``, checksums checked; no more of a unit is read than these need."""
    held = {clip: place for place, clip in enumerate(attributes_of(path)["clips"])}
    try:
        places = np.array([held[clip] for clip in clips])
        first, last = places.min(), places.max()
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
        raise CacheError(f"{path}: damaged ({error}); {mend_unit(path)}") from error


def attributes_of(path: Path) -> dict[str, Any]:
    """What a unit says of itself; CacheError where there is no whole unit of this version."""
    found = read_unit_attributes(path)
    if found is None:
        raise CacheError(f"{path}: not a whole unit of version {UNIT_VERSION}; {mend_unit(path)}")
    return found


def mend_unit(path: Path) -> str:
    """What mends a unit that is damaged, in words."""
    return f"to mend it, delete it and run the workflow again: rm {path}"
