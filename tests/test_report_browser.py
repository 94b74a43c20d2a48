"""The report as its reader has it: opened from disk in a real browser, on a desk and on a phone."""

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from browser import DESKTOP, PHONE, Visit, start_browser, visit
from conftest import ROOT
from playwright.sync_api import Browser
from report_results import everything, make_results, name_clips, write
from skimage.data import astronaut

import smad_models.dataset
from smad_models.report import SECTIONS

ARTEFACTS = Path(os.environ.get("SMAD_ARTEFACTS") or ROOT / ".artefacts")  # not in git
WICKED = "<script>alert(1)</script>"


def stand_in(clips: list[str]) -> SimpleNamespace:
    """A cache of one well-known face in many lights, and of gaze that wanders."""
    face = astronaut()[30:142, 165:277]

    def read(rows: Any, arrays: list[str]) -> dict[str, np.ndarray]:
        found: dict[str, np.ndarray] = {}
        for name in arrays:
            if name == "face":
                lights = [np.random.default_rng(row).uniform(0.5, 1, (8, 1, 1, 3)) for row in rows]
                shifts = [[np.roll(face, (frame, row % 7), (0, 1)) for frame in range(8)] for row in rows]
                found[name] = (np.array(shifts) * np.array(lights)).astype(np.uint8)
            elif name == "face_found":
                found[name] = np.ones((len(rows), 8), dtype=bool)
            else:
                walk = [np.random.default_rng(row).normal(size=(32, 2)).cumsum(axis=0) / 30 + 0.5 for row in rows]
                found[name] = np.where(np.arange(32)[:, None] % 11 == 5, np.nan, np.array(walk))
        return found

    channels = ("Pupil diameter left", "Pupil diameter right")
    return SimpleNamespace(clips=tuple(clips), read=read, channels=channels, frames=8)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with all sections, of clips one of which has a wicked name."""
    folder = tmp_path_factory.mktemp("report")
    clips = name_clips(12, 6)
    clips[3] = (WICKED, "P000")
    clips[4] = ("../../x", "P000")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(smad_models.dataset, "open_cache", lambda path: stand_in([clip for clip, _ in clips]))
        results = make_results(folder, clips, bad=(7, 20, 21))
        shown = {"show_clips": True, "show_faces": True, "synthetic": True, "cache": folder}
        write(results, folder / "report.html", title=f"A study {WICKED}", **shown, **everything(results))
    return folder / "report.html"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with start_browser() as started:
        yield started


@pytest.fixture(scope="module")
def desk(browser: Browser, report: Path) -> Iterator[Visit]:
    with visit(browser, report) as seen:
        yield seen


def test_it_loads_from_disk_asks_for_nothing_and_complains_of_nothing(desk: Visit, report: Path) -> None:
    assert [url for url in desk.requests if not url.startswith("data:")] == [report.as_uri()]
    assert desk.complaints == []
    assert desk.page.evaluate("[...document.images].length") > 60
    desk.page.locator("#faces").scroll_into_view_if_needed()
    assert desk.page.evaluate("document.querySelector('#faces ~ figure img').naturalWidth") == 6 * 112


def test_every_section_is_there_and_the_links_lead_to_them(desk: Visit) -> None:
    shown = desk.page.eval_on_selector_all("h2", "all => all.map(one => one.id)")
    assert shown == [name for name in SECTIONS if name != "unscored"]
    for name in shown:
        assert desk.page.locator(f"nav a[href='#{name}']").count() == 1
        assert desk.page.locator(f"section[aria-labelledby={name}]").is_visible()


def test_text_of_a_wicked_name_is_text(desk: Visit) -> None:
    assert desk.page.title() == f"A study {WICKED}"
    assert desk.page.locator("h1").inner_text() == f"A study {WICKED}"
    assert desk.page.locator("tbody.clip th", has_text=WICKED).count() == 1
    assert desk.page.locator("tbody.clip th", has_text="../../x").count() == 1
    assert "alert(1)</script>: no column" in desk.page.locator("[aria-labelledby=quality]").inner_text()
    assert desk.page.evaluate("document.scripts.length") == 1


def test_a_script_that_got_into_the_page_would_not_run(browser: Browser, report: Path, tmp_path: Path) -> None:
    text = report.read_text(encoding="utf-8")
    broken = tmp_path / "broken.html"
    broken.write_text(text.replace("<main>", "<main><script>window.ran = 1</script><img src=x onerror='ran = 1'>", 1))
    with visit(browser, broken) as seen:
        assert seen.page.evaluate("window.ran") is None
        assert any("Content Security Policy" in complaint for complaint in seen.complaints)


def column(page: Any, number: int) -> list[str]:
    return page.eval_on_selector_all(
        "#clip-table tbody tr:first-child", f"all => all.map(row => row.cells[{number}].innerText)"
    )


def test_columns_sort_up_down_and_back_by_number_with_the_undefined_last(desk: Visit) -> None:
    page = desk.page
    heads = page.locator("#clip-table thead th")
    sure = heads.nth(4)
    assert sure.inner_text().startswith("sure")
    before = column(page, 0)
    sure.locator("button").click()
    assert sure.get_attribute("aria-sort") == "ascending"
    values = [float(text) for text in column(page, 4)]
    assert values == sorted(values)
    assert len(values) == 69
    sure.locator("button").focus()
    page.keyboard.press("Enter")  # no mouse is needed
    assert sure.get_attribute("aria-sort") == "descending"
    values = [float(text) for text in column(page, 4)]
    assert values == sorted(values, reverse=True)
    sure.locator("button").click()
    assert sure.get_attribute("aria-sort") is None
    assert column(page, 0) == before

    board = page.locator("[aria-labelledby=scores] table.board").first
    published = board.locator("thead th").nth(4)
    for _ in ("ascending", "descending"):
        published.locator("button").click()
        texts = board.locator("tbody tr").evaluate_all("all => all.map(row => row.cells[4].innerText)")
        assert texts[-3:] == ["–"] * 3
        assert board.locator("tbody th").last.inner_text() != ""  # each row names its task once the order is another
    published.locator("button").click()


def test_the_search_box_finds_clips_and_says_how_many(desk: Visit) -> None:
    box, said = desk.page.get_by_label("Find clips"), desk.page.locator("#found")
    assert said.inner_text() == "69 of 69 clips"
    box.fill("p003_c0")
    shown = desk.page.locator("tbody.clip:visible th")
    assert said.inner_text() == f"{shown.count()} of 69 clips"
    assert set(shown.all_inner_texts()) <= {f"P003_C{number:02d}" for number in range(6)}
    box.fill("P003 zzz")
    assert said.inner_text() == "0 of 69 clips"
    box.fill("")
    assert said.inner_text() == "69 of 69 clips"


def test_a_clip_opens_to_its_traces_and_faces(desk: Visit) -> None:
    body = desk.page.locator("tbody.clip").nth(2)
    button, more = body.locator("button"), body.locator("tr.more")
    assert (button.get_attribute("aria-expanded"), more.is_visible()) == ("false", False)
    button.click()
    assert (button.get_attribute("aria-expanded"), more.is_visible()) == ("true", True)
    assert more.locator("svg").count() == 2
    assert more.locator("img").evaluate("async one => (await one.decode(), one.naturalWidth)") == 8 * 56
    button.click()
    assert not more.is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [DESKTOP, PHONE])
def test_nothing_is_wider_than_the_screen_and_a_picture_is_kept(
    browser: Browser, report: Path, width: int, scheme: Any
) -> None:
    with visit(browser, report, width=width, scheme=scheme) as seen:
        page = seen.page
        for one in page.locator("details").all():
            one.evaluate("one => one.open = true")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert paper == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(20, 24, 28)")
        ARTEFACTS.mkdir(exist_ok=True)
        page.screenshot(path=ARTEFACTS / f"report-{width}-{scheme}.png", full_page=True)


def test_print_shows_all_of_a_table_in_black_on_white(browser: Browser, report: Path) -> None:
    with visit(browser, report, scheme="dark") as seen:
        seen.page.emulate_media(media="print")
        assert not seen.page.locator("nav").is_visible()
        assert seen.page.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
        box = seen.page.locator(".tall").evaluate("one => [one.clientHeight, one.scrollHeight]")
        assert box[0] == box[1]
        ARTEFACTS.mkdir(exist_ok=True)
        seen.page.pdf(path=ARTEFACTS / "report.pdf", format="A4")
        assert (ARTEFACTS / "report.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.slow
def test_a_page_of_as_many_clips_as_the_database_is_small_and_still_sorts_and_finds(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = [pair for number, pair in enumerate(name_clips(121, 11)) if number < 1303 + 3]
    monkeypatch.setattr(smad_models.dataset, "open_cache", lambda path: stand_in([clip for clip, _ in clips]))
    results = make_results(tmp_path, clips)
    shown = {"show_clips": True, "show_faces": True, "cache": tmp_path}
    write(results, tmp_path / "report.html", **shown, **everything(results))
    size = (tmp_path / "report.html").stat().st_size
    assert 3e6 < size < 15e6
    write(results, tmp_path / "aggregates.html", **everything(results))
    assert (tmp_path / "aggregates.html").stat().st_size < 1e6
    with visit(browser, tmp_path / "report.html") as seen:
        assert seen.complaints == []
        seen.page.get_by_label("Find clips").fill("P118")
        assert seen.page.locator("#found").inner_text() == "8 of 1303 clips"
        seen.page.get_by_label("Find clips").fill("")
        seen.page.locator("#clip-table thead button").nth(4).click()
        values = [float(text) for text in column(seen.page, 4)]
        assert values == sorted(values)
        assert len(values) == 1303
        took = seen.page.evaluate(
            """() => {
                const head = document.querySelectorAll('#clip-table thead button')[5];
                const start = performance.now(); head.click(); document.body.offsetHeight;
                return performance.now() - start;
            }"""
        )
        print(f"{size / 1e6:.1f} MB; sorting 1,303 clips takes {took:.0f} ms")
