"""The demo data as the database's release has them: frames in five sets of folders, sheets of 39 columns, a table."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import openpyxl

from smad_features.release_layout import FOLDER, LABEL_COLUMNS, PATHS
from smad_features.schema import TOBII_PRO_LAB_39
from smad_features.synthetic_exports import heading_of
from smad_features.synthetic_plan import Clip
from smad_features.synthetic_recordings import Samples, digits_of
from smad_features.synthetic_takes import Take
from smad_features.synthetic_videos import FPS

SETS = 5
NOTICE = "Synthetic: made by smad-features demo-data; nobody was filmed"

FILES = f"""\
They lie as in the release of the database, for `smad-features index --layout smead-cross`. A second has {FPS} frames
(`video.frame_rate`) and 120 rows of a sheet (`eye.sheet_rate`).

{FOLDER}/face/set*/      a folder of frames (JPEG) a clip; a participant's clips stand in one set
{FOLDER}/eye/            a sheet a clip: 39 columns of numbers, a row a sample, 0 where nothing was measured
{FOLDER}/new_label.xlsx  what each clip shows: emotion, intensity 0..3, valence and arousal -1..1
"""

# As the release's own example has it, `3_film_happy Happy`: the film's class as an adjective, then the label's.
_WORDS = {"happiness": "happy", "sadness": "sad"}
_DATE = (1980, 1, 1, 0, 0, 0)  # the first that a zip archive can hold


def name_of(clip: Clip) -> str:
    """A clip's name in the release: `3_film1_happy Happy` for the first clip of participant 3."""
    word = _word(clip)
    return f"{clip.number + 1}_film{clip.order + 1}_{word} {word.capitalize()}"


def write_take(folder: Path, take: Take) -> None:
    """A clip's folder of frames, `1.jpg` and on, and its sheet; every other participant's header has units."""
    clip, root = take.clip, folder / FOLDER
    if take.frames is not None:
        place = root / PATHS["face"].format(fold=clip.number % SETS + 1, clip=name_of(clip))
        place.mkdir(parents=True, exist_ok=True)
        for number, picture in enumerate(take.frames, start=1):
            (place / f"{number}.jpg").write_bytes(_jpeg(picture))
    if take.samples is not None:
        rows = _sheet_rows(take.samples, units=clip.number % 2 == 1)
        _write_workbook(root / PATHS["eye"].format(clip=name_of(clip)), rows, title=name_of(clip))


def write_labels(folder: Path, plan: Sequence[Clip]) -> None:
    """The table of labels of all clips."""
    labels = []
    for clip in plan:
        felt = clip.felt
        emotion = _word(clip).capitalize()
        row = {"clip": name_of(clip), "emotion": emotion, "intensity": felt.intensity}
        row |= {"valence": felt.valence, "arousal": felt.arousal}
        labels.append([row[column] for column in LABEL_COLUMNS])
    path = folder / FOLDER / PATHS["labels"]
    _write_workbook(path, [list(LABEL_COLUMNS.values()), *labels], title="labels")


def _word(clip: Clip) -> str:
    return _WORDS.get(clip.felt.emotion, clip.felt.emotion)


def _jpeg(picture: np.ndarray) -> bytes:
    """The picture with a comment that it is synthetic, behind the header that must come first (JFIF 1.02)."""
    _, encoded = cv2.imencode(".jpg", picture[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, 92))
    data = encoded.tobytes()
    behind = 4 + int.from_bytes(data[4:6], "big")
    comment = NOTICE.encode("ascii")
    return data[:behind] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + data[behind:]


def _sheet_rows(samples: Samples, *, units: bool) -> Iterable[list[Any]]:
    """Header and rows of a sheet: no clock, no words, and 0 for what was not measured."""
    yield [heading_of(channel) if units else channel.name for channel in TOBII_PRO_LAB_39]
    columns = [np.nan_to_num(samples.channels[channel.name]).tolist() for channel in TOBII_PRO_LAB_39]
    digits = [digits_of(channel) for channel in TOBII_PRO_LAB_39]
    for row in zip(*columns, strict=True):
        yield [round(value, places) for value, places in zip(row, digits, strict=True)]


def _write_workbook(path: Path, rows: Iterable[list[Any]], *, title: str) -> None:
    """One sheet as XLSX, the same file for the same rows: openpyxl stamps the time of writing on it in two places."""
    book = openpyxl.Workbook(write_only=True)
    book.properties.creator, book.properties.title, book.properties.description = "smad-features", title, NOTICE
    sheet = book.create_sheet("Sheet1")
    for row in rows:
        sheet.append(row)
    written = io.BytesIO()
    book.save(written)
    date = datetime(*_DATE).isoformat().encode() + b"Z"
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(written) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            data = old.read(name)
            if name == "docProps/core.xml":
                data = re.sub(rb"(<dcterms:(?:created|modified)[^>]*>)[^<]*", rb"\g<1>" + date, data)
            new.writestr(zipfile.ZipInfo(name, _DATE), data, zipfile.ZIP_DEFLATED)
