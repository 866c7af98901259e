"""MaskDINO: boxes and masks of one set of queries, for detection and all three kinds of segmentation.

Importing this package registers its models, and Mask2Former's data sets and mappers, which it shares;
:func:`add_maskdino_config` adds its keys to a config.

Example:
    >>> cfg = get_cfg()
    >>> add_deeplab_config(cfg)
    >>> add_maskdino_config(cfg)
    >>> cfg.merge_from_file("configs/coco/instance-segmentation/maskdino_R50_bs16_50ep_3s.yaml")  # below this package
    >>> model = build_model(cfg)  # doctest: +SKIP

Reference: Mask DINO: Towards A Unified Transformer-based Framework for Object Detection and Segmentation,
https://arxiv.org/abs/2206.02777
"""

from detectron2.layers import MSDeformAttn
from detectron2.layers import multi_scale_deformable_attention as ms_deform_attn_core_pytorch
from detectron2.modeling import build_pixel_decoder
from detectron2.modeling.transformer import (
    MLP,
    MSDeformAttnTransformerEncoder,
    MSDeformAttnTransformerEncoderLayer,
    PositionEmbeddingSine,
    batch_dice_loss,
    batch_sigmoid_ce_loss,
    box_cxcywh_to_xyxy,
    box_iou,
    box_xyxy_to_cxcywh,
    generalized_box_iou,
    inverse_sigmoid,
    masks_to_boxes,
)
from detectron2.modeling.transformer import encoder_proposals as gen_encoder_output_proposals
from detectron2.projects.mask2former import (
    COCOInstanceNewBaselineDatasetMapper,
    COCOPanopticNewBaselineDatasetMapper,
    D2SwinTransformer,
    InstanceSegEvaluator,
    MaskFormerSemanticDatasetMapper,
    SemanticSegmentorWithTTA,
    SwinTransformer,
)

from .build import TRANSFORMER_DECODER_REGISTRY, build_transformer_decoder
from .config import add_maskdino_config
from .criterion import SetCriterion, calculate_uncertainty, dice_loss, sigmoid_ce_loss, sigmoid_focal_loss
from .dataset_mapper import DetrDatasetMapper
from .decoder import MaskDINODecoder
from .decoder_layers import (
    DeformableTransformerDecoderLayer,
    TransformerDecoder,
    gen_sineembed_for_position,
)
from .encoder import MaskDINOEncoder, MSDeformAttnTransformerEncoderOnly
from .head import MaskDINOHead
from .maskdino import MaskDINO
from .matcher import HungarianMatcher

__all__ = [
    "MLP",
    "TRANSFORMER_DECODER_REGISTRY",
    "COCOInstanceNewBaselineDatasetMapper",
    "COCOPanopticNewBaselineDatasetMapper",
    "D2SwinTransformer",
    "DeformableTransformerDecoderLayer",
    "DetrDatasetMapper",
    "HungarianMatcher",
    "InstanceSegEvaluator",
    "MSDeformAttn",
    "MSDeformAttnTransformerEncoder",
    "MSDeformAttnTransformerEncoderLayer",
    "MSDeformAttnTransformerEncoderOnly",
    "MaskDINO",
    "MaskDINODecoder",
    "MaskDINOEncoder",
    "MaskDINOHead",
    "MaskFormerSemanticDatasetMapper",
    "PositionEmbeddingSine",
    "SemanticSegmentorWithTTA",
    "SetCriterion",
    "SwinTransformer",
    "TransformerDecoder",
    "add_maskdino_config",
    "batch_dice_loss",
    "batch_sigmoid_ce_loss",
    "box_cxcywh_to_xyxy",
    "box_iou",
    "box_xyxy_to_cxcywh",
    "build_pixel_decoder",
    "build_transformer_decoder",
    "calculate_uncertainty",
    "dice_loss",
    "gen_encoder_output_proposals",
    "gen_sineembed_for_position",
    "generalized_box_iou",
    "inverse_sigmoid",
    "masks_to_boxes",
    "ms_deform_attn_core_pytorch",
    "sigmoid_ce_loss",
    "sigmoid_focal_loss",
]
