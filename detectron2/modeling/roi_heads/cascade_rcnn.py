"""A cascade of box heads, each of which refines the boxes of the previous one.

Cascade R-CNN (Cai and Vasconcelos 2018, https://arxiv.org/abs/1712.00726).
R_i proposals of one image, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.structures import Boxes, ImageList, Instances, pairwise_iou
from detectron2.utils.errors import BadValue
from detectron2.utils.events import get_event_storage
from detectron2.utils.reexports import passed_on

from .._selection import clip_boxes
from ..box_regression import Box2BoxTransform
from ..fixed_shapes import Size
from ..matcher import Matcher, match_boxes
from ..poolers import ROIPooler
from ..tensor_inference import Tensors
from ._base import ROI_HEADS_REGISTRY, build_pooler, need_targets, pooled_shape
from ._sampling import attach_targets, classes_of_matches, log_sample_counts, match_padded
from .box_head import build_box_head
from .fast_rcnn import FastRCNNOutputLayers
from .roi_heads import StandardROIHeads

__all__ = ["CascadeROIHeads"]

__getattr__ = passed_on(__name__)

Stage = tuple[Any, tuple[Tensor, Tensor], list[Instances]]
"""A stage's predictor, its scores and deltas, and its input proposals."""


def _clip_each(boxes: Tensor, height: int | Tensor, width: int | Tensor) -> Tensor:
    """Clip boxes [N, R, 4] to images of one size, or of sizes [N]."""
    sizes = (x[:, None] if isinstance(x, Tensor) and x.dim() == 1 else x for x in (height, width))
    return clip_boxes(boxes, *sizes)


class _ScaleGradient(Function):
    """The identity, but with a scaled gradient."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, scale: float) -> Tensor:
        ctx.scale = scale
        return input.view_as(input)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None]:
        return grad_output * ctx.scale, None


@ROI_HEADS_REGISTRY.register()
class CascadeROIHeads(StandardROIHeads):
    """Standard heads with a cascade of box heads: each stage matches, classifies and regresses the boxes of the last.

    In evaluation, scores are averaged over all stages, and the boxes are those of the last stage.

    Args:
        box_in_features: names of the feature maps for boxes.
        box_pooler: pools features from them, for every stage.
        box_heads: one for each stage.
        box_predictors: one for each stage, with class-agnostic boxes.
        proposal_matchers: one for each stage; the first labels the proposals, the others, with increasing thresholds,
            the boxes of the previous stage.
        kwargs: arguments of :class:`.StandardROIHeads`.

    Raises:
        ValueError: if the numbers of heads, predictors and matchers differ.
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
        **kwargs: Any,
    ) -> None:
        counts = (len(box_heads), len(box_predictors), len(proposal_matchers))
        if len(set(counts)) != 1:
            raise BadValue(f"each stage needs one head, one predictor and one matcher, got {counts} of them")
        if "proposal_matcher" in kwargs:
            raise BadValue(
                "a cascade takes proposal_matchers, one for each stage, instead of proposal_matcher"
            )
        super().__init__(
            box_in_features=box_in_features,
            box_pooler=box_pooler,
            box_head=nn.ModuleList(box_heads),
            box_predictor=nn.ModuleList(box_predictors),
            proposal_matcher=proposal_matchers[0],
            **kwargs,
        )
        self.num_cascade_stages = counts[0]
        self.proposal_matchers = list(proposal_matchers)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:  # type: ignore[override]
        """Read the arguments of :class:`.StandardROIHeads`, and the stages from ``MODEL.ROI_BOX_CASCADE_HEAD``."""
        args = super().from_config(cfg, input_shape)
        args.pop("proposal_matcher")
        return args

    @classmethod
    def _init_box_head(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        names = cfg.MODEL.ROI_HEADS.IN_FEATURES
        stages = cfg.MODEL.ROI_BOX_CASCADE_HEAD
        if len(stages.BBOX_REG_WEIGHTS) != len(stages.IOUS):
            raise BadValue("MODEL.ROI_BOX_CASCADE_HEAD needs as many BBOX_REG_WEIGHTS as IOUS")
        if not cfg.MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG:
            raise BadValue("a cascade needs MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG = True")
        if list(cfg.MODEL.ROI_HEADS.IOU_THRESHOLDS[:1]) != list(stages.IOUS[:1]):
            raise BadValue(
                "the first entries of MODEL.ROI_BOX_CASCADE_HEAD.IOUS and MODEL.ROI_HEADS.IOU_THRESHOLDS must be "
                f"equal, got {list(stages.IOUS)} and {list(cfg.MODEL.ROI_HEADS.IOU_THRESHOLDS)}"
            )
        pooler = build_pooler(cfg.MODEL.ROI_BOX_HEAD, names, input_shape)
        shape = pooled_shape(pooler, names, input_shape)
        heads, predictors = [], []
        for weights in stages.BBOX_REG_WEIGHTS:
            head = build_box_head(cfg, shape)
            transform = Box2BoxTransform(weights=weights)
            heads.append(head)
            predictors.append(FastRCNNOutputLayers(cfg, head.output_shape, box2box_transform=transform))
        return {
            "box_in_features": names,
            "box_pooler": pooler,
            "box_heads": heads,
            "box_predictors": predictors,
            "proposal_matchers": [Matcher([iou], [0, 1]) for iou in stages.IOUS],
        }

    def forward(
        self,
        images: ImageList,
        features: dict[str, Tensor],
        proposals: list[Instances],
        targets: list[Instances] | None = None,
    ) -> tuple[list[Instances], dict[str, Tensor]]:
        """See :meth:`.ROIHeads.forward`; names of box losses end with their stage, such as ``loss_cls_stage0``."""
        if not self.training:
            found = self._forward_box(features, proposals)
            return self.forward_with_given_boxes(features, found), {}
        targets = need_targets(targets)
        proposals = self.label_and_sample_proposals(proposals, targets)
        losses = dict(self._forward_box(features, proposals, targets))
        losses.update(self._forward_mask(features, proposals))
        losses.update(self._forward_keypoint(features, proposals))
        return proposals, losses

    def _forward_box(
        self,
        features: dict[str, Tensor],
        proposals: list[Instances],
        targets: list[Instances] | None = None,
    ) -> Any:
        """Compute losses of all stages in training (``targets`` needed), detections in evaluation."""
        stages, boxes = self._run_stages(features, proposals, targets)
        if self.training:
            return self._stage_losses(stages)
        return self._select(boxes, self._mean_scores(stages), [p.image_size for p in proposals])

    def _run_stages(
        self,
        features: dict[str, Tensor],
        proposals: list[Instances],
        targets: list[Instances] | None = None,
    ) -> tuple[list[Stage], list[Tensor]]:
        """Run all stages; return them, and the boxes [R_i, 4] of the last stage for each image."""
        maps = [features[f] for f in self.box_in_features]
        sizes = [p.image_size for p in proposals]
        stages: list[Stage] = []
        boxes: Sequence[Tensor] = ()
        for k in range(self.num_cascade_stages):
            if k > 0:
                proposals = self._create_proposals_from_boxes(boxes, sizes)
                if self.training:
                    proposals = self._match_and_label_boxes(proposals, k, need_targets(targets))
            predictions = self._run_stage(maps, proposals, k)
            boxes = self.box_predictor[k].predict_boxes(predictions, proposals)
            stages.append((self.box_predictor[k], predictions, proposals))
        return stages, list(boxes)

    @staticmethod
    def _mean_scores(stages: list[Stage]) -> list[Tensor]:
        """Average the probabilities [R_i, K + 1] of each image over the stages."""
        scores = [predictor.predict_probs(found, given) for predictor, found, given in stages]
        return [torch.stack(per_image).mean(dim=0) for per_image in zip(*scores)]

    def _select(
        self, boxes: list[Tensor], scores: list[Tensor], sizes: list[tuple[int, int]]
    ) -> list[Instances]:
        """Select detections from the boxes of the last stage and the mean scores."""
        return self.box_predictor[-1].select(boxes, scores, sizes)[0]

    def _box_predictors(self) -> list[Any]:
        return list(self.box_predictor)

    def box_tensors(self, features: Tensors, boxes: Tensor, size: Size) -> tuple[Tensor, Tensor]:
        """Predict the boxes of the last stage and the mean probabilities of all stages."""
        maps = [features[name] for name in self.box_in_features]
        total: Tensor | None = None
        for k, (head, predictor) in enumerate(zip(self.box_head, self.box_predictor)):
            boxes = boxes if k == 0 else _clip_each(boxes, *size)
            hidden = head(self.box_pooler.pool_tensors(maps, boxes))
            boxes, scores = predictor.decode_tensors(hidden, boxes)
            total = scores if total is None else total + scores
        assert total is not None
        return boxes, total / self.num_cascade_stages

    def loss_tensors(self, features: Tensors, boxes: Tensor, real: Tensor, truth: Tensors) -> Tensors:
        """See :meth:`.StandardROIHeads.loss_tensors`; names of box losses end with their stage."""
        # Defined here to state that it replaces this class's own _forward_box and stages too; see tensor_method().
        return super().loss_tensors(features, boxes, real, truth)

    def _box_loss_tensors(self, features: Tensors, sample: Tensors, truth: Tensors) -> Tensors:
        maps = [features[name] for name in self.box_in_features]
        scalars: Tensors = {}
        for k, (head, predictor) in enumerate(zip(self.box_head, self.box_predictor)):
            pooled = self.box_pooler.pool_tensors(maps, sample["boxes"])
            hidden = head(_ScaleGradient.apply(pooled, 1.0 / self.num_cascade_stages))
            for name, value in predictor.loss_tensors(hidden, sample).items():
                scope = "" if k == 0 and name.startswith("roi_head/") else f"stage{k}/"
                scalars[f"{scope}{name}" if "/" in name else f"{name}_stage{k}"] = value
            if k + 1 < self.num_cascade_stages:
                with torch.no_grad():
                    boxes, _ = predictor.decode_tensors(hidden, sample["boxes"])
                    boxes = _clip_each(boxes, *truth["sizes"].unbind(dim=1))
                    real = sample["drawn"] & (boxes[..., 2:] > boxes[..., :2]).all(dim=-1)
                sample = match_padded(boxes, real, truth, self.proposal_matchers[k + 1], self.num_classes)
        return scalars

    def _stage_losses(self, stages: list[Stage]) -> dict[str, Tensor]:
        losses = {}
        for k, (predictor, predictions, proposals) in enumerate(stages):
            with get_event_storage().name_scope(f"stage{k}"):
                found = predictor.losses(predictions, proposals)
            losses.update({f"{name}_stage{k}": loss for name, loss in found.items()})
        return losses

    @torch.no_grad()
    def _match_and_label_boxes(
        self, proposals: list[Instances], stage: int, targets: list[Instances]
    ) -> list[Instances]:
        """Set ``gt_classes`` and ``gt_boxes`` of all proposals by a stage's matcher, without sampling."""
        foreground, background = [], []
        for p, target in zip(proposals, targets):
            matches, labels = match_boxes(
                self.proposal_matchers[stage], pairwise_iou, target.gt_boxes, p.proposal_boxes
            )
            p.gt_classes = classes_of_matches(matches, labels, target.gt_classes, self.num_classes)
            if len(target):
                attach_targets(p, Instances(target.image_size, gt_boxes=target.gt_boxes), matches)
            else:
                p.gt_boxes = Boxes(torch.zeros_like(p.proposal_boxes.tensor))
            foreground.append((labels == 1).sum())
            background.append(labels.numel() - foreground[-1])
        with get_event_storage().name_scope(f"stage{stage}"):
            log_sample_counts(foreground, background)
        return proposals

    def _run_stage(
        self, features: list[Tensor], proposals: list[Instances], stage: int
    ) -> tuple[Tensor, Tensor]:
        """Run a stage's head and predictor on R proposals."""
        pooled = self.box_pooler(features, [p.proposal_boxes for p in proposals])
        if self.training:
            # Average, not sum, the gradients of the stages, so that the backbone trains as steadily as with one.
            pooled = _ScaleGradient.apply(pooled, 1.0 / self.num_cascade_stages)
        return self.box_predictor[stage](self.box_head[stage](pooled))

    def _create_proposals_from_boxes(
        self, boxes: Sequence[Tensor], image_sizes: list[tuple[int, int]]
    ) -> list[Instances]:
        """Create proposals from the boxes [R_i, 4] of a stage, clipped to the image; in training, drop empty ones."""
        proposals = []
        for predicted, size in zip(boxes, image_sizes):
            clipped = Boxes(predicted.detach().clone())
            clipped.clip(size)
            if self.training:
                clipped = clipped[clipped.nonempty()]
            proposals.append(Instances(size, proposal_boxes=clipped))
        return proposals
