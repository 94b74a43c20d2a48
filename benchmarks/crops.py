"""Real face crops, and units full of them, for measurements of the cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np


def make_crops(media: Path) -> np.ndarray:
    """(clips, 8, 112, 112, 3) uint8: eight spans of each video that shows a face in at least half of the frames."""
    import av

    from smad_features.config import complete_config
    from smad_features.face_finder import FaceFinder
    from smad_features.faces import extract_faces
    from smad_features.model_files import find_models
    from smad_features.video import read_frames

    config = complete_config({"face": {"model": "detector"}})
    face = config["face"]
    files = find_models(face)
    crops = []
    with FaceFinder(
        files["detector"], full_range=files["full_range"], look=face["range"], min_score=face["min_score"]
    ) as finder:
        for video in sorted(path for path in media.iterdir() if path.suffix in (".mp4", ".mov")):
            with av.open(str(video)) as container:
                length = float(container.duration / av.time_base) - 0.2
            for i in range(8):
                span = {"start": i * length / 8, "end": (i + 1) * length / 8}
                arrays, _ = extract_faces(read_frames(video, count=8, **span, **config["video"]), finder, face)
                if arrays["face_found"].sum() >= 4:
                    crops.append(arrays["face"])
    return np.stack(crops)


def write_units(folder: Path, crops: np.ndarray, *, clips: int, participants: int) -> None:
    """Units of both stages; in ``other`` one of faces of which a single clip is another."""
    first = 0
    for number in range(participants):
        own = clips // participants + (number < clips % participants)
        participant = f"S{number + 1:03d}"
        faces = crops[np.arange(first, first + own) % len(crops)]
        _write_unit(folder / "faces", participant, faces)
        _write_unit(folder / "eyes", participant, faces)
        if number == 49:
            faces[3] = faces[4]
            _write_unit(folder / "other", participant, faces)
        first += own


def _write_unit(folder: Path, participant: str, faces: np.ndarray) -> None:
    from smad_features import schema
    from smad_features.cache import Unit, write_unit

    specs = schema.eye_arrays() if folder.name == "eyes" else schema.face_arrays()
    rng = np.random.default_rng(int(participant[1:]))
    arrays: dict[str, np.ndarray] = {
        name: faces if name == "face" else rng.random((len(faces), *spec.shape)).astype(spec.dtype)
        for name, spec in specs.items()
    }
    names = [f"{participant}_C{i:02d}" for i in range(len(faces))]
    states = {name: {"state": "ok", "reason": ""} for name in names}
    record: dict[str, Any] = {"participant": participant, "clips": {name: {} for name in names}}
    unit = Unit(participant, names, arrays, states, {name: {} for name in names}, record)
    write_unit(folder / f"{participant}.zarr.zip", unit, specs)
