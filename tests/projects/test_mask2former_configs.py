"""Configs of Mask2Former resolve to the recorded values, models have the recorded parameters, data sets their metadata."""

from __future__ import annotations

import gzip
import json
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from detectron2 import model_zoo
from detectron2.config import get_cfg
from detectron2.config.projects import defaults_for, project_config_names
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.model_zoo.project_checkpoints import PROJECT_WEIGHTS
from detectron2.modeling import build_model
from detectron2.projects.deeplab import add_deeplab_config
from detectron2.projects.mask2former import add_maskformer2_config
from detectron2.utils.registry import locate

sys.path.insert(0, str(Path(__file__).parent))
from _mask2former_models import CONFIGS, PANOPTIC, SEMANTIC, config

PARITY = Path(__file__).resolve().parents[1] / "parity"
ZOO = PARITY / "zoo"
NAME = "mask2former"


@cache
def recorded() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ZOO / "modern_configs.json").read_text())
    return found


def of_this_project(records: dict[str, Any]) -> dict[str, Any]:
    return {k.removeprefix(f"{NAME}/"): v for k, v in records.items() if k.startswith(f"{NAME}/")}


@cache
def state_dicts() -> dict[str, dict[str, list[int]]]:
    groups = json.loads(gzip.decompress((ZOO / "modern_state_dicts.json.gz").read_bytes()))
    return of_this_project({c: dict(g["state_dict"]) for g in groups for c in g["configs"]})


YAML = of_this_project(recorded()["yaml"])
BUILT = sorted(state_dicts())
QUICK = (PANOPTIC, SEMANTIC)


def flat(node: Any, prefix: str = "") -> dict[str, Any]:
    found = {}
    for key, value in node.items():
        found.update(flat(value, f"{prefix}{key}.") if hasattr(value, "items") else {prefix + key: value})
    return found


def defaults() -> Any:
    cfg = get_cfg()
    add_deeplab_config(cfg)
    return cfg


def test_new_keys() -> None:
    before, cfg = flat(defaults()), defaults()
    add_maskformer2_config(cfg)
    added = {k: v for k, v in flat(cfg).items() if k not in before or before[k] != v}
    wanted = recorded()["new_keys"]["add_maskformer2_config"]
    assert json.loads(json.dumps(added)) == {k: v for k, v in wanted.items() if before.get(k, object()) != v}
    assert all(flat(cfg)[k] == v for k, v in wanted.items())


def test_all_configs_are_here() -> None:
    files = {str(p.relative_to(CONFIGS)) for p in CONFIGS.rglob("*.yaml") if not p.name.startswith("_")}
    assert files == set(YAML) and len(files) == 57
    names = {n for n in project_config_names() if n.startswith("Mask2Former/")}
    assert names == {f"Mask2Former/configs/{f}" for f in files}


@pytest.mark.parametrize("name", YAML)
def test_yaml_config(name: str) -> None:
    cfg = defaults()
    add_maskformer2_config(cfg)
    known = flat(cfg)
    changed = {k: v for k, v in flat(config(name, small=False)).items() if v != known[k]}
    assert json.loads(json.dumps(changed)) == YAML[name]


@pytest.mark.parametrize(
    "name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in BUILT]
)
def test_state_dict(name: str) -> None:
    with torch.device("meta"):  # shapes only: no memory, no random numbers
        model = build_model(config(name, "MODEL.DEVICE", "meta", small=False))
    assert {k: list(v.shape) for k, v in model.state_dict().items()} == state_dicts()[name]


def test_saved_configs_are_known_again(tmp_path: Path) -> None:
    cfg = config(PANOPTIC)
    cfg.OUTPUT_DIR = str(tmp_path)
    path = tmp_path / "config.yaml"
    path.write_text(cfg.dump())
    again = defaults_for(str(path), {"MODEL": {"MASK_FORMER": {}}})
    again.merge_from_file(str(path))
    assert json.dumps(flat(again)) == json.dumps(flat(cfg))


def test_zoo_knows_the_models() -> None:
    cfg = model_zoo.get_config(f"Mask2Former/configs/{PANOPTIC}")
    assert cfg.MODEL.META_ARCHITECTURE == "MaskFormer"
    records = json.loads((ZOO / "modern_checkpoints.json").read_text())["checkpoints"]
    wanted = {r["config"].removesuffix(".yaml"): r["url"] for r in records if r["project"] == NAME}
    found = {k: v for k, v in PROJECT_WEIGHTS.items() if k.startswith("Mask2Former/")}
    assert {k.replace("Mask2Former/configs", NAME): v for k, v in found.items()} == wanted


def test_old_dotted_paths() -> None:
    api = json.loads((PARITY / "api_modern.json").read_text())
    for old, new in api["aliases"][NAME].items():
        assert locate(old) is locate(new), old
    registries = api["registries"][NAME]
    from detectron2.modeling import BACKBONE_REGISTRY, META_ARCH_REGISTRY, SEM_SEG_HEADS_REGISTRY

    optional = {
        "BasePixelDecoder",
        "PerPixelBaselineHead",
        "PerPixelBaselinePlusHead",
        "TransformerEncoderPixelDecoder",
    }
    here = {
        "BACKBONE_REGISTRY": BACKBONE_REGISTRY,
        "META_ARCH_REGISTRY": META_ARCH_REGISTRY,
        "SEM_SEG_HEADS_REGISTRY": SEM_SEG_HEADS_REGISTRY,
    }
    for name, registry in here.items():
        assert set(registries[name]) - optional <= {entry for entry, _ in registry}


def test_metadata_of_the_data_sets() -> None:
    records = json.loads(gzip.decompress((ZOO / "modern_metadata.json.gz").read_bytes()))["datasets"][NAME]
    assert len(records) == 14
    for name, wanted in records.items():
        assert name in DatasetCatalog
        meta = MetadataCatalog.get(name)
        for key, value in wanted.items():
            found = meta.get(key)
            if isinstance(found, dict):
                found = {str(k): v for k, v in found.items()}
            if isinstance(found, str) and "/" in found:
                found = found[found.index("datasets/") :] if "datasets/" in found else found
            assert json.loads(json.dumps(found)) == value, f"{name}: {key}"
