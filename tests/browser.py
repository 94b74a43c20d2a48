"""Debian's chromium without a screen, and what a page did in it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DESKTOP, PHONE = 1280, 390  # pixels across


@dataclass
class Visit:
    """An open page, and all that it asked for or complained of since."""

    page: Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


@contextmanager
def start_browser() -> Iterator[Browser]:
    """Start it, or skip the test where there is none."""
    if CHROMIUM is None:
        pytest.skip("needs a browser: apt-get install chromium")
    with sync_playwright() as driver:
        # As root, which CI is, it runs without its sandbox or not at all.
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def visit(
    browser: Browser, path: Path, *, width: int = DESKTOP, scheme: Literal["light", "dark"] = "light"
) -> Iterator[Visit]:
    """Open a file as a reader would by a double click."""
    height = 844 if width == PHONE else 900
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    seen = Visit(context.new_page())
    seen.page.on("request", lambda request: seen.requests.append(request.url))
    seen.page.on("console", lambda message: seen.complaints.append(f"{message.type}: {message.text}"))
    seen.page.on("pageerror", lambda error: seen.complaints.append(str(error)))
    seen.page.goto(path.resolve().as_uri())
    yield seen
    context.close()
