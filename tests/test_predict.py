"""Prediction from the cache to the tables: one pass for all tasks, whatever the batch size, and without a modality."""

import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from model_fixtures import EMOTIONS, draw_arrays, draw_labels, name_clips, write_cache, write_tables
from test_inference import draw_norms

from smad_models import cli
from smad_models.checkpoints import (
    Meta,
    build_model,
    code_version,
    hash_participants,
    load_checkpoint,
    make_participants_key,
    save_checkpoint,
)
from smad_models.dataset import Cache, open_cache, split_fold
from smad_models.folds import read_folds
from smad_models.inference import Engine
from smad_models.inputs import fit_statistics
from smad_models.maqt import MODALITIES, draw_lstm
from smad_models.predict import PredictOptions, predict_products
from smad_models.prediction_tables import Product
from smad_models.tasks import find_task

CLIPS = name_clips(6, 3)
TASKS = ("emotion", "valence", "intensity")


def make_arrays() -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = draw_arrays(draw_labels(len(CLIPS)), size=16)
    arrays["face"][3], arrays["face_found"][3] = 0, False
    arrays["eye"][4] = np.nan
    arrays["gaze"][5] = np.nan
    return arrays


def save_untrained(path: Path, *, task: str, fold: int, cache: Cache, participants: tuple[str, ...]) -> None:
    meta = Meta(
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
        participants=hash_participants(participants, make_participants_key({})),
        participants_key=make_participants_key({}),
        code=code_version(),
        record={},
        history={},
    )
    torch.manual_seed(10 * fold + TASKS.index(task))
    model = build_model(meta)
    draw_norms(model)
    draw_lstm(model.eye_lstm)
    draw_lstm(model.gaze_lstm)
    model.inputs.set_statistics(fit_statistics(make_arrays()["eye"]))
    save_checkpoint(path, model, meta)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A cache of 18 clips, two folds, and untrained checkpoints of three tasks; not to be changed."""
    folder = tmp_path_factory.mktemp("world")
    cache = write_cache(folder / "cache.zarr", CLIPS, make_arrays())
    folds, _ = write_tables(folder, CLIPS, draw_labels(len(CLIPS)), folds=2)
    opened = open_cache(cache)
    for task in TASKS:
        for fold in (1, 2):
            own = split_fold(opened, read_folds(folds), fold).training_participants
            path = folder / "checkpoints" / task / f"fold{fold}.safetensors"
            save_untrained(path, task=task, fold=fold, cache=opened, participants=own)
    return SimpleNamespace(cache=cache, folds=folds, checkpoints=folder / "checkpoints", arrays=make_arrays())


def predict(world: SimpleNamespace, *products: Product, cache: Path | None = None, **options: Any) -> dict[str, str]:
    return dict(
        predict_products(
            products,
            cache=cache or world.cache,
            folds=world.folds,
            checkpoints=world.checkpoints,
            emotions=EMOTIONS,
            options=PredictOptions(**options),
        )
    )


def read(path: Path) -> dict[str, Any]:
    return dict(pq.read_table(path).to_pydict())


def said(path: Path, what: str) -> Any:
    return json.loads((pq.read_schema(path).metadata or {})[f"smad_{what}".encode()])


@pytest.fixture(scope="module")
def tables(world: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one pass for all tasks writes: predictions with all columns, embeddings, and one ablation a modality."""
    folder = tmp_path_factory.mktemp("tables")
    products = []
    for task in TASKS:
        products.append(Product(task, folder / f"{task}.parquet", domains=True, logits=True))
        products.append(Product(task, folder / f"{task}_embeddings.parquet", kind="embeddings"))
    products += [Product("emotion", folder / f"without_{name}.parquet", (name,)) for name in MODALITIES]
    assert set(predict(world, *products, batch_size=4).values()) == {"predicted"}
    return folder


def outputs_of(world: SimpleNamespace, task: str, row: int) -> Any:
    """What the network of a clip's fold says of it, all by itself."""
    fold = int(CLIPS[row][1][1:]) % 2 + 1
    model, _ = load_checkpoint(world.checkpoints / task / f"fold{fold}.safetensors")
    arrays = [torch.from_numpy(world.arrays[name][[row]]) for name in ("face", "eye", "gaze")]
    with torch.inference_mode():
        return model(*model.inputs(*arrays), domains=True)


@pytest.mark.parametrize("row", [0, 3, 4, 5, 17])
def test_every_column_is_what_the_network_of_the_clips_fold_says(
    world: SimpleNamespace, tables: Path, row: int
) -> None:
    for task in TASKS:
        want = outputs_of(world, task, row)
        table, embedding = read(tables / f"{task}.parquet"), read(tables / f"{task}_embeddings.parquet")
        if task == "emotion":
            found = [table[f"p_{name}"][row] for name in EMOTIONS]
            np.testing.assert_allclose(found, want.emotion.softmax(dim=1)[0], atol=1e-5)
        else:
            own = want.intensity if task == "intensity" else want.value
            assert table["prediction"][row] == pytest.approx(own.item(), abs=1e-5)
        if want.emotion is not None:
            np.testing.assert_allclose([table[f"logit_{n}"][row] for n in EMOTIONS], want.emotion[0], atol=1e-5)
        assert (f"logit_{EMOTIONS[0]}" in table) == (task != "valence")
        for kind in ("invariant", "specific"):
            logits = getattr(want, f"{kind}_domains")[0]  # (3 streams, 3 modalities)
            found = [[table[f"{kind}_{stream}_as_{name}"][row] for name in MODALITIES] for stream in MODALITIES]
            np.testing.assert_allclose(found, logits, atol=1e-5)
        np.testing.assert_allclose([embedding[f"f{i}"][row] for i in range(64)], want.fused[0], atol=1e-5)


def test_a_clip_without_a_modality_is_predicted_and_says_so(tables: Path) -> None:
    table = read(tables / "valence.parquet")
    assert table["present"][2:7] == ["face+eye+gaze", "eye+gaze", "face+gaze", "face+eye", "face+eye+gaze"]
    assert np.isfinite(table["prediction"]).all()


def test_embeddings_are_a_row_a_clip_of_float32(tables: Path) -> None:
    table = pq.read_table(tables / "emotion_embeddings.parquet")
    assert table.column_names == ["clip", "participant", "fold", "present", *(f"f{i}" for i in range(64))]
    assert str(table.schema.field("f0").type) == "float"
    assert table["clip"].to_pylist() == [clip for clip, _ in CLIPS]


@pytest.mark.parametrize("modality", MODALITIES)
def test_an_ablation_is_what_a_cache_without_the_modality_gives(
    world: SimpleNamespace, tables: Path, tmp_path: Path, modality: str
) -> None:
    lacking = {name: x.copy() for name, x in world.arrays.items()}
    if modality == "face":
        lacking["face"][:], lacking["face_found"][:] = 0, False
    else:
        lacking[modality][:] = np.nan
    cache = write_cache(tmp_path / "cache.zarr", CLIPS, lacking, digest="d1")
    predict(world, Product("emotion", tmp_path / "emotion.parquet"), cache=cache)
    want, got = read(tmp_path / "emotion.parquet"), read(tables / f"without_{modality}.parquet")
    assert got["present"] == want["present"]
    assert modality not in "".join(got["present"])
    whole = read(tables / "emotion.parquet")
    for name in EMOTIONS:
        np.testing.assert_allclose(got[f"p_{name}"], want[f"p_{name}"], atol=1e-6)
    assert max(np.abs(np.subtract(got[f"p_{n}"], whole[f"p_{n}"])).max() for n in EMOTIONS) > 1e-4
    assert said(tables / f"without_{modality}.parquet", "record")["ablated"] == [modality]
    assert said(tables / f"without_{modality}.parquet", "notes") == {
        "ablation": f"{modality} taken for missing in every clip"
    }
    assert said(tables / "emotion.parquet", "record")["ablated"] == []


def test_the_batch_size_and_the_number_of_devices_change_no_prediction(
    world: SimpleNamespace, tables: Path, tmp_path: Path
) -> None:
    want = read(tables / "valence.parquet")["prediction"]
    assert np.ptp(want) > 1e-2  # not the same for all clips
    ways: list[dict[str, Any]] = [{"batch_size": 1}, {"batch_size": 3}, {"batch_size": 64}]
    ways += [{"batch_size": 2, "devices": "cpu,cpu"}, {"batch_size": 64, "devices": "cpu,cpu,cpu"}]
    for number, options in enumerate(ways):
        path = tmp_path / f"{number}.parquet"
        before = torch.get_num_threads()
        predict(world, Product("valence", path), **options)
        assert torch.get_num_threads() == before
        np.testing.assert_allclose(read(path)["prediction"], want, atol=1e-5)


def test_all_tasks_and_tables_share_one_reading_of_the_clips_and_one_backbone_a_task(
    world: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: Counter[int] = Counter()
    embedded = []
    look, embed = Cache.read, Engine.embed_faces

    def reading(cache: Cache, rows: Any, arrays: Any) -> dict[str, np.ndarray]:
        names = list(arrays)
        seen.update(np.asarray(rows).tolist() if "face" in names else [])
        return look(cache, rows, names)

    def embedding(engine: Engine, face: torch.Tensor) -> torch.Tensor:
        embedded.append(len(face))
        return embed(engine, face)

    monkeypatch.setattr(Cache, "preload", lambda cache, names: cache)  # it does not fit
    monkeypatch.setattr(Cache, "read", reading)
    monkeypatch.setattr(Engine, "embed_faces", embedding)
    products = [Product(task, tmp_path / f"{task}.parquet") for task in TASKS]
    products += [Product(task, tmp_path / f"{task}_gaze.parquet", ("gaze",)) for task in TASKS]
    predict(world, *products, batch_size=5)
    assert seen == Counter(range(len(CLIPS)))
    assert sum(embedded) == len(TASKS) * len(CLIPS)


def test_what_fails_on_one_device_ends_the_others_and_leaves_no_table(
    world: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def fail(*_: Any, **__: Any) -> None:
        calls.append(1)
        raise RuntimeError("out of memory")

    monkeypatch.setattr(Engine, "embed_faces", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        predict(world, Product("valence", tmp_path / "valence.parquet"), batch_size=1, devices="cpu,cpu")
    assert len(calls) <= 2
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_only_what_changes_a_table_makes_it_anew(world: SimpleNamespace, tmp_path: Path) -> None:
    plain = Product("valence", tmp_path / "valence.parquet")
    assert predict(world, plain) == {"valence": "predicted"}
    assert predict(world, plain, batch_size=5, devices="cpu,cpu") == {"valence": "unchanged"}
    before = pq.read_table(plain.path)
    embeddings = Product("valence", tmp_path / "embeddings.parquet", kind="embeddings")
    assert predict(world, plain, embeddings) == {"valence": "predicted"}
    assert pq.read_table(plain.path).equals(before)
    assert predict(world, plain, embeddings) == {"valence": "unchanged"}
    assert predict(world, Product("valence", plain.path, domains=True)) == {"valence": "predicted"}
    assert predict(world, Product("valence", plain.path, ("eye",))) == {"valence": "predicted"}
    assert predict(world, plain, precision="bf16") == {"valence": "predicted"}
    after = pq.read_table(plain.path)
    assert 0 < np.abs(np.subtract(after["prediction"], before["prediction"])).max() < 0.02
    plain.path.write_bytes(b"PAR1, and no more")
    assert predict(world, plain, precision="bf16") == {"valence": "predicted"}


@pytest.mark.slow
def test_the_command_writes_a_folder_for_several_tasks_and_a_file_for_one(
    world: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["--cache", str(world.cache), "--folds", str(world.folds), "--checkpoints", str(world.checkpoints)]
    common += ["--emotions", ",".join(EMOTIONS)]
    words = ["predict", "--task", "valence,emotion", *common, "--output", str(tmp_path / "p")]
    words += ["--embeddings", str(tmp_path / "e"), "--ablate", "gaze,face", "--ablations", str(tmp_path / "a")]
    assert cli.main(words) == 0
    out, err = capsys.readouterr()
    assert out == "emotion: predicted\nvalence: predicted\n"
    assert "predict emotion, valence: 18 of 18 clips" in err
    made = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.parquet"))
    assert made == sorted(
        [f"{folder}/{task}.parquet" for folder in "pe" for task in ("emotion", "valence")]
        + [f"a/{task}/{name}.parquet" for task in ("emotion", "valence") for name in ("face", "gaze")]
    )
    assert "gaze" in read(tmp_path / "p/valence.parquet")["present"][0]
    one = ["predict", "--task", "valence", *common, "--output", str(tmp_path / "one.parquet"), "--ablate", "eye,face"]
    assert cli.main(one) == 0
    assert set(read(tmp_path / "one.parquet")["present"]) == {"gaze", "none"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--task", "joy"], "'joy' is none of emotion, valence, arousal, intensity"),
        (["--task", "emotion", "--ablate", "ear"], "'ear' is none of face, eye, gaze"),
        (["--task", "emotion", "--batch-size", "0"], "'0' is no whole number from 1"),
    ],
)
def test_what_the_command_does_not_know_is_refused(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        cli.main(["predict", "--emotions", "joy", "--output", "x", *words])
    assert message in capsys.readouterr().err


def test_a_checkpoint_of_other_lengths_names_its_convention_and_the_setting(
    world: SimpleNamespace, tmp_path: Path
) -> None:
    arrays: dict[str, np.ndarray] = draw_arrays(draw_labels(len(CLIPS)), size=16, steps=64)
    cache = write_cache(tmp_path / "cache.zarr", CLIPS, arrays)
    message = (
        r"fold1\.safetensors: eye steps: the checkpoint is for 32, but here it is 64; its input convention, standard,"
        r" takes a cache made with `eye\.steps: 32`"
    )
    with pytest.raises(ValueError, match=message):
        predict(world, Product("valence", tmp_path / "valence.parquet"), cache=cache)
