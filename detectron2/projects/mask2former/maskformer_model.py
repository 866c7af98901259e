"""The architecture: a backbone and a head that predicts a set of masks, for all three kinds of segmentation.

References: MaskFormer, https://arxiv.org/abs/2107.06278; Mask2Former, https://arxiv.org/abs/2112.01527
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detectron2.config import CfgNode, configurable
from detectron2.data import MetadataCatalog
from detectron2.modeling import META_ARCH_REGISTRY, SemanticSegmentor
from detectron2.modeling.backbone import Backbone
from detectron2.modeling.postprocessing import sem_seg_postprocess
from detectron2.structures import Boxes, ImageList, Instances
from detectron2.structures.types import ModelInput, ModelOutput
from detectron2.utils.errors import BadValue

from .criterion import SetCriterion
from .inference import semantic_scores, top_masks, winning_segments
from .matcher import HungarianMatcher

__all__ = ["MaskFormer"]


@META_ARCH_REGISTRY.register()
class MaskFormer(SemanticSegmentor):
    """Semantic, instance and panoptic segmentation as the classification of masks.

    Args:
        backbone: computes feature maps.
        sem_seg_head: see :class:`.MaskFormerHead`.
        criterion: see :class:`.SetCriterion`; its ``weight_dict`` says which losses are trained with which weight.
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
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Read ``MODEL.MASK_FORMER`` and build the children; metadata are those of ``DATASETS.TRAIN[0]``."""
        arguments = super().from_config(cfg)
        node, test = cfg.MODEL.MASK_FORMER, cfg.MODEL.MASK_FORMER.TEST
        return {
            **arguments,
            "criterion": _build_criterion(cfg, arguments["sem_seg_head"].num_classes),
            "num_queries": node.NUM_OBJECT_QUERIES,
            "object_mask_threshold": test.OBJECT_MASK_THRESHOLD,
            "overlap_threshold": test.OVERLAP_THRESHOLD,
            "metadata": MetadataCatalog.get(cfg.DATASETS.TRAIN[0] if cfg.DATASETS.TRAIN else "__unused"),
            "size_divisibility": node.SIZE_DIVISIBILITY,
            "sem_seg_postprocess_before_inference": (
                test.SEM_SEG_POSTPROCESSING_BEFORE_INFERENCE or test.PANOPTIC_ON or test.INSTANCE_ON
            ),
            "semantic_on": test.SEMANTIC_ON,
            "instance_on": test.INSTANCE_ON,
            "panoptic_on": test.PANOPTIC_ON,
            "test_topk_per_image": cfg.TEST.DETECTIONS_PER_IMAGE,
        }

    def _pad(self, maps: list[Tensor], value: float = 0.0) -> ImageList:
        return ImageList.from_tensors(
            maps, self.size_divisibility, value, dict(self.backbone.padding_constraints)
        )

    def forward(self, batched_inputs: list[ModelInput]) -> dict[str, Tensor] | list[ModelOutput]:
        """Compute losses in training; predict in evaluation.

        Args:
            batched_inputs: for each image a dict with ``image`` [C, H, W], in training ``instances`` with
                ``gt_classes`` and ``gt_masks``, bool [T, H, W] or BitMasks, and optionally ``height`` and ``width``,
                the size that results are wanted in.

        Returns:
            In training a dict of weighted losses. In evaluation for each image a dict with those that are on:
            ``sem_seg``, class scores [classes, height, width]; ``panoptic_seg``, a pair of segment ids int32
            [height, width] (0 = none) and a list of dicts with ``id``, ``isthing`` and ``category_id``; and
            ``instances``.
        """
        images = self._make_batch(batched_inputs)
        outputs = self.sem_seg_head(self.backbone(images.tensor))  # type: ignore[arg-type]
        if self.training:
            return self._losses(outputs, batched_inputs, images)
        padded = (images.tensor.shape[-2], images.tensor.shape[-1])
        return [
            self._result(logits, masks, item, size, padded)
            for logits, masks, item, size in zip(
                outputs["pred_logits"],  # type: ignore[call-overload]
                outputs["pred_masks"],  # type: ignore[call-overload]
                batched_inputs,
                images.image_sizes,
            )
        ]

    def _losses(self, outputs: Any, batched_inputs: list[Any], images: ImageList) -> dict[str, Tensor]:
        if any("instances" not in item for item in batched_inputs):
            raise BadValue("training needs ground truth under the key 'instances' of every input")
        targets = self.prepare_targets([item["instances"].to(self.device) for item in batched_inputs], images)
        weights: dict[str, float] = self.criterion.weight_dict  # type: ignore[assignment]
        losses = self.criterion(outputs, targets)
        return {name: loss * weights[name] for name, loss in losses.items() if name in weights}

    def prepare_targets(self, targets: list[Instances], images: ImageList) -> list[dict[str, Tensor]]:
        """Make the criterion's targets: ``labels`` [T] and ``masks`` bool [T, H, W], padded like the images."""
        height, width = images.tensor.shape[-2:]
        found = []
        for instances in targets:
            masks = instances.gt_masks
            masks = masks if isinstance(masks, Tensor) else masks.tensor
            padding = (0, width - masks.shape[2], 0, height - masks.shape[1])
            found.append({"labels": instances.gt_classes, "masks": F.pad(masks, padding)})
        return found

    def _result(
        self,
        logits: Tensor,
        masks: Tensor,
        item: ModelInput,
        size: tuple[int, int],
        padded: tuple[int, int],
    ) -> ModelOutput:
        """Make the results of one image from class logits [Q, classes + 1] and mask logits [Q, h, w]."""
        wanted = (int(item.get("height", size[0])), int(item.get("width", size[1])))
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
            result["instances"] = self.instance_inference(logits, masks)
        return result

    def _things(self) -> list[int]:
        """Classes that are things."""
        return sorted(self.metadata.thing_dataset_id_to_contiguous_id.values())

    def _is_thing(self, classes: Tensor) -> Tensor:
        known = torch.tensor(self._things(), dtype=classes.dtype, device=classes.device)
        return (classes[:, None] == known).any(1)

    def semantic_inference(self, mask_cls: Tensor, mask_pred: Tensor) -> Tensor:
        """Compute class scores [classes, H, W]; see :func:`.semantic_scores`."""
        return semantic_scores(mask_cls, mask_pred)

    def panoptic_inference(self, mask_cls: Tensor, mask_pred: Tensor) -> tuple[Tensor, list[Any]]:
        """Merge masks to segments that do not overlap.

        Args:
            mask_cls: [Q, classes + 1] logits.
            mask_pred: [Q, H, W] logits.

        Returns:
            Segment ids int32 [H, W], 0 = none, and for each segment ``id``, ``isthing`` and ``category_id``.
        """
        scores, classes = mask_cls.softmax(-1).max(-1)
        chosen = (classes != mask_cls.shape[1] - 1) & (scores > self.object_mask_threshold)
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

    def instance_inference(self, mask_cls: Tensor, mask_pred: Tensor) -> Instances:
        """Choose the best pairs of a query and a class; with panoptic results on, only things among them.

        Args:
            mask_cls: [Q, classes + 1] logits.
            mask_pred: [Q, H, W] logits.

        Returns:
            Instances with ``scores``, ``pred_classes``, ``pred_masks`` bool [D, H, W], and ``pred_boxes`` that are all
            zero: the model predicts none, and ``BitMasks(pred_masks).get_bounding_boxes()`` gives them if wanted.
        """
        top = top_masks(mask_cls, mask_pred, self.test_topk_per_image)
        boxes = Boxes(torch.zeros(len(top.scores), 4, device=mask_pred.device))
        found = Instances(
            (mask_pred.shape[1], mask_pred.shape[2]),
            pred_masks=top.masks,
            pred_boxes=boxes,
            scores=top.scores,
            pred_classes=top.classes,
        )
        return found[self._is_thing(top.classes)] if self.panoptic_on else found

    def predict_tensors(self, images: Tensor) -> dict[str, Tensor]:
        """Predict for N images of one size; see :class:`.TensorInference`.

        Returns:
            Those that are on: ``sem_seg`` [N, classes, H, W]; ``scores``, ``classes`` and ``valid`` [N, D] with
            ``pred_masks`` bool [N, D, H, W] and ``boxes`` [N, D, 4], all zero; ``panoptic_seg`` int32 [N, H, W], with
            the class and the segment of each query, ``query_classes`` and ``query_segments`` [N, Q].
        """
        outputs: Any = self.sem_seg_head(self.features_of(images))
        size = (images.shape[-2], images.shape[-1])
        rows = [
            self._tensors(c.float(), m, size) for c, m in zip(outputs["pred_logits"], outputs["pred_masks"])
        ]
        return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}

    def _tensors(self, logits: Tensor, masks: Tensor, size: tuple[int, int]) -> dict[str, Tensor]:
        # Positive numbers only: ONNX rounds quotients of negative ones to 0.
        unit = self.size_divisibility
        padded = [(side + unit - 1) // unit * unit for side in size]
        masks = F.interpolate(masks[None], size=padded, mode="bilinear", align_corners=False)[0].float()
        rows, columns = (torch.arange(n, device=masks.device) for n in size)
        masks = masks.index_select(1, rows).index_select(2, columns)
        found = {}
        if self.semantic_on:
            found["sem_seg"] = semantic_scores(logits, masks)
        if self.instance_on:
            top = top_masks(logits, masks, self.test_topk_per_image)
            valid = self._is_thing(top.classes) if self.panoptic_on else torch.ones_like(top.scores).bool()
            found |= {"scores": top.scores, "classes": top.classes, "valid": valid, "pred_masks": top.masks}
            found["boxes"] = top.scores.new_zeros(top.scores.shape[0], 4)
        if self.panoptic_on:
            scores, classes = logits.softmax(-1).max(-1)
            chosen = (classes != logits.shape[1] - 1) & (scores > self.object_mask_threshold)
            things = self._is_thing(classes)
            found["panoptic_seg"], found["query_segments"] = winning_segments(
                scores, classes, masks.sigmoid(), chosen, things, self.overlap_threshold
            )
            found["query_classes"] = classes
        return found


def _build_criterion(cfg: CfgNode, num_classes: int) -> SetCriterion:
    """Build the criterion by ``MODEL.MASK_FORMER``; every prediction has the same weights."""
    node = cfg.MODEL.MASK_FORMER
    weights = {"loss_ce": node.CLASS_WEIGHT, "loss_mask": node.MASK_WEIGHT, "loss_dice": node.DICE_WEIGHT}
    matcher = HungarianMatcher(
        cost_class=node.CLASS_WEIGHT,
        cost_mask=node.MASK_WEIGHT,
        cost_dice=node.DICE_WEIGHT,
        num_points=node.TRAIN_NUM_POINTS,
    )
    earlier = range(node.DEC_LAYERS - 1) if node.DEEP_SUPERVISION else ()
    weight_dict = dict(weights)
    for i in earlier:
        weight_dict |= {f"{name}_{i}": weight for name, weight in weights.items()}
    return SetCriterion(
        num_classes,
        matcher=matcher,
        weight_dict=weight_dict,
        eos_coef=node.NO_OBJECT_WEIGHT,
        losses=["labels", "masks"],
        num_points=node.TRAIN_NUM_POINTS,
        oversample_ratio=node.OVERSAMPLE_RATIO,
        importance_sample_ratio=node.IMPORTANCE_SAMPLE_RATIO,
    )
