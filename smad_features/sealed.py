"""A zip file that ends with the checksum of every byte before it, and is the same for the same content.

The checksums inside a zip guard what its entries hold, but no name, date or flag beside them.
"""

from __future__ import annotations

import errno
import io
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import xxhash

_END = struct.Struct("<4s4H2LH")  # the record at the end of a zip, before its comment
_LISTED = b"PK\1\2\x14\3\x14\0\0\0\0\0"  # how the directory's line of an entry begins that `seal` wrote
_TAIL = 1 << 16  # bytes: the directory, and what a unit says of itself before it, in one reading
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
    with path.open("rb") as file, _damage_told():
        found = _read_sealed(file, name.encode())
        if found is not None:
            return found
        with zipfile.ZipFile(file) as archive:
            return archive.read(name)


def _read_sealed(file: BinaryIO, name: bytes) -> bytes | None:
    """One entry of a file as `seal` writes it; None where it is not just so: zipfile tells what it is then.

    A plan asks 20,000 units what they say of themselves, and zipfile makes an object of each entry of each.
    """
    size = file.seek(0, os.SEEK_END)
    first = file.seek(max(0, size - _TAIL))
    tail = file.read()
    end = len(tail) - SEAL_LENGTH - _END.size
    if end < 0:
        return None
    mark, *disks, count, length, start, comment = _END.unpack_from(tail, end)
    if (
        (mark, comment, start + length) != (b"PK\5\6", SEAL_LENGTH, first + end)
        or disks != [0, 0, count]
        or start < first
    ):
        return None
    place, found = start - first, None
    for _ in range(count):
        if not tail.startswith(_LISTED, place):
            return None
        checksum, _, length, *more = struct.unpack_from("<3L3H", tail, place + 16)
        if more[0] == len(name) and tail.startswith(name, place + 46):
            found = (checksum, length, *struct.unpack_from("<L", tail, place + 42))
        place += 46 + sum(more)
    if place != end or found is None:
        return None
    checksum, length, start = found
    wanted = 30 + len(name) + length  # `seal` gives no entry an extra field
    if start >= first:
        entry = tail[start - first : start - first + wanted]
    else:
        file.seek(start)
        entry = file.read(wanted)
    head = entry[: 30 + len(name)]
    if head[:4] != b"PK\3\4" or head[26:] != struct.pack("<2H", len(name), 0) + name:
        return None
    content = entry[len(head) :]
    return content if len(content) == length and zlib.crc32(content) == checksum else None


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
