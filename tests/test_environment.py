"""One environment under two names: requirements.lock and environment.yml, and what is installed here."""

import re
import tomllib
from collections.abc import Iterable
from importlib.metadata import distribution, distributions, requires, version

import pytest
import yaml
from conftest import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
LOCK_LINES = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
LOCK = dict(line.split("==") for line in LOCK_LINES)

# The one documented difference: conda brings the libraries that the OpenCV with a screen links to.
HEADLESS, SCREEN = "opencv-contrib-python-headless", "opencv-contrib-python"
LOCKED_FOR = {"python_version": "3.11", "python_full_version": "3.11.0"}  # as `make lock` says
# What only some machines' torch asks for comes with torch itself: see the Makefile.
OF_TORCH = re.compile(r"nvidia-.*|cuda-.*|triton.*")


def asked_for() -> list[tuple[str, Requirement]]:
    """Each requirement of pyproject.toml, and who asks for it."""
    extras = PROJECT["optional-dependencies"]
    askers = {"dependencies": PROJECT["dependencies"], **extras}
    return [(asker, Requirement(line)) for asker, lines in askers.items() for line in lines]


def pip_section() -> list[str]:
    return next(entry["pip"] for entry in ENVIRONMENT["dependencies"] if isinstance(entry, dict))


def conda_section() -> dict[str, str]:
    words = [entry.split(" ", 1) for entry in ENVIRONMENT["dependencies"] if isinstance(entry, str)]
    return {word[0]: word[1] if len(word) > 1 else "" for word in words}


def opencv(names: Iterable[str]) -> list[str]:
    return [name for name in names if canonicalize_name(name).startswith("opencv")]


def test_every_line_of_the_lock_is_a_canonical_name_and_one_version_and_no_place() -> None:
    for line in LOCK_LINES:
        assert re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", line), line
        name, pinned = line.split("==")
        assert name == canonicalize_name(name)
        assert str(Version(pinned)) == pinned
    assert len(LOCK) == len(LOCK_LINES)


def test_conda_users_get_the_same_set_but_for_one_build_of_opencv() -> None:
    *pins, last = pip_section()
    assert last == "--editable ."
    conda = dict(pin.split("==") for pin in pins)
    assert len(conda) == len(pins)
    assert {HEADLESS if name == SCREEN else name: pinned for name, pinned in conda.items()} == LOCK
    assert opencv(conda) == [SCREEN]


def test_conda_users_get_a_python_that_the_project_allows_and_the_libraries_that_wheels_link_to() -> None:
    conda = conda_section()
    assert Requirement(f"python{conda['python'].strip()}").specifier.contains("3.11")
    assert conda["python"].startswith(PROJECT["requires-python"])
    assert {"pip", "make", "libegl", "libgles", "libgl", "glib"} <= set(conda)
    assert ENVIRONMENT["channels"] == ["conda-forge", "nodefaults"]


@pytest.mark.parametrize(("asker", "wanted"), asked_for(), ids=str)
def test_what_the_project_asks_for_is_pinned_to_a_version_that_it_takes(asker: str, wanted: Requirement) -> None:
    name = canonicalize_name(wanted.name)
    assert name in LOCK, f"{wanted} of {asker}"
    assert wanted.specifier.contains(LOCK[name]), f"{wanted} of {asker}: {LOCK[name]}"


def test_the_lists_of_what_the_project_asks_for_are_sorted() -> None:
    for lines in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()):
        assert lines == sorted(lines, key=str.lower)


def test_torch_is_pinned_where_the_set_up_names_it_too() -> None:
    assert LOCK["torch"] == "2.13.0"
    assert "--constraint requirements.lock torch==2.13.0\n" in (ROOT / "Makefile").read_text(encoding="utf-8")


def test_there_is_one_opencv_in_the_lock_and_one_installed() -> None:
    assert opencv(LOCK) == [HEADLESS]
    installed = opencv(found.name for found in distributions())
    assert installed in ([HEADLESS], [SCREEN])
    assert version(installed[0]) == LOCK[HEADLESS]


@pytest.mark.parametrize("name", [name for name in LOCK if name != HEADLESS])
def test_what_is_installed_is_what_the_lock_says(name: str) -> None:
    # A build for another accelerator says so behind a plus: 2.13.0+cpu.
    assert Version(distribution(name).version).public == LOCK[name]


def test_nothing_that_the_locked_packages_need_is_left_out() -> None:
    waiting = [wanted for _, wanted in asked_for()]
    seen: set[tuple[str, str]] = set()
    while waiting:
        asker = waiting.pop()
        for extra in ("", *asker.extras):
            if (canonicalize_name(asker.name), extra) in seen:
                continue
            seen.add((canonicalize_name(asker.name), extra))
            for line in requires(asker.name) or []:
                wanted = Requirement(line)
                name = canonicalize_name(wanted.name)
                pythons = ({"extra": extra}, {"extra": extra, **LOCKED_FOR})  # this one, and the lock's own
                if wanted.marker and not any(wanted.marker.evaluate(python) for python in pythons):
                    continue
                if name == SCREEN or (asker.name == "torch" and OF_TORCH.fullmatch(name)):
                    continue
                assert name in LOCK, f"{asker.name} needs {wanted}"
                assert wanted.specifier.contains(LOCK[name], prereleases=True), f"{asker.name} needs {wanted}"
                waiting.append(wanted)
    unused = set(LOCK) - {name for name, _ in seen}
    assert unused <= {HEADLESS, "setuptools"}  # setuptools builds the project itself
