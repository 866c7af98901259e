"""The commands of all pages: each is understood, and runs on small data, unless a comment says why not."""

import re
import shlex
import shutil
from pathlib import Path

import pytest

from detectron2.cli import main
from detectron2.cli.arguments import parse

from .test_pages import ENGLISH, ROOT, extension

BLOCK = re.compile(r"(<!-- not run: [^>]+-->\n+)?^```(?:console|bash)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SMALL = "--model small.yaml --weights none --epochs 1 --batch-size 2 --workers 0 --device cpu".split()


def commands(page: Path, run: bool) -> list[list[str]]:
    """Return the words of each command of a page that runs, or of each that does not."""
    found = []
    for reason, block in BLOCK.findall(page.read_text(encoding="utf-8")):
        if bool(reason) != run:
            lines = block.replace("\\\n", " ").splitlines()
            found += [words for line in lines if (words := shlex.split(line, comments=True))]
    return found


SOURCES = [*ENGLISH, ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
RUN = [(p.relative_to(ROOT).as_posix(), words) for p in SOURCES for words in commands(p, run=True)]


def test_all_of_them_are_ours() -> None:
    """A block with a program of others, or of the machine, has to say why it is not run."""
    assert not [(page, words) for page, words in RUN if words[0] != "detectron2"]
    assert len(RUN) >= 8


@pytest.mark.parametrize("page", SOURCES, ids=lambda p: p.stem)
def test_they_are_understood(page: Path) -> None:
    for words in [*commands(page, run=True), *commands(page, run=False)]:
        if words[0] == "detectron2":
            parse(words[1:])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the pages speak of."""
    folder = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        small = extension("small")
        small.toys()
        small.run("runs/small")
        for name in ("shop", "parts/train"):
            shutil.copytree("toys", name)
        for name in ("ships", "crowd"):
            shutil.copy("toys/train.json", f"{name}.json")
            shutil.copytree("toys/train", name)  # images stand beside the labels
        shutil.copytree("toys/val", "photos")
        shutil.copy("toys/val/0001.jpg", "scene.jpg")
    return folder


@pytest.mark.slow
@pytest.mark.docs
@pytest.mark.parametrize("page", sorted({page for page, _ in RUN}))
def test_they_run(page: str, world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(world)
    for words in [w for p, w in RUN if p == page]:
        assert main(on_small_data(words[1:])) == 0, words


def on_small_data(words: list[str]) -> list[str]:
    """Replace what is large: the model of a training, and runs and images that only a reader has."""
    if words[0] == "train":
        known = [words.index("--model")] if "--model" in words else []
        words = [w for i, w in enumerate(words) if not known or i not in (known[0], known[0] + 1)]
        shutil.rmtree(
            words[words.index("--output") + 1] if "--output" in words else "none", ignore_errors=True
        )
        return [*words, *SMALL]
    runs = [w for w in words if w.startswith("runs/") and not Path(w).exists()]
    renamed = {"RUN": "runs/small", "scene.tif": "scene.jpg"} | dict.fromkeys(runs, "runs/small")
    return [renamed.get(w, w) for w in words]
