"""What a build would make of a study as it lies there: units, files after them, and the sources read for them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smad_features.costs import RULES
from smad_features.fingerprints import Fingerprints
from smad_features.freshness import STAGES, PlannedUnit, by_participant, plan_units, unit_files
from smad_features.later_stages import LATER_STAGES, Later
from smad_features.manifest import Clip, TableError
from smad_features.plan import UnitToMake
from smad_features.status import FEATURES, find_status


@dataclass(frozen=True)
class ToMake:
    """What there is to be made.

    Attributes
    ----------
    units
        By stage, in the order of stages; a stage that has no clips at all is left out.
    clips
        Stage -> clips that are read for it anew, their source being there.
    sizes
        Stage -> clip -> bytes of its source, of all that are there.
    jobs
        Rule -> jobs, of the whole workflow.
    absent
        Column -> (files that are named, those of them that are not there).
    whole
        Clips whose named files are all there.
    unread
        Bytes of sources that the run reads to know them, before any job.
    kept
        Bytes of units that stay.
    held
        Bytes of the packed cache that is there.
    no_benchmark
        Why nothing after the features can be made; None = it can, or is done.
    """

    units: dict[str, list[UnitToMake]]
    clips: dict[str, list[Clip]]
    sizes: dict[str, dict[str, int]]
    jobs: dict[str, int]
    absent: dict[str, tuple[int, list[Path]]]
    whole: int
    unread: int
    kept: int
    held: int
    no_benchmark: str | None


class _Unread(Fingerprints):
    """Takes every file for one that was never seen: of units that are not there, no content need be known."""

    def of(self, path: Path) -> str:
        """A digest that none is."""
        return "not read"


def find_to_make(clips: Sequence[Clip], config: dict[str, Any], *, database: Path, results: Path) -> ToMake:
    """Compare what there is with what is wanted. Nothing is written.

    No source is read of participants of whom there is no unit: theirs are made whatever they hold.
    """
    files = unit_files(clips)
    begun = {who for some in files.values() for who, path in some.items() if path.exists()}
    known = [clip for clip in clips if clip.participant in begun]
    new = [clip for clip in clips if clip.participant not in begun]
    fingerprints = Fingerprints(database)
    plan = plan_units(known, config, fingerprints) + plan_units(new, config, _Unread(None))
    later = Later(list(clips), config, fingerprints)
    status = find_status(plan, later, root=Path(config["clips"]).parent.resolve())

    sizes: dict[str, dict[str, int]] = {name: {} for name in files}
    absent = {}
    lost: set[str] = set()
    for name in files:
        column = STAGES[name].file_column
        named = {clip.clip: path for clip in clips if (path := getattr(clip, column)) is not None}
        bytes_of = {path: _size(path) for path in set(named.values())}
        sizes[name] = {clip: size for clip, path in named.items() if (size := bytes_of[path]) is not None}
        lost |= named.keys() - sizes[name].keys()
        absent[column] = (len(named), [path for clip, path in named.items() if clip not in sizes[name]])

    units: dict[str, list[UnitToMake]] = {name: [] for name in files}
    read: dict[str, list[Clip]] = {name: [] for name in files}
    own = by_participant(clips)
    kept = 0
    for unit in plan:
        there = _file_size(unit.path)
        if unit.is_fresh:
            kept += there
            continue
        made = [clip for clip in own[unit.participant] if _is_made(unit, clip, status.clips, sizes)]
        read[unit.stage] += made
        read_sizes = tuple(sizes[unit.stage][clip.clip] for clip in made)
        units[unit.stage].append(UnitToMake(unit.participant, len(own[unit.participant]), read_sizes, there))

    jobs = Counter({RULES[name]: len(todo) for name, todo in units.items() if todo})
    jobs.update(stage for stage, _ in status.jobs if stage in LATER_STAGES)
    no_benchmark = None
    if not Path("results/folds.tsv").exists():  # never begun: `status` does not count it then
        try:
            _ = later.targets
        except TableError as error:
            no_benchmark = str(error)
        else:
            jobs.update(name for name in LATER_STAGES if name not in FEATURES for _ in later.outputs(name))
    sources = {path for clip in new for name in files if (path := getattr(clip, STAGES[name].file_column))}
    unread = sum(_size(path) or 0 for path in sources)
    store = results / "cache.zarr"
    held = (_size(store.resolve()) or 0) if store.exists() else 0
    return ToMake(units, read, sizes, dict(jobs), absent, len(clips) - len(lost), unread, kept, held, no_benchmark)


def _is_made(
    unit: PlannedUnit, clip: Clip, states: dict[str, dict[str, str]], sizes: dict[str, dict[str, int]]
) -> bool:
    """Whether a unit's job reads the clip's source: not if it has none, or takes over what it holds."""
    return clip.clip in sizes[unit.stage] and states[clip.clip][unit.stage] in ("missing", "stale")


def _size(path: Path) -> int | None:
    """Bytes of a file, or of all files of a folder; None = it is not there."""
    try:
        if path.is_dir():
            return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        return path.stat().st_size
    except OSError:
        return None


def _file_size(path: Path) -> int:
    return _size(path) or 0
