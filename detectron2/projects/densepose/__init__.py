"""DensePose: map the pixels of people and animals to points on a surface model.

References:
    DensePose: Dense Human Pose Estimation In The Wild, https://arxiv.org/abs/1802.00434
    Continuous Surface Embeddings, https://arxiv.org/abs/2011.12438
"""

from .config import (
    add_bootstrap_config,
    add_dataset_category_config,
    add_densepose_config,
    add_densepose_head_config,
    add_hrnet_config,
    load_bootstrap_config,
)
from .data.datasets import builtin as _builtin  # noqa: F401  (registers datasets and meshes)
from .evaluation import DensePoseCOCOEvaluator
from .modeling.hrfpn import build_hrfpn_backbone
from .modeling.roi_heads import DensePoseROIHeads
from .modeling.test_time_augmentation import (
    DensePoseDatasetMapperTTA,
    DensePoseGeneralizedRCNNWithTTA,
)
from .structures import DensePoseDataRelative, DensePoseList, DensePoseTransformData
from .utils.transform import load_from_cfg

__all__ = [
    "DensePoseCOCOEvaluator",
    "DensePoseDataRelative",
    "DensePoseDatasetMapperTTA",
    "DensePoseGeneralizedRCNNWithTTA",
    "DensePoseList",
    "DensePoseROIHeads",
    "DensePoseTransformData",
    "add_bootstrap_config",
    "add_dataset_category_config",
    "add_densepose_config",
    "add_densepose_head_config",
    "add_hrnet_config",
    "build_hrfpn_backbone",
    "load_bootstrap_config",
    "load_from_cfg",
]
