"""Detection with EVA-02: a vision transformer with rotary positions, and cascade heads.

Reference: EVA-02: A Visual Representation for Neon Genesis, https://arxiv.org/abs/2303.11331
"""

from detectron2.layers.soft_nms import soft_nms
from detectron2.modeling.backbone.utils import PatchEmbed, get_abs_pos, window_partition, window_unpartition
from detectron2.modeling.backbone.vit import ResBottleneckBlock, get_vit_lr_decay_rate
from detectron2.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers
from detectron2.utils.reexports import publish

from .ema import (
    EMAHook,
    EMAState,
    EMAUpdater,
    apply_model_ema,
    apply_model_ema_and_restore,
    may_build_model_ema,
    may_get_ema_checkpointer,
)
from .heads import CascadeROIHeads, fast_rcnn_inference, fast_rcnn_inference_single_image
from .rcnn import GeneralizedRCNN
from .rope import VisionRotaryEmbedding, VisionRotaryEmbeddingFast, rotate_half
from .vit import Attention, Block, SimpleFeaturePyramid, SwiGLU, ViT

__all__ = [
    "Attention",
    "Block",
    "CascadeROIHeads",
    "EMAHook",
    "EMAState",
    "EMAUpdater",
    "FastRCNNOutputLayers",
    "GeneralizedRCNN",
    "PatchEmbed",
    "ResBottleneckBlock",
    "SimpleFeaturePyramid",
    "SwiGLU",
    "ViT",
    "VisionRotaryEmbedding",
    "VisionRotaryEmbeddingFast",
    "apply_model_ema",
    "apply_model_ema_and_restore",
    "fast_rcnn_inference",
    "fast_rcnn_inference_single_image",
    "get_abs_pos",
    "get_vit_lr_decay_rate",
    "may_build_model_ema",
    "may_get_ema_checkpointer",
    "rotate_half",
    "soft_nms",
    "window_partition",
    "window_unpartition",
]

publish(
    __name__,
    *(
        Attention,
        Block,
        CascadeROIHeads,
        EMAHook,
        EMAState,
        EMAUpdater,
        GeneralizedRCNN,
        SimpleFeaturePyramid,
    ),
    *(SwiGLU, ViT, VisionRotaryEmbedding, VisionRotaryEmbeddingFast),
    *(fast_rcnn_inference, fast_rcnn_inference_single_image),
)
