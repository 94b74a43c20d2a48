"""A tree of files becomes a first clips.tsv, by the names of its files: for a person to look through and mend."""

from __future__ import annotations

import csv
import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from smad_features.atomic import written_whole

VIDEOS = {".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv", ".ts", ".3gp", ".mts"}
PICTURES = {".jpg", ".jpeg", ".png", ".bmp"}
RECORDINGS = {".tsv", ".csv", ".txt", ".xlsx", ".xls", ".ods", ".asc", ".gz"}
_OURS = {"clips.tsv", "labels.tsv", "annotations.tsv"}
_SKIPPED = {"results", "logs"}
# What kind of data a file or folder holds, not which clip it is of.
_KINDS = re.compile(
    r"(?:^|(?<=[\W_]))(?:faces?|videos?|webcams?|cam(?:era)?s?|eyes?|gaze|tobii|eyelink|recordings?|et|raw|data|exports?)"
    r"(?=$|[\W_])",
    re.IGNORECASE,
)

# The published release (maqt/release_layout.md of the reference material); all of it can be named otherwise.
RELEASE = {"face": "face/set{fold}/{clip}", "eye": "eye/{clip}.xlsx", "labels": "new_label.xlsx"}
LABEL_COLUMNS = {
    "clip": "ID",
    "emotion": "Emotion",
    "intensity": "Intensity",
    "valence": "Valence",
    "arousal": "Arousal",
}
RELEASE_PARTICIPANT = r"([^_\s]+)"  # `3_film_happy Happy` is of participant 3
# Words that are no names of a class but mean one.
_MEANING = {
    "happy": "happiness", "sad": "sadness", "fearful": "fear", "afraid": "fear", "disgusted": "disgust",
    "surprised": "surprise", "angry": "anger", "calm": "neutral", "neutrality": "neutral",
}  # fmt: skip


class TreeError(ValueError):
    """A tree holds nothing that could be listed; the message says what was looked for."""


@dataclass(frozen=True)
class Index:
    """Rows for clips.tsv and labels.tsv, and what a person should know of them: a sentence each."""

    clips: list[dict[str, Any]]
    labels: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def index_tree(root: Path) -> Index:
    """The clips of an ordinary tree: a video and a recording whose names agree belong together.

    Names are compared without the words that only say what kind of data a file holds (`P01/video/c1_webcam.mp4` and
    `P01/tobii/c1.tsv`). A folder that holds pictures is a video. The participant is the outermost folder that is left,
    else the name up to its first `_`, `-` or blank.

    Raises
    ------
    TreeError
        There is no video and no recording in the tree.
    """
    found: defaultdict[tuple[str, ...], dict[str, list[Path]]] = defaultdict(lambda: {"video": [], "eye": []})
    for kind, path in _files(root):
        found[_key(path.relative_to(root), is_folder=path.is_dir())][kind].append(path)
    if not found:
        raise TreeError(
            f"{root}: no video ({', '.join(sorted(VIDEOS))}, or a folder of pictures) and no recording"
            f" ({', '.join(sorted(RECORDINGS))}) in it"
        )
    rows, notes, ids = [], [], Ids()
    for key, files in sorted(found.items()):
        participant = key[0] if len(key) > 1 else re.split(r"[_\-\s]", key[0], maxsplit=1)[0]
        name = "_".join(key if not key[-1].startswith(key[0]) else key[1:] or key)
        for kind, paths in files.items():
            if len(paths) > 1:
                named = ", ".join(str(path.relative_to(root)) for path in paths)
                notes.append(f"{name}: {len(paths)} files are its {kind}, the first is taken: {named}")
        video, eye = (next(iter(files[kind]), None) for kind in ("video", "eye"))
        source = str((video or eye or root).relative_to(root))
        whose = ids.of(participant, "participant")
        rows.append({"clip": ids.of(name), "participant": whose, "video": video, "eye": eye, "source": source})
    return Index(rows, notes=notes + _unmatched(rows))


def index_release(
    root: Path,
    *,
    emotions: Sequence[str],
    names: Mapping[str, str] = RELEASE,
    columns: Mapping[str, str] = LABEL_COLUMNS,
    participant: str = RELEASE_PARTICIPANT,
    meaning: Mapping[str, str] | None = None,
) -> Index:
    """The clips, folds and labels of the database's own release.

    Parameters
    ----------
    names
        Patterns of a clip's `face` folder, of its `eye` recording, and the path of the table of `labels`, relative to
        the root; ``{clip}`` and ``{fold}`` stand for what is read from them.
    columns
        The label table's own columns. Of several rows of a clip the first counts.
    participant
        Regular expression whose first group, at the beginning of a clip's name, is its participant.
    meaning
        What the table calls an emotion -> its name in ``emotions``, besides the usual adjectives.

    Raises
    ------
    TreeError
        There is no such tree.
    """
    faces = {clip: (path, fold) for path, clip, fold in _matches(root, names["face"])}
    eyes = {clip: path for path, clip, _ in _matches(root, names["eye"])}
    if not faces and not eyes:
        raise TreeError(f"{root}: want folders like {names['face']} and files like {names['eye']}, found neither")
    spelling = {_loose(clip): clip for clip in eyes}
    labels = _read_labels(root / names["labels"], columns) if (root / names["labels"]).is_file() else {}
    label_spelling = {_loose(clip): clip for clip in labels}
    notes, ids = [], Ids()
    rows: list[dict[str, Any]] = []
    label_rows, unknown = [], Counter[str]()
    for clip in sorted(faces.keys() | {c for c in eyes if _loose(c) not in {_loose(f) for f in faces}}):
        video, fold = faces.get(clip, (None, None))
        eye = eyes.get(clip) or eyes.get(spelling.get(_loose(clip), ""))
        match = re.match(participant, clip)
        whose = match[1] if match else clip
        name = ids.of(clip)
        person = ids.of(whose, "participant")
        rows.append({"clip": name, "participant": person, "video": video, "eye": eye, "fold": fold, "source": clip})
        label = labels.get(clip) or labels.get(label_spelling.get(_loose(clip), ""))
        if label is not None:
            emotion = _emotion(label["emotion"], emotions, meaning or {})
            if emotion is None and label["emotion"]:
                unknown[label["emotion"]] += 1
            label_rows.append({**label, "clip": name, "emotion": emotion or ""})
    notes += _unmatched(rows)
    if unknown:
        notes.append(
            "left without an emotion, as the table calls it what the configuration does not: "
            + ", ".join(f"{word!r} ({count} clips)" for word, count in unknown.items())
        )
    known = {_loose(row["source"]) for row in rows}
    spare = [clip for clip in labels if _loose(clip) not in known]
    if spare:
        notes.append(f"{len(spare)} labels of no clip here, the first: {spare[0]!r}")
    unlabelled = len(rows) - len(label_rows)
    if unlabelled:
        notes.append(f"{unlabelled} clips without a label in {names['labels']}")
    notes += _check_folds(rows)
    return Index(rows, label_rows, notes)


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


def _files(root: Path) -> Iterable[tuple[str, Path]]:
    """Every video (file or folder of pictures) and recording below a folder, with its column."""
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(f for f in folders if not f.startswith(".") and f not in _SKIPPED)
        here = Path(folder)
        if any(Path(name).suffix.lower() in PICTURES for name in files) and here != root:
            yield "video", here
        for name in sorted(files):
            suffix = Path(name).suffix.lower()
            if name.startswith(".") or name in _OURS:
                continue
            if suffix in VIDEOS:
                yield "video", here / name
            elif suffix in RECORDINGS:
                yield "eye", here / name


def _key(path: Path, *, is_folder: bool) -> tuple[str, ...]:
    """What is left of a path when the words for kinds of data and the ending are gone."""
    last = path.name if is_folder else path.name.split(".")[0]
    parts = [re.sub(r"^[\W_]+|[\W_]+$", "", _KINDS.sub("", part)) for part in (*path.parent.parts, last)]
    return tuple(part for part in parts if part) or (last,)


def _matches(root: Path, pattern: str) -> list[tuple[Path, str, int | None]]:
    """Paths like the pattern, with their ``{clip}`` and ``{fold}``."""
    expression = re.escape(pattern).replace(r"\{clip\}", r"(?P<clip>[^/]+)").replace(r"\{fold\}", r"(?P<fold>\d+)")
    found = []
    for path in sorted(root.glob(pattern.replace("{clip}", "*").replace("{fold}", "*"))):
        match = re.fullmatch(expression, path.relative_to(root).as_posix())
        if match and not path.name.startswith("."):
            fold = match.groupdict().get("fold")
            found.append((path, match["clip"], None if fold is None else int(fold)))
    return found


def _read_labels(path: Path, columns: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Labels by the clip's name, the first row of each; a workbook or a text table."""
    if path.suffix.lower() in (".tsv", ".csv"):
        with path.open(encoding="utf-8-sig", newline="") as file:
            table: list[list[Any]] = list(csv.reader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ","))
    else:
        from python_calamine import CalamineWorkbook

        table = CalamineWorkbook.from_path(path).get_sheet_by_index(0).to_python()
    header = [str(name).strip() for name in table[0]] if table else []
    absent = [name for name in columns.values() if name not in header]
    if absent:
        raise TreeError(f"{path}: want the columns {', '.join(columns.values())}; {', '.join(absent)} is not there")
    places = {ours: header.index(theirs) for ours, theirs in columns.items()}
    labels: dict[str, dict[str, Any]] = {}
    for cells in table[1:]:
        row = {ours: _plain(cells[place]) for ours, place in places.items()}
        if row["clip"]:
            labels.setdefault(row["clip"], row)
    return labels


def _plain(value: Any) -> str:
    """A cell as text; a workbook has 3.0 for 3."""
    return f"{value:.10g}" if isinstance(value, float) else str(value).strip()


def _emotion(word: str, emotions: Sequence[str], meaning: Mapping[str, str]) -> str | None:
    own = {name.casefold(): name for name in emotions}
    for candidate in (meaning.get(word, word), _MEANING.get(word.casefold(), word)):
        if candidate.casefold() in own:
            return own[candidate.casefold()]
    return None


def _loose(name: str) -> str:
    """A clip's name as people spell it now and then: without regard to case, blanks and ways to write a letter."""
    return re.sub(r"\s+", " ", unicodedata.normalize("NFKC", name)).strip().casefold()


def _unmatched(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    notes = []
    for kind, what in (("video", "video"), ("eye", "eye recording")):
        without = [row["source"] for row in rows if row[kind] is None]
        if without:
            notes.append(f"{len(without)} of {len(rows)} clips have no {what}, the first: {without[0]!r}")
    return notes


def _check_folds(rows: list[dict[str, Any]]) -> list[str]:
    """Folds must not divide a participant, and must be known for all; else they become the column `set`, in place."""
    sets = defaultdict(set)
    for row in rows:
        sets[row["participant"]].add(row["fold"])
    divided = sorted(name for name, folds in sets.items() if len(folds) > 1)
    if not divided and all(row["fold"] is not None for row in rows):
        return []
    for row in rows:
        row["set"] = row.pop("fold")
    why = f"participants stand in several sets ({', '.join(divided[:5])})" if divided else "some clips are in no set"
    return [f"the sets are not taken as folds, as {why}; they stand in the column `set`, and folds will be made anew"]


def _write(path: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as beside, beside.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n", quoting=csv.QUOTE_MINIMAL)
        writer.writerow(columns)
        writer.writerows(["" if row.get(column) is None else row[column] for column in columns] for row in rows)
