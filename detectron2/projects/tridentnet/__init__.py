"""TridentNet: branches with different dilations and shared weights, one for each range of object sizes.

Reference: Scale-Aware Trident Networks for Object Detection, https://arxiv.org/abs/1901.01892
"""

from .config import add_tridentnet_config
from .trident_backbone import TridentBottleneckBlock, build_trident_resnet_backbone, make_trident_stage
from .trident_rcnn import TridentRes5ROIHeads, TridentStandardROIHeads
from .trident_rpn import TridentRPN

__all__ = [
    "TridentBottleneckBlock",
    "TridentRPN",
    "TridentRes5ROIHeads",
    "TridentStandardROIHeads",
    "add_tridentnet_config",
    "build_trident_resnet_backbone",
    "make_trident_stage",
]
