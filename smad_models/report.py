"""Scores and quality to one page: a self-contained HTML file, of aggregates unless more is asked for.

Nothing on the page comes from elsewhere, and nothing in it changes from run to run unless the results do. Its parts are
the templates in `report_page/`, a section each, in the order in which a reader asks.
"""

from __future__ import annotations

import base64
import hashlib
import json
import platform
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from smad_models import report_maps, report_quality, report_scores
from smad_models.drawing import assemble
from smad_models.folds import read_table
from smad_models.predictions import COLUMNS, read_notes
from smad_models.report_agreement import agreement_part
from smad_models.report_clips import clip_table, contact_sheet
from smad_models.report_modalities import modalities_part
from smad_models.scoreboard import show, write_whole

if TYPE_CHECKING:
    from smad_models.cache_files import Place

PAGE = Path(__file__).parent / "report_page"
LIBRARIES = ("smad", "torch", "numpy", "scipy", "scikit-learn", "pyarrow", "tensorstore", "safetensors", "matplotlib")

# In the reader's order, each with a short name and a heading; a section whose part is empty is left out.
SECTIONS = {
    "data": ("Data", "What data, and how complete"),
    "scores": ("Scores", "Scores"),
    "emotion": ("Emotions", "Which emotions are mistaken for which"),
    "values": ("Valence and arousal", "Valence, arousal, intensity"),
    "calibration": ("Calibration", "Does it know when it is right?"),
    "people": ("Folds and people", "From fold to fold, from person to person"),
    "modalities": ("Modalities", "What each modality brings"),
    "unscored": ("Predictions", "Predictions without labels"),
    "quality": ("Quality", "Quality of the recordings"),
    "agreement": ("Annotators", "How far annotators agree"),
    "faces": ("Faces", "Faces as the model sees them"),
    "clips": ("Clips", "Single clips"),
    "provenance": ("Provenance", "Where the numbers come from"),
}


def library_versions() -> dict[str, str]:
    """The versions of Python and of the libraries between the cache and the scores, by name."""
    return {"Python": platform.python_version(), **{name: version(name) for name in LIBRARIES}}


def write_report(
    *,
    scores: Sequence[Path],
    predictions: Sequence[Path],
    labels: Path | None,
    manifest: Path,
    quality: Path,
    participants: Path,
    cache_json: Path,
    cache: Place | None,
    output: Path,
    settings: Mapping[str, Any],
    versions: Mapping[str, str],
    folds: Path | None = None,
    ablations: Mapping[tuple[str, str], Path] | None = None,
    agreement: Path | None = None,
    figure: Path | None = None,
    title: str = "SMAD benchmark report",
    show_clips: bool = False,
    show_faces: bool = False,
    synthetic: bool = False,
) -> None:
    """Write the page, whole or not at all.

    Parameters
    ----------
    scores, predictions
        The tasks' JSON files and Parquet tables; without labels scores are not read.
    labels, manifest, quality, participants, cache_json
        As named in the results; `labels` None where nothing is to be compared.
    cache
        The packed cache; read only when clips or faces are shown.
    settings
        The configuration, shown as it is.
    versions
        The versions of programs and libraries, by name.
    folds
        The table of folds; read only where there are ablations.
    ablations
        By task and modality: the predictions without that modality, to be compared with those of that task.
    agreement
        What `smad-models agreement` wrote; None = no annotations.
    figure
        Where the histograms of quality go once more, as an SVG file of their own.
    show_clips, show_faces
        Also show single clips with their predictions and traces, or aligned faces: derived data of participants.
    synthetic
        Say in a banner that no number here is about people.

    Raises
    ------
    ValueError
        A table has no clip column, or faces are asked for without a cache.
    """
    if show_faces and cache is None:
        raise ValueError("report: show_faces is set, but no cache is given to take faces from")
    results = [json.loads(path.read_text(encoding="utf-8")) for path in scores] if labels else []
    clips = read_table(manifest, needed=("clip", "participant", "status"))
    measured = report_quality.read_measured(quality)
    truth = {row["clip"]: row for row in read_table(labels, needed=("clip",))} if labels else {}
    columns = None if show_clips else COLUMNS
    predicted = {path.stem: pq.read_table(path, columns=columns).to_pylist() for path in predictions}
    ok = [row for row in clips if row["status"] == "ok"]
    scored = [one for one in results if report_scores.is_scored(one)]
    tables = {path.stem: path for path in predictions}
    compared = modalities_part(ablations or {}, tables, labels=labels, folds=folds) if ablations else None

    parts: dict[str, Any] = {
        "counts": {
            "clips": len(clips),
            "ok": len(ok),
            "quarantined": len(clips) - len(ok),
            "participants": len({row["participant"] for row in ok}),
            "folds": max((len(_any_metric(one)["folds"]) for one in results), default=0),
        },
        "completeness": report_quality.completeness(ok),
        "labelled": [(task, sum(bool(truth.get(row["clip"], {}).get(task)) for row in ok)) for task in predicted]
        if labels
        else [],
        "present": Counter(row["present"] or "nothing" for row in next(iter(predicted.values()), [])),
        "notes": sorted({note for path in predictions for note in read_notes(path).values()}),
        "scoreboard": [row for one in results for row in report_scores.score_rows(one)],
        "everything": [row for one in results for row in report_scores.score_rows(one, [*_any_protocol(one)])],
        "summary": report_scores.summary(results),
        "forests": report_scores.forests(results),
        "guards": _guards(results),
        "differences": [(one["task"], one["differences"]["sentence"]) for one in scored],
        "emotion": report_scores.emotion_part(results),
        "maps": report_maps.maps(predicted, truth),
        "plane": report_maps.plane_part(predicted, truth),
        "calibration": report_scores.calibration_part(results),
        "strips": report_scores.spread_over_people(results),
        "people": report_scores.people_table(results) if show_clips else None,
        "modalities": compared,
        "unscored": report_maps.unscored(predicted, {one["task"] for one in scored}),
        "quality": report_quality.histograms(measured),
        "spread": report_quality.spread(read_table(participants, needed=("participant",)), name_them=show_clips),
        "quarantined": report_quality.quarantined(clips),
        "doubtful": report_quality.doubtful(measured),
        "agreement": agreement_part(json.loads(agreement.read_text(encoding="utf-8"))) if agreement else None,
        "faces": contact_sheet(cache) if show_faces and cache is not None else None,
        "singles": clip_table(predicted, truth, cache=cache, show_faces=show_faces) if show_clips else None,
        "with_faces": show_faces,
        "provenance": [{"task": one["task"], "clips": one["clips"], "rows": _provenance(one)} for one in results],
        "commands": list(
            dict.fromkeys(one["provenance"]["command"] for one in results if one["provenance"].get("command"))
        ),
        "undefined": [(one["task"], why) for one in results if (why := report_scores.undefined(one))],
        "cache": json.loads(cache_json.read_text(encoding="utf-8")),
        "settings": _flat(settings),
        "versions": dict(versions),
        "fewest": report_maps.FEWEST,
        "most_names": report_quality.NAMES,
        "fewest_of_tenths": report_quality.FEWEST_OF_TENTHS,
        "fewest_of_a_person": report_scores.CLIPS_OF_A_PERSON,
    }
    is_there = {
        "scores": parts["scoreboard"],
        "emotion": parts["emotion"],
        "values": parts["maps"] or parts["plane"],
        "calibration": parts["calibration"],
        "people": parts["strips"],
        "modalities": compared,
        "unscored": parts["unscored"],
        "agreement": parts["agreement"],
        "faces": parts["faces"],
        "clips": parts["singles"],
    }
    if figure is not None:
        panels = [(panel["title"], panel["chart"]) for panel in parts["quality"]]
        write_whole(figure, assemble(panels, across=3, width=340, height=220))
    write_whole(
        output,
        _render(
            title=title,
            synthetic=synthetic,
            sections=[(name, *words) for name, words in SECTIONS.items() if is_there.get(name, True)],
            aggregates_only=not (show_clips or show_faces),
            **parts,
        ),
    )


def _render(**parts: Any) -> str:
    environment = Environment(
        loader=FileSystemLoader(PAGE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"score": _plain, "signed": _signed, "spans": _spans}
    script = (PAGE / "script.js").read_text(encoding="utf-8")
    # The page allows this very script and no other, should a text of somebody's ever get past the escaping.
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    style = (PAGE / "style.css").read_text(encoding="utf-8")
    page = environment.get_template("page.html.jinja")
    return page.render(script=Markup(script), script_digest=digest, style=Markup(style), **parts)


def _plain(value: float | None) -> str:
    """Three decimals, a dash where undefined; nothing is a nothing below 0."""
    text = show(value)
    return text.removeprefix("-") if text == "-0.000" else text


def _signed(value: float | None) -> str:
    return show(None) if value is None else f"{value:+.3f}"


def _spans(text: str) -> Markup:
    """Words between backticks as code."""
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(escape(text))))


def _any_protocol(one: Mapping[str, Any]) -> dict[str, Any]:
    return dict(one["protocols"]["fold"])


def _any_metric(one: Mapping[str, Any]) -> dict[str, Any]:
    return dict(next(iter(_any_protocol(one).values())))


def _guards(results: Sequence[Mapping[str, Any]]) -> list[tuple[list[str], Mapping[str, Any]]]:
    """What the guard against leaks says, once for all tasks of which it says the same."""
    found: dict[str, tuple[list[str], Mapping[str, Any]]] = {}
    for one in results:
        found.setdefault(one["leaks"]["sentence"], ([], one["leaks"]))[0].append(one["task"])
    return list(found.values())


def _provenance(one: Mapping[str, Any]) -> list[tuple[str, str]]:
    """A task's digests, seed, and what its baselines and intervals are."""
    record = {name: value for name, value in one["provenance"].items() if name not in ("command", "notes")}
    return _flat(record)


def _flat(settings: Mapping[str, Any], *, above: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, value in settings.items():
        if isinstance(value, Mapping):
            rows += _flat(value, above=f"{above}{key}.")
        else:
            text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
            rows.append((f"{above}{key}", "not set" if value is None else text))
    return rows
