"""DeepLabV3 and DeepLabV3+: semantic segmentation with atrous convolutions.

Importing this package registers the backbone ``build_resnet_deeplab_backbone`` and the heads ``DeepLabV3Head`` and
``DeepLabV3PlusHead``.

References: https://arxiv.org/abs/1706.05587 (V3), https://arxiv.org/abs/1802.02611 (V3+).
"""

from .build_solver import build_lr_scheduler
from .config import add_deeplab_config
from .resnet import build_resnet_deeplab_backbone
from .semantic_seg import DeepLabV3Head, DeepLabV3PlusHead

__all__ = [
    "DeepLabV3Head",
    "DeepLabV3PlusHead",
    "add_deeplab_config",
    "build_lr_scheduler",
    "build_resnet_deeplab_backbone",
]
