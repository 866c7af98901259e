"""Detectors that predict at every cell of their feature maps, without proposals.

N images, A_l anchors on level l, K numbers per anchor.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from detectron2.data.detection_utils import convert_image_to_rgb
from detectron2.layers import move_device_like
from detectron2.structures import Boxes, ImageList, Instances
from detectron2.structures.types import ModelInput, ModelOutput
from detectron2.utils.errors import BadValue
from detectron2.utils.events import get_event_storage

from .._selection import (
    best_rows,
    class_aware_nms_mask,
    clip_boxes,
    real_counts,
    rows_of,
    stack_detections,
    top_scores,
)
from ..anchor_generator import AnchorGenerator
from ..backbone import Backbone
from ..box_regression import BoxTransform
from ..postprocessing import detector_postprocess
from ._inputs import ImageModel, ground_truth, output_size
from ._training_pictures import put_detection_pictures

__all__ = [
    "Backbone",
    "Boxes",
    "DenseDetector",
    "ImageList",
    "convert_image_to_rgb",
    "move_device_like",
    "permute_to_N_HWA_K",
]


Predictions: TypeAlias = Sequence[Sequence[Tensor]]
"""For each kind of prediction of a head, one tensor [N, A * K, H, W] per level."""


def permute_to_N_HWA_K(tensor: Tensor, K: int) -> Tensor:
    """Permute [N, A * K, H, W] to [N, H * W * A, K], the order of the anchors."""
    if tensor.dim() != 4:
        raise BadValue(f"predictions of a level must be [N, A * K, H, W], got {list(tensor.shape)}")
    return tensor.permute(0, 2, 3, 1).reshape(tensor.shape[0], -1, K)


def select_dense_detections(
    anchors: Sequence[Tensor],
    scores: Sequence[Tensor],
    deltas: Sequence[Tensor],
    transform: BoxTransform,
    score_thresh: float,
    topk_candidates: int,
    nms_thresh: float,
    max_detections: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Select the detections of one image from scores and deltas at every anchor.

    Args:
        anchors: [A_l, 4] for each level.
        scores: [A_l, K] for each level.
        deltas: [A_l, 4] for each level.
        transform: converts deltas to boxes.
        score_thresh: detections must have a higher score.
        topk_candidates: number of pairs of anchor and class per level that enter NMS.
        nms_thresh: IoU threshold of the class-wise NMS.
        max_detections: largest number of detections.

    Returns:
        Boxes [k, 4], scores [k] and classes [k] in descending order of score, and bool [k]: which rows are real.
    """
    boxes, values, classes = [], [], []
    num_classes = scores[0].shape[1]
    flat_scores = [score.flatten() for score in scores]
    if torch.compiler.is_compiling():
        best_of_levels = [top_scores(flat, topk_candidates) for flat in flat_scores]
    else:  # few scores pass the threshold, so sorting all A_l * K would be wasteful
        passed = rows_of([flat > score_thresh for flat in flat_scores])
        chosen = [top_scores(flat[rows], topk_candidates) for flat, rows in zip(flat_scores, passed)]
        best_of_levels = [(best, rows[order]) for rows, (best, order) in zip(passed, chosen)]
    for base, delta, (best, indices) in zip(anchors, deltas, best_of_levels):
        rows = torch.div(indices, num_classes, rounding_mode="floor")
        boxes.append(transform.apply_deltas(delta[rows], base[rows]))
        values.append(best)
        classes.append(indices % num_classes)
    box, value, label = torch.cat(boxes), torch.cat(values), torch.cat(classes)
    valid = (value > score_thresh) & box.isfinite().all(dim=1)
    box = torch.where(valid[:, None], box, 0.0)
    keep = class_aware_nms_mask(box, value, label, valid, nms_thresh)
    rows, real = best_rows(value, keep, max_detections)
    return box[rows] * real[:, None], value[rows] * real, label[rows], real


class DenseDetector(ImageModel):
    """A backbone and a head that predicts at every cell. Subclasses define the losses and scores.

    Args:
        backbone: computes feature maps from images.
        head: called with a list of feature maps; returns, for each kind of prediction, one tensor per level.
        head_in_features: names of the feature maps for the head; None = all, by stride.
        pixel_mean, pixel_std: statistics of each channel, in the range of the images.
    """

    # Set by subclasses.
    anchor_generator: AnchorGenerator
    box2box_transform: BoxTransform
    test_score_thresh: float
    test_topk_candidates: int
    test_nms_thresh: float
    max_detections_per_image: int

    vis_period = 0
    input_format: str | None = "BGR"

    def __init__(
        self,
        backbone: Backbone,
        head: nn.Module,
        head_in_features: list[str] | None = None,
        *,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        if head_in_features is None:
            shapes = backbone.output_shape()
            head_in_features = sorted(shapes, key=lambda name: shapes[name].stride or 0)
        self.head_in_features = head_in_features
        self._set_pixel_statistics(pixel_mean, pixel_std)

    def preprocess_image(self, batched_inputs: list[ModelInput]) -> ImageList:
        """Normalise, pad and batch the images [C, H, W] under the key ``image``."""
        return self._make_batch(batched_inputs)

    def forward(self, batched_inputs: list[ModelInput]) -> dict[str, Tensor] | list[ModelOutput]:
        """Compute losses in training, detections in evaluation.

        Args:
            batched_inputs: for each image a dict with ``image``, in training ``instances``, and optionally ``height``
                and ``width``, the requested output size.

        Returns:
            In training, a dict of losses. In evaluation, a dict for each image, whose ``instances`` have
            ``pred_boxes``, ``scores`` and ``pred_classes``.
        """
        images = self.preprocess_image(batched_inputs)
        features = self.backbone(images.tensor)
        maps = [features[name] for name in self.head_in_features]
        predictions = self.head(maps)
        if self.training:
            targets = ground_truth(batched_inputs, self.device)
            if self.vis_period > 0 and get_event_storage().iter % self.vis_period == 0:
                with torch.no_grad():
                    detached = [[p.detach() for p in levels] for levels in predictions]
                    results = self.forward_inference(images, maps, detached)
                self.visualize_training(batched_inputs, results)
            return self.forward_training(images, maps, predictions, targets or [])
        found = self.forward_inference(images, maps, predictions)
        return [
            {"instances": detector_postprocess(instances, *output_size(item, size))}
            for instances, item, size in zip(found, batched_inputs, images.image_sizes)
        ]

    def forward_training(
        self,
        images: ImageList,
        features: list[Tensor],
        predictions: Predictions,
        gt_instances: list[Instances],
    ) -> dict[str, Tensor]:
        """Compute losses by name; defined by subclasses."""
        raise NotImplementedError(f"{type(self).__name__} must define forward_training()")

    def forward_inference(
        self, images: ImageList, features: list[Tensor], predictions: Predictions
    ) -> list[Instances]:
        """Compute the detections of N images, in input coordinates."""
        scores, deltas = self.image_scores(predictions)
        anchors = self.anchor_generator(features)
        return [
            self.inference_single_image(anchors, [s[i] for s in scores], [d[i] for d in deltas], size)
            for i, size in enumerate(images.image_sizes)
        ]

    def inference_single_image(
        self,
        anchors: list[Boxes],
        box_cls: list[Tensor],
        box_delta: list[Tensor],
        image_size: tuple[int, int],
    ) -> Instances:
        """Select the detections of one image.

        Args:
            anchors: one ``Boxes`` [A_l] for each level.
            box_cls: scores [A_l, K] for each level, in [0, 1].
            box_delta: [A_l, 4] for each level.
            image_size: height and width of the image, stored in the result; boxes are not clipped to it.
        """
        boxes, scores, classes, real = self.select(anchors, box_cls, box_delta)
        count = real_counts([real])[0]
        return Instances(
            image_size, pred_boxes=Boxes(boxes[:count]), scores=scores[:count], pred_classes=classes[:count]
        )

    def image_scores(self, predictions: Predictions) -> tuple[list[Tensor], list[Tensor]]:
        """Compute scores [N, A_l, K] in [0, 1] and deltas [N, A_l, 4] for each level; defined by subclasses."""
        raise NotImplementedError(f"{type(self).__name__} must define image_scores()")

    def _transpose_dense_predictions(
        self, predictions: Sequence[Sequence[Tensor]], dims_per_anchor: Sequence[int]
    ) -> list[list[Tensor]]:
        """Permute each kind of prediction, [N, A * K, H, W] for each level, to [N, H * W * A, K]."""
        if len(predictions) != len(dims_per_anchor):
            raise BadValue(
                f"the head must return {len(dims_per_anchor)} kinds of predictions, got {len(predictions)}"
            )
        return [
            [permute_to_N_HWA_K(level, dim) for level in levels]
            for levels, dim in zip(predictions, dims_per_anchor)
        ]

    def _ema_update(self, name: str, value: Any, initial_value: float, momentum: float = 0.9) -> Any:
        """Update a moving average, stored in the attribute ``name``, without synchronising the device."""
        old = getattr(self, name, initial_value)
        new = old * momentum + value * (1 - momentum)
        setattr(self, name, new)
        return new

    def select(
        self, anchors: Sequence[Any], scores: Sequence[Tensor], deltas: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Call :func:`select_dense_detections` with the settings of this model."""
        return select_dense_detections(
            [a.tensor for a in anchors],
            scores,
            deltas,
            self.box2box_transform,
            self.test_score_thresh,
            self.test_topk_candidates,
            self.test_nms_thresh,
            self.max_detections_per_image,
        )

    def predict_tensors(self, images: Tensor) -> dict[str, Tensor]:
        """Detect the same number of objects in each of N images [N, C, H, W]; see :class:`.TensorInference`."""
        size = (images.shape[-2], images.shape[-1])
        features = self.features_of(images)
        maps = [features[name] for name in self.head_in_features]
        scores, deltas = self.image_scores(self.head(maps))
        anchors = self.anchor_generator(maps)
        found = []
        for i in range(scores[0].shape[0]):
            boxes, score, classes, real = self.select(anchors, [s[i] for s in scores], [d[i] for d in deltas])
            found.append((clip_boxes(boxes, *size), score, classes, real))
        return stack_detections(found, self.max_detections_per_image)

    def visualize_training(self, batched_inputs: list[ModelInput], results: list[Instances]) -> None:
        """Log an image of ground truth beside the best detections, for the first image of a batch."""
        if len(batched_inputs) != len(results):
            raise BadValue(f"got {len(batched_inputs)} inputs, but results of {len(results)} images")
        put_detection_pictures(batched_inputs, results, self.input_format or "BGR")
