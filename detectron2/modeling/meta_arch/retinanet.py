"""RetinaNet: a dense detector that is trained on all anchors with the focal loss.

Focal Loss for Dense Object Detection (Lin et al. 2017, https://arxiv.org/abs/1708.02002).
N images, A anchors on all levels (A_l on level l), K classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detectron2.config import CfgNode, configurable
from detectron2.layers import Conv2d, CycleBatchNormList, ShapeSpec, cat, get_norm
from detectron2.layers.losses import sigmoid_focal_loss
from detectron2.structures import Boxes, ImageList, Instances, pairwise_iou
from detectron2.utils.errors import BadValue
from detectron2.utils.events import get_event_storage
from detectron2.utils.reexports import passed_on

from ..anchor_generator import AnchorGenerator, build_anchor_generator
from ..backbone import Backbone, build_backbone
from ..backbone._resnet_blocks import Norm
from ..box_regression import Box2BoxTransform, BoxTransform, _dense_box_regression_loss
from ..matcher import Matcher, match_boxes
from .build import META_ARCH_REGISTRY
from .dense_detector import DenseDetector, Predictions, permute_to_N_HWA_K

__all__ = ["RetinaNet", "RetinaNetHead", "permute_to_N_HWA_K"]

__getattr__ = passed_on(__name__)


@META_ARCH_REGISTRY.register()
class RetinaNet(DenseDetector):
    """Predicts class scores and box deltas at every anchor.

    Args:
        backbone: computes feature maps from images.
        head: predicts logits and deltas from feature maps, see :class:`RetinaNetHead`.
        head_in_features: names of the feature maps for the head.
        anchor_generator: creates the anchors.
        box2box_transform: encodes boxes as deltas.
        anchor_matcher: labels anchors by their IoU with the ground truth.
        num_classes: K.
        focal_loss_alpha, focal_loss_gamma: see :func:`detectron2.layers.losses.sigmoid_focal_loss`.
        smooth_l1_beta: error at which smooth L1 changes from quadratic to linear; 0 = plain L1.
        box_reg_loss_type: "smooth_l1", "giou", "diou" or "ciou".
        test_score_thresh: detections must have a higher score.
        test_topk_candidates: number of pairs of anchor and class per level that enter NMS.
        test_nms_thresh: IoU threshold of NMS.
        max_detections_per_image: largest number of detections.
        pixel_mean, pixel_std: statistics of each channel, in the range of the images.
        vis_period: number of iterations between logged images of ground truth and detections; 0 = never.
        input_format: order of the channels, such as "BGR"; used only for ``vis_period``.
    """

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        head: nn.Module,
        head_in_features: list[str],
        anchor_generator: AnchorGenerator,
        box2box_transform: BoxTransform,
        anchor_matcher: Matcher,
        num_classes: int,
        focal_loss_alpha: float = 0.25,
        focal_loss_gamma: float = 2.0,
        smooth_l1_beta: float = 0.0,
        box_reg_loss_type: str = "smooth_l1",
        test_score_thresh: float = 0.05,
        test_topk_candidates: int = 1000,
        test_nms_thresh: float = 0.5,
        max_detections_per_image: int = 100,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        vis_period: int = 0,
        input_format: str | None = "BGR",
    ) -> None:
        super().__init__(backbone, head, head_in_features, pixel_mean=pixel_mean, pixel_std=pixel_std)
        self.num_classes = num_classes
        self.anchor_generator = anchor_generator
        self.box2box_transform = box2box_transform
        self.anchor_matcher = anchor_matcher
        self.focal_loss_alpha = focal_loss_alpha
        self.focal_loss_gamma = focal_loss_gamma
        self.smooth_l1_beta = smooth_l1_beta
        self.box_reg_loss_type = box_reg_loss_type
        self.test_score_thresh = test_score_thresh
        self.test_topk_candidates = test_topk_candidates
        self.test_nms_thresh = test_nms_thresh
        self.max_detections_per_image = max_detections_per_image
        self.vis_period = vis_period
        self.input_format = input_format

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Read the arguments from ``MODEL.RETINANET``, ``MODEL.ANCHOR_GENERATOR`` and ``TEST``."""
        node = cfg.MODEL.RETINANET
        backbone = build_backbone(cfg)
        shapes = [backbone.output_shape()[name] for name in node.IN_FEATURES]
        return {
            "backbone": backbone,
            "head": RetinaNetHead(cfg, shapes),
            "head_in_features": node.IN_FEATURES,
            "anchor_generator": build_anchor_generator(cfg, shapes),
            "box2box_transform": Box2BoxTransform(weights=node.BBOX_REG_WEIGHTS),
            "anchor_matcher": Matcher(node.IOU_THRESHOLDS, node.IOU_LABELS, allow_low_quality_matches=True),
            "num_classes": node.NUM_CLASSES,
            "focal_loss_alpha": node.FOCAL_LOSS_ALPHA,
            "focal_loss_gamma": node.FOCAL_LOSS_GAMMA,
            "smooth_l1_beta": node.SMOOTH_L1_LOSS_BETA,
            "box_reg_loss_type": node.BBOX_REG_LOSS_TYPE,
            "test_score_thresh": node.SCORE_THRESH_TEST,
            "test_topk_candidates": node.TOPK_CANDIDATES_TEST,
            "test_nms_thresh": node.NMS_THRESH_TEST,
            "max_detections_per_image": cfg.TEST.DETECTIONS_PER_IMAGE,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "vis_period": cfg.VIS_PERIOD,
            "input_format": cfg.INPUT.FORMAT,
        }

    def forward_training(
        self,
        images: ImageList,
        features: list[Tensor],
        predictions: Predictions,
        gt_instances: list[Instances],
    ) -> dict[str, Tensor]:
        """Compute ``loss_cls`` and ``loss_box_reg`` of N images."""
        logits, deltas = self._transpose_dense_predictions(predictions, [self.num_classes, 4])
        anchors = self.anchor_generator(features)
        labels, boxes = self.label_anchors(anchors, gt_instances)
        return self.losses(anchors, logits, labels, deltas, boxes)

    def losses(
        self,
        anchors: list[Boxes],
        pred_logits: list[Tensor],
        gt_labels: list[Tensor],
        pred_anchor_deltas: list[Tensor],
        gt_boxes: list[Tensor],
    ) -> dict[str, Tensor]:
        """Compute the focal loss of all anchors and the localisation loss of foreground anchors.

        Both are divided by a moving average of the number of foreground anchors, which is steadier than the number in
        one batch.

        Args:
            anchors: one ``Boxes`` [A_l] for each level.
            pred_logits: [N, A_l, K] for each level.
            gt_labels: [A] for each image: a class, K for background, -1 for ignored.
            pred_anchor_deltas: [N, A_l, 4] for each level.
            gt_boxes: [A, 4] for each image.
        """
        labels = torch.stack(gt_labels)  # [N, A]
        counted = labels >= 0
        foreground = counted & (labels != self.num_classes)
        num_foreground = foreground.sum()
        get_event_storage().put_scalar("num_pos_anchors", num_foreground / labels.shape[0])
        divisor = self._ema_update("loss_normalizer", num_foreground.clamp(min=1), 100)
        image, anchor = counted.nonzero(as_tuple=True)
        target = F.one_hot(labels[image, anchor], self.num_classes + 1)[:, :-1]
        logits = cat(pred_logits, dim=1)[image, anchor]
        classification = sigmoid_focal_loss(
            logits,
            target.to(logits.dtype),
            alpha=self.focal_loss_alpha,
            gamma=self.focal_loss_gamma,
            reduction="sum",
        )
        location = _dense_box_regression_loss(
            anchors,
            self.box2box_transform,
            pred_anchor_deltas,
            gt_boxes,
            foreground,
            box_reg_loss_type=self.box_reg_loss_type,
            smooth_l1_beta=self.smooth_l1_beta,
        )
        return {"loss_cls": classification / divisor, "loss_box_reg": location / divisor}

    @torch.no_grad()
    def label_anchors(
        self, anchors: list[Boxes], gt_instances: list[Instances]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Assign a class and a target box to each anchor.

        Args:
            anchors: one ``Boxes`` for each level.
            gt_instances: N Instances with ``gt_boxes`` and ``gt_classes``.

        Returns:
            For each image, labels int64 [A] (K = background, -1 = ignored) and boxes [A, 4], which are meaningful only
            for foreground.
        """
        everywhere = Boxes.cat(anchors)
        labels, boxes = [], []
        for gt in gt_instances:
            matches, quality = match_boxes(self.anchor_matcher, pairwise_iou, gt.gt_boxes, everywhere)
            if len(gt) == 0:
                labels.append(torch.full_like(matches, self.num_classes))
                boxes.append(torch.zeros_like(everywhere.tensor))
                continue
            classes = gt.gt_classes[matches]
            labels.append(classes.masked_fill(quality == 0, self.num_classes).masked_fill(quality == -1, -1))
            boxes.append(gt.gt_boxes.tensor[matches])
        return labels, boxes

    def image_scores(self, predictions: Predictions) -> tuple[list[Tensor], list[Tensor]]:
        """Compute scores [N, A_l, K] and deltas [N, A_l, 4] for each level."""
        logits, deltas = self._transpose_dense_predictions(predictions, [self.num_classes, 4])
        return [level.sigmoid() for level in logits], deltas


class RetinaNetHead(nn.Module):
    """Two towers of 3x3 convolutions, for classes and boxes, shared by all levels.

    Args:
        input_shape: the feature maps; all have the same channels.
        num_classes: K.
        num_anchors: anchors per cell.
        conv_dims: channels of the convolutions of each tower.
        norm: norm after each convolution, see :func:`detectron2.layers.get_norm`. "BN" and "SyncBN" keep separate
            statistics for each level, because levels differ too much to share them.
        prior_prob: initial probability of foreground in classification.
    """

    @configurable
    def __init__(
        self,
        *,
        input_shape: list[ShapeSpec],
        num_classes: int,
        num_anchors: int,
        conv_dims: Sequence[int],
        norm: Norm = "",
        prior_prob: float = 0.01,
    ) -> None:
        super().__init__()
        channels = {s.channels or 0 for s in input_shape}
        if len(channels) != 1:
            raise BadValue(
                f"all feature maps of a head must have the same number of channels, got {channels}"
            )
        norm = _norm_for_levels(norm, len(input_shape))
        width = channels.pop()
        self.cls_subnet = _tower(width, conv_dims, norm)
        self.bbox_subnet = _tower(width, conv_dims, norm)
        last = conv_dims[-1] if len(conv_dims) else width
        self.cls_score = Conv2d(last, num_anchors * num_classes, kernel_size=3, padding=1)
        self.bbox_pred = Conv2d(last, num_anchors * 4, kernel_size=3, padding=1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                _small_weights(module)
        assert self.cls_score.bias is not None
        nn.init.constant_(self.cls_score.bias, -math.log((1 - prior_prob) / prior_prob))

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: list[ShapeSpec]) -> dict[str, Any]:
        """Read the arguments from ``MODEL.RETINANET`` and ``MODEL.ANCHOR_GENERATOR``."""
        node = cfg.MODEL.RETINANET
        generator = build_anchor_generator(cfg, input_shape)
        counts = set(generator.num_anchors)
        if len(counts) != 1:
            raise BadValue(
                f"all feature maps of RetinaNet must have the same number of anchors per cell, got {counts}"
            )
        return {
            "input_shape": input_shape,
            "num_classes": node.NUM_CLASSES,
            "conv_dims": [input_shape[0].channels] * node.NUM_CONVS,
            "prior_prob": node.PRIOR_PROB,
            "norm": node.NORM,
            "num_anchors": counts.pop(),
        }

    def forward(self, features: list[Tensor]) -> tuple[list[Tensor], ...]:
        """Compute logits [N, num_anchors * K, H, W] and deltas [N, num_anchors * 4, H, W] for each map [N, C, H, W]."""
        logits = [self.cls_score(self.cls_subnet(f)) for f in features]
        deltas = [self.bbox_pred(self.bbox_subnet(f)) for f in features]
        return logits, deltas


def _small_weights(conv: nn.Conv2d) -> None:
    nn.init.normal_(conv.weight, std=0.01)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)


def _norm_for_levels(norm: Norm, num_levels: int) -> Norm:
    kinds = {"BN": nn.BatchNorm2d, "SyncBN": nn.SyncBatchNorm}
    if not isinstance(norm, str) or norm not in kinds:
        return norm
    return lambda width: CycleBatchNormList(length=num_levels, bn_class=kinds[norm], num_features=width)


def _tower(channels: int, widths: Sequence[int], norm: Norm) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in widths:
        layers.append(Conv2d(channels, width, kernel_size=3, padding=1))
        if norm:
            layers.append(get_norm(norm, width) or nn.Identity())
        layers.append(nn.ReLU())
        channels = width
    return nn.Sequential(*layers)
