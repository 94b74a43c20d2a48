"""What remains of one participant in all that was made of the clips: where it lies, and what it is."""

from __future__ import annotations

import base64
import binascii
import csv
import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from smad_features.freshness import STAGES, read_unit_attributes
from smad_features.manifest import Clip
from smad_features.remains_away import Away
from smad_features.summary import LINK, NAME, SummaryError, place_of, read_summary, store_name

# The last ones to go are the units: they alone tell the clips of a person, should the work be interrupted.
Kind = Literal["file", "draft", "store", "rows", "features", "state", "checkpoint", "unit"]
_SURE = ("store", "rows", "features", "state", "checkpoint", "unit")
_NOT_OURS = ("conda", "conda-archive", "singularity")  # in Snakemake's folder: large, and of no person
_OURS = ("lock", "pack.lock", "jobs.lock", "fingerprints.sqlite", "stores.txt")  # of no person, or looked at elsewhere


@dataclass(frozen=True)
class Remain:
    """One place where a participant is to be found, and what it is, in words."""

    path: Path | str  # text = in an object store
    kind: Kind
    what: str


@dataclass(frozen=True)
class Person:
    """A participant's id and the ids of the clips that are known to be theirs."""

    participant: str
    clips: frozenset[str]

    def is_in(self, text: bytes | str) -> bool:
        """Whether one of the ids stands in a text, with no letter or digit beside it: P1 is not in P10."""
        if isinstance(text, str):
            text = text.encode()
        ids = b"|".join(re.escape(name.encode()) for name in sorted({self.participant, *self.clips}))
        return re.search(rb"(?<![A-Za-z0-9])(?:" + ids + rb")(?![A-Za-z0-9])", text) is not None

    def owns(self, row: dict[str, str]) -> bool:
        """Whether a row of a table is about this person."""
        return row.get("participant") == self.participant or row.get("clip") in self.clips


def name_gone(clips: Iterable[Clip], table: str, *, folder: Path = Path()) -> list[str]:
    """A sentence for each participant whose units are still there, though the table of clips has no row of them."""
    listed = {clip.participant for clip in clips}
    gone: dict[str, list[str]] = {}
    for path in sorted((folder / "results").glob("*/*.zarr.zip")):
        participant = path.name.removesuffix(".zarr.zip")
        if participant not in listed and not participant.startswith("."):
            gone.setdefault(participant, []).append(str(path))
    return [
        f"participant {participant} is not in {table} any more, but {' and '.join(paths)} are there: to erase all of"
        f" that person, smad-features forget {participant}"
        for participant, paths in gone.items()
    ]


def find_person(participant: str, *, listed: Iterable[str], folder: Path = Path(), away: Away | None = None) -> Person:
    """A participant with all clips that anything here says to be theirs.

    Parameters
    ----------
    listed
        All clips of the table of clips: one that has changed hands is no longer theirs.
    folder
        The working directory.
    away
        What object stores hold.
    """
    clips: set[str] = set()
    for path in (folder / "results").glob(f"*/{participant}.zarr.zip"):
        clips |= set((read_unit_attributes(path) or {}).get("clips", ()))
    roots = [_root(store) for store in _stores(folder)] + list((away or Away()).stores.values())
    for said in (root or {} for root in roots):
        pairs = zip(said.get("clips", ()), said.get("participants", ()), strict=False)
        clips |= {clip for clip, who in pairs if who == participant}
    for table in _tables(folder):
        clips |= {row["clip"] for row in _rows(table) if row.get("participant") == participant and row.get("clip")}
    return Person(participant, frozenset(clips - set(listed)))


def count_rows(table: Path, person: Person) -> int:
    """How many rows of a table are about a person; 0 where there is no table."""
    return sum(map(person.owns, _rows(table))) if table.is_file() else 0


def find_remains(
    person: Person, *, checkpoints: Path | None, folder: Path = Path(), away: Away | None = None
) -> list[Remain]:
    """All that remains of a person, in the order in which they are to be removed.

    ``checkpoints``: a folder of given ones, beside those that were trained here. ``away``: what object stores hold.
    """
    away = away or Away()
    results, smad = folder / "results", folder / ".smad"
    remains = [
        Remain(path, "draft", "of a job that died")
        for root in (results, smad)
        for path in sorted(root.rglob(".*"))
        if path.suffix in (".tmp", ".new", ".link") and not path.parent.name.endswith(".tmp")
    ]
    clean = []  # digests of caches without the person
    held: list[tuple[Path | str, dict[str, Any] | None]] = [(store, _root(store)) for store in _stores(folder)]
    for place, said in [*held, *away.stores.items()]:
        if said is not None and person.participant not in said["participants"] and not person.clips & {*said["clips"]}:
            clean.append(said["digest"].encode())
            continue
        # One that cannot be read is no sign that there was such a person.
        kind: Kind = "file" if said is None else "store"
        remains.append(
            Remain(place, kind, f"a packed cache that {'cannot be read' if kind == 'file' else 'holds them'}")
        )
        if isinstance(place, Path) and (results / LINK).resolve() == place.resolve():
            remains += [Remain(results / name, "file", "of that cache") for name in (LINK, NAME)]
        if isinstance(place, str) and place == _place_in_use(results):
            remains.append(Remain(results / NAME, "file", "of that cache"))
    gone = {str(remain.path) for remain in remains}
    for pointer, says in away.pointers.items():
        store_there = f"{pointer.removesuffix(NAME)}{store_name(str(says.get('digest')))}"
        if store_there in gone or person.clips & {*says.get("clips", ())}:
            remains.append(Remain(pointer, "file", "of that cache"))
    for table in _tables(folder):
        if number := count_rows(table, person):
            remains.append(Remain(table, "rows", f"{number} rows"))
    remains += _find_trained(person, [results, *([checkpoints] if checkpoints else [])])
    known = {remain.path for remain in remains}
    for path in _plain_files(folder):
        if path not in known and (what := _what_it_is(person, path, clean, folder)):
            remains.append(Remain(path, "file", what))
    remains += [Remain(path, "unit", "the unit") for path in sorted(results.glob(f"*/{person.participant}.zarr.zip"))]
    # A name that was mistyped may be a word that logs and scores are full of.
    has_keys = any((smad / "keys" / stage / f"{person.participant}.key").exists() for stage in STAGES)
    return remains if has_keys or any(remain.kind in _SURE for remain in remains) else []


def _what_it_is(person: Person, path: Path, clean: list[bytes], folder: Path) -> str | None:
    """What a file has of the person, in words; None = nothing."""
    inside = path.relative_to(folder)
    if inside.parts[0] == ".snakemake":
        if inside.parts[1] == "backups":
            return "Snakemake's copy of a result"
        return "Snakemake's record" if person.is_in(_decoded(inside)) or person.is_in(path.read_bytes()) else None
    if person.is_in(str(inside)):
        return "by its name"
    content = path.read_bytes()
    if path.suffix == ".parquet":  # what its pages hold is packed; from which cache it was made is not
        return None if any(digest in content for digest in clean) else "from a cache that may hold the person"
    if path.suffix == ".png":
        return None
    return "names the person" if person.is_in(content) else None


def _find_trained(person: Person, folders: Iterable[Path]) -> Iterator[Remain]:
    for path in sorted({path for folder in folders for path in folder.rglob("*.safetensors")}):
        said = _metadata(path)
        if person.clips & set(said.get("clips", ())):
            yield Remain(path, "features", "features of the person's face")
        elif not said and path.parent.name == "face_features":
            yield Remain(path, "file", "features that cannot be read")
        elif path.name.endswith(".state.safetensors"):  # of no use without the person: another cache, another training
            if not said:
                yield Remain(path, "file", "an unfinished training that cannot be read")
            elif _was_trained_on(said, person.participant):
                yield Remain(path, "state", "an unfinished training on the person")
        elif _was_trained_on(said, person.participant):
            yield Remain(path, "checkpoint", f"task {said.get('task')}, fold {said.get('fold')}")


def _was_trained_on(said: dict[str, Any], participant: str) -> bool:
    """Whether a checkpoint that says this of itself holds the participant's keyed hash: `smad_models.checkpoints`."""
    try:
        key = bytes.fromhex(said["participants_key"])
        digest = hashlib.blake2b(participant.encode(), key=key, digest_size=16).hexdigest()
        return digest in said["participants"]
    except (KeyError, TypeError, ValueError):  # no checkpoint, or one that cannot be read
        return False


def _plain_files(folder: Path) -> Iterator[Path]:
    """All files that may name a person and are no table, unit, store or network."""
    roots = [folder / name for name in ("results", "logs", ".smad", ".snakemake")]
    for path in sorted(path for root in roots for path in root.rglob("*")):
        inside = path.relative_to(folder).parts
        is_of_a_store = inside[0] == "results" and len(inside) > 2 and ".zarr" in inside[1]
        if path.is_file() and not path.is_symlink() and not is_of_a_store and inside[1] not in _NOT_OURS:
            is_elsewhere = path.name.endswith((".zarr.zip", ".safetensors")) and inside[0] == "results"
            is_table = path.suffix == ".tsv" and bool({"clip", "participant"} & set(_header(path)))
            if not is_elsewhere and not is_table and not (inside[0] == ".smad" and inside[1] in _OURS):
                yield path
    yield from sorted(folder.glob("inspect-*.png"))


def _stores(folder: Path) -> list[Path]:
    return sorted((folder / "results").glob(store_name("*")))


def _place_in_use(results: Path) -> str | None:
    """Where the cache lies that cache.json speaks of."""
    try:
        return place_of(results, read_summary(results))
    except (FileNotFoundError, SummaryError):
        return None


def _root(store: Path) -> dict[str, Any] | None:
    """The attributes of a store; None where they cannot be read."""
    try:
        said = json.loads((store / "zarr.json").read_text(encoding="utf-8"))["attributes"]
        return said if {"clips", "participants", "digest"} <= said.keys() else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _tables(folder: Path) -> list[Path]:
    """Our tables with a row a clip or participant."""
    found = [path for root in ("results", ".smad") for path in (folder / root).rglob("*.tsv")]
    return sorted(path for path in found if {"clip", "participant"} & set(_header(path)))


def _header(path: Path) -> list[str]:
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        return next(csv.reader(file, dialect="excel-tab"), [])


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        return list(csv.DictReader(file, dialect="excel-tab", restval=""))


def _metadata(path: Path) -> dict[str, Any]:
    """What a safetensors file says of itself: 8 bytes of length, then so much JSON, is how the format begins."""
    try:
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        return dict(json.loads(header.get("__metadata__", {}).get("smad", "{}")))
    except (ValueError, OverflowError, MemoryError, AttributeError):
        return {}


def _decoded(inside: Path) -> str:
    """The path of a file in Snakemake's folder; those of its records are base64, cut where they are long."""
    try:
        name = "".join(part.removeprefix("@") for part in inside.parts[2:])
        return str(inside) + base64.urlsafe_b64decode(name).decode()
    except (binascii.Error, ValueError):
        return str(inside)
