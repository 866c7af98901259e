"""Heads that run the last stage of a ResNet on each proposal.

R proposals of a batch, C channels.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.structures import Boxes, ImageList, Instances
from detectron2.utils.errors import BadValue

from ..backbone.resnet import BottleneckBlock, ResNet
from ..poolers import ROIPooler
from ..tensor_inference import Tensors, tensor_method
from ._base import (
    ROI_HEADS_REGISTRY,
    ROIHeads,
    build_pooler,
    check_evaluating,
    need_boxes_and_classes,
    need_targets,
)
from ._sampling import select_foreground_proposals
from .fast_rcnn import FastRCNNOutputLayers
from .mask_head import build_mask_head


@ROI_HEADS_REGISTRY.register()
class Res5ROIHeads(ROIHeads):
    """The "C4" heads: run the last stage of a ResNet on each proposal and predict boxes and masks from its output.

    Mask R-CNN (He et al. 2017, https://arxiv.org/abs/1703.06870), figure 4, left.

    Args:
        in_features: list of one name, that of the feature map to pool from.
        pooler: pools features [R, C, H, W] from it.
        res5: the last stage, applied to the pooled features.
        box_predictor: predicts class scores and deltas from the spatial mean of its output.
        mask_head: predicts masks from its output; None = no masks.
        kwargs: arguments of :class:`ROIHeads`.
    """

    box_predictor: Any
    mask_head: Any

    @configurable
    def __init__(
        self,
        *,
        in_features: list[str],
        pooler: ROIPooler,
        res5: nn.Module,
        box_predictor: nn.Module,
        mask_head: nn.Module | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.in_features = in_features
        self.pooler = pooler
        self.res5 = nn.Sequential(*res5) if isinstance(res5, (list, tuple)) else res5
        self.box_predictor = box_predictor
        self.mask_on = mask_head is not None
        if mask_head is not None:
            self.mask_head = mask_head

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:  # type: ignore[override]
        """Read the arguments from ``MODEL.ROI_HEADS``, ``MODEL.ROI_BOX_HEAD`` and ``MODEL.RESNETS``."""
        args = super().from_config(cfg)
        names, node = cfg.MODEL.ROI_HEADS.IN_FEATURES, cfg.MODEL.ROI_BOX_HEAD
        if len(names) != 1:
            raise BadValue(f"Res5ROIHeads needs one feature map in IN_FEATURES, got {list(names)}")
        if cfg.MODEL.KEYPOINT_ON:
            raise NotImplementedError("Res5ROIHeads does not predict keypoints; use StandardROIHeads")
        args["in_features"] = names
        args["pooler"] = build_pooler(node, names, input_shape)
        # Older projects override it as an instance method, _build_res5_block(self, cfg), and call it themselves.
        builder = cls._build_res5_block
        args["res5"], channels = builder(cfg) if inspect.ismethod(builder) else (None, 0)
        if args["res5"] is None:
            del args["res5"]
            return args
        args["box_predictor"] = FastRCNNOutputLayers(cfg, ShapeSpec(channels=channels, height=1, width=1))
        if cfg.MODEL.MASK_ON:
            size = node.POOLER_RESOLUTION
            shape = ShapeSpec(channels=channels, width=size, height=size)
            args["mask_head"] = build_mask_head(cfg, shape)
        return args

    @classmethod
    def _build_res5_block(cls, cfg: CfgNode) -> tuple[nn.Module, int]:
        """Build stage res5 with stride 2; return it and its output channels."""
        node = cfg.MODEL.RESNETS
        if node.DEFORM_ON_PER_STAGE[-1]:
            raise NotImplementedError(
                "Res5ROIHeads does not support deformable convolution; unset DEFORM_ON_PER_STAGE[3]"
            )
        growth = 8  # each stage doubles the channels: res5 has 8 times those of res2
        channels = node.RES2_OUT_CHANNELS * growth
        blocks = ResNet.make_stage(
            BottleneckBlock,
            3,
            stride_per_block=[2, 1, 1],
            in_channels=channels // 2,
            bottleneck_channels=node.NUM_GROUPS * node.WIDTH_PER_GROUP * growth,
            out_channels=channels,
            num_groups=node.NUM_GROUPS,
            norm=node.NORM,
            stride_in_1x1=node.STRIDE_IN_1X1,
        )
        return nn.Sequential(*blocks), channels

    def _shared_roi_transform(self, features: list[Tensor], boxes: list[Boxes]) -> Tensor:
        """Pool features and apply res5 to them; return [R, C, H / 2, W / 2]."""
        return self.res5(self.pooler(features, boxes))

    def forward(
        self,
        images: ImageList,
        features: dict[str, Tensor],
        proposals: list[Instances],
        targets: list[Instances] | None = None,
    ) -> tuple[list[Instances], dict[str, Tensor]]:
        """See :meth:`ROIHeads.forward`; in training the returned list of proposals is empty."""
        if self.training:
            proposals = self.label_and_sample_proposals(proposals, need_targets(targets))
        maps = [features[f] for f in self.in_features]
        box_features = self._shared_roi_transform(maps, [p.proposal_boxes for p in proposals])
        predictions = self.box_predictor(box_features.mean(dim=(2, 3)))
        if not self.training:
            found, _ = self.box_predictor.inference(predictions, proposals)
            return self.forward_with_given_boxes(features, found), {}
        losses = self.box_predictor.losses(predictions, proposals)
        if self.mask_on:
            foreground, masks = select_foreground_proposals(proposals, self.num_classes)
            mask_features = box_features[torch.nonzero(torch.cat(masks))[:, 0]]
            losses.update(self.mask_head(mask_features, foreground))
        return [], losses

    def forward_with_given_boxes(
        self, features: dict[str, Tensor], instances: list[Instances]
    ) -> list[Instances]:
        """Add masks to Instances that have ``pred_boxes`` and ``pred_classes`` (evaluation only)."""
        check_evaluating(self)
        need_boxes_and_classes(instances)
        if not self.mask_on:
            return instances
        maps = [features[f] for f in self.in_features]
        return self.mask_head(self._shared_roi_transform(maps, [x.pred_boxes for x in instances]), instances)

    def check_tensor_form(self) -> None:
        """Check that all heads have a tensor form; see :class:`.TensorInference`."""
        tensor_method(self.box_predictor, "decode_tensors")
        tensor_method(self.box_predictor, "select_tensors")
        if self.mask_on:
            tensor_method(self.mask_head, "predict_tensors")

    def detect_tensors(
        self, features: Tensors, boxes: Tensor, real: Tensor, size: tuple[int, int]
    ) -> Tensors:
        """See :meth:`.StandardROIHeads.detect_tensors`."""
        maps = [features[f] for f in self.in_features]
        hidden = self.res5(self.pooler.pool_tensors(maps, boxes)).mean(dim=(2, 3))
        found: Tensors = self.box_predictor.select_tensors(
            *self.box_predictor.decode_tensors(hidden, boxes), real, size
        )
        if self.mask_on:
            pooled = self.res5(self.pooler.pool_tensors(maps, found["boxes"]))
            found["masks"] = self.mask_head.predict_tensors(pooled, found["boxes"], found["classes"])
        return found
