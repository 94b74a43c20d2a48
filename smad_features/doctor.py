"""All checks of a machine, in the order in which a person would mend what they find; and how they are told."""

from __future__ import annotations

import os
import shutil
import site
import sys
import sysconfig
import tempfile
import textwrap
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from smad_features import (
    doctor_disk,
    doctor_files,
    doctor_loading,
    doctor_machine,
    doctor_models,
    doctor_nodes,
    doctor_packages,
    doctor_runs,
    doctor_slurm,
)
from smad_features.config import ConfigError, complete_config, load_config
from smad_features.findings import COMMAND, Finding, count, examine

_SIGNS = {"ok": "✓", "warning": "!", "fault": "✗", "skipped": "-"}
_COLOURS = {"ok": "32", "warning": "33", "fault": "31", "skipped": "2"}
_WIDEST = 110  # a sentence longer than this is hard to read


def examine_machine(configfile: Path, *, folder: Path = Path(), ask_nodes: str | None = None) -> Iterator[Finding]:
    """Each finding as it comes.

    Parameters
    ----------
    configfile
        Where it is not there, defaults are taken, and that is said.
    folder
        The working directory.
    ask_nodes
        Also ask the nodes of this partition of a cluster; "" = of the default one.
    """
    installed = doctor_packages.installed_packages()
    wanted, locked = doctor_packages.wanted_packages(), doctor_packages.locked_packages()
    folder = folder.resolve()
    yield from examine("python", doctor_packages.check_python)
    user_site = Path(site.getusersitepackages()) if site.ENABLE_USER_SITE else None
    look_at = partial(doctor_packages.check_path, packages=Path(sysconfig.get_path("purelib")), user_site=user_site)
    yield from examine("python's path", partial(look_at, pythonpath=os.environ.get("PYTHONPATH", "")))
    yield from examine("programs", doctor_packages.check_programs)
    yield from examine(
        "packages",
        lambda: doctor_packages.check_packages(installed, wanted=wanted, locked=locked, numbers=_numbers()),
    )
    yield from examine("snakemake", partial(doctor_packages.check_snakemake, installed, wanted=wanted, locked=locked))
    yield from examine("opencv", partial(doctor_loading.check_opencv, installed, locked=locked))
    yield from examine("mediapipe", partial(doctor_loading.check_mediapipe, installed, locked=locked))
    yield from examine("video codecs", partial(doctor_loading.check_codecs, locked=locked))
    config, need, found = _read_tables(configfile)
    yield found
    yield from examine("model files", lambda: doctor_models.check_models(config["face"]))
    yield from examine("processor", _check_processor)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    build = doctor_machine.torch_build()
    yield from examine("gpu", partial(doctor_machine.check_gpu, build, locked=locked, visible=visible))
    results = folder / "results"
    yield from examine("disk", lambda: doctor_disk.check_room(results, need, made=doctor_disk.bytes_made(results)))
    yield from examine("temporary files", lambda: doctor_disk.check_temporary(Path(tempfile.gettempdir())))
    for place in doctor_files.places(folder):
        yield from examine("file system", partial(doctor_files.check_files, place))
    yield from examine("clock", partial(doctor_files.check_clock, folder))
    is_held = doctor_runs.holder_of(folder / doctor_runs.LOCK) is not None
    torch = doctor_machine.cpu_build(build)
    install = doctor_packages.install_cuda(locked, torch or "")
    look = partial(doctor_slurm.check_slurm, folder, is_run_held=is_held, cpu_torch=torch, install=install)
    yield from examine("slurm", look)
    # After the jobs of the cluster: those must be gone before anything is unlocked.
    yield from examine("runs here", partial(doctor_runs.check_runs, folder))
    if ask_nodes is not None:
        ask = partial(doctor_nodes.check_nodes, folder, partition=ask_nodes, installed=installed)
        yield from examine("nodes", ask)


def tell(finding: Finding, *, width: int | None = None, colours: bool = False, signs: bool = True) -> str:
    """A finding as text: what was found, and below it what to do.

    ``width``: sentences are wrapped to it, commands never, so that they can be copied; None = one line each.
    ``signs``: False where the terminal knows no others than ASCII's.
    """
    sign = _SIGNS[finding.state] if signs else finding.state.upper()
    if colours:
        sign = f"\x1b[{_COLOURS[finding.state]}m{sign}\x1b[0m"
    lines = _wrap(f"{finding.name}: {finding.found}", width, indent="  ")
    lines[0] = f"{sign} {lines[0].strip()}"
    for line in finding.mend.splitlines():
        lines += [f"    {line}"] if line.startswith(COMMAND) else _wrap(line, width, indent="    ")
    return "\n".join(lines)


def tell_all(findings: list[Finding]) -> str:
    """The last line: whether a run can be started."""
    faults, warnings = (sum(one.state == state for one in findings) for state in ("fault", "warning"))
    if faults:
        beside = f", and {count(warnings, 'warning')}" if warnings else ""
        return f"{count(faults, 'fault')}{beside}: mend the faults from the top, then run this again"
    if warnings:
        return f"no fault; {count(warnings, 'warning')}: runs work, read what they may lack"
    return "nothing to mend"


def terminal_width() -> int | None:
    """The width to wrap sentences to; None where the output is not a terminal."""
    return min(shutil.get_terminal_size().columns, _WIDEST) if sys.stdout.isatty() else None


def _wrap(text: str, width: int | None, *, indent: str) -> list[str]:
    if width is None:
        return [indent + text]
    return textwrap.wrap(
        text, max(30, width), initial_indent=indent, subsequent_indent=indent,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def _read_tables(configfile: Path) -> tuple[dict[str, Any], doctor_disk.Need | None, Finding]:
    """The configuration, what its clips will take, and whether both can be read."""
    name = "configuration"
    if not configfile.exists():
        said = f"{configfile} is not there: looked at with the defaults, for no clips in particular"
        mend = (
            "For a study's own needs, start this in its working directory, or name its configuration:\n"
            f"{COMMAND}smad-features doctor --configfile FILE"
        )
        return complete_config({}), None, Finding(name, "skipped", said, mend)
    try:
        config = load_config(configfile)
    except ConfigError as error:
        mend = f"All else here was looked at with the defaults. Mend the file, then:\n{COMMAND}smad-features check"
        return complete_config({}), None, Finding(name, "fault", str(error), mend)
    from smad_features.manifest import TableError, read_clips

    if not Path(config["clips"]).exists():
        said = f"{configfile}: {config['clips']} is not there yet: looked at for no clips in particular"
        mend = f"To make a first one from the names of your files:\n{COMMAND}smad-features index FOLDER"
        return config, None, Finding(name, "warning", said, mend)
    try:
        clips = read_clips(Path(config["clips"]))
    except TableError as error:
        return config, None, Finding(name, "fault", str(error), f"Mend the table, then:\n{COMMAND}smad-features check")
    participants = len({clip.participant for clip in clips})
    said = f"{configfile}: {count(len(clips), 'clip')} of {count(participants, 'participant')}"
    need = doctor_disk.estimate_need(config, clips=len(clips), participants=participants)
    return config, need, Finding(name, "ok", said)


def _check_processor() -> list[Finding]:
    cores, memory = doctor_machine.usable_cores(), doctor_machine.usable_memory()
    return doctor_machine.check_processor(cores=cores, of=os.cpu_count() or cores, memory=memory)


def _numbers() -> frozenset[str]:
    """The libraries whose version changes what is computed."""
    from smad_features.freshness import STAGES
    from smad_features.later_stages import LATER_STAGES

    lists = [*(s.libraries for s in STAGES.values()), *(s.libraries for s in LATER_STAGES.values())]
    return frozenset(library for libraries in lists for library in libraries)
