"""What cache.json says of the packed cache: the store that is in use, and the checksum of each of its files.

It is written last. So where it and the link `cache.zarr` disagree, the cache is being replaced, or was when a run died.
Of a cache in an object store it names the place, and is believed: whoever plans a run asks no network. `verify` looks.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from smad_features import schema
from smad_features.atomic import written_whole
from smad_features.fingerprints import digest_of

NAME = "cache.json"
LINK = "cache.zarr"


class SummaryError(ValueError):
    """cache.json is damaged or of another version; the message says so."""


def store_name(digest: str) -> str:
    """The name of the store that holds the content of this digest."""
    return f"cache-{digest}.zarr"


@contextmanager
def summary_written(
    results: Path, digest: str, clips: Sequence[str], files: dict[str, list[Any]], *, store: str | None = None
) -> Iterator[Path]:
    """Write cache.json, with a checksum of itself; the body swaps the store.

    It lies ready beside its place by then: so a full disk is met before anything is swapped. The body gets that file.

    Parameters
    ----------
    files
        Size and checksum of each file of the store, by its path within.
    store
        s3://bucket/prefix where the cache lies; None = here.
    """
    said: dict[str, Any] = {"format": schema.FORMAT, "version": schema.VERSION, "digest": digest}
    said |= {} if store is None else {"store": store}
    said |= {"clips": list(clips), "files": files}
    with written_whole(results / NAME) as beside:
        beside.write_text(_text(said | {"seal": digest_of(said)}), encoding="utf-8")
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        yield beside


def read_summary(results: Path) -> dict[str, Any]:
    """What cache.json says.

    Raises
    ------
    FileNotFoundError
        There is none.
    SummaryError
        It is damaged, or of another version.
    """
    path = results / NAME
    try:
        text = path.read_bytes().decode("utf-8")
        said = json.loads(text)
        seal = said.pop("seal", None)
        is_whole = seal == digest_of(said) and text == _text(said | {"seal": seal})
    except (ValueError, AttributeError):  # no UTF-8, no JSON, no object
        is_whole = False
    if not is_whole:
        raise SummaryError(f"{path}: damaged, or of an earlier version")
    found = (said.get("format"), said.get("version"))
    if found != (schema.FORMAT, schema.VERSION):
        raise SummaryError(f"{path}: want {schema.FORMAT} version {schema.VERSION}, got {found[0]} version {found[1]}")
    return said


def place_of(results: Path, said: dict[str, Any]) -> str:
    """Where the store lies that a cache.json speaks of: an absolute path, or s3://bucket/prefix/name."""
    name = store_name(said["digest"])
    return f"{said['store']}/{name}" if "store" in said else str((results / name).absolute())


def is_settled(results: Path, *, store: str | None = None, digest: str | None = None) -> bool:
    """Whether cache.json is whole, and the cache lies where it is asked for.

    Parameters
    ----------
    store
        s3://bucket/prefix where it should lie: then cache.json is believed. None = here: then the link leads to it.
    digest
        The content that it should have; None = any.
    """
    try:
        said = read_summary(results)
    except (FileNotFoundError, SummaryError):
        return False
    if said.get("store") != store or digest not in (None, said["digest"]):
        return False
    link = results / LINK
    return store is not None or ((link / "zarr.json").is_file() and link.resolve().name == store_name(said["digest"]))


def remember_place(results: Path, store: str) -> None:
    """Note that persons' data may lie in an object store from now on, whatever becomes of configuration and cache."""
    known = remembered_places(results)
    if store not in known:
        with written_whole(_memory(results)) as beside:
            beside.write_text("".join(f"{place}\n" for place in [*known, store]), encoding="utf-8")


def remembered_places(results: Path) -> list[str]:
    """Each s3://bucket/prefix that was ever packed to from here."""
    memory = _memory(results)
    return memory.read_text(encoding="utf-8").splitlines() if memory.exists() else []


def _memory(results: Path) -> Path:
    return results.absolute().parent / ".smad" / "stores.txt"


def _text(said: dict[str, Any]) -> str:
    return json.dumps(said, indent=1) + "\n"
