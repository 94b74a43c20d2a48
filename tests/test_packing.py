"""The packed cache follows from its rows alone, whoever wrote it and whatever stood there; and in bounded memory."""

import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import dask
import numpy as np
import pytest
import zarr
from conftest import ROOT, environment, run_features, run_workflow
from runners import assert_same_cache
from small_study import write_study

from smad_features import cache, schema, shards
from smad_features.cache import CacheError, Unit
from smad_features.freshness import read_unit_attributes

STAGES = ("faces", "eyes")
SPECS = schema.face_arrays(size=16) | schema.eye_arrays()


def write_units(folder: Path, participant: str, clips: Iterable[int], *, seed: int = 0, size: int = 16) -> None:
    """Units of both stages, of random numbers; the same clip has the same numbers whichever clips are beside it."""
    names = [f"{participant}_{i:03d}" for i in clips]
    for stage, specs in {"faces": schema.face_arrays(size=size), "eyes": schema.eye_arrays()}.items():
        arrays = {}
        for name, spec in specs.items():
            rows = []
            for clip in names:
                rng = np.random.default_rng([seed, *f"{clip}{name}".encode()])
                rows.append((rng.random(spec.shape) * (255 if spec.dtype == "uint8" else 2)).astype(spec.dtype))
            arrays[name] = np.stack(rows)
        states = {name: {"state": "ok", "reason": ""} for name in names}
        record: dict[str, Any] = {"clips": {name: {} for name in names}, "participant": participant, "seed": seed}
        unit = Unit(participant, names, arrays, states, {name: {} for name in names}, record)
        cache.write_unit(folder / stage / f"{participant}.zarr.zip", unit, specs)


def pack(
    results: Path, *, units: Path, left_out: Iterable[str] = (), workers: int = 1, size: int = 16, shard: int = 8
) -> Path:
    """Pack all units under ``units``, ``shard`` clips a shard; the store."""
    people = sorted(path.name.partition(".")[0] for path in (units / "eyes").iterdir())
    files = [{who: units / stage / f"{who}.zarr.zip" for who in people} for stage in STAGES]
    rows = [(who, clip) for who in people for clip in clips_of(files[1][who]) if clip not in left_out]
    specs = schema.face_arrays(size=size) | schema.eye_arrays()
    with dask.config.set(num_workers=workers), patch.object(shards, "SHARD", shard):
        cache.pack(results, rows, files, specs, {"channels": []})
    return (results / "cache.zarr").resolve()


def clips_of(unit: Path) -> list[str]:
    attributes = read_unit_attributes(unit)
    assert attributes is not None
    return attributes["clips"]


def content(store: Path) -> dict[str, bytes]:
    return {str(path.relative_to(store)): path.read_bytes() for path in store.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def units(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three participants with 9 clips each: 27 rows, four shards, the last one not full."""
    folder = tmp_path_factory.mktemp("units")
    for participant in "ABC":
        write_units(folder, participant, range(9))
    return folder


@pytest.fixture
def copied(units: Path, tmp_path: Path) -> Path:
    """The units where a test may change them."""
    return shutil.copytree(units, tmp_path / "units")


def test_the_bytes_do_not_depend_on_the_number_of_workers(units: Path, tmp_path: Path) -> None:
    one, four = (content(pack(tmp_path / str(n), units=units, workers=n)) for n in (1, 4))
    assert len([name for name in one if name.startswith("face/c/")]) == 4
    assert one == four


def test_the_bytes_do_not_depend_on_what_was_packed_before(units: Path, copied: Path, tmp_path: Path) -> None:
    anew = content(pack(tmp_path / "anew", units=units))
    results = tmp_path / "results"
    write_units(copied, "B", range(9), seed=1)
    pack(results, units=copied, workers=4)
    pack(results, units=copied, left_out=["A_003", "C_008"])  # other rows in every shard
    for stage in STAGES:
        shutil.copy(units / stage / "B.zarr.zip", copied / stage / "B.zarr.zip")
    pack(results, units=copied, left_out=["C_008"], workers=4)
    assert content(pack(results, units=copied)) == anew


def test_only_shards_with_a_changed_row_are_written_anew(copied: Path, tmp_path: Path) -> None:
    results = tmp_path / "results"
    before = pack(results, units=copied)
    write_units(copied, "C", range(9), seed=1)  # rows 18 to 26
    after = pack(results, units=copied)
    assert before != after
    for name in SPECS:
        shards = [Path(name, "c", str(n), *["0"] * len(SPECS[name].shape)) for n in range(4)]
        kept = [(before / file).stat().st_ino == (after / file).stat().st_ino for file in shards]
        assert kept == [True, True, False, False], name
    wanted = np.concatenate([cache.read_unit(copied / "faces" / f"{who}.zarr.zip").arrays["face"] for who in "ABC"])
    np.testing.assert_array_equal(zarr.open_group(after, mode="r")["face"][...], wanted)


@pytest.mark.parametrize("damage", ["flip", "delete"])
def test_a_shard_that_was_damaged_since_is_not_taken_over(copied: Path, tmp_path: Path, damage: str) -> None:
    results = tmp_path / "results"
    shard = pack(results, units=copied) / "face/c/0/0/0/0/0"
    if damage == "flip":
        damaged = bytearray(shard.read_bytes())
        damaged[1000] ^= 1
        shard.write_bytes(damaged)
    else:
        shard.unlink()
    write_units(copied, "C", range(9), seed=1)
    store = pack(results, units=copied)
    assert cache.verify_cache(store) == []
    assert content(store) == content(pack(tmp_path / "anew", units=copied))


def test_crops_of_another_size_are_not_taken_for_the_old_ones(copied: Path, tmp_path: Path) -> None:
    results = tmp_path / "results"
    pack(results, units=copied)
    for who in "ABC":
        write_units(copied, who, range(9), size=24)
    store = pack(results, units=copied, size=24)
    assert content(store) == content(pack(tmp_path / "anew", units=copied, size=24))
    assert zarr.open_group(store, mode="r")["face"].shape == (27, 8, 24, 24, 3)


def test_a_unit_that_lost_a_chunk_is_refused_by_name_and_not_packed_as_missing(copied: Path, tmp_path: Path) -> None:
    path = copied / "faces/B.zarr.zip"
    with zipfile.ZipFile(path) as whole, zipfile.ZipFile(tmp_path / "cut.zip", "w") as cut:
        for member in whole.namelist():
            if member != "face/c/7/0/0/0/0":
                cut.writestr(member, whole.read(member))
    (tmp_path / "cut.zip").replace(path)
    with pytest.raises(CacheError, match=r"B\.zarr\.zip: damaged \(data lost of face\)"):
        pack(tmp_path / "results", units=copied)


def test_a_shard_holds_64_clips_and_fewer_where_crops_are_large() -> None:
    assert shards.clips_a_shard(schema.face_arrays().values()) == 64
    assert shards.clips_a_shard(schema.face_arrays(frames=32, size=224).values()) == 6
    assert shards.clips_a_shard(schema.face_arrays(frames=512, size=1024).values()) == 1


@pytest.mark.slow
def test_packing_takes_no_more_memory_for_a_larger_cache_or_a_larger_participant(tmp_path: Path) -> None:
    program = """
import re, sys, pathlib
sys.path.insert(0, sys.argv[1])
import test_packing
test_packing.pack(pathlib.Path(sys.argv[2]), units=pathlib.Path(sys.argv[3]), workers=4, size=112, shard=64)
print(re.search(r"VmHWM:\\s*(\\d+) kB", pathlib.Path("/proc/self/status").read_text())[1])
"""
    peaks = []
    for clips in (256, 1024):  # 77 MB and 308 MB of crops, of one participant
        units = tmp_path / str(clips)
        write_units(units, "A", range(clips), size=112)
        command = [sys.executable, "-c", program, str(ROOT / "tests"), str(tmp_path / f"results{clips}"), str(units)]
        done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout.split()[-1]) // 1024)
    assert peaks[1] < peaks[0] + 170, peaks  # MiB: less than what there is more of


@pytest.mark.slow
def test_sources_and_units_put_back_together_under_their_old_dates_are_packed_again(tmp_path: Path) -> None:
    live = write_study(tmp_path / "live", participants=2)
    assert run_workflow(live, "features").returncode == 0
    backup = shutil.copytree(live, tmp_path / "backup", symlinks=True)  # dates and all
    (live / "raw/P1_C1/0.png").write_bytes((live / "raw/P1_C1/1.png").read_bytes())
    assert run_workflow(live, "features").returncode == 0
    for name in ("raw/P1_C1/0.png", "results/faces/P1.zarr.zip"):
        shutil.copy2(backup / name, live / name)
    status = run_features(live, "status", "--why", "--configfile", "config.yaml")
    assert status.returncode == 1
    assert "results/clips.tsv: `results/cache.zarr` was packed from other units than lie there now" in status.stdout
    run = run_workflow(live, "features")
    assert run.jobs == {"list_clips": 1, "quality": 1, "pack": 1}
    assert_same_cache(live / "results", backup / "results")
    assert (live / "results/quality.tsv").read_bytes() == (backup / "results/quality.tsv").read_bytes()
    assert "Nothing to be done" in run_workflow(live, "features", "-n").output
