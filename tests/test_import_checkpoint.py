"""Published weight files of every name and format become checkpoints; all else is refused in words of its own."""

import argparse
import dataclasses
import os
import pickle
import re
import shutil
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from model_fixtures import EMOTIONS, draw_arrays, draw_labels, name_clips, write_cache, write_tables
from torch import Tensor, nn

from smad_features import schema
from smad_features.config import complete_config
from smad_models import cli
from smad_models.checkpoints import digest_file, load_checkpoint, read_meta, save_checkpoint
from smad_models.dataset import CHANNELS, open_cache
from smad_models.folds import read_table
from smad_models.import_checkpoint import EMOTIONS as DEFAULT_EMOTIONS
from smad_models.import_checkpoint import import_folder, name_task
from smad_models.maqt import Maqt, Variant
from smad_models.predict import predict_task
from smad_models.published import UNUSED, find_variant, load_published, to_published
from smad_models.torch_files import read_state_dict

# A published name of each task and fold: (path, task, variant), the fold being the last digit.
NAMES: list[tuple[str, str, Variant]] = [
    *((f"checkpoints/Discrete_model/discrete_MAQT_set{k}.pth", "emotion", "discrete") for k in (1, 2, 3)),
    ("checkpoints/Discrete_model/discrete_EMERT_set4.pth", "emotion", "discrete"),
    ("checkpoints/Discrete_model/Discrete_matmer_Set5.PTH", "emotion", "discrete"),
    *((f"checkpoints/Valence_model/valence_MATmer_set{k}.pth", "valence", "va") for k in (1, 2, 3, 4, 5)),
    *((f"AROUSAL_AEQL_SET{k}.pt", "arousal", "va") for k in (1, 2, 3)),
    *((f"deeper/arousal_model/arousal_EMERT_set{k}.pth", "arousal", "va") for k in (4, 5)),
    ("Intensity_model/in_MAQT_set1.pth", "intensity", "intensity"),
    ("Intensity_model/In_MAQT_set2.pth", "intensity", "intensity"),
    *((f"Intensity_model/intensity_MAQT_set{k}.pth", "intensity", "intensity") for k in (3, 4, 5)),
]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@cache
def published_shapes(variant: Variant) -> dict[str, tuple[int, ...]]:
    model = Maqt(variant)
    return {key: tuple(tensor.shape) for key, tensor in to_published(model).items()}


def make_state(variant: Variant, *, seed: int = 0) -> dict[str, Tensor]:
    """A published state dict, unused tensors included, whose files are small: all tensors are views of two storages."""
    rng = np.random.default_rng(seed)
    numbers = torch.from_numpy(rng.normal(0, 0.03, 1 << 17).astype(np.float32))
    variances = torch.from_numpy(rng.uniform(0.5, 1.5, 512).astype(np.float32))
    state = {}
    for i, (key, shape) in enumerate((published_shapes(variant) | UNUSED).items()):
        if key.endswith("num_batches_tracked"):
            state[key] = torch.tensor(66)
        elif key.endswith("running_var"):
            state[key] = variances[: shape[0]]
        else:
            strides = [max(1, 60_000 // (n * (2 + axis))) for axis, n in enumerate(shape)]
            state[key] = numbers.as_strided(shape, strides, storage_offset=i * 31)
    return state


def save(path: Path, found: Any, *, legacy: bool = False, from_gpu: bool = False) -> Path:
    """What `torch.save` of an old PyTorch, or of one on a machine with a GPU, would have written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        if from_gpu:
            patch.setattr(torch.serialization, "location_tag", lambda _: "cuda:0")
        torch.save(found, path, _use_new_zipfile_serialization=not legacy)
    return path


def run_network(model: Maqt) -> dict[str, Tensor]:
    """All outputs for one clip that is always the same."""
    draw = torch.Generator().manual_seed(1)
    shapes = ((1, 8, 3, 48, 48), (1, 32, 39), (1, 32, 2))
    with torch.inference_mode():
        output = model.eval()(*(torch.randn(shape, generator=draw) for shape in shapes), domains=True)
    return {name: x for name, x in output._asdict().items() if x is not None}


@pytest.mark.slow
def test_twenty_files_under_published_names_give_the_outputs_that_they_gave_before(tmp_path: Path) -> None:
    states = {}
    for seed, (name, task, variant) in enumerate(NAMES):
        fold = int(Path(name).stem[-1])
        states[task, fold] = make_state(variant, seed=seed)
        save(tmp_path / "in" / name, states[task, fold], legacy=seed % 2 == 0, from_gpu=seed % 3 == 0)
    (tmp_path / "in/.cache").mkdir()
    (tmp_path / "in/.cache/valence_MAQT_set1.pth").write_bytes(b"of another program")
    (tmp_path / "in/readme.txt").write_text("not a checkpoint")
    if not torch.cuda.is_available():  # such files are what they are to be
        with pytest.raises(RuntimeError, match="on a CUDA device"):
            torch.load(tmp_path / "in" / NAMES[0][0], weights_only=True)
    outcome = import_folder(tmp_path / "in", tmp_path / "out")
    assert outcome.refused == ()
    assert outcome.incomplete == {}
    assert len(outcome.imported) == 20
    networks = {variant: Maqt(variant, convention="published") for _, _, variant in NAMES}
    seen: list[Tensor] = []
    for name, task, variant in NAMES:
        fold = int(Path(name).stem[-1])
        load_published(networks[variant], states[task, fold])
        want = run_network(networks[variant])
        model, meta = load_checkpoint(tmp_path / "out" / task / f"fold{fold}.safetensors")
        found = run_network(model)
        assert found.keys() == want.keys()
        assert all(torch.equal(found[key], want[key]) for key in want), name
        assert (meta.task, meta.fold, meta.variant, meta.convention) == (task, fold, variant, "published")
        assert meta.record["imported"] == Path(name).name
        assert not any(torch.equal(found["fused"], other) for other in seen)
        seen.append(found["fused"])
    rows = read_table(tmp_path / "out/index.tsv", needed=("task", "fold", "file", "sha256", "convention"))
    tasks = ("emotion", "valence", "arousal", "intensity")
    assert [(row["task"], row["fold"]) for row in rows] == [(task, str(k)) for task in tasks for k in range(1, 6)]
    for row in rows[::7]:
        assert row["file"] == f"{row['task']}/fold{row['fold']}.safetensors"
        assert row["sha256"] == digest_file(tmp_path / "out" / row["file"])
        assert row["convention"] == "published"
    shutil.rmtree(tmp_path / "out")  # 1 GB


class Runs:
    """A pickle that runs a command when it is read."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> Any:
        return os.system, (self.command,)


def cut(path: Path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 0xFF
    path.write_bytes(content)


def archive(path: Path, *names: str) -> None:
    with zipfile.ZipFile(path, "w") as file:
        for name in names:
            file.writestr(name, "x" * 2000)


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0b0f\nsize 51132861\n"
BROKEN: dict[str, tuple[Any, str]] = {  # what is written to a path, and what is said of it
    "placeholder": (lambda path: path.write_bytes(b"\r\n"), "2 bytes cannot be a checkpoint: a placeholder"),
    "empty": (lambda path: path.write_bytes(b""), "0 bytes cannot be a checkpoint"),
    "pointer": (lambda path: path.write_bytes(LFS), "is a Git LFS pointer of 73 bytes.*`git lfs pull`"),
    "web page": (lambda path: path.write_text("\n<!DOCTYPE html>" + "x" * 9999), "is a web page"),
    "link": (lambda path: path.symlink_to("gone.pth"), "is a link to nothing: gone.pth"),
    "noise": (lambda path: path.write_bytes(bytes(range(256)) * 40), "is no file of PyTorch's"),
    "archive": (lambda path: archive(path, "EMER-main/a.py"), "is a zip archive of other files, EMER-main/a.py first"),
    "program": (lambda path: archive(path, "m/data.pkl", "m/constants.pkl"), "is a TorchScript program"),
    "list": (lambda path: save(path, [1, 2]), "want a plain state dict of tensors, got a list"),
    "tensor": (lambda path: save(path, torch.zeros(3)), r"got a tensor of shape \(3,\)"),
    "nothing": (lambda path: save(path, {}), "is an empty dict"),
    "numbers": (lambda path: save(path, {"epoch": 3}), r"got a dict with no state dict \('epoch': an int\)"),
    "two": (
        lambda path: save(path, {"model": {"a": torch.zeros(1)}, "ema": {"a": torch.ones(1)}}),
        "several state dicts, 'model', 'ema'",
    ),
    "module": (lambda path: save(path, nn.Linear(2, 3)), r"holds code: .* torch\.nn\.modules\.linear\.Linear would"),
    "settings": (
        lambda path: save(path, {"state_dict": {"a": torch.zeros(1)}, "args": argparse.Namespace(lr=1)}),
        r"holds code: .* argparse\.Namespace would have to be run\. It was not",
    ),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_what_is_no_checkpoint_is_refused_in_words_of_its_own(tmp_path: Path, fault: str) -> None:
    write, message = BROKEN[fault]
    path = tmp_path / "valence_MAQT_set1.pth"
    write(path)
    outcome = import_folder(tmp_path, tmp_path / "out")
    assert len(outcome.refused) == 1
    assert re.match(f"{re.escape(str(path))}: .*{message}", outcome.refused[0]), outcome.refused[0]
    assert outcome.imported == ()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("form", ["zip", "legacy", "bare"])
def test_code_in_a_file_is_named_and_not_run(tmp_path: Path, form: str) -> None:
    path = tmp_path / "valence_MAQT_set1.pth"
    found = {"proj_v1.weight": Runs(f"touch {tmp_path / 'it_ran'}")}
    if form == "bare":
        path.write_bytes(pickle.dumps(found, protocol=2))
    else:
        save(path, found, legacy=form == "legacy")
    refused = import_folder(tmp_path, tmp_path / "out").refused
    assert re.match(rf"{re.escape(str(path))}: holds code: to be read, (posix|nt)\.system would have to be", refused[0])
    assert not (tmp_path / "it_ran").exists()


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.999])
def test_a_file_that_was_cut_short_is_refused_as_such(tmp_path: Path, legacy: bool, share: float) -> None:
    path = save(tmp_path / "valence_MAQT_set1.pth", make_state("va"), legacy=legacy)
    cut(path, share)
    assert "is cut short or damaged" in import_folder(tmp_path, tmp_path / "out").refused[0]


def test_a_damaged_byte_among_the_weights_is_noticed(tmp_path: Path) -> None:
    path = save(tmp_path / "valence_MAQT_set1.pth", make_state("va"))
    flip(path, path.stat().st_size // 2)
    assert "is damaged: the checksum of valence_MAQT_set1/data/" in import_folder(tmp_path, tmp_path / "out").refused[0]


@pytest.mark.parametrize("legacy", [False, True])
def test_no_damage_makes_reading_fail_otherwise_than_in_a_sentence(tmp_path: Path, legacy: bool) -> None:
    path = save(tmp_path / "x.pth", {"a": torch.zeros(400), "b": torch.tensor(1)}, legacy=legacy)
    whole = path.read_bytes()
    refused = 0
    for place in range(0, len(whole), 7):
        path.write_bytes(whole)
        flip(path, place)
        try:
            read_state_dict(path)
        except ValueError as error:
            refused += 1
            assert str(error).startswith(f"{path}: ")
    assert refused > 20


def without(key: str) -> Any:
    return lambda state: {name: tensor for name, tensor in state.items() if name != key}


UNFIT: dict[str, tuple[str, Variant, Any, str]] = {  # name, whose keys, what is done to them, and what is said
    "task": ("valence_MAQT_set1.pth", "discrete", dict, "a mixture: its name tells task valence, .* for discrete"),
    "emotion": ("discrete_MAQT_set1.pth", "va", dict, "a mixture: its name tells task emotion, .* network for va"),
    "folder": ("Arousal_model/valence_MAQT_set1.pth", "va", dict, "a mixture: its folder is called Arousal_model, but"),
    "name": ("best.pth", "va", dict, "its name tells no task and fold: want one of discrete, valence, arousal, in"),
    "copy": ("valence_MAQT_set1 (1).pth", "va", dict, "its name tells no task and fold"),
    "set": ("valence_MAQT_set6.pth", "va", dict, "set 6 is none of the published 1 to 5"),
    "key": ("valence_MAQT_set1.pth", "va", without("proj_v1.bias"), ".* does not fit: proj_v1.bias is missing"),
    "more": ("valence_MAQT_set1.pth", "va", lambda s: s | {"x": torch.ones(1)}, ".* does not fit: x is unknown"),
    "shape": (
        "valence_MAQT_set1.pth",
        "va",
        lambda s: s | {"proj_v1.bias": torch.zeros(64)},
        r".* proj_v1.bias has shape \(64,\), want \(128,\)",
    ),
    "half": (
        "valence_MAQT_set1.pth",
        "va",
        lambda s: s | {"proj_v1.bias": torch.zeros(128).half()},
        ".* proj_v1.bias is float16, want float32",
    ),
    "nan": (
        "valence_MAQT_set1.pth",
        "va",
        lambda s: s | {"proj_v1.bias": torch.full((128,), torch.inf)},
        ".* proj_v1.bias holds what is no number",
    ),
    "backbone": (
        "valence_MAQT_set1.pth",
        "va",
        lambda _: {"conv1.weight": torch.zeros(64, 3, 7, 7)},
        "of none of the published networks: no transformer.pos_embedding_s among conv1.weight",
    ),
    "headless": (
        "valence_MAQT_set1.pth",
        "va",
        lambda s: {key: x for key, x in s.items() if "cls_head" not in key},
        "of none of the published networks: has none of the heads' keys",
    ),
    "classes": (
        "discrete_MAQT_set1.pth",
        "discrete",
        lambda s: s | {"cls_head.1.weight": torch.zeros(8, 32), "cls_head.1.bias": torch.zeros(8)},
        "has 8 classes, but 7 emotions are named: happiness",
    ),
}


@pytest.mark.parametrize("fault", UNFIT)
def test_weights_that_are_not_what_their_name_tells_or_do_not_fit_are_refused(tmp_path: Path, fault: str) -> None:
    name, variant, change, message = UNFIT[fault]
    path = save(tmp_path / name, change(make_state(variant)))
    refused = import_folder(tmp_path, tmp_path / "out").refused
    assert re.match(f"{re.escape(str(path))}: {message}", refused[0]), refused[0]
    assert not (tmp_path / "out").exists()


def test_names_are_read_whatever_their_letters_and_network() -> None:
    for name in ("in_MAQT_set2.pth", "In_matmer_set2.pth", "INTENSITY_EMERT_SET2.PTH", "intensity_AEQL_set2.pt"):
        assert name_task(Path(name)) == ("intensity", 2)
    assert name_task(Path("x/discrete_model/Discrete_MAQT_set5.pth")) == ("emotion", 5)


def test_the_same_weights_under_two_names_are_refused_whatever_their_format(tmp_path: Path) -> None:
    first = save(tmp_path / "valence_MAQT_set1.pth", make_state("va"))
    second = save(tmp_path / "arousal_MAQT_set2.pth", make_state("va"), legacy=True)
    outcome = import_folder(tmp_path, tmp_path / "out")
    assert outcome.imported == ()
    assert f"{first}: holds the very weights of {second}, which is called task arousal, fold 2" in outcome.refused[1]
    assert f"{second}: holds the very weights of {first}, which is called task valence, fold 1" in outcome.refused[0]


def test_two_files_for_one_fold_are_refused_and_a_copy_is_taken_once(tmp_path: Path) -> None:
    save(tmp_path / "a/valence_MAQT_set1.pth", make_state("va"))
    save(tmp_path / "b/valence_MATmer_set1.pth", make_state("va"), legacy=True)
    outcome = import_folder(tmp_path, tmp_path / "out")
    assert outcome.refused == ()
    assert [each.source.name for each in outcome.imported] == ["valence_MAQT_set1.pth"]
    assert outcome.imported[0].notes == (f"the same as {tmp_path}/b/valence_MATmer_set1.pth",)
    save(tmp_path / "b/valence_MATmer_set1.pth", make_state("va", seed=1))
    refused = import_folder(tmp_path, tmp_path / "out").refused
    assert len(refused) == 2
    assert "b/valence_MATmer_set1.pth claims task valence, fold 1 too, with other weights" in refused[0]


def test_a_task_whose_files_are_of_two_networks_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "discrete_MAQT_set1.pth", make_state("discrete"))
    save(tmp_path / "discrete_MAQT_set2.pth", make_state("emert"))
    refused = import_folder(tmp_path, tmp_path / "out").refused
    assert len(refused) == 2
    assert "a mixture: the files of task emotion are of two networks: fold 1 of discrete, fold 2 of emert" in refused[0]


def test_a_wrapped_state_dict_is_taken_out_and_that_is_said(tmp_path: Path) -> None:
    state = make_state("va")
    wrapped = {f"module.{key}": tensor for key, tensor in state.items()}
    path = save(tmp_path / "x.pth", {"epoch": 7, "state_dict": wrapped})
    found, notes = read_state_dict(path)
    assert found.keys() == state.keys()
    assert notes == ("its state dict lay under 'state_dict', beside epoch", "`module.` was taken off every key")


def test_the_sister_network_is_told_by_its_width_and_predicts(tmp_path: Path) -> None:
    clips = name_clips(2, 2)
    labels = draw_labels(len(clips))
    cache = write_cache(tmp_path / "cache.zarr", clips, draw_arrays(labels, size=112))
    folds, _ = write_tables(tmp_path, clips, labels, folds=2)
    for fold in (1, 2):
        save(tmp_path / f"in/discrete_MAQT_set{fold}.pth", make_state("emert", seed=fold))
    outcome = import_folder(tmp_path / "in", tmp_path)
    assert [each.variant for each in outcome.imported] == ["emert", "emert"]
    assert outcome.incomplete == {"emotion": (3, 4, 5)}
    assert read_meta(tmp_path / "emotion/fold1.safetensors").variant == "emert"
    output = tmp_path / "emotion.parquet"
    predict_task(task="emotion", cache=cache, folds=folds, checkpoints=tmp_path, output=output, emotions=EMOTIONS)
    table = pq.read_table(output).to_pydict()
    np.testing.assert_allclose(sum(np.array(table[f"p_{name}"]) for name in EMOTIONS), 1, atol=1e-6)


def test_what_is_doubtful_of_published_weights_stands_with_the_predictions(tmp_path: Path) -> None:
    clips = name_clips(2, 2)
    labels = draw_labels(len(clips))
    made: dict[str, Any] = {"face": {"align": "template"}, "eye": {"method": "mean"}}
    cache = write_cache(tmp_path / "cache.zarr", clips, draw_arrays(labels, size=112), **made)
    folds, _ = write_tables(tmp_path, clips, labels, folds=2)
    for fold in (1, 2):
        save(tmp_path / f"in/valence_MAQT_set{fold}.pth", make_state("va", seed=fold))
    import_folder(tmp_path / "in", tmp_path)
    assert read_meta(tmp_path / "valence/fold1.safetensors").channels == open_cache(cache).channels
    output = tmp_path / "valence.parquet"
    predict_task(task="valence", cache=cache, folds=folds, checkpoints=tmp_path, output=output, emotions=EMOTIONS)
    notes = (pq.read_schema(output).metadata or {})[b"smad_notes"].decode()
    assert "align: template, method: mean" in notes
    assert "leaks cannot be told" in notes


def test_a_table_of_folds_says_on_whom_each_was_trained(tmp_path: Path) -> None:
    save(tmp_path / "in/valence_MAQT_set2.pth", make_state("va"))
    clips = name_clips(10, 1)
    folds, _ = write_tables(tmp_path, clips, draw_labels(len(clips)), folds=5)
    import_folder(tmp_path / "in", tmp_path / "out", participants=folds)
    meta = read_meta(tmp_path / "out/valence/fold2.safetensors")
    assert [p for p in range(10) if not meta.knows(f"P{p:02d}")] == [1, 6]
    folds, _ = write_tables(tmp_path, clips, draw_labels(len(clips)), folds=4)
    with pytest.raises(ValueError, match="the published sets, 1, 2, 3, 4, 5; got 1, 2, 3, 4"):
        import_folder(tmp_path / "in", tmp_path / "out", participants=folds)


def test_good_files_are_imported_bad_ones_named_and_the_status_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    save(Path("in/discrete_MAQT_set1.pth"), make_state("discrete"))
    Path("in/discrete_MAQT_set3.pth").write_bytes(b"\r\n")
    assert cli.main(["import-checkpoint", "in"]) == 1
    said = capsys.readouterr()
    assert said.out == "checkpoints/emotion/fold1.safetensors: discrete, from in/discrete_MAQT_set1.pth\n"
    assert "REFUSED: in/discrete_MAQT_set3.pth: 2 bytes" in said.err
    assert "NOTE: emotion lacks fold 2, 3, 4, 5\n" in said.err
    assert "Taken: happiness, sadness, fear, disgust, surprise, anger, neutral. If that is not the order" in said.err
    assert "NOTE: on whom these networks were trained is not known" in said.err
    assert "import-checkpoint: 1 files were imported, 1 were refused" in said.err

    Path("in/discrete_MAQT_set3.pth").unlink()
    Path(".smad").mkdir()
    Path(".smad/config.json").write_text('{"emotions": ["a", "b", "c", "d", "e", "f", "g"]}')
    assert cli.main(["import-checkpoint", "in"]) == 0
    assert "Taken: a, b, c, d, e, f, g." in capsys.readouterr().err
    assert read_meta(Path("checkpoints/emotion/fold1.safetensors")).emotions == tuple("abcdefg")
    assert cli.main(["import-checkpoint", "in", "--emotions", "g,f,e,d,c,b,a"]) == 0
    assert "Taken" not in capsys.readouterr().err
    assert cli.main(["import-checkpoint", "nowhere"]) == 1
    assert "nowhere: is not there" in capsys.readouterr().err
    Path("bare").mkdir()
    assert cli.main(["import-checkpoint", "bare"]) == 1
    assert "bare: no .pth or .pt file is there" in capsys.readouterr().err


def test_what_was_imported_is_left_or_replaced_and_what_was_trained_here_is_not_touched(tmp_path: Path) -> None:
    save(tmp_path / "in/valence_MAQT_set1.pth", make_state("va"))
    output, index = tmp_path / "valence/fold1.safetensors", tmp_path / "index.tsv"
    index.write_text("task\tfold\tfile\tsha256\tconvention\narousal\t2\tarousal/fold2.safetensors\tff\tstandard\n")
    import_folder(tmp_path / "in", tmp_path)
    assert [row["task"] for row in read_table(index, needed=())] == ["valence", "arousal"]
    before = output.stat().st_mtime_ns, digest_file(output)
    import_folder(tmp_path / "in/valence_MAQT_set1.pth", tmp_path)
    assert (output.stat().st_mtime_ns, digest_file(output)) == before
    save(tmp_path / "in/valence_MAQT_set1.pth", make_state("va", seed=1))
    import_folder(tmp_path / "in", tmp_path)
    assert digest_file(output) != before[1]
    assert read_table(index, needed=())[0]["sha256"] == digest_file(output)
    model, meta = load_checkpoint(output)
    save_checkpoint(output, model, dataclasses.replace(meta, record={"cache": "d0"}))
    trained = digest_file(output)
    outcome = import_folder(tmp_path / "in", tmp_path)
    assert "valence/fold1.safetensors: is there, and was never imported: move it away" in outcome.refused[0]
    assert digest_file(output) == trained


def test_variants_are_told_apart_by_keys_and_width() -> None:
    for variant in ("va", "discrete", "intensity", "emert"):
        assert find_variant(make_state(variant)) == variant


def test_the_order_of_emotions_that_is_taken_is_the_configurations_own_default() -> None:
    assert list(DEFAULT_EMOTIONS) == complete_config({})["emotions"]
    assert list(CHANNELS) == [channel.name for channel in schema.TOBII_PRO_LAB_39]
