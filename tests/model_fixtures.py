"""A small cache, folds and labels with a signal planted in the eye channels, for the tests of the models."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec

from smad_features import schema
from smad_models.recipe import TrainOptions

EMOTIONS = ("happiness", "sadness", "fear", "disgust", "surprise", "anger", "neutral")
PUPILS = (12, 13)  # columns of the eye sequence that carry valence and arousal
FIXATION = (35, 36)  # and the emotion


def name_clips(participants: int, clips: int) -> list[tuple[str, str]]:
    """(clip, participant) in the cache's order."""
    return [(f"P{p:02d}_C{c}", f"P{p:02d}") for p in range(participants) for c in range(clips)]


def draw_labels(rows: int, *, seed: int = 0) -> dict[str, np.ndarray]:
    """Emotion indices and the three values of each clip, independent of each other."""
    rng = np.random.default_rng(seed)
    return {
        "emotion": np.arange(rows) % len(EMOTIONS),
        "intensity": rng.uniform(0, 3, rows),
        "valence": rng.uniform(-1, 1, rows),
        "arousal": rng.uniform(-1, 1, rows),
    }


def draw_arrays(
    labels: dict[str, np.ndarray], *, size: int = 32, frames: int = 8, steps: int = 32, seed: int = 1
) -> Any:
    """Random arrays of a cache in which the eye channels, and nothing else, know the labels."""
    rng = np.random.default_rng(seed)
    n = len(labels["emotion"])
    specs = schema.face_arrays(frames=frames, size=size) | schema.eye_arrays(steps=steps)
    arrays = {name: spec.empty(n) for name, spec in specs.items()}
    arrays["face"] = rng.integers(0, 256, (n, frames, size, size, 3), dtype=np.uint8)
    arrays["face_found"][:] = True
    arrays["face_time"][:] = np.arange(frames) / 4
    eye = rng.normal(size=(n, steps, 39))
    eye[:, :, PUPILS[0]] += 2 * labels["valence"][:, None]
    eye[:, :, PUPILS[1]] += 2 * labels["arousal"][:, None]
    angle = 2 * np.pi * labels["emotion"] / len(EMOTIONS)
    eye[:, :, FIXATION[0]] += 4 * np.cos(angle)[:, None]
    eye[:, :, FIXATION[1]] += 4 * np.sin(angle)[:, None]
    eye[:, :, 14] += labels["intensity"][:, None]
    eye = 100 + 7 * eye
    eye[rng.random((n, steps)) < 0.1] = np.nan  # blinks
    arrays["eye"] = eye.astype(np.float32)
    arrays["eye_observed"] = np.isfinite(eye).astype(np.float32)
    arrays["gaze"] = rng.uniform(0, 1, (n, steps, 2)).astype(np.float32)
    arrays["gaze_observed"][:] = 1
    return arrays


def write_cache(
    path: Path,
    clips: Sequence[tuple[str, str]],
    arrays: dict[str, np.ndarray],
    *,
    digest: str = "d0",
    **attributes: Any,
) -> Path:
    """A store in the cache's format at ``path``: faces in shards of 64 clips, checksummed, empty chunks kept."""
    steps, frames, size = arrays["eye"].shape[1], *arrays["face"].shape[1:3]
    specs = schema.face_arrays(frames=frames, size=size) | schema.eye_arrays(steps=steps)
    root = zarr.create_group(path, zarr_format=3)
    root.attrs.update(
        {
            "format": schema.FORMAT,
            "version": schema.VERSION,
            "clips": [clip for clip, _ in clips],
            "participants": [participant for _, participant in clips],
            "channels": [{"name": channel.name, "unit": channel.unit} for channel in schema.TOBII_PRO_LAB_39],
            "digest": digest,
            **attributes,
        }
    )
    for name, spec in specs.items():
        array = root.create_array(
            name,
            shape=(len(clips), *spec.shape),
            chunks=(1 if name == "face" else 64, *spec.shape),
            shards=(64, *spec.shape) if name == "face" else None,
            dtype=spec.dtype,
            fill_value=spec.missing,
            dimension_names=("clip", *spec.dims),
            compressors=[ZstdCodec(level=3), Crc32cCodec()],
            config={"write_empty_chunks": True},
        )
        array[:] = arrays[name]
    return path


def write_tables(
    folder: Path,
    clips: Sequence[tuple[str, str]],
    labels: dict[str, np.ndarray],
    *,
    folds: int = 4,
    unlabelled: Iterable[str] = (),
) -> tuple[Path, Path]:
    """(folds.tsv, labels.tsv): participants dealt out to the folds in turn."""
    names = sorted({participant for _, participant in clips})
    home = {name: i % folds + 1 for i, name in enumerate(names)}
    _write(folder / "folds.tsv", ("clip", "participant", "fold"), [(c, p, home[p]) for c, p in clips])
    hidden = set(unlabelled)
    rows = []
    for i, (clip, _) in enumerate(clips):
        values = (f"{labels[name][i]:.6f}" for name in ("intensity", "valence", "arousal"))
        rows.append((clip, "", "", "", "") if clip in hidden else (clip, EMOTIONS[labels["emotion"][i]], *values))
    _write(folder / "labels.tsv", ("clip", "emotion", "intensity", "valence", "arousal"), rows)
    return folder / "folds.tsv", folder / "labels.tsv"


def _write(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter="\t", lineterminator="\n").writerows([header, *rows])


def edit_attributes(store: Path, **changes: Any) -> None:
    """Change root attributes of a written cache in place."""
    path = store / "zarr.json"
    root = json.loads(path.read_text())
    root["attributes"] |= changes
    path.write_text(json.dumps(root))


@dataclass(frozen=True)
class Study:
    """A small cache with its tables, to train on."""

    cache: Path
    folds: Path
    labels: Path
    clips: list[tuple[str, str]]
    values: dict[str, np.ndarray]
    arrays: dict[str, np.ndarray]

    def arguments(self, output: Path, **changes: Any) -> dict[str, Any]:
        """What `train_fold` takes: a short training of the emotion task's fold 1."""
        given = {
            "task": "emotion",
            "fold": 1,
            "emotions": EMOTIONS,
            "options": TrainOptions(epochs=2),
            "output": output,
        }
        return given | {"cache": self.cache, "folds": self.folds, "labels": self.labels, "device": "cpu"} | changes


def make_study(folder: Path, *, participants: int, clips: int, folds: int = 2, size: int = 16) -> Study:
    """The files of a study in which the eye channels, and nothing else, know the labels."""
    rows = name_clips(participants, clips)
    values = draw_labels(len(rows))
    arrays = draw_arrays(values, size=size)
    cache = write_cache(folder / "cache.zarr", rows, arrays)
    places, labels = write_tables(folder, rows, values, folds=folds)
    return Study(cache, places, labels, rows, values, arrays)
