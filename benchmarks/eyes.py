"""How fast a recording becomes 32 steps: ours, the published way, and the floor; one core, in one run.

    python benchmarks/eyes.py [--count 40] [--turns 3]

The recordings are SMAD's in form: 39 columns of numbers, 10 s at 120 Hz, 0 where nothing was measured, of synthetic
viewers. (a) pandas reads the table, an XLSX by openpyxl, and one row at random is taken of each of 32 segments, twice
(for eye movement and gaze), as the published reader does; (b) the floor: the table is read, by calamine or pandas, and
nothing is done with it; (c) ours, from the file to steps, fractions observed and quality numbers. Each is a process of
its own, all on the same core; they take turns file by file, so that a machine whose speed drifts slows all alike. Times
are those of the processor, without what it does for others. The ratios are medians over files. SMAD has 1,303
recordings: their time is the mean of ours over `count` distinct ones, times 1,303.
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import os
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from statistics import mean, median
from typing import Any

RECORDINGS = 1303
SECONDS = 10
VARIANTS = ("a", "b", "c")
KINDS = ("xlsx", "tsv")


def main() -> None:
    """Make the recordings, time every variant on every file, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(f"making {options.count} recordings of {SECONDS} s ...", file=sys.stderr)
        clips = make_recordings(Path(folder), options.count)
        workers = {name: Worker(name) for name in VARIANTS}
        print(f"start-up, imports, once a job: {workers['c'].startup:.1f} s (ours)\n")
        print(
            "| recording | a: published way | b: floor | c: ours | its resampling | c / b | a / c | c, 1,303 of them |"
        )
        print("|---|---|---|---|---|---|---|---|")
        for kind in KINDS:
            compare(kind, [clip.with_suffix(f".{kind}") for clip in clips], workers, turns=options.turns)
        for worker in workers.values():
            worker.stop()


def compare(kind: str, files: list[Path], workers: dict[str, Worker], *, turns: int) -> None:
    """One row of the table. The first file is one to warm up on."""
    for worker in workers.values():
        worker.run(files[0])
    times: dict[str, list[float]] = defaultdict(list)
    for _ in range(turns):
        for file in files:
            for name, worker in workers.items():
                whole, resampling = worker.run(file)
                times[name].append(whole)
                if name == "c":
                    times["resampling"].append(resampling)

    def ratio(one: str, other: str) -> float:
        return median(a / b for a, b in zip(times[one], times[other], strict=True))

    part = median(a / (b - a) for a, b in zip(times["resampling"], times["c"], strict=True))
    cells = [f"{kind.upper()}, {files[0].stat().st_size / 1000:.0f} kB"]
    cells += [f"{median(times[name]) * 1000:.1f} ms" for name in VARIANTS]
    cells += [f"{median(times['resampling']) * 1000:.1f} ms, {part:.0%} of reading"]
    cells += [f"{ratio('c', 'b'):.2f}", f"{ratio('a', 'c'):.1f}", f"{mean(times['c']) * RECORDINGS:.0f} s"]
    print("| " + " | ".join(cells) + " |", flush=True)


class Worker:
    """A variant in a process of its own; it answers with the seconds that a file took, and of them resampling."""

    def __init__(self, name: str) -> None:
        here, there = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        self._process = context.Process(target=serve, args=(name, min(os.sched_getaffinity(0)), there), daemon=True)
        self._process.start()
        self._pipe = here
        self.startup: float = here.recv()

    def run(self, file: Path) -> tuple[float, float]:
        self._pipe.send(str(file))
        seconds: tuple[float, float] = self._pipe.recv()
        return seconds

    def stop(self) -> None:
        self._pipe.send("stop")
        self._process.join()


def serve(name: str, core: int, pipe: Any) -> None:
    """The worker's side."""
    os.sched_setaffinity(0, {core})
    begin = time.perf_counter()
    run = {"a": open_published, "b": open_floor, "c": open_ours}[name]()
    pipe.send(time.perf_counter() - begin)
    while (word := pipe.recv()) != "stop":
        begin = time.process_time()
        resampling = run(Path(word))
        pipe.send((time.process_time() - begin, resampling))


def open_published() -> Any:
    """(a): one random row of each segment, eye and gaze each by themselves."""
    import random

    import numpy as np
    import openpyxl  # noqa: F401
    import pandas as pd

    def run(path: Path) -> float:
        is_text = path.suffix == ".tsv"
        table = pd.read_csv(path, sep="\t") if is_text else pd.read_excel(path, engine="openpyxl")
        gaze = table[["Gaze point X", "Gaze point Y"]].to_numpy()
        for values in (table.to_numpy(), gaze):
            segments = np.array_split(np.arange(len(values)), 32)
            np.stack([values[random.choice(segment)] for segment in segments])
        return 0.0

    return run


def open_floor() -> Any:
    """(b): reading alone."""
    import pandas as pd
    from python_calamine import CalamineWorkbook

    def run(path: Path) -> float:
        if path.suffix == ".tsv":
            pd.read_csv(path, sep="\t")
        else:
            CalamineWorkbook.from_path(str(path)).get_sheet_by_index(0).to_python()
        return 0.0

    return run


def open_ours() -> Any:
    """(c) as the workflow's job does it."""
    from smad_features.eyes import resample
    from smad_features.recordings import read_recording

    def run(path: Path) -> float:
        recording = read_recording(path)
        begin = time.process_time()
        resample(recording)
        return time.process_time() - begin

    return run


def make_recordings(folder: Path, count: int) -> list[Path]:
    """Recordings of synthetic viewers as sheets of 39 columns, each once as XLSX and once as text; without suffix."""
    import numpy as np
    import openpyxl

    from smad_features import schema
    from smad_features.synthetic_recordings import ANCHORS, blink_times, make_viewer, record

    names = [channel.name for channel in schema.TOBII_PRO_LAB_39]
    made = []
    for number in range(count):
        rng = np.random.default_rng(number)
        intensity = rng.uniform(0, 3)
        samples = record(
            emotion=list(ANCHORS)[number % len(ANCHORS)],
            intensity=intensity,
            valence=rng.uniform(-1, 1),
            arousal=rng.uniform(-1, 1),
            viewer=make_viewer(rng=rng),
            blinks=blink_times(seconds=SECONDS, intensity=intensity, rng=rng),
            seconds=SECONDS,
            rng=rng,
        )
        table = np.nan_to_num(np.column_stack([samples.channels[name] for name in names])).round(5)
        rows = [[int(value) if value == int(value) else value for value in row] for row in table.tolist()]
        path = folder / f"clip{number:04d}"
        with path.with_suffix(".tsv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, delimiter="\t", lineterminator="\n").writerows([names, *rows])
        book = openpyxl.Workbook(write_only=True)
        sheet = book.create_sheet("Sheet1")
        for row in [names, *rows]:
            sheet.append(row)
        book.save(path.with_suffix(".xlsx"))
        made.append(path)
    return made


if __name__ == "__main__":
    main()
