"""What cache.json says of the packed cache: the store that is in use, and the checksum of each of its files.

It is written last. So where it and the link `cache.zarr` disagree, the cache is being replaced, or was when a run died.
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
from smad_features.fingerprints import digest_of, hash_file

NAME = "cache.json"
LINK = "cache.zarr"


class SummaryError(ValueError):
    """cache.json is damaged or of another version; the message says so."""


def store_name(digest: str) -> str:
    """The name of the store that holds the content of this digest."""
    return f"cache-{digest}.zarr"


def list_files(store: Path, *, sync: bool = False) -> dict[str, list[Any]]:
    """Size and checksum of each file of a store, by its path within; ``sync``: and each is on the disk by then."""
    listed: dict[str, list[Any]] = {}
    for path in sorted(path for path in store.rglob("*") if path.is_file()):
        if sync:
            with path.open("rb") as file:
                os.fsync(file.fileno())
        listed[path.relative_to(store).as_posix()] = [path.stat().st_size, hash_file(path)]
    return listed


@contextmanager
def summary_written(results: Path, digest: str, clips: Sequence[str], files: dict[str, list[Any]]) -> Iterator[None]:
    """Write cache.json, with a checksum of itself; the body swaps the store.

    It lies ready beside its place by then: so a full disk is met before anything is swapped.
    """
    said = {"format": schema.FORMAT, "version": schema.VERSION, "digest": digest, "clips": list(clips), "files": files}
    with written_whole(results / NAME) as beside:
        beside.write_text(_text(said | {"seal": digest_of(said)}), encoding="utf-8")
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        yield


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


def is_settled(results: Path) -> bool:
    """Whether cache.json is whole, and the link leads to the store that it names."""
    try:
        name = store_name(read_summary(results)["digest"])
    except (FileNotFoundError, SummaryError):
        return False
    link = results / LINK
    return (link / "zarr.json").is_file() and link.resolve().name == name


def _text(said: dict[str, Any]) -> str:
    return json.dumps(said, indent=1) + "\n"
