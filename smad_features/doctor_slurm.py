"""Whether SLURM answers here, keeps what Snakemake asks of it, and has jobs of earlier runs left."""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from smad_features.cluster import ClusterError, leftover_jobs
from smad_features.findings import COMMAND, Answer, Finding, ask, count

_CLIENT = ("sbatch", "squeue", "scancel", "scontrol", "sinfo", "srun")
# A finished job must be remembered for three of the plugin's first waits, or it goes over to sacct by itself. Its later
# waits are longer: two minutes are wanted.
FIRST_WAIT = 20  # seconds: `slurm-init-seconds-before-status-checks` of the profile
_WANTED = 120
_IN_PROFILE = "in the file workflow/profiles/slurm/profile.yaml, as a line under `default-resources`"
_SQUEUE = "snakemake --slurm-status-command squeue"
_NOT_UP = re.compile(r"down|drain|fail|maint|power|unk|boot|inval|\*", re.IGNORECASE)


@dataclass(frozen=True)
class Partition:
    """One line of sinfo: some nodes of a partition that are alike. ``limit``: its longest job, as SLURM spells it."""

    name: str
    is_default: bool
    limit: str
    nodes: int
    gres: str
    state: str

    @property
    def works(self) -> bool:
        """Whether its nodes can be given to jobs."""
        return _NOT_UP.search(self.state) is None


def check_slurm(
    folder: Path,
    *,
    is_run_held: bool,
    cpu_torch: str | None = None,
    install: str = "",
    run: Callable[..., Answer] = ask,
) -> list[Finding]:
    """All of it, in the order in which one thing needs the other.

    Parameters
    ----------
    folder
        The working directory whose jobs count.
    is_run_held
        Whether a run is at work there: then its jobs are no leftovers.
    cpu_torch, install
        The version of a torch that knows no GPU, and how to get another.
    """
    absent = [name for name in _CLIENT if shutil.which(name) is None]
    if len(absent) == len(_CLIENT):
        return [Finding("slurm", "skipped", "no SLURM client here: runs on this machine need none")]
    if absent:
        mend = (
            "Ask for the whole client (Debian: `slurm-client`), or load its module:\n"
            f"{COMMAND}module load slurm"
        )  # fmt: skip
        return [Finding("slurm", "fault", f"of SLURM's client these are not found: {', '.join(absent)}", mend)]
    settings = run(["scontrol", "show", "config"])
    if settings.status != 0:
        silent = _silent(settings)
        return [silent] if silent.state == "warning" else [silent, *_check_munge(_own_settings(), run)]
    found = [_check_partitions(run)]
    if cpu_torch is not None and any("gpu" in one.gres for one in read_partitions(run)[0]):
        said = f"the cluster has GPUs, but torch {cpu_torch} is a CPU build: jobs would not use them"
        found.append(Finding("gpu of the cluster", "warning", said, install))
    found += [*_check_munge(settings.output, run), *_check_status(settings.output, run)]
    return [*found, _check_leftovers(folder, is_run_held=is_run_held)]


def read_partitions(run: Callable[..., Answer] = ask) -> tuple[list[Partition], Answer]:
    """The partitions that sinfo sees, and its answer."""
    answer = run(["sinfo", "-h", "-o", "%P|%a|%l|%D|%G|%T"])
    partitions = []
    for line in answer.output.splitlines():
        words = line.strip().split("|")
        if answer.status == 0 and len(words) == 6 and words[3].isdigit():
            name, available, limit, nodes, gres, state = words
            state = state if available == "up" else f"partition is {available}, down"
            partitions.append(Partition(name.rstrip("*"), name.endswith("*"), limit, int(nodes), gres, state))
    return partitions, answer


def _silent(answer: Answer) -> Finding:
    """SLURM's client does not reach a controller."""
    if "configuration source" in answer.error:
        return Finding(
            "slurm",
            "warning",
            "SLURM's client is installed, but not told of any cluster",
            "Runs on this machine need none. For a cluster: log in to one of its login nodes, or name its"
            f" configuration:\n{COMMAND}export SLURM_CONF=/path/to/slurm.conf",
        )
    return Finding(
        "slurm",
        "fault",
        f"SLURM's controller does not answer: {answer.last}",
        "Start no run with the profile slurm before it does: one that is under way loses its jobs and waits for ever."
        f" This says whether it is back; if it stays away, tell the administrators:\n{COMMAND}scontrol ping",
    )


def _own_settings() -> str:
    """This machine's own copy of SLURM's configuration; empty where there is none, or it is the controller's alone."""
    try:
        return Path(os.environ.get("SLURM_CONF") or "/etc/slurm/slurm.conf").read_text(encoding="utf-8")
    except OSError:
        return ""


def _check_partitions(run: Callable[..., Answer]) -> Finding:
    partitions, answer = read_partitions(run)
    if not partitions:
        return Finding("slurm", "fault", f"sinfo names no partition: {answer.last}",
                       f"Ask which partition you may use:\n{COMMAND}sinfo")  # fmt: skip
    names = list(dict.fromkeys(one.name for one in partitions))
    told = []
    for name in names:
        own = [one for one in partitions if one.name == name]
        up = sum(one.nodes for one in own if one.works)
        gpu = any("gpu" in one.gres for one in own)
        told.append(f"{name} ({up} of {count(sum(one.nodes for one in own), 'node')} up{', with GPUs' if gpu else ''})")
    said = ", ".join(told)
    default = next((one.name for one in partitions if one.is_default), None)
    if not any(one.works for one in partitions):
        said = f"no node of any partition is up: {said}"
        return Finding("slurm", "fault", said, f"Jobs would wait for ever. The reasons:\n{COMMAND}sinfo -R")
    if default is None:
        use = next(one.name for one in partitions if one.works)
        return Finding(
            "slurm",
            "warning",
            f"no partition is the default one: {said}",
            f"Name one, for example {use}, {_IN_PROFILE}:\n{COMMAND}- slurm_partition={use}",
        )
    if not any(one.works and one.name == default for one in partitions):
        use = next(one.name for one in partitions if one.works)
        return Finding(
            "slurm",
            "warning",
            f"no node of the default partition {default} is up: {said}",
            f"Jobs would wait until it is (`sinfo -R` says why). Or name another {_IN_PROFILE}:\n"
            f"{COMMAND}- slurm_partition={use}",
        )
    return Finding("slurm", "ok", f"the controller answers; partitions: {said}; default: {default}")


def _check_munge(settings: str, run: Callable[..., Answer]) -> list[Finding]:
    kind = re.search(r"^AuthType\s*=\s*(\S+)", settings, re.MULTILINE)
    if kind is not None and kind[1] != "auth/munge":
        return []
    if shutil.which("munge") is None or shutil.which("unmunge") is None:
        return []  # a client may bring only the library
    socket = re.search(r"^AuthInfo\s*=.*socket=([^,\s]+)", settings, re.MULTILINE)
    place = [f"--socket={socket[1]}"] if socket else []
    made = run(["munge", "-n", *place])
    read = run(["unmunge", *place], text=made.output) if made.status == 0 else made
    if read.status == 0 and re.search(r"STATUS:\s+Success", read.output):
        return [Finding("munge", "ok", "munge makes credentials and takes them")]
    status = re.search(r"STATUS:\s+(.+)", read.output)
    return [
        Finding(
            "munge",
            "fault",
            f"munge, by which SLURM knows who asks, does not work: {status[1].strip() if status else read.last}",
            "Administrators: the service must run, with the cluster's key and the right time:\n"
            f"{COMMAND}sudo systemctl restart munge\n{COMMAND}munge -n | unmunge",
        )
    ]


def _check_status(settings: str, run: Callable[..., Answer]) -> list[Finding]:
    """By which of squeue and sacct the plugin can learn that a job has ended."""
    has_sacct = shutil.which("sacct") is not None
    sacct = run(["sacct", "-n", "-X", "-S", "now-1minutes", "-o", "JobID"]) if has_sacct else Answer(None, "", "none")
    found = re.search(r"^MinJobAge\s*=\s*(\d+)\s*([a-zA-Z]*)", settings, re.MULTILINE)
    # Read as the plugin reads it: hours, or seconds.
    age = int(found[1]) * (3600 if found[2].lower() in ("h", "hour", "hours") else 1) if found else None
    works = sacct.status == 0
    if age is None or age < _WANTED:
        spelt = f"MinJobAge {'not told' if age is None else f'{age} s'}, want {_WANTED} s"
        remedy = f"Ask the administrators for this line in slurm.conf (SLURM's own default):\n{COMMAND}MinJobAge=300"
        if has_sacct and not works and (age is None or age < 3 * FIRST_WAIT):
            # The plugin then goes from squeue to sacct by itself, which never tells it of an end.
            said = f"SLURM forgets finished jobs too soon for squeue ({spelt}), and sacct fails: {sacct.last}"
            inside = "sbatch --cpus-per-task=16 --mem=16G --time=1-0 --wrap 'snakemake --cores 16 all'"
            mend = (
                f"A run would wait for ever, without a word. {remedy}\n"
                f"Until then do the whole run within one job, which asks nothing of this:\n{COMMAND}{inside}"
            )
            return [Finding("job states", "fault", said, mend)]
        means = "A run may miss that a job has ended. "
        if works and (age is None or age < 3 * FIRST_WAIT):
            means = "A run would ask sacct, and wait for ever for a job that was cancelled: stop it then (Ctrl-C), and"
            means += " start it again. "
        return [Finding("job states", "warning", f"SLURM forgets finished jobs soon ({spelt})", means + remedy)]
    if not works:
        return [
            Finding(
                "job states",
                "ok",
                f"squeue tells of jobs for {age} s after their end, which is enough; sacct does not work here: the"
                " profile slurm does without, any other run must say so or waits for ever, without a word:"
                f" `{_SQUEUE}`",
            )
        ]
    return [Finding("job states", "ok", f"squeue tells of jobs for {age} s after their end; sacct works, too")]


def _check_leftovers(folder: Path, *, is_run_held: bool) -> Finding:
    """Jobs of this working directory in the queue."""
    try:
        jobs = leftover_jobs(folder)
    except ClusterError as error:
        mend = f"Before you start or unlock a run, make sure that none of its jobs is left:\n{COMMAND}squeue --me"
        return Finding("jobs left behind", "fault", f"it cannot be told whether there are any: {error}", mend)
    if not jobs:
        return Finding("jobs left behind", "ok", f"no job of a run in {folder} is in SLURM's queue")
    numbers = list(dict.fromkeys(job.number.partition("_")[0] for job in jobs))  # 12_[3-5]: an array, ended as a whole
    by_state = Counter(job.state for job in jobs)
    states = ", ".join(f"{by_state[state]} {state}" for state in sorted(by_state))
    if is_run_held:
        said = f"{count(len(jobs), 'job')} in SLURM's queue ({states}), of the run that is at work here"
        return Finding("jobs left behind", "ok", said)
    return Finding(
        "jobs left behind",
        "fault",
        f"{count(len(jobs), 'job')} of an earlier run in {folder} in SLURM's queue ({states}), and no run is at work",
        "They would write into what the next run makes. That run cancels those that it knows of; by hand, before you"
        " start or unlock anything:\n"
        f"{COMMAND}scancel {' '.join(numbers)}\n"
        "and wait until this prints nothing:\n"
        f"{COMMAND}squeue -h -j {','.join(numbers)}",
    )
