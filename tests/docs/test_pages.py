"""The Python blocks of each page run, top to bottom, as a reader would paste them."""

import os
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import matplotlib
import pytest

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import (
    BACKBONE_REGISTRY,
    META_ARCH_REGISTRY,
    ROI_HEADS_REGISTRY,
)

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs/tutorials").rglob("*.md"))
# A comment above a block says why it is not run.
BLOCK = re.compile(r"(<!-- not run: [^>]+-->\n+)?^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> list[tuple[int, str]]:
    """Return line number and code of each block to run."""
    text = page.read_text(encoding="utf-8")
    return [(text.count("\n", 0, m.start(2)) + 1, m[2]) for m in BLOCK.finditer(text) if not m[1]]


@pytest.fixture
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder; what a page registers is forgotten after it."""
    monkeypatch.chdir(tmp_path)
    matplotlib.use("Agg")
    names = set(DatasetCatalog.list())
    registries = (BACKBONE_REGISTRY, META_ARCH_REGISTRY, ROI_HEADS_REGISTRY)
    known = [set(dict(iter(r))) for r in registries]
    yield tmp_path
    for name in set(DatasetCatalog.list()) - names:
        DatasetCatalog.remove(name)
        if name in MetadataCatalog.list():
            MetadataCatalog.remove(name)
    for registry, before in zip(registries, known):
        for name in set(dict(iter(registry))) - before:
            del registry._obj_map[name]


@pytest.mark.slow
@pytest.mark.docs
@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_blocks_run(page: Path, clean: Path) -> None:
    found = blocks(page)
    assert found, f"{page.name} shows no code"
    names: dict[str, object] = {"__name__": "__page__"}
    for line, code in found:
        padded = "\n" * (line - 1) + code  # so that a traceback names the line of the page
        with warnings.catch_warnings():
            exec(compile(padded, os.fspath(page), "exec"), names)


def test_each_page_is_in_the_contents() -> None:
    index = (ROOT / "docs/index.md").read_text(encoding="utf-8")
    missing = [p.stem for p in PAGES if f"tutorials/{p.stem}" not in index]
    assert not missing


def test_links_between_pages_exist() -> None:
    broken = []
    for page in (ROOT / "docs").rglob("*.md"):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if not (page.parent / target).exists():
                broken.append(f"{page.relative_to(ROOT)}: {target}")
    assert not broken


def test_headings_of_the_troubleshooting_page_are_texts_of_the_package() -> None:
    """Parts between ellipses must stand in the code, as one string, in spite of line breaks."""
    code = "".join(p.read_text(encoding="utf-8") for p in (ROOT / "detectron2").rglob("*.py"))
    code = re.sub(r'"\n\s+f?"', "", code)
    page = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")
    symptoms = {"The loss becomes NaN", "AP is 0", "Out of memory", "Boxes lie beside the objects"}
    symptoms |= {"Colours look wrong, or the model finds nothing in good pictures"}
    for heading in re.findall(r"^### (.+)$", page, re.MULTILINE):
        if heading in symptoms:
            continue
        for part in heading.split("…"):
            part = part.strip().strip("'")
            assert part in code, f"{heading!r}: {part!r}"
