"""Whether Python's packages are those that the project asks for, and whether they load."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
import tomllib
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, distributions, requires
from pathlib import Path

from smad_features.findings import COMMAND, Finding, ask

CHECKOUT = Path(__file__).resolve().parents[1]
HEADLESS = "opencv-contrib-python-headless"
PLUGIN = "snakemake-executor-plugin-slurm"
PIP = f"{shlex.quote(sys.executable)} -m pip"
_LOADS_WITHIN = 120  # seconds: the first import over a slow network file system

# What videos of laboratories are made of; each by one of these decoders of FFmpeg.
CODECS = {
    "H.264": ("h264",),
    "H.265": ("hevc",),
    "MPEG-4 part 2 (DivX, Xvid)": ("mpeg4",),
    "VP8": ("vp8",),
    "VP9": ("vp9",),
    "AV1": ("libdav1d", "libaom-av1", "av1"),
    "Motion JPEG": ("mjpeg",),
    "Windows Media 9": ("wmv3",),
    "VC-1": ("vc1",),
    "ProRes": ("prores",),
    "uncompressed": ("rawvideo",),
}
_LIST_DECODERS = """
import sys, av
def has(name):
    try:
        return not av.codec.Codec(name, "r").is_encoder
    except ValueError:
        return False
print(av.__version__, *(name for name in sys.argv[1:] if has(name)))
"""


def installed_packages(path: list[str] | None = None) -> dict[str, str]:
    """Version by canonical name of what is installed here, or in the folders of ``path``; the first found counts."""
    found: dict[str, str] = {}
    for one in distributions(path=sys.path if path is None else path):
        # A folder that a broken removal left has no name.
        if name := one.metadata["Name"]:
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


def check_programs(*, scripts: Path = Path(sys.executable).parent) -> Finding:
    """Whether the shell finds this environment's programs: each job of the workflow calls them by name."""
    if (scripts / "activate").exists() and (scripts.parent / "pyvenv.cfg").exists():
        activate = f"{COMMAND}. {shlex.quote(str(scripts / 'activate'))}"
    else:
        activate = f'{COMMAND}export PATH={shlex.quote(str(scripts))}:"$PATH"'
    wrong = []
    for name in ("smad-features", "smad-models", "snakemake"):
        found = shutil.which(name)
        if found is None:
            wrong.append(f"`{name}` is not found")
        elif Path(found).parent.resolve() != scripts.resolve():
            wrong.append(f"`{name}` is {found}")
    if wrong:
        found = f"jobs would not get the programs of {scripts}: {', '.join(wrong)}"
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

    absent: list[str] = []
    unused: list[str] = []
    refused: list[str] = []
    for line in wanted:
        one = Requirement(line)
        name = re.sub(r"[-_.]+", "-", one.name).lower()
        if name in ("mediapipe", "snakemake", PLUGIN):
            continue
        is_model = one.marker is not None and not any(
            one.marker.evaluate({"extra": extra}) for extra in ("", "features")
        )
        if name not in installed:
            (unused if is_model else absent).append(name)
        elif not one.specifier.contains(installed[name], prereleases=True):
            refused.append(f"{name} {installed[name]} (want {one.specifier})")
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
        for name in sorted(numbers & installed.keys() & locked.keys())
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


def check_opencv(installed: Mapping[str, str], *, locked: Mapping[str, str], python: str = sys.executable) -> Finding:
    """Exactly one OpenCV, and it loads."""
    wheels = sorted(name for name in installed if re.fullmatch(r"opencv(-contrib)?-python(-headless)?", name))
    install = pip_install(HEADLESS, locked=locked, options="--force-reinstall ")
    if len(wheels) != 1:
        # They all bring the same folder `cv2`: what loads is a mixture, and taking one away takes files of the other.
        several = f"{len(wheels)} packages bring OpenCV, and overwrite each other: {', '.join(wheels)}"
        remove = f"{COMMAND}{PIP} uninstall -y {' '.join(wheels)}\n" if wheels else ""
        told = "Remove them all, then install the one:\n" if wheels else "Install it:\n"
        return Finding("opencv", "fault", several if wheels else "OpenCV is not installed", f"{told}{remove}{install}")
    answer = ask([python, "-P", "-c", "import cv2; print(cv2.__version__)"], seconds=_LOADS_WITHIN)
    name = f"{wheels[0]} {installed[wheels[0]]}"
    if answer.status == 0:
        return Finding("opencv", "ok", f"{name}, loads")
    if missing := re.search(r"lib(GL|gthread|glib|SM|Xext|Xrender|X11)[\w.-]*\.so[\w.]*", answer.error):
        return Finding(
            "opencv",
            "fault",
            f"{name} does not load: it needs {missing[0]}, a library for machines with a screen",
            "Take the OpenCV that needs no screen, it is the same otherwise:\n"
            f"{COMMAND}{PIP} uninstall -y {wheels[0]}\n{install}\n"
            f"or install what this one needs:\n{COMMAND}sudo apt-get install -y libgl1 libglib2.0-0",
        )
    return Finding("opencv", "fault", f"{name} does not load: {answer.last}", f"Install it anew:\n{install}")


def check_mediapipe(
    installed: Mapping[str, str], *, locked: Mapping[str, str], python: str = sys.executable
) -> Finding:
    """Mediapipe's generation, and whether it loads with the system libraries that it links to."""
    version = installed.get("mediapipe")
    install = f"Install it:\n{pip_install('mediapipe', locked=locked)}"
    if version is None:
        return Finding("mediapipe", "fault", "mediapipe is not installed: no face can be found", install)
    if int(version.partition(".")[0]) < 1:
        found = f"mediapipe {version} is of the old generation (`mediapipe.solutions`): want 1.2 or newer, below 2"
        return Finding("mediapipe", "fault", found, install)
    # Bindings load their libraries late: only this import comes to them.
    answer = ask([python, "-P", "-c", "from mediapipe.tasks.python import vision"], seconds=_LOADS_WITHIN)
    probe = "import ctypes, sys; ctypes.CDLL(sys.argv[1])"
    libraries = {"libEGL.so.1": "libegl1", "libGLESv2.so.2": "libgles2"}
    missing = [
        name for name in libraries if name in answer.error or ask([python, "-c", probe, name]).status not in (0, None)
    ]
    if missing:
        return Finding(
            "mediapipe",
            "fault",
            f"mediapipe {version} needs {' and '.join(missing)} of the system, which cannot be loaded",
            "Install them (they need no screen and no GPU):\n"
            f"{COMMAND}sudo apt-get install -y --no-install-recommends {' '.join(libraries[n] for n in missing)}\n"
            "or, without administrator's rights, with conda:\n"
            f"{COMMAND}conda install -c conda-forge libegl libgles",
        )
    if answer.status != 0:
        return Finding("mediapipe", "fault", f"mediapipe {version} does not load: {answer.last}", install)
    return Finding("mediapipe", "ok", f"mediapipe {version}, loads, with libEGL and libGLESv2")


def check_codecs(
    *, locked: Mapping[str, str], python: str = sys.executable, codecs: Mapping[str, tuple[str, ...]] = CODECS
) -> Finding:
    """The decoders of the FFmpeg in PyAV."""
    names = [name for decoders in codecs.values() for name in decoders]
    answer = ask([python, "-P", "-c", _LIST_DECODERS, *names], seconds=_LOADS_WITHIN)
    install = pip_install("av", locked=locked, options="--force-reinstall --only-binary=av ")
    if answer.status != 0:
        mend = f"Without it no video can be read. Install it anew:\n{install}"
        return Finding("video codecs", "fault", f"PyAV does not load: {answer.last}", mend)
    version, *there = answer.output.split()
    absent = [kind for kind, decoders in codecs.items() if not set(decoders) & set(there)]
    if absent:
        return Finding(
            "video codecs",
            "fault" if "H.264" in absent else "warning",
            f"the FFmpeg of PyAV {version} cannot decode {', '.join(absent)}",
            f"Clips of such videos would be quarantined. The wheel of PyAV decodes them all, a build of your own or"
            f" conda's may not:\n{install}",
        )
    return Finding("video codecs", "ok", f"PyAV {version} decodes {', '.join(codecs)}")


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
