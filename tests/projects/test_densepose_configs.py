"""DensePose's configs resolve to the recorded values, and their models have the recorded parameters."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from detectron2.config import get_cfg
from detectron2.modeling import build_model
from detectron2.projects.densepose import add_densepose_config
from detectron2.projects.densepose.config import get_bootstrap_dataset_config

sys.path.insert(0, str(Path(__file__).parent))
from facts import config_file, configs, state_dicts

YAML = [name for name in configs("yaml") if name.startswith("DensePose/")]
QUICK = (
    "densepose_rcnn_R_50_FPN_s1x_legacy",
    "densepose_rcnn_R_50_FPN_DL_WC2M_s1x",
    "soft_animals_I0_finetune_m2m",
    "HRNet_w32_s1x",
)


def flat(node: Any, prefix: str = "") -> dict[str, Any]:
    """Leaves and empty nodes by dotted name."""
    found = {}
    for key, value in node.items():
        name = f"{prefix}{key}"
        found.update(flat(value, f"{name}.") if hasattr(value, "items") and value else {name: value})
    return found


def default_cfg() -> Any:
    cfg = get_cfg()
    add_densepose_config(cfg)
    return cfg


def yaml_cfg(name: str) -> Any:
    cfg = default_cfg()
    cfg.merge_from_file(config_file(name))
    return cfg


def changes(cfg: Any, base: Any) -> Any:
    before = flat(base)
    changed = {k: v for k, v in flat(cfg).items() if k not in before or before[k] != v}
    return json.loads(json.dumps(changed))


def test_all_files_are_recorded() -> None:
    folder = Path(config_file("DensePose/configs"))
    files = {f"DensePose/configs/{p.relative_to(folder).as_posix()}" for p in folder.rglob("*.yaml")}
    assert files == set(YAML)
    assert len(YAML) == 61


def test_new_keys() -> None:
    new = configs("new_keys")
    assert changes(default_cfg(), get_cfg()) == new["add_densepose_config"]
    entry = json.loads(json.dumps(flat(get_bootstrap_dataset_config())))
    assert {k: v for k, v in entry.items() if v != {}} == {
        k: v for k, v in new["densepose.get_bootstrap_dataset_config()"].items() if v != {}
    }


@pytest.mark.parametrize("name", YAML)
def test_config(name: str) -> None:
    assert changes(yaml_cfg(name), default_cfg()) == configs("yaml")[name]


@pytest.mark.parametrize(
    "name",
    [
        n if any(q in n for q in QUICK) else pytest.param(n, marks=pytest.mark.slow)
        for n in YAML
        if n in state_dicts()
    ],
)
def test_state_dict(name: str) -> None:
    cfg = yaml_cfg(name)
    cfg.MODEL.DEVICE = "meta"
    for spec in cfg.MODEL.ROI_DENSEPOSE_HEAD.CSE.EMBEDDERS.values():
        spec.INIT_FILE = ""  # an address, and the values do not matter
    with torch.device("meta"):  # shapes only: no memory, no random numbers
        model = build_model(cfg)
    found = {key: list(value.shape) for key, value in model.state_dict().items()}
    assert found == state_dicts()[name]
    assert list(found) == list(state_dicts()[name])
