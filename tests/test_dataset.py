"""The cache as the models see it: read by row, refused when it is not what the contract says; and model inputs."""

import json
import multiprocessing
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr
from model_fixtures import draw_arrays, draw_labels, edit_attributes, name_clips, write_cache

from smad_models.dataset import open_cache, split_fold
from smad_models.inputs import Inputs, fit_statistics, name_present

CLIPS = name_clips(10, 7)  # 70 clips: more than one shard of 64


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    return draw_arrays(draw_labels(len(CLIPS)), size=16)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, arrays: dict[str, np.ndarray]) -> Path:
    return write_cache(tmp_path_factory.mktemp("cache") / "store.zarr", CLIPS, arrays)


@pytest.fixture
def store(tmp_path: Path, written: Path) -> Path:
    """A copy that a test may damage."""
    return shutil.copytree(written, tmp_path / "store.zarr")


def test_rows_read_equal_the_arrays_written_and_what_zarr_reads(written: Path, arrays: dict[str, np.ndarray]) -> None:
    cache = open_cache(written)
    rows = [69, 3, 3, 64, 0]  # in any order, twice, from both shards
    found = cache.read(rows, cache.specs)
    reference = zarr.open_group(written, mode="r")
    assert set(found) == set(arrays)
    for name, array in found.items():
        assert array.dtype == arrays[name].dtype
        np.testing.assert_array_equal(array, arrays[name][rows])
        np.testing.assert_array_equal(array, np.asarray(reference[name])[rows])


def test_a_cache_says_what_is_in_it(written: Path) -> None:
    cache = open_cache(written)
    assert cache.clips[8] == "P01_C1"
    assert cache.participants[8] == "P01"
    assert (cache.frames, cache.size, cache.steps, len(cache.channels)) == (8, 16, 32, 39)
    assert cache.channels[12] == "Pupil diameter left"
    assert cache.digest == "d0"


def test_a_cache_opened_through_a_link_stays_on_its_store_when_the_link_is_swapped(tmp_path: Path, store: Path) -> None:
    link = tmp_path / "cache.zarr"
    link.symlink_to(store.name)
    cache = open_cache(link)
    link.unlink()
    link.symlink_to("elsewhere")
    assert cache.read([1], ["eye"])["eye"].shape == (1, 32, 39)


def test_preloaded_arrays_are_read_without_the_disk(store: Path, arrays: dict[str, np.ndarray]) -> None:
    cache = open_cache(store).preload(["eye"])
    shutil.rmtree(store)
    np.testing.assert_array_equal(cache.read([5, 66], ["eye"])["eye"], arrays["eye"][[5, 66]])


def test_what_does_not_fit_is_read_when_it_is_wanted(store: Path, arrays: dict[str, np.ndarray]) -> None:
    cache = open_cache(store).preload(["eye"], limit=arrays["eye"].nbytes - 1)
    np.testing.assert_array_equal(cache.read([5], ["eye"])["eye"], arrays["eye"][[5]])
    shutil.rmtree(store)
    with pytest.raises(ValueError, match="array eye cannot be read for clip "):
        cache.read([5], ["eye"])


def test_an_unknown_version_is_refused_with_both_versions(store: Path) -> None:
    edit_attributes(store, version=2)
    with pytest.raises(ValueError, match="want format 'smad-cache' version 1, got 'smad-cache' version 2"):
        open_cache(store)


def test_another_format_is_refused(store: Path) -> None:
    edit_attributes(store, format="someone-else's")
    with pytest.raises(ValueError, match="want format 'smad-cache' version 1, got \"someone-else's\""):
        open_cache(store)


def test_a_folder_without_a_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no cache is there"):
        open_cache(tmp_path / "cache.zarr")


def test_a_lost_shard_is_an_error_that_names_array_and_clips_and_never_zeros(store: Path) -> None:
    (store / "face" / "c" / "1" / "0" / "0" / "0" / "0").unlink()
    cache = open_cache(store)
    assert cache.read([63], ["face"])["face"].any()
    with pytest.raises(ValueError, match=r"array face cannot be read for clip P09_C1, P09_C6: .*missing") as caught:
        cache.read([0, 69, 64, 64], ["eye", "face"])
    assert "P00_C0" not in str(caught.value)  # that row is in the other shard


def test_a_flipped_bit_of_one_crop_is_an_error_of_that_clip_alone(store: Path) -> None:
    shard = store / "face" / "c" / "0" / "0" / "0" / "0" / "0"
    content = bytearray(shard.read_bytes())
    place, length = np.frombuffer(content[-16 * 64 - 4 : -4], "<u8").reshape(64, 2)[10].astype(int)
    content[place + length // 2] ^= 1
    shard.write_bytes(content)
    cache = open_cache(store)
    with pytest.raises(ValueError, match="array face cannot be read for clip P01_C3: "):
        cache.read(range(70), ["face"])
    others = [row for row in range(70) if row != 10]
    assert cache.read(others, ["face"])["face"].any(axis=(1, 2, 3, 4)).all()


def test_a_flipped_bit_is_an_error_that_names_the_array(store: Path) -> None:
    shard = store / "eye" / "c" / "0" / "0" / "0"
    content = bytearray(shard.read_bytes())
    content[100] ^= 1
    shard.write_bytes(content)
    with pytest.raises(ValueError, match=r"array eye cannot be read for clip P00_C0, .* and 56 more: "):
        open_cache(store).read(range(64), ["eye"])


def test_an_array_of_another_shape_than_its_attributes_say_is_refused(store: Path) -> None:
    edit_attributes(store, channels=[{"name": "Pupil", "unit": "mm"}])
    with pytest.raises(ValueError, match=r"array eye: want \(70, 32, 1\) float32, got \(70, 32, 39\) float32"):
        open_cache(store)


def test_metadata_that_are_damaged_are_refused_by_the_file(store: Path) -> None:
    (store / "gaze/zarr.json").write_text("{")
    with pytest.raises(ValueError, match=r"store\.zarr: array gaze cannot be opened: .*gaze/zarr\.json"):
        open_cache(store)
    (store / "zarr.json").write_text("{")
    with pytest.raises(ValueError, match=r"store\.zarr/zarr\.json is damaged: "):
        open_cache(store)


def test_a_cache_that_is_being_replaced_is_refused_until_its_summary_speaks_of_it(tmp_path: Path, store: Path) -> None:
    link, summary = tmp_path / "cache.zarr", tmp_path / "cache.json"
    link.symlink_to(store.name)
    clips = [clip for clip, _ in CLIPS]
    summary.write_text(json.dumps({"digest": "another", "clips": clips}))
    with pytest.raises(ValueError, match=r"is being replaced: .*; wait until .*, or run the workflow again"):
        open_cache(link)
    summary.write_text(json.dumps({"digest": "d0", "clips": ["P99_C0", *clips[1:]]}))  # a byte of a name, flipped
    with pytest.raises(ValueError, match="is being replaced"):
        open_cache(link)
    summary.write_text('{"digest": ')
    with pytest.raises(ValueError, match=r"cache\.json: damaged"):
        open_cache(link)
    summary.write_text(json.dumps({"digest": "d0", "clips": clips}))
    assert open_cache(link).digest == "d0"


def test_a_missing_array_is_refused_by_name(store: Path) -> None:
    shutil.rmtree(store / "gaze_observed")
    with pytest.raises(ValueError, match="array gaze_observed is missing"):
        open_cache(store)


def test_rows_and_arrays_that_do_not_exist_are_refused(written: Path) -> None:
    cache = open_cache(written)
    with pytest.raises(IndexError, match="rows are 0 to 69, got -1"):
        cache.read([-1, 3], ["eye"])
    with pytest.raises(KeyError, match="no array labels"):
        cache.read([0], ["labels"])


def test_a_fold_divides_the_rows_by_participant(written: Path) -> None:
    cache = open_cache(written)
    folds = [(clip, participant, int(participant[1:]) % 3 + 1) for clip, participant in CLIPS]
    split = split_fold(cache, folds, 2)
    assert split.test_participants == ("P01", "P04", "P07")
    assert {cache.participants[row] for row in split.test} == set(split.test_participants)
    assert {cache.participants[row] for row in split.training} == set(split.training_participants)
    assert sorted([*split.training, *split.test]) == list(range(70))


def test_folds_that_split_a_participant_or_disagree_with_the_cache_are_refused(written: Path) -> None:
    cache = open_cache(written)
    folds = [(clip, participant, int(participant[1:]) % 3 + 1) for clip, participant in CLIPS]
    with pytest.raises(ValueError, match="participant P00"):
        split_fold(cache, [("P00_C0", "P00", 2), *folds[1:]], 1)
    with pytest.raises(ValueError, match=r"clip P00_C0 is in the cache .* but in no fold"):
        split_fold(cache, folds[1:], 1)
    with pytest.raises(ValueError, match="clip P99_C0 is in the folds but not in the cache"):
        split_fold(cache, [*folds, ("P99_C0", "P99", 1)], 1)
    with pytest.raises(ValueError, match="clip P00_C0 is of participant P00 in the cache but of P98 in the folds"):
        split_fold(cache, [("P00_C0", "P98", 1), *folds[1:]], 1)
    with pytest.raises(ValueError, match="fold 4 is none of 1, 2, 3"):
        split_fold(cache, folds, 4)


def test_statistics_are_those_of_the_observed_steps(arrays: dict[str, np.ndarray]) -> None:
    eye = arrays["eye"].copy()
    eye[:, :, 1] = np.float32(0.1)  # constant: 0.1 has no exact sum
    eye[:, :, 2] = np.nan  # never observed
    statistics = fit_statistics(eye)
    others = [0, *range(3, 39)]
    np.testing.assert_allclose(statistics.mean[others], np.nanmean(eye[:, :, others], axis=(0, 1)), rtol=1e-5)
    np.testing.assert_allclose(statistics.std[others], np.nanstd(eye[:, :, others], axis=(0, 1)), rtol=1e-5)
    assert statistics.std[1] == 1
    assert statistics.std[2] == np.inf


def test_standard_inputs_are_standardised_and_unobserved_steps_are_neutral() -> None:
    inputs = Inputs("standard", channels=3)
    fitted = np.array([[[1, 5, np.nan], [3, 5, np.nan]]], dtype=np.float32)
    inputs.set_statistics(fit_statistics(fitted))
    eye = torch.tensor([[[2.0, 5.0, 960.0], [3.0, float("nan"), float("nan")]]])
    gaze = torch.tensor([[[0.1, 0.9], [float("nan"), float("nan")]]])
    face = torch.zeros(1, 2, 4, 4, 3, dtype=torch.uint8)
    face[..., 0] = 255  # red
    pixels, sequence, point = inputs(face, eye, gaze)
    torch.testing.assert_close(sequence, torch.tensor([[[0.0, 0, 0], [1, 0, 0]]]))
    torch.testing.assert_close(point, torch.tensor([[[0.1, 0.9], [0.5, 0.5]]]))
    assert pixels.shape == (1, 2, 3, 4, 4)
    expected = (torch.tensor([1.0, 0, 0]) - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(pixels[0, 1, :, 2, 3], expected)


def test_published_inputs_are_bgr_fractions_and_raw_units() -> None:
    inputs = Inputs("published", channels=3)
    eye = torch.tensor([[[960.0, 540.0, 3.5], [float("nan"), 1.0, 2.0]]])
    face = torch.zeros(1, 2, 4, 4, 3, dtype=torch.uint8)
    face[..., 0] = 255  # red
    pixels, sequence, point = inputs(face, eye, torch.full((1, 2, 2), 0.25))
    torch.testing.assert_close(sequence, torch.tensor([[[960.0, 540.0, 3.5], [0.0, 1.0, 2.0]]]))
    torch.testing.assert_close(point, torch.tensor([[[960.0, 540.0], [0.0, 1.0]]]))
    torch.testing.assert_close(pixels[0, 0, :, 0, 0], torch.tensor([0.0, 0.0, 1.0]))
    with pytest.raises(ValueError, match="no use for eye statistics"):
        inputs.set_statistics(fit_statistics(eye.numpy()))


def test_what_a_clip_lacks_is_named_and_goes_in_as_missing_values(arrays: dict[str, np.ndarray]) -> None:
    few = {name: array[:4].copy() for name, array in arrays.items()}
    few["face_found"][1] = False
    few["eye"][2] = np.nan
    few["face_found"][3], few["eye"][3], few["gaze"][3] = False, np.nan, np.nan
    assert name_present(few, "standard") == ["face+eye+gaze", "eye+gaze", "face+gaze", "none"]
    assert name_present(few, "published") == ["face+eye+gaze", "eye+gaze", "face", "none"]
    tensors = Inputs("standard", channels=39)(*(torch.from_numpy(few[name]) for name in ("face", "eye", "gaze")))
    assert all(torch.isfinite(x).all() for x in tensors)
    assert (tensors[1][3] == 0).all()
    assert (tensors[2][3] == 0.5).all()


@pytest.mark.parametrize("kind", ["threads", "spawned processes"])
def test_readers_at_the_same_time_read_right(written: Path, arrays: dict[str, np.ndarray], kind: str) -> None:
    cache = open_cache(written)
    cache.read(range(64), ["face"])  # this process has read before the others begin
    batches = [np.random.default_rng(seed).permutation(70) for seed in range(4)]
    if kind == "threads":
        with ThreadPoolExecutor(2) as threads:
            found = list(threads.map(lambda rows: cache.read(rows, ["face", "eye"]), batches))
    else:  # never forked: TensorStore's threads would be gone in the child, their locks held
        with multiprocessing.get_context("spawn").Pool(2) as processes:
            found = processes.starmap(read_in_a_worker, [(written, rows) for rows in batches])
    for rows, read in zip(batches, found, strict=True):
        for name in ("face", "eye"):
            np.testing.assert_array_equal(read[name], arrays[name][rows])


def read_in_a_worker(store: Path, rows: np.ndarray) -> dict[str, np.ndarray]:
    return open_cache(store).read(rows, ["face", "eye"])
