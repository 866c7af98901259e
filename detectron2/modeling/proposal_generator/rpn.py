"""Region proposal network.

Faster R-CNN (Ren et al. 2015, https://arxiv.org/abs/1506.01497), section 3.
N images, A anchors on all levels (A_l on level l), D = 4 or 5 numbers per box.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detectron2.config import CfgNode, configurable
from detectron2.layers import Conv2d, ShapeSpec, cat
from detectron2.structures import Boxes, ImageList, Instances, pairwise_iou
from detectron2.utils.errors import BadValue
from detectron2.utils.events import get_event_storage
from detectron2.utils.memory import retry_if_cuda_oom
from detectron2.utils.registry import Registry

from .._selection import clip_boxes
from ..anchor_generator import AnchorGenerator, build_anchor_generator
from ..box_regression import Box2BoxTransform, BoxTransform, _dense_box_regression_loss
from ..matcher import Matcher, match_boxes
from ..sampling import subsample_labels
from ._registry import PROPOSAL_GENERATOR_REGISTRY, RPN_HEAD_REGISTRY
from .proposal_utils import find_top_rpn_proposals, gather_candidates, suppress_candidates

__all__ = ["RPN", "RPN_HEAD_REGISTRY", "Registry", "StandardRPNHead", "build_rpn_head"]


def build_rpn_head(cfg: CfgNode, input_shape: list[ShapeSpec]) -> nn.Module:
    """Build the registered head that ``MODEL.RPN.HEAD_NAME`` names."""
    return RPN_HEAD_REGISTRY.get(cfg.MODEL.RPN.HEAD_NAME)(cfg, input_shape)


@RPN_HEAD_REGISTRY.register()
class StandardRPNHead(nn.Module):
    """3x3 convolutions, then one 1x1 convolution for objectness and one for deltas; shared by all levels.

    Args:
        in_channels: channels of every feature map.
        num_anchors: anchors per cell.
        box_dim: numbers per box, 4 or (rotated) 5.
        conv_dims: output channels of each 3x3 convolution; -1 = its input channels.
    """

    @configurable
    def __init__(
        self, *, in_channels: int, num_anchors: int, box_dim: int = 4, conv_dims: Sequence[int] = (-1,)
    ) -> None:
        super().__init__()
        widths: list[int] = []
        for dim in conv_dims:
            widths.append((widths[-1] if widths else in_channels) if dim == -1 else int(dim))
        if not widths or min(widths) <= 0:
            raise BadValue(f"conv_dims must be one or more positive numbers or -1, got {list(conv_dims)}")
        layers: list[nn.Conv2d] = [
            Conv2d(a, b, kernel_size=3, padding=1, activation=nn.ReLU())
            for a, b in zip([in_channels, *widths], widths)
        ]
        if len(layers) == 1:
            self.conv: nn.Module = layers[0]
        else:
            self.conv = nn.Sequential()
            for i, layer in enumerate(layers):
                self.conv.add_module(f"conv{i}", layer)
        self.objectness_logits = nn.Conv2d(widths[-1], num_anchors, kernel_size=1)
        self.anchor_deltas = nn.Conv2d(widths[-1], num_anchors * box_dim, kernel_size=1)
        for layer in (*layers, self.objectness_logits, self.anchor_deltas):
            nn.init.normal_(layer.weight, std=0.01)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: list[ShapeSpec]) -> dict[str, Any]:
        """Read the arguments from ``MODEL.RPN.CONV_DIMS`` and ``MODEL.ANCHOR_GENERATOR``."""
        channels = {s.channels for s in input_shape}
        if len(channels) != 1:
            raise BadValue(
                f"all feature maps of the RPN must have the same number of channels, got {channels}"
            )
        generator = build_anchor_generator(cfg, input_shape)
        counts = set(generator.num_anchors)
        if len(counts) != 1:
            raise BadValue(
                f"all feature maps of the RPN must have the same number of anchors per cell, got {counts}"
            )
        return {
            "in_channels": channels.pop(),
            "num_anchors": counts.pop(),
            "box_dim": generator.box_dim,
            "conv_dims": cfg.MODEL.RPN.CONV_DIMS,
        }

    def forward(self, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Compute logits [N, num_anchors, H, W] and deltas [N, num_anchors * box_dim, H, W] for each map [N, C, H, W]."""
        hidden = [self.conv(f) for f in features]
        return [self.objectness_logits(h) for h in hidden], [self.anchor_deltas(h) for h in hidden]


@PROPOSAL_GENERATOR_REGISTRY.register()
class RPN(nn.Module):
    """Classifies anchors as object or background, and regresses boxes from them.

    Args:
        in_features: names of the feature maps to use.
        head: predicts logits and deltas from a list of feature maps.
        anchor_generator: creates the anchors.
        anchor_matcher: labels anchors by their IoU with the ground truth.
        box2box_transform: encodes boxes as deltas.
        batch_size_per_image: number of anchors sampled for the loss.
        positive_fraction: largest fraction of foreground among them.
        pre_nms_topk: number of proposals per level that enter NMS, in training and in evaluation.
        post_nms_topk: number of proposals after NMS, in training and in evaluation.
        nms_thresh: IoU threshold of NMS.
        min_box_size: proposals with a side of at most this many pixels are dropped.
        anchor_boundary_thresh: anchors that exceed the image by more than this many pixels are ignored in training;
            a negative number ignores none.
        loss_weight: one factor for all losses, or a dict with a factor for ``loss_rpn_cls`` and ``loss_rpn_loc``.
        box_reg_loss_type: "smooth_l1", "giou", "diou" or "ciou".
        smooth_l1_beta: error at which smooth L1 changes from quadratic to linear; 0 = plain L1.
    """

    _clip: Any = staticmethod(clip_boxes)

    @configurable
    def __init__(
        self,
        *,
        in_features: list[str],
        head: nn.Module,
        anchor_generator: AnchorGenerator,
        anchor_matcher: Matcher,
        box2box_transform: BoxTransform,
        batch_size_per_image: int,
        positive_fraction: float,
        pre_nms_topk: tuple[int, int],
        post_nms_topk: tuple[int, int],
        nms_thresh: float = 0.7,
        min_box_size: float = 0.0,
        anchor_boundary_thresh: float = -1.0,
        loss_weight: float | dict[str, float] = 1.0,
        box_reg_loss_type: str = "smooth_l1",
        smooth_l1_beta: float = 0.0,
    ) -> None:
        super().__init__()
        self.in_features = in_features
        self.rpn_head = head
        self.anchor_generator = anchor_generator
        self.anchor_matcher = anchor_matcher
        self.box2box_transform = box2box_transform
        self.batch_size_per_image = batch_size_per_image
        self.positive_fraction = positive_fraction
        # indexed by self.training
        self.pre_nms_topk = {True: pre_nms_topk[0], False: pre_nms_topk[1]}
        self.post_nms_topk = {True: post_nms_topk[0], False: post_nms_topk[1]}
        self.nms_thresh = nms_thresh
        self.min_box_size = float(min_box_size)
        self.anchor_boundary_thresh = anchor_boundary_thresh
        if not isinstance(loss_weight, Mapping):
            loss_weight = {"loss_rpn_cls": loss_weight, "loss_rpn_loc": loss_weight}
        self.loss_weight = dict(loss_weight)
        self.box_reg_loss_type = box_reg_loss_type
        self.smooth_l1_beta = smooth_l1_beta

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        """Read the arguments from ``MODEL.RPN`` and ``MODEL.PROPOSAL_GENERATOR``."""
        node = cfg.MODEL.RPN
        shapes = [input_shape[f] for f in node.IN_FEATURES]
        return {
            "in_features": node.IN_FEATURES,
            "min_box_size": cfg.MODEL.PROPOSAL_GENERATOR.MIN_SIZE,
            "nms_thresh": node.NMS_THRESH,
            "batch_size_per_image": node.BATCH_SIZE_PER_IMAGE,
            "positive_fraction": node.POSITIVE_FRACTION,
            "loss_weight": {
                "loss_rpn_cls": node.LOSS_WEIGHT,
                "loss_rpn_loc": node.BBOX_REG_LOSS_WEIGHT * node.LOSS_WEIGHT,
            },
            "anchor_boundary_thresh": node.BOUNDARY_THRESH,
            "box2box_transform": Box2BoxTransform(weights=node.BBOX_REG_WEIGHTS),
            "box_reg_loss_type": node.BBOX_REG_LOSS_TYPE,
            "smooth_l1_beta": node.SMOOTH_L1_BETA,
            "pre_nms_topk": (node.PRE_NMS_TOPK_TRAIN, node.PRE_NMS_TOPK_TEST),
            "post_nms_topk": (node.POST_NMS_TOPK_TRAIN, node.POST_NMS_TOPK_TEST),
            "anchor_generator": build_anchor_generator(cfg, shapes),
            "anchor_matcher": Matcher(node.IOU_THRESHOLDS, node.IOU_LABELS, allow_low_quality_matches=True),
            "head": build_rpn_head(cfg, shapes),
        }

    def forward(
        self,
        images: ImageList,
        features: dict[str, Tensor],
        gt_instances: list[Instances] | None = None,
    ) -> tuple[list[Instances], dict[str, Tensor]]:
        """Propose boxes for each image; in training also compute the losses.

        Args:
            images: N images; only their sizes are used.
            features: feature maps [N, C, H, W] by name.
            gt_instances: N Instances with ``gt_boxes``; needed in training.

        Returns:
            N Instances with ``proposal_boxes`` and ``objectness_logits`` in descending order, and the losses
            (empty in evaluation).

        Raises:
            ValueError: if ``gt_instances`` is missing in training.
        """
        maps = [features[f] for f in self.in_features]
        anchors = self.anchor_generator(maps)
        logits, deltas = self.predict(maps)
        losses: dict[str, Tensor] = {}
        if self.training:
            if gt_instances is None:
                raise BadValue("the RPN needs gt_instances in training; call .eval() first to run inference")
            labels, boxes = self.label_and_sample_anchors(anchors, gt_instances)
            losses = self.losses(anchors, logits, labels, deltas, boxes)
        return self.predict_proposals(anchors, logits, deltas, images.image_sizes), losses

    def predict(self, maps: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Compute logits [N, A_l] and deltas [N, A_l, D] for each level, in the order of the anchors."""
        dim = self.anchor_generator.box_dim
        logits, deltas = self.rpn_head(maps)
        flat_logits = [s.permute(0, 2, 3, 1).flatten(1) for s in logits]
        # [N, a * D, H, W] -> [N, H, W, a * D] -> [N, H * W * a, D]
        flat_deltas = [d.permute(0, 2, 3, 1).reshape(d.shape[0], -1, dim) for d in deltas]
        return flat_logits, flat_deltas

    def _subsample_labels(self, label: Tensor) -> Tensor:
        """Sample labels [A]: set those not sampled to -1, in place. Subclasses may override it."""
        pos, neg = subsample_labels(label, self.batch_size_per_image, self.positive_fraction, 0)
        label.fill_(-1)
        label[pos] = 1
        label[neg] = 0
        return label

    def _pairwise_quality(self, gt: Boxes, anchors: Boxes) -> Tensor:
        """Compute the IoU [M, A] of ground truth and anchors, on the CPU if the accelerator runs out of memory."""
        return retry_if_cuda_oom(pairwise_iou)(gt, anchors)

    @torch.no_grad()
    def label_and_sample_anchors(
        self, anchors: list[Boxes], gt_instances: list[Instances]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Sample the anchors for the loss, and assign a target box to each of them.

        Args:
            anchors: one ``Boxes`` for each level.
            gt_instances: N Instances with ``gt_boxes``.

        Returns:
            For each image, labels int8 [A] in {-1 (ignored), 0 (background), 1 (foreground)} and boxes [A, D], which
            are meaningful only for foreground.
        """
        everywhere = type(anchors[0]).cat(anchors)
        labels, boxes = [], []
        for gt in gt_instances:
            matches, label = match_boxes(self.anchor_matcher, self._pairwise_quality, gt.gt_boxes, everywhere)
            label = label.to(device=everywhere.device)
            if self.anchor_boundary_thresh >= 0:
                inside = everywhere.inside_box(gt.image_size, self.anchor_boundary_thresh)  # type: ignore[arg-type]
                label[~inside] = -1
            labels.append(self._subsample_labels(label))
            targets = gt.gt_boxes.tensor
            boxes.append(targets[matches] if len(targets) else torch.zeros_like(everywhere.tensor))
        return labels, boxes

    def losses(
        self,
        anchors: list[Boxes],
        pred_objectness_logits: list[Tensor],
        gt_labels: list[Tensor],
        pred_anchor_deltas: list[Tensor],
        gt_boxes: list[Tensor],
    ) -> dict[str, Tensor]:
        """Compute ``loss_rpn_cls`` and ``loss_rpn_loc``, both divided by the number of anchors to sample.

        Args:
            anchors: one ``Boxes`` [A_l] for each level.
            pred_objectness_logits: [N, A_l] for each level.
            gt_labels: [A] for each image, from :meth:`label_and_sample_anchors`.
            pred_anchor_deltas: [N, A_l, D] for each level.
            gt_boxes: [A, D] for each image.
        """
        labels = torch.stack(gt_labels)  # [N, A]
        num_images = labels.shape[0]
        foreground = labels == 1
        storage = get_event_storage()
        # Tensors, not numbers, so that the device is not synchronised until a writer reads them.
        storage.put_scalar("rpn/num_pos_anchors", foreground.sum() / num_images)
        storage.put_scalar("rpn/num_neg_anchors", (labels == 0).sum() / num_images)

        location = _dense_box_regression_loss(
            anchors,
            self.box2box_transform,
            pred_anchor_deltas,
            gt_boxes,
            foreground,
            box_reg_loss_type=self.box_reg_loss_type,
            smooth_l1_beta=self.smooth_l1_beta,
        )
        drawn = torch.nonzero(labels.flatten() >= 0)[:, 0]
        objectness = F.binary_cross_entropy_with_logits(
            cat(pred_objectness_logits, dim=1).flatten()[drawn],
            labels.flatten()[drawn].to(torch.float32),
            reduction="sum",
        )
        scale = 1.0 / (self.batch_size_per_image * num_images)
        found = {"loss_rpn_cls": objectness * scale, "loss_rpn_loc": location * scale}
        return {name: loss * self.loss_weight.get(name, 1.0) for name, loss in found.items()}

    def predict_proposals(
        self,
        anchors: list[Boxes],
        pred_objectness_logits: list[Tensor],
        pred_anchor_deltas: list[Tensor],
        image_sizes: list[tuple[int, int]],
    ) -> list[Instances]:
        """Decode all anchors and keep the best of each image; no gradient flows through proposals."""
        with torch.no_grad():
            return find_top_rpn_proposals(
                self._decode_proposals(anchors, pred_anchor_deltas),
                pred_objectness_logits,
                image_sizes,
                self.nms_thresh,
                self.pre_nms_topk[self.training],
                self.post_nms_topk[self.training],
                self.min_box_size,
                self.training,
            )

    def propose_tensors(
        self, features: dict[str, Tensor], size: tuple[int, int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Propose the same number of boxes in each image, for :class:`.TensorInference`.

        Args:
            features: feature maps [N, C, H, W] by name.
            size: height and width of the N images.

        Returns:
            Boxes [N, P, 4] and logits [N, P] in descending order, and bool [N, P]: which rows are real.
        """
        maps = [features[name] for name in self.in_features]
        logits, deltas = self.predict(maps)
        decoded = self._decode_proposals(self.anchor_generator(maps), deltas)
        boxes, scores, levels = gather_candidates(decoded, logits, self.pre_nms_topk[False])
        return suppress_candidates(
            boxes,
            scores,
            levels,
            [size] * maps[0].shape[0],
            self.nms_thresh,
            self.post_nms_topk[False],
            self.min_box_size,
            self._clip,
        )

    def _decode_proposals(self, anchors: list[Boxes], pred_anchor_deltas: list[Tensor]) -> list[Tensor]:
        """Decode boxes [N, A_l, D] for each level."""
        return [
            self.box2box_transform.apply_deltas(deltas, level.tensor)
            for level, deltas in zip(anchors, pred_anchor_deltas)
        ]
