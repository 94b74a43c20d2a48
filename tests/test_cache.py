"""Units and the packed cache: whole or not at all, the same whoever wrote them, and damage is noticed."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tensorstore
import zarr

from smad_features import cache, schema, shards
from smad_features.cache import CacheError, Unit
from smad_features.freshness import read_unit_attributes

SPECS = {"faces": schema.face_arrays(size=16), "eyes": schema.eye_arrays()}


def make_unit(stage: str, participant: str, clips: int, *, seed: int = 0) -> Unit:
    rng = np.random.default_rng([seed, *participant.encode()])
    names = [f"{participant}_{i:02d}" for i in range(clips)]
    arrays = {}
    for name, spec in SPECS[stage].items():
        shape = (clips, *spec.shape)
        arrays[name] = (rng.random(shape) * (255 if spec.dtype == "uint8" else 2)).astype(spec.dtype)
    states = {name: {"state": "ok", "reason": ""} for name in names}
    return Unit(
        participant, names, arrays, states, {name: {} for name in names}, {"clips": {}, "participant": participant}
    )


@pytest.fixture
def tree(tmp_path: Path) -> tuple[Path, list[tuple[str, str]], list[dict[str, Path]]]:
    """Units of three participants with 150 clips: three shards, the last one not full."""
    rows, units = [], []
    for stage, specs in SPECS.items():
        files = {}
        for participant in ("A", "B", "C"):
            unit = make_unit(stage, participant, 50)
            files[participant] = tmp_path / stage / f"{participant}.zarr.zip"
            cache.write_unit(files[participant], unit, specs)
            rows += [(participant, clip) for clip in unit.clips if stage == "faces"]
        units.append(files)
    return tmp_path, rows, units


def pack(tree: tuple[Path, list[tuple[str, str]], list[dict[str, Path]]], **changes: object) -> str:
    results, rows, units = tree
    return cache.pack(results, changes.get("rows", rows), units, SPECS["faces"] | SPECS["eyes"], {"channels": []})  # type: ignore[arg-type]


def test_a_unit_comes_back_as_it_was(tmp_path: Path) -> None:
    unit = make_unit("eyes", "A", 3)
    cache.write_unit(tmp_path / "A.zarr.zip", unit, SPECS["eyes"])
    back = cache.read_unit(tmp_path / "A.zarr.zip")
    assert (back.clips, back.states, back.record) == (unit.clips, unit.states, unit.record)
    for name, array in unit.arrays.items():
        np.testing.assert_array_equal(back.arrays[name], array)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["A.zarr.zip"]


def test_a_unit_that_fails_half_way_leaves_the_old_one(tmp_path: Path) -> None:
    unit = make_unit("eyes", "A", 3)
    cache.write_unit(tmp_path / "A.zarr.zip", unit, SPECS["eyes"])
    before = (tmp_path / "A.zarr.zip").read_bytes()
    unit.arrays["gaze"] = np.zeros((3, 5), "float32")  # does not fit
    with pytest.raises((ValueError, IndexError)):
        cache.write_unit(tmp_path / "A.zarr.zip", unit, SPECS["eyes"])
    assert (tmp_path / "A.zarr.zip").read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["A.zarr.zip"]


def test_a_damaged_or_cut_unit_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "A.zarr.zip"
    cache.write_unit(path, make_unit("eyes", "A", 3), SPECS["eyes"])
    good = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo("eye/c/1/0/0")
    damaged = bytearray(good)
    damaged[info.header_offset + 100] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(CacheError, match=r"A\.zarr\.zip: damaged"):
        cache.read_unit(path)
    path.write_bytes(good[: len(good) // 2])
    assert read_unit_attributes(path) is None
    with pytest.raises(CacheError, match="not a whole unit"):
        cache.read_unit(path)


def test_the_packed_rows_are_those_of_the_units(tree) -> None:  # type: ignore[no-untyped-def]
    results, rows, units = tree
    digest = pack(tree)
    group = zarr.open_group(results / "cache.zarr", mode="r")
    assert list(group.attrs["clips"]) == [clip for _, clip in rows]
    for files, specs in zip(units, SPECS.values(), strict=True):
        for name in specs:
            wanted = np.concatenate([cache.read_unit(files[p]).arrays[name] for p in "ABC"])
            np.testing.assert_array_equal(group[name][...], wanted)
    assert json.loads((results / "cache.json").read_text())["digest"] == digest
    assert group["face"].shards[0] == shards.SHARD
    assert group["face"].chunks[0] == 1


def test_a_clip_without_any_data_is_written_not_left_out(tmp_path: Path) -> None:
    units = []
    for stage, specs in SPECS.items():
        unit = make_unit(stage, "A", 3)
        for name, spec in specs.items():
            unit.arrays[name][1] = spec.missing
        units.append({"A": tmp_path / stage / "A.zarr.zip"})
        cache.write_unit(units[-1]["A"], unit, specs)
    rows = [("A", f"A_{i:02d}") for i in range(3)]
    cache.pack(tmp_path, rows, units, SPECS["faces"] | SPECS["eyes"], {"channels": []})
    assert cache.verify_cache((tmp_path / "cache.zarr").resolve()) == []
    store = tmp_path / "cache.zarr"
    for name in SPECS["faces"] | SPECS["eyes"]:
        spec = {"driver": "zarr3", "kvstore": f"file://{store / name}/", "fill_missing_data_reads": False}
        found = tensorstore.open(spec, read=True).result().read().result()
        np.testing.assert_array_equal(found, np.asarray(zarr.open_group(store, mode="r")[name]))


def test_the_same_content_is_packed_once(tree) -> None:  # type: ignore[no-untyped-def]
    first = pack(tree)
    link = tree[0] / "cache.zarr"
    made = (link.resolve() / "zarr.json").stat().st_mtime_ns
    assert pack(tree) == first
    assert (link.resolve() / "zarr.json").stat().st_mtime_ns == made


def test_another_content_is_swapped_in_and_only_the_store_before_it_stays(tree) -> None:  # type: ignore[no-untyped-def]
    results, rows, _ = tree
    digests = [pack(tree, rows=rows[:n]) for n in (150, 149, 148)]
    assert len(set(digests)) == 3
    stores = {path.name for path in results.glob("cache-*.zarr")}
    assert stores == {f"cache-{digest}.zarr" for digest in digests[1:]}
    assert zarr.open_group(results / "cache.zarr", mode="r")["face"].shape[0] == 148


def test_leftovers_of_a_killed_run_are_cleared_away(tree) -> None:  # type: ignore[no-untyped-def]
    results = tree[0]
    leftover = results / ".cache-0123.zarr.tmp"
    leftover.mkdir()
    (leftover / "zarr.json").write_text("{}")
    (results / "mine.txt").write_text("not ours")
    pack(tree)
    assert not leftover.exists()
    assert (results / "mine.txt").exists()


@pytest.mark.parametrize("damage", ["flip", "delete"])
def test_verify_names_the_clips_of_a_damaged_shard(tree, damage: str) -> None:  # type: ignore[no-untyped-def]
    pack(tree)
    store = (tree[0] / "cache.zarr").resolve()
    assert cache.verify_cache(store) == []
    shard = store / "face/c/1/0/0/0/0"
    if damage == "flip":
        data = bytearray(shard.read_bytes())
        data[1000] ^= 1
        shard.write_bytes(data)
    else:
        shard.unlink()
    (said,) = cache.verify_cache(store)
    assert "face" in said
    assert "B_14" in said  # row 64
    assert "A_49" not in said
