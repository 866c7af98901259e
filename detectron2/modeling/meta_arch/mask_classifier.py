"""Segmentation by a set of queries, each with a class and a mask: what such models have in common.

Q queries, D the best pairs of a query and a class. References: MaskFormer, https://arxiv.org/abs/2107.06278;
Mask2Former, https://arxiv.org/abs/2112.01527; MaskDINO, https://arxiv.org/abs/2206.02777
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detectron2.config import CfgNode, configurable
from detectron2.data import MetadataCatalog
from detectron2.layers import ShapeSpec
from detectron2.structures import BitMasks, Boxes, ImageList, Instances, PolygonMasks
from detectron2.structures.types import ModelInput, ModelOutput
from detectron2.utils.errors import BadValue

from ..backbone import Backbone
from ..postprocessing import sem_seg_postprocess
from ..transformer import semantic_scores, top_masks, winning_segments
from ._inputs import output_size
from .semantic_seg import SEM_SEG_HEADS_REGISTRY, SemanticSegmentor

__all__ = ["MaskClassifier", "build_pixel_decoder"]


def build_pixel_decoder(cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> nn.Module:
    """Build the pixel decoder that ``MODEL.SEM_SEG_HEAD.PIXEL_DECODER_NAME`` names.

    Args:
        cfg: config with the keys of a project that has pixel decoders, such as Mask2Former.
        input_shape: feature maps of the backbone.

    Raises:
        TypeError: if what it names has no ``forward_features``.
    """
    decoder = SEM_SEG_HEADS_REGISTRY.get(cfg.MODEL.SEM_SEG_HEAD.PIXEL_DECODER_NAME)(cfg, input_shape)
    if not callable(getattr(decoder, "forward_features", None)):
        raise TypeError(f"{type(decoder).__name__} is no pixel decoder: it has no method forward_features")
    return decoder


class MaskClassifier(SemanticSegmentor):
    """Semantic, instance and panoptic segmentation as the classification of masks.

    Subclasses say how logits become probabilities, and how losses are computed.

    Args:
        backbone: computes feature maps.
        sem_seg_head: predicts ``pred_logits`` [N, Q, classes], ``pred_masks`` [N, Q, h, w] and perhaps ``pred_boxes``
            [N, Q, 4], centre and size in [0, 1] of the padded images.
        criterion: its ``weight_dict`` says which losses are trained with which weight.
        num_queries: queries of the head.
        object_mask_threshold: least score of a query in panoptic segmentation.
        overlap_threshold: least share of its mask that a query must win there.
        metadata: of the data; ``thing_dataset_id_to_contiguous_id`` tells things from stuff.
        size_divisibility: sides to which batches are padded; negative: what the backbone needs.
        sem_seg_postprocess_before_inference: resize masks to the output before classes are summed up.
        pixel_mean, pixel_std: statistics of each channel.
        semantic_on, panoptic_on, instance_on: the results wanted.
        test_topk_per_image: instances of an image.
    """

    predicts_probabilities: ClassVar[bool] = True

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        sem_seg_head: nn.Module,
        criterion: nn.Module,
        num_queries: int,
        object_mask_threshold: float,
        overlap_threshold: float,
        metadata: Any,
        size_divisibility: int,
        sem_seg_postprocess_before_inference: bool,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        semantic_on: bool,
        panoptic_on: bool,
        instance_on: bool,
        test_topk_per_image: int,
    ) -> None:
        super().__init__(
            backbone=backbone,
            sem_seg_head=sem_seg_head,  # type: ignore[arg-type]
            pixel_mean=pixel_mean,
            pixel_std=pixel_std,
        )
        self.criterion = criterion
        self.num_queries = num_queries
        self.object_mask_threshold = object_mask_threshold
        self.overlap_threshold = overlap_threshold
        self.metadata = metadata
        self.size_divisibility = size_divisibility if size_divisibility > 0 else backbone.size_divisibility
        self.sem_seg_postprocess_before_inference = sem_seg_postprocess_before_inference
        self.semantic_on = semantic_on
        self.panoptic_on = panoptic_on
        self.instance_on = instance_on
        self.test_topk_per_image = test_topk_per_image

    @classmethod
    def arguments_of(cls, cfg: CfgNode, node: CfgNode) -> dict[str, Any]:
        """Read the arguments but for the criterion, and build the children.

        Args:
            cfg: the config; metadata are those of ``DATASETS.TRAIN[0]``.
            node: the model's own keys, such as ``MODEL.MASK_FORMER``.
        """
        test = node.TEST
        before = test.SEM_SEG_POSTPROCESSING_BEFORE_INFERENCE or test.PANOPTIC_ON or test.INSTANCE_ON
        return {
            **SemanticSegmentor.from_config(cfg),
            "num_queries": node.NUM_OBJECT_QUERIES,
            "object_mask_threshold": test.OBJECT_MASK_THRESHOLD,
            "overlap_threshold": test.OVERLAP_THRESHOLD,
            "metadata": MetadataCatalog.get(cfg.DATASETS.TRAIN[0] if cfg.DATASETS.TRAIN else "__unused"),
            "size_divisibility": node.SIZE_DIVISIBILITY,
            "sem_seg_postprocess_before_inference": before,
            "semantic_on": test.SEMANTIC_ON,
            "instance_on": test.INSTANCE_ON,
            "panoptic_on": test.PANOPTIC_ON,
            "test_topk_per_image": cfg.TEST.DETECTIONS_PER_IMAGE,
        }

    # ----------------------------------------------------------------------------------------- what subclasses say

    def _outputs(self, features: dict[str, Tensor]) -> dict[str, Any]:
        """Predict from feature maps, in evaluation."""
        return self.sem_seg_head(features)  # type: ignore[return-value]

    def _losses_of(self, features: dict[str, Tensor], targets: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Compute losses, not weighted yet."""
        raise NotImplementedError

    def _instance_probabilities(self, logits: Tensor) -> Tensor:
        """Probabilities [Q, classes] of instances."""
        raise NotImplementedError

    def _semantic_probabilities(self, logits: Tensor) -> Tensor:
        """Probabilities [Q, classes] of semantic segmentation."""
        return self._instance_probabilities(logits)

    def _panoptic_choice(self, logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Score [Q] and class [Q] of the queries, and whether they take part, bool [Q]."""
        raise NotImplementedError

    def _instances(self, logits: Tensor, masks: Tensor, boxes: Tensor | None) -> Instances:
        """Make the instances of one image."""
        return self.choose_instances(logits, masks, boxes)

    def _instance_scores(self, scores: Tensor, certainty: Tensor) -> Tensor:
        """Scores of instances from those of the class and of the mask, [D] each."""
        return scores * certainty

    # -------------------------------------------------------------------------------------------------- in and out

    def _padding_constraints(self, maps: list[Tensor]) -> dict[str, int]:
        return {"size_divisibility": self.size_divisibility, **self.backbone.padding_constraints}

    def forward(self, batched_inputs: list[ModelInput]) -> dict[str, Tensor] | list[ModelOutput]:
        """Compute losses in training; predict in evaluation.

        Args:
            batched_inputs: for each image a dict with ``image`` [C, H, W], in training ``instances`` with
                ``gt_classes`` and ``gt_masks`` (bool [T, H, W], BitMasks or PolygonMasks), and optionally ``height``
                and ``width``, the size that results are wanted in.

        Returns:
            In training a dict of weighted losses. In evaluation for each image a dict with those that are on:
            ``sem_seg``, class scores [classes, height, width]; ``panoptic_seg``, a pair of segment ids int32
            [height, width] (0 = none) and a list of dicts with ``id``, ``isthing`` and ``category_id``; and
            ``instances``.
        """
        images = self._make_batch(batched_inputs)
        features = self.backbone(images.tensor)
        if self.training:
            return self._weighted(self._losses_of(features, self._targets(batched_inputs, images)))
        outputs = self._outputs(features)
        padded = (images.tensor.shape[-2], images.tensor.shape[-1])
        found = []
        for i, (item, size) in enumerate(zip(batched_inputs, images.image_sizes)):
            boxes = outputs["pred_boxes"][i] if "pred_boxes" in outputs else None
            found.append(
                self._result(outputs["pred_logits"][i], outputs["pred_masks"][i], boxes, item, size, padded)
            )
        return found

    def _weighted(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        weights: dict[str, float] = self.criterion.weight_dict  # type: ignore[assignment]
        return {name: loss * weights[name] for name, loss in losses.items() if name in weights}

    def _targets(self, batched_inputs: list[Any], images: ImageList) -> list[dict[str, Tensor]]:
        if any("instances" not in item for item in batched_inputs):
            raise BadValue("training needs ground truth under the key 'instances' of every input")
        return self._make_targets([item["instances"].to(self.device) for item in batched_inputs], images)

    def _make_targets(self, targets: list[Instances], images: ImageList) -> list[dict[str, Tensor]]:
        return self.prepare_targets(targets, images)

    def prepare_targets(self, targets: list[Instances], images: ImageList) -> list[dict[str, Tensor]]:
        """Make the criterion's targets: ``labels`` [T] and ``masks`` bool [T, H, W], padded like the images."""
        height, width = images.tensor.shape[-2:]
        found = []
        for instances in targets:
            if not len(instances) and not instances.has("gt_masks"):  # as mappers of boxes give them
                instances.gt_masks = torch.zeros(0, *instances.image_size, dtype=torch.bool)
            masks = instances.gt_masks
            if isinstance(masks, PolygonMasks):
                masks = BitMasks.from_polygon_masks(masks, *instances.image_size)
            masks = (masks if isinstance(masks, Tensor) else masks.tensor).to(images.tensor.device)
            padding = (0, width - masks.shape[2], 0, height - masks.shape[1])
            found.append({"labels": instances.gt_classes, "masks": F.pad(masks, padding)})
        return found

    def _result(
        self,
        logits: Tensor,
        masks: Tensor,
        boxes: Tensor | None,
        item: ModelInput,
        size: tuple[int, int],
        padded: tuple[int, int],
    ) -> ModelOutput:
        """Make the results of one image from class logits [Q, classes], mask logits [Q, h, w] and boxes [Q, 4]."""
        wanted = output_size(item, size)
        masks = F.interpolate(masks[None], size=padded, mode="bilinear", align_corners=False)[0]
        if self.sem_seg_postprocess_before_inference:
            masks = sem_seg_postprocess(masks, size, *wanted)
        logits, masks = logits.float(), masks.float()
        result: ModelOutput = {}
        if self.semantic_on:
            scores = self.semantic_inference(logits, masks)
            if not self.sem_seg_postprocess_before_inference:
                scores = sem_seg_postprocess(scores, size, *wanted)
            result["sem_seg"] = scores
        if self.panoptic_on:
            result["panoptic_seg"] = self.panoptic_inference(logits, masks)
        if self.instance_on:
            # Boxes are relative to the padded image, of which the output shows its part.
            sides = [p / s * w for p, s, w in zip(padded, size, wanted)]
            result["instances"] = self._instances(logits, masks, self._scaled(boxes, *sides))
        return result

    def _scaled(self, boxes: Tensor | None, height: float, width: float) -> Tensor | None:
        """Corners [Q, 4] of boxes in pixels; None without boxes."""
        return None

    # --------------------------------------------------------------------------------------------------- inference

    def thing_classes(self) -> list[int]:
        """Return the classes that are things, by the metadata."""
        return sorted(self.metadata.thing_dataset_id_to_contiguous_id.values())

    def _is_thing(self, classes: Tensor) -> Tensor:
        known = torch.tensor(self.thing_classes(), dtype=classes.dtype, device=classes.device)
        return (classes[:, None] == known).any(1)

    def semantic_inference(self, mask_cls: Tensor, mask_pred: Tensor) -> Tensor:
        """Compute class scores [classes, H, W] from class logits and mask logits; see :func:`.semantic_scores`."""
        return semantic_scores(self._semantic_probabilities(mask_cls), mask_pred)

    def panoptic_inference(self, mask_cls: Tensor, mask_pred: Tensor) -> tuple[Tensor, list[Any]]:
        """Merge masks to segments that do not overlap.

        Args:
            mask_cls: [Q, classes] logits.
            mask_pred: [Q, H, W] logits.

        Returns:
            Segment ids int32 [H, W], 0 = none, and for each segment ``id``, ``isthing`` and ``category_id``.
        """
        scores, classes, chosen = self._panoptic_choice(mask_cls)
        scores, classes, masks = scores[chosen], classes[chosen], mask_pred[chosen].sigmoid()
        things = self._is_thing(classes)
        panoptic, segments = winning_segments(
            scores, classes, masks, torch.ones_like(things), things, self.overlap_threshold
        )
        info: dict[int, Any] = {}
        for segment, category, isthing in zip(segments.tolist(), classes.tolist(), things.tolist()):
            if segment and segment not in info:
                info[segment] = {"id": segment, "isthing": isthing, "category_id": category}
        return panoptic, list(info.values())

    def choose_instances(self, mask_cls: Tensor, mask_pred: Tensor, boxes: Tensor | None = None) -> Instances:
        """Choose the best pairs of a query and a class; with panoptic results on, only things among them.

        Args:
            mask_cls: [Q, classes] logits.
            mask_pred: [Q, H, W] logits.
            boxes: [Q, 4] corners in pixels; None for boxes that are all zero.

        Returns:
            Instances with ``scores``, ``pred_classes``, ``pred_masks`` bool [D, H, W] and ``pred_boxes``.
        """
        top = top_masks(self._instance_probabilities(mask_cls), mask_pred, self.test_topk_per_image)
        found = Instances(
            (mask_pred.shape[1], mask_pred.shape[2]),
            pred_masks=top.masks,
            pred_boxes=Boxes(_boxes_of(boxes, top.queries)),
            scores=self._instance_scores(top.scores, top.certainty),
            pred_classes=top.classes,
        )
        return found[self._is_thing(top.classes)] if self.panoptic_on else found

    # ------------------------------------------------------------------------------------------------- tensor form

    def predict_tensors(self, images: Tensor) -> dict[str, Tensor]:
        """Predict for N images of one size; see :class:`.TensorInference`.

        Returns:
            Those that are on: ``sem_seg`` [N, classes, H, W]; ``scores``, ``classes`` and ``valid`` [N, D] with
            ``pred_masks`` bool [N, D, H, W] and ``boxes`` [N, D, 4], all zero where the model predicts none;
            ``panoptic_seg`` int32 [N, H, W], with the class and the segment of each query, ``query_classes`` and
            ``query_segments`` [N, Q].
        """
        outputs = self._outputs(self.features_of(images))
        size = (images.shape[-2], images.shape[-1])
        rows = []
        for i, logits in enumerate(outputs["pred_logits"]):
            boxes = outputs["pred_boxes"][i] if "pred_boxes" in outputs else None
            rows.append(self._tensors(logits.float(), outputs["pred_masks"][i], boxes, size))
        return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}

    def _tensors(
        self, logits: Tensor, masks: Tensor, boxes: Tensor | None, size: tuple[int, int]
    ) -> dict[str, Tensor]:
        # Positive numbers only: ONNX rounds quotients of negative ones to 0.
        unit = self.size_divisibility
        padded = [(side + unit - 1) // unit * unit for side in size]
        masks = F.interpolate(masks[None], size=padded, mode="bilinear", align_corners=False)[0].float()
        rows, columns = (torch.arange(n, device=masks.device) for n in size)
        masks = masks.index_select(1, rows).index_select(2, columns)
        found = {}
        if self.semantic_on:
            found["sem_seg"] = self.semantic_inference(logits, masks)
        if self.instance_on:
            top = top_masks(self._instance_probabilities(logits), masks, self.test_topk_per_image)
            valid = self._is_thing(top.classes) if self.panoptic_on else torch.ones_like(top.scores).bool()
            scores = self._instance_scores(top.scores, top.certainty)
            found |= {"scores": scores, "classes": top.classes, "valid": valid, "pred_masks": top.masks}
            found["boxes"] = _boxes_of(self._scaled(boxes, *padded), top.queries)
        if self.panoptic_on:
            scores, classes, chosen = self._panoptic_choice(logits)
            found["panoptic_seg"], found["query_segments"] = winning_segments(
                scores, classes, masks.sigmoid(), chosen, self._is_thing(classes), self.overlap_threshold
            )
            found["query_classes"] = classes
        return found


def _boxes_of(boxes: Tensor | None, queries: Tensor) -> Tensor:
    if boxes is None:
        return torch.zeros(queries.shape[0], 4, device=queries.device)
    return boxes[queries]
