"""What a job may need at most: memory, time and room on disk. The rules ask a cluster for it, `plan` says it.

The numbers are above what was measured (benchmarks/README.md), for nodes three times as slow: a job that is given too
little is killed and tried again with more, one that is given too much only waits longer for its turn.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

_MB = 1 << 20
_START = 120.0  # seconds: an interpreter and its libraries, from a shared file system that is busy


@dataclass(frozen=True)
class Needs:
    """Memory and disk in MiB, time in minutes, as Snakemake's resources of these names."""

    mem_mb: int
    runtime: int
    disk_mb: int


@dataclass(frozen=True)
class _Rates:
    memory: float  # MiB, whatever the input
    memory_share: float  # MiB more for each MiB of the input
    seconds: float  # for each clip
    seconds_share: float  # more for each MiB of the input
    disk: float  # MiB for each clip
    disk_share: float = 0.0


# Of each stage, the rule that makes its units.
RULES = {"faces": "extract_faces", "eyes": "resample_eyes", "gaze_content": "extract_gaze_content"}
# By rule. An input is all sources of a job: videos, recordings; of later rules what they read of the results.
_RATES = {
    "extract_faces": _Rates(memory=1500, memory_share=0.05, seconds=10, seconds_share=0.5, disk=2),
    "resample_eyes": _Rates(memory=800, memory_share=2, seconds=3, seconds_share=1, disk=0.1),
    "extract_gaze_content": _Rates(memory=1500, memory_share=0.05, seconds=10, seconds_share=0.5, disk=2),
    "list_clips": _Rates(memory=1000, memory_share=0.02, seconds=0.05, seconds_share=0, disk=0.01),
    "quality": _Rates(memory=1000, memory_share=0.05, seconds=0.05, seconds_share=0, disk=0.02),
    "pack": _Rates(memory=2500, memory_share=0.02, seconds=0.1, seconds_share=0.2, disk=0.1, disk_share=2),
    "make_folds": _Rates(memory=1000, memory_share=0, seconds=0.01, seconds_share=0, disk=0.001),
    "embed_faces": _Rates(memory=3500, memory_share=0.1, seconds=3, seconds_share=0, disk=0.1),
    "predict": _Rates(memory=4500, memory_share=1, seconds=3, seconds_share=0, disk=0.1),
    "score": _Rates(memory=2500, memory_share=0.1, seconds=0.2, seconds_share=0, disk=0.01),
    "agreement": _Rates(memory=2500, memory_share=0, seconds=0.2, seconds_share=0, disk=0.001),
    "tabulate_scores": _Rates(memory=1000, memory_share=0, seconds=0, seconds_share=0, disk=0.001),
    "report": _Rates(memory=2500, memory_share=0.5, seconds=0.2, seconds_share=0, disk=0.1),
}
_TRAINING = 0.5  # seconds for a clip and epoch on 8 threads; a GPU takes a fiftieth
_FROZEN = 0.05  # where the features of the faces are there already
_ON_GPU = 50


def job_needs(rule: str, *, clips: int, size: int, attempt: int = 1) -> Needs:
    """What a job of a rule may need.

    Parameters
    ----------
    clips
        That it is about.
    size
        Bytes of its input.
    attempt
        1 = the first; each later one is given as much again of memory and time.
    """
    rates = _RATES[rule]
    share = size / _MB
    memory = rates.memory + rates.memory_share * share
    seconds = _START + rates.seconds * clips + rates.seconds_share * share
    disk = 100 + rates.disk * clips + rates.disk_share * share
    return _rounded(memory, seconds, disk, attempt=attempt)


def training_needs(
    *, clips: int, epochs: int, batch_size: int, is_frozen: bool, has_gpu: bool, attempt: int = 1
) -> Needs:
    """What one training may need, as `job_needs`. It is saved each minute, and goes on where it was stopped."""
    memory = 3500 + 45 * batch_size  # 1.8 GB were measured at 16 clips a batch, 6.9 GB at 128
    pace = _FROZEN if is_frozen else _TRAINING / (_ON_GPU if has_gpu else 1)
    return _rounded(memory, 2 * _START + pace * clips * epochs, 600, attempt=attempt)


def _rounded(memory: float, seconds: float, disk: float, *, attempt: int) -> Needs:
    return Needs(
        mem_mb=100 * math.ceil(memory / 100) * attempt,
        runtime=max(10, math.ceil(seconds / 60)) * attempt,
        disk_mb=100 * math.ceil(disk / 100),
    )
