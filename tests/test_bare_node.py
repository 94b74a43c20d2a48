"""A GPU node trains and predicts with torch, tensorstore, numpy, pandas, pyarrow and safetensors, and nothing else."""

import re
import subprocess
import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

import pyarrow.parquet as pq
from conftest import environment
from model_fixtures import EMOTIONS, draw_arrays, draw_labels, name_clips, write_cache, write_tables
from packaging.requirements import Requirement

NEEDED = ("torch", "tensorstore", "numpy", "pandas", "pyarrow", "safetensors")

# What is not allowed cannot be found, even by those who would do without it.
BARE = """
import sys

allowed = {*sys.argv[1].split(","), *sys.stdlib_module_names, "smad_features", "smad_models"}


class Bare:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        is_here = top in allowed or top.startswith("_sysconfigdata")  # of the standard library, named by the platform
        return self.finder.find_spec(name, path, target) if is_here else None

    def __getattr__(self, name):
        return getattr(self.finder, name)


sys.meta_path[:] = [Bare(finder) for finder in sys.meta_path]
from smad_models.cli import main

common = ["--emotions", sys.argv[2], "--task", "valence", "--folds", "folds.tsv", "--cache", "cache.zarr"]
for fold in "12":
    output = f"checkpoints/valence/fold{fold}.safetensors"
    train = ["train", *common, "--fold", fold, "--labels", "labels.tsv", "--epochs", "1", "--output", output]
    assert main(train) == 0
asked = ["--checkpoints", "checkpoints", "--output", "valence.parquet", "--embeddings", "embeddings.parquet"]
assert main(["predict", *common, *asked]) == 0
print("loaded:", *sorted({name.partition(".")[0] for name in sys.modules}))
"""


def name_modules(distributions: Iterable[str]) -> set[str]:
    """The modules of some distributions, and of all that these require."""
    wanted, found = list(distributions), set()
    while wanted:
        name = re.sub(r"[-_.]+", "-", wanted.pop()).lower()
        if name in found:
            continue
        try:
            lines = requires(name) or []
        except PackageNotFoundError:  # of another platform
            continue
        found.add(name)
        needed = [Requirement(line) for line in lines]
        wanted += [one.name for one in needed if one.marker is None or one.marker.evaluate({"extra": ""})]
    owners = packages_distributions().items()
    return {module for module, of in owners if {re.sub(r"[-_.]+", "-", name).lower() for name in of} & found}


def test_training_and_prediction_need_none_of_the_video_stack_nor_zarr_nor_what_makes_reports(tmp_path: Path) -> None:
    clips = name_clips(4, 2)
    labels = draw_labels(len(clips))
    write_cache(tmp_path / "cache.zarr", clips, draw_arrays(labels, size=16))
    write_tables(tmp_path, clips, labels, folds=2)
    allowed = name_modules(NEEDED)
    assert {"torch", "tensorstore", "numpy", "pandas", "pyarrow", "safetensors"} <= allowed
    assert not {"cv2", "av", "mediapipe", "zarr", "dask", "sklearn", "scipy", "rich"} & allowed
    command = [sys.executable, "-c", BARE, ",".join(allowed), ",".join(EMOTIONS)]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split("loaded:")[1].split())
    assert {"torch", "tensorstore"} <= loaded
    assert not {"cv2", "av", "mediapipe", "zarr", "dask", "sklearn", "scipy", "rich", "matplotlib"} & loaded
    assert pq.read_table(tmp_path / "valence.parquet").num_rows == len(clips)
    assert pq.read_table(tmp_path / "embeddings.parquet").num_rows == len(clips)
