"""What `doctor` says of cores, memory, GPUs, disks, file systems, clocks and runs that are not as they should be."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from fake_machine import only_programs

from smad_features import doctor_disk, doctor_files, doctor_machine, doctor_runs
from smad_features.config import complete_config
from smad_features.doctor_files import Mount, TrialError
from smad_features.findings import COMMAND, Finding
from smad_features.turns import hold_lock

GB = 10**9
LOCKED = {"torch": "2.13.0"}
CPU = "__version__ = '2.13.0+cpu'\ncuda: Optional[str] = None\nhip: Optional[str] = None\n"
CUDA = "__version__ = '2.13.0+cu130'\ncuda: Optional[str] = '13.0'\nhip: Optional[str] = None\n"


def commands(finding: Finding) -> list[str]:
    return [line.removeprefix(COMMAND) for line in finding.mend.splitlines() if line.startswith(COMMAND)]


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return root


def test_cores_and_memory_are_at_most_those_that_the_system_and_psutil_tell() -> None:
    assert 1 <= doctor_machine.usable_cores() <= len(os.sched_getaffinity(0))
    assert 0 < doctor_machine.usable_memory() <= psutil.virtual_memory().total


@pytest.mark.parametrize(
    "files",
    [
        {  # version 2, the limit on a folder above
            "proc/self/cgroup": "0::/job/step",
            "sys/fs/cgroup/job/cpu.max": "200000 100000",
            "sys/fs/cgroup/job/memory.max": "4000000000",
            "sys/fs/cgroup/job/step/cpu.max": "max 100000",
            "sys/fs/cgroup/job/step/memory.max": "max",
        },
        {  # version 2 in a container: the path is the host's, the limit at the top
            "proc/self/cgroup": "0::/not/here",
            "sys/fs/cgroup/cpu.max": "200000 100000",
            "sys/fs/cgroup/memory.max": "4000000000",
        },
        {  # version 1
            "proc/self/cgroup": "4:memory:/job\n1:cpu,cpuacct:/job",
            "sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us": "200000",
            "sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us": "100000",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000",
            "sys/fs/cgroup/memory/job/memory.limit_in_bytes": "4000000000",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
        },
    ],
    ids=["version 2", "container", "version 1"],
)
def test_limits_of_control_groups_are_seen(tmp_path: Path, files: dict[str, str]) -> None:
    root = write(tmp_path, {"proc/meminfo": "MemTotal:       64000000 kB\n", **files})
    assert doctor_machine.usable_cores(root=root, allowed=16) == 2
    assert doctor_machine.usable_memory(root=root) == 4 * GB


def test_without_control_groups_the_machines_own_numbers_hold(tmp_path: Path) -> None:
    root = write(tmp_path, {"proc/meminfo": "MemTotal:       64000000 kB\n"})
    assert doctor_machine.usable_cores(root=root, allowed=16) == 16
    assert doctor_machine.usable_memory(root=root) == 64_000_000 * 1024


def test_cores_that_memory_does_not_serve_are_told_with_a_number_that_fits() -> None:
    cores, memory = doctor_machine.check_processor(cores=2, of=64, memory=64 * GB)
    assert cores.found == ("2 cores of 64; a batch system or container allows no more: `snakemake --cores 2`")
    assert memory.state == "ok"
    _, memory = doctor_machine.check_processor(cores=16, of=16, memory=8 * GB)
    assert memory.state == "warning"
    assert commands(memory) == ["snakemake --cores 8 all"]
    _, memory = doctor_machine.check_processor(cores=1, of=1, memory=GB)
    assert "may need 2.0 GB" in memory.found


def gpu(root: Path, build: str | None, **settings: str | None) -> Finding:
    return doctor_machine.check_gpu(build, locked=LOCKED, root=root, **settings)


@pytest.fixture
def two_gpus(tmp_path: Path) -> Path:
    return write(tmp_path / "root", {"dev/nvidia0": "", "dev/nvidia1": "", "dev/nvidiactl": ""})


def nvidia_smi(*, serves: str = "13.1", capability: str = "8.0", name: str = "NVIDIA A100, 81920 MiB, 590.1") -> str:
    return (
        f"case $1 in *compute_cap*) echo {capability}; echo {capability};; *name*) echo '{name}'; echo '{name}';;"
        f" *) echo 'Driver Version: 590.1    CUDA Version: {serves} |';; esac"
    )


def test_gpus_and_a_torch_that_cannot_use_them_are_told_with_what_can(
    two_gpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only_programs(tmp_path / "bin", monkeypatch, **{"nvidia-smi": nvidia_smi()})
    found = gpu(two_gpus, CPU)
    assert found.state == "warning"
    assert found.found.startswith("2 GPUs (NVIDIA A100, 81920 MiB, 590.1), but torch 2.13.0+cpu is a CPU build")
    assert commands(found)[0].endswith("install --force-reinstall 'torch==2.13.0'")
    assert gpu(two_gpus, CUDA).state == "ok"
    assert "torch 2.13.0+cu130 for CUDA 13.0" in gpu(two_gpus, CUDA).found


def test_a_driver_that_does_not_answer_is_told_in_its_own_words(
    two_gpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = "echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18"
    only_programs(tmp_path / "bin", monkeypatch, **{"nvidia-smi": failing})
    found = gpu(two_gpus, CUDA)
    assert found.state == "warning"
    assert "Driver/library version mismatch" in found.found
    assert "reboot" in found.mend
    only_programs(tmp_path / "none", monkeypatch)
    assert "nvidia-smi: cannot be started" in gpu(two_gpus, CUDA).found


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (nvidia_smi(serves="12.2"), "its driver serves CUDA up to 12.2, and torch 2.13.0+cu130 wants 13.0"),
        (nvidia_smi(capability="7.0"), "of compute capability 7.0, and CUDA 13.0"),
    ],
)
def test_a_driver_or_a_gpu_that_is_too_old_for_torch_is_told(
    two_gpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, said: str
) -> None:
    only_programs(tmp_path / "bin", monkeypatch, **{"nvidia-smi": script})
    found = gpu(two_gpus, CUDA)
    assert found.state == "warning"
    assert said in found.found


def test_a_gpu_that_is_hidden_is_told(two_gpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only_programs(tmp_path / "bin", monkeypatch, **{"nvidia-smi": nvidia_smi()})
    assert commands(gpu(two_gpus, CUDA, visible="")) == ["unset CUDA_VISIBLE_DEVICES"]
    assert gpu(two_gpus, CUDA, visible="0").state == "ok"


def test_without_a_gpu_or_without_torch_there_is_nothing_to_mend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only_programs(tmp_path / "bin", monkeypatch)
    assert gpu(tmp_path, CPU).found == "no NVIDIA GPU here: torch 2.13.0+cpu computes on the processor"
    assert gpu(tmp_path, None).state == "skipped"
    assert doctor_machine.cpu_build(CPU) == "2.13.0+cpu"
    assert doctor_machine.cpu_build(CUDA) is None
    assert doctor_machine.cpu_build(None) is None


def test_torchs_build_is_read_without_importing_it() -> None:
    code = (
        "import sys; from smad_features.doctor_machine import torch_build; torch_build(); print('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
    build = doctor_machine.torch_build()
    if build is None:
        pytest.skip("needs torch installed")
    assert f"__version__ = '{version('torch')}'" in build


def room(*, free: int, files: int = 10**6, of: int = 10**7) -> SimpleNamespace:
    return SimpleNamespace(f_frsize=4096, f_bavail=free // 4096, f_files=of, f_favail=files)


def test_free_room_is_what_the_standard_library_tells(tmp_path: Path) -> None:
    [disk, *_] = doctor_disk.check_room(tmp_path / "results", None)
    free = shutil.disk_usage(tmp_path).free
    said = float(disk.found.split(" ")[0])
    unit = {"MB": 10**6, "GB": 10**9, "TB": 10**12}[disk.found.split(" ")[1]]
    assert said * unit == pytest.approx(free, rel=0.1)


def test_a_study_needs_room_for_crops_in_units_and_caches() -> None:
    need = doctor_disk.estimate_need(complete_config({}), clips=1000, participants=100)
    crops = 1000 * 8 * 112 * 112 * 3
    assert crops <= need.once <= 1.05 * crops
    assert need.total == pytest.approx(2.5 * need.once)
    assert 100 * 10 <= need.files <= 100 * 50


def test_a_disk_that_is_too_small_for_the_study_is_a_fault_with_both_numbers(tmp_path: Path) -> None:
    need = doctor_disk.estimate_need(complete_config({}), clips=100_000, participants=10_000)
    disk, _ = doctor_disk.check_room(tmp_path / "results", need, look=lambda _: room(free=10 * GB))
    assert disk.state == "fault"
    assert disk.found.startswith("10.0 GB free")
    assert "100,000 clips may need 77." in disk.found
    assert commands(disk)[0] == f"du -xh --max-depth=1 {tmp_path} | sort -h"
    tight, _ = doctor_disk.check_room(tmp_path / "results", need, look=lambda _: room(free=100 * GB))
    assert tight.state == "warning"
    wide, _ = doctor_disk.check_room(tmp_path / "results", need, look=lambda _: room(free=200 * GB))
    assert wide.state == "ok"


def test_what_is_made_already_needs_no_more_room_but_for_one_new_cache(tmp_path: Path) -> None:
    need = doctor_disk.estimate_need(complete_config({}), clips=100_000, participants=10_000)
    disk, _ = doctor_disk.check_room(tmp_path, need, made=70 * GB, look=lambda _: room(free=80 * GB))
    assert disk.state == "ok"
    assert "may need 31." in disk.found
    write(tmp_path, {"results/faces/P1.zarr.zip": "12345", "results/clips.tsv": "123"})
    assert doctor_disk.bytes_made(tmp_path / "results") == 8


def test_a_disk_without_inodes_is_told_although_it_has_room(tmp_path: Path) -> None:
    disk, inodes = doctor_disk.check_room(tmp_path, None, look=lambda _: room(free=GB * 100, files=12))
    assert (disk.state, inodes.state) == ("ok", "fault")
    assert inodes.found.startswith("12 more files can be made there")
    assert "du -x --inodes" in commands(inodes)[0]
    found = doctor_disk.check_room(tmp_path, None, look=lambda _: room(free=GB * 100, files=0, of=0))
    assert [one.name for one in found] == ["disk"]  # btrfs and others count none


def test_a_small_folder_for_temporary_files_is_told(tmp_path: Path) -> None:
    found = doctor_disk.check_temporary(tmp_path, look=lambda _: room(free=10**8))
    assert found.state == "warning"
    assert commands(found) == ["export TMPDIR=/a/larger/disk/tmp"]


def test_a_disk_of_this_machine_does_all_that_is_tried_and_nothing_stays_behind(tmp_path: Path) -> None:
    [found, *_] = doctor_files.check_files(tmp_path)
    assert found.state == "ok"
    assert "locks, renames, symbolic links, hard links, file modes work" in found.found
    assert doctor_files.check_clock(tmp_path).state == "ok"
    assert list(tmp_path.iterdir()) == []


def failing(error: Exception) -> dict[str, object]:
    def trial(_: Path) -> None:
        raise error

    return dict.fromkeys(doctor_files.TRIALS, trial)


@pytest.mark.parametrize(("name", "state"), [("locks", "fault"), ("renames", "fault"), ("symbolic links", "fault"),
                                             ("hard links", "warning"), ("file modes", "warning")])  # fmt: skip
def test_what_a_file_system_cannot_do_is_told_by_name_with_what_it_means(tmp_path: Path, name: str, state: str) -> None:
    trials = dict(doctor_files.TRIALS) | {name: failing(OSError(errno.EOPNOTSUPP, "Operation not supported"))[name]}
    [found] = doctor_files.check_files(tmp_path, trials=trials)
    assert found.state == state
    assert f"these fail: {name}: Operation not supported" in found.found
    assert found.mend


def test_locks_that_two_processes_get_are_told_with_the_mount_option_that_mends_it(tmp_path: Path) -> None:
    trials = {"locks": failing(TrialError("two processes got the same lock"))["locks"]}
    [found] = doctor_files.check_files(tmp_path, trials=trials, mount=Mount("lustre", "/scratch", ("rw", "noflock")))
    assert found.state == "fault"
    assert (
        f"{tmp_path} (lustre, mounted at /scratch): these fail: locks: two processes got the same lock" in found.found
    )
    assert "Two runs could work in this folder" in found.mend
    assert "mount it with `flock`" in found.mend


def test_the_trials_see_what_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each trial against a system that does the wrong thing."""
    with monkeypatch.context() as patch:
        patch.setattr(doctor_files, "_TRY_LOCK", "")  # the other process is never refused
        with pytest.raises(TrialError, match="two processes got the same lock"):
            doctor_files.try_lock(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(doctor_files, "_TRY_LOCK", "import sys; sys.exit(3)")  # always refused
        with pytest.raises(TrialError, match="not given although nobody holds it"):
            doctor_files.try_lock(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "chmod", lambda path, _: os.chmod(path, 0o777))  # noqa: PTH101 - as on a FAT stick
        with pytest.raises(TrialError, match="made 0600 is 0777"):
            doctor_files.try_mode(tmp_path)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_or_quota_is_no_fault_of_renames(tmp_path: Path, number: int) -> None:
    [found] = doctor_files.check_files(tmp_path, trials=failing(OSError(number, os.strerror(number))))
    assert found.state == "fault"
    assert f"nothing more can be written: {os.strerror(number)}" in found.found
    assert "quota -s" in commands(found)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_to_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "file" / "study"
    folder.parent.touch()
    [found] = doctor_files.check_files(folder)
    assert found.state == "fault"
    assert "cannot be written: a folder of its path is a file" in found.found
    assert commands(found)[0] == f"ls -ld {folder}"
    assert doctor_files.check_clock(folder).state == "skipped"


MOUNTS = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
40 22 0:35 / /home rw,nosuid shared:2 - nfs4 server:/home rw,vers=4.2
41 22 0:36 / /scratch rw shared:3 - lustre mds@tcp:/scratch rw,localflock
42 40 0:37 / /home/anna/my\\040data rw - fuse.sshfs host: rw
43 22 0:38 / /old rw - nfs server:/old rw,vers=3,local_lock=all
44 22 0:39 / /dev/shm rw - tmpfs tmpfs rw
"""


@pytest.mark.parametrize(
    ("folder", "kind", "said"),
    [
        ("/srv/x", "ext4", ""),
        ("/home/anna/study", "nfs4", ""),
        ("/homes", "ext4", ""),
        ("/scratch/x", "lustre", "mounted with `localflock`: other machines do not see the locks"),
        ("/old/x", "nfs", "mounted with `local_lock=all`"),
        ("/home/anna/my data/x", "fuse.sshfs", "few keep locks and renames between machines"),
        ("/dev/shm/x", "tmpfs", "results would lie in memory"),
    ],
)
def test_the_mount_of_a_folder_tells_what_no_trial_on_one_machine_can(
    folder: str, kind: str, said: str, tmp_path: Path
) -> None:
    mount = doctor_files.find_mount(Path(folder), text=MOUNTS)
    assert mount.kind == kind
    found = doctor_files.check_files(tmp_path, mount=mount)
    assert [one.state for one in found] == (["ok", "warning"] if said else ["ok"])
    assert said in found[-1].found
    assert said == "" or found[-1].mend


def test_the_kind_of_a_file_system_is_that_which_df_tells(tmp_path: Path) -> None:
    done = subprocess.run(["df", "--output=fstype", str(tmp_path)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("needs GNU df")
    assert doctor_files.find_mount(tmp_path).kind == done.stdout.split()[-1]


@pytest.mark.parametrize(
    ("off", "state"), [(1.0, "ok"), (-5.0, "warning"), (5.0, "warning"), (-60.0, "fault"), (60.0, "fault")]
)
def test_a_file_servers_clock_that_is_off_is_told(tmp_path: Path, off: float, state: str) -> None:
    def write_late(path: Path) -> None:
        path.touch()
        now = path.stat().st_mtime
        os.utime(path, (now + off, now + off))

    found = doctor_files.check_clock(tmp_path, write=write_late)
    assert found.state == state
    if state != "ok":
        assert f"{abs(off):.0f} s {'ahead of' if off > 0 else 'behind'} this machine's" in found.found
        assert commands(found) == ["timedatectl"]


def test_a_run_that_is_at_work_is_named_with_its_host_and_process(tmp_path: Path) -> None:
    [quiet] = doctor_runs.check_runs(tmp_path)
    assert quiet.state == "ok"
    assert list(tmp_path.iterdir()) == []  # nothing is made by looking
    with hold_lock(tmp_path / ".smad" / "lock"):
        [found] = doctor_runs.check_runs(tmp_path)
        assert found.state == "warning"
        assert f"process {os.getpid()}" in found.found
        assert commands(found) == [f"ps -fp {os.getpid()}", f"kill -INT {os.getpid()}"]
    assert doctor_runs.check_runs(tmp_path)[0].state == "ok"  # an old name in a lock that nobody holds says nothing


def test_a_run_on_another_machine_is_looked_at_there(tmp_path: Path) -> None:
    path = tmp_path / ".smad" / "lock"
    path.parent.mkdir()
    path.write_text("host login2, process 77\n", encoding="utf-8")
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        [found] = doctor_runs.check_runs(tmp_path)
    assert commands(found) == ["ssh login2 ps -fp 77", "ssh login2 kill -INT 77"]


def test_jobs_that_a_killed_run_left_at_work_are_told(tmp_path: Path) -> None:
    path = tmp_path / ".smad" / "jobs.lock"
    path.parent.mkdir()
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        [found] = doctor_runs.check_runs(tmp_path)
    assert found.state == "warning"
    assert "jobs of an earlier one are" in found.found
    assert commands(found)[0] == "pgrep -af 'smad-(features|models)'"


def test_a_lock_of_snakemake_and_drafts_of_a_killed_run_are_told(tmp_path: Path) -> None:
    write(tmp_path, {"results/faces/.P1.zarr.zip.123.tmp": "", "results/cache.zarr/.x.1.tmp": ""})
    [found] = doctor_runs.check_runs(tmp_path)
    assert found.state == "ok"
    assert "; 1 draft of a killed one, which the next run removes" in found.found
    write(tmp_path, {".snakemake/locks/0.input.lock": ""})
    [found] = doctor_runs.check_runs(tmp_path)
    assert found.state == "warning"
    assert commands(found) == ["snakemake --unlock"]
