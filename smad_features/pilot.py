"""A few clips are made into units in a temporary folder, by the very commands of the rules; what that took is noted.

Nothing of the user's is written, and nothing that was made is left: not even after Ctrl-C.
"""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any

from smad_features.fingerprints import canonical
from smad_features.freshness import STAGES, read_unit_attributes, unit_path
from smad_features.manifest import Clip
from smad_features.plan import PilotClip, Rate

_PILOT = "pilot"  # the participant whom the clips are given to
_FIRST = "-"  # sorts before any other clip: it pays for what is loaded when the first one is made
_ROUNDS = 3  # in which clips that cannot be read are replaced
_COLUMNS = ("clip", "participant", "video", "eye", "stimulus", "start", "end")
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "GOTO_NUM_THREADS")


class PilotError(RuntimeError):
    """The jobs of a stage fail for a reason that says nothing about the clips; the message is the job's last word."""


@dataclass(frozen=True)
class PilotRun:
    """What one stage took: its rate, None where no clip could be read; and a sentence for each that could not."""

    rate: Rate | None
    unreadable: list[str]


def choose(clips: Sequence[Clip], sizes: dict[str, int]) -> Iterator[Clip]:
    """All clips, those first that stand for the others: the median by size, the largest, the smallest, what is between.

    Each is of a participant of whom there was none, as long as there is one.

    Parameters
    ----------
    sizes
        Bytes of the source of each clip, by its name.
    """
    left = sorted(clips, key=lambda clip: (sizes[clip.clip], clip.clip))
    seen: set[str] = set()
    for place in _places():
        if not left:
            return
        if all(clip.participant in seen for clip in left):
            seen.clear()
        wanted = place * (len(left) - 1)
        new = [i for i, clip in enumerate(left) if clip.participant not in seen]
        found = left.pop(min(new, key=lambda i: (abs(i - wanted), i)))
        seen.add(found.participant)
        yield found


def _places() -> Iterator[float]:
    """1/2, 1, 0, 1/4, 3/4, 1/8, ...: each between those before."""
    yield from (0.5, 1.0, 0.0)
    parts = 4
    while True:
        yield from (odd / parts for odd in range(1, parts, 2))
        parts *= 2


@contextmanager
def pilot_folder() -> Iterator[Path]:
    """A folder that only this user may enter, removed at the end; also when this process is asked to end."""

    def end(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    asked = (signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, end) for number in asked}
    try:
        with tempfile.TemporaryDirectory(prefix="smad-plan-", ignore_cleanup_errors=True) as folder:
            yield Path(folder)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_pilot(
    stage: str,
    candidates: Iterator[Clip],
    sizes: dict[str, int],
    config: dict[str, Any],
    folder: Path,
    *,
    count: int,
    say: Callable[[str], None],
) -> PilotRun:
    """Make ``count`` of the candidates into a unit of a stage, and say what that took.

    Parameters
    ----------
    sizes
        Bytes of the source of each candidate.
    folder
        Where to work: a new folder in it is used.

    Raises
    ------
    PilotError
        A job failed, by no fault of its clips.
    OSError
        The folder cannot be written to.
    """
    column = STAGES[stage].file_column
    unreadable: list[str] = []
    chosen = [clip for clip, _ in zip(candidates, range(count), strict=False)]
    for turn in range(_ROUNDS + 1):
        if not chosen:
            return PilotRun(None, unreadable)
        say(f"pilot: {stage.replace('_', ' ')} of {', '.join(clip.clip for clip in chosen)}")
        work = folder / f"{stage}{turn}"
        rows = _write_study(work, chosen, config)
        for source in STAGES[stage].inputs:  # made, not measured
            _run(source.stage, work, [])
        rate = _run(stage, work, rows, sizes={clip.clip: sizes[clip.clip] for clip in chosen})
        found = read_unit_attributes(work / unit_path(stage, _PILOT))
        if found is None:
            raise PilotError(f"no unit was found in {work}")
        bad = {clip: state for clip, state in found["states"].items() if clip != _FIRST and state["state"] != "ok"}
        if not bad:
            return PilotRun(rate, unreadable)
        unreadable += [f"clip {clip}: {state['reason'] or f'no {column}'}" for clip, state in sorted(bad.items())]
        more = len(bad) if turn < _ROUNDS - 1 else 0
        chosen = [clip for clip in chosen if clip.clip not in bad]
        chosen += [clip for clip, _ in zip(candidates, range(more), strict=False)]
    return PilotRun(None, unreadable)


def _write_study(folder: Path, chosen: Sequence[Clip], config: dict[str, Any]) -> list[str]:
    """A table of the chosen clips as one participant's, and its configuration. The names of its rows in their order."""
    folder.mkdir()
    own = sorted(chosen, key=lambda clip: clip.clip)
    clips = [replace(own[0], clip=_FIRST), *own]
    with (folder / "clips.tsv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, delimiter="\t", lineterminator="\n")
        table.writerow(_COLUMNS)
        for clip in clips:
            cells = [getattr(clip, name) for name in _COLUMNS[2:]]
            table.writerow([clip.clip, _PILOT, *("" if cell is None else cell for cell in cells)])
    face = config["face"]
    if face["model_file"] is not None:
        face = face | {"model_file": str(Path(face["model_file"]).absolute())}
    settings = config | {"clips": str(folder / "clips.tsv"), "face": face, "on_bad_clip": "quarantine"}
    (folder / "config.json").write_text(canonical(settings), encoding="utf-8")
    return [clip.clip for clip in clips]


def _run(stage: str, folder: Path, rows: Sequence[str], *, sizes: dict[str, int] | None = None) -> Rate:
    """The command of a stage's rule, on the pilot's participant."""
    output = unit_path(stage, _PILOT)
    command = [sys.executable, "-m", "smad_features.cli", stage.replace("_", "-"), "--configfile", "config.json"]
    begun = time.monotonic()
    process = subprocess.Popen(
        [*command, "--threads", "1", "--output", str(output), "--", _PILOT],
        cwd=folder,
        env=os.environ | dict.fromkeys(_THREADS, "1"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    said: list[str] = []
    ends: dict[str, float] = {}
    try:
        assert process.stderr is not None
        for line in process.stderr:  # a job says a line a clip, as soon as it is made
            said.append(line.rstrip())
            name = line.removeprefix(f"{stage}: ").partition(": ")[0]
            if line.startswith(f"{stage}: ") and name in rows:
                ends[name] = time.monotonic() - begun
        _, status, used = os.wait4(process.pid, 0)  # the one way to have the peak of this very process
        process.returncode = os.waitstatus_to_exitcode(status)
    finally:
        if process.returncode is None:
            process.kill()
            process.wait()
        if process.stderr is not None:
            process.stderr.close()
    total = time.monotonic() - begun
    if process.returncode:
        word = _last_word(process.returncode, said)
        raise PilotError(word) if "cannot be written" not in word else OSError(f"{folder}: {word}")
    moments = [ends[name] for name in rows if name in ends]
    took = dict(zip(rows[1:], (b - a for a, b in pairwise(moments)), strict=False))
    unit, row = _sizes_of(folder / output)
    return Rate(
        start=max(0.0, total - sum(took.values()) - (took[rows[1]] if took else 0.0)),
        clips=tuple(PilotClip(clip, max(seconds, 1e-4), (sizes or {}).get(clip, 0)) for clip, seconds in took.items()),
        processors=(used.ru_utime + used.ru_stime) / total,
        memory=used.ru_maxrss * 1024,
        rows=len(rows),
        unit=unit,
        row=row,
    )


def _last_word(code: int, said: Sequence[str]) -> str:
    if code < 0:
        return (
            f"its job was killed (signal {-code}{': most often for want of memory' if code == -signal.SIGKILL else ''})"
        )
    lines = [line for line in said if line.strip()]
    own = [line for line in lines if line.startswith("smad-features ")]
    return (own or lines or [f"exit status {code}"])[-1].removeprefix("smad-features ")


def _sizes_of(path: Path) -> tuple[int, int]:
    """Bytes of a unit: whatever it holds, and for each of its clips more."""
    attributes = read_unit_attributes(path)
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    if attributes is None:
        raise PilotError(f"{path.name} is no unit")
    rows = len(attributes["clips"])
    # An entry's name stands twice, before it and in the list at the end, with 30 and 46 bytes beside it.
    chunks = sum(entry.file_size + 76 + 2 * len(entry.filename) for entry in entries if "/c/" in entry.filename)
    own = {name: attributes[name] for name in ("clips", "states", "quality", "contents")}
    text = len(json.dumps({"attributes": own, "record": {"clips": attributes["record"]["clips"]}}, indent=2))
    row = round((chunks + text) / rows)
    return path.stat().st_size - rows * row, row
