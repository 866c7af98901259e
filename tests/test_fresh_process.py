"""What only a process shows that has imported nothing yet: one for all checks, since importing torch takes seconds."""

import os
import subprocess
import sys
from pathlib import Path

from detectron2 import model_zoo
from detectron2.config import LazyConfig

ROOT = Path(__file__).resolve().parents[1]

CHECKS = """
import importlib, importlib.util, pickle, sys

# torchvision waits until it is used
import detectron2.data, detectron2.modeling
assert "torchvision" not in sys.modules

# a saved config of the zoo needs no imports but its own
from detectron2.config import LazyConfig, instantiate
model = instantiate(LazyConfig.load(sys.argv[1]).model)
assert sum(p.numel() for p in model.parameters()) > 4e7

# ---- top-level names of the projects, although a file in this folder has one of them
from detectron2.projects import install_legacy_names
install_legacy_names()

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


def run(code: str, *words: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *words], cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_imports_configs_and_old_names(tmp_path: Path) -> None:
    (tmp_path / "tridentnet.py").write_text("")
    cfg = model_zoo.get_config("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.py")
    LazyConfig.save(cfg, str(tmp_path / "x.yaml"))
    done = run(CHECKS, str(tmp_path / "x.yaml"), folder=tmp_path)
    assert done.returncode == 0, done.stderr


def test_old_names_are_absent_before() -> None:
    assert "No module named 'tridentnet'" in run("import tridentnet").stderr


def test_another_package_that_has_an_old_name_already(tmp_path: Path) -> None:
    (tmp_path / "tridentnet.py").write_text("")
    code = "import tridentnet\nfrom detectron2.projects import install_legacy_names\ninstall_legacy_names()"
    assert "'tridentnet' is already imported" in run(code, folder=tmp_path).stderr
