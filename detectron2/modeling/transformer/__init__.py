"""Parts of detection transformers: positions, encoders, matching and losses over sets."""

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
from .matching import (
    Indices,
    assign,
    class_cost,
    dice_cost,
    focal_cost,
    giou_cost,
    l1_cost,
    mask_bce_cost,
    masks_at_points,
    matched_queries,
)
from .mlp import MLP
from .position_encoding import (
    PositionEmbeddingSine,
    sine_encoding,
    sine_encoding_of_boxes,
    sine_encoding_of_map,
)
from .proposals import pixel_proposals, select
from .reference_points import inverse_sigmoid, pixel_reference_points, valid_ratio
from .set_losses import (
    calculate_uncertainty,
    dice_loss,
    matched_masks_at_points,
    mean_count,
    sigmoid_ce_loss,
)

__all__ = [
    "MLP",
    "Indices",
    "MSDeformAttnTransformerEncoder",
    "MSDeformAttnTransformerEncoderLayer",
    "PositionEmbeddingSine",
    "activation_function",
    "assign",
    "box_cxcywh_to_xyxy",
    "box_iou",
    "box_xyxy_to_cxcywh",
    "calculate_uncertainty",
    "class_cost",
    "dice_cost",
    "dice_loss",
    "flatten_levels",
    "focal_cost",
    "generalized_box_iou",
    "giou_cost",
    "inverse_sigmoid",
    "l1_cost",
    "level_start_index",
    "mask_bce_cost",
    "masks_at_points",
    "masks_to_boxes",
    "matched_masks_at_points",
    "matched_queries",
    "mean_count",
    "pixel_proposals",
    "pixel_reference_points",
    "select",
    "sigmoid_ce_loss",
    "sine_encoding",
    "sine_encoding_of_boxes",
    "sine_encoding_of_map",
    "valid_ratio",
]
