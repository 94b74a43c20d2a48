"""Reread every byte of the units and of the packed cache, and name what is damaged, the clips hit, and the cure."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from smad_features import places
from smad_features.cache import read_unit, verify_cache
from smad_features.places import ObjectStoreError
from smad_features.scheduler import run_tasks
from smad_features.shard_tasks import CacheError, checksum, open_held
from smad_features.summary import LINK, NAME, SummaryError, place_of, read_summary


def verify_units(paths: Iterable[Path]) -> list[str]:
    """A sentence for each damaged unit; one that is not there is not made yet."""
    damage = []
    for path in paths:
        try:
            if path.exists():
                read_unit(path)
        except CacheError as error:
            damage.append(str(error))
    return damage


def verify_packed(results: Path) -> list[str]:
    """A sentence for each damaged, lost or foreign file of the packed cache; nothing where nothing was packed."""
    link, summary = results / LINK, results / NAME
    mend = f"to mend it, delete {summary} and run the workflow again: rm {summary}"
    if not link.is_symlink() and not summary.exists():
        return []
    try:
        said = read_summary(results)
    except FileNotFoundError:
        return [f"{summary}: is not there; to mend it, run the workflow again", *_reread(link, mend)]
    except SummaryError as error:
        return [f"{error}; {mend}", *_reread(link, mend)]
    place = place_of(results, said)
    if "store" in said:
        try:
            return _check_pointer(said["store"], summary, mend) + _compare(place, place, said, mend)
        except ObjectStoreError as error:
            return [str(error)]
    if link.resolve() != Path(place).resolve():
        return [f"{link}: leads to {link.resolve().name}, but {summary} speaks of {Path(place).name}: {mend}"]
    if not Path(place).is_dir():
        return [f"{results / Path(place).name}: is not there; {mend}"]
    return _compare(place, str(link), said, mend)


def _check_pointer(store: str, summary: Path, mend: str) -> list[str]:
    """Whether the cache.json of an object store, by which readers find the cache, is the one here."""
    try:
        if places.read_file(store, NAME) == summary.read_bytes():
            return []
    except FileNotFoundError:
        return [f"{store}/{NAME}: is not there; {mend}"]
    return [f"{store}/{NAME}: is not the same as {summary}: damaged, or of another study that is packed there; {mend}"]


def _compare(place: str, called: str, said: dict[str, Any], mend: str) -> list[str]:
    """What a store has otherwise than its cache.json says."""
    wanted, names = said["files"], places.list_files(place)
    if not names:
        return [f"{called}: is not there; {mend}"]
    found = dict(zip(names, run_tasks(partial(_size_and_checksum, place), names), strict=True))
    sound = {file for file in wanted if found.get(file) == wanted[file]}
    damage = []
    for file in sorted(found.keys() | wanted.keys()):
        if file not in wanted:
            damage.append(f"{called}: {file}: does not belong there; {mend}")
        elif file not in sound:
            what = "damaged" if file in found else "is not there"
            damage.append(f"{called}: {file}: {what}: {_name_hit(place, file, said['clips'], sound, found)}; {mend}")
    return damage


def _size_and_checksum(place: str, file: str) -> list[Any]:
    content = places.read_file(place, file)
    return [len(content), checksum(content)]


def _reread(link: Path, mend: str) -> list[str]:
    """What zarr's own checksums say, where the list of files is lost."""
    try:
        return [f"{sentence}; {mend}" for sentence in verify_cache(link.resolve())] if link.exists() else []
    except (ValueError, KeyError, TypeError, OSError) as error:  # its root is damaged too
        return [f"{link}: cannot be opened ({error}); {mend}"]


def _name_hit(place: str, file: str, clips: list[str], sound: set[str], found: dict[str, Any]) -> str:
    """The clips that a damaged file of a store hits, in words."""
    name, is_chunk, _ = file.partition("/c/")
    if not is_chunk or not {"zarr.json", f"{name}/zarr.json"} <= sound:
        return "all clips"
    metadata = places.read_file(place, f"{name}/zarr.json")
    step = json.loads(metadata)["chunk_grid"]["configuration"]["chunk_shape"][0]
    first = int(file.split("/")[2]) * step
    rows = list(range(first, min(first + step, len(clips))))
    hit = rows
    if file in found:
        array: Any = open_held(metadata, {file.partition("/")[2]: places.read_file(place, file)})
        if array.shards:  # each clip is a chunk of its own in there
            hit = [row for row in rows if not _can_be_read(array, row)] or rows
    return "clips " + ", ".join(clips[row] for row in hit)


def _can_be_read(array: Any, row: int) -> bool:
    try:
        array[row]
    except Exception:  # whatever it is, it is what we look for
        return False
    return True
