"""Whether a cluster's nodes see what this machine sees: the same folder, locks, Python, libraries and time.

Asked only where the user wants it: each node takes a job of a second, and the queue its own time.
"""

from __future__ import annotations

import fcntl
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from smad_features.doctor_files import judge_clock, off_by
from smad_features.doctor_slurm import read_partitions
from smad_features.findings import COMMAND, Answer, Finding, ask, count

LIBRARIES = ("av", "opencv-contrib-python-headless", "opencv-contrib-python", "numpy", "mediapipe", "snakemake")
_WAIT = 60  # seconds that a node may be busy before it is left aside
_AT_A_TIME = 8

# Run by /bin/sh on the node, as Python itself may not be there.
_LOOK = """
test -d "$1" || { echo 'no folder'; exit 0; }
test -x "$2" || { echo 'no python'; exit 0; }
exec "$2" -c "$3" "$1" "$4"
"""
# Files made there are looked at from here; the lock is held from here.
_ANSWER = """
import fcntl, json, pathlib, sys, time
from importlib.metadata import PackageNotFoundError, version
def of(name):
    try:
        return version(name)
    except PackageNotFoundError:
        return None
folder, names = pathlib.Path(sys.argv[1]), sys.argv[2].split(",")
said = {"time": time.time(), "sees": (folder / "lock").exists(), "python": "%d.%d.%d" % sys.version_info[:3]}
said["versions"] = {name: of(name) for name in names}
try:
    with open(folder / "lock", "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    said["lock"] = "given"
except BlockingIOError:
    said["lock"] = "refused"
except OSError as error:
    said["lock"] = str(error)
print(json.dumps(said))
"""


def check_nodes(
    folder: Path,
    *,
    partition: str = "",
    installed: Mapping[str, str],
    python: str = sys.executable,
    run: Callable[..., Answer] = ask,
) -> list[Finding]:
    """One finding a node that has something to mend, and one on all others.

    Parameters
    ----------
    partition
        Whose nodes are asked; empty = the default one's.
    installed
        Version by package of this machine.
    """
    partitions, _ = read_partitions(run)
    name = partition or next((one.name for one in partitions if one.is_default), "")
    listed = run(["sinfo", "-h", "-N", "-o", "%N", *(["-p", name] if name else [])])
    nodes = sorted(set(listed.output.split())) if listed.status == 0 else []
    if not nodes:
        why = f"sinfo names no node{f' of partition {name}' if name else ''}"
        why += f": {listed.last}" if listed.status != 0 else ""
        asked = "smad-features doctor --ask-nodes PARTITION"
        mend = f"See which there are, and name their partition:\n{COMMAND}sinfo\n{COMMAND}{asked}"
        return [Finding("nodes", "fault", why, mend)]
    with tempfile.TemporaryDirectory(dir=folder, prefix=".smad-doctor-", ignore_cleanup_errors=True) as place:
        with (Path(place) / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

            def look(node: str) -> tuple[Answer, float, float]:
                words = ["srun", "--quiet", f"--nodelist={node}", "--nodes=1", "--ntasks=1", f"--immediate={_WAIT}"]
                words += ["--time=2", "--chdir=/", *([f"--partition={name}"] if name else [])]
                script = ["/bin/sh", "-c", _LOOK, "look", place, python, _ANSWER, ",".join(LIBRARIES)]
                before = time.time()
                answer = run([*words, *script], seconds=_WAIT + 60)
                return answer, before, time.time()

            with ThreadPoolExecutor(_AT_A_TIME) as pool:
                answers = list(pool.map(look, nodes))
        findings = [
            finding
            for node, (answer, before, after) in zip(nodes, answers, strict=True)
            for finding in judge_node(node, answer, (before, after), folder=folder, installed=installed, python=python)
        ]
    bad = {one.name for one in findings}
    good = [node for node in nodes if f"node {node}" not in bad]
    if good:
        names = ", ".join(good[:5]) + (", ..." if len(good) > 5 else "")
        said = f"{count(len(good), 'node')} ({names}): folder, locks, Python, libraries and clock are as here"
        findings.append(Finding("nodes", "ok", said))
    return findings


def judge_node(
    node: str,
    answer: Answer,
    asked: tuple[float, float],
    *,
    folder: Path,
    installed: Mapping[str, str],
    python: str,
) -> Sequence[Finding]:
    """What one node's answer says; ``asked``: between which times of this machine's clock it came."""
    name = f"node {node}"
    there = f"srun -w {node}"
    if answer.status != 0:
        mend = f"It may be busy, down, or not for you. Its state:\n{COMMAND}scontrol show node {node}"
        return [Finding(name, "warning", f"was not looked at: {answer.last.removeprefix('srun: error: ')}", mend)]
    text = (answer.output.strip().splitlines() or [""])[-1]
    if text == "no folder":
        mend = (
            "Jobs there would fail at once. Work in a folder that all nodes see (often a home or scratch folder):\n"
            f"{COMMAND}{there} df -hT"
        )
        return [Finding(name, "fault", f"{folder} is not there", mend)]
    if text == "no python":
        mend = (
            "Jobs there would fail at once. Make the environment in a folder that all nodes see, and work from there;"
            f" what it has of that path:\n{COMMAND}{there} ls -ld {python}"
        )
        return [Finding(name, "fault", f"{python} is not there", mend)]
    try:
        said = json.loads(text)
    except ValueError:
        mend = f"See what its Python says:\n{COMMAND}{there} {python} -c 'print(1)'"
        return [Finding(name, "fault", f"no answer that can be read: {text[:80]!r}", mend)]
    findings = []
    if not said["sees"]:
        mend = (
            "It has a folder of that name of its own. Work in one that all nodes share; what it has there:\n"
            f"{COMMAND}{there} df -hT {folder}"
        )
        findings.append(Finding(name, "fault", f"it does not see the files of {folder}", mend))
    elif said["lock"] != "refused":
        what = "it gives away a lock that this machine holds"
        what = what if said["lock"] == "given" else f"it cannot lock files: {said['lock']}"
        mend = (
            "Runs on two machines would not see each other: start runs from one machine alone, or ask the"
            " administrators for a mount with locks between machines."
        )
        findings.append(Finding(name, "warning", what, mend))
    if other := [
        f"{key} {value or 'missing'} (here {installed.get(key, 'missing')})"
        for key, value in said["versions"].items()
        if value != installed.get(key)
    ]:
        mend = f"It uses other packages than this machine; these:\n{COMMAND}{there} {python} -m pip list"
        findings.append(Finding(name, "fault", f"other versions: {', '.join(other)}", mend))
    # Known only as well as srun is quick: a time between question and answer is taken for right.
    clock = judge_clock(name, "its", off_by(said["time"], *asked), against="this machine's", run=f"{there} ")
    return findings if clock.state == "ok" else [*findings, clock]
