"""The report's figures: what they say, and that they are drawn in the page's own colours."""

import re

import numpy as np

from smad_models import charts, score_charts
from smad_models.drawing import PAINT, draw
from smad_models.report import PAGE
from smad_models.report_clips import trace


def paths(svg: str, paint: str) -> list[np.ndarray]:
    """The corners of what is filled in one of the page's colours."""
    found = re.findall(rf'<path d="([^"]*)"[^>]*style="fill: var\(--{paint}\)[^"]*"', svg)
    return [np.array(re.findall(r"[ML] (\S+) (\S+)", corners), dtype=float) for corners in found]


def test_bars_are_as_tall_as_their_counts_and_none_is_lost() -> None:
    values = np.array([-5.0, 0.1, 0.1, 0.6, 0.6, 0.6, 0.6, 9.0])
    svg = charts.histogram(values, edges=np.linspace(0, 1, 5), label="x", unit="y")
    heights = [np.ptp(corners[:, 1]) for corners in paths(svg, "accent")]
    assert [round(4 * height / max(heights)) for height in heights] == [3, 0, 4, 1]


def test_a_confusion_cell_is_shaded_by_its_share_of_the_row() -> None:
    svg = charts.confusion(np.array([[3, 1], [0, 0]]), ["<a>", "b"], ["<a>", "b"])
    # 0.05 for none to 1 for all, so that an empty cell is still seen as a cell.
    assert re.findall(r"fill: var\(--heat\); opacity: ([\d.]+)", svg) == ["0.76", "0.28", "0.05", "0.05"]
    assert "&lt;a&gt;: 3 of 4 found" in svg
    assert "<a>" not in svg


def test_a_right_prediction_lies_on_the_line_of_the_map() -> None:
    svg = charts.density(np.array([0.0, 3.0]), np.array([0.0, 99.0]), low=0, high=3, name="intensity")
    (ends,) = re.findall(r"M (\S+) (\S+) L (\S+) (\S+) \" clip[^>]*dasharray", svg)
    x1, y1, x2, y2 = map(float, ends)
    first, last = paths(svg, "heat")  # bottom left; top right, where what is beyond the range counts
    assert np.allclose([first[:, 0].min(), first[:, 1].max()], [x1, y1], atol=0.02)
    assert np.allclose([last[:, 0].max(), last[:, 1].min()], [x2, y2], atol=0.02)


def test_a_figure_takes_its_colours_and_its_type_from_the_page() -> None:
    line = score_charts.Line("<b>$x$ 名", [0.2, 0.4, None], 0.3, [0.25, 0.5], 0.3, [0.1, None])
    svg = score_charts.forest([line], label="a & b")
    assert not re.search("#[0-9a-f]{6};", svg)
    assert "font-family" not in svg
    assert {"var(--accent)", "var(--second)", "var(--third)"} <= set(re.findall(r"var\(--\w+\)", svg))
    assert ">&lt;b&gt;$x$ 名</text>" in svg
    assert svg.startswith('<svg viewBox="0 0 430 74" style="max-width:430px" role="img" aria-label="a &amp; b">')


def test_every_colour_of_a_figure_is_one_of_the_page_in_light_and_in_dark() -> None:
    style = (PAGE / "style.css").read_text(encoding="utf-8")
    light, dark, *_ = re.findall(r":root \{(.*?)\}", style, flags=re.DOTALL)
    for name, colour in PAINT.items():
        assert f"--{name}:" in light
        assert f"--{name}:" in dark
        # The page's white is a shade off here, as white stands in Matplotlib's own figures too.
        assert colour in light or name == "paper"


def test_a_trace_is_broken_where_nothing_was_observed() -> None:
    values = np.array([[0.0, 1.0, np.nan, 0.5]])
    svg = trace(values, label="<gaze>", span=(0, 1))
    assert svg is not None
    assert re.findall('<path d="([^"]*)"', svg) == ["M30 62h1L90 2M210 32h1"]
    assert 'aria-label="&lt;gaze&gt; over time, 0 to 1"' in svg
    assert trace(np.full((2, 4), np.nan), label="gaze") is None


def test_a_figure_of_the_same_numbers_is_the_same_bytes() -> None:
    def figure() -> str:
        with draw(100, 100, label="x") as drawing:
            drawing.ax.plot([1, 2], [3, 4], "o-")
        return str(drawing.svg)

    assert figure() == figure()


def test_a_point_of_calibration_stands_where_the_bin_says_and_is_as_large_as_its_clips() -> None:
    bins = [
        {"lo": 0.0, "hi": 0.5, "clips": 1, "confidence": 0.25, "accuracy": 1.0},
        {"lo": 0.5, "hi": 0.75, "clips": 0, "confidence": None, "accuracy": None},
        {"lo": 0.75, "hi": 1.0, "clips": 9, "confidence": 1.0, "accuracy": 0.0},
    ]
    svg = score_charts.reliability(bins, label="x")
    ((x0, y0, x1, y1),) = re.findall(r"M (\S+) (\S+) L (\S+) (\S+) \" clip[^>]*dasharray", svg)
    low, high = np.array([x0, y0], float), np.array([x1, y1], float)  # of the dashed line: (0, 0) and (1, 1)
    found = re.findall(r'<path d="([^"]*)"[^>]*style="fill: var\(--accent\)', svg)
    circles = [np.array(re.findall(r"(\S+) (\S+)(?= )", d.replace("M", "").replace("C", "")), float) for d in found]
    points = np.array([(circle.min(axis=0) + circle.max(axis=0)) / 2 for circle in circles])
    assert np.allclose((points - low) / (high - low), [[0.25, 1.0], [1.0, 0.0]], atol=0.005)
    few, many = (np.ptp(circle[:, 0]) for circle in circles)
    assert few < many


def test_a_participant_is_a_dot_at_the_own_score_and_a_fold_a_bar() -> None:
    svg = score_charts.strips({"1": [0.2, 1.0], "2": [0.6]}, {"1": 0.6, "2": None}, label="x", unit="WAR")
    dots = np.array(re.findall(r'<use [^>]*x="(\S+)" y="(\S+)"[^>]*var\(--accent\)', svg), dtype=float)
    assert np.allclose((dots[:, 0] - dots[0, 0]) / (dots[1, 0] - dots[0, 0]), [0, 1, 0.5], atol=0.005)
    assert dots[2, 1] > dots[:2, 1].max()  # the second fold's row is below the first's
    bars = re.findall(r'd="M (\S+) \S+ L (\S+) \S+ "[^>]*stroke: var\(--second\)', svg)
    assert [float(end) for bar in bars for end in bar] == [dots[2, 0]] * 2
