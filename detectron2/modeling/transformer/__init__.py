"""Parts of detection transformers: position encodings, encoders, denoising, matching, set losses, mask inference."""

from .activation import activation_function
from .boxes import (
    box_cxcywh_to_xyxy,
    box_iou,
    box_xyxy_to_cxcywh,
    generalized_box_iou,
    masks_to_boxes,
)
from .deformable_encoder import (
    MSDeformAttnTransformerEncoder,
    MSDeformAttnTransformerEncoderLayer,
    flatten_levels,
    level_start_index,
)
from .denoising import apply_box_noise, apply_label_noise, group_mask, places_in_groups
from .mask_criterion import MaskCriterion, Targets, matched_labels
from .mask_inference import TopMasks, semantic_scores, top_masks, winning_segments
from .matching import (
    Indices,
    assign,
    batch_dice_loss,
    batch_sigmoid_ce_loss,
    class_cost,
    focal_cost,
    giou_cost,
    l1_cost,
    masks_at_points,
    matched_queries,
)
from .mlp import MLP
from .pixel_decoder import DeformablePixelDecoder, MSDeformAttnTransformerEncoderOnly
from .position_encoding import (
    PositionEmbeddingSine,
    sine_encoding,
    sine_encoding_of_boxes,
    sine_encoding_of_map,
)
from .proposals import best_proposals, encoder_proposals, pixel_proposals, select
from .reference_points import inverse_sigmoid, pixel_reference_points, refine_boxes, valid_ratio
from .set_losses import (
    calculate_uncertainty,
    dice_loss,
    matched_masks_at_points,
    mean_count,
    sigmoid_ce_loss,
)

__all__ = [
    "MLP",
    "DeformablePixelDecoder",
    "Indices",
    "MSDeformAttnTransformerEncoder",
    "MSDeformAttnTransformerEncoderLayer",
    "MSDeformAttnTransformerEncoderOnly",
    "MaskCriterion",
    "PositionEmbeddingSine",
    "Targets",
    "TopMasks",
    "activation_function",
    "apply_box_noise",
    "apply_label_noise",
    "assign",
    "batch_dice_loss",
    "batch_sigmoid_ce_loss",
    "best_proposals",
    "box_cxcywh_to_xyxy",
    "box_iou",
    "box_xyxy_to_cxcywh",
    "calculate_uncertainty",
    "class_cost",
    "dice_loss",
    "encoder_proposals",
    "flatten_levels",
    "focal_cost",
    "generalized_box_iou",
    "giou_cost",
    "group_mask",
    "inverse_sigmoid",
    "l1_cost",
    "level_start_index",
    "masks_at_points",
    "masks_to_boxes",
    "matched_labels",
    "matched_masks_at_points",
    "matched_queries",
    "mean_count",
    "pixel_proposals",
    "pixel_reference_points",
    "places_in_groups",
    "refine_boxes",
    "select",
    "semantic_scores",
    "sigmoid_ce_loss",
    "sine_encoding",
    "sine_encoding_of_boxes",
    "sine_encoding_of_map",
    "top_masks",
    "valid_ratio",
    "winning_segments",
]
