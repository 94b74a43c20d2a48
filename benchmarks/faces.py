"""How fast eight faces come out of a video: ours, what users write today, and the floor; one core, in one run.

    python benchmarks/faces.py MEDIA_FOLDER LANDMARKER_TASK

(a) OpenCV reads every frame, the landmarker looks at each; (b) OpenCV grabs every frame, decodes eight, the landmarker
looks at those; (c) ours, from the file to aligned crops and quality numbers; (d) the floor: PyAV seeks and decodes just
the needed frames, the landmarker looks at eight, nothing else. Each is a process of its own, all on the same core; they
take turns, so that a machine whose speed drifts slows all alike. Times are those of the processor (all threads share
the one core, so it is what a clock would show on a quiet machine); a ratio is the median of the turns' ratios.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import re
import sys
import tempfile
import time
from collections import defaultdict
from fractions import Fraction
from pathlib import Path
from statistics import median
from typing import Any

FRAMES = 8
VARIANTS = ("a", "b", "c", "d")
SECONDS = 20


def main() -> None:
    """Make the synthetic clips, time every variant on every clip, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("media", type=Path)
    parser.add_argument("landmarker", type=Path)
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(f"making synthetic clips of {SECONDS} s ...", file=sys.stderr)
        clips = sorted(path for path in options.media.iterdir() if path.suffix in (".mp4", ".mov"))
        clips += make_clips(Path(folder), options.media)
        workers = {name: Worker(name, options.landmarker) for name in VARIANTS}
        print(f"start-up, imports and models, once a job: {workers['c'].startup:.1f} s (ours)\n")
        print("| clip | a: every frame | b: grab | c: ours | d: floor | c / d | c / b | a / c |")
        print("|---|---|---|---|---|---|---|---|")
        shares: dict[str, list[float]] = defaultdict(list)
        for clip in clips:
            compare(clip, workers, turns=options.turns, shares=shares)
        print("\nwhere our time goes, mean over these clips:", ", ".join(
            f"{name} {sum(part) / sum(shares['all']):.0%}" for name, part in shares.items() if name != "all"
        ))  # fmt: skip
        print("peak memory:", ", ".join(f"{name} {worker.peak():.0f} MB" for name, worker in workers.items()))
        for worker in workers.values():
            worker.stop()
        on_two_cores([clip for clip in clips if clip.parent == Path(folder)], options.landmarker)


def compare(clip: Path, workers: dict[str, Worker], *, turns: int, shares: dict[str, list[float]]) -> None:
    """One row of the table. The slow variant has one turn; each of the others one to warm up, and then all of them."""
    every = workers["a"].run(clip)["all"]
    times: dict[str, list[float]] = defaultdict(list)
    for turn in range(turns + 1):
        for name in ("b", "c", "d"):
            took = workers[name].run(clip)
            if turn:
                times[name].append(took["all"])
                if name == "c":
                    for part, seconds in took.items():
                        shares[part].append(seconds)

    def ratio(one: str, other: str) -> float:
        return median(a / b for a, b in zip(times[one], times[other], strict=True))

    b, c, d = (median(times[name]) for name in ("b", "c", "d"))
    cells = [clip.name, *(f"{t * 1000:.0f} ms" for t in (every, b, c, d))]
    cells += [f"{ratio('c', 'd'):.2f}", f"{ratio('c', 'b'):.2f}", f"{every / c:.0f}"]
    print("| " + " | ".join(cells) + " |", flush=True)


def on_two_cores(clips: list[Path], landmarker: Path) -> None:
    """How many clips an hour two processes make, each on a core of its own."""
    cores = sorted(os.sched_getaffinity(0))[:2]
    workers = [Worker("c", landmarker, core=core) for core in cores]
    begin, rounds = time.perf_counter(), 5
    for _ in range(rounds):
        for clip in clips:
            for worker in workers:
                worker.ask(clip)
            for worker in workers:
                worker.answer()
    took = time.perf_counter() - begin
    count = rounds * len(clips) * len(workers)
    print(f"on {len(cores)} cores: {count / took * 3600:,.0f} clips of {SECONDS} s an hour ({count} in {took:.1f} s)")
    for worker in workers:
        worker.stop()


class Worker:
    """A variant in a process of its own, on one core; it answers with the seconds that a clip took, part by part."""

    def __init__(self, name: str, landmarker: Path, *, core: int | None = None) -> None:
        here, there = multiprocessing.Pipe()
        core = min(os.sched_getaffinity(0)) if core is None else core
        context = multiprocessing.get_context("spawn")
        self._process = context.Process(target=serve, args=(name, str(landmarker), core, there), daemon=True)
        self._process.start()
        self._pipe = here
        self.startup: float = here.recv()

    def ask(self, clip: Path) -> None:
        self._pipe.send(str(clip))

    def answer(self) -> Any:
        return self._pipe.recv()

    def run(self, clip: Path) -> dict[str, float]:
        self.ask(clip)
        return self.answer()

    def peak(self) -> float:
        """MB of memory at most."""
        self._pipe.send("peak")
        return self.answer()

    def stop(self) -> None:
        self._pipe.send("stop")
        self._process.join()


def serve(name: str, landmarker: str, core: int, pipe: Any) -> None:
    """The worker's side."""
    os.sched_setaffinity(0, {core})
    begin = time.process_time()
    import cv2

    cv2.setNumThreads(1)
    run = open_ours(Path(landmarker)) if name == "c" else open_plain(name, landmarker)
    pipe.send(time.process_time() - begin)
    while (word := pipe.recv()) != "stop":
        if word == "peak":
            status = Path("/proc/self/status").read_text()  # a child's ru_maxrss counts what it was forked from
            pipe.send(int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024)
        else:
            pipe.send(run(word))


def open_ours(landmarker: Path) -> Any:
    """(c) as the workflow's job does it."""
    from smad_features.config import complete_config
    from smad_features.face_finder import FaceFinder
    from smad_features.faces import extract_faces
    from smad_features.model_files import find_models
    from smad_features.video import read_frames

    config = complete_config({"face": {"model_file": str(landmarker)}})
    files = find_models(config["face"])
    finder = FaceFinder(files["landmarker"], full_range=files["full_range"])
    spent: dict[str, float] = {}

    def timed(function: Any, part: str) -> Any:
        def wrapper(*arguments: Any) -> Any:
            begin = time.process_time()
            result = function(*arguments)
            spent[part] = spent.get(part, 0.0) + time.process_time() - begin
            return result

        return wrapper

    for method in ("find_faces", "find_far_faces", "find_near", "find_small_faces", "refine"):
        setattr(finder, method, timed(getattr(finder, method), "mesh" if method == "refine" else "detector"))

    def run(path: str) -> dict[str, float]:
        spent.clear()
        begin = time.process_time()
        frames = read_frames(Path(path), count=FRAMES, **config["video"])
        decoded = time.process_time()
        extract_faces(frames, finder, config["face"])
        end = time.process_time()
        found = spent.get("detector", 0.0) + spent.get("mesh", 0.0)
        return {
            "all": end - begin,
            "decoding": decoded - begin,
            **spent,
            "alignment and quality": end - decoded - found,
        }

    return run


def open_plain(name: str, landmarker: str) -> Any:
    """(a), (b) and (d): the landmarker on whole pictures, with its own defaults."""
    import av
    import cv2
    import mediapipe
    from mediapipe.tasks import python as tasks
    from mediapipe.tasks.python import vision

    base = tasks.BaseOptions(model_asset_path=landmarker, delegate=tasks.BaseOptions.Delegate.CPU)
    model = vision.FaceLandmarker.create_from_options(vision.FaceLandmarkerOptions(base_options=base))

    def look(picture: Any) -> None:
        model.detect(mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=picture))

    def every_frame(path: str) -> None:
        video = cv2.VideoCapture(path)
        while (read := video.read())[0]:
            look(cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB))
        video.release()

    def grab(path: str) -> None:
        video = cv2.VideoCapture(path)
        count = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
        wanted = {int((i + 0.5) * count / FRAMES) for i in range(FRAMES)}
        for i in range(max(wanted) + 1):
            if not video.grab():
                break
            if i in wanted and (read := video.retrieve())[0]:
                look(cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB))
        video.release()

    def floor(path: str) -> None:
        with av.open(path) as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            first = stream.start_time or 0
            length = stream.duration or int(container.duration / av.time_base / stream.time_base)
            wanted = [first + int((i + 0.5) * length / FRAMES) for i in range(FRAMES)]
            container.seek(wanted[0], stream=stream)
            last = None
            for frame in container.decode(stream):  # the frame shown at a time is the last one before the next
                while wanted and frame.pts > wanted[0]:
                    look((last or frame).to_ndarray(format="rgb24"))
                    wanted.pop(0)
                if not wanted:
                    break
                last = frame
            for _ in wanted:
                look(last.to_ndarray(format="rgb24"))

    def floor_by_seeking(path: str) -> None:
        with av.open(path) as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            first = stream.start_time or 0
            length = stream.duration or int(container.duration / av.time_base / stream.time_base)
            for i in range(FRAMES):
                wanted = first + int((i + 0.5) * length / FRAMES)
                container.seek(wanted, stream=stream)
                last = None
                for frame in container.decode(stream):
                    if frame.pts > wanted and last is not None:
                        break
                    last = frame
                look(last.to_ndarray(format="rgb24"))

    def lowest(path: str) -> float:
        """The quicker of decoding through and of seeking: which one is, depends on the key frames."""
        took = []
        for way in (floor, floor_by_seeking):
            begin = time.process_time()
            way(path)
            took.append(time.process_time() - begin)
        return min(took)

    def run(path: str) -> dict[str, float]:
        if name == "d":
            return {"all": lowest(path)}
        begin = time.process_time()
        {"a": every_frame, "b": grab}[name](path)
        return {"all": time.process_time() - begin}

    return run


def make_clips(folder: Path, media: Path) -> list[Path]:
    """Clips of 20 s at 30 frames a second: a real face at 640x360, and a portrait that moves, at 1080p; H.264."""
    import av
    import cv2
    import numpy as np
    from skimage.data import astronaut

    with av.open(str(media / "pyfeat_single_face.mp4")) as container:
        real = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    there_and_back = real + real[::-1]
    head = astronaut()[:300, 80:380]  # large enough for the landmarker's own detector, which (b) and (d) rest on
    portrait = cv2.resize(head, (1080, 1080), interpolation=cv2.INTER_CUBIC)
    room = np.random.default_rng(0).integers(90, 130, (1080, 1920, 3), dtype=np.uint8)
    room = cv2.GaussianBlur(room, (0, 0), 2)

    def small(i: int) -> Any:
        return there_and_back[i % len(there_and_back)]

    def large(i: int) -> Any:
        picture = room.copy()
        left = 420 + round(200 * np.sin(i / 40))
        picture[:, left : left + 1080] = portrait
        return picture

    made = []
    for name, picture, keyframes in (
        ("640x360_20s_gop250.mp4", small, 250), ("640x360_20s_gop30.mp4", small, 30),
        ("1080p_20s_gop250.mp4", large, 250), ("1080p_20s_gop30.mp4", large, 30),
    ):  # fmt: skip
        path = folder / name
        height, width = picture(0).shape[:2]
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=30, options={"preset": "veryfast", "g": str(keyframes)})
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            stream.time_base = Fraction(1, 30)
            for i in range(30 * SECONDS):
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture(i)), format="rgb24")
                frame.pts = i
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        made.append(path)
    return made


if __name__ == "__main__":
    main()
