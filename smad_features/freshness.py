"""What a unit depends on, whether it is stale, and why.

A unit is stale when the content of one of its sources, the rows, settings, code, model or library versions that make
its numbers differ from what the unit itself records. Times of files never count. The record is the truth; a small key
file a unit, which holds the digest of the wanted record, is how Snakemake gets to know.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from smad_features.atomic import written_whole
from smad_features.fingerprints import Fingerprints, canonical, code_digest, digest_of, library_version
from smad_features.manifest import Clip
from smad_features.model_files import MODELS, models_used
from smad_features.sealed import read_entry

UNIT_FORMAT = "smad-unit"
_OWN = ("stage", "participant", "clips")  # what of a record is not common to all units of a stage
UNKNOWN = "not made yet"  # what a clip reads of another unit, while that one is stale
_OK = {"state": "ok", "reason": ""}
UNIT_VERSION = 2  # of the file itself; 1 had no seal
# Any of them may be the one that knows a file.
RECORDING_MODULES = (
    "cells", "document", "eyelink", "gaze", "gazepoint", "generic_table", "imotions", "movements", "psychopy_tobii",
    "pupil_labs", "recording", "sentinels", "sheets", "smad_sheet", "smi", "tables", "tobii_export", "tobii_pro_lab",
    "tobii_sdk", "tobii_studio",
)  # fmt: skip


@dataclass(frozen=True)
class Input:
    """What a stage reads of another one's units: arrays, and numbers that stand in their quality."""

    stage: str
    arrays: tuple[str, ...]
    quality: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stage:
    """What the units of a stage are made from.

    A stage that reads other units is one of few clips: a participant without a file in its column has no unit.
    """

    name: str
    file_column: str  # the column of clips.tsv that names its source
    sections: tuple[str, ...]  # of the configuration, and single keys as `section.key`
    modules: tuple[str, ...]  # whose code makes the numbers
    libraries: tuple[str, ...]  # whose versions change the numbers
    span: tuple[str, ...] = ("start", "end")  # the other columns that it reads
    uses_model: bool = False
    inputs: tuple[Input, ...] = ()

    def has_unit(self, clips: Iterable[Clip]) -> bool:
        """Whether there is a unit of these clips of one participant."""
        return not self.inputs or any(getattr(clip, self.file_column) is not None for clip in clips)


STAGES = {
    "faces": Stage(
        name="faces",
        file_column="video",
        sections=("video", "face"),
        modules=(
            "smad_features.video",
            "smad_features.frame_folders",
            "smad_features.decoding",
            "smad_features.packets",
            "smad_features.containers",
            "smad_features.pictures",
            "smad_features.h264",
            "smad_features.face_finder",
            "smad_features.subject",
            "smad_features.faces",
            "smad_features.schema",
            "smad_features.units",
        ),
        libraries=("av", "opencv", "mediapipe", "numpy"),
        uses_model=True,
    ),
    "eyes": Stage(
        name="eyes",
        file_column="eye",
        sections=("eye",),
        modules=(
            "smad_features.recordings",
            *(f"smad_features.recordings.{name}" for name in RECORDING_MODULES),
            "smad_features.cleaning",
            "smad_features.eyes",
            "smad_features.resampling",
            "smad_features.schema",
            "smad_features.units",
        ),
        libraries=("numpy", "pandas", "python-calamine"),
    ),
    "gaze_content": Stage(
        name="gaze_content",
        file_column="stimulus",
        sections=("gaze", "video.frame_rate", "video.max_lost", "face.frames", "face.size"),
        modules=(
            "smad_features.video",
            "smad_features.frame_folders",
            "smad_features.decoding",
            "smad_features.packets",
            "smad_features.containers",
            "smad_features.pictures",
            "smad_features.h264",
            "smad_features.gaze_content",
            "smad_features.schema",
            "smad_features.units",
        ),
        libraries=("av", "opencv", "numpy"),
        span=("start",),
        inputs=(Input("faces", ("face_time",)), Input("eyes", ("gaze",), ("eye_start", "eye_end"))),
    ),
}


def common_record(stage: Stage, config: dict[str, Any]) -> dict[str, Any]:
    """What all clips of a stage depend on: settings, code, libraries, model."""
    settings: dict[str, dict[str, Any]] = {}
    for part in stage.sections:
        section, _, key = part.partition(".")
        settings.setdefault(section, {}).update({key: config[section][key]} if key else config[section])
    record: dict[str, Any] = {}
    if stage.uses_model:
        settings["face"].pop("model_file")  # where it lies does not matter, what it is does: `models`
        record["models"] = {model: MODELS[model].sha256 for model in models_used(config["face"])}
    record["settings"] = settings
    record["code"] = {module: code_digest(module) for module in stage.modules}
    record["libraries"] = {library: library_version(library) for library in stage.libraries}
    return record


def clip_record(
    stage: Stage, clip: Clip, fingerprints: Fingerprints, inputs: dict[str, str] | None = None
) -> dict[str, Any]:
    """What one clip depends on besides: the content of its source (None = none named), its span and its ``inputs``."""
    source = getattr(clip, stage.file_column)
    record: dict[str, Any] = {"content": None if source is None else fingerprints.of(source)}
    record |= {column: getattr(clip, column) for column in stage.span}
    if stage.inputs:
        record["inputs"] = None if source is None else (inputs or {}).get(clip.clip, UNKNOWN)
    return record


def clip_inputs(stage: Stage, units: dict[str, dict[str, Any] | None]) -> dict[str, str]:
    """A digest for each clip of what a stage reads of other units, by their names; ``units``: what those say."""
    read: dict[str, list[Any]] = {}
    for source in stage.inputs:
        unit = units.get(source.stage)
        if unit is None:
            return {}
        for clip in unit["clips"]:
            arrays = [unit["contents"][clip][name] for name in source.arrays]
            read.setdefault(clip, []).append([arrays, [unit["quality"][clip].get(name) for name in source.quality]])
    return {clip: digest_of(parts) for clip, parts in read.items() if len(parts) == len(stage.inputs)}


def unit_record(
    stage: Stage,
    participant: str,
    clips: Sequence[Clip],
    common: dict[str, Any],
    fingerprints: Fingerprints,
    inputs: dict[str, str] | None = None,
) -> dict[str, Any]:
    """What a whole unit is made from."""
    own = {clip.clip: clip_record(stage, clip, fingerprints, inputs) for clip in clips}
    return {"stage": stage.name, "participant": participant, **common, "clips": own}


def planned_digest(record: dict[str, Any]) -> str:
    """The digest of what can be known of a record before other units are made: all but what is read of those."""
    clips = {
        clip: {part: value for part, value in own.items() if part != "inputs"} for clip, own in record["clips"].items()
    }
    return digest_of({**record, "clips": clips})


def read_unit_attributes(path: Path) -> dict[str, Any] | None:
    """What a unit says of itself, without its arrays; None where there is no whole unit of this version."""
    try:
        attributes = json.loads(read_entry(path, "zarr.json"))["attributes"]
    except (FileNotFoundError, ValueError, KeyError):
        return None
    is_ours = attributes.get("format") == UNIT_FORMAT and attributes.get("version") == UNIT_VERSION
    return attributes if is_ours else None


@dataclass(frozen=True)
class PlannedUnit:
    """A unit as it should be, and of what the one on disk says record, digest, content and states (None = no unit)."""

    stage: str
    participant: str
    path: Path
    wanted: dict[str, Any]
    digest: str  # of ``wanted``, as far as a key can say
    made: dict[str, Any] | None

    @cached_property
    def made_digest(self) -> str | None:
        """What the unit on disk says that it is made from; None = there is no file."""
        if self.made is None:
            return "damaged" if self.path.exists() else None
        # An old unit may stand beside other units than those that it was made from: no key says so.
        is_of_others = _inputs(self.made["record"]) != _inputs(self.wanted)
        return "of other units" if is_of_others else self.made["digest"]

    @property
    def is_fresh(self) -> bool:
        """The unit on disk is made from just that."""
        return self.made_digest == self.digest


def unit_path(stage: str, participant: str, *, results: Path = Path("results")) -> Path:
    """Where a unit lies."""
    return results / stage / f"{participant}.zarr.zip"


def plan_units(
    clips: Iterable[Clip], config: dict[str, Any], fingerprints: Fingerprints, *, results: Path = Path("results")
) -> list[PlannedUnit]:
    """Every unit of these clips, as it should be and as it is.

    What a unit should read of another one is known only where that one is fresh.
    """
    plan: dict[str, list[PlannedUnit]] = {name: [] for name in STAGES}
    common: dict[str, dict[str, Any]] = {}
    parts: dict[str, Any] = {}
    for participant, own in by_participant(clips).items():
        fresh: dict[str, dict[str, Any] | None] = {}
        for name, stage in STAGES.items():
            if not stage.has_unit(own):
                continue
            if name not in common:
                common[name] = common_record(stage, config)
            wanted = unit_record(stage, participant, own, common[name], fingerprints, clip_inputs(stage, fresh))
            path = unit_path(name, participant, results=results)
            digest, said = planned_digest(wanted), read_unit_attributes(path)
            made = None if said is None else _held(said, wanted, digest, parts)
            unit = PlannedUnit(name, participant, path, wanted, digest, made)
            fresh[name] = said if unit.is_fresh else None
            plan[name].append(unit)
    return [unit for units in plan.values() for unit in units]


def _held(said: dict[str, Any], wanted: dict[str, Any], digest: str, parts: dict[str, Any]) -> dict[str, Any]:
    """What a plan holds of what a unit says; equal ``parts`` of all units as one object: they take a GB else."""
    record = said["record"]
    if said["digest"] == digest and record == wanted:
        record = wanted
    else:
        record = {
            part: value if part == "clips" else parts.setdefault(canonical([part, value]), value)
            for part, value in record.items()
        }
    states = {clip: _OK if state == _OK else state for clip, state in said["states"].items()}
    return {"record": record, "digest": said["digest"], "content": said["content"], "states": states}


def unit_files(clips: Iterable[Clip]) -> dict[str, dict[str, Path]]:
    """Stage -> participant -> file of all units that these clips have."""
    groups = by_participant(clips)
    files = {
        name: {participant: unit_path(name, participant) for participant, own in groups.items() if stage.has_unit(own)}
        for name, stage in STAGES.items()
    }
    return {name: some for name, some in files.items() if some}


def key_path(name: str) -> Path:
    """Where the key of a product lies: of a unit ``STAGE/PARTICIPANT``, of a later one its rule's name, ``/TASK``."""
    return Path(".smad/keys") / f"{name}.key"


def next_key(path: Path, digest: str, *, made: str | None) -> str | None:
    """What a key file should hold from now on; None = what it holds.

    Parameters
    ----------
    digest
        Of all that the product should be made from.
    made
        The digest that the product itself records; None = there is no product, or it does not say.

    Snakemake compares a key's content with the one that it noted after the last job. So a product that is not what it
    should be although its key says so (restored from a backup, say) needs a key with other content: a second line.
    """
    held = path.read_text().split() if path.is_file() else []
    if made is None or made == digest:
        return None if held[:1] == [digest] else f"{digest}\n"
    return f"{digest}\n{uuid.uuid4().hex}\n"


def write_key(path: Path, text: str) -> None:
    """Write a key file, or another small text, whole or not at all; one that holds it already is left alone."""
    if not path.is_file() or path.read_text() != text:
        with written_whole(path, sync=False) as beside:
            beside.write_text(text)


def read_key(path: Path) -> str:
    """The digest that a key file holds."""
    return path.read_text().split()[0]


def explain(old: dict[str, Any] | None, new: dict[str, Any], *, names: dict[str, str] | None = None) -> list[str]:
    """Why a unit whose record is ``old`` is stale when ``new`` is wanted: one sentence a cause; empty = fresh.

    ``names``: the source file of each clip, as the reader knows it.
    """
    if old is None:
        return ["not made yet"]
    causes = []
    for clip in sorted(old["clips"].keys() | new["clips"].keys()):
        before, after = old["clips"].get(clip), new["clips"].get(clip)
        if before is None or after is None:
            causes.append(f"clip {clip} was {'added' if before is None else 'removed'}")
        elif before != after:
            if before["content"] != after["content"]:
                causes.append(f"content of `{(names or {}).get(clip, f'clip {clip}')}` changed")
            elif before.get("inputs") != after.get("inputs") != UNKNOWN:
                causes.append(f"what other stages give of clip {clip} changed")
            edges = [part for part in after if part not in ("content", "inputs") and before.get(part) != after[part]]
            causes += [f"{part} of clip {clip}: {before.get(part)} -> {after[part]}" for part in edges]
    if UNKNOWN in _inputs(new).values():
        causes.append("the units that it reads are not fresh")
    causes += explain_common(old, new)
    return causes or ([] if digest_of(old) == digest_of(new) else ["its record is spelt otherwise"])


def explain_common(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """How settings, code, libraries and models of two records differ: one sentence a difference."""
    causes = [f"setting `{key}`: {a} -> {b}" for key, a, b in differences(old["settings"], new["settings"])]
    causes += [f"code of `{module}` changed" for module, _, _ in differences(old["code"], new["code"], dots=False)]
    causes += [f"library {name}: {a} -> {b}" for name, a, b in differences(old["libraries"], new["libraries"])]
    changed = differences(old.get("models", {}), new.get("models", {}))
    return causes + [f"the {model} model changed" for model, _, _ in changed]


def write_common(units: Iterable[PlannedUnit]) -> None:
    """Write down what all units of a stage depend on, for the jobs: a node may hold other libraries than this one."""
    written: set[str] = set()
    for unit in units:
        if unit.stage not in written:
            written.add(unit.stage)
            common = {part: value for part, value in unit.wanted.items() if part not in _OWN}
            write_key(common_path(unit.stage), canonical(common))


def common_path(stage: str) -> Path:
    """Where that lies for a stage."""
    return key_path(stage).with_suffix(".json")


def _inputs(record: dict[str, Any]) -> dict[str, Any]:
    return {clip: own["inputs"] for clip, own in record["clips"].items() if "inputs" in own}


def by_participant(clips: Iterable[Clip]) -> dict[str, list[Clip]]:
    """Clips of each participant, both in the cache's order."""
    groups: dict[str, list[Clip]] = {}
    for clip in clips:
        groups.setdefault(clip.participant, []).append(clip)
    return groups


def differences(
    old: dict[str, Any], new: dict[str, Any], *, dots: bool = True, prefix: str = ""
) -> Iterator[tuple[str, Any, Any]]:
    """Name, old and new value of all that differs; ``dots``: go into what is nested, and name it `a.b`."""
    for key in sorted(old.keys() | new.keys()):
        a, b = old.get(key), new.get(key)
        if dots and isinstance(a, dict) and isinstance(b, dict):
            yield from differences(a, b, prefix=f"{prefix}{key}.")
        elif a != b:
            yield f"{prefix}{key}", a, b
