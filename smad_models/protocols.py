"""Three protocols side by side: how single clips become one number.

`fold` scores each fold whole and averages the folds: the one to quote. `pooled` scores all clips at once, with an
interval over participants. `published` is the protocol of the published test scripts, kept to compare with printed
numbers: the mean over consecutive batches of 16 clips, whose value depends on the batch size and the clips' order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from smad_models.intervals import bootstrap, emotion_sums, emotion_values, interval, value_sums, value_values
from smad_models.metrics import EMOTION_METRICS, NO_CLIPS, VALUE_METRICS, Reasons, Scored, Values, measure

# What the published test scripts average over batches; for the rest there is no printed number to compare with.
PUBLISHED = ("war", "uar", "f1_weighted", "mae", "mse", "rmse")
BATCH = 16  # clips, the published scripts' default batch size


def score_protocols(
    scored: Scored, *, folds: Sequence[int], classes: int | None = None, clips_too: bool = False
) -> tuple[dict[str, dict[str, Any]], Reasons]:
    """All metrics under the protocols `fold`, `pooled` and `published`.

    Parameters
    ----------
    scored
        The labelled clips in stored order, on which `published` depends.
    folds
        The benchmark's folds; one without labelled clips is undefined.
    classes
        The number of emotions, or None for values.
    clips_too
        Also an interval over clips, to compare with that over participants.

    Returns
    -------
    protocols, reasons
        ``protocols[protocol][metric]``, and why what is None is so.
    """
    parts = [scored.at(np.flatnonzero(scored.fold == fold)) for fold in folds]
    fold, why_fold = _over_folds([measure(part, classes) for part in parts], folds, "fold")
    pooled, why_pooled = _pooled(scored, classes, clips_too=clips_too)
    batches = [published_metrics(part, classes) for part in parts]
    published, why_published = _over_folds(batches, folds, "published")
    for row in published.values():
        del row["sd"]  # that of folds whose batches are ragged says nothing
    return {"fold": fold, "pooled": pooled, "published": published}, {**why_fold, **why_pooled, **why_published}


def published_metrics(scored: Scored, classes: int | None) -> tuple[Values, Reasons]:
    """The unweighted mean of a metric over consecutive batches of 16; the ragged last batch counts as a full one.

    `uar` is over the classes of truth and prediction in the batch, as in the published scripts.
    """
    names = EMOTION_METRICS if classes is not None else VALUE_METRICS
    reasons = {name: "the published protocol has no such metric" for name in names if name not in PUBLISHED}
    if not len(scored.truth):
        return dict.fromkeys(names), reasons | {name: NO_CLIPS for name in names if name in PUBLISHED}
    batch = np.arange(len(scored.truth)) // BATCH
    number = int(batch[-1]) + 1
    if classes is not None:
        found = emotion_values(emotion_sums(scored, batch, number, classes), classes, union=True)
    else:
        found = value_values(value_sums(scored, batch, number), 0.0)
    return {name: None if name in reasons else float(found[name].mean()) for name in names}, reasons


def _over_folds(
    measured: Sequence[tuple[Values, Reasons]], folds: Sequence[int], name: str
) -> tuple[dict[str, Any], Reasons]:
    table: dict[str, Any] = {}
    reasons: Reasons = {}
    for metric in measured[0][0]:
        each = [values[metric] for values, _ in measured]
        known = np.array([value for value in each if value is not None])
        # A mean over fewer folds than the others' could not be compared with them.
        is_whole = len(known) == len(folds)
        mean = float(known.mean()) if is_whole else None
        sd = float(known.std(ddof=1)) if is_whole and len(folds) > 1 else None
        table[metric] = {"mean": mean, "sd": sd, "folds": each}
        why = {fold: reason[metric] for fold, (_, reason) in zip(folds, measured, strict=True) if metric in reason}
        if len(why) == len(folds) and len(set(why.values())) == 1:
            reasons[f"{name}.{metric}"] = why[folds[0]]
        else:
            reasons |= {f"{name}.{metric}.fold{fold}": reason for fold, reason in why.items()}
    return table, reasons


def _pooled(scored: Scored, classes: int | None, *, clips_too: bool) -> tuple[dict[str, Any], Reasons]:
    values, why = measure(scored, classes)
    reasons = {f"pooled.{metric}": reason for metric, reason in why.items()}
    table: dict[str, Any] = {metric: {"value": value, "ci95": None} for metric, value in values.items()}
    if not len(scored.truth):
        return table, reasons
    people = len(np.unique(scored.participant))
    ways: dict[str, dict[str, np.ndarray]] = {}
    if people > 1:
        ways["ci95"] = bootstrap(scored, classes=classes)
    if clips_too and len(scored.truth) > 1:
        ways["ci95_clips"] = bootstrap(scored, classes=classes, over="clips")
    for metric, value in values.items():
        if clips_too:
            table[metric]["ci95_clips"] = None
        if value is None:
            continue
        if people < 2:
            reasons[f"pooled.{metric}.ci95"] = "one participant only: nobody to draw instead"
        for way, draws in ways.items():
            table[metric][way], undefined = interval(draws[metric])
            if table[metric][way] is None:
                over = "participants" if way == "ci95" else "clips"
                reasons[f"pooled.{metric}.{way}"] = f"undefined in {undefined} of {len(draws[metric])} draws of {over}"
    return table, reasons


def explain_differences(protocols: dict[str, dict[str, Any]], *, task: str) -> dict[str, Any]:
    """Why the protocols differ, in one sentence with the numbers of the metric that shows it best."""
    metric, word = ("uar", "UAR") if task == "emotion" else ("rmse", "RMSE")
    fold, published = (protocols[name][metric] for name in ("fold", "published"))
    pooled = protocols["pooled"][metric]["value"]
    cause = (
        f"a batch of {BATCH} holds few clips of an emotion, or none, and one that is only predicted counts 0 there"
        if task == "emotion"
        else f"the root of a mean over {BATCH} clips is, on average, below that over all of them"
    )
    numbers = {"fold": fold["mean"], "pooled": pooled, "published": published["mean"]}
    sentence = (
        f"`fold` averages {len(fold['folds'])} folds, each scored whole, `pooled` scores all clips at once, and"
        f" `published` averages batches of {BATCH} clips in stored order, where {cause}"
    )
    known = {name: value for name, value in numbers.items() if value is not None}
    if len(known) == len(numbers):
        shown = ", ".join(f"{value:.3f} ({name})" for name, value in known.items())
        apart = max(known.values()) - min(known.values())
        sentence += f": here {word} is {shown}, up to {apart:.3f} apart"
    return {"sentence": f"{sentence}.", "metric": metric, **numbers}
