"""A study of any size for the measurements of growth: links to a few files, and units and predictions written at once.

Every participant has the same ten clips under names of their own. The first one's units are made by the jobs' own code;
those of the others are these with the names and the two digests replaced, so that `status` finds every one fresh.
"""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

CLIPS = 10  # of a participant
CONFIG: dict[str, Any] = {
    "clips": "../tables/clips.tsv",
    "labels": "../tables/labels.tsv",
    "face": {"align": "none", "size": 16, "frames": 2},
    "eye": {"steps": 4},
}
EMOTIONS = ("happiness", "sadness", "fear", "disgust", "surprise", "anger", "neutral")
TASKS = ("emotion", "valence", "arousal", "intensity")


def make_sources(folder: Path, participants: int) -> None:
    """``data/``, ``tables/`` and two working directories: ``bare``, where nothing will be made, and ``made``."""
    import numpy as np
    import yaml
    from smad_sized import write_video

    from smad_features import schema

    for name in ("sources", "tables", "bare", "made"):
        (folder / name).mkdir(parents=True)
    for number in range(CLIPS):
        write_video(folder / f"sources/{number}.mp4", seed=number)
        values = np.random.default_rng(number).uniform(0.1, 0.9, (36, 39)).round(4)
        values[:, [channel.kind == "category" for channel in schema.TOBII_PRO_LAB_39]] = 1
        names = [channel.name for channel in schema.TOBII_PRO_LAB_39]
        _write_rows(folder / f"sources/{number}.tsv", [names, *values.tolist()])
    clips, labels = [["clip", "participant", "video", "eye"]], [["clip", *TASKS]]
    rng = np.random.default_rng(0)
    for person in name_people(participants):
        (folder / "data" / person).mkdir(parents=True)
        for number in range(CLIPS):
            clip = f"{person}_C{number}"
            for ending in ("mp4", "tsv"):
                (folder / "data" / person / f"{clip}.{ending}").hardlink_to(folder / f"sources/{number}.{ending}")
            clips.append([clip, person, *(f"../data/{person}/{clip}.{ending}" for ending in ("mp4", "tsv"))])
            values = [f"{x:.3f}" for x in (*rng.uniform(-1, 1, 2), rng.uniform(0, 3))]
            labels.append([clip, EMOTIONS[rng.integers(len(EMOTIONS))], *values])
    _write_rows(folder / "tables/clips.tsv", clips)
    _write_rows(folder / "tables/labels.tsv", labels)
    for name in ("bare", "made"):
        (folder / name / "config.yaml").write_text(yaml.safe_dump(CONFIG), encoding="utf-8")


def name_people(participants: int) -> list[str]:
    """Their ids, all of one length."""
    return [f"P{number:06d}" for number in range(participants)]


def make_units(folder: Path, participants: int) -> None:
    """The units of both stages in ``made/results``."""
    import contextlib
    import os

    from smad_features.config import load_config
    from smad_features.manifest import read_clips
    from smad_features.units import make_eyes, make_faces

    made, people = folder / "made", name_people(participants)
    config = load_config(made / "config.yaml")
    clips = [clip for clip in read_clips(folder / "tables/clips.tsv") if clip.participant == people[0]]
    for stage, make in (("faces", make_faces), ("eyes", make_eyes)):
        first = made / f"results/{stage}/{people[0]}.zarr.zip"
        with contextlib.redirect_stderr(Path(os.devnull).open("w")):
            make(clips, config, first, root=folder / "tables", key=None)
        copy_unit(first, people[0], people[1:])


def copy_unit(first: Path, person: str, others: Iterable[str]) -> None:
    """Units of others, as if they had been made from their own clips of the same content."""
    from smad_features.fingerprints import canonical, digest_of
    from smad_features.freshness import planned_digest, read_unit_attributes
    from smad_features.sealed import read_entries, seal

    said = read_unit_attributes(first)
    if said is None:
        raise RuntimeError(f"{first}: not a whole unit")
    if planned_digest(said["record"]) != said["digest"] or digest_of(said["contents"]) != said["content"]:
        raise RuntimeError(f"{first}: its digests are made otherwise than this benchmark knows")
    entries = read_entries(first.read_bytes())
    texts = {said[name]: canonical(said[part]) for name, part in (("digest", "record"), ("content", "contents"))}
    attributes = entries["zarr.json"].decode()
    for other in others:
        own = attributes.replace(person, other)
        for before, text in texts.items():
            own = own.replace(before, digest_of(json.loads(text.replace(person, other))))
        first.with_name(f"{other}.zarr.zip").write_bytes(seal(entries | {"zarr.json": own.encode()}))


def make_predictions(folder: Path) -> None:
    """Predictions of the clips in ``made/results/folds.tsv``, right in about half of them."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    results = folder / "made/results"
    with (results / "folds.tsv").open(encoding="utf-8", newline="") as file:
        places = list(csv.DictReader(file, delimiter="\t"))
    with (folder / "tables/labels.tsv").open(encoding="utf-8", newline="") as file:
        labels = {row["clip"]: row for row in csv.DictReader(file, delimiter="\t")}
    rng = np.random.default_rng(1)
    shutil.rmtree(results / "predictions", ignore_errors=True)
    (results / "predictions").mkdir()
    for task in TASKS:
        columns: dict[str, Any] = {name: [row[name] for row in places] for name in ("clip", "participant")}
        columns["fold"] = [int(row["fold"]) for row in places]
        columns["present"] = ["face+eye+gaze"] * len(places)
        truth = [labels[row["clip"]][task] for row in places]
        if task == "emotion":
            sure = rng.dirichlet(np.ones(len(EMOTIONS)), len(places))
            sure += np.eye(len(EMOTIONS))[[EMOTIONS.index(name) for name in truth]] * rng.integers(
                0, 2, (len(truth), 1)
            )
            sure /= sure.sum(axis=1, keepdims=True)
            columns["prediction"] = [EMOTIONS[number] for number in sure.argmax(axis=1)]
            columns |= {f"p_{name}": sure[:, number] for number, name in enumerate(EMOTIONS)}
        else:
            columns["prediction"] = 0.6 * np.array(truth, dtype=float) + rng.normal(0.1, 0.3, len(truth))
        pq.write_table(pa.table(columns), results / f"predictions/{task}.parquet")


def _write_rows(path: Path, rows: Sequence[Sequence[Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter="\t", lineterminator="\n").writerows(rows)
