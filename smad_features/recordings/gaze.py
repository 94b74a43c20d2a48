"""The mean gaze point of both eyes, for trackers that give each eye's alone."""

from __future__ import annotations

import numpy as np


def add_mean_gaze(channels: dict[str, np.ndarray]) -> None:
    """Add, in place, ``Gaze point X`` and ``Y``: the mean of the two eyes', or that of one where the other is lost.

    So does Tobii Pro Lab. A point that lacks an axis is lost. Nothing is changed where there is a mean gaze
    point already, or neither eye's.
    """
    names = [[f"Gaze point {eye} {axis}" for axis in "XY"] for eye in ("left", "right")]
    eyes = [np.stack([channels[name] for name in pair], axis=1) for pair in names if channels.keys() >= set(pair)]
    if not eyes or "Gaze point X" in channels:
        return
    points = np.array(eyes)  # (eyes, N, 2)
    lost = np.isnan(points).any(axis=2, keepdims=True)
    count = np.sum(~lost, axis=0)  # (N, 1)
    total = np.where(lost, 0.0, points).sum(axis=0)
    mean = np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
    channels["Gaze point X"], channels["Gaze point Y"] = mean.T.copy()
