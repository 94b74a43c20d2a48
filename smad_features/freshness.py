"""What a unit depends on, whether it is stale, and why.

A unit is stale when the content of one of its sources, the rows, settings, code, model or library versions that make
its numbers differ from what the unit itself records. Times of files never count. The record is the truth; a small key
file a unit, which holds the digest of the wanted record, is how Snakemake gets to know.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import sys
import uuid
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from smad_features import schema
from smad_features.atomic import written_whole
from smad_features.fingerprints import Fingerprints, code_digest, digest_of, library_version
from smad_features.manifest import Clip
from smad_features.model_files import MODELS, models_used

UNIT_FORMAT = "smad-unit"
# Any of them may be the one that knows a file.
RECORDING_MODULES = (
    "cells", "document", "eyelink", "gaze", "gazepoint", "generic_table", "imotions", "movements", "psychopy_tobii",
    "pupil_labs", "recording", "sentinels", "sheets", "smad_sheet", "smi", "tables", "tobii_export", "tobii_pro_lab",
    "tobii_sdk", "tobii_studio",
)  # fmt: skip


@dataclass(frozen=True)
class Stage:
    """What the units of a stage are made from."""

    name: str
    file_column: str  # the column of clips.tsv that names its source
    sections: tuple[str, ...]  # of the configuration
    modules: tuple[str, ...]  # whose code makes the numbers
    libraries: tuple[str, ...]  # whose versions change the numbers
    uses_model: bool = False


STAGES = {
    "faces": Stage(
        name="faces",
        file_column="video",
        sections=("video", "face"),
        modules=(
            "smad_features.video",
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
            "smad_features.schema",
            "smad_features.units",
        ),
        libraries=("numpy", "pandas", "python-calamine"),
    ),
}


def common_record(stage: Stage, config: dict[str, Any]) -> dict[str, Any]:
    """What all clips of a stage depend on: settings, code, libraries, model."""
    settings = {section: dict(config[section]) for section in stage.sections}
    record: dict[str, Any] = {}
    if stage.uses_model:
        settings["face"].pop("model_file")  # where it lies does not matter, what it is does: `models`
        record["models"] = {model: MODELS[model].sha256 for model in models_used(config["face"])}
    record["settings"] = settings
    record["code"] = {module: code_digest(module) for module in stage.modules}
    record["libraries"] = {library: library_version(library) for library in stage.libraries}
    return record


def clip_record(stage: Stage, clip: Clip, fingerprints: Fingerprints) -> dict[str, Any]:
    """What one clip depends on besides: the content of its source (None = none named) and its span."""
    source = getattr(clip, stage.file_column)
    return {"content": None if source is None else fingerprints.of(source), "start": clip.start, "end": clip.end}


def unit_record(
    stage: Stage, participant: str, clips: Sequence[Clip], common: dict[str, Any], fingerprints: Fingerprints
) -> dict[str, Any]:
    """What a whole unit is made from. Its `digest_of` is the unit's digest."""
    own = {clip.clip: clip_record(stage, clip, fingerprints) for clip in clips}
    return {"stage": stage.name, "participant": participant, **common, "clips": own}


def read_unit_attributes(path: Path) -> dict[str, Any] | None:
    """What a unit says of itself, without its arrays; None where there is no whole unit of this version."""
    try:
        with zipfile.ZipFile(path) as archive:
            attributes = json.loads(archive.read("zarr.json"))["attributes"]
    except (FileNotFoundError, zipfile.BadZipFile, KeyError, ValueError):
        return None
    is_ours = attributes.get("format") == UNIT_FORMAT and attributes.get("version") == schema.VERSION
    return attributes if is_ours else None


@dataclass(frozen=True)
class PlannedUnit:
    """A unit as it should be, beside what the one on disk says of itself (None = there is none)."""

    stage: str
    participant: str
    path: Path
    wanted: dict[str, Any]
    made: dict[str, Any] | None

    @property
    def digest(self) -> str:
        """The digest of what the unit should be made from."""
        return digest_of(self.wanted)

    @property
    def made_digest(self) -> str | None:
        """What the unit on disk says that it is made from; None = there is no file."""
        if self.made is not None:
            return self.made["digest"]
        return "damaged" if self.path.exists() else None

    @property
    def is_fresh(self) -> bool:
        """The unit on disk is made from just that."""
        return self.made is not None and self.made["digest"] == self.digest


def unit_path(stage: str, participant: str, *, results: Path = Path("results")) -> Path:
    """Where a unit lies."""
    return results / stage / f"{participant}.zarr.zip"


def plan_units(
    clips: Iterable[Clip], config: dict[str, Any], fingerprints: Fingerprints, *, results: Path = Path("results")
) -> list[PlannedUnit]:
    """Every unit of these clips, as it should be and as it is."""
    groups = by_participant(clips)
    plan = []
    for stage in STAGES.values():
        common = common_record(stage, config)
        for participant, own in groups.items():
            wanted = unit_record(stage, participant, own, common, fingerprints)
            path = unit_path(stage.name, participant, results=results)
            plan.append(PlannedUnit(stage.name, participant, path, wanted, read_unit_attributes(path)))
    return plan


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
        with written_whole(path) as beside:
            beside.write_text(text)


def hold_lock(path: Path) -> IO[str]:
    """Hold the lock of a working directory for as long as the returned file stays open: until the process ends.

    Raises
    ------
    BlockingIOError
        Another run holds it; the message names its host and process.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = file.read().strip() or "an unknown process"
        file.close()
        raise BlockingIOError(f"another run works in {Path.cwd()}: {holder}; wait for it, or stop it") from None
    file.truncate(0)
    file.write(f"host {socket.gethostname()}, process {os.getpid()}\n")
    file.flush()
    return file


def wait_for_jobs(path: Path) -> None:
    """Wait, saying so, until no job of an earlier run is at work: one that was killed may have left some behind."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(
                f"jobs of an earlier run are still at work in {Path.cwd()}: waiting for them to end"
                " (`pgrep -af 'smad-(features|models)'` shows those on this host)",
                file=sys.stderr,
                flush=True,
            )
            fcntl.flock(file, fcntl.LOCK_EX)


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
            for part in ("content", "start", "end"):
                if before[part] != after[part]:
                    name = (names or {}).get(clip, f"clip {clip}")
                    is_content = part == "content"
                    change = (
                        f"of `{name}` changed" if is_content else f"of clip {clip}: {before[part]} -> {after[part]}"
                    )
                    causes.append(f"{part} {change}")
    causes += [f"setting `{key}`: {a} -> {b}" for key, a, b in differences(old["settings"], new["settings"])]
    causes += [f"code of `{module}` changed" for module, _, _ in differences(old["code"], new["code"], dots=False)]
    causes += [f"library {name}: {a} -> {b}" for name, a, b in differences(old["libraries"], new["libraries"])]
    changed = differences(old.get("models", {}), new.get("models", {}))
    causes += [f"the {model} model changed" for model, _, _ in changed]
    return causes or ([] if digest_of(old) == digest_of(new) else ["its record is spelt otherwise"])


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
