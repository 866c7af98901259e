"""Small helpers around paths and configs."""

import os

from detectron2.config import CfgNode
from detectron2.config.types import Config

__all__ = [
    "get_category_to_class_mapping",
    "get_class_to_mesh_name_mapping",
    "is_relative_local_path",
    "maybe_prepend_base_path",
]


def is_relative_local_path(path: str | os.PathLike[str]) -> bool:
    """Return whether a path is a relative local path, not a URL."""
    text = os.fsdecode(path)
    return "://" not in text and not os.path.isabs(text)


def maybe_prepend_base_path(base_path: str | None, path: str) -> str:
    """Join a base path and a path; absolute paths and URLs stay unchanged.

    Args:
        base_path: folder; None = return ``path`` unchanged.
        path: path or URL of a file.
    """
    if base_path is None or not is_relative_local_path(path):
        return path
    return os.path.join(base_path, path)


def get_class_to_mesh_name_mapping(cfg: Config) -> dict[int, str]:
    """Read ``DATASETS.CLASS_TO_MESH_NAME_MAPPING``: contiguous class number to name of a mesh."""
    return {int(number): name for number, name in cfg.DATASETS.CLASS_TO_MESH_NAME_MAPPING.items()}


def get_category_to_class_mapping(dataset_cfg: CfgNode) -> dict[str, int]:
    """Read the mapping from categories of a bootstrapping dataset to classes.

    Args:
        dataset_cfg: ``IMAGE_LOADER`` of an entry of ``BOOTSTRAP_DATASETS``.

    Returns:
        Category name to contiguous class number.
    """
    return {category: int(number) for category, number in dataset_cfg.CATEGORY_TO_CLASS_MAPPING.items()}
