"""Pages: what they link to, that all are in the contents, and how the build takes them as notebooks.

The build itself runs the Python blocks (``make docs``); ``test_console.py`` runs the commands.
"""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from detectron2 import model_zoo

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [
    p for p in sorted(DOCS.rglob("*.md")) if p.relative_to(DOCS).parts[0] not in ("dev", "jupyter_execute")
]
ENGLISH = [p for p in PAGES if p.relative_to(DOCS).parts[0] != "ko"]


def extension(name: str) -> ModuleType:
    """Import a module of ``docs/_ext``."""
    spec = importlib.util.spec_from_file_location(name, DOCS / "_ext" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_each_page_is_in_the_contents() -> None:
    listed = set()
    for page in PAGES:
        for block in re.findall(r"```\{toctree\}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
            listed |= {(page.parent / line).resolve() for line in block.split() if not line.startswith(":")}
    missing = [str(p.relative_to(DOCS)) for p in PAGES if p.with_suffix("").resolve() not in listed]
    assert missing == ["index.md"]


def test_links_between_pages_exist() -> None:
    broken = []
    for page in PAGES:
        text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        for target, anchor in re.findall(r"\]\(([^)#:\s]*)(?:#([^)]*))?\)", text):
            other = (page.parent / target) if target else page
            if not other.exists():
                broken.append(f"{page.relative_to(ROOT)}: {target}")
            elif anchor and other.suffix == ".md" and anchor not in anchors(other):
                broken.append(f"{page.relative_to(ROOT)}: {target}#{anchor}")
    assert not broken


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as code hosts make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


def test_headings_of_the_troubleshooting_page_are_texts_of_the_package() -> None:
    """Parts between ellipses must stand in the code, as one string, in spite of line breaks."""
    code = "".join(p.read_text(encoding="utf-8") for p in (ROOT / "detectron2").rglob("*.py"))
    code = re.sub(r'"\n\s+f?"', "", code)
    page = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
    symptoms = {"The loss becomes NaN", "AP is 0", "Out of memory", "Boxes lie beside the objects"}
    symptoms |= {"Colours look wrong, or the model finds nothing in good pictures"}
    for heading in re.findall(r"^### (.+)$", page, re.MULTILINE):
        if heading in symptoms:
            continue
        for part in heading.split("…"):
            part = part.strip().strip("'")
            assert part in code, f"{heading!r}: {part!r}"


def test_a_page_becomes_a_notebook() -> None:
    read = extension("pages").read
    page = (
        "# Title\n\nText.\n\n<!-- setup\nx = 1\n-->\n\n```python\ny = x\n```\n\n<!-- not run: why -->\n"
        "```python\nbroken(\n```\n\nMore.\n\n<!-- picture: a.jpg -->\n"
    )
    title, first, setup, code, text, picture = read(page).cells
    assert title.source.startswith("# Title") and 'simplefilter("error")' in first.source
    assert (setup.source, setup.metadata.tags) == ("x = 1", ["remove-cell"])
    assert code.source == "y = x" and "broken(" in text.source and text.cell_type == "markdown"
    assert "a.jpg" in picture.source and picture.metadata.tags == ["remove-input"]


def test_only_blocks_with_a_reason_are_not_run() -> None:
    part = extension("pages").PART
    for page in ENGLISH:
        text = page.read_text(encoding="utf-8")
        found = sum(1 for m in part.finditer(text) if m["code"])
        assert found == len(re.findall(r"^```python$", text, re.MULTILINE)), page
        for reason in re.findall(r"<!-- not run:(.*?)-->", text):
            assert len(reason.split()) >= 1, page


@pytest.mark.parametrize("page", ["README.md", "docs/index.md"])
def test_the_first_lines_of_python_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a small model of random weights, since the published ones are a download."""
    text = (ROOT / page).read_text(encoding="utf-8")
    code = next(m["code"] for m in extension("pages").PART.finditer(text) if m["code"])
    assert len(code.strip().splitlines()) <= 10
    small = extension("small")
    monkeypatch.setattr(model_zoo, "get_config", lambda name, trained: small.config())
    monkeypatch.chdir(tmp_path)
    small.toys(train=1, val=0)
    (tmp_path / "toys/train/0001.jpg").rename("street.jpg")
    exec(compile(code, page, "exec"), {})
