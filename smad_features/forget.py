"""Erase one participant from what was made: the raw files and tables in are the user's own and stay."""

from __future__ import annotations

import csv
import re
import shutil
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from smad_features.atomic import writing, written_whole
from smad_features.manifest import Clip
from smad_features.remains import Person, Remain, count_rows, find_person, find_remains
from smad_features.remains_away import look_away, name_versioned, remove_away
from smad_features.turns import hold_lock, wait_for_jobs


class ForgetError(ValueError):
    """A participant cannot be forgotten; the message says why."""


def forget(
    participant: str, clips: Sequence[Clip], config: dict[str, Any], *, database: Path, is_dry: bool
) -> list[str]:
    """Erase a participant from the working directory, and say what was done, a line each.

    Parameters
    ----------
    clips
        All clips of the table of clips.
    database
        The memory of fingerprints.
    is_dry
        Only say what would be done.

    Raises
    ------
    ForgetError
        The table of clips still has the participant, or it is none.
    BlockingIOError
        A run of the workflow is at work here.
    StorageError
        Something may not be removed, or an object store cannot be looked into: then nothing is removed.
    """
    if own := [clip.clip for clip in clips if clip.participant == participant]:
        raise ForgetError(
            f"{config['clips']}: participant {participant} stands there with {len(own)} clips, the first of them"
            f" {own[0]}: take these rows out first"
        )
    if not re.fullmatch(r"(?!\.)[A-Za-z0-9._-]{1,80}", participant):  # it becomes part of paths
        raise ForgetError(f"{participant!r} is no participant: want 1 to 80 of A-Z a-z 0-9 . _ -, and no leading dot")
    with ExitStack() as locks:
        for lock in () if is_dry else ("lock", "pack.lock"):
            locks.enter_context(hold_lock(database.with_name(lock)))
        if not is_dry:
            wait_for_jobs(database.with_name("jobs.lock"))
        away = look_away(Path("results"), config["cache"]["store"])
        person = find_person(participant, listed={clip.clip for clip in clips}, away=away)
        given = None if config["checkpoints"] == "train" else Path(config["checkpoints"])
        remains = find_remains(person, checkpoints=given, away=away)
        versioned = name_versioned([str(remain.path) for remain in remains if str(remain.path) in away.stores])
        remembered = count_unlisted(database, clips) if remains else 0
        if not is_dry:
            if remembered:
                forget_unlisted(database, clips)
            erase(remains, person)
    done = "would be removed" if is_dry else "removed"
    said = [f"{remain.path}: {done}: {remain.what}" for remain in remains if remain.kind != "checkpoint"]
    if remembered:
        said.append(f"{database}: {done}: {remembered} files that the table does not name")
    said += versioned + away.notes
    said += [
        f"{remain.path}: was trained on {participant} ({remain.what}), and is left to you"
        for remain in remains
        if remain.kind == "checkpoint"
    ]
    for table in (config["labels"], config["annotations"]):
        if table is not None and (rows := count_rows(Path(table), person)):
            said.append(f"{table}: {rows} rows are of these clips: they are yours, as the raw files are, and stay")
    if not remains:
        return [*said, f"there is nothing of a participant {participant} here"]
    then = "run without --dry-run to do so" if is_dry else "run the workflow again to go on without them"
    return [*said, f"participant {participant}, {len(person.clips)} clips: {then}"]


def erase(remains: Sequence[Remain], person: Person) -> None:
    """Remove what was found, in its order, but for checkpoints.

    Raises
    ------
    StorageError
        Something may not be removed; the message names it, and what comes after it stays, too.
    """
    for remain in remains:
        if isinstance(remain.path, str):
            remove_away(remain.path)
            continue
        with writing(remain.path):
            if remain.kind == "rows":
                _remove_rows(remain.path, person)
            elif remain.path.is_dir() and not remain.path.is_symlink():
                shutil.rmtree(remain.path)
            elif remain.kind != "checkpoint":
                remain.path.unlink(missing_ok=True)


def count_unlisted(database: Path, clips: Iterable[Clip]) -> int:
    """How many files are remembered that no clip of the table names: a person's, once the rows are gone."""
    return 0 if not database.exists() else len(_divide(database, clips)[1])


def forget_unlisted(database: Path, clips: Iterable[Clip]) -> None:
    """Write the memory of fingerprints anew without those files: rows that SQLite deletes stay readable in the file."""
    kept, dropped = _divide(database, clips)
    for path in (database.with_name(f"{database.name}{tail}") for tail in ("-journal", "-wal", "-shm")):
        path.unlink(missing_ok=True)
    if not dropped:
        return
    with written_whole(database) as beside, closing(sqlite3.connect(beside)) as memory, memory:
        memory.execute("CREATE TABLE content (path TEXT PRIMARY KEY, stat TEXT, digest TEXT)")
        memory.executemany("INSERT INTO content VALUES (?, ?, ?)", kept)


def _divide(database: Path, clips: Iterable[Clip]) -> tuple[list[tuple[str, str, str]], list[tuple[str, str, str]]]:
    """The rows of files that a clip names, or that lie in a folder that one names; and the others."""
    listed = {str(path) for clip in clips for path in (clip.video, clip.eye, clip.stimulus) if path is not None}
    try:
        with closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True, timeout=30)) as memory:
            rows = memory.execute("SELECT path, stat, digest FROM content").fetchall()
    except sqlite3.DatabaseError:  # damaged: none of it is of use
        return [], [("", "", "")]
    kept = [row for row in rows if row[0] in listed or any(str(parent) in listed for parent in Path(row[0]).parents)]
    return kept, [row for row in rows if row not in set(kept)]


def _remove_rows(table: Path, person: Person) -> None:
    with table.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file, dialect="excel-tab", restval="")
        columns = reader.fieldnames or []
        rows = [row for row in reader if not person.owns(row)]
    with written_whole(table) as beside, beside.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, dialect="excel-tab", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
