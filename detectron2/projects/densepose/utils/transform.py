"""Load the symmetry tables of DensePose coordinates."""

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.utils.file_io import PathManager

from ..structures.transform_data import DensePoseTransformData

__all__ = ["load_for_dataset", "load_from_cfg"]


def load_for_dataset(dataset_name: str) -> DensePoseTransformData:
    """Load the symmetry tables of a dataset.

    Args:
        dataset_name: a dataset whose metadata has ``densepose_transform_src``.
    """
    path = MetadataCatalog.get(dataset_name).densepose_transform_src
    return DensePoseTransformData.load(PathManager.get_local_path(path))


def load_from_cfg(cfg: CfgNode) -> DensePoseTransformData:
    """Load the symmetry tables of the first training dataset of a config."""
    return load_for_dataset(cfg.DATASETS.TRAIN[0])
