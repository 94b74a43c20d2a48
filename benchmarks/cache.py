"""What a run costs when there is little to do, and how fast faces are packed and read: ours, others, and the limit.

    python benchmarks/cache.py MEDIA_FOLDER [--part idle --part change ...] [--folder FOLDER] [--turns 5]

Part by part (all of them by default):
idle       nothing to do among 1,303 clips of 121 participants: `snakemake all`, `smad-features status`, beside a bare
           Snakefile of as many jobs. `--folder` keeps the tree of files, which takes minutes to make
change     one video of the 1,303 is another one: `snakemake features`
codecs     reading with TensorStore what was stored raw, by lz4, by zstd
pack       from units to cache: anew, after one participant changed, and with nothing to do; peak memory
read       batches of 32 clips, in order and at random: ours, and what people use instead
processes  two processes, or two threads, that read at random at the same time

Variants take turns, so that a machine whose speed drifts slows all alike; a ratio is the median of the turns' ratios.
Files are in the page cache. Crops are real ones, of the videos in MEDIA_FOLDER; 1,303 clips repeat them.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from crops import make_crops, write_units
from reading import RATES, open_readers, read_at_once, store_raw_and_packed
from smad_sized import CLIPS, PARTICIPANTS, make_tree, write_video

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("idle", "change", "codecs", "pack", "read", "processes")
FACES_JOB = "import smad_features.cli, smad_features.units, smad_features.video, smad_features.face_finder"
STARTS = (FACES_JOB, "import smad_features.cli, smad_features.quality", "import smad_features.cli, smad_features.cache",
          "import smad_features.cli, smad_features.quality")  # fmt: skip


def main() -> None:
    """Run the parts that were asked for, each printing its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("media", type=Path)
    parser.add_argument("--part", action="append", choices=PARTS)
    parser.add_argument("--folder", type=Path, help="where the tree of idle and change is kept, for the next time")
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()
    parts = options.part or PARTS
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if {"idle", "change"} & set(parts):
            tree = prepare_tree((options.folder or folder).resolve() / "tree")
            if "idle" in parts:
                measure_idle(tree, bare=prepare_bare(folder / "bare"), turns=options.turns)
            if "change" in parts:
                measure_change(tree, turns=options.turns)
        if {"codecs", "pack", "read", "processes"} & set(parts):
            crops = make_crops(options.media)
            if "codecs" in parts:
                print_rates(
                    "how faces are stored", store_raw_and_packed(folder / "codecs", crops, CLIPS), turns=options.turns
                )
            write_units(folder / "packed", crops, clips=CLIPS, participants=PARTICIPANTS)
            measure_packing(folder / "packed", show="pack" in parts, turns=options.turns)
            if "read" in parts:
                readers = open_readers(folder / "others", folder / "packed/cache.zarr")
                print_rates("reader", readers, turns=options.turns, limit="in memory already")
            if "processes" in parts:
                measure_at_once(folder / "packed/cache.zarr", turns=options.turns)


def run(command: Sequence[str | Path], *, folder: Path) -> tuple[float, float]:
    """Processor time and clock time of a command and its children, in seconds."""
    here = f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        command, cwd=folder, env=os.environ | {"PYTHONPATH": here, "PATH": programs}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    clock, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))} failed:\n{done.stdout}{done.stderr}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, clock


def snakemake(target: str, *, snakefile: Path, configured: bool = True) -> list[str | Path]:
    """The command that a user would type."""
    more = ["--configfile", "config.yaml"] if configured else []
    return [sys.executable, "-m", "snakemake", "--cores", "2", "--snakefile", snakefile, *more, "--", target]


def features(*words: str) -> list[str]:
    """A command of smad-features."""
    return [sys.executable, "-m", "smad_features.cli", *words, "--configfile", "config.yaml"]


def prepare_tree(tree: Path) -> Path:
    """The tree, made unless it is there, and brought up to date."""
    if not (tree / "config.yaml").exists():
        print(f"making {CLIPS} clips and all their results: some minutes ...", file=sys.stderr)
        make_tree(tree)
    run(snakemake("all", snakefile=ROOT / "workflow/Snakefile"), folder=tree)
    return tree


def prepare_bare(folder: Path) -> Path:
    """A Snakefile of two jobs a participant that does nothing else, with its results."""
    names = [f"{stage}/{number:03d}" for stage in ("faces", "eyes") for number in range(PARTICIPANTS)]
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    rules = [
        f'rule {stage}:\n    output: "{stage}/{{p}}"\n    shell: "touch {{output}}"\n' for stage in ("faces", "eyes")
    ]
    (folder / "Snakefile").write_text("\n".join([f"rule all:\n    input: {names}\n", *rules]), encoding="utf-8")
    return folder


def measure_idle(tree: Path, *, bare: Path, turns: int) -> None:
    """Nothing to do."""
    commands = {
        "`snakemake all`": (snakemake("all", snakefile=ROOT / "workflow/Snakefile"), tree),
        "`smad-features status`": (features("status"), tree),
        "bare Snakemake, 242 jobs": (snakemake("all", snakefile=bare / "Snakefile", configured=False), bare),
    }
    took: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for _ in range(turns):
        for name, (command, folder) in commands.items():
            took[name].append(run(command, folder=folder))
    print("\n| nothing to do | processor | clock | of bare Snakemake |\n|---|---|---|---|")
    for name, times in took.items():
        ratio = median(ours[0] / bare[0] for ours, bare in zip(times, list(took.values())[-1], strict=True))
        processor, clock = (median(column) for column in zip(*times, strict=True))
        print(f"| {name} | {processor:.2f} s | {clock:.2f} s | {ratio:.2f} |", flush=True)


def measure_change(tree: Path, *, turns: int) -> None:
    """One video among all is another one."""
    workflow = snakemake("features", snakefile=ROOT / "workflow/Snakefile")
    took: dict[str, list[float]] = defaultdict(list)
    for turn in range(turns):
        took["nothing to do"].append(run(workflow, folder=tree)[0])
        took["the four jobs' imports"].append(
            sum(run([sys.executable, "-c", imports], folder=tree)[0] for imports in STARTS)
        )
        video = tree / f"data/S{turn + 20:03d}/S{turn + 20:03d}_C03.mp4"
        write_video(video, seed=time.time_ns())
        unit = tree / f"results/faces/S{turn + 20:03d}.zarr.zip"
        before = unit.read_bytes()
        took["the participant's job"].append(run(features("faces", unit.name.partition(".")[0]), folder=tree)[0])
        unit.write_bytes(before)  # so that the workflow has it to do again
        took["all"].append(run(workflow, folder=tree)[0])
    job = [a - b for a, b in zip(took["the participant's job"], imports_of_job(tree, turns=turns), strict=True)]
    print("\n| one video of 1,303 changed | processor |\n|---|---|")
    for name, seconds in took.items():
        print(f"| {name} | {median(seconds):.2f} s |")
    fixed = [idle + starts for idle, starts in zip(took["nothing to do"], took["the four jobs' imports"], strict=True)]
    ratio = median(whole / (start + own) for whole, start, own in zip(took["all"], fixed, job, strict=True))
    print(f"| all / (nothing to do + imports + the participant's own work) | {ratio:.2f} |", flush=True)


def imports_of_job(tree: Path, *, turns: int) -> list[float]:
    """Seconds that the job of a participant's faces takes to start."""
    return [run([sys.executable, "-c", FACES_JOB], folder=tree)[0] for _ in range(turns)]


def measure_packing(folder: Path, *, show: bool, turns: int) -> None:
    """Units to cache, each time in a process of its own; the last turn leaves a cache of the first units."""
    rows = {"anew": [], "one participant changed": [], "nothing changed": []}  # type: dict[str, list[Any]]
    for _ in range(turns if show else 1):
        for name, times in rows.items():
            if show or name == "anew":
                times.append(in_process(pack_once, folder, name))
    size = sum(file.stat().st_size for file in (folder / "faces").iterdir()) / 1e6
    if show:
        print(f"\n| packing {size:.0f} MB, 2 workers | processor | clock | peak memory |\n|---|---|---|---|")
        for name, times in rows.items():
            processor, clock, peak = (median(column) for column in zip(*times, strict=True))
            print(f"| {name} | {processor:.2f} s | {clock:.2f} s | {peak:.0f} MB |", flush=True)


def pack_once(folder: Path, what: str) -> tuple[float, float, float]:
    """Processor and clock time, and this process's peak memory in MB."""
    import shutil

    import dask

    from smad_features import cache, schema
    from smad_features.freshness import read_unit_attributes

    if what == "anew":
        for old in [*folder.glob("cache*")]:
            shutil.rmtree(old) if old.is_dir() and not old.is_symlink() else old.unlink()
    if what == "one participant changed":
        one, other = folder / "faces/S050.zarr.zip", folder / "other/S050.zarr.zip"
        for source, to in ((one, folder / "swap"), (other, one), (folder / "swap", other)):
            source.rename(to)
    files = [{path.name.partition(".")[0]: path for path in sorted((folder / s).iterdir())} for s in ("faces", "eyes")]
    rows = [(who, clip) for who, path in files[1].items() for clip in (read_unit_attributes(path) or {})["clips"]]
    processor, clock = time.process_time(), time.perf_counter()
    with dask.config.set(num_workers=2):
        cache.pack(folder, rows, files, schema.face_arrays() | schema.eye_arrays(), {"channels": channels()})
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return time.process_time() - processor, time.perf_counter() - clock, int(peak.split()[1]) / 1000


def channels() -> list[dict[str, str]]:
    """As the cache's attributes list them."""
    from smad_features import schema

    return [{"name": channel.name, "unit": channel.unit} for channel in schema.TOBII_PRO_LAB_39]


def in_process(work: Callable[..., Any], *arguments: Any) -> Any:
    """The answer of a fresh process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, arguments)


def print_rates(title: str, readers: dict[str, Any], *, turns: int, limit: str | None = None) -> None:
    """MB of crops a second by the clock; and how many times as fast the first one is, turn by turn."""
    took: dict[tuple[str, str], list[float]] = defaultdict(list)
    rng = np.random.default_rng(0)
    for _ in range(turns):
        for order in ("in order", "at random"):
            rows = np.arange(CLIPS) if order == "in order" else rng.permutation(CLIPS)
            for name, reader in readers.items():
                took[name, order].append(reader.rate(rows))
    first = next(iter(readers))
    print(f"\n| {title} | size | in order | at random | {first} is faster: in order | at random |")
    print("|---|---|---|---|---|---|")
    for name, reader in readers.items():
        cells = [f"{median(took[name, order]):.0f} MB/s" for order in ("in order", "at random")]
        for order in ("in order", "at random"):
            ratio = median(a / b for a, b in zip(took[first, order], took[name, order], strict=True))
            cells.append(f"{ratio:.2g}")
        size = f"{reader.megabytes:.0f} MB" if reader.megabytes else "-"
        print(f"| {name} | {size} | {' | '.join(cells)} |", flush=True)


def measure_at_once(store: Path, *, turns: int) -> None:
    """Random batches by one reader, and by two at the same time."""
    print("\n| reading at once, at random | sum of their speeds |\n|---|---|")
    for name in RATES:
        rates = [read_at_once(name, store, CLIPS) for _ in range(turns)]
        print(f"| {name} | {median(rates):.0f} MB/s |", flush=True)


if __name__ == "__main__":
    main()
