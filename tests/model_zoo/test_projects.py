"""The zoo knows the projects' configs and weights by the names that they have in Detectron2."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from detectron2 import model_zoo
from detectron2.config import CfgNode, get_cfg
from detectron2.config.projects import PROJECTS, defaults_for, project_config_file
from detectron2.engine.run_config import load_run_config
from detectron2.model_zoo.listing import entries, find_config, rows
from detectron2.model_zoo.paths import config_names

ZOO = Path(__file__).resolve().parents[1] / "parity" / "zoo"
RECORDED: dict[str, Any] = json.loads((ZOO / "projects_configs.json").read_text())
MODELS: list[dict[str, Any]] = json.loads((ZOO / "projects_checkpoints.json").read_text())["models"]
NAMES = [*RECORDED["yaml"], *RECORDED["python"]]


# Projects beyond Detectron2's own; their configs have tests beside their models.
MODERN = {"DINO", "EVA-02", "Mask2Former", "MaskDINO"}


def plain(value: Any) -> Any:
    return json.loads(json.dumps(value))


def flat(node: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted keys and values, lists as they are."""
    found = {}
    for key, value in node.items():
        found.update(flat(value, f"{prefix}{key}.") if hasattr(value, "items") else {prefix + key: value})
    return found


def test_every_recorded_config_has_a_name() -> None:
    listed = {n for n in config_names() if "/configs/" in n and n.split("/")[0] not in MODERN}
    assert listed == set(NAMES)
    assert {n.split("/")[0] for n in (*RECORDED["yaml"], *RECORDED["python"])} == set(PROJECTS) - MODERN


@pytest.mark.parametrize("name", [n for n in NAMES if n.endswith(".yaml")])
def test_yaml_config_has_the_keys_of_its_project(name: str) -> None:
    cfg = model_zoo.get_config(name)
    defaults = flat(defaults_for(model_zoo.get_config_file(name)))
    changed = {k: v for k, v in flat(cfg).items() if k not in defaults or plain(v) != plain(defaults[k])}
    assert plain(changed) == RECORDED["yaml"][name]


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m["config"])
def test_weights(model: dict[str, Any]) -> None:
    assert model_zoo.get_checkpoint_url(model["config"]) == model["model"]
    assert model_zoo.get_checkpoint_url(model["config"].rsplit(".", 1)[0]) == model["model"]


@pytest.mark.parametrize("name", ["TridentNet/configs/tridentnet_fast_R_50_C4_1x.yaml", "ViTDet/configs/COCO/mask_rcnn_vitdet_b_100ep.py"])  # fmt: skip
def test_trained_config(name: str) -> None:
    cfg = model_zoo.get_config(name, trained=True)
    weights = cfg.MODEL.WEIGHTS if isinstance(cfg, CfgNode) else cfg.train.init_checkpoint
    assert weights == model_zoo.get_checkpoint_url(name)


def test_unknown_names() -> None:
    assert project_config_file("TridentNet/tridentnet_fast_R_50_C4_1x.yaml") is None
    with pytest.raises(ValueError, match="tridentnet_fast_R_50_C4_1x"):
        model_zoo.get_config("TridentNet/configs/tridentnet_fast_R50_C4_1x.yaml")
    with pytest.raises(ValueError, match="no weights were published"):
        model_zoo.get_checkpoint_url("PointSup/configs/mask_rcnn_R_50_FPN_3x_point_sup_coco.yaml")


def test_short_names() -> None:
    assert find_config("tensormask_R_50_FPN_1x") == "TensorMask/configs/tensormask_R_50_FPN_1x.yaml"
    with pytest.raises(ValueError, match="LVIS"):
        find_config("mask_rcnn_vitdet_b_100ep")  # there is one for COCO and one for LVIS


def test_listing() -> None:
    found = {e.path: e for e in entries("TensorMask")}
    assert set(found) == {f"TensorMask/configs/tensormask_R_50_FPN_{n}x.yaml" for n in (1, 6)}
    assert found["TensorMask/configs/tensormask_R_50_FPN_1x.yaml"].figures[:3] == (37.6, 32.4, "mask")
    row = rows(entries("ViTDet COCO mask_rcnn_vitdet_h", trained=True))[0]
    assert (row["box AP"], row["other AP"], row["train s/step"], row["test s/image"]) == (
        58.7,
        "51.0 mask",
        None,
        0.196,
    )
    assert not [e for e in entries() if "/common/" in e.path]
    assert {e.task for e in entries("pointrend_rcnn")} == {"instance segmentation"}
    for kind in ("panoptic", "semantic", "instance"):  # though all names of files say "mask"
        assert {e.task for e in entries(f"mask2former {kind}-segmentation")} == {f"{kind} segmentation"}


def test_files_of_runs_and_users(tmp_path: Path) -> None:
    """A saved config names its project by the keys that it has; a file beside the zoo's by those that it sets."""
    cfg = model_zoo.get_config("TridentNet/configs/tridentnet_fast_R_50_C4_1x.yaml")
    (tmp_path / "saved.yaml").write_text(cfg.dump())
    again = load_run_config(tmp_path / "saved.yaml", ["MODEL.TRIDENT.NUM_BRANCH", "2"]).cfg
    assert again.MODEL.TRIDENT.NUM_BRANCH == 2
    assert plain(flat(again)) == plain({**flat(cfg), "MODEL.TRIDENT.NUM_BRANCH": 2})
    assert plain(flat(defaults_for("my.yaml", {"SOLVER": {"BASE_LR": 1.0}}))) == plain(flat(get_cfg()))


def test_no_project_is_imported_without_need() -> None:
    code = (
        "import sys\nfrom detectron2 import model_zoo\nfrom detectron2.model_zoo.listing import entries\n"
        "model_zoo.get_config('COCO-Detection/rpn_R_50_FPN_1x.yaml'); entries()\n"
        "assert not [m for m in sys.modules if m.startswith('detectron2.projects.')]"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
