"""Contents of files, of code and of libraries as digests: what staleness is decided by."""

from __future__ import annotations

import ast
import errno
import json
import os
import sqlite3
import sys
import time
from contextlib import closing
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import Any

import xxhash

ABSENT, FORBIDDEN = "absent", "forbidden"  # a named file that is not there, or that we may not read
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_NO_CODE = ("kind", "type_comment", "type_ignores")
NO_SUCH_FILE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)
_SETTLED = 2.0  # seconds: what changed later than this before we looked may change again within one tick of the clock


class Fingerprints:
    """Contents of files as digests, remembered by path, size, times, inode and device in one small database."""

    def __init__(self, database: Path | None) -> None:
        """``database`` None = remember nothing. It is only read, until `save`; a damaged one is as good as none."""
        self._database = database
        self._known: dict[str, tuple[str, str]] = {}  # path -> (stat, digest)
        self._learned: dict[str, tuple[str, str]] = {}
        self._hashed: dict[str, str] = {}  # stat -> digest: links to one file need one reading
        if database is not None and database.is_file():
            try:
                with closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True, timeout=30)) as memory:
                    self._known = {
                        path: (stat, digest) for path, stat, digest in memory.execute("SELECT * FROM content")
                    }
            except sqlite3.Error as error:
                print(f"{database}: cannot be used ({error}): every file is read anew", file=sys.stderr)

    def of(self, path: Path) -> str:
        """The digest of a file's content, or of the names and contents of a folder's files; else ABSENT, FORBIDDEN."""
        try:
            looked = time.time()
            found = path.stat()
            if S_ISDIR(found.st_mode):
                parts = [[str(f.relative_to(path)), self.of(f)] for f in sorted(path.rglob("*")) if f.is_file()]
                return "folder:" + digest_of(parts)
            return self._of_file(path, found, looked=looked)
        except PermissionError:
            return FORBIDDEN
        except OSError as error:
            if error.errno in NO_SUCH_FILE:
                return ABSENT
            raise

    def size_of(self, path: Path) -> int:
        """Bytes of a file whose content is known; 0 of any other, and of a folder. No file is looked at for it."""
        stat, _ = self._known.get(str(path), ("0", ""))
        return int(stat.partition(" ")[0])

    def _of_file(self, path: Path, found: os.stat_result, *, looked: float) -> str:
        if not S_ISREG(found.st_mode):  # a pipe would never end
            return "no regular file"
        stat = f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns} {found.st_ino} {found.st_dev}"
        known = self._known.get(str(path))
        if known is not None and known[0] == stat:
            return known[1]
        digest = self._hashed.get(stat) or hash_file(path)
        if max(found.st_mtime, found.st_ctime) < looked - _SETTLED:
            self._hashed[stat] = digest
            self._known[str(path)] = self._learned[str(path)] = (stat, digest)
        return digest

    def save(self) -> None:
        """Write down what was learned. A memory that cannot be written costs time, never a result."""
        if self._database is None or not self._learned:
            return
        self._database.parent.mkdir(parents=True, exist_ok=True)
        rows = [(path, *known) for path, known in self._learned.items()]
        for _ in range(2):
            try:
                with closing(sqlite3.connect(self._database, timeout=30)) as memory, memory:
                    memory.execute("CREATE TABLE IF NOT EXISTS content (path TEXT PRIMARY KEY, stat TEXT, digest TEXT)")
                    memory.executemany("INSERT OR REPLACE INTO content VALUES (?, ?, ?)", rows)
                return
            except sqlite3.OperationalError as error:
                print(f"{self._database}: not written ({error})", file=sys.stderr)
                return
            except sqlite3.DatabaseError:
                self._database.unlink(missing_ok=True)  # damaged: begin anew


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
    """A digest of a module's code, comments, docstrings and formatting aside; the same for every Python version."""
    return digest_source(_source_file(module).read_text(encoding="utf-8"))


def digest_source(source: str) -> str:
    """xxh3-128 of what Python source says (`code_facts`), in hex."""
    return xxhash.xxh3_128_hexdigest(code_facts(source).encode())


def module_folder(package: str) -> Path:
    """The folder that holds a package's modules and templates."""
    return _source_file(package).parent


def _source_file(module: str) -> Path:
    """Where a module's source lies, without importing the packages around it: they may take a second."""
    top, *names = module.split(".")
    spec = find_spec(top)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"no source of {module}")
    path = Path(spec.origin).parent.joinpath(*names)
    file = path / "__init__.py" if path.is_dir() else path.with_name(f"{path.name}.py")
    if not file.is_file():
        raise ModuleNotFoundError(f"no source of {module}: {file} is not there")
    return file


def code_facts(source: str) -> str:
    """What Python source says, as canonical JSON: its syntax tree without docstrings and positions.

    Comments, line breaks, quotes and brackets that change nothing are not in the tree. Absent and empty fields are left
    out, because newer versions of Python add some (`type_params` in 3.12).
    """
    return _plain(ast.parse(source))


def _plain(node: Any) -> str:
    # Text all the way up: a run reads some 50 modules before it knows that there is nothing to do, and nested lists
    # would keep Python's collector of garbage busy for four times as long.
    if isinstance(node, list):
        return f"[{','.join(map(_plain, node))}]"
    if not isinstance(node, ast.AST):
        return json.dumps(repr(node))
    parts = []
    for field in sorted(node._fields):
        value = getattr(node, field, None)
        if field == "body" and isinstance(node, _DOCUMENTED) and ast.get_docstring(node, clean=False):
            value = node.body[1:]
        if value is not None and value != [] and field not in _NO_CODE:
            parts.append(f'"{field}":{_plain(value)}')
    return f'["{type(node).__name__}",{{{",".join(parts)}}}]'
