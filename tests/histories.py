"""A small tree of raw clips to be edited, and what its owner expects of the next run: told by contents alone.

Nothing here asks `freshness.py`: the tree remembers for each clip of each unit the content, span, settings, code and
libraries that it was last made from.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

Unit = tuple[str, str]  # stage, participant

SOURCES = {"faces": "video", "eyes": "eye"}
SECTIONS = {"faces": ("face", "video"), "eyes": ("eye",)}
DEFAULTS: dict[str, Any] = {
    "on_bad_clip": "quarantine",
    "video.frame_rate": 25,
    "face.align": "none",
    "face.frames": 2,
    "face.size": 16,
    "face.margin": 0.0,
    "face.model_file": None,
    "eye.steps": 4,
    "eye.max_gap": 0.075,
    "eye.method": "mean",
    "eye.blink_buffer": 0.05,
    "tasks": ["valence"],
    "train.epochs": 3,
    "run.max_failed": 1.0,
}
COLUMNS = {"time": "t", "Gaze point X": "x", "Gaze point Y": "y", "Pupil diameter left": "p"}

# Text at the end of a module that changes its numbers, so that an edit of code that is missed gives other arrays; and
# the stages that it belongs to.
EDITS = {
    "smad_features.faces": """
_before = extract_faces
def extract_faces(*args, **kwargs):
    arrays, quality = _before(*args, **kwargs)
    return arrays | {"face_transform": arrays["face_transform"] + VERSION}, quality
""",
    "smad_features.eyes": """
_before = resample
def resample(*args, **kwargs):
    resampled = _before(*args, **kwargs)
    return resampled | {"gaze_observed": resampled["gaze_observed"] + VERSION}
""",
    "smad_features.units": """
_before = _make_clip
def _make_clip(*args):
    arrays, state, quality = _before(*args)
    return arrays, state, quality | {"codec": "version VERSION", "eye_tracker": "version VERSION"}
""",
    "smad_features.cli": "\nNEWS = VERSION\n",
}
CODE_OF = {
    "smad_features.faces": {"faces"},
    "smad_features.eyes": {"eyes"},
    "smad_features.units": {"faces", "eyes"},
    "smad_features.cli": set(),
}
LIBRARIES = {"av": {"faces"}, "pandas": {"eyes"}, "numpy": {"faces", "eyes"}}


@dataclass(frozen=True)
class Row:
    """A row of clips.tsv; `video` and `eye` are names of files in the tree."""

    participant: str
    video: str | None
    eye: str | None
    start: float | None = None
    end: float | None = None


@dataclass(frozen=True)
class Made:
    """What a unit was made from."""

    stage: str
    participant: str
    common: str
    clips: dict[str, tuple[Any, ...]]


DAMAGED = Made("", "", "", {})


@dataclass
class Tree:
    """Raw files, table and configuration under `folder`, and the units that were made of them.

    ``contents``: the number of each file's content, None = it is not there, below 0 = rubbish.
    """

    folder: Path
    rows: dict[str, Row] = field(default_factory=dict)
    contents: dict[str, int | None] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=lambda: dict(DEFAULTS))
    code: dict[str, int] = field(default_factory=lambda: dict.fromkeys(EDITS, 0))
    libraries: dict[str, int] = field(default_factory=lambda: dict.fromkeys(LIBRARIES, 0))
    fold: str = ""  # everybody's
    remarks: int = 0
    spelling: int = 0
    made: dict[Unit, Made] = field(default_factory=dict)

    @property
    def live(self) -> Path:
        """The folder with a history."""
        return self.folder / "live"

    @property
    def clean(self) -> Path:
        """The folder for what is built from nothing."""
        return self.folder / "clean"

    def begin(self) -> None:
        """Three participants with two, one and two clips."""
        for n, (clip, participant) in enumerate([("c1", "P1"), ("c2", "P1"), ("c3", "P2"), ("c4", "P3"), ("c5", "P3")]):
            self.rows[clip] = Row(participant, f"v{n}", f"e{n}.tsv")
            self.write_file(f"v{n}", n)
            self.write_file(f"e{n}.tsv", n)
        self.write()

    # What is on disk.

    def write_file(self, name: str, content: int | None, *, how: str = "in place") -> None:
        """Give a file another content: in place, or anew beside and renamed; with the dates it had where told so."""
        path = self.folder / "data" / name
        dates = {file: file.stat() for file in (path, *path.glob("*")) if file.exists()}
        if content is None or not how.startswith("in place"):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        if content is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_recording(path, content) if name.endswith(".tsv") else write_pictures(path, content)
        if how.endswith("keeping dates"):
            for file, was in dates.items():
                if file.exists():
                    os.utime(file, ns=(was.st_atime_ns, was.st_mtime_ns))
        self.contents[name] = content

    def write(self) -> None:
        """Write table, labels and configuration, in one of several spellings that say the same."""
        other = self.spelling % 2 == 1
        lines = ["clip\tparticipant\tvideo\teye\tstart\tend\tfold" + ("\tremark" if other else "")]
        for clip, row in sorted(self.rows.items(), reverse=other):
            files = [f"./{name}" if other and name else name or "" for name in (row.video, row.eye)]
            times = ["" if t is None else f"{t:.3f}" if other else str(t) for t in (row.start, row.end)]
            lines.append("\t".join([clip, row.participant, *files, *times, self.fold] + (["as is"] if other else [])))
        data = self.folder / "data"
        data.mkdir(exist_ok=True)
        (data / "clips.tsv").write_text("\n".join(lines) + "\n")
        labels = [f"{clip}\t\t\t{(len(clip) + self.spelling) % 5 / 5}\t" for clip in self.rows]
        (data / "labels.tsv").write_text("\n".join(["clip\temotion\tintensity\tvalence\tarousal", *labels]) + "\n")
        config: dict[str, Any] = {"clips": "../data/clips.tsv", "labels": "../data/labels.tsv"}
        for key, value in self.settings.items():
            *section, name = key.split(".")
            part = config.setdefault(section[0], {}) if section else config
            part[name] = int(value) if other and isinstance(value, float) and value.is_integer() else value
        config["eye"]["columns"] = COLUMNS
        for folder in (self.live, self.clean):
            folder.mkdir(exist_ok=True)
            text = json.dumps(config) if other else yaml.safe_dump(config)  # JSON is YAML too
            (folder / "config.yaml").write_text(text)

    def edits(self) -> dict[str, str]:
        """What stands at the end of each module now; a remark changes nothing."""
        remark = f"\n# remark {self.remarks}\n" if self.remarks else ""
        return {m: remark + (EDITS[m].replace("VERSION", str(v)) if v else "") for m, v in self.code.items()}

    def unit(self, unit: Unit) -> Path:
        """The file of a unit."""
        return self.live / "results" / unit[0] / f"{unit[1]}.zarr.zip"

    # What its owner expects.

    def wanted(self) -> dict[Unit, Made]:
        """What every unit should be made from now."""
        units: dict[Unit, Made] = {}
        for stage, column in SOURCES.items():
            settings = {k: v for k, v in self.settings.items() if k.split(".")[0] in SECTIONS[stage]}
            settings.pop("face.model_file", None)  # where it lies is not what it is
            code = {module: v for module, v in self.code.items() if stage in CODE_OF[module]}
            libraries = {name: v for name, v in self.libraries.items() if stage in LIBRARIES[name]}
            common = json.dumps([stage, settings, code, libraries], sort_keys=True)
            for participant in {row.participant for row in self.rows.values()}:
                clips = {}
                for clip, row in self.rows.items():
                    if row.participant == participant:
                        name = getattr(row, column)
                        content = "none named" if name is None else self.contents.get(name, None)
                        clips[clip] = (content, row.start, row.end)
                units[stage, participant] = Made(stage, participant, common, clips)
        return units

    def unit_files(self) -> dict[Unit, Path]:
        """Where every unit lies, in a folder with results."""
        return {(stage, p): Path("results", stage, f"{p}.zarr.zip") for stage, p in self.wanted()}

    def facts(self) -> tuple[Any, ...]:
        """All that any product depends on."""
        return self.wanted(), dict(self.rows), self.fold, self.settings["on_bad_clip"]

    def stale(self) -> set[Unit]:
        """The units that the next run must make."""
        return {unit for unit, wanted in self.wanted().items() if self.made.get(unit) != wanted}

    def computed(self, unit: Unit) -> set[str]:
        """The clips of a stale unit that must be computed; the others are taken over from the one that is there."""
        old, new = self.made.get(unit, DAMAGED), self.wanted()[unit]
        same = old.clips if old.common == new.common else {}
        return {clip for clip, made in new.clips.items() if clip not in same or same[clip] != made}

    def change_row(self, clip: str, **cells: Any) -> None:
        """Edit a row of the table."""
        self.rows[clip] = replace(self.rows[clip], **cells)


def write_pictures(folder: Path, content: int) -> None:
    """Eight pictures of the same number of bytes whatever they show; below 0 they are none."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(content + 1000)
    for n in range(8):
        file = folder / f"{n}.bmp"
        if content < 0:
            file.write_bytes(b"no picture %d" % content)
        else:
            Image.fromarray(rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(file)


def write_recording(file: Path, content: int) -> None:
    """0.4 s at 100 Hz, of the same number of bytes whatever the person looked at; below 0 it is rubbish."""
    rng = np.random.default_rng(content + 1000)
    gaze, pupil = rng.uniform(100, 900, (40, 2)), rng.uniform(2, 4, 40)
    rows = [f"{n / 100:.3f}\t{x:.3f}\t{y:.3f}\t{p:.4f}" for n, (x, y), p in zip(range(40), gaze, pupil, strict=True)]
    text = "\n".join(["t\tx\ty\tp", *rows]) + "\n"
    file.write_text(f"rubbish {content}\n" if content < 0 else text)
