"""The Korean pages: each has the code of its English page, and says from which state of it it was made."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


def _tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("korean_pages", ROOT / "tools/korean_pages.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tool = _tool()
HANGUL = re.compile("[가-힣]")


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", tool.PAGES)
def test_the_english_page_has_not_changed_since(page: str) -> None:
    problem = tool.missing_mark(page)
    assert not problem, problem


@pytest.mark.parametrize("page", tool.PAGES)
def test_the_code_is_that_of_the_english_page(page: str) -> None:
    korean, english = ([tool.code_of(f) for f in tool.fences(read(p))] for p in (page, tool.PAGES[page]))
    for number, (ours, theirs) in enumerate(zip(korean, english), 1):
        assert ours == theirs, (
            f"{page}: block {number} differs; copy it with python tools/korean_pages.py {page}"
        )
    assert len(korean) == len(english)


@pytest.mark.parametrize("page", [*tool.PAGES, tool.GLOSSARY])
def test_the_text_is_korean(page: str) -> None:
    """No paragraph was left in English, apart from code, tables of names, links and texts of the package."""
    text = read(page)
    for fence in reversed(tool.fences(text)):
        text = text[: fence.start()] + text[fence.end() :]
    text = re.sub(
        r"<!--.*?-->|^:::.*?^:::|^```.*?^```|^#.*$|^\|.*$", "", text, flags=re.MULTILINE | re.DOTALL
    )
    left = [p.strip() for p in re.split(r"\n\s*\n", text) if p.strip() and not HANGUL.search(p)]
    assert not [p for p in left if not p.startswith(("![", "<", "*", "["))], left


def test_all_pages_are_in_the_contents() -> None:
    index = read("docs/ko/index.md")
    pages = [
        p.removeprefix("docs/ko/").removesuffix(".md") for p in [*tool.PAGES, tool.GLOSSARY] if "/ko/" in p
    ]
    contents = [
        line for block in re.findall(r"```\{toctree\}\n(.*?)```", index, re.DOTALL) for line in block.split()
    ]
    assert set(pages) - {"index"} == {c for c in contents if c in pages}
    assert "ko/index" in read("docs/index.md")
    files = {p.relative_to(ROOT).as_posix() for p in (ROOT / "docs/ko").rglob("*.md")}
    assert files == {p for p in [*tool.PAGES, tool.GLOSSARY] if p.startswith("docs/")}


def test_the_readmes_lead_to_each_other() -> None:
    assert "README.ko.md" in "\n".join(read("README.md").splitlines()[:12])
    assert "(README.md)" in read("README.ko.md")
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", read("README.ko.md"))
    assert links and not [link for link in links if not (ROOT / link).exists()]


def test_texts_of_errors_stay_english() -> None:
    """Headings of the page on errors are what a reader sees on the screen, unless they describe a symptom."""
    ours, theirs = (
        re.findall(r"^### (.+)$", read(p), re.MULTILINE)
        for p in ("docs/ko/troubleshooting.md", "docs/troubleshooting.md")
    )
    assert len(ours) == len(theirs)
    translated = [(k, e) for k, e in zip(ours, theirs) if k != e]
    assert all(HANGUL.search(k) and "…" not in e for k, e in translated)
    assert len(translated) <= len(theirs) // 3


def test_code_is_compared_whatever_its_fence() -> None:
    plain = "```python\nx = 1\n```\n\n```{toctree}\na\n```\n\n```\n$ ls\n```\n"
    cell = "```{code-cell} python\n:tags: [hide-output]\n\nx = 1\n```\n\n```console\n$ ls\n```\n"
    assert (
        [tool.code_of(f) for f in tool.fences(plain)]
        == [tool.code_of(f) for f in tool.fences(cell)]
        == ["x = 1\n", "$ ls\n"]
    )


def test_a_page_is_renewed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tool, "ROOT", tmp_path)
    monkeypatch.setattr(tool, "PAGES", {"ko.md": "en.md"})
    (tmp_path / "en.md").write_text("# A\n\n```python\nnew = 1\n```\n")
    (tmp_path / "ko.md").write_text(
        "<!-- from en.md 0 -->\n# 가\n\n```python\nold = 1\n```\n", encoding="utf-8"
    )
    assert "python tools/korean_pages.py ko.md" in tool.missing_mark("ko.md")
    (tmp_path / "ko.md").write_text(tool.renewed("ko.md"), encoding="utf-8")
    assert tool.missing_mark("ko.md") == ""
    assert (tmp_path / "ko.md").read_text(encoding="utf-8").endswith("# 가\n\n```python\nnew = 1\n```\n")
    (tmp_path / "en.md").write_text("# A\n")
    with pytest.raises(ValueError, match="1 code blocks"):
        tool.renewed("ko.md")
