"""What is fresh, stale, missing or quarantined, clip by clip and file by file, and why.

Of units and the cache their own records tell. Of the files after them it tells what Snakemake goes by: the key that
each was made under, and whether an input has changed since.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from smad_features.fingerprints import digest_of
from smad_features.freshness import STAGES, PlannedUnit, explain, key_path
from smad_features.later_stages import LATER_STAGES, Later, explain_later, read_json
from smad_features.manifest import Clip, TableError

STATES = ("fresh", "stale", "missing", "waits", "quarantined", "failed")
FEATURES = ("list_clips", "quality", "pack")  # the rules after the units, up to the cache
_MADE = {"lost": "it does not belong to `{}`", "of other units": "`{}` was packed from other units than lie there now"}
_LARGE = 1_000_000  # bytes: inputs from this size on Snakemake compares by their times


@dataclass(frozen=True)
class Status:
    """What there is of everything that the workflow makes.

    Attributes
    ----------
    stages
        Stage -> state -> how many: of clips in the stages that make units, of files in the others.
    clips
        Clip -> stage -> state.
    causes
        Why something is not fresh: a sentence each; empty = all is.
    jobs
        The products that the next run makes, or finds to be unchanged: (rule or stage, file).
    """

    stages: dict[str, Counter[str]]
    clips: dict[str, dict[str, str]]
    causes: list[str] = field(default_factory=list)
    jobs: list[tuple[str, str]] = field(default_factory=list)


def find_status(plan: Sequence[PlannedUnit], later: Later, *, root: Path) -> Status:
    """Compare every product with what it should be made from.

    A stage of the benchmark that was never begun is not counted: whoever wants only features has all they asked for.

    Parameters
    ----------
    plan
        Every unit as it should be and as it is (`freshness.plan_units`).
    root
        Folder that paths in the causes are relative to: the table's.
    """
    status = Status({unit.stage: Counter() for unit in plan}, {clip.clip: {} for clip in later.clips})
    own: dict[str, list[Clip]] = {}
    for clip in later.clips:
        own.setdefault(clip.participant, []).append(clip)
    for unit in plan:
        _look_at_unit(unit, own[unit.participant], status, on_bad_clip=later.config["on_bad_clip"], root=root)
    waiting = {Path(file) for _, file in status.jobs}
    for stage in LATER_STAGES:
        products = list(later.outputs(stage))
        if not products or (stage not in FEATURES and not Path("results/folds.tsv").exists()):
            continue
        counts = status.stages.setdefault(stage, Counter())
        for name, file in products:
            state, causes = _look_at_file(name, file, later, waiting)
            counts[state] += 1
            if state != "fresh":
                waiting.add(file)
                status.jobs.append((stage, str(file)))
                status.causes.extend(f"{file}: {cause}" for cause in causes)
    return status


def _look_at_unit(unit: PlannedUnit, clips: Sequence[Clip], status: Status, *, on_bad_clip: str, root: Path) -> None:
    stage = STAGES[unit.stage]
    old = None if unit.made is None else unit.made["record"]
    common = unit.wanted.keys() - {"clips"}
    is_other = old is None or any(old.get(part) != unit.wanted[part] for part in common)
    for clip in clips:
        if old is None or unit.made is None or clip.clip not in old["clips"]:
            state = "missing"
        elif is_other or old["clips"][clip.clip] != unit.wanted["clips"][clip.clip]:
            state = "stale"
        elif unit.made["states"][clip.clip]["state"] == "failed":
            state = "quarantined" if on_bad_clip == "quarantine" else "failed"
        else:
            state = "fresh"
        status.stages[unit.stage][state] += 1
        status.clips[clip.clip][unit.stage] = state
    if not unit.is_fresh:
        sources = {clip.clip: getattr(clip, stage.file_column) for clip in clips}
        names = {clip: os.path.relpath(source, root) for clip, source in sources.items() if source is not None}
        status.jobs.append((unit.stage, str(unit.path)))
        is_damaged = old is None and unit.path.exists()
        causes = [f"`{unit.path}` is damaged"] if is_damaged else explain(old, unit.wanted, names=names)
        status.causes.extend(f"{unit.stage} of {unit.participant}: {cause}" for cause in causes)


def _look_at_file(name: str, file: Path, later: Later, waiting: set[Path]) -> tuple[str, list[str]]:
    """State of one product after the units, and why it is not fresh."""
    lost = [path for path in (file, *later.beside(name, file)) if not path.exists()]
    if lost:
        return "missing", ["not made yet" if lost[0] == file else f"{lost[0]} is not there"]
    try:
        wanted = later.record(name)
    except TableError as error:
        return "stale", [str(error)]
    key, digest = key_path(name), digest_of(wanted)
    notes = read_json(Path(".snakemake/metadata") / base64.b64encode(os.fsencode(file)).decode())
    checksums = notes.get("input_checksums", {})
    if key.exists():
        is_same = key.read_text().split()[:1] == [digest]
    else:  # lost, and written anew by the next run: as Snakemake will see it
        text = f"{digest}\n".encode()
        is_same = checksums.get(str(key)) == f"sha256:{hashlib.sha256(text).hexdigest()}"
    if not is_same:
        return "stale", explain_later(read_json(key.with_suffix(".json")), wanted)
    made = later.made(name, digest)
    if made not in (None, digest):
        place = later.config["cache"]["store"] or "results/cache.zarr"
        return "stale", [_MADE.get(made, "it is another than was made last").format(place)]
    inputs = [Path(path) for path in notes.get("input", [])]
    changed = [path for path in [key, *inputs] if _is_changed(path, file, checksums)]
    if notes.get("incomplete"):
        return "stale", ["its job did not end"]
    if changed:
        return "stale", [
            f"`{path}` changed since" if path != key else "not made since it was planned" for path in changed
        ]
    before = sorted(str(path) for path in inputs if path in waiting)
    return (
        ("waits", [f"needs {before[0]}" + (f" and {len(before) - 1} more" if before[1:] else "")])
        if before
        else ("fresh", [])
    )


def _is_changed(path: Path, product: Path, checksums: dict[str, str]) -> bool:
    """Snakemake's own rule: newer than the product, and not known to have the content that it was made from."""
    try:
        found = path.stat()
        if found.st_mtime_ns <= product.stat().st_mtime_ns:
            return False
    except FileNotFoundError:
        return False  # it is made again, and then it is seen
    if found.st_size > _LARGE or str(path) not in checksums:
        return True
    return checksums[str(path)] != f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
