"""Small recordings for the tests, written in every way that spreadsheets and trackers' programs write."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import openpyxl

Rows = list[list[str]]


def text_of(rows: Rows, *, delimiter: str = "\t", end: str = "\n") -> str:
    """Rows as delimited text."""
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter, lineterminator=end).writerows(rows)
    return out.getvalue()


def as_cell(word: str) -> Any:
    """What Excel makes of a word: a number where it is one, nothing where it is empty."""
    try:
        return float(word.replace(",", ".", 1)) if word else None
    except ValueError:
        return word


def xlsx(rows: list[list[Any]], *, before: dict[str, list[list[Any]]] | None = None) -> bytes:
    """A workbook with `rows` on its last sheet."""
    book = openpyxl.Workbook(write_only=True)
    for name, cells in {**(before or {}), "Data": rows}.items():
        sheet = book.create_sheet(name)
        for row in cells:
            sheet.append(row)
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def ods(rows: list[list[Any]]) -> bytes:
    """The least that is an OpenDocument sheet (its specification 1.2, part 1, section 9)."""

    def cell(value: Any) -> str:
        if value is None:
            return "<table:table-cell/>"
        if isinstance(value, float):
            return f'<table:table-cell office:value-type="float" office:value="{value!r}"/>'
        text = f"<text:p>{escape(str(value))}</text:p>"
        return f'<table:table-cell office:value-type="string">{text}</table:table-cell>'

    lines = "".join(f"<table:table-row>{''.join(map(cell, row))}</table:table-row>" for row in rows)
    urn = "urn:oasis:names:tc:opendocument:xmlns:"
    spaces = " ".join(f'xmlns:{name}="{urn}{name}:1.0"' for name in ("office", "table", "text"))
    content = (
        f'<?xml version="1.0" encoding="UTF-8"?><office:document-content {spaces}><office:body><office:spreadsheet>'
        f'<table:table table:name="Data">{lines}</table:table>'
        "</office:spreadsheet></office:body></office:document-content>"
    )
    kind = "application/vnd.oasis.opendocument.spreadsheet"
    manifest = (
        f'<?xml version="1.0"?><manifest:manifest xmlns:manifest="{urn}manifest:1.0">'
        f'<manifest:file-entry manifest:full-path="/" manifest:media-type="{kind}"/></manifest:manifest>'
    )
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("mimetype", kind)
        archive.writestr("content.xml", content)
        archive.writestr("META-INF/manifest.xml", manifest)
    return out.getvalue()


def writer(folder: Path, name: str) -> Callable[[Rows | str | bytes], Path]:
    """A function that writes rows, text or bytes to one file and says where it is."""

    def write(what: Rows | str | bytes) -> Path:
        content = text_of(what) if isinstance(what, list) else what
        path = folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write
