"""The projects whose configs belong to the zoo, with the locations and keys of their configs.

Names of configs start with the folder of the project in Detectron2: ``PointRend/configs/…``. Projects belong to a
higher layer, and most programs need none of them. The table therefore has their dotted names, and a project is
imported when one of its configs is loaded, which also registers its models.
"""

import importlib
import importlib.util
import os
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

from .config import CfgNode, get_cfg

__all__ = ["PROJECTS", "Project", "defaults_for", "project_config_file", "project_config_names"]


class Project(NamedTuple):
    """One project.

    Attributes:
        package: its dotted name; its configs are in the folder ``configs``.
        add_config: dotted names of functions that add keys to a config, called in this order.
        key: a key that every resolved config of this project has and no other project adds; "" if it adds no key.
    """

    package: str
    add_config: tuple[str, ...] = ()
    key: str = ""


def _project(package: str, *functions: str, key: str = "") -> Project:
    root = "detectron2.projects."
    return Project(root + package, tuple(root + f for f in functions), key)


PROJECTS: dict[str, Project] = {
    "DeepLab": _project("deeplab", "deeplab.add_deeplab_config", key="SOLVER.POLY_LR_POWER"),
    "DensePose": _project("densepose", "densepose.add_densepose_config", key="MODEL.ROI_DENSEPOSE_HEAD"),
    "DINO": _project("dino"),
    "EVA-02": _project("eva02"),
    "MViTv2": _project("mvitv2"),
    "Mask2Former": _project(
        "mask2former",
        "deeplab.add_deeplab_config",
        "mask2former.add_maskformer2_config",
        key="MODEL.MASK_FORMER",
    ),
    "MaskDINO": _project(
        "maskdino",
        "deeplab.add_deeplab_config",
        "maskdino.add_maskdino_config",
        key="MODEL.MaskDINO",
    ),
    "Panoptic-DeepLab": _project(
        "panoptic_deeplab", "panoptic_deeplab.add_panoptic_deeplab_config", key="MODEL.PANOPTIC_DEEPLAB"
    ),
    "PointRend": _project("point_rend", "point_rend.add_pointrend_config", key="MODEL.POINT_HEAD"),
    "PointSup": _project(
        "point_sup",
        "point_rend.add_pointrend_config",
        "point_sup.add_point_sup_config",
        key="INPUT.POINT_SUP",
    ),
    "Rethinking-BatchNorm": _project("rethinking_batchnorm"),
    "TensorMask": _project("tensormask", "tensormask.add_tensormask_config", key="MODEL.TENSOR_MASK"),
    "TridentNet": _project("tridentnet", "tridentnet.add_tridentnet_config", key="MODEL.TRIDENT"),
    "ViTDet": _project("vitdet"),
}


@cache
def _folder(project: Project) -> str:
    """Return the folder of a project's configs, without importing the project."""
    spec = importlib.util.find_spec(project.package)
    places = spec.submodule_search_locations if spec is not None else None
    return os.path.join(next(iter(places)), "configs") if places else ""


def project_config_file(config_path: str) -> str | None:
    """Return the path of a config ``PROJECT/configs/…``; None if there is no such project or file."""
    name, _, rest = config_path.replace(os.sep, "/").partition("/configs/")
    if name not in PROJECTS or not rest:
        return None
    path = os.path.join(_folder(PROJECTS[name]), rest)
    return path if os.path.isfile(path) else None


def project_config_names() -> Iterator[str]:
    """Yield the names of all configs of all projects."""
    for name, project in PROJECTS.items():
        top = _folder(project)
        for folder, _, files in os.walk(top):
            for file in files:
                if file.endswith((".yaml", ".py")) and not file.startswith("_"):
                    inside = os.path.relpath(os.path.join(folder, file), top)
                    yield f"{name}/configs/{inside}".replace(os.sep, "/")


def defaults_for(path: str, content: Mapping[str, Any] | None = None) -> CfgNode:
    """Return the default config with the keys that a YAML file may set.

    Args:
        path: of the file; a file in the folder of a project may set the keys of this project.
        content: of the file; if it has the ``key`` of a project, as configs saved by runs do, it may set all keys of this
            project.
    """
    cfg = get_cfg()
    functions: dict[str, None] = {}
    for project in PROJECTS.values():
        if project.add_config and (_has(content or {}, project.key) or _is_inside(path, _folder(project))):
            functions.update(dict.fromkeys(project.add_config))
    for function in functions:
        module, _, name = function.rpartition(".")
        getattr(importlib.import_module(module), name)(cfg)
    return cfg


def _has(content: Mapping[str, Any], key: str) -> bool:
    first, _, rest = key.partition(".")
    if first not in content:
        return False
    inner = content[first]
    return not rest or (isinstance(inner, Mapping) and _has(inner, rest))


def _is_inside(path: str, folder: str) -> bool:
    return bool(folder) and os.path.abspath(path).startswith(folder + os.sep)
