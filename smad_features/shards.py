"""Shards of the packed cache: how many clips one holds, and which ones of the store before are as they should be.

A shard here is the files of all arrays that hold the same rows. Its bytes follow from these rows alone: nothing is
compressed by a library whose next version may pack otherwise. So one that is taken over is what would be written.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from smad_features import schema

SHARD = 64  # clips a shard, at most
_BYTES = 32 << 20  # and of larger crops fewer: who writes a shard holds it in memory, some four times over


def clips_a_shard(specs: Iterable[schema.Array]) -> int:
    """Clips a shard, so that a shard of the largest array takes at most 32 MiB, or holds a single clip."""
    largest = max(np.dtype(spec.dtype).itemsize * math.prod(spec.shape) for spec in specs)
    return max(1, min(SHARD, _BYTES // largest))


def take_over(previous: Path, store: Path, *, step: int) -> set[int]:
    """Link into ``store`` the shards whose rows are those of the ``previous`` store. Returns the first row of each.

    Parameters
    ----------
    store
        With its attributes and its arrays' descriptions, but without data.
    step
        Clips a shard.
    """
    try:
        arrays, before = _layouts(store), _layouts(previous)
        rows, old_rows = _row_contents(store), _row_contents(previous)
    except (OSError, ValueError, KeyError):
        return set()  # whatever it was, it is no cache of ours
    kept = set()
    for first in range(0, len(rows), step) if arrays == before else ():
        if rows[first : first + step] == old_rows[first : first + step]:
            number = str(first // step)
            files = [Path(name, "c", number, *["0"] * len(layout["shape"])) for name, layout in arrays.items()]
            try:
                for file in files:
                    (store / file).parent.mkdir(parents=True)
                    (store / file).hardlink_to(previous / file)
                kept.add(first)
            except OSError:  # one is lost, or the file system has no such links: written like any other shard
                for file in files:
                    (store / file).unlink(missing_ok=True)
    return kept


def _layouts(store: Path) -> dict[str, dict[str, Any]]:
    """How each array of a store is laid out, but for its number of rows."""
    found = {path.parent.name: json.loads(path.read_text()) for path in store.glob("*/zarr.json")}
    return {name: {**layout, "shape": layout["shape"][1:]} for name, layout in found.items()}


def _row_contents(store: Path) -> list[tuple[str, dict[str, str]]]:
    """Clip and contents of its participant's units, a row."""
    attributes = json.loads((store / "zarr.json").read_text())["attributes"]
    contents: dict[str, dict[str, str]] = {}
    for name, content in attributes["provenance"].items():
        stage, _, participant = name.partition("/")
        contents.setdefault(participant, {})[stage] = content
    owned = zip(attributes["clips"], attributes["participants"], strict=True)
    return [(clip, contents[participant]) for clip, participant in owned]
