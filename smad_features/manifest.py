"""Tables in: clips.tsv and its labels, read and checked before any work begins.

Read with the csv module, row by row: the workflow reads these tables each time it starts, and half a second of
importing a larger library would be felt on every "nothing to be done".
"""

from __future__ import annotations

import csv
import math
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from smad_features.config import load_schema

_LABELS = ("emotion", "intensity", "valence", "arousal")


class TableError(ValueError):
    """A table cannot be used; the message names the row, the column, the value and what is allowed."""


@dataclass(frozen=True, slots=True)
class Clip:
    """One row of clips.tsv. Paths are absolute; None = the modality is missing; times in seconds."""

    clip: str
    participant: str
    video: Path | None = None
    eye: Path | None = None
    stimulus: Path | None = None
    start: float | None = None
    end: float | None = None
    fold: int | None = None


def read_clips(path: Path) -> list[Clip]:
    """All clips of a table, in the cache's order: by participant, then clip.

    Raises
    ------
    TableError
        No table, a missing column, a cell that is not allowed, a clip id that stands twice, an end before its start,
        two ids or participants that differ only in case (their files would collide on some file systems).
    """
    clips: dict[str, Clip] = {}
    rows: dict[str, int] = {}
    spelling: dict[tuple[str, str], tuple[str, int]] = {}
    here = os.path.abspath(path.parent)  # noqa: PTH100
    for line, row in _read_rows(path, "clips"):
        name = row["clip"]
        if name in clips:
            raise TableError(f"{path}, row {line}: column `clip`: {name!r} stands in row {rows[name]} already")
        for column in ("clip", "participant"):
            folded = (column, row[column].casefold())
            first, where = spelling.setdefault(folded, (row[column], line))
            if first != row[column]:
                raise TableError(
                    f"{path}, row {line}: column `{column}`: {row[column]!r} differs only in case from {first!r}"
                    f" of row {where}"
                )
        start, end = row.get("start"), row.get("end")
        if start is not None and start < 0:
            raise TableError(
                f"{path}, row {line}: column `start`: {start} is before the video's first frame, want >= 0"
            )
        if end is not None and end <= (start or 0.0):
            raise TableError(f"{path}, row {line}: column `end`: {end} is not after the start, {start or 0.0}")
        files = {
            # Not resolve(): it fails on a link to itself, and one bad cell must not stop the run.
            column: Path(os.path.normpath(os.path.join(here, row[column]))) if row.get(column) else None  # noqa: PTH118
            for column in ("video", "eye", "stimulus")
        }
        clips[name] = Clip(name, row["participant"], **files, start=start, end=end, fold=row.get("fold"))
        rows[name] = line
    if not clips:
        raise TableError(f"{path}: holds no clips, only a header")
    return sorted(clips.values(), key=lambda clip: (clip.participant, clip.clip))


def read_labels(path: Path, *, emotions: list[str], clips: set[str]) -> dict[str, dict[str, Any]]:
    """Labels by clip: emotion (a name), intensity in [0, 3], valence and arousal in [-1, 1]; None = unlabelled.

    Raises
    ------
    TableError
        As `read_clips`; also an emotion that the configuration does not know. Labels of clips that the table of
        clips does not hold are allowed: a label table may serve several selections of clips.
    """
    labels: dict[str, dict[str, Any]] = {}
    rows: dict[str, int] = {}
    for line, row in _read_rows(path, "labels"):
        name = row["clip"]
        if name in labels:
            raise TableError(f"{path}, row {line}: column `clip`: {name!r} stands in row {rows[name]} already")
        _check_emotion(path, line, row["emotion"], emotions)
        labels[name] = {column: row[column] for column in _LABELS}
        rows[name] = line
    if labels and not clips & labels.keys():
        raise TableError(
            f"{path}: none of its {len(labels)} clips stands in the table of clips; first here: {next(iter(labels))!r},"
            f" first there: {min(clips)!r}"
        )
    return labels


def read_annotations(path: Path, *, emotions: list[str], clips: set[str]) -> list[list[Any]]:
    """The annotations of these clips, a row each, in the order of the schema's columns.

    Raises
    ------
    TableError
        A row is not allowed, stands twice for its clip and annotator, is the second self-report of its clip, or gives
        its annotator another kind than a row above; or no row is of these clips.
    """
    seen: dict[tuple[str, str], int] = {}
    reported: dict[str, int] = {}
    kinds: dict[str, tuple[str, int]] = {}
    rows = []
    for line, row in _read_rows(path, "annotations"):
        pair = (row["clip"], row["annotator"])
        if pair in seen:
            raise TableError(
                f"{path}, row {line}: clip {pair[0]!r}, annotator {pair[1]!r} stand in row {seen[pair]} already"
            )
        seen[pair] = line
        _check_emotion(path, line, row["emotion"], emotions)
        if row["kind"] == "participant":
            if reported.setdefault(row["clip"], line) != line:
                raise TableError(
                    f"{path}, row {line}: column `kind`: clip {row['clip']!r} has its participant's annotation in row"
                    f" {reported[row['clip']]} already; others are experts"
                )
        else:
            kind, above = kinds.setdefault(row["annotator"], (row["kind"], line))
            if kind != row["kind"]:
                raise TableError(
                    f"{path}, row {line}: column `kind`: annotator {row['annotator']!r} is of kind {kind} in row"
                    f" {above}, of kind {row['kind']} here"
                )
            if row["annotator"] == "participant":
                raise TableError(
                    f"{path}, row {line}: column `annotator`: 'participant' stands for all self-reports in what comes"
                    f" out; no {row['kind']} can be called so"
                )
        if row["clip"] in clips:
            rows.append([row[column] for column in ("clip", "annotator", "kind", *_LABELS)])
    if seen and not rows:
        raise TableError(
            f"{path}: none of its {len({clip for clip, _ in seen})} clips stands in the table of clips; first here:"
            f" {next(iter(seen))[0]!r}, first there: {min(clips)!r}"
        )
    return rows


def check_clips(clips: list[Clip], config: dict[str, Any]) -> None:
    """Raise TableError where the table of clips contradicts itself or the configuration."""
    table = config["clips"]
    if config["on_bad_clip"] == "fail":
        for clip in clips:
            for column in ("video", "eye", "stimulus"):
                path = getattr(clip, column)
                if path is not None and not path.exists():
                    raise TableError(f"{table}: clip {clip.clip}: column `{column}`: no such file: {path}")
    unknown = [name for name in config["score"]["polarity"] or {} if name not in config["emotions"]]
    if unknown:
        raise TableError(f"`score.polarity`: {unknown[0]!r} is none of `emotions`: {', '.join(config['emotions'])}")
    folded = [clip for clip in clips if clip.fold is not None]
    if folded and len(folded) < len(clips):
        bare = next(clip for clip in clips if clip.fold is None)
        raise TableError(
            f"{table}: column `fold`: filled for {len(folded)} of {len(clips)} clips; empty for {bare.clip}"
        )
    fold_of: dict[str, int | None] = {}
    for clip in folded:
        if fold_of.setdefault(clip.participant, clip.fold) != clip.fold:
            raise TableError(
                f"{table}: column `fold`: participant {clip.participant} stands in folds {fold_of[clip.participant]}"
                f" and {clip.fold} (clip {clip.clip}); want one fold a participant"
            )
        if (clip.fold or 0) > config["folds"]["count"]:
            raise TableError(
                f"{table}: clip {clip.clip}: column `fold`: {clip.fold} is above `folds.count`,"
                f" {config['folds']['count']}"
            )
    if "stimulus" in config["folds"]["disjoint"]:
        _check_stimuli(clips, table)


def _check_stimuli(clips: list[Clip], table: str) -> None:
    """Raise TableError where folds that are to share no stimulus cannot be had."""
    watched = [clip for clip in clips if clip.stimulus is not None]
    if not watched:
        raise TableError(f"{table}: no clip names a stimulus, while `folds.disjoint` asks for folds that share none")
    first: dict[Path | None, Clip] = {}
    for clip in watched:
        other = first.setdefault(clip.stimulus, clip)
        if other.fold != clip.fold:
            raise TableError(
                f"{table}: column `fold`: clips {other.clip} and {clip.clip} show the same stimulus in folds"
                f" {other.fold} and {clip.fold}, while `folds.disjoint` asks for folds that share none"
            )


def read_targets(clips: list[Clip], config: dict[str, Any]) -> dict[str, dict[str, list[Any]]]:
    """The labels of these clips by task: what each is trained on and scored by. Only features do without.

    Raises
    ------
    TableError
        As `read_labels`; or the configuration asks for a benchmark that cannot be.
    """
    if config["checkpoints"] != "train" and any(clip.fold is None for clip in clips):
        raise TableError(
            f"{config['clips']}: `checkpoints: {config['checkpoints']}` needs a column `fold`: only the folds that the"
            " checkpoints were trained on tell which clips they have not seen"
        )
    if config["checkpoints"] == "train" and config["labels"] is None:
        raise TableError(
            "`labels: null` leaves nothing to train on: name a table of labels, or a folder of checkpoints"
        )
    ids = {clip.clip for clip in clips}
    if config["annotations"] is not None:
        read_annotations(Path(config["annotations"]), emotions=config["emotions"], clips=ids)
    labels = {}
    if config["labels"] is not None:
        labels = read_labels(Path(config["labels"]), emotions=config["emotions"], clips=ids)
    if config["checkpoints"] != "train":
        for task in config["tasks"]:
            for fold in range(1, config["folds"]["count"] + 1):
                file = Path(config["checkpoints"]) / task / f"fold{fold}.safetensors"
                if not file.is_file():
                    raise TableError(f"`checkpoints: {config['checkpoints']}`: no such file: {file}")
    # Intensity is learned together with the emotion.
    columns = {task: ("emotion", "intensity") if task == "intensity" else (task,) for task in config["tasks"]}
    targets = {}
    for task in config["tasks"]:
        rows = {clip: [labels[clip][column] for column in columns[task]] for clip in sorted(ids & labels.keys())}
        targets[task] = {clip: row for clip, row in rows.items() if any(value is not None for value in row)}
        if config["checkpoints"] == "train" and all(None in row for row in targets[task].values()):
            raise TableError(
                f"{config['labels']}: no clip of the table has a value in"
                f" {' and '.join(f'`{column}`' for column in columns[task])}; fill some, or take {task} out of `tasks`"
            )
    return targets


def _check_emotion(path: Path, line: int, emotion: str | None, emotions: list[str]) -> None:
    if emotion is not None and emotion not in emotions:
        raise TableError(
            f"{path}, row {line}: column `emotion`: {emotion!r} is not one of the configuration's emotions:"
            f" {', '.join(emotions)}"
        )


def _read_rows(path: Path, schema_name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number and typed cells of each row; columns that the schema does not know are passed over."""
    schema = load_schema(schema_name)
    properties = schema["properties"]
    validator = Draft202012Validator(schema)
    is_plain = {column: _plain_check(rule) for column, rule in properties.items()}
    try:
        file = path.open(encoding="utf-8-sig", newline="")
    except FileNotFoundError:
        raise TableError(
            f"{path}: no such file; want a table with the columns {', '.join(schema['required'])}: see config/README.md"
        ) from None
    except OSError as refusal:
        raise TableError(f"{path}: {refusal.strerror}") from None
    with file:
        reader = csv.reader(file, delimiter="\t", strict=True)
        try:
            header = next(reader, None)
            if not header:
                raise TableError(f"{path}: empty; want a header with the columns {', '.join(schema['required'])}")
            _check_header(path, header, schema)
            above = reader.line_num
            for cells in reader:
                line = reader.line_num
                if line != above + 1:  # an open quote would take the rows below for its cell's text
                    raise TableError(f"{path}, rows {above + 1} to {line}: a cell's quote is open over several lines")
                above = line
                if not any(cells):
                    continue
                if len(cells) != len(header):
                    raise TableError(
                        f"{path}, row {line}: want {len(header)} cells as in the header, found {len(cells)}"
                    )
                row = {
                    column: _typed(path, line, column, cell.strip(), properties[column])
                    for column, cell in zip(header, cells, strict=True)
                    if column in properties
                }
                if not all(is_plain[column](value) for column, value in row.items()):
                    error = next(validator.iter_errors(row), None)
                else:  # the validator would take two thirds of the time that 100,000 rows take
                    error = None
                if error is not None:
                    column = error.absolute_path[0]
                    raise TableError(
                        f"{path}, row {line}: column `{column}`: {row[column]!r} is not allowed:"
                        f" {_allowed(properties[column])}"
                    )
                yield line, row
        except UnicodeDecodeError as error:
            raise TableError(f"{path}: not UTF-8 text: {error}") from None
        except csv.Error as error:
            raise TableError(f"{path}, row {reader.line_num}: not a table: {error}") from None


def _check_header(path: Path, header: list[str], schema: dict[str, Any]) -> None:
    twice = sorted({column for column in header if header.count(column) > 1})
    if twice:
        raise TableError(f"{path}: column `{twice[0]}` stands twice in the header")
    for column in header:
        meant = column.strip().lower()
        # Passed over as a column of the user's own, `Video` would leave every clip without one.
        if meant != column and meant in schema["properties"]:
            raise TableError(f"{path}: column {column!r}: want it spelt `{meant}`")
    for column in schema["required"]:
        if column not in header:
            comma = "; is it separated by commas? want tabs" if len(header) == 1 and "," in header[0] else ""
            raise TableError(f"{path}: column `{column}` is missing; found: {', '.join(header)}{comma}")


def _typed(path: Path, line: int, column: str, cell: str, rule: dict[str, Any]) -> Any:
    """The cell as its schema's type; an empty cell of a column that may be null is None."""
    types = rule.get("type", "string")
    nullable = isinstance(types, list) and "null" in types
    if cell == "" and nullable:
        return None
    kind = next(t for t in types if t != "null") if isinstance(types, list) else types
    if kind not in ("number", "integer"):
        return cell
    try:
        number = int(cell) if kind == "integer" else float(cell)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise TableError(f"{path}, row {line}: column `{column}`: {cell!r} is not allowed: {_allowed(rule)}")
    return number


def _plain_check(rule: dict[str, Any]) -> Callable[[Any], bool]:
    """Whether a cell, typed by this rule, is certainly allowed by it; where it is not, the validator is to be asked."""
    if rule.keys() - {"type", "enum", "pattern", "minLength", "minimum", "maximum", "description"}:
        return lambda value: False  # what this function knows nothing of
    types = rule.get("type", [])
    is_nullable = "type" not in rule or "null" in types  # `_typed` has seen to the type of any other value
    among, shape = rule.get("enum"), re.compile(rule.get("pattern", ""))
    shortest, low, high = rule.get("minLength", 0), rule.get("minimum", -math.inf), rule.get("maximum", math.inf)

    def is_plain(value: Any) -> bool:
        if among is not None and value not in among:
            return False
        if value is None:
            return is_nullable
        if isinstance(value, str):
            return len(value) >= shortest and shape.search(value) is not None
        return bool(low <= value <= high)

    return is_plain


def _allowed(rule: dict[str, Any]) -> str:
    """What a cell may hold, in words."""
    if "enum" in rule:
        return "want one of " + ", ".join(rule["enum"])
    if "pattern" in rule:
        return "want 1 to 80 of A-Z a-z 0-9 . _ -, and no leading dot"
    types = rule.get("type", "string")
    names = [{"number": "a number", "integer": "a whole number", "null": "an empty cell", "string": "text"}[t] for t in
             (types if isinstance(types, list) else [types])]  # fmt: skip
    low, high = rule.get("minimum"), rule.get("maximum")
    span = f" from {low} to {high}" if high is not None else f" of at least {low}" if low is not None else ""
    return "want " + " or ".join([names[0] + span, *names[1:]])
