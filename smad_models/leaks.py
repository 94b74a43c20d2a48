"""The leak guard: nothing is scored before it is known that no model has seen what it is tested on.

What cannot be known, as nobody recorded it, is neither passed nor refused: it is called unverifiable.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from smad_models.dataset import Cache
from smad_models.folds import Row, digest_folds
from smad_models.predictions import Predictions
from smad_models.stimuli import check_stimuli

if TYPE_CHECKING:
    from smad_models.checkpoints import Meta

PASSED = "passed"
BY_RECORD = "passed by the checkpoints' own record: they were trained on another cache, or validated on some of theirs"
NOT_ASKED = "not asked"
UNVERIFIABLE = "unverifiable: "
NOT_USED = "none are used"
_WORDS = {
    PASSED: "computed again: of their training participants alone",
    BY_RECORD: "by their own record of their training participants alone",
    NOT_USED: "not used",
}


class LeakError(ValueError):
    """What is to be scored is no fair test; the message says which rule is broken, and by what."""


@dataclass(frozen=True)
class Verdict:
    """What the guard found, having refused nothing."""

    checks: dict[str, str]  # rule -> PASSED, NOT_ASKED, or UNVERIFIABLE with the reason
    checkpoints: dict[str, str]  # fold -> sha256, as far as it is known
    certificate: str  # one line of what was found

    @property
    def doubts(self) -> list[str]:
        """Why it is unverifiable; empty = it is certain."""
        found = [text.removeprefix(UNVERIFIABLE) for text in self.checks.values() if text.startswith(UNVERIFIABLE)]
        return list(dict.fromkeys(found))

    def as_json(self) -> dict[str, Any]:
        """As it stands in the scores' JSON."""
        certificate = None if self.doubts else self.certificate
        sentence = certificate or f"{UNVERIFIABLE}{'; '.join(self.doubts)}. Neither passed nor refused."
        return {
            "verifiable": not self.doubts,
            "certificate": certificate,
            "sentence": sentence,
            "checks": self.checks,
        }


def guard(
    predictions: Predictions,
    places: Sequence[Row],
    *,
    task: str,
    cache: Cache | None = None,
    checkpoints: Path | None = None,
    stimulus_of: Mapping[str, str] | None = None,
) -> Verdict:
    """Refuse predictions that are no fair test of clips unseen; say what was checked of those that may be scored.

    Parameters
    ----------
    predictions, places
        The table and the benchmark's folds (`folds.read_folds`, which refuses a participant in two of them).
    cache
        The cache as it is now; None = not at hand.
    checkpoints
        The folder with ``{task}/fold{k}.safetensors``; None = not at hand.
    stimulus_of
        The stimulus of each clip, where one may not stand in two folds either.

    Raises
    ------
    LeakError
        A fold is missing, a clip is predicted twice or in another fold than its own, a stimulus is in two folds, the
        predictions were made from other folds or another cache, or by checkpoints that have seen their test clips or
        whose input statistics have.
    """
    checks = {"participants": PASSED, "stimuli": NOT_ASKED}
    if stimulus_of is not None:
        try:
            check_stimuli(places, stimulus_of)
        except ValueError as error:
            raise LeakError(str(error)) from None
        checks["stimuli"] = PASSED
    _check_folds(predictions, places)
    _check_clips(predictions, places)
    checks |= {"folds": PASSED, "clips": PASSED, "inputs": _check_inputs(predictions, places, cache)}
    recorded = {str(fold): digest for fold, digest in predictions.record.get("checkpoints", {}).items()}
    checks |= _check_checkpoints(predictions, places, recorded, task=task, folder=checkpoints, cache=cache)

    people, folds = {row.participant for row in places}, {row.fold for row in places}
    said = [
        f"{len(people)} participants, each in one of {len(folds)} folds",
        *(["no stimulus in two folds"] if checks["stimuli"] == PASSED else []),
        f"{len(recorded)} checkpoints, trained on nobody whom they predict",
        f"input statistics {_WORDS.get(checks['statistics'], checks['statistics'])}",
        f"{len(predictions.rows)} clips, each predicted once",
    ]
    return Verdict(checks, recorded, f"No leak found: {'; '.join(said)}.")


def _check_folds(predictions: Predictions, places: Sequence[Row]) -> None:
    """Every fold is there, in the table of folds as in the predictions."""
    folds = {row.fold for row in places}
    made = {int(fold) for fold in predictions.record.get("checkpoints", {})}
    missing = sorted(set(range(1, max(folds | made, default=0) + 1)) - folds)
    if missing:
        raise LeakError(f"fold {missing[0]} of {max(folds | made)} is missing: no clip stands in it")
    predicted = {row["fold"] for row in predictions.rows}
    empty = sorted(folds - predicted)
    if empty:
        raise LeakError(
            f"{predictions.path}: fold {empty[0]} is missing: none of its clips is predicted, and scores over a part"
            " of the folds could not be compared"
        )


def _check_clips(predictions: Predictions, places: Sequence[Row]) -> None:
    """Every clip is predicted at most once, as one of the participant and fold that it belongs to."""
    home = {row.clip: row for row in places}
    seen: set[str] = set()
    for row in predictions.rows:
        clip, person, fold = row["clip"], row["participant"], row["fold"]
        if clip in seen:
            raise LeakError(f"{predictions.path}: clip {clip}: predicted twice, and would be scored twice")
        seen.add(clip)
        if clip not in home:
            raise LeakError(f"{predictions.path}: clip {clip}: is not in the table of folds: predict again")
        if (person, fold) != (home[clip].participant, home[clip].fold):
            raise LeakError(
                f"{predictions.path}: clip {clip}: predicted as participant {person} in fold {fold}, but the table of"
                f" folds says participant {home[clip].participant} in fold {home[clip].fold}: train and predict again"
            )


def _check_inputs(predictions: Predictions, places: Sequence[Row], cache: Cache | None) -> str:
    """The predictions were made from these folds and this cache."""
    record = predictions.record
    if not {"folds", "cache"} <= record.keys():
        return f"{UNVERIFIABLE}the predictions do not say what they were made from"
    if record["folds"] != digest_folds(places):
        raise LeakError(
            f"{predictions.path}: made with other folds than those of now: a checkpoint may have seen what it predicts:"
            " train and predict again"
        )
    if cache is None:
        return f"{UNVERIFIABLE}the cache is not at hand"
    if record["cache"] != cache.digest:
        raise LeakError(
            f"{predictions.path}: made from another cache ({record['cache'][:12]}) than {cache.path}"
            f" ({cache.digest[:12]}): predict again"
        )
    return PASSED


def _check_checkpoints(
    predictions: Predictions,
    places: Sequence[Row],
    recorded: Mapping[str, str],
    *,
    task: str,
    folder: Path | None,
    cache: Cache | None,
) -> dict[str, str]:
    """The checkpoints that made the predictions were trained on nobody whom they predict, nor are their statistics."""
    silent = sorted({row.fold for row in places} - set(map(int, recorded)))
    if silent:
        doubt = f"{UNVERIFIABLE}the predictions do not say which checkpoint made those of fold {silent[0]}"
        return {"checkpoints": doubt, "statistics": doubt}
    if folder is None:
        doubt = f"{UNVERIFIABLE}the checkpoints are not at hand"
        return {"checkpoints": doubt, "statistics": doubt}
    # These load torch, which nothing else of scoring needs.
    from smad_models.checkpoints import digest_file, read_meta

    unknown: list[str] = []
    statistics: list[str] = []
    for fold, digest in recorded.items():
        path = folder / task / f"fold{fold}.safetensors"
        if not path.is_file():
            doubt = f"{UNVERIFIABLE}{path} is not there"
            return {"checkpoints": doubt, "statistics": doubt}
        if digest_file(path) != digest:
            raise LeakError(
                f"{path}: is another checkpoint than the one that made {predictions.path}: its training is not what"
                " would be checked: predict again"
            )
        meta = read_meta(path)
        tested = sorted({row.participant for row in places if row.fold == int(fold)})
        seen = [person for person in tested if meta.knows(person)]
        if seen:
            raise LeakError(
                f"{path}: was trained on participant {', '.join(seen[:8])}, whose clips it predicts in fold {fold}: it"
                " has seen what it is tested on"
            )
        if not meta.participants:
            unknown.append(fold)
        statistics.append(_check_statistics(path, meta, cache))
    found = {"checkpoints": PASSED}
    if unknown:
        found["checkpoints"] = (
            f"{UNVERIFIABLE}nobody knows on whom the checkpoint{'s' if len(unknown) > 1 else ''} of fold"
            f" {', '.join(unknown)} {'were' if len(unknown) > 1 else 'was'} trained"
        )
    doubts = [text for text in statistics if text.startswith(UNVERIFIABLE)]
    found["statistics"] = doubts[0] if doubts else max(statistics, key=(NOT_USED, PASSED, BY_RECORD).index)
    return found


def _check_statistics(path: Path, meta: Meta, cache: Cache | None) -> str:
    """Recompute a checkpoint's input statistics from the clips of those whom it was trained on, and compare.

    A checkpoint holds numbers, not the rows that they came from: only the same numbers, computed again from the same
    cache without the test clips, show that these had no part in them.
    """
    if meta.convention == "published":
        return NOT_USED
    if not meta.participants:
        return f"{UNVERIFIABLE}nobody knows on whom a checkpoint was trained"
    if cache is None:
        return f"{UNVERIFIABLE}the cache is not at hand"
    if meta.record.get("cache") != cache.digest:
        return BY_RECORD
    from smad_models.checkpoints import read_tensors
    from smad_models.inputs import fit_statistics

    people = np.array(cache.participants)
    trained = np.isin(people, [person for person in sorted(set(people)) if meta.knows(person)])
    eye = cache.read(np.arange(len(people)), ("eye",))["eye"]
    tensors = read_tensors(path)
    mean, std = (tensors[f"inputs.eye_{name}"].double().numpy() for name in ("mean", "std"))

    def is_of(rows: np.ndarray) -> bool:
        again = fit_statistics(eye[rows])
        scale = np.where(np.isfinite(again.std), again.std, 1.0)
        near = np.abs(mean - again.mean) <= 1e-4 * scale + 1e-6 * np.abs(again.mean)
        return bool(near.all() and np.allclose(std, again.std, rtol=1e-4))

    if trained.any() and is_of(trained):
        return PASSED
    is_of_all = is_of(np.ones_like(trained))
    if meta.scores and not is_of_all:
        # It was validated on some of its participants, who had no part in the statistics; whom, it does not say.
        return BY_RECORD
    whose = "those of all clips" if is_of_all else "not those of whom it was trained on"
    raise LeakError(f"{path}: its input statistics are {whose}: test clips had a part in them")
