"""docs/architecture.md and CONTRIBUTING.md name files and objects that exist."""

import ast
import re
import runpy
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "detectron2"


def walks() -> list[list[tuple[str, str]]]:
    """The (file, name) pairs of each walk."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    return [re.findall(r"\| `([\w/]+\.py):(\w+)` \|", part) for part in page.split("## Walk")[1:]]


def test_walks_are_short_and_true() -> None:
    found = walks()
    assert len(found) == 2
    for walk in found:
        assert 8 <= len(walk) <= 15
        for file, name in walk:
            tree = ast.parse((PACKAGE / file).read_text(encoding="utf-8"))
            defined = {n.name for n in tree.body if isinstance(n, (ast.FunctionDef, ast.ClassDef))}
            assert name in defined, f"{file} defines no {name}"


def test_layers_of_the_drawing_are_those_of_the_test() -> None:
    tiers = runpy.run_path(str(ROOT / "tests" / "test_layering.py"))["TIERS"]
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    drawing = page.split("```text")[1].split("```")[0]
    names = {name for tier in tiers for name in tier}
    place: dict[str, int] = {}
    for number, line in enumerate(drawing.splitlines()):
        words = re.findall(r"[a-z_]+", line)
        if words and names.issuperset(words):
            place.update(dict.fromkeys(words, number))
    for above, below in zip(reversed(tiers), list(reversed(tiers))[1:]):
        assert max(place[n] for n in above) < min(place[n] for n in below)


def test_places_for_new_things_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    places = set(re.findall(r"`((?:\w+/)+)(?:NAME|\w+\.py)", text)) | set(
        re.findall(r"`((?:\w+/)+\w+\.py)", text)
    )
    known = [p for p in places if "NAME" not in p]
    assert len(known) > 8
    for place in known:
        assert (PACKAGE / place).exists() or (ROOT / place).exists(), place
