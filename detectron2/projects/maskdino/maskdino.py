"""The architecture: a backbone and a head that predicts a set of classes, boxes and masks.

Reference: MaskDINO, https://arxiv.org/abs/2206.02777
"""

from collections.abc import Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, MaskClassifier
from detectron2.modeling.backbone import Backbone
from detectron2.modeling.transformer import box_cxcywh_to_xyxy, box_xyxy_to_cxcywh
from detectron2.structures import BitMasks, ImageList, Instances

from .config import by_cross_entropy
from .criterion import SetCriterion
from .matcher import HungarianMatcher

__all__ = ["MaskDINO"]


@META_ARCH_REGISTRY.register()
class MaskDINO(MaskClassifier):
    """Detection and semantic, instance and panoptic segmentation by one set of queries.

    Args:
        backbone: computes feature maps.
        sem_seg_head: see :class:`.MaskDINOHead`.
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
        data_loader: name of the mapper; one with "detr" in it makes images of different sizes.
        pano_temp: temperature of ``transform_eval``.
        focus_on_box: score instances by their class only, not by their mask.
        transform_eval: sharpen class scores of semantic and panoptic segmentation by a softmax.
        semantic_ce_loss: classes are a softmax with "no object", for semantic segmentation.
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
        metadata: object,
        size_divisibility: int,
        sem_seg_postprocess_before_inference: bool,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        semantic_on: bool,
        panoptic_on: bool,
        instance_on: bool,
        test_topk_per_image: int,
        data_loader: str,
        pano_temp: float,
        focus_on_box: bool = False,
        transform_eval: bool = False,
        semantic_ce_loss: bool = False,
    ) -> None:
        super().__init__(
            backbone=backbone,
            sem_seg_head=sem_seg_head,
            criterion=criterion,
            num_queries=num_queries,
            object_mask_threshold=object_mask_threshold,
            overlap_threshold=overlap_threshold,
            metadata=metadata,
            size_divisibility=size_divisibility,
            sem_seg_postprocess_before_inference=sem_seg_postprocess_before_inference,
            pixel_mean=pixel_mean,
            pixel_std=pixel_std,
            semantic_on=semantic_on,
            panoptic_on=panoptic_on,
            instance_on=instance_on,
            test_topk_per_image=test_topk_per_image,
        )
        self.data_loader = data_loader
        self.pano_temp = pano_temp
        self.focus_on_box = focus_on_box
        self.transform_eval = transform_eval
        self.semantic_ce_loss = semantic_ce_loss

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Read ``MODEL.MaskDINO`` and build the children; metadata are those of ``DATASETS.TRAIN[0]``."""
        node = cfg.MODEL.MaskDINO
        arguments = cls.arguments_of(cfg, node)
        criterion = _build_criterion(cfg, arguments["sem_seg_head"].num_classes)
        things = getattr(arguments["metadata"], "thing_dataset_id_to_contiguous_id", None)
        if node.PANO_BOX_LOSS and things is not None:
            criterion.set_things(sorted(things.values()))
        return {
            **arguments,
            "criterion": criterion,
            "data_loader": cfg.INPUT.DATASET_MAPPER_NAME,
            "pano_temp": node.TEST.PANO_TEMPERATURE,
            "focus_on_box": node.TEST.TEST_FOUCUS_ON_BOX,
            "transform_eval": node.TEST.PANO_TRANSFORM_EVAL,
            "semantic_ce_loss": by_cross_entropy(cfg),
        }

    def _outputs(self, features: dict[str, Tensor]) -> dict[str, Any]:
        outputs: dict[str, Any] = self.sem_seg_head(features)[0]
        return outputs

    def _losses_of(self, features: dict[str, Tensor], targets: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        outputs, known = self.sem_seg_head(features, targets=targets)  # type: ignore[call-arg]
        losses: dict[str, Tensor] = self.criterion(outputs, targets, known)
        return losses

    def _make_targets(self, targets: list[Instances], images: ImageList) -> list[dict[str, Tensor]]:
        make = self.prepare_targets_detr if "detr" in self.data_loader else self.prepare_targets
        return make(targets, images)

    def prepare_targets(self, targets: list[Instances], images: ImageList) -> list[dict[str, Tensor]]:
        """Make the criterion's targets, of images that all have the same size, such as those of large-scale jitter.

        Args:
            targets: with ``gt_classes``, ``gt_masks`` and perhaps ``gt_boxes``, which else are made of the masks.
            images: the batch.

        Returns:
            for each image ``labels`` [T], ``masks`` bool [T, H, W], padded like the images, and ``boxes`` [T, 4],
            centre and size in [0, 1] of the image.
        """
        return self._with_boxes(targets, images, [t.image_size for t in targets])

    def prepare_targets_detr(self, targets: list[Instances], images: ImageList) -> list[dict[str, Tensor]]:
        """Make the criterion's targets, of images of different sizes; boxes are in [0, 1] of the padded images.

        The model sees padded images, and predicts boxes relative to these. For the rest see :meth:`prepare_targets`.
        """
        height, width = images.tensor.shape[-2:]
        return self._with_boxes(targets, images, [(height, width)] * len(targets))

    def _with_boxes(
        self, targets: list[Instances], images: ImageList, sizes: Sequence[tuple[int, int]]
    ) -> list[dict[str, Tensor]]:
        """Targets with boxes relative to ``sizes``."""
        found = super().prepare_targets(targets, images)
        for instances, target, (height, width) in zip(targets, found, sizes):
            if instances.has("gt_boxes"):
                boxes = instances.gt_boxes.tensor
            else:
                boxes = BitMasks(target["masks"]).get_bounding_boxes().tensor
            scale = boxes.new_tensor([width, height, width, height])
            target["boxes"] = box_xyxy_to_cxcywh(boxes) / scale
        return found

    # --------------------------------------------------------------------------------------------------- inference

    def _instance_probabilities(self, logits: Tensor) -> Tensor:
        return logits.softmax(-1)[:, :-1] if self._has_no_object(logits) else logits.sigmoid()

    def _has_no_object(self, logits: Tensor) -> bool:
        classes: int = self.sem_seg_head.num_classes  # type: ignore[attr-defined]
        return self.semantic_ce_loss and logits.shape[1] > classes

    def _sharpened(self, probabilities: Tensor) -> Tensor:
        return (probabilities / self.pano_temp).softmax(-1) if self.transform_eval else probabilities

    def _semantic_probabilities(self, logits: Tensor) -> Tensor:
        probabilities = self._instance_probabilities(logits)
        return probabilities if self._has_no_object(logits) else self._sharpened(probabilities)

    def _panoptic_choice(self, logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        probabilities = logits.sigmoid()
        chosen = probabilities.amax(-1) > self.object_mask_threshold
        scores, classes = self._sharpened(probabilities).max(-1)
        return scores, classes, chosen

    def _instance_scores(self, scores: Tensor, certainty: Tensor) -> Tensor:
        return scores if self.focus_on_box else scores * certainty

    def _scaled(self, boxes: Tensor | None, height: float, width: float) -> Tensor | None:
        return None if boxes is None else self.box_postprocess(boxes.float(), height, width)

    def box_postprocess(self, out_bbox: Tensor, img_h: float, img_w: float) -> Tensor:
        """Return the corners, in pixels of an image, of boxes [..., 4] (centre, size in [0, 1])."""
        near_x, near_y, far_x, far_y = box_cxcywh_to_xyxy(out_bbox).unbind(-1)
        return torch.stack([near_x * img_w, near_y * img_h, far_x * img_w, far_y * img_h], -1)

    def _instances(self, logits: Tensor, masks: Tensor, boxes: Tensor | None) -> Instances:
        assert boxes is not None
        return self.instance_inference(logits, masks, boxes)

    def instance_inference(self, mask_cls: Tensor, mask_pred: Tensor, mask_box_result: Tensor) -> Instances:
        """Choose the best pairs of a query and a class; with panoptic results on, only things among them.

        Args:
            mask_cls: [Q, classes] logits.
            mask_pred: [Q, H, W] logits.
            mask_box_result: [Q, 4] corners of boxes in pixels.

        Returns:
            Instances with ``scores``, ``pred_classes``, ``pred_masks`` bool [D, H, W] and ``pred_boxes``.
        """
        return self.choose_instances(mask_cls, mask_pred, mask_box_result)


def _build_criterion(cfg: CfgNode, num_classes: int) -> SetCriterion:
    """Build the criterion by ``MODEL.MaskDINO``; every prediction has the same weights."""
    node = cfg.MODEL.MaskDINO
    losses = ["labels", "masks", "boxes"] if node.BOX_LOSS else ["labels", "masks"]
    dn_losses = {"seg": losses, "standard": [name for name in losses if name != "masks"]}.get(node.DN, [])
    matcher = HungarianMatcher(
        cost_class=node.COST_CLASS_WEIGHT,
        cost_mask=node.COST_MASK_WEIGHT,
        cost_dice=node.COST_DICE_WEIGHT,
        num_points=node.TRAIN_NUM_POINTS,
        cost_box=node.COST_BOX_WEIGHT,
        cost_giou=node.COST_GIOU_WEIGHT,
        panoptic_on=node.PANO_BOX_LOSS,
    )
    return SetCriterion(
        num_classes,
        matcher=matcher,
        weight_dict=_weights(node),
        eos_coef=node.NO_OBJECT_WEIGHT,
        losses=losses,
        num_points=node.TRAIN_NUM_POINTS,
        oversample_ratio=node.OVERSAMPLE_RATIO,
        importance_sample_ratio=node.IMPORTANCE_SAMPLE_RATIO,
        dn=node.DN,
        dn_losses=dn_losses,
        panoptic_on=node.PANO_BOX_LOSS,
        semantic_ce_loss=by_cross_entropy(cfg),
    )


def _weights(node: CfgNode) -> dict[str, float]:
    """Weight of each loss: of classes, boxes and masks; of the proposals, of denoising, of each layer."""
    kinds = {
        "loss_ce": node.CLASS_WEIGHT,
        "loss_mask": node.MASK_WEIGHT,
        "loss_dice": node.DICE_WEIGHT,
        "loss_bbox": node.BOX_WEIGHT,
        "loss_giou": node.GIOU_WEIGHT,
    }
    stages = ("", "_interm") if node.TWO_STAGE else ("",)
    denoising = ("", "_dn") if node.DN in ("seg", "standard") else ("",)
    earlier = range(node.DEC_LAYERS) if node.DEEP_SUPERVISION else ()
    layers = ("", *(f"_{i}" for i in earlier))
    return {
        kind + stage + dn + layer: weight
        for (kind, weight), stage, dn, layer in product(kinds.items(), stages, denoising, layers)
    }
