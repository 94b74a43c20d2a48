"""What a build will need, by arithmetic alone: jobs, time, disk, files and memory, from facts and the rates of a pilot.

Nothing is read or run here. The facts are what is to be made; the rates are what a few clips needed (`pilot.py`).
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from smad_features import schema
from smad_features.costs import RULES
from smad_features.shards import clips_a_shard

_T = TypeVar("_T")
WHOLE_CHUNKS = ("face", "gaze_content")  # a clip is a chunk: the last shard holds no more than its clips
_JOB = 0.02  # seconds that Snakemake takes for a job, one job after another
_START, _PLANNING = 2.0, 0.002  # seconds: of a run, and of it for each participant
_LAST_JOBS = 2.5  # seconds: list_clips, quality and pack, whatever they read
_PACKING = 40e6  # bytes of the cache a second: read from the units, written, synced and read back
_READING = 200e6  # bytes of sources a second, of a plain disk
_COPIES = 4  # of what is written, in the memory of who writes a unit or shard
_PYTHON = 150 << 20  # bytes: an interpreter with zarr and dask
_HALF_HOUR = 1800.0  # seconds: less is not worth a cluster's turn
_SMALL = 4096  # bytes on disk of a log, a key, a note of Snakemake: a job has one each
_FILES = {"list_clips": 5, "quality": 9, "pack": 6}  # a log, a key and what it says, each product and a note of it
_FOLDERS = 30  # of results, logs and notes


@dataclass(frozen=True)
class PilotClip:
    """A clip of the pilot: how long it took (seconds), and the bytes of its source."""

    clip: str
    seconds: float
    size: int


@dataclass(frozen=True)
class Rate:
    """What the jobs of a stage need.

    Attributes
    ----------
    start
        Seconds of a job besides its clips.
    clips
        What single clips took.
    processors
        Processors kept busy: seconds of them for each second of the clock.
    memory
        Bytes, at most, of a job with ``rows`` clips.
    unit, row
        Bytes of a unit: whatever it holds, and for each clip more.
    is_measured
        By a pilot on these data; else as built in.
    """

    start: float
    clips: tuple[PilotClip, ...]
    processors: float
    memory: int
    rows: int
    unit: int
    row: int
    is_measured: bool = True

    @property
    def by_size(self) -> bool:
        """Whether time follows the size of a clip's source better than it follows the number of clips."""
        if len(self.clips) < 2 or not all(clip.size for clip in self.clips):
            return False
        a_clip = [clip.seconds for clip in self.clips]
        a_byte = [clip.seconds / clip.size for clip in self.clips]
        return max(a_byte) / max(min(a_byte), 1e-12) < max(a_clip) / max(min(a_clip), 1e-9)

    def seconds(self, sizes: Sequence[int]) -> tuple[float, float, float]:
        """A job's time, if all clips were as the quickest of the pilot, as their mean, as the slowest."""
        if self.by_size:
            a_byte = [clip.seconds / clip.size for clip in self.clips]
            mean = sum(clip.seconds for clip in self.clips) / sum(clip.size for clip in self.clips)
            low, middle, high = (sum(sizes) * x for x in (min(a_byte), mean, max(a_byte)))
        else:
            a_clip = [clip.seconds for clip in self.clips] or [0.0]
            low, middle, high = (len(sizes) * x for x in (min(a_clip), sum(a_clip) / len(a_clip), max(a_clip)))
        return self.start + low, self.start + middle, self.start + high


@dataclass(frozen=True)
class UnitToMake:
    """A job of a stage: a participant's clips in the unit, the bytes of each source that is read, the unit there is."""

    participant: str
    rows: int
    sizes: tuple[int, ...]
    replaced: int = 0  # bytes of the unit that is there now


@dataclass(frozen=True)
class CacheSize:
    """The packed cache: bytes, files and folders, shards, and what a shard holds."""

    size: int
    files: int
    shards: int
    clips_a_shard: int
    shard_size: int


@dataclass(frozen=True)
class StageEstimate:
    """What a stage needs; times are (least, likely, most) seconds, of the clock or of processors."""

    stage: str
    jobs: int
    clips: int
    one_job: tuple[float, float, float]  # of its longest job
    work: tuple[float, float, float]  # of processors, all jobs
    memory: int  # bytes of a job
    unit: int  # bytes of the largest
    units: int  # bytes of all that it makes
    by_size: bool
    is_measured: bool


@dataclass(frozen=True)
class Estimate:
    """What a build of the features needs.

    Attributes
    ----------
    seconds
        Of the clock: (least, likely, most).
    disk
        Bytes by what takes them, when all is done.
    room
        Bytes that must be free: all of the new beside all of the old.
    inodes
        New files and folders.
    memory
        Bytes of as many jobs as run at once, were they the largest.
    """

    stages: list[StageEstimate]
    cores: int
    seconds: tuple[float, float, float]
    work: tuple[float, float, float]
    disk: dict[str, int]
    room: int
    inodes: int
    memory: int
    cache: CacheSize


def estimate(
    units: dict[str, list[UnitToMake]],
    rates: dict[str, Rate],
    specs: dict[str, schema.Array],
    *,
    cores: int,
    participants: int,
    clips: int,
    last_jobs: Sequence[str],
    per_job: int | None = None,
    unread: int = 0,
    kept: int = 0,
    held: int = 0,
) -> Estimate:
    """What a build needs.

    Parameters
    ----------
    units
        What is to be made, by stage, in the order of stages.
    rates
        A rate for each of these stages.
    specs
        The arrays of the cache.
    cores
        Jobs at once.
    participants, clips
        Of the whole study.
    last_jobs
        Those of list_clips, quality and pack that run.
    per_job
        Participants that share a job. Each is still reckoned with a start of its own, which is more than it needs.
    unread
        Bytes of sources whose content no run has seen yet: the first one reads them before any job begins.
    kept
        Bytes of units that stay as they are.
    held
        Bytes of the cache that is there now, and is kept beside the new one.
    """
    stages = [_stage(stage, todo, rates[stage]) for stage, todo in units.items() if todo]
    packed = cache_size(specs, clips=clips, participants=participants)
    jobs = sum(len(dealt_out(todo, per_job)) for todo in units.values())
    fixed = (_START + _PLANNING * participants + _JOB * (jobs + len(last_jobs))) if jobs or last_jobs else 0.0
    fixed += unread / _READING
    fixed += _LAST_JOBS + packed.size / _PACKING if last_jobs else 0.0
    seconds, work = [], []
    for which in range(3):
        work.append(sum(stage.work[which] for stage in stages))
        # What reads other units waits for them.
        waves = [[s for s in units if s != "gaze_content"], [s for s in units if s == "gaze_content"]]
        clock = sum(
            makespan(
                [
                    sum(rates[s].seconds(todo.sizes)[which] for todo in job)
                    for s in wave
                    for job in dealt_out(units[s], per_job)
                ],
                cores=cores,
            )
            for wave in waves
        )
        seconds.append(fixed + max(clock, work[which] / cores))
    made = sum(stage.units for stage in stages)
    replaced = sum(todo.replaced for some in units.values() for todo in some)
    new_cache = packed.size if last_jobs else 0
    notes = 3 * sum(stage.jobs for stage in stages) + sum(_FILES[rule] for rule in last_jobs)
    small = _SMALL * notes
    beside = cores * max((stage.unit for stage in stages), default=0)  # the old one is put aside, the new one a draft
    at_once = sum(sorted((stage.memory for stage in stages for _ in range(stage.jobs)), reverse=True)[:cores])
    packing = _PYTHON + min(cores, 4) * _COPIES * packed.shard_size if last_jobs else 0
    return Estimate(
        stages=stages,
        cores=cores,
        seconds=(seconds[0], seconds[1], seconds[2]),
        work=(work[0], work[1], work[2]),
        disk={
            "units to make": made,
            "units that stay": kept,
            "cache": packed.size,
            "cache before": held if last_jobs else 0,
            "logs and keys": small,
        },
        room=max(0, made - replaced) + 2 * beside + new_cache + small,
        inodes=notes
        + (0 if kept else _FOLDERS)
        + sum(not todo.replaced for some in units.values() for todo in some)
        + (packed.files if last_jobs else 0),
        memory=max(at_once, packing),
        cache=packed,
    )


def cache_size(specs: dict[str, schema.Array], *, clips: int, participants: int) -> CacheSize:
    """What the packed cache of so many clips takes: exact but for the text that describes it."""
    step = clips_a_shard(specs.values())
    shards = math.ceil(clips / step)
    size, files, shard = 0, 2, 0
    for name, spec in specs.items():
        row = _row(spec)
        if name in WHOLE_CHUNKS:  # each chunk with its checksum; an index of 16 bytes a chunk, with its own, a shard
            size += clips * (row + 4) + shards * (16 * step + 4)
        else:
            size += shards * (step * row + 4)
        files += 3 + shards * (1 + len(spec.shape))  # a folder for each number of a chunk's place, and a file
        shard += step * row
        size += 1500
    size += 4000 + 100 * clips + 75 * participants * 2 + 120 * shards * len(specs)
    return CacheSize(size, files, shards, step, shard)


def makespan(durations: Iterable[float], *, cores: int) -> float:
    """When the last of these jobs ends, if each begins, in this order, as soon as one of the ``cores`` is free."""
    free = [0.0] * cores
    for duration in durations:
        heapq.heappush(free, heapq.heappop(free) + duration)
    return max(free)


def cores_that_fit(estimated: Estimate, *, memory: int) -> int:
    """Jobs at once that this much memory (bytes) holds, by their largest; 0 = not a single one."""
    largest = max((stage.memory for stage in estimated.stages), default=1)
    return min(estimated.cores, memory // largest)


def group_size(estimated: Estimate) -> int:
    """Participants a job of a cluster: half an hour of work, but at most a quarter of all, which run at once then."""
    longest = max((stage.one_job[1] for stage in estimated.stages), default=_HALF_HOUR)
    most = max((stage.jobs for stage in estimated.stages), default=1)
    return max(1, min(math.ceil(most / 4), int(_HALF_HOUR / longest)))


def submissions(jobs: dict[str, int], participants_per_job: int | None) -> dict[str, int]:
    """Jobs by rule, where so many participants share one (`shared_jobs.deal_out`); None = each has its own."""
    if participants_per_job is None:
        return jobs
    shared = sum(math.ceil(jobs.get(rule, 0) / participants_per_job) for rule in RULES.values())
    others = {rule: count for rule, count in jobs.items() if rule not in RULES.values()}
    return ({"make_units": shared} if shared else {}) | others


def dealt_out(units: Sequence[_T], participants_per_job: int | None) -> list[Sequence[_T]]:
    """The units of each job, evenly spread as `shared_jobs.deal_out` does it."""
    count = math.ceil(len(units) / (participants_per_job or 1))
    return [units[n * len(units) // count : (n + 1) * len(units) // count] for n in range(count)]


def _stage(stage: str, todo: Sequence[UnitToMake], rate: Rate) -> StageEstimate:
    times = [rate.seconds(unit.sizes) for unit in todo]
    rows = max(unit.rows for unit in todo)
    return StageEstimate(
        stage=stage,
        jobs=len(todo),
        clips=sum(len(unit.sizes) for unit in todo),
        one_job=max(times, key=lambda time: time[1]),
        work=(_sum(times, 0, rate), _sum(times, 1, rate), _sum(times, 2, rate)),
        memory=rate.memory + max(0, rows - rate.rows) * rate.row * _COPIES,
        unit=rate.unit + rows * rate.row,
        units=sum(rate.unit + unit.rows * rate.row for unit in todo),
        by_size=rate.by_size,
        is_measured=rate.is_measured,
    )


def _sum(times: Sequence[tuple[float, float, float]], which: int, rate: Rate) -> float:
    return rate.processors * sum(time[which] for time in times)


def _row(spec: schema.Array) -> int:
    return int(np.dtype(spec.dtype).itemsize * math.prod(spec.shape))


def built_in(stage: str, specs: dict[str, schema.Array]) -> Rate:
    """The rate of a stage where none was measured: that of clips of 3 s (640x480, 120 Hz) on 2 slow cores."""
    start, a_clip, memory = _BUILT_IN[stage]
    row = sum(_row(spec) + 130 for spec in specs.values()) + 2500
    return Rate(start, (PilotClip("", a_clip, 0),), 1.0, memory << 20, 8, 6000, row, is_measured=False)


_BUILT_IN: dict[str, tuple[float, float, int]] = {
    "faces": (1.6, 0.2, 350),
    "eyes": (1.2, 0.05, 200),
    "gaze_content": (1.0, 0.2, 350),
}


def arrays_of(config: dict[str, Any], *, has_content: bool) -> dict[str, dict[str, schema.Array]]:
    """The arrays of each stage's units, as the configuration has them."""
    face, eye = config["face"], config["eye"]
    found = {
        "faces": schema.face_arrays(frames=face["frames"], size=face["size"]),
        "eyes": schema.eye_arrays(steps=eye["steps"], channels=len(schema.CHANNELS[eye["channels"]])),
    }
    if has_content:
        found["gaze_content"] = schema.gaze_content_arrays(frames=face["frames"], size=face["size"])
    return found
