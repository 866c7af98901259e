"""Base class and helpers of all heads of R-CNN.

N images, R_i proposals of one image, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.structures import Boxes, ImageList, Instances, pairwise_iou
from detectron2.utils.errors import BadValue
from detectron2.utils.registry import Registry

from ..matcher import Matcher
from ..poolers import ROIPooler
from ..proposal_generator.proposal_utils import add_ground_truth_to_proposals
from ._sampling import classes_of_matches, match_and_sample, sample_by_label

ROI_HEADS_REGISTRY = Registry("ROI_HEADS")
ROI_HEADS_REGISTRY.__doc__ = """
Heads of R-CNN, which compute losses or detections from features and proposals. An entry is called with
``(cfg, input_shape)``, where ``input_shape`` maps names of feature maps to ShapeSpec; see :class:`ROIHeads`.
"""


class Heads(Protocol):
    """A module that computes losses or detections from proposals."""

    def __call__(
        self,
        images: ImageList,
        features: dict[str, Tensor],
        proposals: list[Instances],
        targets: list[Instances] | None = None,
        /,
    ) -> tuple[list[Instances], dict[str, Tensor]]:
        """Return proposals and losses, or detections and an empty dict; see :meth:`ROIHeads.forward`."""

    def forward_with_given_boxes(
        self, features: dict[str, Tensor], instances: list[Instances], /
    ) -> list[Instances]:
        """Predict masks, keypoints and so on for given boxes (evaluation only)."""


def build_roi_heads(cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> Heads:
    """Build the registered heads that ``MODEL.ROI_HEADS.NAME`` names."""
    return ROI_HEADS_REGISTRY.get(cfg.MODEL.ROI_HEADS.NAME)(cfg, input_shape)


class ROIHeads(nn.Module):
    """Base of all heads: samples proposals for training. Subclasses define :meth:`forward`.

    Args:
        num_classes: K.
        batch_size_per_image: number of proposals sampled from each image.
        positive_fraction: largest fraction of foreground among them.
        proposal_matcher: labels proposals by their IoU with the ground truth.
        proposal_append_gt: whether to append the ground truth to the proposals in training.
    """

    @configurable
    def __init__(
        self,
        *,
        num_classes: int,
        batch_size_per_image: int,
        positive_fraction: float,
        proposal_matcher: Matcher,
        proposal_append_gt: bool = True,
    ) -> None:
        super().__init__()
        self.batch_size_per_image = batch_size_per_image
        self.positive_fraction = positive_fraction
        self.num_classes = num_classes
        self.proposal_matcher = proposal_matcher
        self.proposal_append_gt = proposal_append_gt

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Read the arguments from ``MODEL.ROI_HEADS``."""
        node = cfg.MODEL.ROI_HEADS
        return {
            "batch_size_per_image": node.BATCH_SIZE_PER_IMAGE,
            "positive_fraction": node.POSITIVE_FRACTION,
            "num_classes": node.NUM_CLASSES,
            "proposal_append_gt": node.PROPOSAL_APPEND_GT,
            "proposal_matcher": Matcher(
                node.IOU_THRESHOLDS, node.IOU_LABELS, allow_low_quality_matches=False
            ),
        }

    def _sample_proposals(
        self, matched_idxs: Tensor, matched_labels: Tensor, gt_classes: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Sample proposals of one image. Subclasses may override it.

        Args:
            matched_idxs: [R_i], the ground truth that matches each proposal best.
            matched_labels: [R_i], the matcher's labels.
            gt_classes: [M].

        Returns:
            Indices of the sampled proposals, and their classes in [0, K].
        """
        classes = classes_of_matches(matched_idxs, matched_labels, gt_classes, self.num_classes)
        rows = sample_by_label(classes, self.batch_size_per_image, self.positive_fraction, self.num_classes)
        return rows, classes[rows]

    def _pairwise_quality(self, gt: Boxes, proposals: Boxes) -> Tensor:
        """Compute the overlap [M, R_i] for matching."""
        return pairwise_iou(gt, proposals)

    @torch.no_grad()
    def label_and_sample_proposals(
        self, proposals: list[Instances], targets: list[Instances]
    ) -> list[Instances]:
        """Match proposals to ground truth and sample a batch for training.

        Args:
            proposals: N Instances with ``proposal_boxes`` and ``objectness_logits``.
            targets: N Instances with ``gt_boxes``, ``gt_classes`` and any other ``gt_*`` fields.

        Returns:
            N Instances of at most ``batch_size_per_image`` proposals with ``gt_classes`` (K = background) and, if the
            image has ground truth, the other ``gt_*`` fields of the matches.
        """
        if self.proposal_append_gt:
            proposals = add_ground_truth_to_proposals(targets, proposals)
        return match_and_sample(
            proposals,
            targets,
            self._pairwise_quality,
            self.proposal_matcher,
            self._sample_proposals,
            self.num_classes,
        )

    def forward(
        self,
        images: ImageList,
        features: dict[str, Tensor],
        proposals: list[Instances],
        targets: list[Instances] | None = None,
    ) -> tuple[list[Instances], dict[str, Tensor]]:
        """Compute losses in training, detections in evaluation.

        Args:
            images: N images.
            features: feature maps [N, C, H, W] by name.
            proposals: N Instances with ``proposal_boxes`` and ``objectness_logits``.
            targets: N Instances with ``gt_boxes``, ``gt_classes`` and, if a head needs them, ``gt_masks`` or
                ``gt_keypoints``; needed in training.

        Returns:
            In training, the sampled proposals and the losses. In evaluation, Instances with ``pred_boxes``, ``scores``,
            ``pred_classes`` and the fields of further heads, and an empty dict.
        """
        raise NotImplementedError(f"{type(self).__name__} must define forward()")


def build_pooler(node: CfgNode, names: Sequence[str], input_shape: Mapping[str, ShapeSpec]) -> ROIPooler:
    """Build the pooler of a head from its config node, such as ``MODEL.ROI_BOX_HEAD``.

    Args:
        node: the config node.
        names: feature maps to pool from.
        input_shape: shapes of the feature maps by name.
    """
    return ROIPooler(
        output_size=node.POOLER_RESOLUTION,
        scales=tuple(1.0 / (input_shape[name].stride or 1) for name in names),
        sampling_ratio=node.POOLER_SAMPLING_RATIO,
        pooler_type=node.POOLER_TYPE,
    )


def pooled_shape(pooler: ROIPooler, names: Sequence[str], input_shape: Mapping[str, ShapeSpec]) -> ShapeSpec:
    """Return the shape of pooled features.

    Raises:
        ValueError: if the feature maps differ in channels.
    """
    channels = {input_shape[name].channels or 0 for name in names}
    if len(channels) != 1:
        raise BadValue(
            f"feature maps of a head must have the same number of channels, got {sorted(channels)}"
        )
    height, width = pooler.output_size
    return ShapeSpec(channels=channels.pop(), height=height, width=width)


def need_targets(targets: list[Instances] | None) -> list[Instances]:
    if targets is None:
        raise BadValue("heads need targets in training; call .eval() first to run inference")
    return targets


def need_boxes_and_classes(instances: list[Instances]) -> None:
    for name in ("pred_boxes", "pred_classes"):
        if instances and not instances[0].has(name):
            raise BadValue(f"instances must have {name}, got the fields {sorted(instances[0].get_fields())}")


def check_evaluating(module: nn.Module) -> None:
    if module.training:
        raise RuntimeError("heads accept given boxes only in evaluation mode; call .eval() first")
