"""Configs of the projects resolve to the recorded values, and their models have the recorded parameters."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from detectron2.config import LazyConfig, get_cfg, instantiate
from detectron2.modeling import build_model
from detectron2.projects.deeplab import add_deeplab_config
from detectron2.projects.panoptic_deeplab import add_panoptic_deeplab_config
from detectron2.projects.point_rend import add_pointrend_config
from detectron2.projects.point_sup import add_point_sup_config
from detectron2.projects.tensormask import add_tensormask_config
from detectron2.projects.tridentnet import add_tridentnet_config

sys.path.insert(0, str(Path(__file__).parent))
from facts import PACKAGES, config_file, configs, differences, some_slow, state_dicts

ADD = {
    "DeepLab": [add_deeplab_config],
    "Panoptic-DeepLab": [add_panoptic_deeplab_config],
    "PointRend": [add_pointrend_config],
    "PointSup": [add_pointrend_config, add_point_sup_config],
    "TridentNet": [add_tridentnet_config],
    "TensorMask": [add_tensormask_config],
}
YAML = [name for name in configs("yaml") if name.split("/")[0] in ADD]
PYTHON = list(configs("python"))
QUICK = (
    "cascade_mask_rcnn_mvitv2_t_3x",
    "mask_rcnn_BNhead",
    "retinanet_SyncBNhead",
    "mask_rcnn_vitdet_b_100ep",
)


def flat(node: Any, prefix: str = "") -> dict[str, Any]:
    found = {}
    for key, value in node.items():
        found.update(flat(value, f"{prefix}{key}.") if hasattr(value, "items") else {prefix + key: value})
    return found


def project_cfg(project: str) -> Any:
    cfg = get_cfg()
    for add in ADD[project]:
        add(cfg)
    return cfg


def yaml_cfg(name: str) -> Any:
    cfg = project_cfg(name.split("/")[0])
    cfg.merge_from_file(config_file(name))
    return cfg


SMALL = [n for n in PYTHON if any(q in n for q in QUICK)]  # neither large models nor long chains of files


def test_counts() -> None:
    assert (len(YAML), len(PYTHON)) == (28, 38)
    assert {name.split("/")[0] for name in PYTHON} < set(PACKAGES)


@pytest.mark.parametrize("project", ADD)
def test_new_keys(project: str) -> None:
    cfg, before = project_cfg(project), flat(get_cfg())
    added = {k: v for k, v in flat(cfg).items() if k not in before or before[k] != v}
    assert (
        json.loads(json.dumps(added)) == configs("new_keys")["+".join(add.__name__ for add in ADD[project])]
    )


@pytest.mark.parametrize("name", YAML)
def test_yaml_config(name: str) -> None:
    cfg, known = yaml_cfg(name), flat(project_cfg(name.split("/")[0]))
    changed = {k: v for k, v in flat(cfg).items() if v != known[k]}
    assert json.loads(json.dumps(changed)) == configs("yaml")[name]


@pytest.mark.parametrize("name", some_slow(PYTHON, SMALL))
def test_python_config(name: str) -> None:
    cfg = LazyConfig.load(config_file(name))
    assert differences(OmegaConf.to_container(cfg, resolve=False), configs("python")[name]) == []


@pytest.mark.parametrize("name", some_slow(PYTHON, SMALL[::3]))
def test_python_config_can_be_saved(name: str, tmp_path: Path) -> None:
    """No target or function is out of reach of a program that loads the saved file."""
    cfg = LazyConfig.load(config_file(name))
    LazyConfig.save(cfg, str(tmp_path / "saved.yaml"))
    assert not (tmp_path / "saved.yaml.pkl").exists()
    again = LazyConfig.load(str(tmp_path / "saved.yaml"))
    assert set(again) == set(cfg)


@pytest.mark.parametrize(
    "name", some_slow([n for n in state_dicts() if n in YAML or n in PYTHON], YAML[::4] + SMALL[::3])
)
def test_state_dict(name: str) -> None:
    if name in YAML:
        cfg = yaml_cfg(name)
        cfg.MODEL.DEVICE = "meta"
    else:
        cfg = LazyConfig.load(config_file(name)).model
        for predictor in cfg.get("roi_heads", {}).get("box_predictors", []):
            predictor.pop("get_fed_loss_cls_weights", None)
            predictor.use_fed_loss = False  # its weights come from the annotations of LVIS
        if "box_predictor" in cfg.get("roi_heads", {}):
            cfg.roi_heads.box_predictor.use_fed_loss = False
    with torch.device("meta"):  # shapes only: no memory, no random numbers
        model = build_model(cfg) if name in YAML else instantiate(cfg)
    found = {key: list(value.shape) for key, value in model.state_dict().items()}
    want = {k: v for k, v in state_dicts()[name].items() if not k.endswith("fed_loss_cls_weights")}
    assert found == want
