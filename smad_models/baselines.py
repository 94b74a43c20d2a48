"""What any model has to beat: what needs no input, and a linear model on simple summaries of it.

Both are fitted for each fold on the other folds' labelled clips alone, as the networks are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from smad_models.dataset import Cache
from smad_models.metrics import Scored

PENALTY = 1.0  # scikit-learn's own default of both: C and alpha; not tuned, so nothing was looked at to choose it
_CLIPS = 64  # read at a time: 20 MB of crops

WHAT = {
    "majority_class": "the commonest emotion of the other folds, at their frequencies",
    "training_mean": "the mean of the other folds",
    "linear": (
        "logistic regression (emotion) or ridge regression, each of penalty 1, on the mean of each eye channel over its"
        " observed steps and mean and deviation of the crops' red, green and blue; standardised by the other folds,"
        " what is missing at their mean"
    ),
}


def constant(scored: Scored, *, classes: int | None) -> Scored:
    """What a model without input predicts: the other folds' commonest emotion, or their mean value.

    Of equally common emotions the first of the list; the probabilities are the other folds' frequencies. Without labels
    in other folds there is nothing to learn from: then no clip is left.
    """
    if len(np.unique(scored.fold)) < 2:
        return scored.at(np.empty(0, dtype=np.int64))
    prediction = np.empty_like(scored.truth)
    sure = None if classes is None else np.empty((len(scored.truth), classes))
    for fold in np.unique(scored.fold):
        here, others = scored.fold == fold, scored.truth[scored.fold != fold]
        if classes is None or sure is None:
            prediction[here] = others.mean()
        else:
            counts = np.bincount(others, minlength=classes)
            prediction[here], sure[here] = counts.argmax(), counts / counts.sum()
    return Scored(scored.truth, prediction, scored.fold, scored.participant, sure)


def linear(scored: Scored, summaries: np.ndarray, *, classes: int | None) -> Scored:
    """What a linear model on ``summaries``, ``(n, features)`` with NaN where missing, predicts of each fold's clips.

    Without labels in other folds no clip is left.
    """
    if len(np.unique(scored.fold)) < 2:
        return scored.at(np.empty(0, dtype=np.int64))
    prediction = np.empty_like(scored.truth)
    sure = None if classes is None else np.zeros((len(scored.truth), classes))
    for fold in np.unique(scored.fold):
        here = scored.fold == fold
        truth, known = scored.truth[~here], summaries[~here]
        if sure is None:
            prediction[here] = _pipeline(Ridge(alpha=PENALTY)).fit(known, truth).predict(summaries[here])
            continue
        if len(np.unique(truth)) < 2:
            prediction[here], sure[here, truth[0]] = truth[0], 1.0
            continue
        model = _pipeline(LogisticRegression(C=PENALTY, max_iter=10_000)).fit(known, truth)
        sure[np.ix_(here, model.classes_)] = model.predict_proba(summaries[here])
        prediction[here] = sure[here].argmax(axis=1)
    return Scored(scored.truth, prediction, scored.fold, scored.participant, sure)


def _pipeline(model: Ridge | LogisticRegression) -> Pipeline:
    """Imputed and standardised by what it is fitted on; a feature that is never there is kept, as zeros."""
    return make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler(), model)


def summarise(cache: Cache, clips: Sequence[str]) -> np.ndarray:
    """Simple summaries of these clips: ``(n, channels + 6)`` float64, NaN where nothing was observed.

    Means of the eye channels over their observed steps; mean and standard deviation of red, green and blue over the
    crops that show anything. Read in blocks, so that a cache of any size will do.

    Raises
    ------
    ValueError
        A clip is not in the cache; the message names it.
    """
    place = {clip: row for row, clip in enumerate(cache.clips)}
    absent = [clip for clip in clips if clip not in place]
    if absent:
        raise ValueError(f"{cache.path}: clip {absent[0]}: is predicted but not in the cache: predict again")
    rows = np.array([place[clip] for clip in clips], dtype=np.int64)
    order = np.argsort(rows)  # neighbours share shards
    found = np.full((len(rows), len(cache.channels) + 6), np.nan)
    for start in range(0, len(rows), _CLIPS):
        some = order[start : start + _CLIPS]
        arrays = cache.read(rows[some], ("face", "eye"))
        found[some] = np.concatenate([_eye_means(arrays["eye"]), _colours(arrays["face"])], axis=1)
    return found


def _eye_means(eye: np.ndarray) -> np.ndarray:
    """``(n, channels)`` of ``(n, steps, channels)``, NaN where no step was observed."""
    observed = np.isfinite(eye)
    count = observed.sum(axis=1)
    total = np.where(observed, eye, 0).sum(axis=1, dtype=np.float64)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def _colours(face: np.ndarray) -> np.ndarray:
    """``(n, 6)``: mean and deviation of each colour of ``(n, frames, y, x, 3)`` uint8; a black crop is none."""
    n, frames = face.shape[:2]
    pixels = face.reshape(n, frames, -1, 3).astype(np.float32)
    size = pixels.shape[2]
    ones = np.ones((1, size), dtype=np.float32)  # a product is several times as fast as a sum along this axis
    first = (ones @ pixels)[:, :, 0].astype(np.float64)  # (n, frames, 3)
    second = (ones @ np.square(pixels))[:, :, 0].astype(np.float64)
    shown = first.any(axis=2)  # (n, frames)
    count = (shown.sum(axis=1) * size)[:, None]
    nothing = np.full((n, 3), np.nan)
    mean = np.divide(first.sum(axis=1), count, out=nothing.copy(), where=count > 0)
    square = np.divide(second.sum(axis=1), count, out=nothing, where=count > 0)
    return np.concatenate([mean, np.sqrt(np.maximum(square - mean**2, 0))], axis=1)
