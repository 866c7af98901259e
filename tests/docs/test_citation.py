"""The citation names this version."""

from pathlib import Path

import yaml

from detectron2 import __version__

ROOT = Path(__file__).resolve().parents[2]


def test_citation_is_whole_and_of_this_version() -> None:
    entry = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors", "version", "license"} <= set(entry)
    assert entry["version"] == __version__
    assert "CITATION.cff" in (ROOT / "README.md").read_text(encoding="utf-8")
