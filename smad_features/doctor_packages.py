"""Whether Python, its packages and programs are those that the project asks for."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
import tomllib
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, distributions, requires
from pathlib import Path

from smad_features.findings import COMMAND, Finding

CHECKOUT = Path(__file__).resolve().parents[1]
HEADLESS = "opencv-contrib-python-headless"
PLUGIN = "snakemake-executor-plugin-slurm"
PIP = f"{shlex.quote(sys.executable)} -m pip"


def installed_packages(path: list[str] | None = None) -> dict[str, str]:
    """Version by canonical name of what is installed here, or in the folders of ``path``; the first found counts."""
    found: dict[str, str] = {}
    for one in distributions(path=sys.path if path is None else path):
        try:
            name = one.metadata["Name"]
        except FileNotFoundError:  # as the backport of importlib.metadata says it, where a library has brought that in
            continue
        if name:  # a folder that a broken removal left has none
            found.setdefault(re.sub(r"[-_.]+", "-", name).lower(), one.version)
    return found


def wanted_packages(checkout: Path = CHECKOUT) -> list[str]:
    """The requirements of both packages; of the checkout where there is one, as the installed record may be older."""
    if (checkout / "pyproject.toml").is_file():
        project = tomllib.loads((checkout / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        extras = project["optional-dependencies"]
        marked = [f'{line} ; extra == "{extra}"' for extra in ("features", "models") for line in extras[extra]]
        return [*project["dependencies"], *marked]
    try:
        return requires("smad") or []
    except PackageNotFoundError:
        return []


def locked_packages(checkout: Path = CHECKOUT) -> dict[str, str]:
    """Version by name of requirements.lock; empty where the package is not used from a checkout."""
    lock = checkout / "requirements.lock"
    lines = lock.read_text(encoding="utf-8").split() if lock.is_file() else []
    return dict(line.split("==") for line in lines)


def pip_install(*packages: str, locked: Mapping[str, str], options: str = "") -> str:
    """The command that installs packages at their locked versions, and nothing besides."""
    pins = " ".join(f"'{name}=={locked[name]}'" if name in locked else f"'{name}'" for name in packages)
    return f"{COMMAND}{PIP} install {'--no-deps ' if locked else ''}{options}{pins}"


def install_cuda(locked: Mapping[str, str], version: str) -> str:
    """How to get the torch that computes on NVIDIA's GPUs in the place of a CPU build."""
    public = locked.get("torch", version.partition("+")[0])
    return (
        f"Install the build for CUDA (some 3 GB):\n{COMMAND}{PIP} install --force-reinstall 'torch=={public}'\n"
        "If a CPU build comes again, pip is set to an index of CPU builds. This shows where; take it out there:\n"
        f"{COMMAND}{PIP} config list"
    )


def check_python(version: tuple[int, ...] = sys.version_info[:3], *, is_64: bool = sys.maxsize > 2**32) -> Finding:
    """Python's version, and that of its build."""
    spelt = ".".join(map(str, version))
    if version[:2] < (3, 11) or not is_64:
        mend = f"Make an environment with a 64-bit Python 3.11 to 3.13, in the project's folder:\n{COMMAND}make env"
        return Finding("python", "fault", f"Python {spelt}{'' if is_64 else ', 32-bit'}; want 3.11 or newer", mend)
    if version[:2] > (3, 13):
        return Finding(
            "python",
            "warning",
            f"Python {spelt}: newer than the project was tried with, 3.11 to 3.13",
            f"If a package is refused or fails below, make the environment with one of these:\n"
            f"{COMMAND}make env PYTHON=python3.13",
        )
    return Finding("python", "ok", f"Python {spelt}, {sys.executable}")


def check_path(*, pythonpath: str = "", user_site: Path | None = None, packages: Path | None = None) -> Finding:
    """Whether packages from elsewhere come before this environment's own.

    Parameters
    ----------
    pythonpath
        The environment's PYTHONPATH: modules of clusters set it.
    user_site
        Where `pip install --user` puts packages, if this Python looks there; a virtual environment's does not.
    packages
        Where this environment's own lie.
    """
    if pythonpath:
        said = f"PYTHONPATH puts the packages of {pythonpath} before this environment's own"
        mend = "Pip cannot mend what is wrong there. Leave them aside, in this shell and in batch jobs:"
        return Finding("python's path", "warning", said, f"{mend}\n{COMMAND}unset PYTHONPATH")
    if user_site is not None and user_site != packages and user_site.is_dir() and any(user_site.iterdir()):
        said = f"packages of `pip install --user` in {user_site} come before this environment's own"
        mend = f"Leave them aside, in this shell and in batch jobs:\n{COMMAND}export PYTHONNOUSERSITE=1"
        return Finding("python's path", "warning", said, mend)
    return Finding("python's path", "ok", "no packages from elsewhere")


def check_programs(*, scripts: Path = Path(sys.executable).parent) -> Finding:
    """Whether the shell finds this environment's programs: each job of the workflow calls them by name."""
    if (scripts / "activate").exists() and (scripts.parent / "pyvenv.cfg").exists():
        activate = f"{COMMAND}. {shlex.quote(str(scripts / 'activate'))}"
    else:
        activate = f'{COMMAND}export PATH={shlex.quote(str(scripts))}:"$PATH"'
    places = {name: shutil.which(name) for name in ("smad-features", "smad-models", "snakemake")}
    absent = [name for name, place in places.items() if place is None]
    wrong = [f"not found: {', '.join(absent)}"] if absent else []
    wrong += [f"{name} is {place}" for name, place in places.items()
              if place is not None and Path(place).parent.resolve() != scripts.resolve()]  # fmt: skip
    if wrong:
        found = f"jobs would not get the programs of {scripts}: {'; '.join(wrong)}"
        return Finding(
            "programs", "fault", found, f"Activate the environment in this shell, then try again:\n{activate}"
        )
    if shutil.which("flock") is None:
        return Finding(
            "programs",
            "warning",
            "`flock` is not found: a run does not notice jobs that a killed run left at work",
            f"Install it:\n{COMMAND}sudo apt-get install -y util-linux",
        )
    return Finding("programs", "ok", f"smad-features, smad-models and snakemake of {scripts}")


def check_packages(
    installed: Mapping[str, str], *, wanted: Sequence[str], locked: Mapping[str, str], numbers: frozenset[str]
) -> list[Finding]:
    """Installed versions against the project's requirements and its lock.

    ``numbers``: the libraries whose version changes what is computed. OpenCV, mediapipe and Snakemake's plugin have
    checks of their own.
    """
    from packaging.requirements import Requirement

    told_of: set[str] = set()
    absent: list[str] = []
    unused: list[str] = []
    refused: list[str] = []
    for line in wanted:
        one = Requirement(line)
        name = re.sub(r"[-_.]+", "-", one.name).lower()
        if name in ("mediapipe", "snakemake", PLUGIN):
            if name in installed and not one.specifier.contains(installed[name], prereleases=True):
                told_of.add(name)
            continue
        is_model = one.marker is not None and not any(
            one.marker.evaluate({"extra": extra}) for extra in ("", "features")
        )
        if name not in installed:
            (unused if is_model else absent).append(name)
        elif not one.specifier.contains(installed[name], prereleases=True):
            refused.append(f"{name} {installed[name]} (want {one.specifier})")
            told_of.add(name)
    found = []
    if absent or refused:
        told = [f"not installed: {', '.join(sorted(set(absent)))}"] if absent else []
        told += [f"of a version that does not work: {', '.join(refused)}"] if refused else []
        names = sorted({*absent, *(text.split(" ")[0] for text in refused)})
        mend = f"Install what the project was tested with:\n{pip_install(*names, locked=locked)}"
        found.append(Finding("packages", "fault", "; ".join(told), mend))
    else:
        found.append(Finding("packages", "ok", f"all of {len(set(wanted))} requirements are met"))
    if unused:
        names = sorted(set(unused))
        mend = f"Where this machine is to train or predict, install them:\n{pip_install(*names, locked=locked)}"
        said = f"not installed, and needed to train, predict or report: {', '.join(names)}"
        found.append(Finding("packages for models", "warning", said, mend))
    other = {
        name: installed[name]
        for name in sorted((numbers & installed.keys() & locked.keys()) - told_of)
        if installed[name].partition("+")[0] != locked[name]
    }
    if other:
        told = [f"{name} {version} (tested: {locked[name]})" for name, version in other.items()]
        found.append(
            Finding(
                "tested versions",
                "warning",
                f"other versions than the project was tested with, and they change numbers: {', '.join(told)}",
                "Everything that they made is made again whenever they change. To get the tested ones:\n"
                f"{pip_install(*other, locked=locked)}",
            )
        )
    return found


def check_snakemake(installed: Mapping[str, str], *, wanted: Sequence[str], locked: Mapping[str, str]) -> list[Finding]:
    """Snakemake in the range that the project asks for, and its SLURM plugin of the version that was tried."""
    from packaging.requirements import Requirement

    found = []
    asked = {one.name: one.specifier for line in wanted if (one := Requirement(line))}
    version = installed.get("snakemake")
    install = pip_install("snakemake", locked=locked)
    if version is None:
        found.append(Finding("snakemake", "fault", "Snakemake is not installed", f"Install it:\n{install}"))
    elif "snakemake" in asked and version not in asked["snakemake"]:
        said = f"Snakemake {version}: want {asked['snakemake']}"
        found.append(Finding("snakemake", "fault", said, f"Install one that was tried:\n{install}"))
    else:
        found.append(Finding("snakemake", "ok", f"Snakemake {version}"))
    plugin = installed.get(PLUGIN)
    install = pip_install(PLUGIN, f"{PLUGIN}-jobstep", locked=locked)
    if plugin is None:
        said = "Snakemake's SLURM plugin is not installed: runs on this machine work, on a cluster they do not"
        found.append(Finding("slurm plugin", "warning", said, f"For a cluster:\n{install}"))
    elif PLUGIN in asked and plugin not in asked[PLUGIN]:
        found.append(
            Finding(
                "slurm plugin",
                "warning",
                f"Snakemake's SLURM plugin {plugin}: the profile was tried with {asked[PLUGIN]} alone",
                "Versions differ in how they wait for jobs: 2.1.0 knows other options, and some hang after scancel or"
                f" when the controller restarts. For a cluster:\n{install}",
            )
        )
    else:
        found.append(Finding("slurm plugin", "ok", f"Snakemake's SLURM plugin {plugin}"))
    return found
