"""Panoptic segmentation: assigns each pixel to one segment, an instance of a thing or a region of stuff.

Panoptic FPN (Kirillov et al. 2019, https://arxiv.org/abs/1901.02446).
"""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor, nn

from detectron2.config import CfgNode, configurable
from detectron2.structures import Instances
from detectron2.structures.types import ModelInput, ModelOutput, SegmentInfo
from detectron2.utils.reexports import passed_on
from detectron2.utils.tracing import refuse_trace

from ..postprocessing import detector_postprocess, sem_seg_postprocess
from ..roi_heads import Heads
from ._inputs import ground_truth, output_size
from ._panoptic_tensors import merge_panoptic_tensors
from .build import META_ARCH_REGISTRY
from .rcnn import GeneralizedRCNN
from .semantic_seg import SemSegHead, build_sem_seg_head, semantic_tensors

__all__ = ["PanopticFPN", "combine_semantic_and_instance_outputs"]

__getattr__ = passed_on(__name__)


@META_ARCH_REGISTRY.register()
class PanopticFPN(GeneralizedRCNN):
    """A Mask R-CNN and a semantic segmentation head on the same features, whose results are merged.

    Args:
        sem_seg_head: predicts a class for each pixel, see :class:`.SemSegFPNHead`.
        combine_overlap_thresh, combine_stuff_area_thresh, combine_instances_score_thresh: see
            :func:`combine_semantic_and_instance_outputs`.
        kwargs: arguments of :class:`.GeneralizedRCNN`.
    """

    sem_seg_head: SemSegHead

    @configurable
    def __init__(
        self,
        *,
        sem_seg_head: SemSegHead,
        combine_overlap_thresh: float = 0.5,
        combine_stuff_area_thresh: float = 4096,
        combine_instances_score_thresh: float = 0.5,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.sem_seg_head = sem_seg_head
        self.combine_overlap_thresh = combine_overlap_thresh
        self.combine_stuff_area_thresh = combine_stuff_area_thresh
        self.combine_instances_score_thresh = combine_instances_score_thresh

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Read the arguments of :class:`.GeneralizedRCNN` and ``MODEL.PANOPTIC_FPN``.

        ``INSTANCE_LOSS_WEIGHT`` has no argument: it multiplies the weights of the box regression and mask losses.
        """
        args = super().from_config(cfg)
        node = cfg.MODEL.PANOPTIC_FPN
        if not node.COMBINE.ENABLED:
            logging.getLogger(__name__).warning(
                "MODEL.PANOPTIC_FPN.COMBINE.ENABLED = False has no effect; call inference(inputs, "
                "do_postprocess=False) to get results that are not merged"
            )
        if node.INSTANCE_LOSS_WEIGHT != 1.0:
            _scale_instance_losses(args["roi_heads"], node.INSTANCE_LOSS_WEIGHT)
        args["sem_seg_head"] = build_sem_seg_head(cfg, args["backbone"].output_shape())
        args["combine_overlap_thresh"] = node.COMBINE.OVERLAP_THRESH
        args["combine_stuff_area_thresh"] = node.COMBINE.STUFF_AREA_LIMIT
        args["combine_instances_score_thresh"] = node.COMBINE.INSTANCES_CONFIDENCE_THRESH
        return args

    def forward(self, batched_inputs: list[ModelInput]) -> dict[str, Tensor] | list[ModelOutput]:
        """Compute losses in training, instances and segments in evaluation.

        Args:
            batched_inputs: for each image a dict with ``image``, in training ``instances`` and ``sem_seg`` (0 = any
                thing), and optionally ``height`` and ``width``, the requested output size.

        Returns:
            In training, a dict of losses. In evaluation, a dict for each image with ``instances`` (see
            :class:`.GeneralizedRCNN`), ``sem_seg`` (see :class:`.SemanticSegmentor`) and ``panoptic_seg`` (see
            :func:`combine_semantic_and_instance_outputs`).
        """
        if not self.training:
            return self.inference(batched_inputs)
        images = self.preprocess_image(batched_inputs)
        features = self.backbone(images.tensor)
        ignore = self.sem_seg_head.ignore_value
        labels = self._label_maps(batched_inputs, ignore)
        _, losses = self.sem_seg_head(features, labels)
        targets = ground_truth(batched_inputs, self.device)
        proposals, proposal_losses = self._propose(batched_inputs, images, features, targets)
        _, detector_losses = self.roi_heads(images, features, proposals, targets)
        return {**losses, **proposal_losses, **detector_losses}

    def inference(self, batched_inputs: list[ModelInput], do_postprocess: bool = True) -> Any:  # type: ignore[override]
        """Run inference, see :meth:`forward`.

        Args:
            batched_inputs: as in :meth:`forward`.
            do_postprocess: if False, return a pair of a list of Instances in input coordinates and the class scores
                [N, C, H, W] of the padded batch.
        """
        images = self.preprocess_image(batched_inputs)
        features = self.backbone(images.tensor)
        scores, _ = self.sem_seg_head(features, None)
        proposals, _ = self._propose(batched_inputs, images, features, None)
        found, _ = self.roi_heads(images, features, proposals, None)
        if not do_postprocess:
            return found, scores
        results: list[ModelOutput] = []
        for score, instances, item, size in zip(scores, found, batched_inputs, images.image_sizes):
            requested = output_size(item, size)
            sem_seg = sem_seg_postprocess(score, size, *requested)
            things = detector_postprocess(instances, *requested)
            panoptic = combine_semantic_and_instance_outputs(
                things,
                sem_seg.argmax(dim=0),
                self.combine_overlap_thresh,
                self.combine_stuff_area_thresh,
                self.combine_instances_score_thresh,
            )
            results.append({"sem_seg": sem_seg, "instances": things, "panoptic_seg": panoptic})
        return results

    def predict_tensors(self, images: Tensor) -> dict[str, Tensor]:
        """Predict instances, ``sem_seg`` and merged segments of N images; see :class:`.TensorInference`."""
        size = (images.shape[-2], images.shape[-1])
        features = self.features_of(images)
        found = self._detect_tensors(features, size)
        found["sem_seg"] = semantic_tensors(self.sem_seg_head, features, size)
        return found | merge_panoptic_tensors(
            found,
            self.combine_overlap_thresh,
            self.combine_stuff_area_thresh,
            self.combine_instances_score_thresh,
        )


def _scale_instance_losses(roi_heads: Heads, factor: float) -> None:
    """Multiply the loss weights of box regression and masks.

    Classification and the RPN keep their weights, as in the training of the published models.
    """
    predictors = getattr(roi_heads, "box_predictor", None)
    predictors = list(predictors) if isinstance(predictors, nn.ModuleList) else [predictors]
    for part in (*predictors, getattr(roi_heads, "mask_head", None)):
        weight = getattr(part, "loss_weight", None)
        if isinstance(weight, dict):
            part.loss_weight = {name: w * factor for name, w in weight.items()}  # type: ignore[union-attr]
        elif weight is not None:
            part.loss_weight = weight * factor  # type: ignore[union-attr]


def combine_semantic_and_instance_outputs(
    instance_results: Instances,
    semantic_results: Tensor,
    overlap_threshold: float,
    stuff_area_thresh: float,
    instances_score_thresh: float,
) -> tuple[Tensor, list[SegmentInfo]]:
    """Merge instances and semantic labels into segments that do not overlap.

    Instances take their free pixels in descending order of score; then every stuff class takes its remaining pixels.

    Args:
        instance_results: with ``scores``, ``pred_classes`` and ``pred_masks``, bool [R, H, W].
        semantic_results: int64 [H, W]; 0 = things, which gets no segment.
        overlap_threshold: an instance is dropped if better instances cover more than this fraction of its mask.
        stuff_area_thresh: stuff regions with fewer pixels are dropped.
        instances_score_thresh: instances with a lower score are dropped.

    Returns:
        Segment ids int32 [H, W], 0 = no segment, and for each segment a dict with ``id``, ``isthing``,
        ``category_id``, and ``score`` and ``instance_id`` (index in ``instance_results``) or ``area``.
    """
    refuse_trace("merging of panoptic segments (inference with do_postprocess=False has none)")
    masks = instance_results.pred_masks.to(torch.bool)
    panoptic = torch.zeros_like(semantic_results, dtype=torch.int32)
    info: list[SegmentInfo] = []
    order = instance_results.scores.argsort(descending=True)
    scores = instance_results.scores[order].tolist()
    classes = instance_results.pred_classes[order].tolist()
    areas = masks.flatten(1).sum(dim=1)[order].tolist()
    for index, score, category, area in zip(order.tolist(), scores, classes, areas):
        if score < instances_score_thresh:
            break  # all others have lower scores
        if area == 0:
            continue
        free = masks[index] & (panoptic == 0)
        covered = area - int(free.sum())
        if covered > overlap_threshold * area:
            continue
        panoptic[free] = len(info) + 1
        info.append(
            {
                "id": len(info) + 1,
                "isthing": True,
                "score": score,
                "category_id": category,
                "instance_id": index,
            }
        )
    free = panoptic == 0
    pixels = torch.bincount(
        (2 * semantic_results + free).flatten()
    ).tolist()  # taken and free ones, label by label
    segments = torch.zeros((len(pixels) + 1) // 2, dtype=torch.int32)
    for label in range(1, len(segments)):
        taken, size = (*pixels, 0)[2 * label : 2 * label + 2]
        if taken + size == 0 or size < stuff_area_thresh:
            continue
        segments[label] = len(info) + 1
        info.append({"id": len(info) + 1, "isthing": False, "category_id": label, "area": size})
    panoptic = torch.where(free, segments.to(panoptic.device)[semantic_results], panoptic)
    return panoptic, info
