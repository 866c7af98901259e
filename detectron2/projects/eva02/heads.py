"""Cascade heads with soft-NMS and mask scores, as in EVA-02's system-level results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from detectron2.config import configurable
from detectron2.layers.soft_nms import SoftNMS
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.roi_heads import cascade_rcnn, fast_rcnn
from detectron2.modeling.roi_heads.detections import candidates, soft_nms_inference
from detectron2.structures import ImageList, Instances

__all__ = ["CascadeROIHeads", "fast_rcnn_inference", "fast_rcnn_inference_single_image"]


def fast_rcnn_inference(
    boxes: list[Tensor],
    scores: list[Tensor],
    image_shapes: list[tuple[int, int]],
    score_thresh: float,
    nms_thresh: float,
    topk_per_image: int,
    use_soft_nms: bool = False,
    method: str = "linear",
    iou_threshold: float = 0.3,
    sigma: float = 0.5,
    class_wise: bool = False,
    override_score_thresh: float | None = None,
    keep_all_before_merge: bool = False,
) -> tuple[list[Instances], list[Tensor]]:
    """Select the detections of each image by NMS, soft-NMS or score alone.

    Args:
        boxes, scores, image_shapes, score_thresh, nms_thresh, topk_per_image: see
            :func:`detectron2.modeling.roi_heads.fast_rcnn.fast_rcnn_inference`.
        use_soft_nms: use soft-NMS, which keeps any number of detections.
        method, iou_threshold, sigma, class_wise: see :class:`detectron2.layers.soft_nms.SoftNMS`.
        override_score_thresh: replaces ``score_thresh``; None = no change.
        keep_all_before_merge: keep every box above the score threshold, to merge with those of other images.

    Returns:
        For each image the detections, and the indices of their proposals.
    """
    threshold = score_thresh if override_score_thresh is None else override_score_thresh
    if keep_all_before_merge:
        found, rows = zip(*(candidates(*image, threshold) for image in zip(boxes, scores, image_shapes)))
        return list(found), list(rows)
    if use_soft_nms:
        soft = SoftNMS(method, iou_threshold, sigma, class_wise=class_wise)
        return soft_nms_inference(boxes, scores, image_shapes, threshold, -1, soft)
    return fast_rcnn.fast_rcnn_inference(boxes, scores, image_shapes, threshold, nms_thresh, topk_per_image)


def fast_rcnn_inference_single_image(
    boxes: Tensor,
    scores: Tensor,
    image_shape: tuple[int, int],
    score_thresh: float,
    nms_thresh: float,
    topk_per_image: int,
    use_soft_nms: bool = False,
    method: str = "linear",
    iou_threshold: float = 0.3,
    sigma: float = 0.5,
    class_wise: bool = False,
    override_score_thresh: float | None = None,
    keep_all: bool = False,
) -> tuple[Instances, Tensor]:
    """Select the detections of one image; see :func:`fast_rcnn_inference`."""
    found, rows = fast_rcnn_inference(
        [boxes], [scores], [image_shape], score_thresh, nms_thresh, topk_per_image, use_soft_nms, method,
        iou_threshold, sigma, class_wise, override_score_thresh, keep_all,
    )  # fmt: skip
    return found[0], rows[0]


class CascadeROIHeads(cascade_rcnn.CascadeROIHeads):
    """Cascade heads with optional soft-NMS and mask scores.

    Args:
        box_in_features, box_pooler, box_heads, box_predictors, proposal_matchers: see
            :class:`detectron2.modeling.roi_heads.CascadeROIHeads`.
        use_soft_nms, method, iou_threshold, sigma, class_wise, override_score_thresh: see
            :func:`fast_rcnn_inference`.
        maskness_thresh: the score of a detection is multiplied by the mean probability of its mask's pixels above
            this, in [0, 1); None = no mask scores.
        kwargs: further arguments of :class:`detectron2.modeling.roi_heads.StandardROIHeads`.
    """

    @configurable
    def __init__(
        self,
        *,
        box_in_features: list[str],
        box_pooler: ROIPooler,
        box_heads: Sequence[nn.Module],
        box_predictors: Sequence[nn.Module],
        proposal_matchers: Sequence[Matcher],
        use_soft_nms: bool = False,
        method: str = "linear",
        iou_threshold: float = 0.3,
        sigma: float = 0.5,
        class_wise: bool = False,
        override_score_thresh: float | None = None,
        maskness_thresh: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            box_in_features=box_in_features,
            box_pooler=box_pooler,
            box_heads=box_heads,
            box_predictors=box_predictors,
            proposal_matchers=proposal_matchers,
            **kwargs,
        )
        self.use_soft_nms = use_soft_nms
        self.method = method
        self.iou_threshold = iou_threshold
        self.sigma = sigma
        self.class_wise = class_wise
        self.override_score_thresh = override_score_thresh
        self.maskness_thresh = maskness_thresh

    def forward(
        self,
        images: ImageList,
        features: dict[str, Tensor],
        proposals: list[Instances],
        targets: list[Instances] | None = None,
        keep_all_before_merge: bool = False,
    ) -> tuple[list[Instances], dict[str, Tensor]]:
        """See :meth:`detectron2.modeling.roi_heads.CascadeROIHeads.forward`.

        Args:
            images, features, proposals, targets: see there.
            keep_all_before_merge: see :func:`fast_rcnn_inference`.
        """
        if self.training or not keep_all_before_merge:
            return super().forward(images, features, proposals, targets)
        stages, boxes = self._run_stages(features, proposals)
        sizes = [p.image_size for p in proposals]
        found = self._select(boxes, self._mean_scores(stages), sizes, keep_all_before_merge=True)
        return self.forward_with_given_boxes(features, found), {}

    def forward_with_given_boxes(
        self, features: dict[str, Tensor], instances: list[Instances]
    ) -> list[Instances]:
        """Add masks, and multiply the scores by the mask scores."""
        found = super().forward_with_given_boxes(features, instances)
        if self.maskness_thresh is not None:
            for image in found:
                if image.has("pred_masks") and image.has("scores"):
                    image.scores = image.scores * _maskness(image.pred_masks, self.maskness_thresh)
        return found

    def check_tensor_form(self) -> None:
        """Raise ValueError unless detections come from ordinary NMS; see :class:`.TensorInference`."""
        if self.use_soft_nms or self.maskness_thresh is not None:
            raise ValueError(
                "a graph supports neither soft-NMS nor mask scores: set use_soft_nms=False, maskness_thresh=None"
            )
        super().check_tensor_form()

    def _select(
        self,
        boxes: list[Tensor],
        scores: list[Tensor],
        sizes: list[tuple[int, int]],
        keep_all_before_merge: bool = False,
    ) -> list[Instances]:
        last = self.box_predictor[-1]
        return fast_rcnn_inference(
            boxes, scores, sizes, last.test_score_thresh, last.test_nms_thresh, last.test_topk_per_image,
            self.use_soft_nms, self.method, self.iou_threshold, self.sigma, self.class_wise,
            self.override_score_thresh, keep_all_before_merge,
        )[0]  # fmt: skip


def _maskness(masks: Tensor, threshold: float) -> Tensor:
    """Return the mean probability [R] of the pixels above a threshold in masks [R, 1, h, w]; 0 if there are none."""
    sure = (masks > threshold).flatten(1)
    return (masks.flatten(1) * sure).sum(dim=1) / sure.sum(dim=1).clamp(min=1)
