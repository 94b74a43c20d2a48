"""A working directory of SMAD's size with tiny files: 1,303 clips of 121 participants, and all results of them made.

The videos are real but small (9 frames of 32 x 32), the recordings real but short (0.3 s of 39 columns). No face is
looked for (`face.align: none`), crops are 16 pixels wide, training is one epoch over frozen random features. What a
run with nothing to do, or with little to do, costs besides decoding and learning does not depend on that.
"""

from __future__ import annotations

import csv
import multiprocessing
from pathlib import Path
from typing import Any

CLIPS, PARTICIPANTS = 1303, 121
CONFIG: dict[str, Any] = {
    "clips": "data/clips.tsv",
    "labels": "data/labels.tsv",
    "face": {"align": "none", "size": 16},
    "train": {"freeze_face": True, "epochs": 1, "batch_size": 64},
}


def make_tree(folder: Path) -> None:
    """Raw files, tables and configuration; and the units of both stages, made by the code that the jobs run."""
    import yaml

    from smad_features.config import load_config
    from smad_features.freshness import by_participant
    from smad_features.manifest import read_clips

    (folder / "data").mkdir(parents=True)
    names = [f"S{number % PARTICIPANTS + 1:03d}" for number in range(CLIPS)]
    participants = sorted(set(names))
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pool.starmap(_make_sources, [(folder / "data", name, names.count(name)) for name in participants], chunksize=8)
        rows = [(f"{name}_C{i:02d}", name) for name in participants for i in range(names.count(name))]
        _write_tables(folder / "data", rows)
        (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG), encoding="utf-8")
        config = load_config(folder / "config.yaml")
        groups = by_participant(read_clips(folder / config["clips"]))
        pool.starmap(_make_units, [(folder, config, own) for own in groups.values()], chunksize=8)


def write_video(path: Path, *, seed: int) -> None:
    """A video of its own: nine frames of noise."""
    import av
    import numpy as np

    rng = np.random.default_rng(seed)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=30)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for picture in rng.integers(0, 256, (9, 32, 32, 3), dtype=np.uint8):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def _make_sources(data: Path, participant: str, clips: int) -> None:
    import numpy as np

    from smad_features import schema

    (data / participant).mkdir()
    number = int(participant[1:])
    for i in range(clips):
        write_video(data / participant / f"{participant}_C{i:02d}.mp4", seed=1000 * number + i)
        values = np.random.default_rng([number, i]).uniform(0.1, 0.9, (36, 39)).round(4)
        values[:, [channel.kind == "category" for channel in schema.TOBII_PRO_LAB_39]] = 1
        with (data / participant / f"{participant}_C{i:02d}.tsv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, delimiter="\t", lineterminator="\n")
            writer.writerows([[channel.name for channel in schema.TOBII_PRO_LAB_39], *values.tolist()])


def _write_tables(data: Path, rows: list[tuple[str, str]]) -> None:
    from smad_features.synthetic_plan import CIRCUMPLEX

    with (data / "clips.tsv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(["clip", "participant", "video", "eye"])
        writer.writerows([clip, person, f"{person}/{clip}.mp4", f"{person}/{clip}.tsv"] for clip, person in rows)
    emotions = list(CIRCUMPLEX.items())
    with (data / "labels.tsv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(["clip", "emotion", "intensity", "valence", "arousal"])
        for number, (clip, _) in enumerate(rows):
            emotion, (valence, arousal) = emotions[number % len(emotions)]
            writer.writerow([clip, emotion, number % 4, valence, arousal])


def _make_units(folder: Path, config: dict[str, Any], clips: list[Any]) -> None:
    import contextlib
    import os

    from smad_features.freshness import unit_path
    from smad_features.units import make_eyes, make_faces

    with contextlib.redirect_stderr(Path(os.devnull).open("w")):
        for stage, make in (("faces", make_faces), ("eyes", make_eyes)):
            output = unit_path(stage, clips[0].participant, results=folder / "results")
            make(clips, config, output, root=folder / "data", key=None)
