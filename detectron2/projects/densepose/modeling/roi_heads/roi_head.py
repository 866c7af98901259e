"""R-CNN heads with a DensePose branch."""

from dataclasses import fields
from typing import Any

from torch import Tensor

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import ROI_HEADS_REGISTRY, StandardROIHeads
from detectron2.modeling.meta_arch.semantic_seg import SemSegFPNHead
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.roi_heads import select_foreground_proposals
from detectron2.structures import Boxes, ImageList, Instances

from ..build import (
    build_densepose_data_filter,
    build_densepose_embedder,
    build_densepose_head,
    build_densepose_losses,
    build_densepose_predictor,
)
from ..inference import densepose_inference

__all__ = ["Decoder", "DensePoseROIHeads"]


class Decoder(SemSegFPNHead):
    """Merges the levels of a feature pyramid into one map.

    Args:
        cfg: the whole config; reads ``DECODER_NUM_CLASSES``, ``DECODER_CONV_DIMS``, ``DECODER_COMMON_STRIDE`` and
            ``DECODER_NORM`` of ``MODEL.ROI_DENSEPOSE_HEAD``.
        input_shape: channels and strides by name.
        in_features: names of the maps to merge, the largest first.

    Reference: Panoptic Feature Pyramid Networks, https://arxiv.org/abs/1901.02446
    """

    def __init__(self, cfg: CfgNode, input_shape: dict[str, ShapeSpec], in_features: list[str]) -> None:
        node = cfg.MODEL.ROI_DENSEPOSE_HEAD
        super().__init__(
            {name: input_shape[name] for name in in_features},
            num_classes=node.DECODER_NUM_CLASSES,
            conv_dims=node.DECODER_CONV_DIMS,
            common_stride=node.DECODER_COMMON_STRIDE,
            norm=node.DECODER_NORM,
        )

    def forward(self, features: list[Tensor]) -> Tensor:  # type: ignore[override]
        """Merge maps.

        Args:
            features: [N, C, H, W] each, the largest first.

        Returns:
            [N, DECODER_NUM_CLASSES, H / S, W / S] for an image of H x W and the common stride S.
        """
        return self.layers(dict(zip(self.in_features, features)))


@ROI_HEADS_REGISTRY.register()
class DensePoseROIHeads(StandardROIHeads):
    """The standard heads with an additional head that maps the pixels of each instance to a surface.

    Args:
        cfg: the whole config.
        input_shape: channels and strides of the feature maps by name.
    """

    def __init__(self, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> None:
        super().__init__(cfg, input_shape)
        self._init_densepose_head(cfg, input_shape)

    def _init_densepose_head(self, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> None:
        self.densepose_on = cfg.MODEL.DENSEPOSE_ON
        if not self.densepose_on:
            return
        node = cfg.MODEL.ROI_DENSEPOSE_HEAD
        self.densepose_data_filter = build_densepose_data_filter(cfg)
        self.use_decoder = node.DECODER_ON
        pooled = [input_shape[name] for name in self.in_features]
        if self.use_decoder:
            self.decoder = Decoder(cfg, input_shape, self.in_features)
            pooled = [ShapeSpec(channels=node.DECODER_NUM_CLASSES, stride=node.DECODER_COMMON_STRIDE)]
        self.densepose_pooler = ROIPooler(
            output_size=node.POOLER_RESOLUTION,
            scales=[1.0 / (shape.stride or 1) for shape in pooled],
            sampling_ratio=node.POOLER_SAMPLING_RATIO,
            pooler_type=node.POOLER_TYPE,
        )
        self.densepose_head = build_densepose_head(cfg, pooled[0].channels or 0)
        self.densepose_predictor = build_densepose_predictor(cfg, self.densepose_head.n_out_channels)
        self.densepose_losses = build_densepose_losses(cfg)
        self.embedder = build_densepose_embedder(cfg)

    def _forward_densepose(self, features: dict[str, Tensor], instances: list[Instances]) -> Any:
        """Compute losses in training; in evaluation add ``pred_densepose`` to the detections, if there are any."""
        if not self.densepose_on:
            return {} if self.training else instances
        maps = self._maps(features)
        if not self.training:
            output = self._predict(maps, [x.pred_boxes for x in instances])
            densepose_inference(output, instances)
            return instances

        proposals, _ = select_foreground_proposals(instances, self.num_classes)
        # One image at a time, so that boxes keep the features of their image if other images are dropped.
        kept = [self.densepose_data_filter(maps, [p])[1] for p in proposals]
        boxes = [k[0].proposal_boxes if k else p.proposal_boxes[:0] for k, p in zip(kept, proposals)]
        annotated = [p for k in kept for p in k if len(p)]
        output = self._predict(maps, boxes, allow_empty=True)
        return self.densepose_losses(annotated, output, embedder=self.embedder)

    def _predict(self, maps: list[Tensor], boxes: list[Boxes], allow_empty: bool = False) -> Any:
        """Predict for all boxes together; None without boxes, unless ``allow_empty``."""
        pooled = self.densepose_pooler(maps, boxes)
        if len(pooled) == 0 and not allow_empty:
            return None
        return self.densepose_predictor(self.densepose_head(pooled))

    def describe_tensors(self, features: dict[str, Tensor], found: dict[str, Tensor]) -> dict[str, Tensor]:
        """Predict for the detections of a ``TensorInference``.

        Args:
            features: feature maps [N, C, H, W] by name.
            found: ``boxes``, ``scores``, ``classes`` and ``valid`` of D detections in each image.

        Returns:
            The predictions of the standard heads, and the fields of the DensePose output, [N, D, ...] each, such as
            ``densepose_u``.
        """
        described = super().describe_tensors(features, found)
        if not self.densepose_on:
            return described
        pooled = self.densepose_pooler.pool_tensors(self._maps(features), found["boxes"])
        output = self.densepose_predictor(self.densepose_head(pooled))
        for f in fields(output):
            value = getattr(output, f.name)
            if value is not None:
                described[f"densepose_{f.name}"] = value.unflatten(0, found["scores"].shape)
        return described

    def _maps(self, features: dict[str, Tensor]) -> list[Tensor]:
        """Return the maps from which the branch pools its features."""
        maps = [features[name] for name in self.in_features]
        return [self.decoder(maps)] if self.use_decoder else maps

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
            proposals: proposals of each image.
            targets: ground truth of each image, needed in training; with ``gt_densepose``, a ``DensePoseList``, if
                there are annotations.

        Returns:
            In training the sampled proposals and the losses; in evaluation the detections, with ``pred_densepose``
            unless no image has detections, and an empty dict.
        """
        found, losses = super().forward(images, features, proposals, targets)
        if self.training:
            losses.update(self._forward_densepose(features, found))
        return found, losses

    def forward_with_given_boxes(
        self, features: dict[str, Tensor], instances: list[Instances]
    ) -> list[Instances]:
        """Predict masks, keypoints and DensePose for given boxes (evaluation only).

        Args:
            features: feature maps [N, C, H, W] by name.
            instances: ``pred_boxes`` and ``pred_classes`` of each image.

        Returns:
            The instances with their predictions.
        """
        return self._forward_densepose(features, super().forward_with_given_boxes(features, instances))
