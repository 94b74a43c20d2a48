"""A first clips.tsv, and what a person should know of how it was made: for looking through and mending."""

from __future__ import annotations

import csv
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from smad_features.atomic import written_whole

VIDEOS = {".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv", ".ts", ".3gp", ".mts"}
PICTURES = {".jpg", ".jpeg", ".png", ".bmp"}


class TreeError(ValueError):
    """A tree holds nothing that could be listed, or was asked for what it has not; the message says what."""


@dataclass(frozen=True)
class Index:
    """Rows for clips.tsv and labels.tsv, and what a person should know of them: a sentence each."""

    clips: list[dict[str, Any]]
    labels: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def write_index(index: Index, clips: Path, labels: Path | None = None) -> None:
    """Write clips.tsv, and labels.tsv where there are labels; paths become relative to the table's folder.

    Raises
    ------
    FileExistsError
        A table is there already: what a person has mended by hand is not overwritten.
    """
    for path in (clips, labels):
        if path is not None and path.exists():
            raise FileExistsError(f"{path} is there already; move it away, or name another with --output or --labels")
    here = clips.parent.resolve()
    rows = [
        row | {kind: os.path.relpath(row[kind].resolve(), here) for kind in ("video", "eye") if row[kind] is not None}
        for row in index.clips
    ]
    folds = ["fold"] if any(row.get("fold") is not None for row in rows) else []
    sets = ["set"] if any("set" in row for row in rows) else []
    _write(clips, rows, ["clip", "participant", "video", "eye", *folds, *sets, "source"])
    if labels is not None and index.labels:
        _write(labels, index.labels, ["clip", "emotion", "intensity", "valence", "arousal"])


class Ids:
    """Safe ids for any names: the same name has the same one, two names never share one, not even in other case."""

    def __init__(self) -> None:
        self._taken: dict[str, dict[str, str]] = defaultdict(dict)
        self._of: dict[tuple[str, str], str] = {}

    def of(self, name: str, column: str = "clip") -> str:
        """The id of a name in a column: letters without accents, `_` for what is not allowed, 80 of them at most."""
        if (column, name) not in self._of:
            plain = unicodedata.normalize("NFKD", name.replace("ß", "ss")).encode("ascii", "ignore").decode()
            safe = re.sub(r"[^A-Za-z0-9._-]+", "_", plain).lstrip(".").strip("_")[:80] or column
            number, wanted = 1, safe
            while wanted.casefold() in self._taken[column]:
                number += 1
                wanted = f"{safe[: 79 - len(str(number))]}_{number}"
            self._taken[column][wanted.casefold()] = name
            self._of[column, name] = wanted
        return self._of[column, name]


def loose(name: str) -> str:
    """A name as people spell it now and then: without regard to case, blanks and ways to write a letter."""
    return re.sub(r"\s+", " ", unicodedata.normalize("NFKC", name)).strip().casefold()


def some(names: Sequence[str], count: int = 4) -> str:
    """The first of the names, and how many more there are."""
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(repr(name) for name in names[:count]) + more


def participant_pattern(expression: str) -> re.Pattern[str]:
    """The expression whose group 1 is a participant; TreeError where it is none."""
    try:
        pattern = re.compile(expression)
    except re.error as error:
        raise TreeError(f"participant: {expression!r} is no regular expression: {error}") from error
    if not pattern.groups:
        raise TreeError(f"participant: {expression!r} has no group: put what names the participant in parentheses")
    return pattern


def number_participants(rows: Sequence[dict[str, Any]], ids: Ids) -> list[str]:
    """Put ids for the participants' names, in place; a person spelled in several ways is one, and that is said."""
    spellings: defaultdict[str, list[str]] = defaultdict(list)
    for row in rows:
        ways = spellings[loose(row["participant"])]
        if row["participant"] not in ways:
            ways.append(row["participant"])
    for row in rows:
        row["participant"] = ids.of(spellings[loose(row["participant"])][0], "participant")
    several = [ways for ways in spellings.values() if len(ways) > 1]
    return [f"taken for one participant: {some(ways)}" for ways in several]


def matched_notes(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """How many clips have what, and which lack something."""
    both = sum(row["video"] is not None and row["eye"] is not None for row in rows)
    notes = [f"{both} of {len(rows)} clips have a video and an eye recording"]
    for kind, what in (("video", "video"), ("eye", "eye recording")):
        without = [row["source"] for row in rows if row[kind] is None]
        if without:
            notes.append(f"{len(without)} clips have no {what}: {some(without)}")
    return notes


def _write(path: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as beside, beside.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n", quoting=csv.QUOTE_MINIMAL)
        writer.writerow(columns)
        writer.writerows(["" if row.get(column) is None else row[column] for column in columns] for row in rows)
