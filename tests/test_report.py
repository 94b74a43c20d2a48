"""The report: one page that stands alone, says what the scores say, and shows no single clip unless asked."""

import base64
import io
import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from smad_models import charts
from smad_models.folds import update_folds
from smad_models.report import library_versions, write_report
from smad_models.score import score_task

EMOTIONS = ["happiness", "sadness", "fear", "disgust", "surprise", "anger", "neutral"]
TASKS = ("emotion", "valence", "arousal", "intensity")
REASON = "eye recording <script>alert(1)</script>: no column 'Gaze point X' & more"
VOID = {"meta", "br", "img", "rect", "line", "circle", "path"}


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
    """Plausible results of 144 clips of 24 participants, three clips quarantined."""
    folder = tmp_path_factory.mktemp("results")
    rng = np.random.default_rng(4)
    clips = [(f"P{p:03d}_C{c:02d}", f"P{p:03d}") for p in range(24) for c in range(6)]
    bad = {clips[7][0]: "video a.mp4: not there", clips[50][0]: REASON, clips[51][0]: REASON}
    labels = {
        clip: (EMOTIONS[rng.integers(7)], rng.uniform(-1, 1), rng.uniform(-1, 1), rng.uniform(0, 3))
        for clip, _ in clips
    }
    lines = {"clips": "clip\tparticipant\tstatus\treason\tface\teye\n"}
    lines["quality"] = "clip\tstatus\tface_found\teye_observed\tsurplus\n"
    lines["labels"] = "clip\t" + "\t".join(TASKS) + "\n"
    for clip, participant in clips:
        status = "quarantined" if clip in bad else "ok"
        lines["clips"] += f"{clip}\t{participant}\t{status}\t{bad.get(clip, '')}\tok\tmissing\n"
        lines["quality"] += f"{clip}\t{status}\t{rng.integers(0, 9) / 8}\t{'' if clip in bad else '0.9'}\tx\n"
        lines["labels"] += "\t".join(map(str, (clip, *labels[clip]))) + "\n"
    lines["quality_participants"] = "participant\tface_found\tgaze_observed\teye_longest_gap\n"
    lines["quality_participants"] += "".join(
        f"Q{number:03d}\t{0.9 if number else ''}\t{number / 10}\t{number}\n" for number in range(11)
    )
    for name, text in lines.items():
        (folder / f"{name}.tsv").write_text(text, encoding="utf-8")
    (folder / "cache.json").write_text(json.dumps({"digest": "d1ge57", "version": 1}), encoding="utf-8")
    rows = update_folds(
        manifest=folder / "clips.tsv", labels=folder / "labels.tsv", output=folder / "folds.tsv", count=5, seed=0
    )
    for number, task in enumerate(TASKS):
        made: list[dict[str, Any]] = [row._asdict() | {"present": "face+eye+gaze"} for row in rows]
        for row in made:
            truth: Any = labels[row["clip"]][number]
            wrong = EMOTIONS[rng.integers(7)] if task == "emotion" else truth * 0.5 + 0.1
            row["prediction"] = wrong if rng.random() < 0.4 else truth
        table = pa.Table.from_pylist(made).replace_schema_metadata({"smad_notes": json.dumps({"a": "beware of MAQT"})})
        pq.write_table(table, folder / f"{task}.parquet")
        score_task(
            task=task,
            predictions=folder / f"{task}.parquet",
            labels=folder / "labels.tsv",
            folds=folder / "folds.tsv",
            emotions=EMOTIONS,
            output=folder / f"{task}.json",
        )
    return folder


def write(results: Path, output: Path, **changes: Any) -> str:
    wanted: dict[str, Any] = {
        "scores": [results / f"{task}.json" for task in TASKS],
        "predictions": [results / f"{task}.parquet" for task in TASKS],
        "labels": results / "labels.tsv",
        "manifest": results / "clips.tsv",
        "quality": results / "quality.tsv",
        "participants": results / "quality_participants.tsv",
        "cache_json": results / "cache.json",
        "cache": None,
        "output": output,
        "settings": {"tasks": list(TASKS), "face": {"size": 112}, "annotations": None},
        "versions": {"smad": "0.1.0"},
    }
    write_report(**{**wanted, **changes})
    return output.read_text(encoding="utf-8")


def test_the_page_is_well_formed_and_fetches_nothing(results: Path, tmp_path: Path) -> None:
    text = write(results, tmp_path / "report.html", synthetic=True, show_clips=True)
    page = Page(text)
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "link", "iframe", "object", "embed"}
    assert not re.search(r"https?:|@import|url\(", text)
    assert all(not {"src", "href", "srcset"} & set(attributes) for _, attributes in page.tags)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_every_figure_can_be_read_aloud(results: Path, tmp_path: Path) -> None:
    page = Page(write(results, tmp_path / "report.html"))
    figures = [attributes for tag, attributes in page.tags if tag == "svg" and attributes.get("role") == "img"]
    assert len(figures) == 3 + 1 + 3 + 1 + 2  # scores, confusion, three values, plane, the two measures there are
    assert all(attributes["aria-label"] for attributes in figures)


def test_the_same_results_make_the_same_bytes(results: Path, tmp_path: Path) -> None:
    first = write(results, tmp_path / "a.html", synthetic=True)
    assert write(results, tmp_path / "b.html", synthetic=True) == first


def test_the_page_says_what_the_scores_say(results: Path, tmp_path: Path) -> None:
    text = write(results, tmp_path / "report.html")
    for task in TASKS:
        scores = json.loads((results / f"{task}.json").read_text(encoding="utf-8"))
        for metric in ("war", "uar", "f1_weighted") if task == "emotion" else ("ccc", "mae", "rmse"):
            fold, pooled = scores["protocols"]["fold"][metric], scores["protocols"]["pooled"][metric]
            lo, hi = pooled["ci95"]
            row = rf"<strong>{fold['mean']:.3f}</strong> <small>± {fold['sd']:.3f}</small></td>\s*"
            row += rf"<td>{pooled['value']:.3f} <small>{lo:.3f} to {hi:.3f}</small></td>"
            published = scores["protocols"]["published"][metric]["mean"]
            base = next(iter(scores["baselines"].values()))["fold"][metric]["mean"]
            row += rf"\s*<td>{'–' if published is None else f'{published:.3f}'}</td>\s*<td>{base:.3f}</td>"
            assert re.search(row, text), (task, metric)
    for wanted in ("d1ge57", "face.size", "not set", "Beware of MAQT.", "<dd>141</dd>", "<dd>24</dd>"):
        assert wanted in text


def test_single_clips_are_shown_only_on_request(results: Path, tmp_path: Path) -> None:
    quarantined = {"P001_C01", "P008_C02", "P008_C03"}
    named = re.compile(r"P\d{3}_C\d{2}")
    text = write(results, tmp_path / "a.html")
    assert set(named.findall(text)) == quarantined
    assert "aggregates only" in text
    text = write(results, tmp_path / "b.html", show_clips=True)
    assert len(set(named.findall(text))) == 144
    assert "aggregates only" not in text


def test_participants_are_shown_as_a_spread_and_named_only_where_single_clips_may_be(
    results: Path, tmp_path: Path
) -> None:
    text = write(results, tmp_path / "a.html")
    spread = dict(
        re.findall(r'<th scope="row">(.*?)</th><td>(\d+</td><td>\S+</td><td>\S+)</td></tr>', text.split("tenth<")[1])
    )
    assert spread["time with gaze on the stimulus, fraction"].split("</td><td>") == ["11", "0.5", "0.1"]
    assert spread["longest gap in the eye recording, s"].split("</td><td>") == ["11", "5", "9"]
    assert "8 of 11 participants lack gaze for more than 20%" in text
    assert "5 of 11 participants lack gaze for more than 50%" in text
    assert "Q00" not in text
    assert "Q000, Q001, Q002, Q003, Q004</code>" in write(results, tmp_path / "b.html", show_clips=True)


def test_few_participants_show_no_worst_tenth_and_two_show_nothing(results: Path, tmp_path: Path) -> None:
    lines = (results / "quality_participants.tsv").read_text(encoding="utf-8").splitlines(keepends=True)
    few, two = tmp_path / "few.tsv", tmp_path / "two.tsv"
    few.write_text("".join(lines[:6]), encoding="utf-8")
    two.write_text("".join(lines[:3]), encoding="utf-8")
    text = write(results, tmp_path / "a.html", participants=few)
    assert re.search(r"fraction</th><td>5</td><td>0.2</td><td>–</td>", text)
    assert "From participant to participant" not in write(results, tmp_path / "b.html", participants=two)


def test_quarantined_clips_stand_under_their_reason_and_a_reason_runs_no_code(results: Path, tmp_path: Path) -> None:
    text = write(results, tmp_path / "report.html")
    assert "eye recording &lt;script&gt;alert(1)&lt;/script&gt;: no column &#39;Gaze point X&#39; &amp; more" in text
    assert re.search(r"amp; more</td><td>2</td><td class=\"left wrap\"><code>P008_C02, P008_C03</code>", text)


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


def test_synthetic_data_carry_a_banner(results: Path, tmp_path: Path) -> None:
    assert "Synthetic data." in write(results, tmp_path / "a.html", synthetic=True)
    assert "Synthetic data." not in write(results, tmp_path / "b.html")


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

    assert "data:image" not in write(results, tmp_path / "a.html", cache=tmp_path)
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


def test_the_versions_are_those_that_run() -> None:
    versions = library_versions()
    assert versions["numpy"] == np.__version__
    assert versions["pyarrow"] == pa.__version__


def test_bars_are_as_tall_as_their_counts_and_none_is_lost() -> None:
    values = np.array([-5.0, 0.1, 0.1, 0.6, 0.6, 0.6, 0.6, 9.0])
    svg = charts.histogram(values, edges=np.linspace(0, 1, 5), label="x", unit="y")
    heights = [float(h) for h in re.findall(r'height="([\d.]+)" class="bar"', svg)]
    assert [round(4 * h / max(heights)) for h in heights] == [3, 0, 4, 1]


def test_a_confusion_cell_is_shaded_by_its_share_of_the_row() -> None:
    svg = charts.confusion(np.array([[3, 1], [0, 0]]), ["<a>", "b"])
    # 0.05 for none to 1 for all, so that an empty cell is still seen as a cell.
    assert re.findall(r'fill-opacity="([\d.]+)"', svg) == ["0.762", "0.287", "0.050", "0.050"]
    assert "&lt;a&gt;: 3 of 4 found" in svg
    assert "<a>" not in svg


def test_a_right_prediction_lies_on_the_line_of_the_map() -> None:
    svg = charts.density(np.array([0.0, 3.0]), np.array([0.0, 99.0]), low=0, high=3, name="intensity")
    cells = [(float(x), float(y)) for x, y in re.findall(r'<rect x="([\d.]+)" y="([\d.]+)"[^>]*class="heat"', svg)]
    assert cells == [(46.0, 230.0), (266.0, 10.0)]  # bottom left; top right, where what is beyond the range counts
