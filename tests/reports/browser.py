"""Pages in a real browser."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")

# Elements that stick out of the page, except within a part that scrolls.
STICKING_OUT = """[...document.querySelectorAll("main *")].filter(e => e.getClientRects().length
    && !e.closest(".scroll, pre, svg") && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 200))"""


@contextmanager
def opened(path: Path, width: int, scheme: str = "light") -> Iterator[Any]:
    """A page that fits its width, raises no error and asks for no other file."""
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": 844}, color_scheme=scheme)
        asked: list[str] = []
        errors: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(path.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert page.evaluate(STICKING_OUT) == []
        yield page
        assert not errors
        assert [url for url in asked if not url.startswith("data:")] == [path.as_uri()]
        browser.close()
