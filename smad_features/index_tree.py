"""The clips of an ordinary tree of files, by their names: what belongs together, and what is left aside."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
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

RECORDINGS = {".tsv", ".csv", ".txt", ".xlsx", ".xls", ".ods", ".asc", ".gz"}
_OURS = {"clips.tsv", "labels.tsv", "annotations.tsv"}
_SKIPPED = {"results", "logs"}
_STIMULI = re.compile(r"(?:^|[\W_])stimul(?:us|i)(?:$|[\W_])", re.IGNORECASE)
# What kind of data a file or folder holds, not which clip it is of.
_KINDS = re.compile(
    r"(?:^|(?<=[\W_]))(?:faces?|videos?|webcams?|cam(?:era)?s?|frames?|images?|eyes?|(?:eye[ _-]?)?track(?:er|ing)|gaze"
    r"|tobii|eyelink|recordings?|et|raw|data|exports?)(?=$|[\W_])",
    re.IGNORECASE,
)


@dataclass
class _Found:
    """Files of a tree, in the order of their names."""

    videos: list[Path] = field(default_factory=list)
    tables: list[Path] = field(default_factory=list)
    stimuli: list[Path] = field(default_factory=list)
    pictures: list[Path] = field(default_factory=list)


def index_tree(root: Path, *, participant: str | None = None, settings: Mapping[str, Any] | None = None) -> Index:
    """The clips of an ordinary tree: a video and a recording whose names agree belong together.

    Names are compared without the words that only say what kind of data a file holds (`P01/video/c1_webcam.mp4` and
    `P01/tobii/c1.tsv`), and without regard to case and to blanks, dashes and underscores. A folder of pictures is a
    video. A table without a video of its name is a clip if a reader of recordings knows it. What lies in a folder of
    stimuli is no clip. Whatever is left aside, and wherever one of several was taken, a note says so.

    Parameters
    ----------
    participant
        Regular expression whose first group, anywhere in a file's path within the tree, is its participant. By default
        that is the outermost folder that is left, else the name up to its first `_`, `-` or blank.
    settings
        The configuration's choices for recordings, such as ``columns``.

    Raises
    ------
    TreeError
        There is no video and no recording in the tree, or a path is without the participant asked for.
    """
    if not root.is_dir():
        raise TreeError(f"{root}: no such folder")
    found = _walk(root)
    notes = []
    clips: defaultdict[str, dict[str, list[Path]]] = defaultdict(lambda: {"video": [], "eye": []})
    for kind, paths in (("video", found.videos), ("eye", found.tables)):
        for path in paths:
            clips[_loosest("/".join(_key(path.relative_to(root))))][kind].append(path)
    strange = []
    for name, files in list(clips.items()):
        if not files["video"] or len(files["eye"]) > 1:
            known = [path for path in files["eye"] if _is_recording(path, settings)]
            if known or not files["video"]:
                strange += [path for path in files["eye"] if path not in known]
                files["eye"] = known
        if not files["video"] and not files["eye"]:
            del clips[name]
    if not clips:
        aside = f"; tables that no reader knows: {_named(strange, root)}" if strange else ""
        raise TreeError(
            f"{root}: no video ({', '.join(sorted(VIDEOS))}, or a folder of pictures) and no recording"
            f" ({', '.join(sorted(RECORDINGS))}) in it{aside}"
        )
    rows, ids = [], Ids()
    pattern = None if participant is None else participant_pattern(participant)
    for files in clips.values():
        video, eye = (next(iter(files[kind]), None) for kind in ("video", "eye"))
        path = (video or eye or root).relative_to(root)
        key = _key(path)
        whose = key[0] if len(key) > 1 else re.split(r"[_\-\s]", key[0], maxsplit=1)[0]
        if pattern is not None:
            match = pattern.search(path.as_posix())
            if match is None or not match[1]:
                raise TreeError(f"{root}: participant: nothing like {participant!r} in {path.as_posix()!r}")
            whose = match[1]
        name = "_".join(key if not key[-1].startswith(key[0]) else key[1:] or key)
        rows.append({"name": name, "participant": whose, "video": video, "eye": eye, "source": path.as_posix()})
    rows.sort(key=lambda row: str(row["source"]))
    spelled = number_participants(rows, ids)
    for row in rows:
        row["clip"] = ids.of(str(row.pop("name")))
    notes += _who(rows, given=participant is not None) + spelled + matched_notes(rows)
    for kind, what in (("video", "videos"), ("eye", "recordings")):
        several = [files[kind] for files in clips.values() if len(files[kind]) > 1]
        if several:
            first = " or ".join(repr(path.relative_to(root).as_posix()) for path in several[0])
            notes.append(f"{len(several)} clips have several {what}, the first is taken; one of them: {first}")
    for paths, why in (
        (strange, "tables are left aside: no reader of recordings knows them, and no video goes by their name"),
        (found.stimuli, "videos are left aside as stimuli: name them in the column `stimulus`"),
        (found.pictures, "folders hold pictures that are no clip's: a single one, or beside videos"),
    ):
        if paths:
            notes.append(f"{len(paths)} {why}: {_named(paths, root)}")
    return Index(rows, notes=notes)


def _walk(root: Path) -> _Found:
    found = _Found()
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(f for f in folders if not f.startswith(".") and f not in _SKIPPED)
        here = Path(folder)
        names = sorted(name for name in files if not name.startswith((".", "~$")) and name not in _OURS)
        suffixes = {name: Path(name).suffix.lower() for name in names}
        videos = [here / name for name in names if suffixes[name] in VIDEOS]
        if any(_STIMULI.search(part) for part in here.relative_to(root).parts):
            found.stimuli += videos
            continue
        pictures = sum(suffix in PICTURES for suffix in suffixes.values())
        if pictures > 1 and not videos and here != root:
            found.videos.append(here)
        elif pictures:
            found.pictures.append(here)
        found.videos += videos
        found.tables += [here / name for name in names if suffixes[name] in RECORDINGS]
    return found


def _key(path: Path) -> tuple[str, ...]:
    """What is left of a path when the words for kinds of data and the endings are gone."""
    last = path.name
    while Path(last).suffix.lower() in VIDEOS | RECORDINGS:
        last = Path(last).stem
    parts = [re.sub(r"^[\W_]+|[\W_]+$", "", _KINDS.sub("", part)) for part in (*path.parent.parts, last)]
    return tuple(part for part in parts if part) or (last,)


def _loosest(name: str) -> str:
    """As `loose`, and any run of blanks, dashes and underscores is one."""
    return re.sub(r"[\s_-]+", "_", loose(name))


def _is_recording(path: Path, settings: Mapping[str, Any] | None) -> bool:
    from smad_features.recordings import READERS, RecordingError
    from smad_features.recordings.document import open_document

    try:
        document = open_document(path, settings=settings)
        return any(reader.recognises(document) for reader in READERS)
    except RecordingError:
        return False


def _who(rows: list[dict[str, Any]], *, given: bool) -> list[str]:
    """Who the participants are, for a person to see at a glance whether that is so."""
    people = list(dict.fromkeys(row["participant"] for row in rows))
    notes = [f"participants: {some(people, 8)}"]
    if given:
        return notes
    if len(people) == 1 and len(rows) > 1:
        hint = "if that is no person, index the folder within, or tell participants by --participant REGEX"
        return [f"all clips are taken for one participant's, {people[0]!r}: {hint}"]
    how = "told by the outermost folder, or the beginning of a name: --participant REGEX tells them otherwise"
    return [f"{notes[0]}; {how}"]


def _named(paths: list[Path], root: Path) -> str:
    return some([path.relative_to(root).as_posix() for path in paths])
