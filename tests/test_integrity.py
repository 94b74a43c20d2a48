"""Damage of any byte of a unit or of the packed cache is found, named, and mended by the command that is named."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from smad_features import cache, schema, shards
from smad_features.cache import CacheError, Unit
from smad_features.freshness import read_unit_attributes
from smad_features.summary import SummaryError, is_settled, read_summary
from smad_features.verify import verify_packed, verify_units

SPECS = {"faces": schema.face_arrays(frames=2, size=16), "eyes": schema.eye_arrays(steps=4)}
ROWS = [(participant, f"{participant}_{i}") for participant in ("A", "B") for i in range(40)]  # two shards


def make_unit(stage: str, participant: str) -> Unit:
    rng = np.random.default_rng([*participant.encode()])
    names = [clip for who, clip in ROWS if who == participant]
    arrays = {
        name: (rng.random((len(names), *spec.shape)) * 200).astype(spec.dtype) for name, spec in SPECS[stage].items()
    }
    states = {name: {"state": "ok", "reason": ""} for name in names}
    return Unit(participant, names, arrays, states, {name: {} for name in names}, {"clips": {}})


def pack(results: Path) -> str:
    units = [{p: results / stage / f"{p}.zarr.zip" for p in "AB"} for stage in SPECS]
    return cache.pack(results, ROWS, units, SPECS["faces"] | SPECS["eyes"], {"channels": []})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    results = tmp_path_factory.mktemp("made") / "results"
    for stage, specs in SPECS.items():
        for participant in "AB":
            cache.write_unit(results / stage / f"{participant}.zarr.zip", make_unit(stage, participant), specs)
    pack(results)
    return results


@pytest.fixture
def results(made: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return shutil.copytree(made, tmp_path / "results", symlinks=True)


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """A unit of three clips, small enough for each of its bytes to be tried."""
    whole = make_unit("eyes", "A")
    few = {"gaze": whole.arrays["gaze"][:3, :1]}
    specs = {"gaze": schema.eye_arrays(steps=1)["gaze"]}
    names = whole.clips[:3]
    states = {name: whole.states[name] for name in names}
    path = tmp_path / "A.zarr.zip"
    cache.write_unit(path, Unit("A", names, few, states, {name: {} for name in names}, {"clips": {}}), specs)
    return path


def flips(content: bytes, places: Iterator[int] | range) -> Iterator[bytes]:
    """The content with one byte changed, at each of the places; not always the same bit."""
    for place in places:
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        yield bytes(damaged)


def test_any_flipped_byte_of_a_unit_is_found(unit: Path) -> None:
    good, said = unit.read_bytes(), read_unit_attributes(unit)
    assert said is not None
    assert verify_units([unit]) == []
    for content in flips(good, range(len(good))):
        unit.write_bytes(content)
        assert read_unit_attributes(unit) in (said, None)  # never something else
        (sentence,) = verify_units([unit])
        assert sentence.startswith(f"{unit}: ")
        assert sentence.endswith(f"to mend it, delete it and run the workflow again: rm {unit}")


def test_a_cut_or_longer_unit_and_bytes_that_changed_places_are_found(unit: Path) -> None:
    good = unit.read_bytes()
    for content in (good[:-1], good[: len(good) // 2], b"", good + b"\0", good + good, b"\0" + good, good[::-1]):
        unit.write_bytes(content)
        assert len(verify_units([unit])) == 1


def test_damage_of_one_clip_of_a_unit_names_that_clip(unit: Path) -> None:
    good = unit.read_bytes()
    place = good.index(b"gaze/c/1/0/0") + len(b"gaze/c/1/0/0") + 4
    unit.write_bytes(next(flips(good, range(place, place + 1))))
    with pytest.raises(CacheError, match=r"A\.zarr\.zip: damaged: clips A_1; "):
        cache.read_unit(unit)


def test_equal_units_are_equal_byte_for_byte_whenever_they_were_written(
    unit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.time", lambda: 2e9)
    monkeypatch.setattr("time.localtime", lambda *_: (2033, 5, 18, 3, 33, 20, 2, 138, 0))
    back = cache.read_unit(unit)
    specs = schema.eye_arrays(steps=1)
    cache.write_unit(tmp_path / "again.zarr.zip", back, {name: specs[name] for name in back.arrays})
    assert (tmp_path / "again.zarr.zip").read_bytes() == unit.read_bytes()


def test_any_flipped_byte_of_the_summary_is_found(results: Path) -> None:
    path = results / "cache.json"
    good = path.read_bytes()
    for content in flips(good, range(len(good))):
        path.write_bytes(content)
        with pytest.raises(SummaryError, match=r"cache\.json: damaged"):
            read_summary(results)
    assert "cache.json: damaged" in verify_packed(results)[0]


def test_a_flipped_byte_of_any_file_of_the_store_is_found(results: Path) -> None:
    """Some of each file: at its beginning, in the middle, at its end. A whole file is hashed."""
    assert verify_packed(results) == []
    store = (results / "cache.zarr").resolve()
    files = [path for path in sorted(store.rglob("*")) if path.is_file()]
    assert len(files) == 11 + 2 * 10  # the root's and each array's metadata; two chunks of each array
    for path in files:
        good = path.read_bytes()
        for content in flips(good, iter({0, len(good) // 2, len(good) - 1})):
            path.write_bytes(content)
            (sentence,) = verify_packed(results)
            assert f": {path.relative_to(store)}: damaged: " in sentence
            assert "run the workflow again" in sentence
        path.write_bytes(good)
    assert verify_packed(results) == []


def test_a_blank_changed_for_a_line_break_is_damage_too(results: Path) -> None:
    path = results / "cache.json"
    good = path.read_text()
    path.write_text(good.replace("\n ", "\n\n", 1))
    assert json.loads(path.read_text()) == json.loads(good)
    assert "cache.json: damaged" in verify_packed(results)[0]


@pytest.mark.parametrize("what", ["cut", "longer", "lost", "extra", "store lost", "link lost", "link elsewhere"])
def test_other_damage_of_the_packed_cache_is_found_and_packing_anew_mends_it(results: Path, what: str) -> None:
    link = results / "cache.zarr"
    store = link.resolve()
    file = store / "eye/c/1/0/0"
    good = file.read_bytes()
    if what == "cut":
        file.write_bytes(good[:-1])
    elif what == "longer":
        file.write_bytes(good + b"\0")
    elif what == "lost":
        file.unlink()
    elif what == "extra":
        (store / "eye/c/7").write_bytes(b"")
    elif what == "store lost":
        shutil.rmtree(store)
    else:
        link.unlink()
        if what == "link elsewhere":
            link.symlink_to("eyes")
    (sentence,) = verify_packed(results)
    named = {"extra": "eye/c/7: does not belong there", "store lost": store.name, "link lost": "cache.zarr"}
    clips = ", ".join(clip for _, clip in ROWS[64:])
    wanted = named.get(what, "cache.zarr" if "link" in what else f"clips {clips}; ")
    assert wanted in sentence
    assert "P_0" not in sentence
    command = sentence.rpartition(": rm ")[2]
    Path(command).unlink()
    pack(results)
    assert verify_packed(results) == []
    assert is_settled(results)
    assert len(list(results.glob("cache-*"))) == 1
    assert not list(results.glob(".cache*"))


def test_a_flipped_byte_of_one_crop_names_that_clip_and_no_other(results: Path) -> None:
    shard = results / "cache.zarr/face/c/1/0/0/0/0"
    content = bytearray(shard.read_bytes())
    place, length = np.frombuffer(content[-16 * shards.SHARD - 4 : -4], "<u8").reshape(-1, 2)[3].astype(int)
    content[place + length - 5] ^= 16
    shard.write_bytes(content)
    (sentence,) = verify_packed(results)
    assert f"face/c/1/0/0/0/0: damaged: clips {ROWS[67][1]}; to mend it" in sentence


def test_a_cache_whose_summary_is_lost_or_of_another_version_is_still_read_as_far_as_can_be(results: Path) -> None:
    (results / "cache.zarr/gaze/c/0/0/0").unlink()
    summary = results / "cache.json"
    said = json.loads(summary.read_text())
    summary.write_text(json.dumps(said | {"version": 7}))
    first, second = verify_packed(results)
    assert "cache.json: damaged, or of an earlier version" in first
    assert "gaze" in second
    assert ROWS[0][1] in second
    summary.unlink()
    first, second = verify_packed(results)
    assert "cache.json: is not there" in first
    assert "gaze" in second


def test_where_nothing_was_made_nothing_is_damaged(tmp_path: Path) -> None:
    assert verify_packed(tmp_path) == []
    assert verify_units([tmp_path / "A.zarr.zip"]) == []


def test_a_store_that_died_between_its_two_renames_is_not_settled(results: Path) -> None:
    other = results / "cache-00.zarr"
    shutil.copytree((results / "cache.zarr").resolve(), other)
    (results / "cache.zarr").unlink()
    (results / "cache.zarr").symlink_to(other.name)
    assert not is_settled(results)
    (sentence,) = verify_packed(results)
    assert "leads to cache-00.zarr, but" in sentence
    pack(results)
    assert is_settled(results)
