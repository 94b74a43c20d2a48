"""One step in parts, in fewer digits, or without the memory for it; and that it is the published recipe's."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from model_fixtures import Study, make_study
from torch import nn

from smad_models import train
from smad_models.batches import Clips, gather_clips
from smad_models.checkpoints import read_tensors
from smad_models.cli import main
from smad_models.dataset import open_cache
from smad_models.maqt import Maqt
from smad_models.precision import computing
from smad_models.recipe import TrainOptions, room_for, train_step
from smad_models.tasks import TASKS
from smad_models.train import train_fold

TASK = TASKS["emotion"]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return make_study(tmp_path_factory.mktemp("study"), participants=4, clips=4)


def make_clips(study: Study, model: Maqt) -> Clips:
    """All 16 clips, with random features of their faces: no BatchNorm is at work."""
    features = torch.randn(16, 8, 512, generator=torch.Generator().manual_seed(1))
    values = study.values["emotion"][:, None].astype(float)
    return gather_clips(TASK, open_cache(study.cache), np.arange(16), values, model.inputs, features)


def without_dropout(model: Maqt) -> Maqt:
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model


def take_step(study: Study, options: TrainOptions) -> tuple[Maqt, torch.Tensor]:
    """The network after one step on all 16 clips, and the sums of its losses."""
    torch.manual_seed(0)
    model = without_dropout(Maqt("discrete")).train()
    model.face_backbone.requires_grad_(False)
    optimiser = torch.optim.SGD([x for x in model.parameters() if x.requires_grad], lr=0.1)
    sums = train_step(model, TASK, options, make_clips(study, model), torch.arange(16), None, optimiser)
    return model, sums


@pytest.mark.parametrize("parts", [3, 4, 16])
def test_a_batch_in_parts_gives_the_same_step(study: Study, parts: int) -> None:
    whole, sums = take_step(study, TrainOptions())
    split, split_sums = take_step(study, TrainOptions(accumulate=parts))  # 3: of 6, 5 and 5 clips
    torch.testing.assert_close(split_sums, sums, rtol=1e-5, atol=1e-4)
    torch.manual_seed(0)
    start = Maqt("discrete").state_dict()
    moved = 0.0
    for name, x in whole.state_dict().items():
        torch.testing.assert_close(split.state_dict()[name], x, rtol=1e-4, atol=1e-6)
        moved = max(moved, (x - start[name]).abs().max().item())
    assert moved > 1e-3


def test_bfloat16_is_near_and_weights_stay_float32(study: Study) -> None:
    _, sums = take_step(study, TrainOptions())
    rounded, rounded_sums = take_step(study, TrainOptions(precision="bf16"))
    assert rounded_sums.dtype == torch.float32
    assert not torch.equal(rounded_sums, sums)
    torch.testing.assert_close(rounded_sums, sums, rtol=0.02, atol=0.05)
    assert {x.dtype for x in rounded.parameters()} == {torch.float32}


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_the_settings_of_a_precision_are_put_back(precision: Any) -> None:
    before = (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32)
    with computing(CPU, precision=precision, is_deterministic=True):
        assert torch.backends.cuda.matmul.allow_tf32 is (precision != "fp32")
        assert torch.backends.cudnn.allow_tf32 is (precision != "fp32")
        assert torch.are_deterministic_algorithms_enabled()
    with computing(CPU, precision=precision, is_deterministic=False):
        assert not torch.are_deterministic_algorithms_enabled()
        assert torch.backends.cudnn.benchmark
    assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == before
    assert not torch.backends.cudnn.benchmark


def test_what_only_gpus_can_do_is_fp32_here_and_said(
    study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    states = {}
    for precision in ("fp32", "tf32", "bf16"):
        options = TrainOptions(epochs=1, precision=precision)
        assert train_fold(**study.arguments(tmp_path / precision, options=options)) == "trained"
        states[precision] = read_tensors(tmp_path / precision)
        is_said = f"{precision} is a matter of GPUs: here it is fp32" in capsys.readouterr().err
        assert is_said is (precision != "fp32")
    for state in states.values():
        assert all(torch.equal(x, states["fp32"][name]) for name, x in state.items())


def test_weights_that_are_no_numbers_leave_no_checkpoint(study: Study, tmp_path: Path) -> None:
    options = TrainOptions(epochs=1, learning_rate=float("inf"))
    with pytest.raises(ValueError, match="epoch 1: weights are no numbers any more: training has diverged"):
        train_fold(**study.arguments(tmp_path / "fold1", options=options))
    assert not (tmp_path / "fold1").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (TrainOptions(accumulate=17), "a batch of 16 clips cannot be taken in 17 parts"),
        (TrainOptions(accumulate=0), "a batch of 16 clips cannot be taken in 0 parts"),
        (TrainOptions(precision="fp16"), "precision 'fp16' is none of fp32, tf32, bf16"),  # type: ignore[arg-type]
    ],
)
def test_what_no_training_can_do_is_refused(study: Study, tmp_path: Path, options: TrainOptions, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        train_fold(**study.arguments(tmp_path / "fold1", options=options))


def test_a_loss_that_is_no_number_stops_at_once(study: Study, tmp_path: Path) -> None:
    options = TrainOptions(epochs=50, learning_rate=1e18)
    with pytest.raises(ValueError, match=r"epoch \d: the loss is (nan|inf): training has diverged"):
        train_fold(**study.arguments(tmp_path / "fold1", options=options))


def fill_the_gpu() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def fill_the_memory() -> None:
    torch.empty(1 << 60)


def fill_numpy() -> None:
    np.empty(1 << 60, dtype=np.uint8)


@pytest.mark.parametrize("fill", [fill_the_gpu, fill_the_memory, fill_numpy])
def test_out_of_memory_says_which_batch_to_try(fill: Any) -> None:
    with (
        pytest.raises(MemoryError, match=r"batches of 16 clips: try `--accumulate 2` .*, or `--batch-size 8`"),
        room_for("train emotion fold 1", TrainOptions()),
    ):
        fill()
    with (
        pytest.raises(MemoryError, match=r"of 16 clips in 16 parts: try `--batch-size 8`"),
        room_for("train emotion fold 1", TrainOptions(accumulate=16)),
    ):
        fill()
    with (
        pytest.raises(MemoryError, match="a single clip is too much for this device"),
        room_for("train emotion fold 1", TrainOptions(batch_size=1)),
    ):
        fill()


def test_another_error_is_left_as_it_is() -> None:
    with pytest.raises(RuntimeError, match="shapes"), room_for("train", TrainOptions()):
        raise RuntimeError("shapes do not match")


def test_out_of_memory_is_one_sentence_on_the_command_line(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any) -> None:
        fill_the_memory()

    monkeypatch.setattr(train, "train_epoch", full)
    words = ["train", "--task", "emotion", "--fold", "1", "--emotions", ",".join(study.arguments(tmp_path)["emotions"])]
    words += ["--cache", str(study.cache), "--folds", str(study.folds), "--labels", str(study.labels)]
    assert main([*words, "--device", "cpu", "--output", str(tmp_path / "fold1.safetensors")]) == 1
    said = capsys.readouterr().err
    assert "smad-models train: train emotion fold 1: out of memory with batches of 16 clips: try" in said
    assert "Traceback" not in said
    assert not list(tmp_path.iterdir())
