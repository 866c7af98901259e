"""Standard heads of R-CNN, which predict boxes, masks and keypoints for each proposal.

N images, R proposals of a batch, C channels, K classes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec, nonzero_tuple
from detectron2.structures import Boxes, ImageList, Instances, pairwise_iou
from detectron2.utils.errors import BadValue
from detectron2.utils.events import get_event_storage
from detectron2.utils.reexports import publish

from ..backbone.resnet import BottleneckBlock, ResNet
from ..fixed_shapes import Size
from ..matcher import Matcher
from ..poolers import ROIPooler
from ..proposal_generator.proposal_utils import add_ground_truth_to_proposals
from ..sampling import subsample_labels
from ..tensor_inference import Tensors, tensor_method
from ._base import (
    ROI_HEADS_REGISTRY,
    ROIHeads,
    build_pooler,
    build_roi_heads,
    check_evaluating,
    need_boxes_and_classes,
    need_targets,
    pooled_shape,
)
from ._res5 import Res5ROIHeads
from ._sampling import (
    match_and_sample_padded,
    select_foreground_proposals,
    select_proposals_with_visible_keypoints,
)
from .box_head import build_box_head
from .fast_rcnn import FastRCNNOutputLayers
from .keypoint_head import build_keypoint_head
from .mask_head import build_mask_head

__all__ = [
    "ROI_HEADS_REGISTRY",
    "BottleneckBlock",
    "Boxes",
    "Matcher",
    "ROIHeads",
    "Res5ROIHeads",
    "ResNet",
    "StandardROIHeads",
    "add_ground_truth_to_proposals",
    "build_roi_heads",
    "get_event_storage",
    "nonzero_tuple",
    "pairwise_iou",
    "select_foreground_proposals",
    "select_proposals_with_visible_keypoints",
    "subsample_labels",
]

publish(
    __name__,
    ROIHeads,
    Res5ROIHeads,
    build_roi_heads,
    select_foreground_proposals,
    select_proposals_with_visible_keypoints,
)


# Methods of box predictors that are not called where shapes are fixed.
_PREDICTOR_METHODS = ("losses", "box_reg_loss", "sigmoid_cross_entropy_loss")


@ROI_HEADS_REGISTRY.register()
class StandardROIHeads(ROIHeads):
    """Separate poolers and heads for boxes, masks and keypoints.

    Args:
        box_in_features: names of the feature maps for boxes.
        box_pooler: pools features from them.
        box_head: computes a vector from the pooled features of each proposal.
        box_predictor: predicts class scores and deltas from this vector, see :class:`.FastRCNNOutputLayers`.
        mask_in_features, mask_pooler, mask_head: the same for masks; None = no masks. Without a pooler, the head gets
            a dict of feature maps.
        keypoint_in_features, keypoint_pooler, keypoint_head: the same for keypoints.
        train_on_pred_boxes: whether to train masks and keypoints on predicted boxes instead of proposals.
        kwargs: arguments of :class:`ROIHeads`.
    """

    box_head: Any
    box_predictor: Any
    mask_head: Any
    keypoint_head: Any

    @configurable
    def __init__(
        self,
        *,
        box_in_features: list[str],
        box_pooler: ROIPooler,
        box_head: nn.Module,
        box_predictor: nn.Module,
        mask_in_features: list[str] | None = None,
        mask_pooler: ROIPooler | None = None,
        mask_head: nn.Module | None = None,
        keypoint_in_features: list[str] | None = None,
        keypoint_pooler: ROIPooler | None = None,
        keypoint_head: nn.Module | None = None,
        train_on_pred_boxes: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        # Older projects use the name in_features.
        self.in_features = self.box_in_features = box_in_features
        self.box_pooler = box_pooler
        self.box_head = box_head
        self.box_predictor = box_predictor
        self.mask_on = mask_in_features is not None
        if self.mask_on:
            self.mask_in_features = mask_in_features
            self.mask_pooler = mask_pooler
            self.mask_head = mask_head
        self.keypoint_on = keypoint_in_features is not None
        if self.keypoint_on:
            self.keypoint_in_features = keypoint_in_features
            self.keypoint_pooler = keypoint_pooler
            self.keypoint_head = keypoint_head
        self.train_on_pred_boxes = train_on_pred_boxes

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:  # type: ignore[override]
        """Read the arguments from ``MODEL.ROI_HEADS`` and the nodes of the three heads."""
        args = super().from_config(cfg)
        args["train_on_pred_boxes"] = cfg.MODEL.ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES
        # Older projects override these as instance methods, and call them themselves.
        for init in (cls._init_box_head, cls._init_mask_head, cls._init_keypoint_head):
            if inspect.ismethod(init):
                args.update(init(cfg, input_shape))
        return args

    @classmethod
    def _init_box_head(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        """Build the arguments of ``__init__`` for boxes."""
        names = cfg.MODEL.ROI_HEADS.IN_FEATURES
        pooler = build_pooler(cfg.MODEL.ROI_BOX_HEAD, names, input_shape)
        head = build_box_head(cfg, pooled_shape(pooler, names, input_shape))
        return {
            "box_in_features": names,
            "box_pooler": pooler,
            "box_head": head,
            "box_predictor": FastRCNNOutputLayers(cfg, head.output_shape),
        }

    @classmethod
    def _init_mask_head(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        """Build the arguments of ``__init__`` for masks."""
        if not cfg.MODEL.MASK_ON:
            return {}
        return cls._extra_head("mask", cfg, cfg.MODEL.ROI_MASK_HEAD, build_mask_head, input_shape)

    @classmethod
    def _init_keypoint_head(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        """Build the arguments of ``__init__`` for keypoints."""
        if not cfg.MODEL.KEYPOINT_ON:
            return {}
        return cls._extra_head("keypoint", cfg, cfg.MODEL.ROI_KEYPOINT_HEAD, build_keypoint_head, input_shape)

    @classmethod
    def _extra_head(
        cls,
        kind: str,
        cfg: CfgNode,
        node: CfgNode,
        build: Callable[[CfgNode, Any], nn.Module],
        input_shape: dict[str, ShapeSpec],
    ) -> dict[str, Any]:
        names = cfg.MODEL.ROI_HEADS.IN_FEATURES
        shape: ShapeSpec | dict[str, ShapeSpec] = {name: input_shape[name] for name in names}
        pooler = None
        if node.POOLER_TYPE:
            pooler = build_pooler(node, names, input_shape)
            shape = pooled_shape(pooler, names, input_shape)
        return {
            f"{kind}_in_features": names,
            f"{kind}_pooler": pooler,
            f"{kind}_head": build(cfg, shape),
        }

    def forward(
        self,
        images: ImageList,
        features: dict[str, Tensor],
        proposals: list[Instances],
        targets: list[Instances] | None = None,
    ) -> tuple[list[Instances], dict[str, Tensor]]:
        """See :meth:`ROIHeads.forward`."""
        if not self.training:
            found = self._forward_box(features, proposals)
            return self.forward_with_given_boxes(features, found), {}
        proposals = self.label_and_sample_proposals(proposals, need_targets(targets))
        losses = dict(self._forward_box(features, proposals))
        # With train_on_pred_boxes, _forward_box has replaced proposal_boxes by predicted boxes.
        losses.update(self._forward_mask(features, proposals))
        losses.update(self._forward_keypoint(features, proposals))
        return proposals, losses

    def forward_with_given_boxes(
        self, features: dict[str, Tensor], instances: list[Instances]
    ) -> list[Instances]:
        """Add masks and keypoints to Instances that have ``pred_boxes`` and ``pred_classes`` (evaluation only)."""
        check_evaluating(self)
        need_boxes_and_classes(instances)
        return self._forward_keypoint(features, self._forward_mask(features, instances))

    def check_tensor_form(self) -> None:
        """Check that all heads have a tensor form; see :class:`.TensorInference`."""
        for predictor in self._box_predictors():
            tensor_method(predictor, "decode_tensors")
            tensor_method(predictor, "select_tensors")
        if self.mask_on:
            tensor_method(self.mask_head, "predict_tensors")
        if self.keypoint_on:
            tensor_method(self.keypoint_head, "predict_tensors")

    def _box_predictors(self) -> list[Any]:
        return [self.box_predictor]

    def detect_tensors(self, features: Tensors, boxes: Tensor, real: Tensor, size: Size) -> Tensors:
        """Detect the same number of objects in each image, for :class:`.TensorInference`.

        Args:
            features: feature maps [N, C, H, W] by name.
            boxes: proposals [N, P, 4].
            real: bool [N, P], which proposals are real.
            size: height and width of the images, numbers or tensors [N].

        Returns:
            ``boxes`` [N, D, 4], ``scores``, ``classes`` and ``valid`` [N, D], and the results of :meth:`describe_tensors`.
        """
        decoded, scores = self.box_tensors(features, boxes, size)
        found = self._box_predictors()[-1].select_tensors(decoded, scores, real, size)
        return found | self.describe_tensors(features, found)

    def box_tensors(self, features: Tensors, boxes: Tensor, size: Size) -> tuple[Tensor, Tensor]:
        """Predict boxes [N, P, K * 4 or 4] and probabilities [N, P, K + 1]; arguments as for :meth:`detect_tensors`."""
        pooled = self.box_pooler.pool_tensors([features[name] for name in self.box_in_features], boxes)
        return self.box_predictor.decode_tensors(self.box_head(pooled), boxes)

    def describe_tensors(self, features: Tensors, found: Tensors) -> Tensors:
        """Predict ``masks`` and ``keypoints`` of detections, [N, D, ...] by name. Override it to add branches.

        Args:
            features: feature maps [N, C, H, W] by name.
            found: ``boxes``, ``scores``, ``classes`` and ``valid`` of N images.
        """
        boxes, classes = found["boxes"], found["classes"]
        more: Tensors = {}
        if self.mask_on:
            x = self._pool_tensors(features, self.mask_in_features, self.mask_pooler, boxes)
            more["masks"] = self.mask_head.predict_tensors(x, boxes, classes)
        if self.keypoint_on:
            x = self._pool_tensors(features, self.keypoint_in_features, self.keypoint_pooler, boxes)
            more["keypoints"] = self.keypoint_head.predict_tensors(x, boxes, classes)
        return more

    def loss_tensors(self, features: Tensors, boxes: Tensor, real: Tensor, truth: Tensors) -> Tensors:
        """Compute losses from a fixed number of proposals per image; see :mod:`.fixed_shapes`.

        Args:
            features: feature maps [N, C, H, W] by name.
            boxes: proposals [N, P, 4].
            real: bool [N, P], which proposals are real.
            truth: ground truth of N images, see :func:`.padded_truth`, and ``sizes`` [N, 2], height and width.

        Returns:
            Losses, and with a slash in their names figures for the log.
        """
        if self.proposal_append_gt:
            boxes, real = torch.cat((boxes, truth["boxes"]), 1), torch.cat((real, truth["valid"]), 1)
        options = (self.proposal_matcher, self.batch_size_per_image, self.positive_fraction, self.num_classes)
        sample = match_and_sample_padded(boxes, real, truth, *options)
        scalars = self._box_loss_tensors(features, sample, truth)
        most = int(self.batch_size_per_image * self.positive_fraction)
        first = {name: rows[:, :most] for name, rows in sample.items()}  # foreground is here
        if self.mask_on:
            x = self._pool_tensors(features, self.mask_in_features, self.mask_pooler, first["boxes"])
            scalars.update(self.mask_head.loss_tensors(x, first, truth["masks"]))
        if self.keypoint_on:
            x = self._pool_tensors(features, self.keypoint_in_features, self.keypoint_pooler, first["boxes"])
            scalars.update(self.keypoint_head.loss_tensors(x, first, truth["keypoints"]))
        return scalars

    def _box_loss_tensors(self, features: Tensors, sample: Tensors, truth: Tensors) -> Tensors:
        """Compute box losses of sampled proposals, see :func:`.match_and_sample_padded`, and figures for the log."""
        maps = [features[name] for name in self.box_in_features]
        hidden = self.box_head(self.box_pooler.pool_tensors(maps, sample["boxes"]))
        scalars: Tensors = self.box_predictor.loss_tensors(hidden, sample)
        return scalars

    def check_loss_tensors(self) -> None:
        """Raise ValueError or TypeError if a part or an option has no form with fixed shapes."""
        if self.train_on_pred_boxes:
            raise BadValue(
                "train_on_pred_boxes has no form with fixed shapes; set MODEL.FIXED_SHAPES = False"
            )
        for predictor in self._box_predictors():
            tensor_method(predictor, "loss_tensors", _PREDICTOR_METHODS)
        if self.mask_on:
            tensor_method(self.mask_head, "loss_tensors", ("forward",))
        if self.keypoint_on:
            tensor_method(self.keypoint_head, "loss_tensors", ("forward",))

    @staticmethod
    def _pool_tensors(
        features: Tensors, names: list[str] | None, pooler: ROIPooler | None, boxes: Tensor
    ) -> Tensor | Tensors:
        """Pool features [N * D, C, H, W]; without a pooler, return the feature maps."""
        chosen = {name: features[name] for name in names or ()}
        return chosen if pooler is None else pooler.pool_tensors(list(chosen.values()), boxes)

    def _forward_box(self, features: dict[str, Tensor], proposals: list[Instances]) -> Any:
        """Compute losses in training, N Instances of detections in evaluation."""
        maps = [features[f] for f in self.box_in_features]
        vectors = self.box_head(self.box_pooler(maps, [p.proposal_boxes for p in proposals]))
        predictions = self.box_predictor(vectors)
        if not self.training:
            return self.box_predictor.inference(predictions, proposals)[0]
        losses = self.box_predictor.losses(predictions, proposals)
        if self.train_on_pred_boxes:
            with torch.no_grad():
                boxes = self.box_predictor.predict_boxes_for_gt_classes(predictions, proposals)
                for p, predicted in zip(proposals, boxes):
                    p.proposal_boxes = type(p.proposal_boxes)(predicted)
        return losses

    def _forward_mask(self, features: dict[str, Tensor], instances: list[Instances]) -> Any:
        """Compute losses in training; in evaluation, add ``pred_masks`` to the detections and return them."""
        if not self.mask_on:
            return {} if self.training else instances
        if self.training:  # only foreground has a target mask
            instances, _ = select_foreground_proposals(instances, self.num_classes)
        return self.mask_head(
            self._pool_for(features, self.mask_in_features, self.mask_pooler, instances), instances
        )

    def _forward_keypoint(self, features: dict[str, Tensor], instances: list[Instances]) -> Any:
        """Compute losses in training; in evaluation, add ``pred_keypoints`` to the detections and return them."""
        if not self.keypoint_on:
            return {} if self.training else instances
        if self.training:  # only foreground with a visible keypoint has a target
            instances, _ = select_foreground_proposals(instances, self.num_classes)
            instances = select_proposals_with_visible_keypoints(instances)
        pooled = self._pool_for(features, self.keypoint_in_features, self.keypoint_pooler, instances)
        return self.keypoint_head(pooled, instances)

    def _pool_for(
        self,
        features: dict[str, Tensor],
        names: list[str] | None,
        pooler: ROIPooler | None,
        instances: list[Instances],
    ) -> Tensor | dict[str, Tensor]:
        """Pool features [R, C, H, W] of proposals (training) or detections; without a pooler, return feature maps."""
        chosen = {name: features[name] for name in names or ()}
        if pooler is None:
            return chosen
        boxes = [x.proposal_boxes if self.training else x.pred_boxes for x in instances]
        return pooler(list(chosen.values()), boxes)
