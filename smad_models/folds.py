"""Folds that keep every participant on one side, made once and then kept: they define the benchmark."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from smad_models.stimuli import check_stimuli, join_by_stimulus

COLUMNS = ("clip", "participant", "fold")


class Row(NamedTuple):
    """One clip's place: the fold (1..K) in which it is tested, and never trained on."""

    clip: str
    participant: str
    fold: int


def check_disjoint(folds: Iterable[tuple[str, str, int]]) -> dict[str, int]:
    """The fold of each participant; the guard against leaks that training and scoring call.

    Parameters
    ----------
    folds
        (clip, participant, fold), a clip a row.

    Raises
    ------
    ValueError
        A participant is in two folds, or a clip is listed twice; the message names both.
    """
    first: dict[str, tuple[str, int]] = {}
    seen: set[str] = set()
    for clip, participant, fold in folds:
        if clip in seen:
            raise ValueError(f"clip {clip}: listed twice in the folds")
        seen.add(clip)
        other, home = first.setdefault(participant, (clip, fold))
        if fold != home:
            raise ValueError(
                f"participant {participant}: in two folds, {home} (clip {other}) and {fold} (clip {clip}): "
                "the model would be tested on a face that it was trained on"
            )
    return {participant: fold for participant, (_, fold) in first.items()}


def digest_folds(folds: Iterable[tuple[str, str, int]]) -> str:
    """The sha256 of who is tested in which fold, whatever the order of rows: what predictions record of their folds."""
    return hashlib.sha256(json.dumps(sorted(map(list, folds))).encode()).hexdigest()


def make_folds(
    clips: Sequence[tuple[str, str]],
    *,
    count: int,
    seed: int,
    given: Mapping[str, str] | None = None,
    previous: Mapping[str, int] | None = None,
    emotions_of: Mapping[str, str] | None = None,
    stimulus_of: Mapping[str, str] | None = None,
) -> list[Row]:
    """Each clip's fold: the given one, else the one its participant had, else a balanced one.

    Parameters
    ----------
    clips
        (clip, participant) of the clips that take part.
    count
        K, the number of folds.
    seed
        Decides between equally good first divisions; without effect on given and previous folds.
    given
        The table's own fold of each clip, as text; empty or None where it says nothing.
    previous
        The fold that each participant had. Those still here keep it, new ones join the smallest fold.
    emotions_of
        The emotion of each labelled clip, read only when folds are made anew.
    stimulus_of
        The stimulus of each clip that names one: none may stand in two folds then, so that participants who share one,
        also by way of others, stay together. None = folds may share stimuli.

    Returns
    -------
    list of Row
        Sorted by participant, then clip.

    Raises
    ------
    ValueError
        Fewer participants than folds, a fold without participants, or given folds that are incomplete, out of
        range or split a participant; or stimuli that leave too few groups of participants, or are split.
    """
    participants = sorted({participant for _, participant in clips})
    if len(participants) < count:
        raise ValueError(
            f"folds: {len(participants)} participants cannot fill {count} folds: "
            "lower `folds.count` or add participants"
        )
    own = _given_folds(clips, given or {}, count=count)
    sizes = Counter(participant for _, participant in clips)
    group_of = join_by_stimulus(clips, stimulus_of or {})
    if own:
        home = check_disjoint((clip, participant, own[clip]) for clip, participant in clips)
    elif previous:
        home = _keep(sizes, previous, group_of, count=count)
    else:
        groups = len(set(group_of.values()))
        if groups < count:
            raise ValueError(
                f"folds: `folds.disjoint` asks for folds that share no stimulus, but {len(participants)} participants "
                f"make {groups} groups that share none, too few for {count} folds: lower `folds.count`, or take "
                "`stimulus` out of `folds.disjoint`"
            )
        balanced = _balance([(clip, group_of[who]) for clip, who in clips], emotions_of or {}, count=count, seed=seed)
        home = {participant: balanced[group] for participant, group in group_of.items()}
    empty = sorted(set(range(1, count + 1)) - set(home.values()))
    if empty:
        advice = "fill it in the table's `fold` column" if own else "make folds anew with `smad-models folds --renew`"
        raise ValueError(f"fold {empty[0]} of {count}: has no participant: {advice} or change `folds.count`")
    rows = [Row(clip, participant, home[participant]) for clip, participant in clips]
    check_disjoint(rows)
    try:
        check_stimuli(rows, stimulus_of or {})
    except ValueError as error:
        advice = "mend the table's `fold` column" if own else "make folds anew with `smad-models folds --renew`"
        raise ValueError(f"{error}: {advice}") from None
    return sorted(rows, key=lambda row: (row.participant, row.clip))


def _given_folds(clips: Sequence[tuple[str, str]], given: Mapping[str, str], *, count: int) -> dict[str, int]:
    texts = {clip: (given.get(clip) or "").strip() for clip, _ in clips}
    if not any(texts.values()):
        return {}
    folds = {}
    for clip, participant in clips:
        text = texts[clip]
        where = f"clip {clip} (participant {participant}): fold"
        if not text:
            raise ValueError(f"{where}: empty, while other clips have one: fill the column for all clips or for none")
        if not (text.isascii() and text.isdigit() and 1 <= int(text) <= count):
            raise ValueError(f"{where}: want a whole number from 1 to {count}, got {text!r}")
        folds[clip] = int(text)
    return folds


def _keep(
    sizes: Mapping[str, int], previous: Mapping[str, int], group_of: Mapping[str, str], *, count: int
) -> dict[str, int]:
    for participant, fold in previous.items():
        if not 1 <= fold <= count:
            raise ValueError(
                f"participant {participant}: kept in fold {fold}, but `folds.count` is {count}: "
                "make folds anew with `smad-models folds --renew`"
            )
    home = {participant: previous[participant] for participant in sizes if participant in previous}
    load = dict.fromkeys(range(1, count + 1), 0)
    for participant, fold in home.items():
        load[fold] += sizes[participant]
    beside = {group_of[participant]: fold for participant, fold in home.items()}
    for participant in sorted(set(sizes) - set(home)):
        smallest = min(load, key=lambda fold: (load[fold], fold))
        # Of those who share a stimulus the first decides; a split that was there before is refused later.
        home[participant] = beside.setdefault(group_of[participant], smallest)
        load[home[participant]] += sizes[participant]
    return home


def _balance(
    clips: Sequence[tuple[str, str]], emotions_of: Mapping[str, str], *, count: int, seed: int
) -> dict[str, int]:
    """Greedy: the largest participant first, each into the fold that already holds least of what they bring.

    Least is by the product of the fold's and the participant's shares of each emotion: choosing its minimum keeps
    the sum of squared shares smallest, so a rare emotion weighs as much as a common one.
    """
    participants = sorted({participant for _, participant in clips})
    emotions = sorted({emotions_of.get(clip, "") for clip, _ in clips} - {""})
    bring = np.zeros((len(participants), len(emotions) + 1))  # the last column counts all clips, labelled or not
    row = {participant: index for index, participant in enumerate(participants)}
    column = {emotion: index for index, emotion in enumerate(emotions)}
    for clip, participant in clips:
        bring[row[participant], -1] += 1
        if emotions_of.get(clip):
            bring[row[participant], column[emotions_of[clip]]] += 1
    shares = bring / bring.sum(axis=0)

    shuffled = np.random.default_rng(seed).permutation(len(participants))
    order = shuffled[np.argsort(-bring[shuffled, -1], kind="stable")]
    load = np.zeros((count, shares.shape[1]))
    home = {}
    for index in order:
        # Rounded, so that the last bit of a sum decides no tie. An empty fold's product is 0 and any other's is not,
        # as all share the last column: so none stays empty.
        best = min(range(count), key=lambda fold: (round(float(load[fold] @ shares[index]), 12), load[fold, -1], fold))
        load[best] += shares[index]
        home[participants[index]] = best + 1
    return home


def read_folds(path: Path) -> list[Row]:
    """The rows of a folds table; ValueError, naming file and row, where one cannot be read or two contradict."""
    rows = []
    for number, line in enumerate(read_table(path, needed=COLUMNS), start=2):
        if not (line["fold"].isascii() and line["fold"].isdigit()):
            raise ValueError(f"{path}: row {number}: clip {line['clip']}: fold: want a number, got {line['fold']!r}")
        rows.append(Row(line["clip"], line["participant"], int(line["fold"])))
    check_disjoint(rows)
    return rows


def update_folds(
    *,
    manifest: Path,
    labels: Path | None,
    output: Path,
    count: int,
    seed: int,
    memory: Path | None = None,
    renew: bool = False,
    stimuli: Path | None = None,
) -> list[Row]:
    """Bring the folds table up to date with the manifest, moving nobody who is already in it.

    Parameters
    ----------
    manifest
        The clips with their `status`; only those that are `ok` take part. Its own `fold` column wins where filled.
    labels
        Read only when folds are made for the first time or anew.
    output
        The folds table: read for the folds to keep, and rewritten, whole or not at all, when its content changes.
    count, seed
        As for `make_folds`.
    memory
        Table of everybody's fold, also of those who are quarantined now: who comes back keeps it.
    renew
        Forget the kept folds.
    stimuli
        Table of clips with a column `stimulus`: no stimulus may stand in two folds. None = they may.

    Raises
    ------
    ValueError
        As for `make_folds`, or a table cannot be read.
    """
    lines = read_table(manifest, needed=("clip", "participant", "status"))
    # The column is checked in every row: a slip there would come to light only when a quarantined clip is mended.
    given = {line["clip"]: line.get("fold", "") for line in lines}
    everyone = [(line["clip"], line["participant"]) for line in lines]
    checked = _given_folds(everyone, given, count=count)
    check_disjoint((clip, participant, checked.get(clip, 0)) for clip, participant in everyone if checked)

    clips = [(line["clip"], line["participant"]) for line in lines if line["status"] == "ok"]
    kept = [path for path in (memory, output) if path is not None and path.exists() and not renew]
    previous: dict[str, int] = {}
    for path in kept:
        previous |= check_disjoint(read_folds(path))
    emotions = {}
    if labels is not None and not previous:
        emotions = {line["clip"]: line.get("emotion", "") for line in read_table(labels, needed=("clip",))}
    rows = make_folds(
        clips,
        count=count,
        seed=seed,
        given=given,
        previous=previous or None,
        emotions_of=emotions,
        stimulus_of=None if stimuli is None else read_stimuli(stimuli),
    )

    _write_rows(output, rows)
    if memory is not None:
        now = previous | {row.participant: row.fold for row in rows}
        _write_rows(memory, sorted(Row(clip, who, now[who]) for clip, who in everyone if who in now))
    return rows


def _write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write a table of folds whole, and only when its content changes."""
    text = io.StringIO()
    writer = csv.writer(text, dialect="excel-tab", lineterminator="\n")
    writer.writerows([COLUMNS, *rows])
    if not path.exists() or path.read_text(encoding="utf-8") != text.getvalue():
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f".{path.name}.new")
        new.write_text(text.getvalue(), encoding="utf-8")
        new.replace(path)


def read_stimuli(path: Path) -> dict[str, str]:
    """The stimulus of each clip that names one, from a table of clips; its path is its name.

    Raises
    ------
    ValueError
        The table has no column `stimulus`, or no clip names one: nothing could be kept apart.
    """
    rows = read_table(path, needed=("clip", "stimulus"))
    found = {row["clip"]: os.path.normpath(row["stimulus"]) for row in rows if row["stimulus"]}
    if not found:
        raise ValueError(f"{path}: no clip names a stimulus, while `folds.disjoint` asks for folds that share none")
    return found


def read_table(path: Path, *, needed: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a tab-separated table, cells stripped, short rows filled up with empty cells.

    Raises
    ------
    ValueError
        A needed column is absent; the message names file and column.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, dialect="excel-tab", restval="")
        absent = [column for column in needed if column not in (reader.fieldnames or [])]
        if absent:
            raise ValueError(f"{path}: has no column `{absent[0]}`")
        return [{name: (value or "").strip() for name, value in line.items() if name} for line in reader]
