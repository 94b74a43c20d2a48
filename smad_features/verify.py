"""Reread every byte of the units and of the packed cache, and name what is damaged, the clips hit, and the cure."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import zarr
from zarr.storage import LocalStore

from smad_features.cache import CacheError, read_unit, verify_cache
from smad_features.summary import LINK, NAME, SummaryError, list_files, read_summary, store_name


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
    store = results / store_name(said["digest"])
    if link.resolve() != store.resolve():
        return [f"{link}: leads to {link.resolve().name}, but {summary} speaks of {store.name}: {mend}"]
    if not store.is_dir():
        return [f"{store}: is not there; {mend}"]
    damage = []
    found, wanted = list_files(store), said["files"]
    sound = {file for file in wanted if found.get(file) == wanted[file]}
    for file in sorted(found.keys() | wanted.keys()):
        if file not in wanted:
            damage.append(f"{link}: {file}: does not belong there; {mend}")
        elif file not in sound:
            what = "damaged" if file in found else "is not there"
            damage.append(f"{link}: {file}: {what}: {_name_hit(store, file, said['clips'], sound)}; {mend}")
    return damage


def _reread(link: Path, mend: str) -> list[str]:
    """What zarr's own checksums say, where the list of files is lost."""
    try:
        return [f"{sentence}; {mend}" for sentence in verify_cache(link.resolve())] if link.exists() else []
    except (ValueError, KeyError, TypeError, OSError) as error:  # its root is damaged too
        return [f"{link}: cannot be opened ({error}); {mend}"]


def _name_hit(store: Path, file: str, clips: list[str], sound: set[str]) -> str:
    """The clips that a damaged file of a store hits, in words."""
    name, is_chunk, place = file.partition("/c/")
    if not is_chunk or not {"zarr.json", f"{name}/zarr.json"} <= sound:
        return "all clips"
    array: Any = zarr.open_group(LocalStore(store, read_only=True), mode="r")[name]
    step = (array.shards or array.chunks)[0]
    first = int(place.split("/")[0]) * step
    rows = list(range(first, min(first + step, len(clips))))
    hit = rows
    if array.shards and (store / file).exists():  # each clip is a chunk of its own in there
        hit = [row for row in rows if not _can_be_read(array, row)] or rows
    return "clips " + ", ".join(clips[row] for row in hit)


def _can_be_read(array: Any, row: int) -> bool:
    try:
        array[row]
    except Exception:  # whatever it is, it is what we look for
        return False
    return True
