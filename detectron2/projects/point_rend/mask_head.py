"""Mask heads that refine masks at points.

R boxes in all images of a batch, K classes, P points in each box, C channels.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detectron2.config import CfgNode, configurable
from detectron2.layers import Conv2d, ShapeSpec, cat, point_sample_pyramid
from detectron2.layers.weight_init import c2_msra_fill, c2_xavier_fill
from detectron2.modeling.roi_heads.mask_head import (
    ROI_MASK_HEAD_REGISTRY,
    mask_rcnn_inference,
    mask_rcnn_loss,
    masks_of_classes,
)
from detectron2.structures import Instances

from .old_weights import rename_entries
from .point_features import (
    generate_regular_grid_point_coords,
    get_point_coords_wrt_image,
    get_uncertain_point_coords_on_grid,
    get_uncertain_point_coords_with_randomness,
    point_sample,
    point_sample_fine_grained_features,
    sample_point_labels,
)
from .point_head import build_point_head, roi_mask_point_loss

__all__ = [
    "ConvFCHead",
    "ImplicitPointRendMaskHead",
    "PointRendMaskHead",
    "build_point_head",
    "calculate_uncertainty",
    "generate_regular_grid_point_coords",
    "get_point_coords_wrt_image",
    "get_uncertain_point_coords_on_grid",
    "get_uncertain_point_coords_with_randomness",
    "point_sample",
    "point_sample_fine_grained_features",
    "roi_mask_point_loss",
    "sample_point_labels",
]

Features = dict[str, Tensor]


def calculate_uncertainty(logits: Tensor, classes: object) -> Tensor:
    """Measure how close masks are to the decision boundary.

    Args:
        logits: [R, K, ...], or [R, 1, ...] if classes share a mask.
        classes: R classes, integers in [0, K).

    Returns:
        [R, 1, ...] negative absolute logit of each box's class: 0 is the most uncertain.
    """
    return -masks_of_classes(logits, torch.as_tensor(classes)).abs()[:, None]


class ConvFCHead(nn.Module):
    """A 1x1 convolution if the input is wider than ``conv_dim``, a 2x2 one of stride 2, and linear layers.

    Args:
        input_shape: channels, height and width of the input.
        conv_dim: channels of the convolutions.
        fc_dims: widths of the hidden linear layers.
        output_shape: shape of the output of each box.
    """

    @configurable
    def __init__(
        self, input_shape: ShapeSpec, *, conv_dim: int, fc_dims: Sequence[int], output_shape: Sequence[int]
    ) -> None:
        super().__init__()
        channels = input_shape.channels or 0
        if channels < conv_dim:
            raise ValueError(f"conv_dim must be at most the {channels} channels of the input, got {conv_dim}")
        self.output_shape = tuple(output_shape)
        self.conv_layers: list[nn.Module] = []
        if channels > conv_dim:
            self.reduce_channel_dim_conv = Conv2d(channels, conv_dim, kernel_size=1, activation=F.relu)
            self.conv_layers.append(self.reduce_channel_dim_conv)
        self.reduce_spatial_dim_conv = Conv2d(conv_dim, conv_dim, kernel_size=2, stride=2, activation=F.relu)
        self.conv_layers.append(self.reduce_spatial_dim_conv)
        width = conv_dim * ((input_shape.height or 0) // 2) * ((input_shape.width or 0) // 2)
        self.fcs: list[nn.Linear] = []
        for i, dim in enumerate(fc_dims, start=1):
            layer = nn.Linear(width, dim)
            self.add_module(f"fc{i}", layer)
            self.fcs.append(layer)
            width = dim
        self.prediction = nn.Linear(width, math.prod(self.output_shape))
        nn.init.normal_(self.prediction.weight, std=0.001)
        nn.init.zeros_(self.prediction.bias)
        for conv in self.conv_layers:
            c2_msra_fill(conv)
        for fc in self.fcs:
            c2_xavier_fill(fc)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        """Read the arguments of a head that predicts a coarse mask per class from ``MODEL.ROI_MASK_HEAD``."""
        node = cfg.MODEL.ROI_MASK_HEAD
        side = node.OUTPUT_SIDE_RESOLUTION
        return {
            "input_shape": input_shape,
            "conv_dim": node.CONV_DIM,
            "fc_dims": [node.FC_DIM] * node.NUM_FC,
            "output_shape": (cfg.MODEL.ROI_HEADS.NUM_CLASSES, side, side),
        }

    def forward(self, x: Tensor) -> Tensor:
        """Map features ``[R, C, H, W]`` to predictions ``[R, *output_shape]``."""
        for conv in self.conv_layers:
            x = conv(x)
        x = x.flatten(1)
        for fc in self.fcs:
            x = fc(x).relu()
        return self.prediction(x).unflatten(1, self.output_shape)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        rename_entries(state_dict, prefix, {"coarse_mask_fc": "fc"})  # of the first releases of PointRend
        super()._load_from_state_dict(state_dict, prefix, *args)


@ROI_MASK_HEAD_REGISTRY.register()
class PointRendMaskHead(nn.Module):
    """A coarse mask, refined at its uncertain points.

    Without a point head (``MODEL.ROI_MASK_HEAD.POINT_HEAD_ON``) the coarse mask is the result. The head
    takes whole feature maps, so ``MODEL.ROI_MASK_HEAD.POOLER_TYPE`` must be "".

    Args:
        cfg: config with the keys of :func:`add_pointrend_config`.
        input_shape: channels and stride of the feature maps.

    Reference: PointRend, https://arxiv.org/abs/1912.08193
    """

    def __init__(self, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> None:
        super().__init__()
        self._channels = {name: shape.channels or 0 for name, shape in input_shape.items()}
        self._scales = {name: 1.0 / (shape.stride or 1) for name, shape in input_shape.items()}
        self.mask_point_on = self._needs_point_head(cfg)
        if self.mask_point_on:
            self._init_point_head(cfg)
        self.grid_features: list[str] = cfg.MODEL.ROI_MASK_HEAD.IN_FEATURES
        self.grid_side: int = cfg.MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION
        self._init_mask_head(cfg, self._shape_of(self.grid_features, self.grid_side))

    def _needs_point_head(self, cfg: CfgNode) -> bool:
        return cfg.MODEL.ROI_MASK_HEAD.POINT_HEAD_ON

    def _init_point_head(self, cfg: CfgNode) -> None:
        node = cfg.MODEL.POINT_HEAD
        if node.NUM_CLASSES != cfg.MODEL.ROI_HEADS.NUM_CLASSES:
            raise ValueError(
                f"MODEL.POINT_HEAD.NUM_CLASSES must equal MODEL.ROI_HEADS.NUM_CLASSES, got {node.NUM_CLASSES} "
                f"and {cfg.MODEL.ROI_HEADS.NUM_CLASSES}"
            )
        self.point_features: list[str] = node.IN_FEATURES
        self.train_num_points: int = node.TRAIN_NUM_POINTS
        self.oversample_ratio: float = node.OVERSAMPLE_RATIO
        self.importance_sample_ratio: float = node.IMPORTANCE_SAMPLE_RATIO
        self.subdivision_num_points: int = node.SUBDIVISION_NUM_POINTS
        self.first_side, self.subdivision_steps = self._subdivision_plan(cfg)
        self.point_head = build_point_head(cfg, self._shape_of(self.point_features, 1))

    def _subdivision_plan(self, cfg: CfgNode) -> tuple[int, int]:
        """Return the side of the first point mask, and the number of doublings."""
        side, steps = cfg.MODEL.ROI_MASK_HEAD.OUTPUT_SIDE_RESOLUTION, cfg.MODEL.POINT_HEAD.SUBDIVISION_STEPS
        # A step that refines every pixel makes the steps before it superfluous.
        while steps > 0 and 4 * side**2 <= self.subdivision_num_points:
            side, steps = 2 * side, steps - 1
        return side, steps

    def _init_mask_head(self, cfg: CfgNode, shape: ShapeSpec) -> None:
        self.coarse_head = ConvFCHead(cfg, shape)

    def _shape_of(self, names: Sequence[str], side: int) -> ShapeSpec:
        return ShapeSpec(channels=sum(self._channels[name] for name in names), height=side, width=side)

    def forward(self, features: Features, instances: list[Instances]) -> Any:
        """Compute losses in training; in evaluation add ``pred_masks`` to the instances.

        Args:
            features: maps [N, C, H, W] by name.
            instances: N Instances: in training with ``proposal_boxes``, ``gt_classes`` and ``gt_masks``, in evaluation
                with ``pred_boxes`` and ``pred_classes``.

        Returns:
            In training a dict of losses; in evaluation the same Instances, with ``pred_masks`` [R_i, 1, M, M] in
            [0, 1].
        """
        if self.training:
            return self.losses(features, [x.proposal_boxes.tensor for x in instances], instances)
        if instances:
            boxes = [x.pred_boxes.tensor for x in instances]
            classes = cat([x.pred_classes for x in instances])
            mask_rcnn_inference(self.predict(features, boxes, classes), instances)
        return instances

    def losses(
        self, features: Features, boxes: Sequence[Tensor], instances: list[Instances]
    ) -> dict[str, Tensor]:
        """Return ``loss_mask`` of the coarse masks and ``loss_mask_point`` of the points.

        Args:
            features: maps [N, C, H, W] by name.
            boxes: N tensors [R_i, 4].
            instances: N Instances with ground truth.
        """
        coarse = self._describe(features, boxes)
        losses = {"loss_mask": mask_rcnn_loss(coarse, instances)}
        if self.mask_point_on:
            losses["loss_mask_point"] = self._point_loss(features, boxes, instances, coarse)
        return losses

    def predict(self, features: Features, boxes: Sequence[Tensor], classes: Tensor) -> Tensor:
        """Predict the mask of each box.

        Args:
            features: maps [N, C, H, W] by name.
            boxes: N tensors [R_i, 4].
            classes: [R] class of each box.

        Returns:
            [R, 1, M, M] logits.
        """
        description = self._describe(features, boxes)
        if self.mask_point_on:
            return self._subdivide(features, boxes, classes, description)
        return masks_of_classes(description, classes)[:, None]

    def predict_tensors(self, features: Features, boxes: Tensor, classes: Tensor) -> Tensor:
        """Predict the mask of each detection of a ``TensorInference``.

        Args:
            features: maps [N, C, H, W] by name.
            boxes: [N, D, 4].
            classes: [N, D].

        Returns:
            Soft masks within the boxes, [N, D, M, M] in [0, 1].
        """
        logits = self.predict(features, list(boxes.unbind()), classes.flatten())
        return logits[:, 0].sigmoid().unflatten(0, classes.shape)

    def _describe(self, features: Features, boxes: Sequence[Tensor]) -> Tensor:
        """Compute the point head's input per box: here its coarse mask, logits [R, K, side, side]."""
        return self.coarse_head(self._grid(features, boxes))

    def _grid(self, features: Features, boxes: Sequence[Tensor]) -> Tensor:
        """Sample features [R, C, side, side] on a regular grid of points in each box."""
        side = self.grid_side
        num_boxes = sum(b.shape[0] for b in boxes)
        coords = generate_regular_grid_point_coords(num_boxes, side, boxes[0].device)
        return self._sample(features, self.grid_features, boxes, coords).unflatten(2, (side, side))

    def _sample(
        self, features: Features, names: Sequence[str], boxes: Sequence[Tensor], coords: Tensor
    ) -> Tensor:
        """Sample features [R, C, P] at points [R, P, 2] of boxes."""
        maps, scales = [features[name] for name in names], [self._scales[name] for name in names]
        return point_sample_pyramid(maps, scales, boxes, coords)[0]

    def _points(
        self, features: Features, boxes: Sequence[Tensor], coords: Tensor, description: Tensor
    ) -> Tensor:
        """Predict logits [R, K or 1, P] at points [R, P, 2] of boxes."""
        fine = self._sample(features, self.point_features, boxes, coords)
        return self._point_logits(fine, coords, description)

    def _point_logits(self, fine: Tensor, coords: Tensor, description: Tensor) -> Tensor:
        return self.point_head(fine, point_sample(description, coords, align_corners=False))

    def _point_loss(
        self, features: Features, boxes: Sequence[Tensor], instances: list[Instances], description: Tensor
    ) -> Tensor:
        coords, labels = self._training_points(boxes, instances, description)
        return roi_mask_point_loss(self._points(features, boxes, coords, description), instances, labels)

    def _training_points(
        self, boxes: Sequence[Tensor], instances: list[Instances], description: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the training points, [R, P, 2] coordinates in their boxes, and their labels [R, P]."""
        classes = cat([x.gt_classes for x in instances])
        coords = get_uncertain_point_coords_with_randomness(
            description,
            lambda logits: calculate_uncertainty(logits, classes),
            self.train_num_points,
            self.oversample_ratio,
            self.importance_sample_ratio,
        )
        return coords, self._labels(boxes, instances, coords)

    def _labels(self, boxes: Sequence[Tensor], instances: list[Instances], coords: Tensor) -> Tensor:
        return sample_point_labels(instances, get_point_coords_wrt_image(torch.cat(list(boxes)), coords))

    def _subdivide(
        self, features: Features, boxes: Sequence[Tensor], classes: Tensor, description: Tensor
    ) -> Tensor:
        """Predict a small mask, then repeatedly double its resolution and predict its uncertain points anew.

        Only the logits of each box's class are kept. Without boxes, the masks keep the first resolution.

        Returns:
            [R, 1, M, M] logits.
        """

        def predict(coords: Tensor) -> Tensor:  # [R, 1, P]
            return masks_of_classes(self._points(features, boxes, coords, description), classes)[:, None]

        side = self.first_side
        coords = generate_regular_grid_point_coords(description.shape[0], side, description.device)
        logits = predict(coords).unflatten(2, (side, side))
        if not torch.compiler.is_compiling() and not logits.numel():
            return logits
        for _ in range(self.subdivision_steps):
            side *= 2
            logits = F.interpolate(logits, size=(side, side), mode="bilinear", align_corners=False)
            indices, coords = get_uncertain_point_coords_on_grid(-logits.abs(), self.subdivision_num_points)
            refined = logits.flatten(2).scatter(2, indices[:, None], predict(coords).to(logits.dtype))
            logits = refined.unflatten(2, (side, side))
        return logits


@ROI_MASK_HEAD_REGISTRY.register()
class ImplicitPointRendMaskHead(PointRendMaskHead):
    """Masks as functions of position, whose parameters are predicted per box; no coarse mask is needed.

    Args:
        cfg: config with the keys of :func:`add_pointrend_config`.
        input_shape: channels and stride of the feature maps.

    Reference: section 4 of Pointly-Supervised Instance Segmentation, https://arxiv.org/abs/2104.06404
    """

    def _needs_point_head(self, cfg: CfgNode) -> bool:
        return True

    def _subdivision_plan(self, cfg: CfgNode) -> tuple[int, int]:
        # The first mask has as many points as each step refines.
        return math.isqrt(self.subdivision_num_points), cfg.MODEL.POINT_HEAD.SUBDIVISION_STEPS

    def _init_mask_head(self, cfg: CfgNode, shape: ShapeSpec) -> None:
        node = cfg.MODEL.ROI_MASK_HEAD
        self.parameter_head = ConvFCHead(
            shape,
            conv_dim=node.CONV_DIM,
            fc_dims=[node.FC_DIM] * node.NUM_FC,
            output_shape=(self.point_head.num_params,),
        )
        self.regularizer: float = cfg.MODEL.IMPLICIT_POINTREND.PARAMS_L2_REGULARIZER

    def losses(
        self, features: Features, boxes: Sequence[Tensor], instances: list[Instances]
    ) -> dict[str, Tensor]:
        """Return ``loss_l2``, which keeps predicted parameters small, and ``loss_mask_point`` of the points.

        Args:
            features: maps [N, C, H, W] by name.
            boxes: N tensors [R_i, 4].
            instances: N Instances with ground truth.
        """
        parameters = self._describe(features, boxes)
        return {
            "loss_l2": self.regularizer * parameters.square().sum() / max(parameters.numel(), 1),
            "loss_mask_point": self._point_loss(features, boxes, instances, parameters),
        }

    def _describe(self, features: Features, boxes: Sequence[Tensor]) -> Tensor:
        """Return the parameters of the point head for each box, [R, num_params]."""
        return self.parameter_head(self._grid(features, boxes))

    def _point_logits(self, fine: Tensor, coords: Tensor, description: Tensor) -> Tensor:
        return self.point_head(fine, coords, description)

    def _training_points(
        self, boxes: Sequence[Tensor], instances: list[Instances], description: Tensor
    ) -> tuple[Tensor, Tensor]:
        coords = torch.rand(description.shape[0], self.train_num_points, 2, device=description.device)
        return coords, self._labels(boxes, instances, coords)
