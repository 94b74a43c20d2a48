"""A zip file that ends with the checksum of every byte before it, and is the same for the same content.

The checksums inside a zip guard what its entries hold, but no name, date or flag beside them.
"""

from __future__ import annotations

import errno
import io
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import xxhash

_MARK = b"smad-unit xxh3-128 "
SEAL_LENGTH = len(_MARK) + 32  # it is the zip's comment, which is the end of the file


class DamagedError(ValueError):
    """A zip file, or an entry of one, cannot be read."""


def seal(entries: Mapping[str, bytes]) -> bytes:
    """The content of a zip file of ``entries``, none of them packed again, with its seal."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in sorted(entries):
            archive.writestr(zipfile.ZipInfo(name), entries[name])  # a date would make equal contents differ
        archive.comment = bytes(SEAL_LENGTH)
    body = file.getvalue()[:-SEAL_LENGTH]
    return body + _seal_of(body)


def is_whole(content: bytes) -> bool:
    """Whether the seal is there, and is that of all before it."""
    return content[-SEAL_LENGTH:] == _seal_of(memoryview(content)[:-SEAL_LENGTH])


def read_entry(path: Path, name: str) -> bytes:
    """One entry of a zip file; DamagedError where there is none that is right."""
    with path.open("rb") as file, _damage_told(), zipfile.ZipFile(file) as archive:
        return archive.read(name)


def read_entries(content: bytes) -> dict[str, bytes]:
    """All entries of a zip file; DamagedError where one cannot be read."""
    with _damage_told(), zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def damaged_entries(content: bytes) -> list[str]:
    """The names of those entries that cannot be read; DamagedError where the zip itself cannot be."""
    damaged = []
    with _damage_told(), zipfile.ZipFile(io.BytesIO(content)) as archive:
        for name in archive.namelist():
            try:
                with _damage_told():
                    archive.read(name)
            except DamagedError:
                damaged.append(name)
    return damaged


@contextmanager
def _damage_told() -> Iterator[None]:
    # A damaged zip can look encrypted, packed in a way that is not known, or lie anywhere.
    errors = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, KeyError, ValueError, RuntimeError, OverflowError)
    try:
        yield
    except errors as error:
        raise DamagedError(str(error)) from error
    except OSError as error:
        if error.errno != errno.EINVAL:  # a place before the file's beginning
            raise
        raise DamagedError(str(error)) from error


def _seal_of(body: bytes | memoryview) -> bytes:
    return _MARK + xxhash.xxh3_128_hexdigest(body).encode()
