"""What augmentation makes of a clip, and that the seed and the epoch alone decide it."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from model_fixtures import Study, make_study
from torch import Tensor

from smad_features.schema import TOBII_PRO_LAB_39
from smad_models.augment import (
    KINDS,
    Augmentation,
    Changes,
    Mirror,
    flip_clips,
    make_mirror,
    recolour,
    shift_frames,
    shift_steps,
)
from smad_models.checkpoints import read_tensors
from smad_models.face_features import embed_faces
from smad_models.recipe import TrainOptions
from smad_models.train import train_fold

NAMES = [channel.name for channel in TOBII_PRO_LAB_39]
CHANNELS = [{"name": channel.name, "unit": channel.unit} for channel in TOBII_PRO_LAB_39]
CPU = torch.device("cpu")


def measured(seed: int = 0) -> np.ndarray:
    """(4, 32, 39): a person before a screen of 1920 px and 600 mm, both eyes 60 mm apart, who looks about."""
    rng = np.random.default_rng(seed)
    place = rng.uniform(0.2, 0.8, (4, 32, 2))  # of the screen
    head = rng.uniform(250, 350, (4, 32))  # mm
    values = {}
    for side, eye in (("", 0.0), (" left", -30.0), (" right", 30.0)):
        x, y = place[..., 0] + eye / 1e4, place[..., 1]
        values[f"Gaze point{side} X"], values[f"Gaze point{side} Y"] = 1920 * x, 1080 * y
        values[f"Gaze point{side} X (MCSnorm)"], values[f"Gaze point{side} Y (MCSnorm)"] = x, y
        if side:
            values[f"Gaze point{side} X (DACSmm)"], values[f"Gaze point{side} Y (DACSmm)"] = 600 * x, 340 * y
            position = np.stack([head + eye, 0 * head + 100, 0 * head + 650])
            toward = np.stack([600 * x, 340 * y, 0 * x]) - position
            toward /= np.linalg.norm(toward, axis=0)
            for axis, there, direction in zip("XYZ", position, toward, strict=True):
                values[f"Eye position{side} {axis} (DACSmm)"] = there
                values[f"Gaze direction{side} {axis}"] = direction
            values[f"Pupil diameter{side}"] = 3 + rng.random((4, 32)) + (side == " left")
            values[f"Validity{side}"] = (rng.random((4, 32)) > 0.2).astype(float)
    values["Eye movement type"] = rng.integers(0, 3, (4, 32)).astype(float)
    values["Gaze event duration"] = rng.uniform(50, 300, (4, 32))
    values["Eye movement type index"] = np.broadcast_to(np.arange(32.0), (4, 32))
    values["Fixation point X"], values["Fixation point Y"] = 1920 * place[..., 0], 1080 * place[..., 1]
    values["Fixation point X (MCSnorm)"], values["Fixation point Y (MCSnorm)"] = place[..., 0], place[..., 1]
    return np.stack([values[name] for name in NAMES], axis=2).astype(np.float32)


def mirrored(eye: np.ndarray, mirror: Mirror) -> dict[str, np.ndarray]:
    """The channels of all clips in the mirror, by name."""
    source = torch.from_numpy(eye)
    face, gaze = torch.zeros(len(eye), 8, 2, 2, 3, dtype=torch.uint8), torch.zeros(len(eye), 32, 2)
    _, flipped, _ = flip_clips(torch.ones(len(eye), dtype=torch.bool), face, source, gaze, mirror=mirror)
    return {name: flipped[:, :, i].numpy() for i, name in enumerate(NAMES)}


def test_every_channel_is_mirrored_as_its_meaning_asks() -> None:
    eye = measured()
    own = {name: eye[:, :, i] for i, name in enumerate(NAMES)}
    there = mirrored(eye, make_mirror(CHANNELS, eye))
    untouched = {"Eye movement type", "Gaze event duration", "Eye movement type index"}
    swapped = {"Pupil diameter", "Validity", "Gaze point", "Gaze direction", "Eye position"}
    seen = set()
    for name in NAMES:
        if name in untouched:
            np.testing.assert_array_equal(there[name], own[name])
        elif " X" not in name:  # of the other eye, as it is
            other = name.replace("left", "*").replace("right", "left").replace("*", "right")
            np.testing.assert_array_equal(there[name], own[other])
            seen |= {stem for stem in swapped if name.startswith(stem) and other != name}
    assert seen == swapped
    for side, other in (("left", "right"), ("right", "left")):
        np.testing.assert_array_equal(there[f"Gaze direction {side} X"], -own[f"Gaze direction {other} X"])
        np.testing.assert_allclose(
            there[f"Gaze point {side} X (MCSnorm)"], 1 - own[f"Gaze point {other} X (MCSnorm)"], atol=1e-6
        )
        # Distances between two points of one unit are those of the mirror image: the eyes stay 60 mm apart.
        between = own[f"Gaze point {other} X (DACSmm)"] - own[f"Eye position {other} X (DACSmm)"]
        mirror_between = there[f"Gaze point {side} X (DACSmm)"] - there[f"Eye position {side} X (DACSmm)"]
        np.testing.assert_allclose(mirror_between, -between, atol=1e-3)
    apart = there["Eye position right X (DACSmm)"] - there["Eye position left X (DACSmm)"]
    np.testing.assert_allclose(apart, 60, atol=1e-3)


def test_directions_in_the_mirror_are_unit_vectors_that_lead_from_the_eye_to_the_point() -> None:
    eye = measured()
    there = mirrored(eye, make_mirror(CHANNELS, eye))
    for side in ("left", "right"):
        direction = np.stack([there[f"Gaze direction {side} {axis}"] for axis in "XYZ"])
        np.testing.assert_allclose(np.linalg.norm(direction, axis=0), 1, atol=1e-6)
        position = np.stack([there[f"Eye position {side} {axis} (DACSmm)"] for axis in "XYZ"])
        point = np.stack([there[f"Gaze point {side} {axis} (DACSmm)"] for axis in "XY"])
        reached = position - direction * position[2] / direction[2]
        np.testing.assert_allclose(reached[:2], point, atol=0.02)


def test_the_mirror_stands_where_people_are_on_average() -> None:
    eye = measured()
    mirror = make_mirror(CHANNELS, eye)
    pixels = [NAMES.index(name) for name in ("Gaze point X", "Gaze point left X", "Fixation point X")]
    assert mirror.offset[pixels].unique().numel() == 1  # one for all channels of a unit
    assert mirror.offset[pixels[0]].item() / 2 == pytest.approx(960, rel=0.05)
    nothing = make_mirror(CHANNELS, np.full_like(eye, np.nan))
    assert torch.isfinite(nothing.offset).all()


def test_twice_mirrored_is_as_before() -> None:
    eye = torch.from_numpy(measured())
    mirror = make_mirror(CHANNELS, eye.numpy())
    gaze = torch.rand(4, 32, 2)
    face = torch.randint(0, 256, (4, 8, 6, 6, 3), dtype=torch.uint8)
    yes = torch.ones(4, dtype=torch.bool)
    once = flip_clips(yes, face, eye, gaze, mirror=mirror)
    twice = flip_clips(yes, *once, mirror=mirror)
    assert torch.equal(once[0], face.flip(3))
    assert torch.equal(twice[0], face)
    torch.testing.assert_close(twice[1], eye, atol=1e-3, rtol=1e-5)
    torch.testing.assert_close(twice[2], gaze)
    np.testing.assert_allclose(once[2][..., 0].numpy(), 1 - gaze[..., 0].numpy())
    assert torch.equal(once[2][..., 1], gaze[..., 1])


def test_only_the_clips_that_are_drawn_are_flipped_and_what_is_unobserved_stays_so() -> None:
    eye = torch.from_numpy(measured())
    eye[:, 5, :] = torch.nan
    gaze = torch.full((4, 32, 2), torch.nan)
    face = torch.randint(0, 256, (4, 8, 6, 6, 3), dtype=torch.uint8)
    flip = torch.tensor([True, False, True, False])
    found = flip_clips(flip, face, eye, gaze, mirror=make_mirror(CHANNELS, eye.numpy()))
    assert torch.isnan(found[1][:, 5]).all()
    assert torch.isnan(found[2]).all()
    torch.testing.assert_close(found[1][1], eye[1], equal_nan=True, rtol=0, atol=0)
    assert torch.equal(found[0][3], face[3])
    assert not torch.equal(found[0][2], face[2])


def test_a_channel_of_one_eye_alone_cannot_be_mirrored() -> None:
    with pytest.raises(ValueError, match="Pupil diameter left cannot be mirrored: there is no Pupil diameter right"):
        make_mirror([{"name": "Pupil diameter left", "unit": "mm"}], np.zeros((1, 32, 1)))


def test_colours_change_as_the_factors_say() -> None:
    face = torch.randint(60, 190, (1, 8, 6, 6, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    same = torch.ones(1, 3)
    assert torch.equal(recolour(face, same), face)
    brighter = recolour(face, torch.tensor([[1.1, 1.0, 1.0]]))
    torch.testing.assert_close(brighter.float(), (face * 1.1).round())
    flat = recolour(face, torch.tensor([[1.0, 0.5, 1.0]])).float()
    halved = face.float().std(dim=(2, 3, 4)) / 2  # of each frame, about its own mean
    torch.testing.assert_close(flat.std(dim=(2, 3, 4)), halved, rtol=0.02, atol=0)
    grey = recolour(face, torch.tensor([[1.0, 1.0, 0.0]])).float()
    assert (grey.amax(dim=4) - grey.amin(dim=4)).max() == 0
    luma = torch.tensor([0.299, 0.587, 0.114])
    torch.testing.assert_close(grey[..., 0], (face.float() * luma).sum(dim=4), atol=0.51, rtol=0)
    extreme = recolour(torch.full((1, 8, 2, 2, 3), 250, dtype=torch.uint8), torch.tensor([[1.2, 1.2, 1.2]]))
    assert extreme.min() == 255  # no pixel wraps round
    half = torch.cat([face, torch.zeros_like(face)], dim=1)
    assert recolour(half, torch.tensor([[1.2, 0.8, 1.2]]))[:, 8:].max() == 0  # no face stays no face


def test_a_shift_moves_all_modalities_alike_and_leaves_the_edge_unobserved() -> None:
    steps = torch.arange(32.0).repeat(3, 1)[:, :, None]
    shift = torch.tensor([0.125, 0.0, -0.09375])  # 4 steps later, none, 3 steps earlier
    moved = shift_steps(steps, shift)[:, :, 0]
    assert torch.isnan(moved[0, :4]).all()
    assert moved[0, 4:].tolist() == list(range(28))
    assert moved[1].tolist() == list(range(32))
    assert moved[2, :29].tolist() == list(range(3, 32))
    assert torch.isnan(moved[2, 29:]).all()
    frames = torch.arange(8, dtype=torch.uint8).repeat(3, 1)[:, :, None, None, None].expand(3, 8, 2, 2, 3)
    assert shift_frames(frames, shift)[:, :, 0, 0, 0].tolist() == [
        [0, 0, 1, 2, 3, 4, 5, 6],
        [0, 1, 2, 3, 4, 5, 6, 7],
        [1, 2, 3, 4, 5, 6, 7, 7],
    ]
    features = torch.rand(3, 8, 512)
    assert torch.equal(shift_frames(features, shift)[0, 1:], features[0, :7])


def test_what_is_drawn_depends_on_the_seed_and_the_epoch_alone() -> None:
    mirror = make_mirror(CHANNELS, measured())

    def draw(seed: int, epoch: int, kinds: tuple[str, ...] = KINDS) -> Changes:
        return Augmentation(kinds, seed, mirror).draw(epoch, 50, device=CPU)

    def same(one: Changes, two: Changes) -> bool:
        return all(torch.equal(a, b) for a, b in zip(one, two, strict=True) if a is not None and b is not None)

    torch.rand(3)
    assert same(draw(0, 1), draw(0, 1))
    assert not same(draw(0, 1), draw(0, 2))
    assert not same(draw(0, 1), draw(1, 1))
    assert same(draw(0, 1), draw(0, 1, ("time",)))  # another kind beside it changes nothing
    assert draw(0, 1, ("time",))[:2] == (None, None)
    changes = draw(0, 1)
    assert changes.flip is not None and changes.colour is not None and changes.shift is not None
    assert 15 < changes.flip.sum() < 35
    assert 0.8 <= changes.colour.min() < 0.85 < 1.15 < changes.colour.max() <= 1.2
    assert 0.1 < changes.shift.abs().max() <= 0.125


def test_a_batch_of_any_size_gets_the_same_changes() -> None:
    augmentation = Augmentation(KINDS, 0, make_mirror(CHANNELS, measured()))
    changes = augmentation.draw(1, 4, device=CPU)
    eye = torch.from_numpy(measured())
    face = torch.randint(0, 256, (4, 8, 6, 6, 3), dtype=torch.uint8)
    gaze = torch.rand(4, 32, 2)

    def apply(rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return augmentation.apply(changes.at(rows), face[rows], eye[rows], gaze[rows])

    whole = apply(torch.arange(4))
    parts = [apply(torch.tensor(rows)) for rows in ([0, 1, 2], [3])]
    for x, pieces in zip(whole, zip(*parts, strict=True), strict=True):
        torch.testing.assert_close(torch.cat(pieces), x, equal_nan=True, rtol=0, atol=0)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return make_study(tmp_path_factory.mktemp("study"), participants=4, clips=2)


def test_each_kind_changes_the_weights_and_the_same_kinds_give_the_same(study: Study, tmp_path: Path) -> None:
    states = {}
    for name, kinds in {"none": (), **{kind: (kind,) for kind in KINDS}, "again": ("time",)}.items():
        options = TrainOptions(epochs=2, batch_size=2, augment=kinds)
        train_fold(**study.arguments(tmp_path / name, options=options))
        states[name] = read_tensors(tmp_path / name)["face_projection.weight"]
    assert torch.equal(states.pop("again"), states["time"])
    assert not any(torch.equal(states[a], states[b]) for a, b in itertools.combinations(states, 2))


@pytest.mark.parametrize("kind", ["flip", "colour"])
def test_what_needs_pixels_is_refused_where_features_are_computed_once(study: Study, tmp_path: Path, kind: str) -> None:
    features = tmp_path / "features"
    embed_faces(fold=1, cache=study.cache, folds=study.folds, output=features, device="cpu")
    options = TrainOptions(epochs=1, augment=(kind,))
    with pytest.raises(ValueError, match=f"augmentation {kind} needs the pixels, but the features of a frozen"):
        train_fold(**study.arguments(tmp_path / "fold1", options=options, face_features=features))
    options = TrainOptions(epochs=1, augment=("time",))
    assert train_fold(**study.arguments(tmp_path / "fold1", options=options, face_features=features)) == "trained"


def test_an_unknown_kind_is_named(study: Study, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="augmentation 'rotate' is none of flip, colour, time"):
        train_fold(**study.arguments(tmp_path / "fold1", options=TrainOptions(augment=("rotate",))))
