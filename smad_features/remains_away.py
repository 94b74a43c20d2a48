"""Packed caches in object stores: which ones there are, of whom they are, and their removal."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from smad_features import places
from smad_features.places import NoBucketError
from smad_features.summary import NAME, SummaryError, read_summary, remembered_places, store_name


@dataclass(frozen=True)
class Away:
    """What the object stores hold that were ever packed to from one working directory.

    Attributes
    ----------
    stores
        Each store's address, and the attributes of its root; None where they cannot be read.
    pointers
        The address of each `cache.json` there, and what it says; empty where it cannot be read.
    notes
        What is not there any more, a sentence each.
    """

    stores: dict[str, dict[str, Any] | None] = field(default_factory=dict)
    pointers: dict[str, dict[str, Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def look_away(results: Path, configured: str | None) -> Away:
    """Look into every object store that was packed to from here, that is configured, or that cache.json names.

    Raises
    ------
    ObjectStoreError
        One cannot be looked into: then nobody can say that a person is not there.
    """
    wanted = {*remembered_places(results), *([configured] if configured else [])}
    with suppress(FileNotFoundError, SummaryError, KeyError):  # none, or one of a cache that lies here
        wanted |= {read_summary(results)["store"]}
    away = Away()
    for store in sorted(wanted):
        try:
            folders = places.list_folders(store)
        except NoBucketError as error:
            away.notes.append(f"{error}; so nothing is there to be erased")
            continue
        for name in folders:
            if Path(name).match(store_name("*")):
                away.stores[f"{store}/{name}"] = _root(f"{store}/{name}")
        pointer = _read_json(store, NAME)
        if pointer is not None:
            away.pointers[f"{store}/{NAME}"] = pointer
    return away


def remove_away(place: str) -> None:
    """Remove a store, or a single file, from an object store."""
    if place.endswith(f"/{NAME}"):
        places.remove_files(place.removesuffix(f"/{NAME}"), [NAME])
    else:
        places.remove_files(place, places.list_files(place))


def name_versioned(stores: Iterable[str]) -> list[str]:
    """A sentence for each of these stores whose bucket keeps what is removed as an older version. Ask beforehand."""
    said = []
    for store in stores:
        names = places.list_files(store)
        if names and places.keeps_versions(store, names[0]):
            bucket, _, prefix = store.removeprefix(places.SCHEME).partition("/")
            said.append(
                f"{store}: its bucket keeps older versions of what is removed: erase those too; to list them,"
                f" aws s3api list-object-versions --bucket {bucket} --prefix {prefix}/"
            )
    return said


def _root(place: str) -> dict[str, Any] | None:
    said = _read_json(place, "zarr.json") or {}
    found = said.get("attributes", {})
    return found if {"clips", "participants", "digest"} <= found.keys() else None


def _read_json(place: str, name: str) -> dict[str, Any] | None:
    """A JSON object; empty where it is damaged, None where it is not there."""
    try:
        found = json.loads(places.read_file(place, name))
    except FileNotFoundError:
        return None
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
