"""Predictions to scores: guarded against leaks, joined with labels and folds, written as one JSON file a task.

The scores' JSON
----------------
``M`` is a metric's name, ``P`` an object ``{"fold": {M: {"mean", "sd", "folds": [...]}}, "pooled": {M: {"value",
"ci95": [lo, hi], "ci95_clips": [lo, hi]}}, "published": {M: {"mean", "folds": [...]}}}``. A number that is undefined
is null, and ``reasons`` says why under its path, such as ``pooled.auroc``, ``polarity.fold.uar.fold3`` or
``baselines.linear``.

- ``task``; ``clips``: ``predicted``, ``scored``, ``unlabelled``, ``participants``, ``present`` {modalities: clips}
- ``protocols``: ``P``. M of emotion: war, uar, f1_weighted, f1_macro, kappa, auroc, ece; of values: mae, mse, rmse,
  ccc, pearson, spearman, r2, bias. ``ci95`` is over participants; ``ci95_clips`` over clips is too narrow, and shown
  for that
- ``differences``: ``sentence`` (why the protocols differ, and by how much here), ``metric`` (the one that it speaks
  of), ``fold``, ``pooled``, ``published`` (its values)
- ``baselines``: {name: ``P``}; the first is ``majority_class`` or ``training_mean``, the second ``linear``.
  ``linear`` is absent where no cache was at hand, with a reason under ``baselines.linear``
- ``leaks``: ``verifiable``, ``certificate`` (one line; null when unverifiable), ``sentence`` (what to show: the
  certificate, or "unverifiable: ..."), ``checks`` {name: words, "unverifiable: ..." where it is so} with the names
  participants, stimuli, folds, clips, inputs, checkpoints, statistics
- ``per_participant``: {participant: {"fold", "clips", and "war" or "mae" and "bias"}}
- ``reasons``: {path: sentence}
- ``provenance``: ``key``, digests ``predictions``, ``labels``, ``folds``, ``cache`` (null = unknown) and
  ``checkpoints`` {fold: sha256}, ``versions`` {program: version}, ``seed``, ``bootstrap`` {"over", "draws", "seed",
  "note"}, ``published`` {"batch", "order"}, ``baselines`` {name: what it is}, ``command`` (to run it again),
  ``notes`` {subject: warning}

Of the emotion task also

- ``confusion``: ``labels`` [...], ``matrix`` [truth][prediction] (null = no clips)
- ``per_class``: {emotion: {"recall", "precision", "f1", "auroc", "support", "predicted"}}
- ``calibration``: ``ece`` and ``bins`` [{"lo", "hi", "clips", "confidence", "accuracy"}], 15 of equal width, means
  null in empty ones; the whole is null where the predictions hold no probabilities
- ``polarity``: the view of three classes: ``of`` {emotion: "positive" | "neutral" | "negative"}, ``left_out``
  [emotions], ``clips`` (scored in it), ``protocols`` ``P``, ``baselines`` {name: ``P``}, ``confusion`` (with a last
  column ``other`` where emotions are left out), ``per_class``; null where the mapping names less than two classes
"""

from __future__ import annotations

import hashlib
import json
import platform
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from smad_models import baselines, polarity
from smad_models.cache_files import Place
from smad_models.calibration import reliability
from smad_models.dataset import Cache, open_cache
from smad_models.folds import read_folds, read_stimuli
from smad_models.intervals import DRAWS, SEED
from smad_models.leaks import guard
from smad_models.metrics import Reasons, Scored, class_metrics, confusion
from smad_models.predictions import join_labels, read_notes, read_predictions, read_truth
from smad_models.protocols import BATCH, explain_differences, score_protocols
from smad_models.scoreboard import write_whole

LIBRARIES = ("smad", "numpy", "scipy", "scikit-learn", "pyarrow", "tensorstore")
NOWHERE_TO_LEARN = "all labelled clips are in one fold: the others have nothing to learn from"


def score_task(
    *,
    task: str,
    predictions: Path,
    labels: Path,
    folds: Path,
    emotions: Sequence[str],
    output: Path,
    cache: Place | None = None,
    checkpoints: Path | None = None,
    stimuli: Path | None = None,
    polarity_of: Mapping[str, str] | None = None,
    key: str = "",
) -> dict[str, Any]:
    """Score one task's predictions and write its JSON.

    Parameters
    ----------
    task
        emotion, valence, arousal or intensity.
    predictions
        A Parquet table: clip, participant, fold, prediction (an emotion's name, or a number), present, and of emotions
        ``p_{name}`` for each.
    labels, folds
        Tab-separated tables. Clips without a label are left out and counted.
    emotions
        The emotions in order.
    output
        Written whole or not at all.
    cache
        The packed cache, for the linear baseline and the guard; None = not at hand.
    checkpoints
        The folder of checkpoints that made the predictions, for the guard; None = not at hand.
    stimuli
        Table of clips with a column `stimulus`, where none may stand in two folds.
    polarity_of
        The group of each emotion in the view of three classes; None = `polarity.DEFAULT`.
    key
        Stored in the provenance.

    Returns
    -------
    dict
        What was written, as this module's docstring says.

    Raises
    ------
    LeakError
        As `leaks.guard`.
    ValueError
        A participant is in two folds, a labelled clip is not predicted, a value cannot be read: the message names the
        clip.
    """
    places = read_folds(folds)
    found = read_predictions(predictions, task=task, emotions=emotions)
    opened = None if cache is None else open_cache(cache).preload(("eye",))
    stimulus_of = None if stimuli is None else read_stimuli(stimuli)
    verdict = guard(found, places, task=task, cache=opened, checkpoints=checkpoints, stimulus_of=stimulus_of)
    truth = read_truth(labels, task=task, emotions=emotions)
    scored, clips = join_labels(found, truth, task=task, emotions=emotions, wanted=[row.clip for row in places])
    summaries = None if opened is None else baselines.summarise(opened, clips)
    classes = len(emotions) if task == "emotion" else None
    numbers = sorted({row.fold for row in places})
    parts, reasons = _score(scored, summaries, folds=numbers, classes=classes)
    labelled = set(clips)
    result: dict[str, Any] = {
        "task": task,
        "clips": {
            "predicted": len(found.rows),
            "scored": len(clips),
            "unlabelled": len(found.rows) - len(clips),
            "participants": len(np.unique(scored.participant)),
            "present": dict(sorted(Counter(row["present"] for row in found.rows if row["clip"] in labelled).items())),
        },
        "protocols": parts["protocols"],
        "differences": explain_differences(parts["protocols"], task=task),
        "baselines": parts["baselines"],
        "leaks": verdict.as_json(),
        "per_participant": _per_participant(scored, classes),
    }
    if classes is not None:
        result["confusion"] = {"labels": list(emotions), "matrix": confusion(scored, classes)}
        result["per_class"], why = class_metrics(scored, emotions)
        reasons |= {f"per_class.{path}": reason for path, reason in why.items()}
        result["calibration"] = None
        if scored.probabilities is not None:
            bins = reliability(scored.truth, scored.prediction, scored.probabilities)
            result["calibration"] = {"ece": parts["protocols"]["pooled"]["ece"]["value"], "bins": bins}
        of = polarity.choose_groups(emotions, polarity_of)
        result["polarity"], why = _score_polarity(scored, summaries, folds=numbers, emotions=emotions, of=of)
        reasons |= why
    result["reasons"] = reasons
    result["provenance"] = {
        "key": key,
        "predictions": _sha256(predictions),
        "labels": _sha256(labels),
        "folds": _sha256(folds),
        "cache": _cache_digest(opened, found.record),
        "checkpoints": verdict.checkpoints,
        "versions": {"Python": platform.python_version(), **{name: version(name) for name in LIBRARIES}},
        "seed": SEED,
        "bootstrap": {
            "over": "participants",
            "draws": DRAWS,
            "seed": SEED,
            "note": "conditional on the trained models; over clips (ci95_clips) it is too narrow: clips of a person are"
            " not independent",
        },
        "published": {"batch": BATCH, "order": "as stored in the predictions"},
        "baselines": {name: baselines.WHAT[name] for name in result["baselines"]},
        "command": _command(
            {"task": task, "emotions": ",".join(emotions), "predictions": predictions, "labels": labels, "folds": folds}
            | {"cache": cache, "checkpoints": checkpoints, "stimuli": stimuli}
            | {"polarity": None if polarity_of is None else ",".join(f"{e}={g}" for e, g in polarity_of.items())}
            | {"output": output}
        ),
        "notes": read_notes(predictions),
    }
    write_whole(output, json.dumps(result, indent=1, allow_nan=False) + "\n")
    return result


def _score(
    scored: Scored, summaries: np.ndarray | None, *, folds: Sequence[int], classes: int | None
) -> tuple[dict[str, Any], Reasons]:
    """Protocols of the predictions and of the baselines."""
    protocols, reasons = score_protocols(scored, folds=folds, classes=classes, clips_too=True)
    guesses = {
        "training_mean" if classes is None else "majority_class": baselines.constant(scored, classes=classes),
    }
    if summaries is None:
        reasons["baselines.linear"] = "no cache was at hand to summarise clips from"
    else:
        guesses["linear"] = baselines.linear(scored, summaries, classes=classes)
    made = {}
    for name, guess in guesses.items():
        made[name], why = score_protocols(guess, folds=folds, classes=classes)
        if len(scored.truth) > len(guess.truth):
            why = dict.fromkeys(why, NOWHERE_TO_LEARN)
        reasons |= {f"baselines.{name}.{path}": reason for path, reason in why.items()}
    return {"protocols": protocols, "baselines": made}, reasons


def _score_polarity(
    scored: Scored,
    summaries: np.ndarray | None,
    *,
    folds: Sequence[int],
    emotions: Sequence[str],
    of: Mapping[str, str],
) -> tuple[dict[str, Any] | None, Reasons]:
    """The view of three classes, with baselines fitted in it."""
    if len(set(of.values())) < 2:
        return None, {"polarity": "`score.polarity` puts these emotions into less than two classes"}
    seen, rows, names = polarity.view(scored, emotions, of)
    parts, why = _score(seen, None if summaries is None else summaries[rows], folds=folds, classes=len(names))
    per_class, why_class = class_metrics(seen, names)
    per_class.pop(polarity.OTHER, None)
    why |= {f"per_class.{path}": text for path, text in why_class.items() if not path.startswith(polarity.OTHER)}
    matrix = confusion(seen, len(names))
    return {
        "of": dict(of),
        "left_out": [emotion for emotion in emotions if emotion not in of],
        "clips": len(rows),
        **parts,
        "confusion": {"labels": names, "matrix": None if matrix is None else matrix[: len(polarity.GROUPS)]},
        "per_class": per_class,
    }, {f"polarity.{path}": reason for path, reason in why.items()}


def _per_participant(scored: Scored, classes: int | None) -> dict[str, dict[str, Any]]:
    """What a few clips of one participant can bear: accuracy, or mean error and bias."""
    table = {}
    for person in np.unique(scored.participant):
        own = scored.at(np.flatnonzero(scored.participant == person))
        row: dict[str, Any] = {"fold": int(own.fold[0]), "clips": len(own.truth)}
        if classes is not None:
            table[str(person)] = row | {"war": float(np.mean(own.prediction == own.truth))}
        else:
            error = own.prediction - own.truth
            table[str(person)] = row | {"mae": float(np.abs(error).mean()), "bias": float(error.mean())}
    return table


def _cache_digest(cache: Cache | None, record: Mapping[str, Any]) -> str | None:
    digest: str | None = record.get("cache") if cache is None else cache.digest
    return digest


def _command(options: Mapping[str, Any]) -> str:
    words = ["smad-models", "score"]
    for name, value in options.items():
        words += [] if value is None else [f"--{name}", str(value)]
    return shlex.join(words)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
