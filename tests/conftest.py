"""What all tests share: where the outside reference material lies, and how to run the programs."""

import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of golden numbers, real media and model files: beside the checkout, or where SMAD_SHARED says."""
    folder = Path(os.environ.get("SMAD_SHARED") or ROOT.parent / "shared")
    if not folder.is_dir():
        pytest.skip(f"needs the reference material (golden numbers, media, models): {folder} is not there")
    return folder


@dataclass(frozen=True)
class Run:
    """What a run of the workflow said and did."""

    returncode: int
    output: str

    @property
    def jobs(self) -> Counter[str]:
        """How often each rule ran, or would run under -n; targets aside."""
        rules = re.findall(r"^(?:local)?rule (\w+):", self.output, flags=re.MULTILINE)
        return Counter(rule for rule in rules if rule not in ("all", "features"))


def workflow_command(directory: Path, target: str, *arguments: str, cores: int = 2) -> list[str]:
    """The command that runs the workflow on ``directory``."""
    command = [sys.executable, "-m", "snakemake", "--cores", str(cores), target, "--snakefile"]
    command += [str(ROOT / "workflow/Snakefile"), "--directory", str(directory), *arguments]
    return [*command, "--configfile", str(directory / "config.yaml")]


def run_workflow(directory: Path, target: str, *arguments: str, cores: int = 2) -> Run:
    """Run the workflow on ``directory``, whose configuration is its config.yaml, as a user would."""
    command = workflow_command(directory, target, *arguments, cores=cores)
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, cwd=directory, check=False)
    return Run(done.returncode, done.stdout + done.stderr)


def run_features(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run smad-features in ``directory``."""
    command = [sys.executable, "-m", "smad_features.cli", *arguments]
    return subprocess.run(command, env=environment(), capture_output=True, text=True, cwd=directory, check=False)


def environment() -> dict[str, str]:
    """The programs of this very environment first, and no second level of threads."""
    programs = str(Path(sys.executable).parent)
    return os.environ | {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
