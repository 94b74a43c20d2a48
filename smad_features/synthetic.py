"""A demo data set of people who do not exist, with a planted signal, laid out as a laboratory or the release has it.

What each invented participant feels in a clip (`synthetic_plan`) leaves traces in the face (`synthetic_faces`) and
in gaze and pupils (`synthetic_recordings`), so that a pipeline that works scores above chance on participants it has
not seen, and one that is broken does not.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import cv2
from rich.console import Console
from rich.progress import track

from smad_features import synthetic_laboratory as laboratory
from smad_features import synthetic_release as release
from smad_features.synthetic_plan import Clip, plan_clips
from smad_features.synthetic_takes import Take, take_clips

LAYOUTS = ("laboratory", "smead-cross")

NOTICE = """\
This data set is SYNTHETIC. It was made by `smad-features demo-data`; nobody was filmed or recorded.

The people in it do not exist. Their faces are smooth warps of two public-domain portraits: Eileen Collins (NASA;
shipped with scikit-image) and Grace Hopper (US Navy; shipped with matplotlib). What the warped faces show is not what
these two persons felt, did or looked like. Recordings, labels and annotations are random numbers with a planted signal.
Scores on them say that a pipeline works, and nothing about people.

"""


def write_demo_data(
    folder: Path,
    *,
    participants: int = 18,
    clips_per_participant: int = 7,
    seconds: float = 3.0,
    seed: int = 0,
    workers: int = 1,
    layout: str = "laboratory",
) -> None:
    """Write a synthetic data set under ``folder``: the same files for the same seed, whatever the ``workers``.

    With seven clips each participant shows each emotion once. A set of 100 clips or more has, like real ones, gaps:
    two clips without a recording and one without a video. In the layout of a laboratory every fifth participant's
    recordings come from a computer that writes decimal commas.

    Raises
    ------
    ValueError
        When a number is too small to make a clip of, there is no such layout, or the folder holds other files.
    """
    for name, value, least in (
        ("participants", participants, 1),
        ("clips_per_participant", clips_per_participant, 1),
        ("seconds", seconds, 1),
        ("seed", seed, 0),
        ("workers", workers, 1),
    ):
        if value < least:
            raise ValueError(f"{name}: want at least {least}, got {value}")
    if layout not in LAYOUTS:
        raise ValueError(f"layout: want one of {', '.join(LAYOUTS)}, got {layout!r}")
    as_released = layout == "smead-cross"
    notice, text = folder / "README.txt", NOTICE + (release if as_released else laboratory).FILES
    if folder.exists() and any(folder.iterdir()) and not (notice.exists() and notice.read_text("utf-8") == text):
        raise ValueError(f"{folder} is not empty, and what is there is not ours: name a new folder")
    plan = plan_clips(participants, clips_per_participant, seed=seed)
    folder.mkdir(parents=True, exist_ok=True)
    notice.write_text(text, encoding="utf-8")
    if not as_released:
        laboratory.write_films(folder, seconds=seconds, seed=seed)
    work = [[clip for clip in plan if clip.number == number] for number in range(participants)]
    write_take = release.write_take if as_released else laboratory.write_take
    write = partial(_write_participant, folder, write_take=write_take, seconds=seconds, seed=seed)
    console = Console(stderr=True)
    show = partial(track, description="synthetic participants", total=participants, console=console)
    if workers == 1:
        for _ in show(map(write, work), disable=not console.is_terminal):
            pass
    else:
        spawn = multiprocessing.get_context("spawn")
        with (
            _one_blas_thread(),
            ProcessPoolExecutor(workers, mp_context=spawn, initializer=cv2.setNumThreads, initargs=(1,)) as pool,
        ):
            for _ in show(pool.map(write, work), disable=not console.is_terminal):
                pass
    # The tables last: where they are, all is.
    if as_released:
        release.write_labels(folder, plan)
    else:
        laboratory.write_tables(folder, plan, seconds=seconds, seed=seed)


def _write_participant(
    folder: Path, clips: Sequence[Clip], *, write_take: Callable[[Path, Take], None], seconds: float, seed: int
) -> None:
    for take in take_clips(clips, seconds=seconds, seed=seed):
        write_take(folder, take)


@contextmanager
def _one_blas_thread() -> Iterator[None]:
    """For processes that begin meanwhile: threads of several OpenBLAS that wait for each other spin for minutes."""
    name = "OPENBLAS_NUM_THREADS"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
