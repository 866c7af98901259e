"""A reader finds the answer to each of the questions in the first three results of the site's own search."""

import functools
import http.server
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from .test_pages import DOCS, ROOT

QUESTIONS: dict[str, list[str]] = json.loads(
    (Path(__file__).parent / "questions.json").read_text(encoding="utf-8")
)
pytestmark = [pytest.mark.slow, pytest.mark.docs]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site that `make docs` has built, or one without the output of the pages' code."""
    built = ROOT / "site"
    index = built / "searchindex.js"
    if index.exists() and all(p.stat().st_mtime < index.stat().st_mtime for p in DOCS.rglob("*.md")):
        return built
    built = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-D", "nb_execution_mode=off", str(DOCS), str(built)]
    subprocess.run(command, check=True)
    return built


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(site))
    ) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_each_question_finds_its_page(address: str) -> None:
    assert len(QUESTIONS) >= 20
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with playwright.sync_playwright() as program:
        try:
            browser = program.chromium.launch(executable_path=chromium)
        except playwright.Error as error:
            pytest.skip(f"no browser here: {error}")
        page = browser.new_page()
        missed = {}
        for question, answers in QUESTIONS.items():
            page.goto(f"{address}/search.html?q={question.replace(' ', '+')}")
            page.wait_for_selector(
                "#search-results p.search-summary:has-text('found'), #search-results li", timeout=60000
            )
            page.wait_for_timeout(500)
            links = page.eval_on_selector_all(
                "#search-results li > a", "all => all.map(a => a.getAttribute('href'))"
            )
            pages = list(
                dict.fromkeys(link.split("?")[0].split("#")[0].removesuffix(".html") for link in links)
            )
            if not set(pages[:3]) & set(answers):
                missed[question] = pages[:5]
        browser.close()
    assert not missed
