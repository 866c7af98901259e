"""The upload page in a real browser."""

import shutil
from pathlib import Path

import pytest

from .conftest import picture

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_a_picture_is_uploaded_and_drawn(client, tmp_path: Path, width: int) -> None:
    sync_api = pytest.importorskip("playwright.sync_api")
    (tmp_path / "photo.jpg").write_bytes(picture(0, 96, 128))
    (tmp_path / "broken.jpg").write_bytes(b"nothing")
    home = f"http://127.0.0.1:{client.port}/"
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": 800})
        asked, errors = [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(home)
        page.locator("#scores").fill("0")  # a model of random weights is not sure of anything
        page.set_input_files("#file", tmp_path / "photo.jpg")
        page.wait_for_selector("#objects:not([hidden])")
        assert (
            page.evaluate("document.querySelector('#drawn').decode().then(() => drawn.naturalWidth)") == 128
        )
        rows = page.locator("#objects tbody tr")
        assert rows.count() > 0 and "objects" in page.inner_text("#status")
        page.set_input_files("#file", tmp_path / "broken.jpg")
        page.wait_for_selector("#status.error")
        assert "not a picture" in page.inner_text("#status")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.goto(f"{home}docs")
        page.wait_for_selector("h2")
        assert "POST /predict" in page.inner_text("#routes")
        assert not errors
        assert all(url.startswith((home, "blob:")) for url in asked)
        browser.close()
