"""Published weight files, whatever they are called and wherever they lie, to checkpoints that the workflow can use.

A published file's name tells its task and its fold, its keys the network. Where the two disagree, where a file is not
what it should be, or where two cannot both be what they say, it is refused by name, and the others are imported.
"""

from __future__ import annotations

import csv
import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from smad_models.checkpoints import (
    Meta,
    code_version,
    digest_file,
    hash_participants,
    make_participants_key,
    read_meta,
    save_checkpoint,
)
from smad_models.dataset import CACHE_VERSION, CHANNELS
from smad_models.folds import read_folds, read_table
from smad_models.maqt import Maqt, Variant
from smad_models.published import find_variant, load_published
from smad_models.tasks import TASKS
from smad_models.torch_files import read_state_dict

# The configuration's default. No published file says which logit is which emotion.
EMOTIONS = ("happiness", "sadness", "fear", "disgust", "surprise", "anger", "neutral")
FOLDS = range(1, 6)
INDEX = ("task", "fold", "file", "sha256", "convention")

_TASKS = {
    "discrete": "emotion",
    "valence": "valence",
    "arousal": "arousal",
    "intensity": "intensity",
    "in": "intensity",
}
_VARIANTS: dict[str, tuple[Variant, ...]] = {
    "emotion": ("discrete", "emert"),
    "valence": ("va",),
    "arousal": ("va",),
    "intensity": ("intensity",),
}
# The network's name in a file's name is no sign of the network: files were renamed while their bytes stayed.
_FILE = re.compile(r"(discrete|valence|arousal|intensity|in)_(?:maqt|matmer|emert|aeql)_set(\d+)", re.IGNORECASE)
_FOLDER = re.compile(r"(discrete|valence|arousal|intensity|in)_model", re.IGNORECASE)
_ENDINGS = (".pth", ".pt")


class Imported(NamedTuple):
    """A published file, and the checkpoint that it became."""

    task: str
    fold: int
    variant: Variant
    source: Path
    output: Path
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """What became of a folder of published files."""

    imported: tuple[Imported, ...]
    refused: tuple[str, ...]  # a sentence a file, its path first
    incomplete: dict[str, tuple[int, ...]]  # the folds that a task lacks; a task without any file is not named


@dataclass(frozen=True)
class _Candidate:
    """A file that is right as far as it can be told from itself."""

    path: Path
    task: str
    fold: int
    variant: Variant
    weights: str  # digest of its tensors
    notes: tuple[str, ...]


def import_folder(
    source: Path, output: Path, *, emotions: Sequence[str] = EMOTIONS, participants: Path | None = None
) -> Outcome:
    """Make checkpoints of all published files under ``source``, and list them in ``output/index.tsv``.

    Parameters
    ----------
    source
        A folder, searched to its depths, or one file. Hidden files and folders are passed by.
    output
        Where ``{task}/fold{k}.safetensors`` are written, each whole or not at all.
    emotions
        The names of the logits in their order, which no published file says.
    participants
        A table with the folds that the networks were tested on: those of the other folds are the ones that each was
        trained on. Without it nobody knows, and predictions are marked accordingly.

    Raises
    ------
    ValueError
        If there is no such file at all, or the table of folds lacks one of the folds.
    """
    files = _find_files(source)
    if not files:
        raise ValueError(f"{source}: no {' or '.join(_ENDINGS)} file is there")
    places = read_folds(participants) if participants is not None else []
    folds = sorted({place.fold for place in places})
    if participants is not None and folds != list(FOLDS):
        raise ValueError(
            f"{participants}: want the folds of the published sets, {', '.join(map(str, FOLDS))}; got"
            f" {', '.join(map(str, folds)) or 'none'}"
        )
    refused: list[str] = []
    candidates = []
    for path in files:
        try:
            candidates.append(_check_file(path, emotions))
        except ValueError as error:
            refused.append(str(error))
    candidates, doubts = _settle(candidates)
    refused += doubts
    imported = []
    for candidate in candidates:
        trained_on = sorted({place.participant for place in places if place.fold != candidate.fold})
        try:
            imported.append(_import_file(candidate, output, emotions=emotions, participants=trained_on))
        except ValueError as error:
            refused.append(str(error))
    if imported:
        _write_index(output, imported)
    found = {task: {each.fold for each in imported if each.task == task} for task in TASKS}
    incomplete = {task: tuple(sorted(set(FOLDS) - folds)) for task, folds in found.items() if folds}
    return Outcome(tuple(imported), tuple(refused), {task: folds for task, folds in incomplete.items() if folds})


def name_task(path: Path) -> tuple[str, int]:
    """The task and the fold that a published file's name tells, as ``In_MAQT_set2.pth`` does intensity and 2.

    Raises
    ------
    ValueError
        If it tells none, or the folder's name (``Valence_model``) tells another task.
    """
    found = _FILE.fullmatch(path.stem)
    if found is None:
        raise ValueError(
            f"{path}: its name tells no task and fold: want one of discrete, valence, arousal, in, then _MAQT (or"
            " _MATmer, _EMERT, _AEQL), then _set1 to _set5"
        )
    task, fold = _TASKS[found[1].lower()], int(found[2])
    if fold not in FOLDS:
        raise ValueError(f"{path}: set {fold} is none of the published 1 to {FOLDS[-1]}")
    folder = _FOLDER.fullmatch(path.parent.name)
    if folder is not None and _TASKS[folder[1].lower()] != task:
        raise ValueError(f"{path}: a mixture: its folder is called {path.parent.name}, but its name tells task {task}")
    return task, fold


def _find_files(source: Path) -> list[Path]:
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise ValueError(f"{source}: is not there")
    found = (path for path in source.rglob("*") if path.suffix.lower() in _ENDINGS and not path.is_dir())
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(source).parts))


def _check_file(path: Path, emotions: Sequence[str]) -> _Candidate:
    """Read a file and check all that can be checked of it alone."""
    task, fold = name_task(path)
    state, notes = read_state_dict(path)
    try:
        variant = find_variant(state)
        if variant not in _VARIANTS[task]:
            raise ValueError(f"a mixture: its name tells task {task}, but its keys are of a network for {variant}")
        classes = next((len(state[key]) for key in _EMOTION_KEYS[variant] if key in state), len(emotions))
        if classes != len(emotions):
            raise ValueError(f"has {classes} classes, but {len(emotions)} emotions are named: {', '.join(emotions)}")
        load_published(_build(variant, len(emotions)), state)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return _Candidate(path, task, fold, variant, _digest_tensors(state), notes)


_EMOTION_KEYS: dict[Variant, tuple[str, ...]] = {
    "va": (),
    "discrete": ("cls_head.1.weight",),
    "intensity": ("cls_head_e.0.weight",),
    "emert": ("cls_head.0.weight",),
}


def _settle(candidates: Sequence[_Candidate]) -> tuple[list[_Candidate], list[str]]:
    """Those that are right beside each other, and a sentence for each that is not."""
    claims: dict[tuple[str, int], list[_Candidate]] = defaultdict(list)
    holders: dict[str, list[_Candidate]] = defaultdict(list)
    variants: dict[str, set[Variant]] = defaultdict(set)
    for each in candidates:
        claims[each.task, each.fold].append(each)
        holders[each.weights].append(each)
        variants[each.task].add(each.variant)
    good, doubts = [], []
    for each in candidates:
        rivals = [rival for rival in claims[each.task, each.fold] if rival.weights != each.weights]
        twins = [twin for twin in holders[each.weights] if (twin.task, twin.fold) != (each.task, each.fold)]
        if twins:
            doubts.append(
                f"{each.path}: holds the very weights of {twins[0].path}, which is called task {twins[0].task}, fold"
                f" {twins[0].fold}: one of the two has a wrong name"
            )
        elif rivals:
            doubts.append(
                f"{each.path}: {rivals[0].path} claims task {each.task}, fold {each.fold} too, with other weights:"
                " leave one of the two"
            )
        elif len(variants[each.task]) > 1:
            networks = ", ".join(
                f"fold {other.fold} of {other.variant}"
                for (task, _), (other, *_) in claims.items()
                if task == each.task
            )
            doubts.append(f"{each.path}: a mixture: the files of task {each.task} are of two networks: {networks}")
        elif each is claims[each.task, each.fold][0]:  # a copy of it adds nothing
            good.append(each)
    return good, doubts


def _import_file(
    candidate: _Candidate, output: Path, *, emotions: Sequence[str], participants: Sequence[str]
) -> Imported:
    task, fold = candidate.task, candidate.fold
    path = output / task / f"fold{fold}.safetensors"
    record = {"imported": candidate.path.name, "sha256": digest_file(candidate.path)}
    key = make_participants_key(record)
    meta = Meta(
        task=task,
        fold=fold,
        variant=candidate.variant,
        convention="published",
        emotions=tuple(emotions),
        channels=CHANNELS,
        frames=8,
        steps=32,
        size=112,
        cache_version=CACHE_VERSION,
        participants=hash_participants(participants, key),
        participants_key=key,
        code=code_version(),
        record=record,
        history={},
    )
    if not _is_there(path, meta):
        model = _build(candidate.variant, len(emotions))
        load_published(model, read_state_dict(candidate.path).tensors)
        save_checkpoint(path, model, meta)
    return Imported(task, fold, candidate.variant, candidate.path, path, candidate.notes)


def _is_there(path: Path, meta: Meta) -> bool:
    """Whether just this was imported to ``path`` before; ValueError where what lies there was not imported."""
    if not path.exists():
        return False
    try:
        found = read_meta(path)
    except ValueError:
        found = None
    if found is None or "imported" not in found.record:
        raise ValueError(f"{path}: is there, and was never imported: move it away, or name another --output")
    return found == meta


@lru_cache(maxsize=1)  # the next file is mostly of the same network, and all of its tensors are overwritten
def _build(variant: Variant, emotions: int) -> Maqt:
    return Maqt(variant, convention="published", emotions=emotions, channels=len(CHANNELS))


def _digest_tensors(state: dict[str, Tensor]) -> str:
    """One digest of all numbers: two files with the same weights may differ in their bytes."""
    digest = hashlib.blake2b(digest_size=16)
    for key in sorted(state):
        digest.update(key.encode())
        digest.update(state[key].contiguous().numpy().data)
    return digest.hexdigest()


def _write_index(output: Path, imported: Iterable[Imported]) -> None:
    """List the checkpoints in ``output/index.tsv``, beside those that are listed there already."""
    path = output / "index.tsv"
    rows: dict[tuple[str, str], dict[str, str]] = {}
    if path.exists():
        rows = {(row["task"], row["fold"]): row for row in read_table(path, needed=INDEX)}
    for each in imported:
        values = (
            each.task,
            str(each.fold),
            str(each.output.relative_to(output)),
            digest_file(each.output),
            "published",
        )
        rows[each.task, str(each.fold)] = dict(zip(INDEX, values, strict=True))
    order = {task: i for i, task in enumerate(TASKS)}
    listed = sorted(rows.values(), key=lambda row: (order.get(row["task"], len(order)), row["fold"].zfill(9)))
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with draft.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, INDEX, dialect="excel-tab", lineterminator="\n", extrasaction="ignore")
            writer.writeheader()
            writer.writerows(listed)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
