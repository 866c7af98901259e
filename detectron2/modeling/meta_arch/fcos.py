"""FCOS: a dense detector that predicts distances to the sides of a box instead of refining anchors.

FCOS (Tian et al. 2019, https://arxiv.org/abs/1904.01355), as in the extended paper (https://arxiv.org/abs/2006.09214).
N images, A cells on all levels (A_l on level l), M ground truths, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detectron2.layers import ShapeSpec, cat
from detectron2.layers.losses import sigmoid_focal_loss
from detectron2.structures import Boxes, ImageList, Instances, pairwise_point_box_distance
from detectron2.utils.events import get_event_storage
from detectron2.utils.reexports import passed_on

from ..anchor_generator import DefaultAnchorGenerator
from ..backbone import Backbone
from ..backbone._resnet_blocks import Norm
from ..box_regression import Box2BoxTransformLinear, BoxTransform, _dense_box_regression_loss
from .dense_detector import DenseDetector, Predictions
from .retinanet import RetinaNetHead, _small_weights

__all__ = ["FCOS", "FCOSHead"]

__getattr__ = passed_on(__name__)

_PAIRS_AT_ONCE = 1 << 20  # pairs of cells and objects; temporary arrays are ten times as large


class FCOS(DenseDetector):
    """Predicts classes, boxes and centre-ness at every cell, represented by a box whose sides equal the stride.

    Args:
        backbone: computes feature maps from images.
        head: predicts logits, distances and centre-ness from feature maps, see :class:`FCOSHead`.
        head_in_features: names of the feature maps for the head; None = all, by stride.
        box2box_transform: encodes boxes as distances; None = distances in units of the stride.
        num_classes: K.
        center_sampling_radius: a cell is foreground if it is at most this many strides from the center of a ground
            truth.
        focal_loss_alpha, focal_loss_gamma: see :func:`detectron2.layers.losses.sigmoid_focal_loss`.
        test_score_thresh: detections must have a higher score.
        test_topk_candidates: number of pairs of cell and class per level that enter NMS.
        test_nms_thresh: IoU threshold of NMS.
        max_detections_per_image: largest number of detections.
        pixel_mean, pixel_std: statistics of each channel, in the range of the images.
    """

    def __init__(
        self,
        *,
        backbone: Backbone,
        head: nn.Module,
        head_in_features: list[str] | None = None,
        box2box_transform: BoxTransform | None = None,
        num_classes: int,
        center_sampling_radius: float = 1.5,
        focal_loss_alpha: float = 0.25,
        focal_loss_gamma: float = 2.0,
        test_score_thresh: float = 0.2,
        test_topk_candidates: int = 1000,
        test_nms_thresh: float = 0.6,
        max_detections_per_image: int = 100,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
    ) -> None:
        super().__init__(backbone, head, head_in_features, pixel_mean=pixel_mean, pixel_std=pixel_std)
        self.num_classes = num_classes
        shapes = backbone.output_shape()
        strides = [int(shapes[name].stride or 1) for name in self.head_in_features]
        self.anchor_generator = DefaultAnchorGenerator(
            sizes=[[s] for s in strides], aspect_ratios=[1.0], strides=strides, offset=0.5
        )
        self.box2box_transform = box2box_transform or Box2BoxTransformLinear(normalize_by_size=True)
        self.center_sampling_radius = float(center_sampling_radius)
        self.focal_loss_alpha = focal_loss_alpha
        self.focal_loss_gamma = focal_loss_gamma
        self.test_score_thresh = test_score_thresh
        self.test_topk_candidates = test_topk_candidates
        self.test_nms_thresh = test_nms_thresh
        self.max_detections_per_image = max_detections_per_image

    def forward_training(
        self,
        images: ImageList,
        features: list[Tensor],
        predictions: Predictions,
        gt_instances: list[Instances],
    ) -> dict[str, Tensor]:
        """Compute ``loss_fcos_cls``, ``loss_fcos_loc`` and ``loss_fcos_ctr`` of N images."""
        logits, deltas, centerness = self._transpose_dense_predictions(predictions, [self.num_classes, 4, 1])
        anchors = self.anchor_generator(features)
        labels, boxes = self.label_anchors(anchors, gt_instances)
        return self.losses(anchors, logits, labels, deltas, boxes, centerness)

    @torch.no_grad()
    def _match_anchors(self, gt_boxes: Boxes, anchors: list[Boxes]) -> Tensor:
        """Assign a ground truth, int64 [A], or -1, to each cell.

        A cell matches a box that contains its center, if this center is near that of the box and the farthest side is
        4 to 8 strides away (0 to 8 on the first level, 4 and more on the last). If it matches several boxes, it is
        assigned the smallest.
        """
        if len(gt_boxes) == 0:
            return torch.full((sum(len(a) for a in anchors),), -1, dtype=torch.int64, device=gt_boxes.device)
        cells = Boxes.cat(anchors).tensor
        sizes = cells[:, 2] - cells[:, 0]  # [A]
        nearest, farthest = sizes * 4, sizes * 8
        nearest[: len(anchors[0])] = 0
        farthest[len(cells) - len(anchors[-1]) :] = math.inf
        block_size = max(1, _PAIRS_AT_ONCE // len(gt_boxes))
        columns = [column.split(block_size) for column in (cells, sizes, nearest, farthest)]
        return torch.cat([self._match_cells(gt_boxes, *block) for block in zip(*columns)])

    def _match_cells(
        self, gt_boxes: Boxes, cells: Tensor, sizes: Tensor, nearest: Tensor, farthest: Tensor
    ) -> Tensor:
        """Match some cells [A, 4], given their sizes [A] and the limits [A] on the distance of the farthest side."""
        centers = (cells[:, :2] + cells[:, 2:]) / 2
        offset = (centers[:, None] - gt_boxes.get_centers()[None]).abs().amax(dim=2)  # [A, M]
        suits = offset < self.center_sampling_radius * sizes[:, None]
        distances = pairwise_point_box_distance(centers, gt_boxes)  # [A, M, 4]
        suits &= distances.amin(dim=2) > 0
        reach = distances.amax(dim=2)
        suits &= (reach > nearest[:, None]) & (reach < farthest[:, None])
        area = torch.where(suits, gt_boxes.area()[None], math.inf)  # [A, M]
        smallest, match = area.min(dim=1)
        return match.masked_fill(smallest.isinf(), -1)

    @torch.no_grad()
    def label_anchors(
        self, anchors: list[Boxes], gt_instances: list[Instances]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Assign to each cell a class (K = background), int64 [A], and a target box [A, 4], for each image."""
        labels, boxes = [], []
        for gt in gt_instances:
            match = self._match_anchors(gt.gt_boxes, anchors)
            if len(gt) == 0:
                labels.append(torch.full_like(match, self.num_classes))
                boxes.append(gt.gt_boxes.tensor.new_zeros((len(match), 4)))
                continue
            index = match.clamp(min=0)
            labels.append(gt.gt_classes[index].masked_fill(match < 0, self.num_classes))
            boxes.append(gt.gt_boxes.tensor[index])
        return labels, boxes

    def losses(
        self,
        anchors: list[Boxes],
        pred_logits: list[Tensor],
        gt_labels: list[Tensor],
        pred_anchor_deltas: list[Tensor],
        gt_boxes: list[Tensor],
        pred_centerness: list[Tensor],
    ) -> dict[str, Tensor]:
        """Compute the focal loss of all cells, and the GIoU and centre-ness losses of foreground cells.

        All are divided by a moving average of the number of foreground cells.

        Args:
            anchors, pred_logits, gt_labels, pred_anchor_deltas, gt_boxes: as in :meth:`.RetinaNet.losses`.
            pred_centerness: logits [N, A_l, 1] for each level.
        """
        labels = torch.stack(gt_labels)  # [N, A]
        foreground = (labels >= 0) & (labels != self.num_classes)
        num_foreground = foreground.sum()
        get_event_storage().put_scalar("num_pos_anchors", num_foreground / labels.shape[0])
        divisor = self._ema_update("loss_normalizer", num_foreground.clamp(min=1), 300)
        logits = cat(pred_logits, dim=1)
        target = F.one_hot(labels, self.num_classes + 1)[:, :, :-1].to(logits.dtype)
        classification = sigmoid_focal_loss(
            logits, target, alpha=self.focal_loss_alpha, gamma=self.focal_loss_gamma, reduction="sum"
        )
        location = _dense_box_regression_loss(
            anchors,
            self.box2box_transform,
            pred_anchor_deltas,
            gt_boxes,
            foreground,
            box_reg_loss_type="giou",
        )
        rows = torch.nonzero(foreground.flatten())[:, 0]
        centerness = F.binary_cross_entropy_with_logits(
            cat(pred_centerness, dim=1).flatten()[rows],
            self.compute_ctrness_targets(anchors, gt_boxes).flatten()[rows],
            reduction="sum",
        )
        return {
            "loss_fcos_cls": classification / divisor,
            "loss_fcos_loc": location / divisor,
            "loss_fcos_ctr": centerness / divisor,
        }

    def compute_ctrness_targets(self, anchors: list[Boxes], gt_boxes: list[Tensor]) -> Tensor:
        """Compute the centre-ness [N, A] of cells in their boxes: 1 at the center, 0 on the border (equation 3).

        The value is meaningless for cells outside their box.
        """
        cells = Boxes.cat(anchors).tensor
        left, top, right, bottom = (
            Box2BoxTransformLinear(normalize_by_size=True)
            .get_deltas(cells.expand(len(gt_boxes), -1, -1), torch.stack(list(gt_boxes)))
            .unbind(dim=2)
        )
        across = torch.minimum(left, right) / torch.maximum(left, right)
        down = torch.minimum(top, bottom) / torch.maximum(top, bottom)
        return (across * down).sqrt()

    def image_scores(self, predictions: Predictions) -> tuple[list[Tensor], list[Tensor]]:
        """Compute scores [N, A_l, K] and distances [N, A_l, 4] for each level.

        A score is the geometric mean of class probability and centre-ness.
        """
        logits, deltas, centerness = self._transpose_dense_predictions(predictions, [self.num_classes, 4, 1])
        return [(s.sigmoid() * c.sigmoid()).sqrt() for s, c in zip(logits, centerness)], deltas


class FCOSHead(RetinaNetHead):
    """The head of RetinaNet with one prediction per cell, and centre-ness predicted from the box tower.

    Args:
        input_shape, conv_dims, num_classes, norm, prior_prob: see :class:`.RetinaNetHead`.
    """

    def __init__(
        self,
        *,
        input_shape: list[ShapeSpec],
        conv_dims: Sequence[int],
        norm: Norm = "",
        **kwargs: Any,
    ) -> None:
        super().__init__(input_shape=input_shape, conv_dims=conv_dims, norm=norm, num_anchors=1, **kwargs)
        self.ctrness = nn.Conv2d(conv_dims[-1], 1, kernel_size=3, padding=1)
        _small_weights(self.ctrness)

    def forward(self, features: list[Tensor]) -> tuple[list[Tensor], ...]:
        """Compute logits [N, K, H, W], distances [N, 4, H, W] and centre-ness logits [N, 1, H, W] for each map."""
        logits, deltas, centerness = [], [], []
        for f in features:
            logits.append(self.cls_score(self.cls_subnet(f)))
            hidden = self.bbox_subnet(f)
            deltas.append(self.bbox_pred(hidden))
            centerness.append(self.ctrness(hidden))
        return logits, deltas, centerness
