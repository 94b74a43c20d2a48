"""Failures that say nothing about a clip: jobs note them, and too many for one and the same reason stop the run."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from smad_features.atomic import written_whole

FAILURES = Path(".smad/failures")
_FEWEST = 3  # clips: a share of less is chance
_VARYING = re.compile(r"0x[0-9a-fA-F]+|[\w.~-]*/[\w./~-]+|\b\d+(?:\.\d+)?\b")


@dataclass(frozen=True)
class Failure:
    """One clip that a library, the disk or the memory failed: why, as said, and as it can be compared."""

    stage: str
    clip: str
    reason: str
    message: str


class LibraryFailure(RuntimeError):
    """Clips could not be made, by no fault of their own; ``failures`` says which."""

    def __init__(self, failures: Sequence[Failure]) -> None:
        first = failures[0]
        which = f"clip {first.clip}" if len(failures) == 1 else f"{len(failures)} clips, the first of them {first.clip}"
        super().__init__(f"{which}: {first.message}; this says nothing about the clip itself, so no unit was written")
        self.failures = list(failures)


def failure_of(error: Exception, *, stage: str, clip: str, source: Path | None = None) -> Failure:
    """What an exception says of a clip that it hit."""
    lines = str(error).splitlines() or [""]  # MediaPipe lets a trace of its own follow
    return Failure(stage, clip, reason_of(error, clip=clip, source=source), f"{type(error).__name__}: {lines[0]}")


def reason_of(error: Exception, *, clip: str, source: Path | None = None) -> str:
    """Type and first line of an exception, the same for every clip: its name, its file, paths and numbers taken out."""
    text = (str(error).splitlines() or [""])[0]
    for name in [clip] if source is None else [str(source), source.name, clip]:
        text = text.replace(name, "...")
    return f"{type(error).__name__}: {_VARYING.sub('...', text)}"


def note_failures(participant: str, failures: Sequence[Failure]) -> None:
    """Write down what failed in a participant's job, for the jobs that begin after it."""
    with written_whole(_note(failures[0].stage, participant)) as beside:
        beside.write_text(json.dumps([asdict(failure) for failure in failures], indent=1) + "\n", encoding="utf-8")


def read_failures() -> list[Failure]:
    """All that the jobs of this run have noted so far."""
    noted = []
    for path in sorted(FAILURES.glob("*.json")):
        try:
            noted += [Failure(**failure) for failure in json.loads(path.read_text(encoding="utf-8"))]
        except FileNotFoundError:  # its job was tried again meanwhile, and went well
            continue
    return noted


def forget_failures(stage: str, participant: str) -> None:
    """Take back a note: the job was tried again, and went well."""
    _note(stage, participant).unlink(missing_ok=True)


def clear_failures() -> None:
    """Begin a run: whatever failed in the last one may be mended."""
    shutil.rmtree(FAILURES, ignore_errors=True)


def too_many(failures: Iterable[Failure], *, clips: int, max_failed: float) -> str | None:
    """A sentence where one reason failed 3 or more clips, and more than ``max_failed`` of all; else None.

    Parameters
    ----------
    clips
        The number of all clips.
    max_failed
        Fraction of them, 0 to 1.
    """
    by_reason: dict[tuple[str, str], dict[str, Failure]] = {}
    for failure in failures:
        by_reason.setdefault((failure.stage, failure.reason), {})[failure.clip] = failure
    worst = max(by_reason.values(), key=len, default={})
    if len(worst) < _FEWEST or len(worst) <= max_failed * clips:
        return None
    first = next(iter(worst.values()))
    return (
        f"{first.stage}: {len(worst)} of {clips} clips failed for one and the same reason, which says nothing about the"
        f" clips; the first, {first.clip}: {first.message}. Mend that and run again, or raise `run.max_failed`"
        f" ({max_failed:g}) to go on with the others"
    )


def _note(stage: str, participant: str) -> Path:
    return FAILURES / f"{stage}-{participant}.json"
