"""A study as the commands find it: its configuration, its clips, and where things lie in its working directory."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from smad_features.config import load_config
from smad_features.manifest import Clip, read_clips
from smad_features.privacy import make_with

FINGERPRINTS = Path(".smad/fingerprints.sqlite")
RESULTS = Path("results")


def read_study(configfile: Path) -> tuple[dict[str, Any], list[Clip]]:
    """Configuration and clips; what this process writes from now on is for those whom `cache.mode` allows.

    Raises
    ------
    ConfigError, TableError
        They cannot be used.
    """
    config = load_config(configfile)
    make_with(config["cache"]["mode"])
    return config, read_clips(Path(config["clips"]))


def read_manifest() -> list[dict[str, str]]:
    """The rows of `results/clips.tsv`."""
    with (RESULTS / "clips.tsv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))
