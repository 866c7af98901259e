"""`parity_ledger.py`: the table in `docs/parity.md` is that of today's code."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from detectron2 import model_zoo
from detectron2.config import get_cfg
from detectron2.data.catalog import forget
from detectron2.data.datasets import register_coco_instances
from detectron2.modeling import build_model

ROOT = Path(__file__).parents[2]
QUICK = (
    "COCO-Detection/retinanet_R_50_FPN_1x",
    "PointRend/configs/InstanceSegmentation/pointrend_rcnn_R_50_FPN_1x_coco",
    "MViTv2/configs/cascade_mask_rcnn_mvitv2_t_3x",
    "DensePose/configs/cse/densepose_rcnn_R_50_FPN_s1x",
)


def _ledger() -> ModuleType:
    spec = importlib.util.spec_from_file_location("parity_ledger", ROOT / "tools/parity_ledger.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["parity_ledger"] = module
    spec.loader.exec_module(module)
    return module


ledger = _ledger()
ROWS = {
    line.split(" | ")[0][2:]: line for line in ledger.DOCUMENT.read_text().splitlines() if "--run" in line
}
SLOW = [pytest.param(n, marks=pytest.mark.slow) for n in ledger.NAMES if n not in QUICK]


def test_every_checkpoint_has_its_row():
    assert [name for name in ledger.NAMES if name not in ROWS] == []
    assert len(ledger.NAMES) >= 150
    known = {p.stem for p in (ledger.PACK / "goldens").glob("*.npz")}
    assert {case for name in ledger.NAMES for case in ledger.coverage(name)[0]} <= known


@pytest.mark.parametrize("name", [*QUICK, *SLOW])
def test_row_is_that_of_today(name):
    assert ledger.row(name, json.loads(ledger.OUTCOMES.read_text())) == ROWS[name]
    assert "| resolves | equal (" in ROWS[name] or "| resolves | not recorded |" in ROWS[name]


def test_cells_say_what_is_wrong(monkeypatch):
    name = "COCO-Detection/retinanet_R_50_FPN_1x"
    cases = ledger.coverage(name)[0]
    assert ledger.golden(name, {}) == "not run"
    assert ledger.golden(name, {cases[0]: "ok", cases[1]: "FAIL"}) == f"differ: {cases[1]}"
    wanted = {**ledger.recorded()[f"{name}.yaml"], "more": [1]}
    monkeypatch.setattr(ledger, "recorded", lambda: {f"{name}.yaml": wanted})
    assert ledger.checked(name) == ("resolves", "1 entries differ")
    monkeypatch.setattr(ledger, "recorded", dict)
    assert ledger.checked(name) == ("resolves", "not recorded")
    monkeypatch.setattr(ledger, "structure", lambda cfg: 1 / 0)
    assert ledger.checked(name) == ("fails: ZeroDivisionError", "not built")


def test_a_checkpoint_is_evaluated(monkeypatch, datasets_root, tiny_yaml, tmp_path):
    """With a tiny model in place of the published one, on drawn pictures."""
    labels = datasets_root / "coco/annotations/instances_val2017_100.json"
    register_coco_instances("ledger", {}, str(labels), str(datasets_root / "coco/val2017"))

    def config(path, trained):
        assert trained
        cfg = get_cfg()
        cfg.merge_from_file(str(tiny_yaml))
        cfg.OUTPUT_DIR, cfg.DATASETS.TEST = str(tmp_path), ("ledger",)
        return cfg

    monkeypatch.setattr(model_zoo, "get_config", config)
    monkeypatch.setattr(model_zoo, "get", lambda path, trained: build_model(config(path, trained)))
    try:
        found = ledger.evaluate("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x")
    finally:
        forget("ledger")
    assert set(found) == {"bbox AP", "segm AP"} and all(0 <= v <= 100 for v in found.values())


def test_without_data_nothing_is_run(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["parity_ledger.py", "--run", "COCO-Detection/retinanet_R_50_FPN_1x"])
    assert ledger.main() == 1
    assert "not run here: data set 'coco_2017_val'" in capsys.readouterr().out
