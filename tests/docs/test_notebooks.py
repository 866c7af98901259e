"""The notebooks are small, hold no results, and run from top to bottom, without a network."""

import json
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MOST_BYTES = 20_000


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebooks_are_small_and_hold_no_results(path: Path) -> None:
    assert path.stat().st_size <= MOST_BYTES
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    for cell in cells:
        if cell["cell_type"] == "code":
            assert not cell["outputs"]
            assert cell["execution_count"] is None
    assert cells[0]["source"][0].startswith("# ")


def test_each_notebook_is_linked_from_the_documentation() -> None:
    page = (ROOT / "docs/notebooks.md").read_text(encoding="utf-8")
    assert [p.name for p in NOTEBOOKS if f"notebooks/{p.name}" not in page] == []
    assert len(NOTEBOOKS) == 3


@pytest.mark.slow
@pytest.mark.docs
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebooks_run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("NOTEBOOK_STEPS", "2")
    monkeypatch.setenv("DETECTRON2_OFFLINE", "1")
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "cache"))
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(p for p in paths if p))
    book = nbformat.read(path, as_version=4)
    client = NotebookClient(
        book, timeout=3600, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    shown = [o for c in book.cells if c.cell_type == "code" for o in c.outputs]
    assert any("image/png" in o.get("data", {}) for o in shown) == (path.stem == "tutorial")
