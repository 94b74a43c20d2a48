"""The clips, folds and labels of the database's own release, and what in it does not match."""

from __future__ import annotations

import csv
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from smad_features.index import (
    PICTURES,
    VIDEOS,
    Ids,
    Index,
    TreeError,
    loose,
    matched_notes,
    number_participants,
    participant_pattern,
    some,
)
from smad_features.release_layout import FOLDER, LABEL_COLUMNS, PARTICIPANT, PATHS

# Words that are no names of a class but mean one.
_MEANING = {
    "happy": "happiness", "sad": "sadness", "fearful": "fear", "afraid": "fear", "disgusted": "disgust",
    "surprised": "surprise", "angry": "anger", "calm": "neutral", "neutrality": "neutral",
}  # fmt: skip


def index_release(
    root: Path,
    *,
    emotions: Sequence[str],
    names: Mapping[str, str] = PATHS,
    columns: Mapping[str, str] = LABEL_COLUMNS,
    participant: str = PARTICIPANT,
    meaning: Mapping[str, str] | None = None,
) -> Index:
    """The clips, folds and labels of the release: of its folder, or of the one that holds it.

    A clip's frames, sheet and label belong together when their names agree but for case, blanks and ways to write a
    letter; where more than one would do, the one that is spelled alike is taken, else the first, and a note says so.

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
        There is no such tree, or ``participant`` or ``meaning`` cannot be used.
    """
    pattern = participant_pattern(participant)
    for word, name in (meaning or {}).items():
        if name not in emotions:
            raise TreeError(f"emotion {word!r}: {name!r} is none of the configuration's: {', '.join(emotions)}")
    root = find_release(root, names) or root
    notes: list[str] = []
    faces = _face_folders(root, names["face"], notes)
    eyes = _matches(root, names["eye"])
    if not faces and not eyes:
        raise TreeError(f"{root}: want folders like {names['face']} and files like {names['eye']}, found neither")
    labels = _read_labels(root / names["labels"], columns, notes)
    by_name: defaultdict[str, dict[str, list[Any]]] = defaultdict(lambda: {"video": [], "eye": []})
    for kind, matches in (("video", faces), ("eye", eyes)):
        for match in matches:
            by_name[loose(match[1])][kind].append(match)

    rows: list[dict[str, Any]] = []
    ids = Ids()
    apart: defaultdict[str, list[str]] = defaultdict(list)
    for found in by_name.values():
        clip = (found["video"] or found["eye"])[0][1]
        video, _, fold = found["video"][0] if found["video"] else (None, clip, None)
        sheet = min(found["eye"], key=lambda match: match[1] != clip, default=(None, clip, None))
        for kind, taken in (("video", video), ("eye", sheet[0])):
            spare = [path.relative_to(root).as_posix() for path, *_ in found[kind] if path != taken]
            apart[kind] += spare
        if sheet[1] != clip:
            apart["spelled"].append(sheet[1])
        begins = pattern.match(clip)
        if begins is None:
            apart["own"].append(clip)
        whose = clip if begins is None else begins[1]
        rows.append({"participant": whose, "video": video, "eye": sheet[0], "fold": fold, "source": clip})
    rows.sort(key=lambda row: row["source"])
    notes = matched_notes(rows) + notes + number_participants(rows, ids)
    label_rows, label_notes = _label_clips(rows, labels, ids, emotions=emotions, meaning=meaning or {})
    for paths, why in (
        (apart["video"], "folders of frames of a clip that has another already, left aside"),
        (apart["eye"], "recordings of a clip that has another already, left aside"),
        (apart["spelled"], "recordings are spelled a little otherwise than their clips"),
        (apart["own"], f"clips do not begin with a participant like {participant!r}, each is taken for one of its own"),
    ):
        if paths:
            notes.append(f"{len(paths)} {why}: {some(paths)}")
    if labels is None:
        notes.append(f"there is no {names['labels']}, so there are no labels")
    return Index(rows, label_rows, notes + label_notes + _check_folds(rows))


def find_release(root: Path, names: Mapping[str, str] = PATHS) -> Path | None:
    """The folder that is laid out as a release: this one or the one in it; None where neither is."""
    return next(
        (at for at in (root, root / FOLDER) if any(_matches(at, names[part]) for part in ("face", "eye"))), None
    )


def _label_clips(
    rows: Sequence[dict[str, Any]],
    labels: Mapping[str, Mapping[str, Any]] | None,
    ids: Ids,
    *,
    emotions: Sequence[str],
    meaning: Mapping[str, str],
) -> tuple[list[dict[str, Any]], list[str]]:
    """Give the rows their ids, in place; rows for labels.tsv, and what does not match."""
    spelling: dict[str, str] = {}
    for name in labels or {}:
        spelling.setdefault(loose(name), name)
    made, notes, unknown = [], [], Counter[str]()
    bare = []
    for row in rows:
        clip = row["source"]
        row["clip"] = ids.of(clip)
        label = None if labels is None else labels.get(clip) or labels.get(spelling.get(loose(clip), ""))
        if label is None:
            bare.append(clip)
            continue
        emotion = _emotion(label["emotion"], emotions, meaning)
        if emotion is None and label["emotion"]:
            unknown[label["emotion"]] += 1
        made.append({**label, "clip": row["clip"], "emotion": emotion or ""})
    if unknown:
        words = ", ".join(f"{word!r} ({count} clips)" for word, count in unknown.items())
        notes.append(
            f"left without an emotion, as the table calls it what the configuration does not: {words};"
            " --emotion WORD=NAME says what is meant"
        )
    known = {loose(row["source"]) for row in rows}
    spare = [clip for clip in labels or {} if loose(clip) not in known]
    if spare:
        notes.append(f"{len(spare)} labels of no clip here: {some(spare)}")
    if bare and labels is not None:
        notes.append(f"{len(bare)} clips without a label: {some(bare)}")
    return made, notes


def _matches(root: Path, pattern: str) -> list[tuple[Path, str, int | None]]:
    """Paths like the pattern, with their ``{clip}`` and ``{fold}``; hidden files and Excel's locks are none."""
    expression = re.escape(pattern).replace(r"\{clip\}", r"(?P<clip>[^/]+)").replace(r"\{fold\}", r"(?P<fold>\d+)")
    found = []
    for path in sorted(root.glob(pattern.replace("{clip}", "*").replace("{fold}", "*"))):
        match = re.fullmatch(expression, path.relative_to(root).as_posix())
        if match and not path.name.startswith((".", "~$")):
            fold = match.groupdict().get("fold")
            found.append((path, match["clip"], None if fold is None else int(fold)))
    return found


def _face_folders(root: Path, pattern: str, notes: list[str]) -> list[tuple[Path, str, int | None]]:
    """Folders of frames, or videos; other files among them are none, and folders without a picture are said."""
    found = _matches(root, pattern)
    faces = [match for match in found if match[0].is_dir() or match[0].suffix.lower() in VIDEOS]
    strays = [match[0].relative_to(root).as_posix() for match in found if match not in faces]
    if strays:
        notes.append(f"{len(strays)} files are neither video nor folder of frames, left aside: {some(strays)}")
    bare = [clip for path, clip, _ in faces if path.is_dir() and not _holds_pictures(path)]
    if bare:
        notes.append(f"{len(bare)} folders hold no picture: {some(bare)}")
    return faces


def _holds_pictures(folder: Path) -> bool:
    return any(path.suffix.lower() in PICTURES for path in folder.iterdir())


def _read_labels(path: Path, columns: Mapping[str, str], notes: list[str]) -> dict[str, dict[str, Any]] | None:
    """Labels by the clip's name, the first row of each; a workbook or a text table; None where there is none."""
    if not path.is_file():
        return None
    if path.suffix.lower() in (".tsv", ".csv"):
        with path.open(encoding="utf-8-sig", newline="") as file:
            table: list[list[Any]] = list(csv.reader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ","))
    else:
        from python_calamine import CalamineError, CalamineWorkbook

        try:
            table = CalamineWorkbook.from_path(path).get_sheet_by_index(0).to_python()
        except CalamineError as error:
            raise TreeError(f"{path}: cannot be read as a workbook: {error}") from error
    header = [str(name).strip() for name in table[0]] if table else []
    absent = [name for name in columns.values() if name not in header]
    if absent:
        raise TreeError(f"{path}: want the columns {', '.join(columns.values())}; {', '.join(absent)} is not there")
    places = {ours: header.index(theirs) for ours, theirs in columns.items()}
    labels: dict[str, dict[str, Any]] = {}
    again = []
    for cells in table[1:]:
        row = {ours: _plain(cells[place]) if place < len(cells) else "" for ours, place in places.items()}
        if row["clip"] in labels:
            again.append(row["clip"])
        elif row["clip"]:
            labels[row["clip"]] = row
    if again:
        notes.append(f"{len(again)} labels are second ones of their clips, which do not count: {some(again)}")
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


def _check_folds(rows: list[dict[str, Any]]) -> list[str]:
    """Folds must not divide a participant, and must be known for all; else they become the column `set`, in place."""
    sets: defaultdict[str, set[int]] = defaultdict(set)
    for row in rows:
        sets[row["participant"]] |= {row["fold"]} - {None}
    divided = sorted(name for name, folds in sets.items() if len(folds) > 1)
    if not divided and all(sets.values()):
        without = [row for row in rows if row["fold"] is None]
        for row in without:
            (row["fold"],) = sets[row["participant"]]
        sizes = Counter(row["fold"] for row in rows)
        notes = ["folds as in the sets, clips each: " + ", ".join(f"{fold}: {sizes[fold]}" for fold in sorted(sizes))]
        if without:
            names = some([row["source"] for row in without])
            notes.append(f"{len(without)} clips without frames are put into their participant's set: {names}")
        return notes
    for row in rows:
        row["set"] = row.pop("fold")
    why = (
        f"participants stand in several sets ({', '.join(divided[:5])})"
        if divided
        else "some participants are in no set"
    )
    return [f"the sets are not taken as folds, as {why}; they stand in the column `set`, and folds will be made anew"]
