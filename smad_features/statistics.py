"""Statistics of the whole packed cache, channel by channel: the same bytes whoever computes them, in whatever order.

Sums of floats within a shard are exact until they are rounded once (`math.fsum`), those of pixels are whole numbers;
shards are combined in their order by Chan, Golub and LeVeque's formula (1979), as a sum of squares over 100,000 clips
would lose what is small beside the mean.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from smad_features import places
from smad_features.atomic import written_whole
from smad_features.scheduler import THREADS, run_tasks
from smad_features.shard_tasks import CacheError, read_shard
from smad_features.summary import SummaryError, place_of, read_summary

COLUMNS = ("array", "channel", "unit", "values", "observed", "mean", "sd", "min", "max")
_COLOURS = ("red", "green", "blue")


@dataclass(frozen=True)
class Moments:
    """What is known of the observed values of a channel: how many, their mean, their squared distances from it."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0  # sum of (value - mean)²
    least: float = math.inf
    largest: float = -math.inf

    def __add__(self, other: Moments) -> Moments:
        """Those of both sets of values together."""
        if not (self.count and other.count):
            return self if self.count else other
        count, apart = self.count + other.count, other.mean - self.mean
        return Moments(
            count,
            self.mean + apart * (other.count / count),
            self.squares + other.squares + apart * apart * (self.count * (other.count / count)),
            min(self.least, other.least),
            max(self.largest, other.largest),
        )


@dataclass(frozen=True)
class _Rows:
    """The rows of one shard."""

    place: str
    number: int
    clips: tuple[str, ...]


def write_statistics(results: Path, output: Path, *, scheduler: str = THREADS) -> int:
    """Write the table of statistics of the packed cache, a row a channel. Returns how many clips it is of.

    Parameters
    ----------
    results
        The folder with `cache.json`.
    scheduler
        Who reads the shards (`scheduler.run_tasks`).

    Raises
    ------
    CacheError
        Nothing is packed there, or it cannot be read.
    SchedulerError, StorageError
        As they say.
    """
    try:
        said = read_summary(results)
        place = place_of(results, said)
        root = json.loads(places.read_file(place, "zarr.json"))["attributes"]
        step = _step_of(place)
    except (FileNotFoundError, SummaryError, ValueError) as error:
        raise CacheError(f"{results}: no packed cache can be read there ({error}): run the workflow first") from None
    clips = root["clips"]
    tasks = [_Rows(place, first // step, tuple(clips[first : first + step])) for first in range(0, len(clips), step)]
    total: dict[tuple[str, str, str], tuple[int, Moments]] = {}
    names = [(channel["name"], channel["unit"]) for channel in root["channels"]]
    for found in run_tasks(_moments_of_shard, tasks, scheduler=scheduler):
        for key, (values, moments) in zip(_channels(names), found, strict=True):
            before, so_far = total.get(key, (0, Moments()))
            total[key] = (before + values, so_far + moments)
    with written_whole(output) as beside:
        lines = ["\t".join(COLUMNS), *(_line(key, *sums) for key, sums in total.items())]
        beside.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return len(clips)


def moments_of(values: np.ndarray) -> Moments:
    """Those of the values that are not NaN."""
    seen = values[~np.isnan(values)].astype(np.float64)
    if not seen.size:
        return Moments()
    mean = math.fsum(seen) / seen.size
    return Moments(seen.size, mean, math.fsum((seen - mean) ** 2), float(seen.min()), float(seen.max()))


def moments_of_pixels(counts: Sequence[int]) -> Moments:
    """Those of pixels, from how often each of the 256 values occurs: in whole numbers, so exact."""
    held = [(value, count) for value, count in enumerate(counts) if count]
    if not held:
        return Moments()
    number = sum(count for _, count in held)
    total = sum(value * count for value, count in held)
    squares = sum(value * value * count for value, count in held)
    return Moments(number, total / number, (squares * number - total * total) / number, held[0][0], held[-1][0])


def _moments_of_shard(rows: _Rows) -> list[tuple[int, Moments]]:
    """In the order of `_channels`: how many values there could be, and the moments of those observed."""

    def read(name: str) -> np.ndarray:
        return read_shard(rows.place, name, rows.number, rows.clips)[2]

    found = []
    for name in ("eye", "gaze"):
        values = read(name)  # (clips, steps, channels)
        found += [(values[..., i].size, moments_of(values[..., i])) for i in range(values.shape[-1])]
    seen, crops = read("face_found"), read("face")  # (clips, frames), (clips, frames, y, x, 3)
    shown = crops[seen]
    for i in range(3):
        counts = np.bincount(shown[..., i].reshape(-1), minlength=256).tolist()
        found.append((crops[..., i].size, moments_of_pixels(counts)))
    return found


def _channels(names: Sequence[tuple[str, str]]) -> Iterator[tuple[str, str, str]]:
    """Array, channel and unit of each row of the table."""
    yield from (("eye", name, unit) for name, unit in names)
    yield from (("gaze", axis, "1") for axis in "xy")
    yield from (("face", colour, "1/255") for colour in _COLOURS)


def _step_of(place: str) -> int:
    """Clips a shard."""
    layout: Any = json.loads(places.read_file(place, "face/zarr.json"))
    return int(layout["chunk_grid"]["configuration"]["chunk_shape"][0])


def _line(key: tuple[str, str, str], values: int, moments: Moments) -> str:
    spread = math.sqrt(moments.squares / (moments.count - 1)) if moments.count > 1 else None
    known = (moments.mean, spread, moments.least, moments.largest) if moments.count else (None,) * 4
    return "\t".join([*key, str(values), str(moments.count), *("" if x is None else f"{x:.9g}" for x in known)])
