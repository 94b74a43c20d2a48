"""A real SLURM of two nodes on the loopback interface, for as long as the tests take: no systemd, no cgroups, no root.

What is unusual in its configuration, and why: two slurmd share a host, so each has a port and folders of its own; more
processors are advertised than there are (`config_overrides`); a GPU is any device file, as SLURM sets
CUDA_VISIBLE_DEVICES for device files only; `cred_expire` is also how long a requeued job waits. The executor drops
SLURM_CONF inside a job, so a wrapper of `srun` earlier in PATH puts it back.
"""

from __future__ import annotations

import getpass
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

NODES = ("n1", "n2")
PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "squeue")
SBIN = "/usr/sbin:/sbin"


def lacking() -> list[str]:
    """The programs of a cluster that are not on this machine (Debian: slurm-wlm and munge)."""
    return [name for name in PROGRAMS if shutil.which(name, path=f"{os.environ['PATH']}:{SBIN}") is None]


@dataclass
class Slurm:
    """A running cluster: its folder, its daemons by name, and what its clients need in their environment."""

    folder: Path
    port: int
    daemons: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """For every client, Snakemake among them."""
        path = f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}{os.pathsep}{SBIN}"
        return os.environ | {"SLURM_CONF": str(self.folder / "slurm.conf"), "PATH": path, "USER": getpass.getuser()}

    def ask(self, *command: str) -> str:
        """What a client prints."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60, check=True)
        return done.stdout

    def jobs(self) -> list[list[str]]:
        """Number, name, state, node and comment of every job in the queue."""
        said = self.ask("squeue", "--noheader", "--format", "%i|%j|%T|%N|%k")
        return [line.strip().split("|") for line in said.splitlines()]

    def launch(self, name: str, *command: str) -> None:
        """Start a daemon in the foreground of a session of its own."""
        with (self.folder / "log" / f"{name}.out").open("ab") as log:
            self.daemons[name] = subprocess.Popen(
                command, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def start_node(self, node: str) -> None:
        """Start one slurmd, also anew."""
        self.launch(node, "slurmd", "-D", "-N", node)

    def kill_node(self, node: str) -> None:
        """One slurmd dies; its jobs' processes live on, as where the network to a node is lost."""
        self.daemons[node].kill()
        self.daemons[node].wait()

    def signal_job(self, number: str, which: signal.Signals) -> None:
        """Send a signal to all that a job has started, as if SLURM knew nothing of it."""
        mark = f"SLURM_JOB_ID={number}".encode()
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (process / "environ").read_bytes().split(b"\0"):
                    os.kill(int(process.name), which)
            except (FileNotFoundError, ProcessLookupError, PermissionError):  # ended meanwhile, or another's
                continue

    def wait_for(self, what: str, is_so: Callable[[], bool], *, seconds: float = 60) -> None:
        """Wait until something is so; TimeoutError, with the daemons' last words, if it never is."""
        last = time.monotonic() + seconds
        while not is_so():
            if time.monotonic() > last:
                said = "".join(path.read_text(errors="replace")[-2000:] for path in (self.folder / "log").iterdir())
                raise TimeoutError(f"{what}: not within {seconds:.0f} s\n{said}")
            time.sleep(0.2)

    def has_idle_nodes(self) -> bool:
        """Whether all nodes are there, and idle."""
        try:
            return set(self.ask("sinfo", "-h", "-N", "-t", "idle", "-o", "%N").split()) == set(NODES)
        except subprocess.CalledProcessError:
            return False

    def clear(self) -> None:
        """Cancel all jobs, and wait until the nodes are idle."""
        numbers = [job[0] for job in self.jobs()]
        if numbers:
            self.ask("scancel", *numbers)
        self.wait_for("idle nodes", self.has_idle_nodes)

    def stop(self) -> None:
        """End all daemons, the last that was started first."""
        for daemon in reversed(self.daemons.values()):
            if daemon.poll() is None:
                daemon.terminate()
                try:
                    daemon.wait(10)
                except subprocess.TimeoutExpired:
                    os.killpg(daemon.pid, signal.SIGKILL)
                    daemon.wait()


@contextmanager
def running_slurm(folder: Path) -> Iterator[Slurm]:
    """A cluster in ``folder``, whose path must be short: it holds a socket."""
    slurm = Slurm(folder, _free_ports(len(NODES) + 1))
    for name in ("log", "run", "state", "bin", "gpu"):
        (folder / name).mkdir(parents=True)
    folder.chmod(0o755)
    _configure(slurm)
    try:
        _start_munge(slurm)
        slurm.launch("slurmctld", "slurmctld", "-D", "-c")
        for node in NODES:
            slurm.start_node(node)
        slurm.wait_for("the cluster", slurm.has_idle_nodes)
        yield slurm
    finally:
        slurm.stop()


def _free_ports(count: int) -> int:
    """The first of some ports in a row that nobody listens on."""
    for first in range(17000, 30000, 100):
        try:
            for port in range(first, first + count):
                with socket.socket() as trial:
                    trial.bind(("127.0.0.1", port))
        except OSError:
            continue
        return first
    raise OSError("no free ports")


def _start_munge(slurm: Slurm) -> None:
    key, run = slurm.folder / "munge.key", slurm.folder / "run"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o600)
    files = {"key-file": key, "socket": run / "munge.socket", "pid-file": run / "munged.pid"}
    files |= {"log-file": slurm.folder / "log/munged.log", "seed-file": run / "munged.seed"}
    slurm.launch("munged", "munged", "--foreground", "--force", *(f"--{name}={path}" for name, path in files.items()))
    slurm.wait_for("munge", (run / "munge.socket").exists)


def _configure(slurm: Slurm) -> None:
    folder, port = slurm.folder, slurm.port
    host, user = socket.gethostname().split(".")[0], getpass.getuser()
    gpu = _device(folder / "gpu/nvidia0")
    (folder / "gres.conf").write_text(f"NodeName=n2 Name=gpu File={gpu}\n")
    nodes = [
        f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port + 1 + number} CPUs=4 Boards=1"
        f" SocketsPerBoard=1 CoresPerSocket=4 ThreadsPerCore=1 RealMemory=8000 {'Gres=gpu:1' if node == 'n2' else ''}"
        for number, node in enumerate(NODES)
    ]
    settings = {
        "ClusterName": "tests",
        "SlurmctldHost": f"{host}(127.0.0.1)",
        "SlurmctldPort": port,
        "SlurmUser": user,
        "SlurmdUser": user,
        "AuthType": "auth/munge",
        "CredType": "cred/munge",
        "AuthInfo": f"socket={folder}/run/munge.socket,cred_expire=20",
        "StateSaveLocation": folder / "state",
        "SlurmdSpoolDir": f"{folder}/spool.%n",
        "SlurmctldPidFile": folder / "run/slurmctld.pid",
        "SlurmdPidFile": f"{folder}/run/slurmd.%n.pid",
        "SlurmctldLogFile": folder / "log/slurmctld.log",
        "SlurmdLogFile": f"{folder}/log/slurmd.%n.log",
        "ProctrackType": "proctrack/linuxproc",
        "TaskPlugin": "task/none",
        "JobAcctGatherType": "jobacct_gather/linux",  # jobs over their memory are killed, though there are no cgroups
        "JobAcctGatherFrequency": "task=1",
        "JobAcctGatherParams": "OverMemoryKill",
        "AccountingStorageType": "accounting_storage/none",
        "MpiDefault": "none",
        "SwitchType": "switch/none",
        "SlurmdParameters": "config_overrides",
        "ReturnToService": 2,
        "SchedulerType": "sched/backfill",
        "SchedulerParameters": "bf_interval=1,sched_interval=5,defer_batch=0,batch_sched_delay=0,sched_min_interval=0",
        "SelectType": "select/cons_tres",
        "SelectTypeParameters": "CR_Core_Memory",
        "PriorityType": "priority/basic",
        "GresTypes": "gpu",
        "MinJobAge": 300,
        "InactiveLimit": 0,
        "KillWait": 5,
        "Waittime": 0,
        "SlurmctldTimeout": 20,
        "SlurmdTimeout": 10,
        "BatchStartTimeout": 20,
        "MessageTimeout": 20,
        "UnkillableStepTimeout": 20,
    }
    lines = [f"{name}={value}" for name, value in settings.items()]
    partition = f"PartitionName=tests Nodes={','.join(NODES)} Default=YES MaxTime=INFINITE DefMemPerCPU=500 State=UP"
    (folder / "slurm.conf").write_text("\n".join([*lines, *nodes, partition]) + "\n")
    wrapper = folder / "bin/srun"
    wrapper.write_text(f'#!/bin/sh\nSLURM_CONF={folder}/slurm.conf exec {shutil.which("srun")} "$@"\n')
    wrapper.chmod(0o755)


def _device(path: Path) -> Path:
    """A device file that does nothing; only root may make one, others take the system's."""
    try:
        os.mknod(path, 0o020666, os.makedev(1, 3))
    except PermissionError:
        return Path("/dev/null")
    return path
