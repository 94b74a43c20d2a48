"""A recording's file, read once: its bytes, its text, and the tables that it may be."""

from __future__ import annotations

import codecs
import gzip
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from smad_features.recordings.recording import RecordingError
from smad_features.recordings.sheets import SheetTable, is_workbook, read_sheets
from smad_features.recordings.tables import TOP, Table, TextTable, count_words, row_of

DELIMITERS = ("\t", ";", ",")
HEAD = 200
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True)
class Document:
    """A file as the readers of all formats look at it.

    Attributes
    ----------
    path
        Where it lies: for messages. Nothing is told by its name.
    data
        Its content, unpacked where it was a gzip file.
    text
        The same as text: line ends are ``\\n``, no byte order mark, no blank lines at the top. None for a workbook.
    settings
        The choices of the configuration that a reader may need, such as ``columns`` for a table of one's own.
    above
        How many lines of the text stand above its table.
    """

    path: Path
    data: bytes
    text: str | None
    settings: Mapping[str, Any] = field(default_factory=dict)
    above: int = 0

    @cached_property
    def tables(self) -> tuple[Table, ...]:
        """What the file is as a table with a header: its text under each delimiter, or its sheets that hold anything.

        Which of them makes sense is for a reader to say.
        """
        return self.tables_from(self.above)

    def below_titles(self) -> Document:
        """The same file as a table below titles: from that of its first 50 lines which has the most words in its cells.

        In a workbook they are passed over anyway.
        """
        words = [max(count_words(row_of(line, mark)) for mark in DELIMITERS) for line in self.head[:TOP]]
        return replace(self, above=words.index(max(words))) if self.text is not None else self

    @cached_property
    def lines(self) -> list[str]:
        """The lines of the text; none for a workbook."""
        return (self.text or "").split("\n")

    @cached_property
    def head(self) -> list[str]:
        """The first lines of the text, 200 at most: enough to tell a format by, and quick with any file."""
        return (self.text or "").split("\n", HEAD)[:HEAD]

    def tables_from(self, line: int, *, header: bool = True) -> tuple[Table, ...]:
        """The same for a file whose table begins after `line` lines of something else, or has no header.

        Without a header columns are called ``column 1``, ``column 2`` and so on.
        """
        if self.text is None:
            return tuple(table for rows in self._sheets if (table := SheetTable.of(rows, line=line, header=header)))
        rest = self.text.split("\n", line)[line:]
        return tuple(TextTable.of(rest[0], delimiter, line=line, header=header) for delimiter in DELIMITERS if rest)

    @cached_property
    def _sheets(self) -> list[list[list[Any]]]:
        return read_sheets(self.data, path=self.path)


def open_document(path: Path, *, settings: Mapping[str, Any] | None = None) -> Document:
    """Read a file whole, unpack it where it is a gzip file, and decode it where it is text.

    Raises
    ------
    RecordingError
        There is nothing in it, it is packed and damaged, or it is neither text nor a workbook.
    OSError
        It could not be read.
    """
    data = path.read_bytes()
    if data.startswith(_GZIP):
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise RecordingError(path, f"a damaged gzip file: {error}") from error
    text = None if is_workbook(data) else decode(data, path=path)
    return Document(path, data, text, settings or {})


def decode(data: bytes, *, path: Path) -> str:
    """The text of a recording: UTF-8 or UTF-16, with or without a byte order mark, else Windows' Western code page.

    Line ends come out as ``\\n``, and blank lines at the top are gone.

    Raises
    ------
    RecordingError
        There is nothing in the file, or it is no text.
    """
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    elif data[1:2] == b"\0" and data[:1].isascii():
        encoding = "utf-16-le"
    elif data[:1] == b"\0":
        encoding = "utf-16-be"
    else:
        encoding = "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        # An export cut by a crash may end in half a character: that is for the check of its last line to say.
        if error.end >= len(data):
            text = data[: error.start].decode(encoding)
        elif encoding == "utf-8-sig" and b"\0" not in data[:4096]:
            text = data.decode("cp1252", errors="replace")
        else:
            raise RecordingError(path, f"no text: it begins with the bytes {data[:8]!r}") from None
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = text.lstrip("\n")
    if not text.strip():
        raise RecordingError(path, f"an empty file ({len(data)} bytes)")
    return text
