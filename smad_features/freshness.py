"""What a unit depends on, whether it is stale, and why.

A unit is stale when the content of one of its sources, the rows, settings, code, model or library versions that make
its numbers differ from what the unit itself records. Times of files never count. The record is the truth; a small key
file a unit, which holds the digest of the wanted record, is how Snakemake gets to know.
"""

from __future__ import annotations

import ast
import fcntl
import io
import json
import os
import socket
import sqlite3
import time
import tokenize
import uuid
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

import xxhash

from smad_features import schema
from smad_features.atomic import written_whole
from smad_features.manifest import Clip
from smad_features.model_files import MODELS

UNIT_FORMAT = "smad-unit"
ABSENT, FORBIDDEN = "absent", "forbidden"  # a named file that is not there, or that we may not read
_SETTLED = 2.0  # seconds: what changed later than this before we looked may change again within one tick of the clock


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
        modules=("smad_features.video", "smad_features.faces", "smad_features.schema", "smad_features.units"),
        libraries=("av", "opencv", "mediapipe", "numpy"),
        uses_model=True,
    ),
    "eyes": Stage(
        name="eyes",
        file_column="eye",
        sections=("eye",),
        modules=(
            "smad_features.recordings",
            "smad_features.recordings.recording",
            "smad_features.recordings.tobii_pro_lab",
            "smad_features.eyes",
            "smad_features.schema",
            "smad_features.units",
        ),
        libraries=("numpy", "pandas"),
    ),
}


class Fingerprints:
    """Contents of files as digests, remembered by path, size, times, inode and device in one small database."""

    def __init__(self, database: Path | None, *, learn: bool = True) -> None:
        """``database`` None = remember nothing: read every file anew. Without ``learn`` it is read and not written."""
        self._memory: sqlite3.Connection | None = None
        self._learns = learn
        if database is not None and not learn:
            if database.is_file():
                self._memory = sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True, timeout=30)
        elif database is not None:
            database.parent.mkdir(parents=True, exist_ok=True)
            self._memory = sqlite3.connect(database, timeout=30)
            self._memory.execute(
                "CREATE TABLE IF NOT EXISTS content (path TEXT PRIMARY KEY, stat TEXT NOT NULL, digest TEXT NOT NULL)"
            )

    def __enter__(self) -> Fingerprints:
        return self

    def __exit__(self, *_: object) -> None:
        if self._memory is not None:
            self._memory.commit()
            self._memory.close()

    def of(self, path: Path) -> str:
        """The digest of a file's content, or of the names and contents of a folder's files; else ABSENT, FORBIDDEN."""
        try:
            if path.is_dir():
                parts = [[str(f.relative_to(path)), self.of(f)] for f in sorted(path.rglob("*")) if f.is_file()]
                return "folder:" + digest_of(parts)
            return self._of_file(path)
        except (FileNotFoundError, NotADirectoryError):
            return ABSENT
        except PermissionError:
            return FORBIDDEN

    def _of_file(self, path: Path) -> str:
        found = path.stat()
        stat = f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns} {found.st_ino} {found.st_dev}"
        if self._memory is not None:
            row = self._memory.execute("SELECT stat, digest FROM content WHERE path = ?", (str(path),)).fetchone()
            if row is not None and row[0] == stat:
                return row[1]
        digest = hash_file(path)
        if self._memory is not None and self._learns and max(found.st_mtime, found.st_ctime) < time.time() - _SETTLED:
            self._memory.execute("INSERT OR REPLACE INTO content VALUES (?, ?, ?)", (str(path), stat, digest))
        return digest


def hash_file(path: Path) -> str:
    """xxh3-128 of a file's whole content, in hex."""
    hasher = xxhash.xxh3_128()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            hasher.update(block)
    return "xxh3:" + hasher.hexdigest()


def canonical(value: Any) -> str:
    """A JSON value as text, the same for equal values."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def digest_of(value: Any) -> str:
    """xxh3-128 of a JSON value in canonical form, in hex."""
    return xxhash.xxh3_128_hexdigest(canonical(value).encode())


def common_record(stage: Stage, config: dict[str, Any]) -> dict[str, Any]:
    """What all clips of a stage depend on: settings, code, libraries, model."""
    settings = {section: dict(config[section]) for section in stage.sections}
    record: dict[str, Any] = {}
    if stage.uses_model:
        settings["face"].pop("model_file")  # where it lies does not matter, what it is does: `model`
        record["model"] = MODELS[config["face"]["model"]].sha256 if config["face"]["align"] != "none" else None
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


def read_key(path: Path) -> str:
    """The digest that a key file holds."""
    return path.read_text().split()[0]


def explain(old: dict[str, Any] | None, new: dict[str, Any]) -> list[str]:
    """Why a unit whose record is ``old`` is stale when ``new`` is wanted: one sentence a cause; empty = fresh."""
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
                    change = "changed" if part == "content" else f"{before[part]} -> {after[part]}"
                    causes.append(f"{part} of clip {clip}: {change}")
    causes += [f"setting `{key}`: {a} -> {b}" for key, a, b in _differences(old["settings"], new["settings"])]
    causes += [f"code of `{module}` changed" for module, _, _ in _differences(old["code"], new["code"], dots=False)]
    causes += [f"library {name}: {a} -> {b}" for name, a, b in _differences(old["libraries"], new["libraries"])]
    if old.get("model") != new.get("model"):
        causes.append("the model file changed")
    return causes


def _differences(
    old: dict[str, Any], new: dict[str, Any], *, dots: bool = True, prefix: str = ""
) -> Iterator[tuple[str, Any, Any]]:
    for key in sorted(old.keys() | new.keys()):
        a, b = old.get(key), new.get(key)
        if dots and isinstance(a, dict) and isinstance(b, dict):
            yield from _differences(a, b, prefix=f"{prefix}{key}.")
        elif a != b:
            yield f"{prefix}{key}", a, b


@cache
def library_version(name: str) -> str:
    """The installed version. OpenCV comes as one of four packages of the same content."""
    names = (
        [f"opencv-{kind}" for kind in ("contrib-python-headless", "python-headless", "contrib-python", "python")]
        if name == "opencv"
        else [name]
    )
    for candidate in names:
        try:
            return version(candidate)
        except PackageNotFoundError:
            continue
    return "not installed"


@cache
def code_digest(module: str) -> str:
    """A digest of a module's code without comments, docstrings and line breaks, the same for every Python version."""
    return digest_of(list(code_tokens(_source_file(module).read_text(encoding="utf-8"))))


def module_folder(package: str) -> Path:
    """The folder that holds a package's modules and templates."""
    return _source_file(package).parent


def _source_file(module: str) -> Path:
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"no source of {module}")
    return Path(spec.origin)


def code_tokens(source: str) -> Iterator[str]:
    """The tokens of Python source that can change what it does."""
    tree = ast.parse(source)
    docstrings = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
            first = node.body[0]
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                docstrings.add((first.lineno, first.col_offset))
    lines = source.splitlines(keepends=True)
    f_string_start: tuple[int, int] | None = None
    depth = 0
    after_docstring = False
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        name = tokenize.tok_name[token.type]
        # Python 3.12 splits an f-string into tokens, 3.11 does not: take its source text as one.
        if name == "FSTRING_START":
            f_string_start = token.start if depth == 0 else f_string_start
            depth += 1
        elif name == "FSTRING_END":
            depth -= 1
            if depth == 0 and f_string_start is not None:
                yield _between(lines, f_string_start, token.end)
        elif depth or name in ("COMMENT", "NL", "ENCODING", "ENDMARKER"):
            continue
        elif name == "STRING" and token.start in docstrings:
            after_docstring = True
        elif name == "NEWLINE" and after_docstring:
            after_docstring = False
        else:
            yield name if name in ("NEWLINE", "INDENT", "DEDENT") else token.string


def _between(lines: list[str], start: tuple[int, int], end: tuple[int, int]) -> str:
    if start[0] == end[0]:
        return lines[start[0] - 1][start[1] : end[1]]
    middle = "".join(lines[start[0] : end[0] - 1])
    return lines[start[0] - 1][start[1] :] + middle + lines[end[0] - 1][: end[1]]


def by_participant(clips: Iterable[Clip]) -> dict[str, list[Clip]]:
    """Clips of each participant, both in the cache's order."""
    groups: dict[str, list[Clip]] = {}
    for clip in clips:
        groups.setdefault(clip.participant, []).append(clip)
    return groups
