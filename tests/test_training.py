"""Training and prediction end to end on a small cache whose eye channels, and nothing else, carry the labels."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from model_fixtures import EMOTIONS, draw_arrays, draw_labels, name_clips, write_cache, write_tables
from torch import Tensor

from smad_models.checkpoints import (
    Meta,
    build_model,
    code_version,
    hash_participants,
    load_checkpoint,
    make_participants_key,
    read_meta,
    read_metadata,
    read_tensors,
    save_checkpoint,
)
from smad_models.dataset import open_cache, split_fold
from smad_models.face_features import embed_faces
from smad_models.folds import read_folds
from smad_models.inputs import fit_statistics
from smad_models.maqt import Maqt, Output
from smad_models.predict import check_checkpoint, predict_task
from smad_models.resnet import ResNet18
from smad_models.tasks import TASKS, compute_loss, find_task, read_targets
from smad_models.train import TrainOptions, train_fold

CLIPS = name_clips(20, 7)
ONE_EPOCH = TrainOptions(epochs=1)
KEY = make_participants_key({})


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A cache of 140 clips, their labels and folds, and the face features of fold 1."""
    folder = tmp_path_factory.mktemp("world")
    labels = draw_labels(len(CLIPS))
    arrays = draw_arrays(labels, size=16)
    arrays["face"][3], arrays["face_found"][3] = 0, False
    arrays["eye"][4] = np.nan
    cache = write_cache(folder / "cache.zarr", CLIPS, arrays)
    folds, table = write_tables(folder, CLIPS, labels, folds=2, unlabelled=["P01_C0"])
    features = folder / "features.safetensors"
    embed_faces(fold=1, cache=cache, folds=folds, output=features)
    return SimpleNamespace(cache=cache, folds=folds, labels=table, features=features, values=labels, arrays=arrays)


def _train(world: SimpleNamespace, output: Path, **changes: Any) -> str:
    arguments = {
        "task": "emotion",
        "fold": 1,
        "cache": world.cache,
        "labels": world.labels,
        "folds": world.folds,
        "emotions": EMOTIONS,
        "options": ONE_EPOCH,
        "face_features": world.features,
    }
    return train_fold(output=output, **(arguments | changes))


@pytest.fixture(scope="module")
def trained(world: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An emotion checkpoint of fold 1 after one epoch; not to be changed."""
    path = tmp_path_factory.mktemp("trained") / "fold1.safetensors"
    _train(world, path)
    return path


def test_training_again_gives_the_same_weights_and_another_seed_gives_others(
    world: SimpleNamespace, trained: Path, tmp_path: Path
) -> None:
    torch.rand(3)  # whatever was drawn before must not matter
    _train(world, tmp_path / "again")
    _train(world, tmp_path / "other", options=dataclasses.replace(ONE_EPOCH, seed=1))
    first, again, other = (read_tensors(path) for path in (trained, tmp_path / "again", tmp_path / "other"))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert trained.read_bytes() == (tmp_path / "again").read_bytes()
    assert not torch.equal(first["eye_lstm.weight_ih_l0"], other["eye_lstm.weight_ih_l0"])


def test_unchanged_inputs_train_nothing_and_changed_ones_do(world: SimpleNamespace, tmp_path: Path) -> None:
    output = tmp_path / "fold1.safetensors"
    assert _train(world, output, key="k") == "trained"
    before = output.stat().st_mtime_ns
    assert _train(world, output, key="k") == "unchanged"
    assert output.stat().st_mtime_ns == before
    relabelled = {name: values.copy() for name, values in world.values.items()}
    relabelled["emotion"][0] = 3  # of the held-out fold: no training target
    _, labels = write_tables(tmp_path, CLIPS, relabelled, unlabelled=["P01_C0"], folds=2)
    assert _train(world, output, key="k", labels=labels) == "unchanged"
    relabelled["emotion"][8] = 3
    write_tables(tmp_path, CLIPS, relabelled, folds=2, unlabelled=["P01_C0"])
    assert _train(world, output, key="k", labels=labels) == "trained"
    assert _train(world, output, key="another", labels=labels) == "trained"
    assert not list(tmp_path.glob(".*tmp"))


def test_a_checkpoint_says_what_it_is_and_on_whom_it_was_trained(world: SimpleNamespace, tmp_path: Path) -> None:
    _train(world, tmp_path / "fold1", task="intensity")
    meta = read_meta(tmp_path / "fold1")
    assert (meta.task, meta.fold, meta.variant, meta.convention) == ("intensity", 1, "intensity", "standard")
    assert [meta.knows(f"P{p:02d}") for p in range(20)] == [bool(p % 2) for p in range(20)]
    assert len(meta.participants) == 10
    assert "P01" not in str(read_metadata(tmp_path / "fold1"))
    assert meta.code == code_version()
    assert meta.scores == {}
    assert meta.emotions == EMOTIONS
    assert (meta.frames, meta.steps, meta.size, len(meta.channels)) == (8, 32, 16, 39)
    assert len(meta.history["total"]) == 1
    assert meta.record["cache"] == "d0"


def test_eye_statistics_are_of_training_participants_alone(world: SimpleNamespace, trained: Path) -> None:
    model, _ = load_checkpoint(trained)
    training = [row for row, (_, participant) in enumerate(CLIPS) if int(participant[1:]) % 2 != 0]
    want = fit_statistics(world.arrays["eye"][training])
    np.testing.assert_array_equal(model.inputs.eye_mean.numpy(), want.mean)
    np.testing.assert_array_equal(model.inputs.eye_std.numpy(), want.std)


def test_a_frozen_backbone_is_stored_and_gives_from_pixels_what_training_saw(
    world: SimpleNamespace, trained: Path
) -> None:
    model, _ = load_checkpoint(trained)
    face = torch.from_numpy(world.arrays["face"][:5])
    with torch.inference_mode():
        features = model.embed_faces(model.inputs.pixels(face))
    torch.testing.assert_close(features, read_tensors(world.features)["features"][:5], atol=1e-5, rtol=1e-4)


def test_features_of_a_random_backbone_tell_faces_apart(world: SimpleNamespace) -> None:
    features = read_tensors(world.features)["features"]
    assert torch.isfinite(features).all()
    spread = features[5:].flatten(0, 1).std(dim=0).mean() / features[5:].abs().mean()
    assert spread > 0.1


def test_a_cache_without_any_face_still_has_features(tmp_path: Path) -> None:
    clips = name_clips(2, 1)
    arrays = draw_arrays(draw_labels(2), size=16)
    arrays["face"][:], arrays["face_found"][:] = 0, False
    cache = write_cache(tmp_path / "cache.zarr", clips, arrays)
    folds, _ = write_tables(tmp_path, clips, draw_labels(2), folds=2)
    embed_faces(fold=2, cache=cache, folds=folds, output=tmp_path / "features")
    assert torch.isfinite(read_tensors(tmp_path / "features")["features"]).all()


def test_a_given_backbone_is_used_as_it_is(world: SimpleNamespace, tmp_path: Path) -> None:
    given = ResNet18()
    # As ImageNet files are: with a classifier, and of an age without counters.
    state = {name: x for name, x in given.state_dict().items() if not name.endswith("num_batches_tracked")}
    torch.save(state | {"fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}, tmp_path / "resnet18.pth")
    arguments = {"fold": 1, "cache": world.cache, "folds": world.folds, "output": tmp_path / "features"}
    assert embed_faces(**arguments, backbone=tmp_path / "resnet18.pth") == "embedded"
    assert embed_faces(**arguments, backbone=tmp_path / "resnet18.pth") == "unchanged"
    stored = read_tensors(tmp_path / "features")
    assert all(torch.equal(stored[f"backbone.{name}"], x) for name, x in given.state_dict().items())


def test_the_whole_network_trains_from_pixels(tmp_path: Path) -> None:
    clips = name_clips(4, 2)
    labels = draw_labels(len(clips))
    cache = write_cache(tmp_path / "cache.zarr", clips, draw_arrays(labels, size=16))
    folds, table = write_tables(tmp_path, clips, labels, folds=2)
    outcome = train_fold(
        task="arousal",
        fold=2,
        cache=cache,
        labels=table,
        folds=folds,
        output=tmp_path / "fold2",
        emotions=EMOTIONS,
        options=TrainOptions(epochs=2, batch_size=2),
    )
    assert outcome == "trained"
    state = read_tensors(tmp_path / "fold2")
    assert state["face_backbone.bn1.num_batches_tracked"] == 4  # 2 epochs of 2 batches
    assert np.isfinite(read_meta(tmp_path / "fold2").history["task"]).all()


def test_face_features_of_another_fold_or_cache_are_refused(world: SimpleNamespace, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="fold: want 2, got 1"):
        _train(world, tmp_path / "fold2", fold=2)
    with pytest.raises(ValueError, match="convention: want 'published', got 'standard'"):
        _train(world, tmp_path / "fold1", options=TrainOptions(convention="published"))


@pytest.fixture(scope="module")
def checkpoints(world: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of untrained checkpoints of both folds, for two tasks; not to be changed."""
    folder = tmp_path_factory.mktemp("checkpoints")
    for task in ("emotion", "valence"):
        for fold in (1, 2):
            meta = _describe(world, task=task, fold=fold)
            torch.manual_seed(fold)
            model = build_model(meta)
            model.inputs.set_statistics(fit_statistics(world.arrays["eye"]))
            save_checkpoint(folder / task / f"fold{fold}.safetensors", model, meta)
    return folder


def _describe(world: SimpleNamespace, *, task: str = "emotion", fold: int = 1) -> Meta:
    cache = open_cache(world.cache)
    training = split_fold(cache, read_folds(world.folds), fold).training_participants
    return Meta(
        task=task,
        fold=fold,
        variant=find_task(task).variant,
        convention="standard",
        emotions=EMOTIONS,
        channels=cache.channels,
        frames=8,
        steps=32,
        size=16,
        cache_version=1,
        participants=hash_participants(training, KEY),
        participants_key=KEY,
        code=code_version(),
        record={},
        history={},
    )


def _predict(world: SimpleNamespace, checkpoints: Path, output: Path, **changes: Any) -> str:
    arguments = {"task": "emotion", "cache": world.cache, "folds": world.folds, "emotions": EMOTIONS}
    return predict_task(checkpoints=checkpoints, output=output, **(arguments | changes))


def test_predictions_are_a_table_of_all_clips_in_the_caches_order(
    world: SimpleNamespace, checkpoints: Path, tmp_path: Path
) -> None:
    output = tmp_path / "predictions" / "emotion.parquet"
    assert _predict(world, checkpoints, output) == "predicted"
    assert _predict(world, checkpoints, output) == "unchanged"
    table = pq.read_table(output).to_pydict()
    probabilities = [f"p_{name}" for name in EMOTIONS]
    assert list(table) == ["clip", "participant", "fold", "prediction", "present", *probabilities]
    assert list(zip(table["clip"], table["participant"], strict=True)) == CLIPS
    assert table["fold"] == [int(participant[1:]) % 2 + 1 for _, participant in CLIPS]
    values = np.array([table[name] for name in probabilities])
    np.testing.assert_allclose(values.sum(axis=0), 1, atol=1e-6)
    assert table["prediction"] == [EMOTIONS[i] for i in values.argmax(axis=0)]
    assert table["present"][2:6] == ["face+eye+gaze", "eye+gaze", "face+gaze", "face+eye+gaze"]


def test_each_clip_is_predicted_by_the_checkpoint_of_its_own_fold(
    world: SimpleNamespace, checkpoints: Path, tmp_path: Path
) -> None:
    _predict(world, checkpoints, tmp_path / "emotion.parquet")
    table = pq.read_table(tmp_path / "emotion.parquet").to_pydict()
    for row in (0, 8, 20):
        model, _ = load_checkpoint(checkpoints / "emotion" / f"fold{table['fold'][row]}.safetensors")
        batch: list[Tensor] = [torch.from_numpy(world.arrays[name][[row]]) for name in ("face", "eye", "gaze")]
        with torch.inference_mode():
            emotion = model(*model.inputs(*batch)).emotion
        assert emotion is not None
        found = [table[f"p_{name}"][row] for name in EMOTIONS]
        np.testing.assert_allclose(found, emotion.softmax(dim=1)[0].numpy(), atol=1e-5)


def test_the_batch_size_changes_no_prediction(world: SimpleNamespace, checkpoints: Path, tmp_path: Path) -> None:
    found = []
    for size in (3, 64):
        _predict(world, checkpoints, tmp_path / f"{size}.parquet", task="valence", batch_size=size)
        found.append(pq.read_table(tmp_path / f"{size}.parquet")["prediction"].to_numpy())
    assert np.ptp(found[0]) > 1e-3  # not the same for all clips
    np.testing.assert_allclose(found[1], found[0], atol=1e-5)


def test_face_features_are_used_where_they_are_the_checkpoints_own_and_change_no_prediction(
    world: SimpleNamespace, trained: Path, checkpoints: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixed = tmp_path / "mixed" / "emotion"  # fold 1 has the features' backbone, fold 2 another
    mixed.mkdir(parents=True)
    (mixed / "fold1.safetensors").symlink_to(trained)
    (mixed / "fold2.safetensors").symlink_to(checkpoints / "emotion" / "fold2.safetensors")
    features = tmp_path / "features"
    features.mkdir()
    for fold in (1, 2):
        (features / f"fold{fold}.safetensors").symlink_to(world.features)
    _predict(world, mixed.parent, tmp_path / "pixels.parquet")
    seen = []
    embed = Maqt.embed_faces
    monkeypatch.setattr(Maqt, "embed_faces", lambda model, face: (seen.append(len(face)), embed(model, face))[1])
    _predict(world, mixed.parent, tmp_path / "features.parquet", face_features=features)
    pixels, known = (pq.read_table(tmp_path / f"{name}.parquet").to_pydict() for name in ("pixels", "features"))
    assert sum(seen) == known["fold"].count(2)
    for name in EMOTIONS:
        np.testing.assert_allclose(known[f"p_{name}"], pixels[f"p_{name}"], atol=1e-5)


def test_another_checkpoint_makes_the_predictions_anew(
    world: SimpleNamespace, checkpoints: Path, trained: Path, tmp_path: Path
) -> None:
    _predict(world, checkpoints, tmp_path / "emotion.parquet")
    before = pq.read_table(tmp_path / "emotion.parquet")
    (tmp_path / "emotion").mkdir()
    (tmp_path / "emotion" / "fold2.safetensors").symlink_to(checkpoints / "emotion" / "fold2.safetensors")
    (tmp_path / "emotion" / "fold1.safetensors").symlink_to(trained)
    assert _predict(world, tmp_path, tmp_path / "emotion.parquet") == "predicted"
    after = pq.read_table(tmp_path / "emotion.parquet")
    changed = np.array(before["p_anger"]) != np.array(after["p_anger"])
    np.testing.assert_array_equal(changed, np.array(after["fold"]) == 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "valence"}, "task: the checkpoint is for valence, but here it is emotion"),
        ({"fold": 3}, "fold: the checkpoint is for 3, but here it is 1"),
        ({"emotions": EMOTIONS[::-1]}, "emotions: the checkpoint is for neutral, anger"),
        ({"frames": 16}, "face frames: the checkpoint is for 16, but here it is 8"),
        ({"steps": 64}, "eye steps: the checkpoint is for 64, but here it is 32"),
        ({"size": 112}, "face size: the checkpoint is for 112, but here it is 16"),
        ({"channels": ("Pupil",)}, "eye channels: the checkpoint is for Pupil, but here it is Gaze point X"),
        (
            {"participants": hash_participants(["P01", "P04"], make_participants_key({}))},
            "was trained on participant P04, whose clips are in fold 1",
        ),
    ],
)
def test_a_checkpoint_that_is_not_for_these_inputs_is_refused(
    world: SimpleNamespace, changes: dict[str, Any], message: str
) -> None:
    cache = open_cache(world.cache)
    split = split_fold(cache, read_folds(world.folds), 1)
    meta = _describe(world)
    arguments: dict[str, Any] = {
        "task": TASKS["emotion"],
        "fold": 1,
        "emotions": EMOTIONS,
        "cache": cache,
        "split": split,
    }
    check_checkpoint(Path("fold1"), meta, **arguments)
    with pytest.raises(ValueError, match=message):
        check_checkpoint(Path("fold1"), dataclasses.replace(meta, **changes), **arguments)


def test_a_checkpoint_in_the_place_of_another_fold_leaves_no_predictions(
    world: SimpleNamespace, checkpoints: Path, tmp_path: Path
) -> None:
    (tmp_path / "emotion").mkdir()
    for fold in (1, 2):
        source = checkpoints / "emotion" / f"fold{3 - fold}.safetensors"
        (tmp_path / "emotion" / f"fold{fold}.safetensors").symlink_to(source)
    with pytest.raises(ValueError, match="fold: the checkpoint is for 2, but here it is 1"):
        _predict(world, tmp_path, tmp_path / "emotion.parquet")
    assert not (tmp_path / "emotion.parquet").exists()


def test_a_fold_without_a_checkpoint_is_named(world: SimpleNamespace, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="fold 1 of emotion has no checkpoint"):
        _predict(world, tmp_path, tmp_path / "emotion.parquet")


def test_a_checkpoint_with_missing_or_misshapen_tensors_is_refused_by_name(trained: Path, tmp_path: Path) -> None:
    model, meta = load_checkpoint(trained)
    save_checkpoint(tmp_path / "fold1", model, dataclasses.replace(meta, steps=30))
    with pytest.raises(ValueError, match=r"fusion\.source_position has shape \(1, 72, 64\), want \(1, 68, 64\)"):
        load_checkpoint(tmp_path / "fold1")
    (tmp_path / "fold1").write_bytes(b"no safetensors file")
    with pytest.raises(ValueError, match="not a checkpoint of this project"):
        load_checkpoint(tmp_path / "fold1")


def test_a_fold_whose_training_clips_are_all_unlabelled_is_refused(world: SimpleNamespace, tmp_path: Path) -> None:
    hidden = [clip for clip, participant in CLIPS if int(participant[1:]) % 2]
    _, labels = write_tables(tmp_path, CLIPS, world.values, folds=2, unlabelled=hidden)
    with pytest.raises(ValueError, match="no clip outside fold 1 has all of emotion, intensity"):
        _train(world, tmp_path / "fold1", task="intensity", labels=labels)


def test_targets_are_read_for_fully_labelled_clips_only(tmp_path: Path) -> None:
    labels = tmp_path / "labels.tsv"
    labels.write_text("clip\temotion\tintensity\na\tanger\t1.5\nb\tfear\t\nc\t\t2\n")
    assert read_targets(labels, TASKS["intensity"], EMOTIONS) == {"a": (5.0, 1.5)}
    assert read_targets(labels, TASKS["emotion"], EMOTIONS) == {"a": (5.0,), "b": (2.0,)}
    with pytest.raises(ValueError, match="valence"):
        read_targets(labels, TASKS["valence"], EMOTIONS)
    with pytest.raises(ValueError, match="clip a: emotion 'anger' is none of joy"):
        read_targets(labels, TASKS["emotion"], ["joy"])
    labels.write_text("clip\tvalence\na\t0,5\n")
    with pytest.raises(ValueError, match="clip a: valence '0,5' is no number"):
        read_targets(labels, TASKS["valence"], EMOTIONS)
    labels.write_text("clip\tvalence\na\t0.5\na\t0.5\n")
    with pytest.raises(ValueError, match="clip a is labelled twice"):
        read_targets(labels, TASKS["valence"], EMOTIONS)


def test_a_regression_target_that_would_broadcast_is_refused() -> None:
    logits = torch.zeros(4, 3, 3)
    output = Output(torch.zeros(4, 64), torch.zeros(4, 1), None, None, logits, logits)
    weights = TASKS["valence"].weights
    with pytest.raises(ValueError, match=r"valence: want targets \(4, 1\), got \(4,\)"):
        compute_loss(TASKS["valence"], output, {"valence": torch.zeros(4)}, weights)
    losses = compute_loss(TASKS["valence"], output, {"valence": torch.full((4, 1), 0.5)}, weights)
    assert losses.task.item() == 0.125  # half the square
    assert losses.invariant.item() == pytest.approx(3 * np.log(3))
