"""The report: one page that stands alone, says what the scores say, and shows no single clip unless asked."""

import base64
import hashlib
import io
import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pytest
from grimp import build_graph
from markupsafe import escape
from PIL import Image
from report_results import EMOTIONS, TASKS, everything, make_results, name_clips, write

from smad_features.config import complete_config
from smad_features.fingerprints import Fingerprints
from smad_features.later_stages import LATER_STAGES, Later
from smad_models import report_quality
from smad_models.compare import compare
from smad_models.drawing import assemble
from smad_models.folds import read_table
from smad_models.report import PAGE, SECTIONS, library_versions
from smad_models.score import score_task

VOID = {"meta", "br", "img", "input", "rect", "line", "circle", "path", "use"}


class Page(HTMLParser):
    """The tags of a page, checked to be closed in the order in which they were opened."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of 144 clips of 24 participants, three clips quarantined."""
    return make_results(tmp_path_factory.mktemp("results"), name_clips(24, 6))


@pytest.fixture(scope="module")
def bare(results: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page as it is unless more is asked for."""
    return write(results, tmp_path_factory.mktemp("bare") / "report.html")


@pytest.fixture(scope="module")
def whole(results: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page with all that can be there without a cache."""
    output = tmp_path_factory.mktemp("whole") / "report.html"
    text = write(results, output, synthetic=True, show_clips=True, **everything(results))
    assert [path.name for path in output.parent.iterdir()] == ["report.html"]
    return text


def test_the_page_is_well_formed_and_fetches_nothing(whole: str) -> None:
    page = Page(whole)
    names = {tag for tag, _ in page.tags}
    assert not names & {"link", "iframe", "object", "embed"}
    assert not re.search(r"https?:|@import|url\((?!#)", whole)
    for _, attributes in page.tags:
        assert not {"src", "srcset"} & set(attributes)
        assert (attributes.get("href") or "#").startswith("#")


def test_no_script_but_its_own_may_run_in_the_page(whole: str) -> None:
    (script,) = re.findall(r"<script>(.*?)</script>", whole, flags=re.DOTALL)
    assert script == (PAGE / "script.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="(.*?)"', whole)
    assert f"script-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_the_sections_stand_in_the_readers_order_and_those_without_content_are_left_out(bare: str, whole: str) -> None:
    def shown(text: str) -> list[str]:
        found = re.findall(r'<h2 id="(\w+)"', text)
        assert re.findall(r'<a href="#(\w+)">', text.split("</nav>")[0]) == found
        return found

    assert shown(bare) == ["data", "scores", "emotion", "values", "calibration", "people", "quality", "provenance"]
    assert shown(whole) == [name for name in SECTIONS if name not in ("unscored", "faces")]


def test_every_figure_can_be_read_aloud_and_none_takes_the_name_of_another(whole: str) -> None:
    page = Page(whole)
    figures = [attributes for tag, attributes in page.tags if tag == "svg" and attributes.get("role") == "img"]
    # Scores, confusion, three sides, three values, plane twice, calibration, people, modalities, measures, annotators.
    assert len(figures) == 3 + 1 + 1 + 3 + 2 + 1 + 4 + 2 + 2 + 1
    assert len({attributes["aria-label"] for attributes in figures}) == len(figures)
    names = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(names) == len(set(names))


def test_the_same_results_make_the_same_bytes(results: Path, bare: str, tmp_path: Path) -> None:
    assert write(results, tmp_path / "report.html") == bare


def test_the_page_says_what_the_scores_say(results: Path, bare: str) -> None:
    for task in TASKS:
        scores = json.loads((results / f"{task}.json").read_text(encoding="utf-8"))
        for metric in ("war", "uar", "f1_weighted") if task == "emotion" else ("ccc", "mae", "rmse"):
            fold, pooled = scores["protocols"]["fold"][metric], scores["protocols"]["pooled"][metric]
            lo, hi = pooled["ci95"]
            row = rf"<strong>{fold['mean']:.3f}</strong> <small>± {fold['sd']:.3f}</small></td>\s*"
            row += rf"<td[^>]*>{pooled['value']:.3f} <small>{lo:.3f} to {hi:.3f}</small></td>"
            published = scores["protocols"]["published"][metric]["mean"]
            base = next(iter(scores["baselines"].values()))["fold"][metric]["mean"]
            row += rf"\s*<td[^>]*>{'–' if published is None else f'{published:.3f}'}</td>\s*<td[^>]*>{base:.3f}</td>"
            assert re.search(row, bare), (task, metric)
        assert str(escape(scores["differences"]["sentence"].split("`")[-1])) in bare
    for wanted in ("d1ge57", "face.size", "not set", "Beware of MAQT.", "<dd>141</dd>", "<dd>24</dd>"):
        assert wanted in bare


def test_what_nobody_could_verify_is_called_so_and_a_certificate_is_shown(
    results: Path, bare: str, tmp_path: Path
) -> None:
    said = re.findall(r'<p class="(\w+)"><strong>(.*?):</strong> (\w+)', bare.split('id="scores"')[1])
    assert said[0] == ("banner", "emotion, valence, arousal, intensity", "unverifiable")
    scores = json.loads((results / "emotion.json").read_text(encoding="utf-8"))
    scores["leaks"] = {"verifiable": True, "sentence": "No leak found: <all> 5 folds."}
    (tmp_path / "emotion.json").write_text(json.dumps(scores), encoding="utf-8")
    others = [results / f"{task}.json" for task in TASKS[1:]]
    assert "has seen no clip of its participant" not in bare
    text = write(results, tmp_path / "report.html", scores=[tmp_path / "emotion.json", *others])
    assert "has seen no clip of its participant" not in text
    assert '<p class="guard"><strong>emotion:</strong> No leak found: &lt;all&gt; 5 folds.</p>' in text
    assert '<p class="banner"><strong>valence, arousal, intensity:</strong> unverifiable' in text


def test_what_a_modality_brings_is_the_difference_that_compare_finds(results: Path, whole: str) -> None:
    pair = {"valence": (results / "valence-eye.parquet", results / "valence.parquet")}
    found = compare(pair, labels=results / "labels.tsv", folds=results / "folds.tsv")["tasks"]["valence"]
    row = found["metrics"]["ccc"]
    assert row["difference"] < -0.01
    shown = re.search(r"valence</th><td[^>]*>eye</td><td[^>]*>concordance \(CCC\)</td>(.*?)</tr>", whole, re.DOTALL)
    assert shown is not None
    wanted = [f"{row[name]:.3f}" for name in ("b", "a")]
    wanted += [f"{row['difference']:+.3f}", f"{row['ci95'][0]:+.3f} to {row['ci95'][1]:+.3f}"]
    assert re.findall(r"<td[^>]*>(.*?)</td>", shown[1]) == wanted


def test_the_agreement_of_annotators_is_shown_as_it_was_measured(results: Path, whole: str) -> None:
    text = whole.split('id="agreement"')[1]
    found = json.loads((results / "agreement.json").read_text(encoding="utf-8"))
    groups = found["emotion"]["groups"]
    alphas = [groups[group]["krippendorff_alpha"]["value"] for group in ("all", "humans", "experts")]
    cells = re.search(r"Krippendorff&#39;s alpha</th>(.*?)</tr>", text)
    assert cells is not None
    assert re.findall(r">(-?[\d.]+)</td>", cells[1]) == [f"{alpha:.3f}" for alpha in alphas]
    kappas = {(one["a"], one["b"]): one["cohen_kappa"]["value"] for one in found["emotion"]["pairs"]}
    assert f"{kappas['E2', 'E3']:.2f}</text>" in text
    assert "E&lt;1&gt;" in text
    assert "E<1>" not in text


def test_single_clips_are_shown_only_on_request(bare: str, whole: str) -> None:
    quarantined = {"P001_C01", "P008_C02", "P008_C03"}
    named = re.compile(r"P\d{3}_C\d{2}")
    assert set(named.findall(bare)) == quarantined
    assert not re.findall(r"P\d{3}(?!_C)", bare)
    assert "aggregates only" in bare
    assert len(set(named.findall(whole))) == 144
    assert "aggregates only" not in whole


def test_participants_are_shown_as_a_spread_and_named_only_where_single_clips_may_be(bare: str, whole: str) -> None:
    spread = dict(
        re.findall(
            r'<th scope="row" class="wrap">(.*?)</th><td>(\d+</td><td>\S+</td><td>\S+)</td></tr>',
            bare.split("tenth<")[1],
        )
    )
    assert spread["time with gaze on the stimulus, fraction"].split("</td><td>") == ["11", "0.5", "0.1"]
    assert spread["longest gap in the eye recording, s"].split("</td><td>") == ["11", "5", "9"]
    assert "8 of 11 participants lack gaze for more than 20%" in bare
    assert "5 of 11 participants lack gaze for more than 50%" in bare
    assert "Q00" not in bare
    assert "Q000, Q001, Q002, Q003, Q004</code>" in whole


def test_few_participants_show_no_worst_tenth_and_two_show_nothing(results: Path) -> None:
    rows = read_table(results / "quality_participants.tsv", needed=("participant",))
    few = report_quality.spread(rows[:5], name_them=False)
    assert few is not None
    assert [(row["count"], row["worst"]) for row in few["measures"]] == [(4, None), (5, None), (5, None)]
    assert report_quality.spread(rows[:2], name_them=False) is None


def test_quarantined_clips_stand_under_their_reason_and_a_reason_runs_no_code(bare: str) -> None:
    assert "eye recording &lt;script&gt;alert(1)&lt;/script&gt;: no column &#39;Gaze point X&#39; &amp; more" in bare
    assert re.search(r"amp; more</td><td>2</td><td class=\"left wrap\"><code>P008_C02, P008_C03</code>", bare)


def test_clips_that_a_person_should_look_at_are_named_with_the_reason(results: Path, tmp_path: Path) -> None:
    lines = [line.split("\t") for line in (results / "quality.tsv").read_text().splitlines()]
    used = [cells[0] for cells in lines[1:] if cells[1] == "ok"][:4]
    table = "clip\tstatus\tface_found\tface_jump\tface_turn\n"
    cells = (("0", "0", "0"), ("0.5", "1", "0"), ("1", "0", "90"), ("1", "0", ""))
    table += "".join("\t".join((clip, "ok", *row)) + "\n" for clip, row in zip(used, cells, strict=True))
    (tmp_path / "quality.tsv").write_text(table)

    text = write(results, tmp_path / "report.html", quality=tmp_path / "quality.tsv")

    shown = text.split("worth a look</h3>")[1].split("</section>")[0]
    for clip, reason in zip(used[:3], ("no face in any frame", "same person", "lies on its side"), strict=True):
        assert re.search(rf"{reason}.*<code>{clip}</code>", shown)
    assert used[3] not in shown


def test_synthetic_data_carry_a_banner(bare: str, whole: str) -> None:
    assert "Synthetic data." in whole
    assert "Synthetic data." not in bare


def test_predictions_without_labels_are_shown_as_such(results: Path, tmp_path: Path) -> None:
    text = write(results, tmp_path / "report.html", scores=[tmp_path / "none.json"], labels=None)
    Page(text)
    assert "Predictions without labels" in text
    assert 'id="scores"' not in text


def test_a_task_without_labels_shows_dashes_and_why(results: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.tsv").write_text("clip\n", encoding="utf-8")
    score_task(
        task="valence",
        predictions=results / "valence.parquet",
        labels=tmp_path / "labels.tsv",
        folds=results / "folds.tsv",
        emotions=EMOTIONS,
        output=tmp_path / "valence.json",
    )
    text = write(
        results,
        tmp_path / "report.html",
        scores=[tmp_path / "valence.json"],
        predictions=[results / "valence.parquet"],
        labels=tmp_path / "labels.tsv",
    )
    Page(text)
    assert "<strong>–</strong>" in text
    assert "no labelled clips" in text
    assert "predicted valence" in text


def test_faces_are_shown_only_on_request_and_as_they_lie_in_the_cache(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shade = np.arange(30, dtype=np.uint8)[:, None, None, None, None] * 8  # clip 0 is black: it had no face
    stored = np.broadcast_to(shade, (30, 8, 112, 112, 3))
    cache = SimpleNamespace(clips=tuple("c" * 30), read=lambda rows, arrays: {"face": stored[np.asarray(rows)]})
    stand_in = ModuleType("smad_models.dataset")
    monkeypatch.setattr(stand_in, "open_cache", lambda path: cache, raising=False)
    monkeypatch.setitem(sys.modules, "smad_models.dataset", stand_in)

    text = write(results, tmp_path / "b.html", cache=tmp_path, show_faces=True)
    (picture,) = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', text)
    sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture))))
    assert sheet.shape == (4 * 112, 6 * 112, 3)
    assert "Contact sheet of 23 aligned face crops" in text
    rows = np.linspace(0, 29, 24).round().astype(int)[1:]
    middles = sheet[56::112, 56::112, 0].ravel()[:23]
    assert np.abs(middles.astype(int) - 8 * rows).max() <= 2
    with pytest.raises(ValueError, match="show_faces is set, but no cache"):
        write(results, tmp_path / "c.html", show_faces=True)


def test_the_page_is_made_anew_when_any_code_that_makes_it_or_any_of_its_parts_changes(tmp_path: Path) -> None:
    graph = build_graph("smad_models", cache_dir=None)
    for name in ("checkpoints", "inputs"):  # the guard asks them of checkpoints, and here there are none
        graph.remove_module(f"smad_models.{name}")
    made_by = {"smad_models.report", *graph.find_upstream_modules("smad_models.report")}
    assert made_by == set(LATER_STAGES["report"].modules)
    given: dict[str, Any] = {"labels": None, "checkpoints": str(tmp_path), "tasks": ["emotion"], "folds": {"count": 2}}
    (tmp_path / "emotion").mkdir()
    for fold in (1, 2):
        (tmp_path / f"emotion/fold{fold}.safetensors").touch()
    later = Later([], complete_config(given), Fingerprints(tmp_path / "memory.sqlite"))
    wanted = {f"report_page/{part.name}" for part in PAGE.iterdir()}
    assert {f"{name}.html.jinja" for name in SECTIONS} < {Path(name).name for name in wanted}
    assert set(later.record("report")["contents"]) == wanted


def test_the_versions_are_those_that_run() -> None:
    versions = library_versions()
    assert versions["numpy"] == np.__version__
    assert versions["pyarrow"] == pa.__version__


def test_the_figure_of_quality_is_a_file_of_its_own(results: Path, tmp_path: Path) -> None:
    write(results, tmp_path / "report.html", figure=tmp_path / "quality.svg")
    root = ElementTree.parse(tmp_path / "quality.svg").getroot()
    assert len(root.findall("{*}svg")) == 2
    assert "var(" not in (tmp_path / "quality.svg").read_text(encoding="utf-8")
    ElementTree.fromstring(assemble([], across=3, width=10, height=10))
