"""What a machine has to compute with: cores, memory, GPUs; limits of containers and batch systems are seen."""

from __future__ import annotations

import importlib.util
import math
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from smad_features.doctor_packages import install_cuda
from smad_features.findings import COMMAND, Answer, Finding, ask, count, size

GB = 10**9
# Measured: below 350 MB for a job of features (600 MB with 4K videos), below 1 GB where networks run.
_MEMORY_A_JOB = GB
_LEAST_CAPABILITY = (7, 5)  # of a GPU, since CUDA 13: Turing
_LEAST_MEMORY = 2 * GB  # what packing asks for


def usable_cores(*, root: Path = Path("/"), allowed: int | None = None) -> int:
    """How many cores this process may use: by its affinity, or by its control group's share of time."""
    if allowed is None:
        allowed = len(os.sched_getaffinity(0))
    shares = []
    for folder in _groups(root, "cpu"):
        both = _words(folder / "cpu.max") or _words(folder / "cpu.cfs_quota_us") + _words(folder / "cpu.cfs_period_us")
        if len(both) == 2 and both[0] not in ("max", "-1"):
            shares.append(int(both[0]) / int(both[1]))
    return max(1, min([allowed, *(math.floor(share + 0.01) for share in shares)]))


def usable_memory(*, root: Path = Path("/")) -> int:
    """Bytes of memory that this process may use: the machine's, or its control group's."""
    total = re.search(r"^MemTotal:\s+(\d+) kB", (root / "proc/meminfo").read_text(encoding="utf-8"), re.MULTILINE)
    assert total is not None
    limits = [int(total[1]) * 1024]
    for folder in _groups(root, "memory"):
        words = _words(folder / "memory.max") or _words(folder / "memory.limit_in_bytes")
        if words and words[0] != "max":
            limits.append(int(words[0]))
    return min(limits)


def check_processor(*, cores: int, of: int, memory: int) -> list[Finding]:
    """Cores and memory, and how many jobs at a time fit."""
    limited = f" of {of}; a batch system or container allows no more" if cores < of else ""
    found = [Finding("processor", "ok", f"{count(cores, 'core')}{limited}: `snakemake --cores {cores}`")]
    fit = max(1, memory // _MEMORY_A_JOB)
    if memory < _LEAST_MEMORY:
        found.append(
            Finding(
                "memory",
                "warning",
                f"{size(memory)} of memory may be used here; packing and training may need {size(_LEAST_MEMORY)}",
                "Jobs may be killed. Run on a larger machine, or ask the batch system for more (`sbatch --mem=8G`).",
            )
        )
    elif fit < cores:
        found.append(
            Finding(
                "memory",
                "warning",
                f"{size(memory)} of memory for {count(cores, 'core')}; a job may need {size(_MEMORY_A_JOB)}",
                f"Run no more jobs at a time than fit:\n{COMMAND}snakemake --cores {fit} all",
            )
        )
    else:
        found.append(Finding("memory", "ok", f"{size(memory)} of memory may be used"))
    return found


def torch_build() -> str | None:
    """The text of torch's version file; torch itself is not imported. None = it is not installed."""
    spec = importlib.util.find_spec("torch")
    places = spec.submodule_search_locations if spec else None
    return next(
        (path.read_text(encoding="utf-8") for p in places or () if (path := Path(p, "version.py")).exists()), None
    )


def cpu_build(build: str | None) -> str | None:
    """Torch's version where it was built for the processor alone; ``build``: as `torch_build` gives it."""
    return (
        _said(build, "__version__") if build is not None and not (_said(build, "cuda") or _said(build, "hip")) else None
    )


def check_gpu(
    build: str | None,
    *,
    locked: Mapping[str, str],
    root: Path = Path("/"),
    visible: str | None = None,
    run: Callable[..., Answer] = ask,
) -> Finding:
    """GPUs, their driver, and whether torch was built for them.

    Parameters
    ----------
    build
        `torch_build`.
    visible
        The environment's CUDA_VISIBLE_DEVICES.
    """
    devices = sum(re.fullmatch(r"nvidia\d+", path.name) is not None for path in (root / "dev").glob("nvidia*"))
    asked = run(["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"])
    cards = [line.strip() for line in asked.output.splitlines() if line.strip()] if asked.status == 0 else []
    number = max(devices, len(cards))
    has_amd = (root / "dev/kfd").exists()
    if build is None:
        gpus = f"{count(number, 'GPU')}; " if number else ""
        return Finding("gpu", "skipped", f"{gpus}torch is not installed, so nothing is trained here")
    version, cuda = _said(build, "__version__"), _said(build, "cuda")
    if not number:
        amd = " (there is one of AMD's; the project was tried with none)" if has_amd else ""
        return Finding("gpu", "ok", f"no NVIDIA GPU here{amd}: torch {version} computes on the processor")
    gpus = f"{count(number, 'GPU')}{f' ({cards[0]})' if cards else ''}"
    if cuda is None and (rocm := _said(build, "hip")):
        return Finding("gpu", "ok", f"{gpus}; torch {version} for ROCm {rocm}, with which the project was not tried")
    if cuda is None:
        said = f"{gpus}, but torch {version} is a CPU build: training would not use {'it' if number == 1 else 'them'}"
        return Finding("gpu", "warning", said, install_cuda(locked, version or ""))
    if not cards:
        return Finding(
            "gpu",
            "warning",
            f"{gpus} in /dev, but the driver does not answer: nvidia-smi: {asked.last}",
            "Torch would compute on the processor. After an update of the driver a reboot is missing; in a container"
            " its start needs `--gpus all` (Docker) or `--nv` (Apptainer). See what it says:\n"
            f"{COMMAND}nvidia-smi",
        )
    serves = re.search(r"CUDA (?:\w+ )?Version:\s*(\d+)\.(\d+)", run(["nvidia-smi"]).output)
    if serves and int(cuda.partition(".")[0]) > int(serves[1]):
        return Finding(
            "gpu",
            "warning",
            f"{gpus}, but its driver serves CUDA up to {serves[1]}.{serves[2]}, and torch {version} wants {cuda}",
            "Torch would compute on the processor, or stop. Ask for a newer NVIDIA driver on this machine.",
        )
    old = [cap for cap in run(["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]).output.split()
           if re.fullmatch(r"\d+\.\d+", cap) and tuple(map(int, cap.split("."))) < _LEAST_CAPABILITY]  # fmt: skip
    if old and int(cuda.partition(".")[0]) >= 13:
        return Finding(
            "gpu",
            "warning",
            f"{gpus}: of compute capability {old[0]}, and CUDA {cuda}, for which torch {version} was built, wants"
            f" {'.'.join(map(str, _LEAST_CAPABILITY))}",
            "Training would stop with `no kernel image is available`. Use a GPU of 2018 or later, or hide it, and"
            f" compute on the processor:\n{COMMAND}export CUDA_VISIBLE_DEVICES=''",
        )
    if visible is not None and visible.strip() in ("", "-1"):
        return Finding(
            "gpu",
            "warning",
            f"{gpus}, hidden by CUDA_VISIBLE_DEVICES={visible!r}",
            f"Unless that is meant:\n{COMMAND}unset CUDA_VISIBLE_DEVICES",
        )
    return Finding("gpu", "ok", f"{gpus}; torch {version} for CUDA {cuda}")


def _said(build: str, name: str) -> str | None:
    found = re.search(rf"^{name}\b[^=\n]*= *['\"]([^'\"]+)['\"]", build, re.MULTILINE)
    return found[1] if found else None


def _groups(root: Path, controller: str) -> list[Path]:
    """The folders of the control groups that this process is in, from the innermost out; versions 1 and 2."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    found: list[Path] = []
    for line in lines:
        _, controllers, place = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        for base in {root / "sys/fs/cgroup" / name for name in (controllers, controller if controllers else "")}:
            # Inside a container the place may be the host's name for it: its own limits then stand at the top.
            inner = base / place.lstrip("/")
            found += [inner, *(folder for folder in inner.parents if folder == base or base in folder.parents)]
    return list(dict.fromkeys(folder for folder in found if folder.is_dir()))


def _words(path: Path) -> tuple[str, ...]:
    try:
        return tuple(path.read_text(encoding="utf-8").split())
    except OSError:
        return ()
