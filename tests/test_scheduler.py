"""Packing and statistics by a cluster of worker processes: the same bytes as by threads, the same sentences."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import zarr
from test_packing import STAGES, clips_of, content, write_units

from smad_features import cache, scheduler, schema
from smad_features.privacy import make_with, umask_kept
from smad_features.scheduler import SchedulerError, run_tasks
from smad_features.shard_tasks import CacheError, Shard, make_shard
from smad_features.statistics import Moments, moments_of, moments_of_pixels, write_statistics

CHANNELS = [{"name": channel.name, "unit": channel.unit} for channel in schema.TOBII_PRO_LAB_39]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two worker processes on this machine, whose umask lets everybody read what they make."""
    from distributed import LocalCluster

    umask = os.umask(0o022)
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0") as started:
        yield started
    os.umask(umask)


@pytest.fixture(scope="module")
def units(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three participants with 50 clips each: three shards, the last one not full."""
    folder = tmp_path_factory.mktemp("units")
    for participant in "ABC":
        write_units(folder, participant, range(50))
    return folder


def pack(results: Path, units: Path, *, by: str = "threads") -> Path:
    files = [{who: units / stage / f"{who}.zarr.zip" for who in "ABC"} for stage in STAGES]
    rows = [(who, clip) for who in "ABC" for clip in clips_of(files[1][who])]
    specs = schema.face_arrays(size=16) | schema.eye_arrays()
    cache.pack(results, rows, files, specs, {"channels": CHANNELS}, scheduler=by)
    return (results / "cache.zarr").resolve()


def test_a_cluster_packs_the_same_bytes_as_threads(
    cluster: Any, units: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the workers are elsewhere: what they get must not be relative
    one, other = pack(Path("threads"), units), pack(Path("cluster"), units, by=cluster.scheduler_address)
    assert content(one) == content(other)
    assert len(content(one)) == 1 + 10 + 3 * 10
    assert Path("threads/cache.json").read_bytes() == Path("cluster/cache.json").read_bytes()


def test_a_cluster_computes_the_same_statistics_as_threads_and_numpy(cluster: Any, units: Path, tmp_path: Path) -> None:
    store = pack(tmp_path, units)
    for by in ("threads", cluster.scheduler_address):
        assert write_statistics(tmp_path, tmp_path / f"{by[:3]}.tsv", scheduler=by) == 150
    assert (tmp_path / "thr.tsv").read_bytes() == (tmp_path / "tcp.tsv").read_bytes()
    header, *lines = [line.split("\t") for line in (tmp_path / "thr.tsv").read_text().splitlines()]
    assert len(lines) == 39 + 2 + 3
    group = zarr.open_group(store, mode="r")
    found = {(line[0], line[1]): dict(zip(header[3:], map(float, line[3:]), strict=True)) for line in lines}
    eye, gaze = (np.asarray(group[name][...]).astype(np.float64) for name in ("eye", "gaze"))  # type: ignore[index]
    shown = np.asarray(group["face"][...])[np.asarray(group["face_found"][...])].astype(np.float64)  # type: ignore[index]
    for key, values in {
        ("eye", "Pupil diameter left"): eye[..., 12],
        ("gaze", "y"): gaze[..., 1],
        ("face", "green"): shown[..., 1],
    }.items():
        said = found[key]
        assert said["observed"] == values.size
        wanted = {"mean": values.mean(), "sd": values.std(ddof=1), "min": values.min(), "max": values.max()}
        assert {name: said[name] for name in wanted} == pytest.approx(wanted, rel=1e-8)


def test_what_workers_write_has_the_mode_that_was_asked_for(cluster: Any, units: Path, tmp_path: Path) -> None:
    for mode, folders in (("0600", 0o700), ("0640", 0o750)):
        with umask_kept():
            make_with(mode)
            store = pack(tmp_path / mode, units, by=cluster.scheduler_address)
        found = {stat.S_IMODE(path.stat().st_mode) for path in store.rglob("*") if path.is_file()}
        assert found == {int(mode, 8)}
        assert {stat.S_IMODE(path.stat().st_mode) for path in store.rglob("*") if path.is_dir()} == {folders}


def test_a_damaged_unit_is_named_by_the_same_sentence_and_the_old_cache_stays(cluster: Any, tmp_path: Path) -> None:
    for participant in "ABC":
        write_units(tmp_path / "units", participant, range(2))
    before = content(pack(tmp_path, tmp_path / "units"))
    write_units(tmp_path / "units", "B", range(2), seed=1)
    unit = tmp_path / "units/faces/B.zarr.zip"
    damaged = bytearray(unit.read_bytes())
    damaged[damaged.index(b"face/c/1/") + 500] ^= 1
    unit.write_bytes(damaged)
    said = set()
    for by in ("threads", cluster.scheduler_address):
        with pytest.raises(CacheError, match=r"faces/B\.zarr\.zip: damaged \(.*to mend it, delete it") as caught:
            pack(tmp_path, tmp_path / "units", by=by)
        said.add(str(caught.value))
        assert content((tmp_path / "cache.zarr").resolve()) == before
        assert not list(tmp_path.glob(".cache-*"))
    assert len(said) == 1


def test_a_worker_that_does_not_see_the_files_says_so(cluster: Any, tmp_path: Path) -> None:
    unit = {"A": str(tmp_path / "units/faces/A.zarr.zip")}
    shard = Shard(str(tmp_path), 0, (("A", "A_000"),), (unit,), schema.eye_arrays(), False, 0o077)
    with pytest.raises(
        CacheError, match=r"A\.zarr\.zip: is not there as .* sees it: workers need the working directory"
    ):
        run_tasks(make_shard, [shard], scheduler=cluster.scheduler_address)


def test_a_task_carries_its_own_rows_and_nothing_of_the_others(units: Path, tmp_path: Path) -> None:
    tasks: list[Any] = []

    def note(work: Any, given: Any, **how: Any) -> Any:
        tasks.extend(given)
        return run_tasks(work, given, **how)

    with patch.object(cache, "run_tasks", note):
        pack(tmp_path, units)
    assert [len(task.rows) for task in tasks] == [64, 64, 22]
    assert [sorted(task.units[0]) for task in tasks] == [["A", "B"], ["B", "C"], ["C"]]
    assert all(Path(file).is_absolute() for task in tasks for files in task.units for file in files.values())


def test_an_address_where_nobody_answers_is_told(units: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "_CONNECT", 0.5)
    with pytest.raises(SchedulerError, match=r"tcp://127\.0\.0\.1:9: no scheduler answers there within 0\.5 s"):
        pack(tmp_path, units, by="tcp://127.0.0.1:9")
    assert list(tmp_path.iterdir()) == []


def test_a_scheduler_without_workers_is_waited_for_and_then_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from distributed import LocalCluster

    monkeypatch.setattr(scheduler, "_FIRST_WORKER", 0.5)
    with LocalCluster(n_workers=0, processes=True, dashboard_address="127.0.0.1:0") as empty:
        address = empty.scheduler_address
        with pytest.raises(SchedulerError, match=f"{address}: no worker came within .*dask worker {address}"):
            run_tasks(abs, [1], scheduler=address)
    assert f"{address}: has no workers yet; waits for the first one, up to 0.5 s" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("side", "package", "wanted"),
    [
        (
            "workers",
            "zarr",
            r"worker tcp://.* has zarr 2\.1, want 3\.\S+; worker .*Start scheduler and workers from the",
        ),
        ("scheduler", "dask", r"the scheduler has dask 2\.1, want 20\S+"),
        ("workers", "python", r"worker tcp://.* has python 2\.1, want 3\.\d+"),
    ],
)
def test_a_cluster_of_other_versions_is_refused_by_name(
    cluster: Any, monkeypatch: pytest.MonkeyPatch, side: str, package: str, wanted: str
) -> None:
    from distributed import Client

    true = Client.get_versions

    def get_versions(client: Client, **how: Any) -> Any:
        found: Any = true(client, **how)
        for said in found[side].values() if side == "workers" else [found[side]]:
            said["packages"][package] = "2.1"
        return found

    monkeypatch.setattr(Client, "get_versions", get_versions)
    with pytest.raises(SchedulerError, match=wanted):
        run_tasks(abs, [1], scheduler=cluster.scheduler_address)


def test_workers_with_other_code_of_ours_are_refused(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "code_digest", lambda module: f"edited {module}")
    with pytest.raises(SchedulerError, match=r"worker tcp://.* has other code of SMAD"):
        run_tasks(abs, [1], scheduler=cluster.scheduler_address)


def test_moments_of_parts_are_those_of_the_whole_even_far_from_zero() -> None:
    values = 1e6 + np.random.default_rng(0).normal(size=(10, 1000)).astype(np.float64)
    values[3] = np.nan
    total = Moments()
    for part in values:
        total += moments_of(part)
    seen = values[np.isfinite(values)]
    assert total.count == 9000
    assert total.mean == pytest.approx(seen.mean(), rel=1e-14)
    assert total.squares == pytest.approx(((seen - seen.mean()) ** 2).sum(), rel=1e-9)
    assert Moments() + Moments() == moments_of(np.full(3, np.nan)) == Moments()


def test_moments_of_pixels_are_those_of_their_values() -> None:
    pixels = np.random.default_rng(0).integers(3, 250, 5000)
    one, other = moments_of_pixels(np.bincount(pixels, minlength=256).tolist()), moments_of(pixels.astype(np.float64))
    assert (one.count, one.least, one.largest) == (other.count, other.least, other.largest)
    assert (one.mean, one.squares) == pytest.approx((other.mean, other.squares), rel=1e-12)
