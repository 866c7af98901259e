"""Region proposal network.

Faster R-CNN (Ren et al. 2015, https://arxiv.org/abs/1506.01497), section 3.
N images, A anchors on all levels (A_l on level l), D = 4 or 5 numbers per box.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec, cat
from detectron2.structures import Boxes, ImageList, Instances, pairwise_iou
from detectron2.utils.errors import BadValue
from detectron2.utils.events import get_event_storage
from detectron2.utils.memory import retry_if_cuda_oom
from detectron2.utils.reexports import passed_on, publish
from detectron2.utils.registry import Registry

from .._selection import clip_boxes, rows_of_each, selects_in_rounds
from ..anchor_generator import AnchorGenerator, build_anchor_generator
from ..box_regression import Box2BoxTransform, BoxTransform, _box_loss, _dense_box_regression_loss
from ..fixed_shapes import Size, size_of_each
from ..matcher import Matcher, match_boxes
from ..sampling import sample_rows, subsample_labels
from ..tensor_inference import Tensors
from ._registry import PROPOSAL_GENERATOR_REGISTRY, RPN_HEAD_REGISTRY
from ._rpn_head import StandardRPNHead, build_rpn_head
from .proposal_utils import find_top_rpn_proposals, gather_candidates, suppress_candidates

__all__ = ["RPN", "RPN_HEAD_REGISTRY", "Registry", "StandardRPNHead", "build_rpn_head"]

__getattr__ = passed_on(__name__)
publish(__name__, StandardRPNHead, build_rpn_head)


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
        logits = cat(pred_objectness_logits, dim=1).flatten()[drawn]
        # The loss is computed in the type of the labels.
        wide = torch.promote_types(logits.dtype, torch.float32)
        objectness = F.binary_cross_entropy_with_logits(
            logits, labels.flatten()[drawn].to(wide), reduction="sum"
        )
        return self._weighted(objectness, location, num_images)

    def _weighted(self, objectness: Tensor, location: Tensor, num_images: int) -> dict[str, Tensor]:
        """Divide sums over the batch by the number of anchors to sample, and apply the weights of the losses."""
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

    def propose_tensors(self, features: Tensors, size: Size) -> tuple[Tensor, Tensor, Tensor]:
        """Propose the same number of boxes in each image, for :class:`.TensorInference`.

        Args:
            features: feature maps [N, C, H, W] by name.
            size: height and width of the N images, numbers or tensors [N].

        Returns:
            Boxes [N, P, 4] and logits [N, P] in descending order, and bool [N, P]: which rows are real.
        """
        maps = [features[name] for name in self.in_features]
        logits, deltas = self.predict(maps)
        return self._select_tensors(self.anchor_generator(maps), logits, deltas, size)

    def loss_tensors(
        self, features: Tensors, size: Size, truth: Tensors
    ) -> tuple[tuple[Tensor, Tensor, Tensor], Tensors]:
        """Propose as :meth:`propose_tensors`, and compute the losses; see :mod:`.fixed_shapes`.

        Args:
            features, size: see there.
            truth: ground truth of N images, see :func:`.padded_truth`.

        Returns:
            Boxes, logits and mask of proposals, which have no gradient, and scalars by name: losses, and with a slash
            in their names figures for the log.
        """
        maps = [features[name] for name in self.in_features]
        logits, deltas = self.predict(maps)
        anchors = self.anchor_generator(maps)
        scalars = self._losses_of_fixed_samples(anchors, logits, deltas, size, truth)
        with torch.no_grad():
            return self._select_tensors(anchors, logits, deltas, size), scalars

    def _losses_of_fixed_samples(
        self, anchors: list[Boxes], logits: list[Tensor], deltas: list[Tensor], size: Size, truth: Tensors
    ) -> Tensors:
        """Compute what :meth:`losses` does, from a fixed number of anchors and their weights."""
        everywhere = type(anchors[0]).cat(anchors)
        labels, matches = self._match_padded(everywhere, size, truth)
        rows, drawn = sample_rows(labels, self.batch_size_per_image, self.positive_fraction, 0)
        foreground = drawn & (labels.gather(1, rows) == 1)
        objectness = F.binary_cross_entropy_with_logits(
            torch.cat(logits, dim=1).gather(1, rows), foreground.float(), drawn.float(), reduction="sum"
        )
        most = int(self.batch_size_per_image * self.positive_fraction)
        rows = rows[:, :most]  # foreground is here
        location = _box_loss(
            self.box2box_transform,
            everywhere.tensor[rows].flatten(0, 1),
            rows_of_each(torch.cat(deltas, dim=1), rows).flatten(0, 1),
            rows_of_each(truth["boxes"], matches.gather(1, rows)).flatten(0, 1),
            self.box_reg_loss_type,
            self.smooth_l1_beta,
            foreground[:, :most].flatten(),
        )
        num_images = rows.shape[0]
        figures = {
            "rpn/num_pos_anchors": foreground.sum() / num_images,
            "rpn/num_neg_anchors": (drawn & ~foreground).sum() / num_images,
        }
        return self._weighted(objectness, location, num_images) | figures

    @torch.no_grad()
    def _match_padded(self, anchors: Boxes, size: Size, truth: Tensors) -> tuple[Tensor, Tensor]:
        """Return the label and the match of all anchors, both [N, A]."""
        labels, matches = [], []
        sizes = size_of_each(size, truth["valid"].shape[0])
        for boxes, valid, image_size in zip(truth["boxes"], truth["valid"], sizes):
            match, label = match_boxes(self.anchor_matcher, pairwise_iou, Boxes(boxes), anchors, valid)
            if self.anchor_boundary_thresh >= 0:
                inside = anchors.inside_box(image_size, self.anchor_boundary_thresh)  # type: ignore[arg-type]
                label = label.masked_fill(~inside, -1)
            labels.append(label)
            matches.append(match)
        return torch.stack(labels), torch.stack(matches)

    def _select_tensors(
        self, anchors: list[Boxes], logits: list[Tensor], deltas: list[Tensor], size: Size
    ) -> tuple[Tensor, Tensor, Tensor]:
        decoded = self._decode_proposals(anchors, deltas)
        boxes, scores, counts = gather_candidates(decoded, logits, self.pre_nms_topk[self.training])
        return suppress_candidates(
            boxes,
            scores,
            counts,
            size_of_each(size, boxes.shape[0]),
            self.nms_thresh,
            self.post_nms_topk[self.training],
            self.min_box_size,
            self._clip,
            in_rounds=selects_in_rounds(boxes),
        )

    def _decode_proposals(self, anchors: list[Boxes], pred_anchor_deltas: list[Tensor]) -> list[Tensor]:
        """Decode boxes [N, A_l, D] for each level."""
        return [
            self.box2box_transform.apply_deltas(deltas, level.tensor)
            for level, deltas in zip(anchors, pred_anchor_deltas)
        ]
