"""SMI BeGaze exports: raw data (`L POR X [px]`, rows SMP and MSG) and metrics (`Point of Regard Left X [px]`)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from smad_features import schema
from smad_features.recordings.cells import Columns, read_columns
from smad_features.recordings.document import Document
from smad_features.recordings.gaze import add_mean_gaze
from smad_features.recordings.movements import event_index
from smad_features.recordings.recording import Event, Recording, RecordingError, on_clock, seconds_a_tick
from smad_features.recordings.sentinels import clean
from smad_features.recordings.sheets import SheetTable
from smad_features.recordings.tables import Table, TextTable

KIND = "SMI BeGaze"
LOOKED_FOR = "an SMI BeGaze export (columns such as 'L POR X [px]' or 'Point of Regard Left X [px]')"

# Where the header stands, below `##` lines and, in some exports, a table of recordings.
_TOP = 200_000  # characters
_WORDS = ("POR", "Point of Regard", "Diameter")  # one of these is in it
_CLOCKS = ("Time", "RecordingTime [ms]")
_EYES = {"left": ("L", "Left"), "right": ("R", "Right"), "": ("B", "Binocular")}
_CHANNELS = {
    heading: f"Gaze point {eye} {axis}".replace("  ", " ")
    for eye, (letter, word) in _EYES.items()
    for axis in "XY"
    for heading in (f"{letter} POR {axis} [px]", f"Point of Regard {word} {axis} [px]")
} | {
    heading: f"Pupil diameter {eye}"
    for eye, (letter, word) in _EYES.items()
    if eye
    for heading in (f"{letter} Pupil Diameter [mm]", f"{letter} Mapped Diameter [mm]", f"Pupil Diameter {word} [mm]")
}
_EXTRA = {
    heading: f"Pupil width {eye} (camera px)"
    for eye, (letter, word) in _EYES.items()
    if eye
    for heading in (f"{letter} Dia X [px]", f"Pupil Size {word} X [px]")
}
# What both eyes did comes first, then what one did.
_LABELS = (
    "Category Binocular",
    "B Event Info",
    "Category Left",
    "L Event Info",
    "Category Right",
    "R Event Info",
    "Info",
)
_NUMBERS = {f"Category {word}": f"Index {word}" for word in ("Binocular", "Left", "Right")}
_KINDS = {
    "Fixation": schema.EYE_MOVEMENT["Fixation"],
    "Visual Intake": schema.EYE_MOVEMENT["Fixation"],
    "Saccade": schema.EYE_MOVEMENT["Saccade"],
    "Blink": schema.EYE_MOVEMENT["EyesNotFound"],
    "Undefined": schema.EYE_MOVEMENT["Unclassified"],
}
_NO_SAMPLE = ("User Event", "Separator")
_TEXTS = ("Content", "Annotation Name")


def _is_header(names: Iterable[str]) -> bool:
    found = {name.strip(' "') for name in names}
    return not found.isdisjoint(_CLOCKS) and not found.isdisjoint(_CHANNELS)


def _header_line(document: Document) -> int | None:
    """How many lines stand above the header; None where there is no header."""
    if document.text is None:
        return 0
    lines = document.text[:_TOP].split("\n")
    candidates = (number for number, line in enumerate(lines) if any(word in line for word in _WORDS))
    return next((number for number in candidates if _is_header(re.split("[\t;,]", lines[number]))), None)


def _known(table: Table) -> int:
    return len(_CHANNELS.keys() & set(table.header)) if _is_header(table.header) else 0


def recognises(document: Document) -> int:
    """How many of BeGaze's columns of gaze and pupils the file has, if it has one of its clocks."""
    line = _header_line(document)
    return 0 if line is None else max(map(_known, _tables(document, line)), default=0)


def _tables(document: Document, line: int) -> tuple[Table, ...]:
    return document.tables_from(line) if line else document.tables


def read(document: Document) -> Recording:
    """Read a raw data or a metrics export.

    The clock of raw data counts microseconds (or, told by its step, milliseconds), that of metrics milliseconds.
    Lost is what is 0.00 or marked by a dash; a pupil also where its confidence is 0. Events of the user and messages
    are events: the first word is the name, the rest the value; so is the change to another stimulus. Of both eyes'
    movements a sample has the one in `Category Binocular`, else that of one eye: Visual Intake is Fixation, Blink
    EyesNotFound. Positions of the eyes and gaze vectors are left out: of what they are measured from the file says
    nothing. Where it is of glasses, gaze is on the scene camera's picture: in `extra`.

    Raises
    ------
    RecordingError
        The table is torn, has no sample, holds several recordings, or text stands where a number is wanted.
    """
    path = document.path
    line = _header_line(document) or 0
    table = max(_tables(document, line), key=_known)
    preamble = list(table.above) if isinstance(table, SheetTable) else document.lines[:line]
    table, lines, messages = _without_messages(table)
    places = {name: number for number, name in reversed(list(enumerate(table.header)))}
    clock = places[next(name for name in _CLOCKS if name in places)]
    words = [places[name] for name in ("Participant", "Stimulus", *_LABELS, *_TEXTS) if name in places]
    numbers = [places[name] for name in (*_CHANNELS, *_EXTRA, *_NUMBERS.values(), "Pupil Confidence") if name in places]
    every = read_columns(table, [clock, *words, *numbers], words=words, path=path)
    if len(lines) == len(every):
        every = replace(every, lines=lines)
    label = _label(every, places)
    is_sample = np.ones(len(every), dtype=bool)
    if label is not None:
        is_sample = ~np.isin(every.cells[places[label]].astype(str), _NO_SAMPLE)
    columns = every.rows(is_sample)
    if not len(columns):
        raise RecordingError(path, f"{len(every)} rows, each of a user's event, and not one sample")
    _check_one_recording(columns, places)

    ticks = every.numbers(clock)
    tick = 1e-3 if clock == places.get("RecordingTime [ms]") else seconds_a_tick(ticks, among=("ms", "us"))
    values = {
        name: columns.numbers(places[heading]) for heading, name in {**_CHANNELS, **_EXTRA}.items() if heading in places
    }
    flagged = _drop_unsure(values, columns, places)
    extra = {name: values.pop(name) for name in list(values) if name in _EXTRA.values()}
    marks = clean(values)
    seen = np.any(~np.isnan(list(values.values())), axis=0)
    if any("ETG" in line for line in preamble):
        gaze = [name for name in values if name.startswith("Gaze point")]
        extra |= {f"{name} (scene camera px)": values.pop(name) for name in gaze}
    add_mean_gaze(values)
    channels = {channel.name: values[channel.name] for channel in schema.TOBII_PRO_LAB_39 if channel.name in values}
    if label is not None:
        channels |= _movements(columns, places, label, seen=seen)
    events = [replace(event, time=event.time * tick) for event in messages]
    events += _events(every, places, ticks * tick, is_sample=is_sample)
    return on_clock(
        ticks[is_sample] * tick,
        channels,
        path=path,
        kind=KIND,
        notes={
            "rows_of_other_sensors": int(np.sum(~is_sample)) + len(messages),
            **marks,
            "values_flagged_invalid": flagged,
        },
        screen=_screen(preamble),
        declared_rate=_rate(preamble),
        events=events,
        extra=extra,
    )


def _without_messages(table: Table) -> tuple[Table, np.ndarray, list[Event]]:
    """The table without the rows of messages, which have fewer columns; the lines of the others; the messages."""
    if "Type" not in table.header:
        return table, np.array([], dtype=np.int64), []
    if not isinstance(table, TextTable):
        return _sheet_without_messages(table) if isinstance(table, SheetTable) else (table, np.array([]), [])
    mark = f"{table.delimiter}MSG{table.delimiter}"
    samples, numbers, messages = [], [], []
    for number, line in enumerate(table.body.split("\n"), start=table.line):
        cells = line.split(table.delimiter, 3) if mark in line else []
        if cells[1:2] == ["MSG"] and re.fullmatch(r"\d+(\.\d+)?", cells[0].strip()):
            messages.append(_message(float(cells[0]), cells[-1].strip(f'{table.delimiter} "')))
        else:
            samples.append(line)
            if line:
                numbers.append(number)
    # Columns at the end that no sample has belong to the messages.
    width = next((line.count(table.delimiter) + 1 for line in samples if line), 0)
    header = (*table.header, "")[:width] if 0 < width <= len(table.header) + 1 else table.header
    return replace(table, header=header, body="\n".join(samples)), np.array(numbers), messages


def _sheet_without_messages(table: SheetTable) -> tuple[Table, np.ndarray, list[Event]]:
    place, clock = (
        table.header.index("Type"),
        next(table.header.index(name) for name in _CLOCKS if name in table.header),
    )
    is_message = [row[place] == "MSG" and isinstance(row[clock], int | float) for row in table.rows]
    messages = [
        _message(float(row[clock]), next(str(cell) for cell in reversed(row) if cell != "").strip())
        for row, is_one in zip(table.rows, is_message, strict=True)
        if is_one
    ]
    samples = [row for row, is_one in zip(table.rows, is_message, strict=True) if not is_one]
    return replace(table, rows=samples), np.flatnonzero(np.logical_not(is_message)) + table.line, messages


def _message(time: float, text: str) -> Event:
    name, _, value = re.sub(r"^#\s*Message:\s*", "", text).partition(" ")
    return Event(name, time, value.strip())


def _label(columns: Columns, places: dict[str, int]) -> str | None:
    """The first column that says what a sample is part of, and says nothing else."""
    known = {*_KINDS, *_NO_SAMPLE}
    for name in _LABELS:
        if name in places:
            words = {word for word in columns.words(places[name]) if word is not None}
            if words and words <= known:
                return name
    return None


def _check_one_recording(columns: Columns, places: dict[str, int]) -> None:
    if "Participant" in places:
        names = sorted({str(name) for name in columns.words(places["Participant"]) if name is not None})
        if len(names) > 1:
            shown = ", ".join(map(repr, names[:3]))
            raise RecordingError(
                columns.path, f"{len(names)} recordings in one file (Participant: {shown}): export each by itself"
            )


def _drop_unsure(values: dict[str, np.ndarray], columns: Columns, places: dict[str, int]) -> int:
    """Make pupils missing, in place, where the tracker has no confidence in them; how many values."""
    if "Pupil Confidence" not in places:
        return 0
    unsure = columns.numbers(places["Pupil Confidence"]) == 0
    dropped = 0
    for name, column in values.items():
        if name.startswith("Pupil") and not unsure.all():
            where = unsure & ~np.isnan(column)
            column[where] = np.nan
            dropped += int(where.sum())
    return dropped


def _movements(columns: Columns, places: dict[str, int], label: str, *, seen: np.ndarray) -> dict[str, np.ndarray]:
    codes = columns.codes(places[label], _KINDS)
    idle = np.where(seen, schema.EYE_MOVEMENT["Unclassified"], schema.EYE_MOVEMENT["EyesNotFound"])
    number = places.get(_NUMBERS.get(label, ""))
    index = event_index(codes, None if number is None else columns.numbers(number))
    return {"Eye movement type": np.where(np.isnan(codes), idle, codes), "Eye movement type index": index}


def _events(columns: Columns, places: dict[str, int], time: np.ndarray, *, is_sample: np.ndarray) -> list[Event]:
    events = []
    texts = [columns.words(places[name]) for name in _TEXTS if name in places]
    for row in np.flatnonzero(~is_sample & np.isfinite(time)):
        text = next((str(words[row]) for words in texts if words[row] is not None), "")
        name, _, value = text.partition(" ")
        events.append(Event(name or "User Event", float(time[row]), value.strip()))
    if "Stimulus" in places:
        shown = columns.words(places["Stimulus"])
        changes = enumerate(zip([None, *shown], shown, strict=False))
        events += [
            Event("Stimulus", float(time[place]), str(new))
            for place, (old, new) in changes
            if new is not None and new != old and np.isfinite(time[place])
        ]
    return events


def _screen(preamble: list[str]) -> tuple[int, int] | None:
    area = re.search(r"^## ?Calibration Area:\s*(\d+)\s+(\d+)", "\n".join(preamble), flags=re.MULTILINE)
    return (int(area[1]), int(area[2])) if area else None


def _rate(preamble: list[str]) -> float | None:
    rate = re.search(r"^## ?Sample Rate:\s*(\d+(?:\.\d+)?)", "\n".join(preamble), flags=re.MULTILINE)
    return float(rate[1]) if rate else None
