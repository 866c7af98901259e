"""Keep the Korean pages in step with the English ones.

A Korean page names in its first line the English page that it was made from, and the start of a hash of it. When the
English page changes, read what changed (``git log -p`` of the page), change the Korean text, and renew the mark, which
also copies the code blocks::

    python tools/korean_pages.py                              # name the pages that are behind
    python tools/korean_pages.py docs/ko/tutorials/loading.md # renew one
"""

import argparse
import hashlib
import re
from pathlib import Path

__all__ = ["GLOSSARY", "PAGES", "ROOT", "Fence", "fences", "mark_of", "missing_mark", "renewed"]

ROOT = Path(__file__).resolve().parents[1]
TUTORIALS = (
    "own-data",
    "loading",
    "augmentation",
    "using-models",
    "writing-models",
    "training-loops",
    "evaluators",
    "yacs-configs",
    "lazy-configs",
    "deployment",
)
PAGES = {
    "README.ko.md": "README.md",
    **{
        f"docs/ko/{name}.md": f"docs/{name}.md"
        for name in ("index", "installing", "quickstart", "troubleshooting")
    },
    **{f"docs/ko/tutorials/{name}.md": f"docs/tutorials/{name}.md" for name in TUTORIALS},
}
"""Korean page -> English page, from the root of the checkout."""
GLOSSARY = "docs/ko/glossary.md"

_FENCE = re.compile(
    r"^(?P<ticks>```+)(?P<info>[^\n`]*)\n(?P<code>.*?)^(?P=ticks)[ ]*$", re.MULTILINE | re.DOTALL
)
# Directives whose content is a program; others (contents, notes, pictures) are text, and differ between languages.
_CODE = re.compile(r"\{(code|code-block|code-cell|doctest|ipython3)\}|[^{]|$")
_OPTIONS = re.compile(r"(---\n.*?^---\n|(:[\w-]+:[^\n]*\n)+\n*)", re.MULTILINE | re.DOTALL)

Fence = re.Match[str]


def fences(text: str) -> list[Fence]:
    """Find the code blocks of a page, whichever way its fences name the language; ``code_of`` returns the code."""
    return [m for m in _FENCE.finditer(text) if _CODE.match(m["info"].strip())]


def code_of(fence: Fence) -> str:
    """Return the code of a block without the options of a directive."""
    options = _OPTIONS.match(fence["code"]) if fence["info"].startswith("{") else None
    return fence["code"][options.end() if options else 0 :]


def mark_of(english: str) -> str:
    """Return the first line of a Korean page for the present state of its English page."""
    digest = hashlib.sha256((ROOT / english).read_bytes().replace(b"\r\n", b"\n")).hexdigest()
    return f"<!-- from {english} {digest[:12]} -->"


def missing_mark(korean: str) -> str:
    """Return what is to be done with a Korean page that is behind its English page; empty if nothing."""
    english = PAGES[korean]
    first = (ROOT / korean).read_text(encoding="utf-8").partition("\n")[0]
    if first == mark_of(english):
        return ""
    return (
        f"{english} has changed since {korean} was made from it. See what changed with `git log -p -3 {english}`, change "
        f"the Korean text, then renew its mark: python tools/korean_pages.py {korean}"
    )


def renewed(korean: str) -> str:
    """Return a Korean page with the code blocks and the mark of the English page.

    Raises:
        ValueError: the pages have different numbers of blocks, so that the text must be changed first.
    """
    english = (ROOT / PAGES[korean]).read_text(encoding="utf-8")
    text = (ROOT / korean).read_text(encoding="utf-8")
    wanted, found = fences(english), fences(text)
    if len(wanted) != len(found):
        raise ValueError(
            f"{korean} has {len(found)} code blocks and {PAGES[korean]} {len(wanted)}: add or remove blocks first"
        )
    for old, new in reversed(list(zip(found, wanted))):
        if code_of(old) != code_of(new):
            text = text[: old.start("code")] + code_of(new) + text[old.end("code") :]
    first, newline, rest = text.partition("\n")
    body = rest if first.startswith("<!-- from ") else first + newline + rest
    return f"{mark_of(PAGES[korean])}\n{body}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("page", nargs="*", help="Korean pages whose text is up to date")
    for page in parser.parse_args().page:
        if page not in PAGES:
            parser.error(f"{page!r} is not one of {', '.join(PAGES)}")
        text = renewed(page)
        (ROOT / page).write_text(text, encoding="utf-8", newline="\n")
    for problem in filter(None, map(missing_mark, PAGES)):
        print(problem)


if __name__ == "__main__":
    main()
