"""The house's own rules: format, lint, types, layers, sizes, and that no data lies in git."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, environment

LINES = 400  # a file, at most: readable in one sitting
BYTES = 1_000_000
DATA_ENDINGS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".zarr", ".zip", ".parquet", ".safetensors", ".pth", ".pt",
                ".npz", ".npy", ".task", ".tflite", ".jpg", ".jpeg", ".tsv")  # fmt: skip
TABLES_MAY_LIE_IN = ("config", "checkpoints")

CODE = sorted(path for folder in ("smad_features", "smad_models", "workflow") for path in (ROOT / folder).rglob("*"))
CODE = [path for path in CODE if path.suffix in (".py", ".smk") or path.name == "Snakefile"]
MODULES = sorted(
    path for folder in ("smad_features", "smad_models", "tests", "benchmarks") for path in (ROOT / folder).rglob("*.py")
)


def run(*command: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, check=False)


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize(
    "command",
    [
        ("ruff", "format", "--check", "."),
        ("ruff", "check", "."),
        ("mypy",),
        ("snakefmt", "--check", "workflow"),
    ],
    ids=" ".join,
)
def test_a_tool_has_nothing_to_say(command: tuple[str, ...]) -> None:
    done = run(sys.executable, "-m", *command)
    assert done.returncode == 0, done.stdout + done.stderr


def test_imports_keep_to_the_layers() -> None:
    done = run(str(Path(sys.executable).parent / "lint-imports"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_snakemake_finds_nothing_in_the_rules_but_that_their_environment_is_one_for_all(tmp_path: Path) -> None:
    (tmp_path / "clips.tsv").write_text("clip\tparticipant\na\tp\n", encoding="utf-8")
    labels = "clip\temotion\tintensity\tvalence\tarousal\na\tneutral\t\t\t\n"
    (tmp_path / "labels.tsv").write_text(labels, encoding="utf-8")
    (tmp_path / "config.yaml").write_text("{clips: clips.tsv, labels: labels.tsv}", encoding="utf-8")
    where = ["--directory", str(tmp_path), "--configfile", str(tmp_path / "config.yaml")]
    snakefile = str(ROOT / "workflow" / "Snakefile")
    done = run(sys.executable, "-m", "snakemake", "--lint", "--snakefile", snakefile, *where, folder=tmp_path)
    said = done.stdout + done.stderr
    rules = {
        rule
        for path in (ROOT / "workflow" / "rules").glob("*.smk")
        for rule in re.findall(r"^ *rule (\w+):", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    }
    assert set(re.findall(r"^Lints for rule (\w+) ", said, flags=re.MULTILINE)) == rules, said
    lints = set(re.findall(r"^    \* (.+?):?$", said, flags=re.MULTILINE))
    assert lints == {"Specify a conda environment or container for each rule."}, said  # it is environment.yml
    assert not (tmp_path / ".smad").exists()  # a question writes nothing


@pytest.mark.parametrize("path", CODE, ids=name)
def test_a_file_is_read_in_one_sitting(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LINES


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_a_module_says_in_its_first_line_what_it_is_for(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert docstring
    assert docstring.splitlines()[0].endswith((".", ":"))


def test_every_public_function_and_class_has_a_docstring() -> None:
    bare = [
        f"{name(path)}: {node.name}"
        for path in MODULES
        if path.parts[len(ROOT.parts)].startswith("smad_")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        if not node.name.startswith("_") and not ast.get_docstring(node)
    ]
    assert not bare


def test_no_module_is_a_drawer_for_everything() -> None:
    drawers = {"utils", "util", "helpers", "helper", "misc", "common"}
    assert not [name(path) for path in MODULES if path.stem in drawers]


def tracked() -> list[Path]:
    # In a container the checkout often belongs to another user, whom git would not trust.
    done = run("git", "-c", "safe.directory=*", "ls-files", "-z")
    if done.returncode:
        pytest.skip(f"needs a git checkout: {done.stderr.strip()}")
    files = [ROOT / line for line in done.stdout.split("\0") if line]
    assert files
    return [path for path in files if path.is_file()]


def test_no_data_and_nothing_large_lies_in_git() -> None:
    for path in tracked():
        assert path.stat().st_size <= BYTES, f"{name(path)}: {path.stat().st_size} bytes"
        folder = path.relative_to(ROOT).parts[0]
        is_table = path.suffix == ".tsv" and folder in TABLES_MAY_LIE_IN
        assert is_table or not path.name.lower().endswith(DATA_ENDINGS), name(path)
        assert not any(part.endswith(".zarr") for part in path.parts), name(path)
