"""Top-level names of the projects, each in an interpreter of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

START = "from detectron2.projects import install_legacy_names\ninstall_legacy_names()\n"


def run(code: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=folder
    )


@pytest.fixture(autouse=True)
def _same_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2]))


SAME = """
import importlib, importlib.util, pickle, sys

# the same modules under both names, whichever comes first
import tridentnet, detectron2.projects.tridentnet as full
assert tridentnet is full
import detectron2.projects.tensormask as full, tensormask
assert tensormask is full
from tridentnet.trident_conv import TridentConv as a
from detectron2.projects.tridentnet.trident_conv import TridentConv as b
assert a is b and a.__module__ == "detectron2.projects.tridentnet.trident_conv"
import tensormask.layers.swap_align2nat as one
assert one is sys.modules["detectron2.projects.tensormask.layers.swap_align2nat"]

# twice is once
before = list(sys.meta_path)
install_legacy_names()
assert sys.meta_path == before

# pickles by the old name
assert pickle.loads(b"ctensormask.arch\\nTensorMask\\n.") is tensormask.TensorMask

# modules still know their own names, so that they can be reloaded
import tridentnet.config as config
assert config.__spec__.name == "detectron2.projects.tridentnet.config"
assert importlib.reload(config) is config

# what is not there is not there
assert importlib.util.find_spec("tridentnet_other") is None
try:
    import tridentnet.nothing
except ModuleNotFoundError as error:
    assert error.name == "tridentnet.nothing"
else:
    raise AssertionError("found")
"""


def test_both_names_are_one_module() -> None:
    done = run(START + SAME)
    assert done.returncode == 0, done.stderr


def test_names_are_absent_before() -> None:
    assert "No module named 'tridentnet'" in run("import tridentnet").stderr


def test_another_package_of_that_name(tmp_path: Path) -> None:
    (tmp_path / "tridentnet.py").write_text("")
    done = run("import tridentnet\n" + START, tmp_path)
    assert "'tridentnet' is already imported" in done.stderr
    assert run(START + "import tridentnet\nassert tridentnet.TridentRPN", tmp_path).returncode == 0
