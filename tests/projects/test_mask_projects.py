"""Mask2Former and MaskDINO: configs resolve to the recorded values, models have the recorded parameters, data sets their
metadata, and old paths find what took their place."""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from detectron2 import model_zoo
from detectron2.config import CfgNode, get_cfg
from detectron2.config.projects import project_config_names
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.engine.run_config import YacsRunConfig, load_run_config
from detectron2.model_zoo.project_checkpoints import PROJECT_WEIGHTS
from detectron2.modeling import (
    BACKBONE_REGISTRY,
    META_ARCH_REGISTRY,
    SEM_SEG_HEADS_REGISTRY,
    build_model,
)
from detectron2.projects.deeplab import add_deeplab_config
from detectron2.projects.mask2former import add_maskformer2_config
from detectron2.projects.maskdino import add_maskdino_config
from detectron2.utils.registry import locate

sys.path.insert(0, str(Path(__file__).parent))
import _mask2former_models as mask2former
import _maskdino_models as maskdino

PARITY = Path(__file__).resolve().parents[1] / "parity"
ZOO = PARITY / "zoo"


class Project(NamedTuple):
    zoo: str
    meta_arch: str
    key: str
    add_config: Callable[[CfgNode], None]
    configs: Path
    config: Callable[..., CfgNode]
    count: int
    quick: tuple[str, ...]


PROJECTS = {
    "mask2former": Project(
        "Mask2Former",
        "MaskFormer",
        "MASK_FORMER",
        add_maskformer2_config,
        mask2former.CONFIGS,
        mask2former.config,
        57,
        (mask2former.PANOPTIC, mask2former.SEMANTIC),
    ),
    "maskdino": Project(
        "MaskDINO",
        "MaskDINO",
        "MaskDINO",
        add_maskdino_config,
        maskdino.CONFIGS,
        maskdino.config,
        18,
        (maskdino.INSTANCE, maskdino.SEMANTIC),
    ),
}


def of(records: dict[str, Any], name: str) -> dict[str, Any]:
    return {k.removeprefix(f"{name}/"): v for k, v in records.items() if k.startswith(f"{name}/")}


@cache
def recorded() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ZOO / "modern_configs.json").read_text())
    return found


@cache
def state_dicts(name: str) -> dict[str, dict[str, list[int]]]:
    groups = json.loads(gzip.decompress((ZOO / "modern_state_dicts.json.gz").read_bytes()))
    return of({c: dict(g["state_dict"]) for g in groups for c in g["configs"]}, name)


YAML = [(name, path) for name in PROJECTS for path in of(recorded()["yaml"], name)]
BUILT = [
    pytest.param(name, path, marks=() if path in project.quick else pytest.mark.slow)
    for name, project in PROJECTS.items()
    for path in sorted(state_dicts(name))
]
by_project = pytest.mark.parametrize("name", PROJECTS)


def flat(node: Any, prefix: str = "") -> dict[str, Any]:
    found = {}
    for key, value in node.items():
        found.update(flat(value, f"{prefix}{key}.") if hasattr(value, "items") else {prefix + key: value})
    return found


def defaults() -> Any:
    cfg = get_cfg()
    add_deeplab_config(cfg)
    return cfg


@by_project
def test_new_keys(name: str) -> None:
    before, cfg = flat(defaults()), defaults()
    PROJECTS[name].add_config(cfg)
    added = {k: v for k, v in flat(cfg).items() if k not in before or before[k] != v}
    wanted = recorded()["new_keys"][PROJECTS[name].add_config.__name__]
    assert json.loads(json.dumps(added)) == {k: v for k, v in wanted.items() if before.get(k, object()) != v}
    assert all(flat(cfg)[k] == v for k, v in wanted.items())


@by_project
def test_all_configs_are_here(name: str) -> None:
    project = PROJECTS[name]
    paths = [p for p in project.configs.rglob("*.yaml") if not p.name.startswith("_")]
    files = {str(p.relative_to(project.configs)) for p in paths}
    assert files == set(of(recorded()["yaml"], name)) and len(files) == project.count
    names = {n for n in project_config_names() if n.startswith(f"{project.zoo}/")}
    assert names == {f"{project.zoo}/configs/{f}" for f in files}


@pytest.mark.parametrize(("name", "path"), YAML)
def test_yaml_config(name: str, path: str) -> None:
    cfg = defaults()
    PROJECTS[name].add_config(cfg)
    known = flat(cfg)
    found = flat(PROJECTS[name].config(path, small=False))
    changed = {k: v for k, v in found.items() if v != known[k]}
    assert json.loads(json.dumps(changed)) == recorded()["yaml"][f"{name}/{path}"]


@pytest.mark.parametrize(("name", "path"), BUILT)
def test_state_dict(name: str, path: str) -> None:
    with torch.device("meta"):  # shapes only: no memory, no random numbers
        model = build_model(PROJECTS[name].config(path, "MODEL.DEVICE", "meta", small=False))
    assert {k: list(v.shape) for k, v in model.state_dict().items()} == state_dicts(name)[path]


@by_project
def test_saved_configs_are_known_again(name: str, tmp_path: Path) -> None:
    cfg = PROJECTS[name].config(PROJECTS[name].quick[0])
    cfg.OUTPUT_DIR = str(tmp_path)
    path = tmp_path / "config.yaml"
    path.write_text(cfg.dump())
    again = load_run_config(path)
    assert isinstance(again, YacsRunConfig)
    assert json.dumps(flat(again.cfg)) == json.dumps(flat(cfg))


@by_project
def test_zoo_knows_the_models(name: str) -> None:
    project = PROJECTS[name]
    cfg = model_zoo.get_config(f"{project.zoo}/configs/{project.quick[0]}")
    assert cfg.MODEL.META_ARCHITECTURE == project.meta_arch
    records = json.loads((ZOO / "modern_checkpoints.json").read_text())["checkpoints"]
    wanted = {
        r["url"]: r["config"].removesuffix(".yaml") for r in records if r["project"] == name and r["url"]
    }
    # MaskDINO's page gives this one the config of the model with mask enhancement.
    for url in [u for u in wanted if "hid2048_3sd1_instance_mask52.1ap" in u]:
        wanted[url] += "_no_maskEnhance"
    found = {v: k for k, v in PROJECT_WEIGHTS.items() if k.startswith(f"{project.zoo}/")}
    assert {k: v.replace(f"{project.zoo}/configs", name) for k, v in found.items()} == wanted


@by_project
def test_old_dotted_paths(name: str) -> None:
    api = json.loads((PARITY / "api_modern.json").read_text())
    for old, new in api["aliases"][name].items():
        assert locate(old) is locate(new), old
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
    for registry, entries in api["registries"][name].items():
        if registry in here:
            assert set(entries) - optional <= {entry for entry, _ in here[registry]}


@by_project
def test_metadata_of_the_data_sets(name: str) -> None:
    sets = json.loads(gzip.decompress((ZOO / "modern_metadata.json.gz").read_bytes()))["datasets"]
    records = sets.get(name, sets["mask2former"])
    assert len(records) == 14
    for data_set, wanted in records.items():
        assert data_set in DatasetCatalog
        meta = MetadataCatalog.get(data_set)
        for key, value in wanted.items():
            found = meta.get(key)
            if isinstance(found, dict):
                found = {str(k): v for k, v in found.items()}
            if isinstance(found, str) and "/" in found:
                found = found[found.index("datasets/") :] if "datasets/" in found else found
            assert json.loads(json.dumps(found)) == value, f"{data_set}: {key}"
