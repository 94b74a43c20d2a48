"""A working directory whose features are made in seconds: pictures of noise, no face to find, no recordings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml


def write_study(folder: Path, *, participants: int = 2, clips: int = 1, size: int = 112, **settings: Any) -> Path:
    """Clips of eight noisy pictures each, which no compression makes smaller: some 300 kB of crops a clip."""
    rng = np.random.default_rng(0)
    rows = ["clip\tparticipant\tvideo"]
    for participant in (f"P{i}" for i in range(1, participants + 1)):
        for clip in (f"{participant}_C{i}" for i in range(1, clips + 1)):
            (folder / "raw" / clip).mkdir(parents=True)
            for number in range(8):
                picture = rng.integers(0, 256, (112, 112, 3), dtype=np.uint8)
                cv2.imwrite(str(folder / "raw" / clip / f"{number}.png"), picture)
            rows.append(f"{clip}\t{participant}\traw/{clip}")
    (folder / "clips.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    configure(folder, size=size, **settings)
    return folder


def configure(folder: Path, *, size: int = 112, **settings: Any) -> None:
    """Write its configuration."""
    values = {"clips": "clips.tsv", "labels": None, "face": {"align": "none", "size": size}, **settings}
    (folder / "config.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
