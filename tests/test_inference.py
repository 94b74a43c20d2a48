"""The engine that predicts: as exact as the network that it is made from; and what feeds it."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from model_fixtures import draw_arrays, draw_labels
from torch import Tensor, nn

from smad_models.feeding import Shared, bring_back, read_ahead, to_device
from smad_models.inference import Engine, computing, exactness, fold_norms
from smad_models.inputs import Convention, find_device, fit_statistics, name_present
from smad_models.maqt import Maqt, Output, Variant, draw_lstm
from smad_models.resnet import ResNet18

CPU = torch.device("cpu")
ARRAYS: dict[str, np.ndarray] = draw_arrays(draw_labels(5), size=32)


def draw_norms(network: nn.Module) -> None:
    """Statistics and weights of the batch norms as training leaves them: none is that of an identity."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean = torch.randn(module.num_features) / 5
            module.running_var = torch.rand(module.num_features) + 0.5
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.2)


def make_model(variant: Variant = "va", convention: Convention = "standard") -> Maqt:
    torch.manual_seed(3)
    model = Maqt(variant, convention=convention).eval()
    draw_norms(model)
    for lstm in (model.eye_lstm, model.gaze_lstm):  # PyTorch's own weights let a sequence fade to next to nothing
        draw_lstm(lstm)
    if convention == "standard":
        model.inputs.set_statistics(fit_statistics(ARRAYS["eye"]))
    return model


def tensors(arrays: dict[str, np.ndarray] = ARRAYS) -> tuple[Tensor, Tensor, Tensor]:
    return torch.from_numpy(arrays["face"]), torch.from_numpy(arrays["eye"]), torch.from_numpy(arrays["gaze"])


def run(engine: Engine, arrays: dict[str, np.ndarray] = ARRAYS, **options: Any) -> Output:
    face, eye, gaze = tensors(arrays)
    with computing(CPU):
        return engine(engine.embed_faces(face), eye, gaze, **options)


def run_plainly(model: Maqt, **options: Any) -> Output:
    with torch.inference_mode():
        output: Output = model(*model.inputs(*tensors()), **options)
    return output


def test_norms_folded_into_convolutions_are_the_same_function_also_at_the_border() -> None:
    torch.manual_seed(0)
    network = ResNet18().eval()
    draw_norms(network)
    network.double()
    pictures = torch.randn(2, 3, 48, 40, dtype=torch.float64)
    folded = fold_norms(network)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    with torch.inference_mode():
        torch.testing.assert_close(folded(pictures), network(pictures), rtol=1e-11, atol=1e-11)
    assert any(isinstance(module, nn.BatchNorm2d) for module in network.modules())  # the original is left as it was


@pytest.mark.parametrize("convention", ["standard", "published"])
@pytest.mark.parametrize("variant", ["va", "discrete", "intensity"])
def test_the_engine_says_what_the_network_says(variant: Variant, convention: Convention) -> None:
    model = make_model(variant, convention)
    want, got = run_plainly(model, domains=True), run(Engine(model, CPU), domains=True)
    for name, x, y in zip(Output._fields, want, got, strict=True):
        assert (x is None) == (y is None), name
        if x is not None:
            torch.testing.assert_close(y, x, rtol=1e-5, atol=1e-5)
    assert run(Engine(model, CPU)).invariant_domains is None  # only the task's outputs, unless asked


def without(modality: str, convention: Convention) -> dict[str, np.ndarray]:
    """The arrays as a cache holds them whose clips lack a modality; under `published` gaze is two eye channels."""
    arrays = {name: x.copy() for name, x in ARRAYS.items()}
    if modality == "face":
        arrays["face"][:], arrays["face_found"][:] = 0, False
    elif modality == "gaze" and convention == "published":
        arrays["eye"][:, :, :2] = np.nan
    else:
        arrays[modality][:] = np.nan
    return arrays


@pytest.mark.parametrize("convention", ["standard", "published"])
@pytest.mark.parametrize("modality", ["face", "eye", "gaze"])
def test_a_hidden_modality_is_what_a_cache_without_it_gives(modality: str, convention: Convention) -> None:
    engine = Engine(make_model("discrete", convention), CPU)
    face, eye, gaze = tensors()
    with computing(CPU):
        black = engine.embed_no_face(32).expand(len(face), -1, -1)
        got = engine(black if modality == "face" else engine.embed_faces(face), eye, gaze, hidden=(modality,)).emotion
    lacking = without(modality, convention)
    want, whole = run(engine, lacking).emotion, run(engine).emotion
    assert got is not None
    assert want is not None
    assert whole is not None
    torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-6)
    assert torch.isfinite(got).all()
    assert (got - whole).abs().max() > 1e-4  # it is missed
    present = name_present(ARRAYS, convention, hidden=(modality,))
    assert present == name_present(lacking, convention)
    assert all(modality not in words for words in present)
    if convention == "published" and modality == "eye":  # whence its gaze comes
        assert present == ["face"] * 5


def test_less_precision_is_close_to_float32_and_on_a_processor_tf32_is_float32() -> None:
    model = make_model("discrete")
    found = {}
    for precision in ("fp32", "tf32", "bf16"):
        with exactness(precision):
            emotion = run(Engine(model, CPU, precision=precision)).emotion
        assert emotion is not None
        assert emotion.dtype == torch.float32
        found[precision] = emotion.softmax(dim=1)
    assert torch.equal(found["tf32"], found["fp32"])
    assert 0 < (found["bf16"] - found["fp32"]).abs().max() < 0.002


def test_how_products_are_made_is_put_back_afterwards() -> None:
    before = (torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark)
    with pytest.raises(KeyError), exactness("fp32"):
        assert not torch.backends.cudnn.allow_tf32
        raise KeyError
    after = (torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark)
    assert after == before


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method.*:DeprecationWarning")  # torch's own, in its compiler
def test_a_compiled_engine_says_the_same() -> None:
    model = make_model()
    want, got = run(Engine(model, CPU)).value, run(Engine(model, CPU, compiled=True)).value
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "message"),
    [("cuda:0", "there is no GPU here"), ("gpu", "device 'gpu' is none: want auto, cpu, cuda, cuda:1")],
)
def test_a_device_that_is_not_there_is_refused(name: str, message: str) -> None:
    if torch.cuda.is_available() and name == "cuda:0":
        pytest.skip("there is a GPU here")
    with pytest.raises(ValueError, match=message):
        find_device(name)


# ---- feeding


def test_batches_are_read_ahead_by_another_thread_in_order_and_not_too_far() -> None:
    begun: list[int] = []
    readers: set[int] = set()

    def read(job: int) -> int:
        begun.append(job)
        readers.add(threading.get_ident())
        return job * job

    batches = read_ahead(read, range(20), readers=2)
    assert next(batches) == 0
    time.sleep(0.05)  # all that may be read is read
    assert 2 <= len(begun) <= 6
    assert list(batches) == [n * n for n in range(1, 20)]
    assert begun == sorted(begun) or len(readers) == 2
    assert threading.get_ident() not in readers


def test_what_goes_wrong_while_reading_ahead_is_told_to_who_asks() -> None:
    def read(job: int) -> int:
        if job == 3:
            raise ValueError("clip P03_C1 is damaged")
        return job

    batches = read_ahead(read, range(9))
    assert [next(batches) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="P03_C1"):
        next(batches)


def test_threads_that_share_batches_get_each_one_once_until_they_are_stopped() -> None:
    shared = Shared(read_ahead(lambda n: n, range(300)))
    got: list[list[int]] = [[], []]
    threads = [threading.Thread(target=own.extend, args=(shared,)) for own in got]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got[0] + got[1]) == list(range(300))
    stopped = Shared(iter(range(5)))
    assert next(stopped) == 0
    stopped.stop()
    assert list(stopped) == []


def test_on_a_gpu_the_next_copy_is_under_way_before_a_batch_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The order of events, told by stand-ins for CUDA's streams: no GPU is needed."""
    said: list[str] = []

    class Stream:
        def __init__(self, name: Any) -> None:
            self.name = name if isinstance(name, str) else "copies"

        def record_event(self) -> str:
            return said[-1].replace("copy", "arrival")

        def wait_event(self, event: str) -> None:
            said.append(f"{self.name} wait for {event}")

    class Crops:
        def __init__(self, number: int) -> None:
            self.number = number

        def to(self, device: Any, *, non_blocking: bool) -> "Crops":
            assert non_blocking
            said.append(f"copy {self.number}")
            return self

        def record_stream(self, stream: Stream) -> None:
            said.append(f"{self.number} is kept for {stream.name}")

    @contextmanager
    def on(stream: Stream) -> Iterator[None]:
        assert stream.name == "copies"
        yield

    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream("products"))
    monkeypatch.setattr(torch.cuda, "stream", on)
    batches: Any = [(number, {"face": Crops(number)}) for number in range(3)]
    device: Any = SimpleNamespace(type="cuda")
    for number, _ in to_device(batches, device):
        said.append(f"compute {number}")
    steps = {n: [f"products wait for arrival {n}", f"{n} is kept for products", f"compute {n}"] for n in range(3)}
    assert said == ["copy 0", "copy 1", *steps[0], "copy 2", *steps[1], *steps[2]]


def test_results_come_back_as_float64() -> None:
    found = bring_back({"value": torch.tensor([[0.5]])})()
    assert found["value"].dtype == np.float64
    assert found["value"][0, 0] == 0.5
