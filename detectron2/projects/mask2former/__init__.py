"""Mask2Former: semantic, instance and panoptic segmentation by one architecture, with masked attention.

Importing this package registers its models and datasets; :func:`add_maskformer2_config` adds its keys to a config.

Example:
    >>> cfg = get_cfg()
    >>> add_deeplab_config(cfg)
    >>> add_maskformer2_config(cfg)
    >>> cfg.merge_from_file("configs/coco/panoptic-segmentation/maskformer2_R50_bs16_50ep.yaml")  # in this package
    >>> model = build_model(cfg)  # doctest: +SKIP

Reference: Masked-attention Mask Transformer for Universal Image Segmentation, https://arxiv.org/abs/2112.01527
"""

from detectron2.layers import MSDeformAttn
from detectron2.layers import multi_scale_deformable_attention as ms_deform_attn_core_pytorch
from detectron2.modeling import SemanticSegmentorWithTTA, build_pixel_decoder
from detectron2.modeling.transformer import (
    MLP,
    MSDeformAttnTransformerEncoder,
    MSDeformAttnTransformerEncoderLayer,
    MSDeformAttnTransformerEncoderOnly,
    PositionEmbeddingSine,
    batch_dice_loss,
    batch_sigmoid_ce_loss,
)

from .config import add_maskformer2_config
from .criterion import SetCriterion, calculate_uncertainty, dice_loss, sigmoid_ce_loss
from .data import (
    COCOInstanceNewBaselineDatasetMapper,
    COCOPanopticNewBaselineDatasetMapper,
    MaskFormerInstanceDatasetMapper,
    MaskFormerPanopticDatasetMapper,
    MaskFormerSemanticDatasetMapper,
)
from .instance_evaluation import InstanceSegEvaluator
from .mask_former_head import MaskFormerHead
from .maskformer_model import MaskFormer
from .matcher import HungarianMatcher
from .pixel_decoder import MSDeformAttnPixelDecoder
from .swin import D2SwinTransformer, SwinTransformer
from .transformer_decoder import (
    TRANSFORMER_DECODER_REGISTRY,
    MultiScaleMaskedTransformerDecoder,
    build_transformer_decoder,
)
from .transformer_layers import CrossAttentionLayer, FFNLayer, SelfAttentionLayer

__all__ = [
    "MLP",
    "TRANSFORMER_DECODER_REGISTRY",
    "COCOInstanceNewBaselineDatasetMapper",
    "COCOPanopticNewBaselineDatasetMapper",
    "CrossAttentionLayer",
    "D2SwinTransformer",
    "FFNLayer",
    "HungarianMatcher",
    "InstanceSegEvaluator",
    "MSDeformAttn",
    "MSDeformAttnPixelDecoder",
    "MSDeformAttnTransformerEncoder",
    "MSDeformAttnTransformerEncoderLayer",
    "MSDeformAttnTransformerEncoderOnly",
    "MaskFormer",
    "MaskFormerHead",
    "MaskFormerInstanceDatasetMapper",
    "MaskFormerPanopticDatasetMapper",
    "MaskFormerSemanticDatasetMapper",
    "MultiScaleMaskedTransformerDecoder",
    "PositionEmbeddingSine",
    "SelfAttentionLayer",
    "SemanticSegmentorWithTTA",
    "SetCriterion",
    "SwinTransformer",
    "add_maskformer2_config",
    "batch_dice_loss",
    "batch_sigmoid_ce_loss",
    "build_pixel_decoder",
    "build_transformer_decoder",
    "calculate_uncertainty",
    "dice_loss",
    "ms_deform_attn_core_pytorch",
    "sigmoid_ce_loss",
]
