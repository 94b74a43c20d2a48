"""How fast clips go through the network: the published loop, ours from the cache, its ceiling, the hardware's limit.

    python benchmarks/inference.py [--threads 1] [--part inference|training]                      a processor
    python benchmarks/inference.py --device cuda --precision bf16 --batch-size 512 --clips 8192   a GPU

The cache is synthetic: eight crops of 112 x 112 a clip, 32 steps, one checkpoint with random weights. Clips a second of

- (a) the published loop as it is known: batches of 16, in full float32, eight JPEGs a clip by OpenCV, and an XLSX (10 s
  at 120 Hz, 39 columns) that pandas reads by openpyxl twice, for eye movement and for gaze; norms not folded, tensors
  contiguous, all outputs. Where OpenCV or openpyxl is missing, arrays come from an .npz a clip, and the table says so;
- (b) ours, `one_pass.pass_clips`, from a cache that is read batch by batch, and from one held in memory;
- (c) ours on tensors that are on the device already: the ceiling of feeding;
- (d) the limit of products: the clip's FLOPs at the rate of the largest matrix product, measured here.

All take turns, so that a machine whose speed drifts slows all alike; rates are medians over the turns, ratios medians
of each turn's ratio. A GPU is timed by its own events. A processor by the clock, and, since it may be shared, by its
own time, all threads together: the ratios are of that. Training: forward, loss, backward and Adam's step in full
float32 (or as --precision says), from pixels, each batch size in a process of its own, with the peak of its memory.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import json
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import tensorstore as ts
import torch
from torch import Tensor, nn

from smad_features import schema
from smad_models.dataset import Cache, open_cache
from smad_models.inference import Engine, computing, exactness
from smad_models.inputs import find_device
from smad_models.maqt import Maqt, Output
from smad_models.one_pass import Found, View, pass_clips
from smad_models.tasks import TASKS, compute_loss

FLOPS = 7_822_318_272 + 43_286_528  # a clip's: what torch counts of `discrete`, and the LSTMs, which it misses
ON_DISK = 16  # clips as JPEG and XLSX: the published batch
ROWS, COLUMNS = 1200, 39  # of a recording


def main() -> None:
    """Measure the parts that are asked for, and print a table of each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", action="append", choices=("inference", "training"))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=("fp32", "tf32", "bf16"), default="fp32")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--clips", type=int, default=64, help="clips a turn, for all but (a)")
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = find_device(options.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"processor, {options.threads} threads"
    print(f"{name}; {options.precision}; batches of {options.batch_size}; torch {torch.__version__}\n")
    for part in options.part or ("inference", "training"):
        if part == "inference":
            with tempfile.TemporaryDirectory() as folder:
                measure_inference(Path(folder), device, options)
        else:
            measure_training(options)


# ---- what is read


def draw_crops(clips: int) -> np.ndarray:
    """Crops with the contrasts of pictures, not of noise: JPEG's time depends on them."""
    coarse = np.random.default_rng(0).integers(0, 256, (clips, 8, 14, 14, 3), dtype=np.uint8)
    return coarse.repeat(8, axis=2).repeat(8, axis=3)


def write_cache(folder: Path, clips: int) -> Cache:
    """A cache in the contract's format, written by TensorStore."""
    store = folder / "cache.zarr"
    specs = schema.face_arrays() | schema.eye_arrays()
    for name, spec in specs.items():
        shape = [clips, *spec.shape]
        inner = {"codecs": [{"name": "bytes"}, {"name": "crc32c"}], "chunk_shape": [1, *spec.shape]}
        codec = {"name": "sharding_indexed", "configuration": inner}
        grid = {"name": "regular", "configuration": {"chunk_shape": [64, *spec.shape]}}
        metadata = {"shape": shape, "data_type": np.dtype(spec.dtype).name, "chunk_grid": grid, "codecs": [codec]}
        where = {"driver": "file", "path": str(store / name)}
        array = ts.open(
            {"driver": "zarr3", "kvstore": where, "metadata": metadata, "store_data_equal_to_fill_value": True},
            create=True,
        ).result()
        for start in range(0, clips, 64):
            part = min(64, clips - start)
            if name == "face":
                array[start : start + part] = draw_crops(part)
            else:
                noise = np.random.default_rng(start).normal(size=(part, *spec.shape))
                array[start : start + part] = (noise > -9 if spec.dtype == "bool" else noise).astype(spec.dtype)
    attributes = {
        "format": schema.FORMAT,
        "version": schema.VERSION,
        "clips": [f"c{n:06d}" for n in range(clips)],
        "participants": ["p"] * clips,
        "channels": [{"name": channel.name, "unit": channel.unit} for channel in schema.TOBII_PRO_LAB_39],
        "digest": "none",
    }
    root = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    (store / "zarr.json").write_text(json.dumps(root), encoding="utf-8")
    return open_cache(store)


def has_readers() -> bool:
    """Whether the published loop's own readers are here."""
    return all(importlib.util.find_spec(name) for name in ("cv2", "openpyxl", "pandas"))


def write_files(folder: Path, clips: int) -> Callable[[int], tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Clips as the published loop has them on its disk, and the function that reads one: face, eye, gaze."""
    rng = np.random.default_rng(0)
    draw = [np.sort(rng.choice(ROWS, 32, replace=False)) for _ in range(clips)]
    tables = [rng.normal(size=(ROWS, COLUMNS)).round(3) for _ in range(clips)]
    crops = draw_crops(clips)
    if not has_readers():
        for n in range(clips):
            face = crops[n].transpose(0, 3, 1, 2).astype(np.float32) / 255
            np.savez(folder / f"{n}.npz", face=face, eye=tables[n][draw[n]].astype(np.float32))

        def read_arrays(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            with np.load(folder / f"{n}.npz") as found:
                return found["face"], found["eye"], found["eye"][:, :2]

        return read_arrays

    import cv2
    import pandas as pd

    for n in range(clips):
        for frame in range(8):
            cv2.imwrite(str(folder / f"{n}-{frame}.jpg"), crops[n, frame, ..., ::-1])
        pd.DataFrame(tables[n]).to_excel(folder / f"{n}.xlsx", index=False)

    def read_files(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        frames = [np.asarray(cv2.imread(str(folder / f"{n}-{frame}.jpg"))) for frame in range(8)]
        face = np.stack(frames).transpose(0, 3, 1, 2).astype(np.float32) / 255
        sheets = [pd.read_excel(folder / f"{n}.xlsx", engine="openpyxl").to_numpy(np.float32) for _ in range(2)]
        return face, sheets[0][draw[n]], sheets[1][draw[n], :2]

    return read_files


# ---- inference


def make_model() -> Maqt:
    """A network with random weights, and batch norms that do something."""
    torch.manual_seed(0)
    model = Maqt("discrete").eval()
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias, 0.0, 0.2)
            norm.running_mean = 0.2 * torch.randn(norm.num_features)
            norm.running_var = 0.5 + torch.rand(norm.num_features)
    return model


def measure_inference(folder: Path, device: torch.device, options: argparse.Namespace) -> None:
    """The table of rates, and how far less precision moves a probability."""
    model = make_model()
    cache = write_cache(folder, options.clips)
    held = cache.preload(("face", "face_found", "eye", "gaze"), limit=1 << 40)
    rows = np.arange(options.clips)
    engine = Engine(model, device, precision=options.precision, compiled=options.compile)
    arrays = held.read(rows, ("face", "eye", "gaze"))
    there = [
        {name: torch.from_numpy(x[start : start + options.batch_size]).to(device) for name, x in arrays.items()}
        for start in range(0, options.clips, options.batch_size)
    ]
    read = write_files(folder, ON_DISK)
    plain = make_model().to(device)
    ready = [torch.from_numpy(np.stack(x)).to(device) for x in zip(*map(read, range(ON_DISK)), strict=True)]

    def published() -> float:
        clips = zip(*map(read, range(ON_DISK)), strict=True)
        return forward_plainly(*(torch.from_numpy(np.stack(x)).to(device) for x in clips))

    def forward_plainly(*inputs: Tensor) -> float:
        with torch.inference_mode():
            output: Output = plain(*inputs, domains=True)
            assert output.emotion is not None
            output.emotion.argmax(dim=1).cpu()
        return ON_DISK

    def from_cache(source: Cache) -> float:
        found: dict[View, Found] = {("emotion", ()): Found(options.clips)}
        pass_clips(
            [{"emotion": engine}], source, rows, found,
            features={}, batch_size=options.batch_size, domains=False, advance=lambda number: None,
        )  # fmt: skip
        return options.clips

    def on_the_device() -> float:
        with computing(device):
            for batch in there:
                output = engine(engine.embed_faces(batch["face"]), batch["eye"], batch["gaze"])
            assert output.emotion is not None
            output.emotion.cpu()
        return options.clips

    ways: dict[str, Callable[[], float]] = {
        "(a) published loop": published,
        "(a) its model alone": functools.partial(forward_plainly, *ready),
        "(b) ours from the cache, batch by batch": functools.partial(from_cache, cache),
        "(b) ours from the cache, held in memory": functools.partial(from_cache, held),
        "(c) ours, on the device already": on_the_device,
        "(d) limit of products": functools.partial(multiply, device, options.precision),
    }
    with exactness(options.precision):
        for way in ways.values():  # libraries choose, memory is taken
            way()
        rates: dict[str, list[Rate]] = {name: [] for name in ways}
        for _ in range(options.turns):
            for name, way in ways.items():
                rates[name].append(rate(way, device))
    a, alone, lazily, preloaded, ceiling, limit = rates.values()
    print("| | clips a second | a second of processor | beside |\n|---|---|---|---|")
    for name, beside in {
        "(a) published loop": "" if has_readers() else "decoded arrays from .npz: OpenCV or openpyxl is missing",
        "(a) its model alone": "",
        "(b) ours from the cache, batch by batch": f"{against(lazily, a)} x (a), {against(lazily, ceiling)} of (c)",
        "(b) ours from the cache, held in memory": f"{against(preloaded, a)} x (a), "
        f"{against(preloaded, ceiling)} of (c)",
        "(c) ours, on the device already": f"{against(ceiling, alone)} x the model of (a), "
        f"{against(ceiling, limit)} of (d)",
        "(d) limit of products": f"{median(x.own for x in limit) * FLOPS / 1e12:.3g} TFLOP/s",
    }.items():
        clock, own = (median(getattr(x, kind) for x in rates[name]) for kind in ("clock", "own"))
        print(f"| {name} | {clock:.4g} | {'-' if device.type == 'cuda' else f'{own:.4g}'} | {beside} |")
    if options.precision != "fp32":
        print(f"\n{options.precision} beside fp32: {compare(model, there, device, options.precision)}")
    print()


class Rate(NamedTuple):
    """Clips a second of one turn, by the clock and by what the ratios are of: a processor's own time, a GPU's."""

    clock: float
    own: float


def rate(way: Callable[[], float], device: torch.device) -> Rate:
    """Do one turn."""
    if device.type != "cuda":
        begun = time.perf_counter(), time.process_time()
        clips = way()
        return Rate(clips / (time.perf_counter() - begun[0]), clips / (time.process_time() - begun[1]))
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize(device)
    begin.record()
    clips = way()
    torch.cuda.synchronize(device)
    end.record()
    end.synchronize()
    speed = clips / (begin.elapsed_time(end) / 1000)
    return Rate(speed, speed)


def multiply(device: torch.device, precision: str) -> float:
    """Large matrix products, and how many clips need as many."""
    width = 8192 if device.type == "cuda" else 2048
    x, y = _factors(width, device, torch.bfloat16 if precision == "bf16" else torch.float32)
    times = 20 if device.type == "cuda" else 4
    for _ in range(times):
        torch.mm(x, y)
    return times * 2 * width**3 / FLOPS


@functools.cache
def _factors(width: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    return torch.randn(width, width, device=device, dtype=dtype), torch.randn(width, width, device=device, dtype=dtype)


def against(ours: list[Rate], theirs: list[Rate]) -> str:
    """The median of the turns' ratios."""
    return f"{median(x.own / y.own for x, y in zip(ours, theirs, strict=True)):.3g}"


def compare(model: Maqt, batches: list[dict[str, Tensor]], device: torch.device, precision: str) -> str:
    """How far the probabilities of a less exact engine are from float32's, in words."""
    found: dict[str, Tensor] = {}
    for name in ("fp32", precision):
        engine = Engine(model, device, precision=name)  # type: ignore[arg-type]
        with exactness(name), computing(device):  # type: ignore[arg-type]
            parts = [engine(engine.embed_faces(b["face"]), b["eye"], b["gaze"]).emotion for b in batches]
            found[name] = torch.cat([x.softmax(dim=1) for x in parts if x is not None])
    far = (found[precision] - found["fp32"]).abs().max().item()
    same = (found[precision].argmax(dim=1) == found["fp32"].argmax(dim=1)).double().mean().item()
    return f"no probability is further than {far:.2g} off; {same:.2%} of the clips get the same emotion"


# ---- training


def measure_training(options: argparse.Namespace) -> None:
    """Clips a second and peak memory of training from pixels."""
    print("| training, batch | clips a second | a second of processor | peak memory |\n|---|---|---|---|")
    for size in (16, 128):
        context = multiprocessing.get_context("spawn")
        answers = context.SimpleQueue()
        process = context.Process(
            target=train, args=(size, options.device, options.precision, options.threads, answers)
        )
        process.start()
        process.join()
        if process.exitcode:
            print(f"| {size} | failed: exit status {process.exitcode} | | |")
            continue
        clock, own, memory = answers.get()
        is_gpu = options.device.startswith("cuda")
        print(f"| {size} | {clock:.3g} | {'-' if is_gpu else f'{own:.3g}'} | {memory / 1e9:.2f} GB |")


def train(size: int, device_name: str, precision: str, threads: int, answers: Any) -> None:
    """Some steps of the published recipe; answers clips a second and bytes at the peak, of the GPU or the process."""
    torch.set_num_threads(threads)
    device = find_device(device_name)
    is_gpu = device.type == "cuda"
    model = make_model().train().to(device)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-4, weight_decay=5e-4, fused=True)
    crops = torch.from_numpy(draw_crops(size)).to(device)
    eye, gaze = torch.randn(size, 32, 39, device=device), torch.rand(size, 32, 2, device=device)
    targets = {"emotion": torch.arange(size, device=device) % 7}

    def step() -> float:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            output = model(model.inputs.pixels(crops), eye, gaze, domains=True)
            losses = compute_loss(TASKS["emotion"], output, targets, TASKS["emotion"].weights)
        optimiser.zero_grad()
        losses.total.backward()
        optimiser.step()
        return size

    steps = max(1, 64 // size) if not is_gpu else 20

    def several() -> float:
        return sum(step() for _ in range(steps))

    with exactness(precision):  # type: ignore[arg-type]
        step()
        rates = [rate(several, device) for _ in range(1 if size > 64 and not is_gpu else 3)]
    peak = (
        torch.cuda.max_memory_allocated(device) if is_gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    )
    answers.put((median(x.clock for x in rates), median(x.own for x in rates), peak))


if __name__ == "__main__":
    main()
