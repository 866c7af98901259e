"""The architecture: a backbone and a head that predicts a set of masks, for semantic, instance and panoptic results.

References: MaskFormer, https://arxiv.org/abs/2107.06278; Mask2Former, https://arxiv.org/abs/2112.01527
"""

from typing import Any

from torch import Tensor

from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY, MaskClassifier
from detectron2.structures import Instances

from .criterion import SetCriterion
from .matcher import HungarianMatcher

__all__ = ["MaskFormer"]


@META_ARCH_REGISTRY.register()
class MaskFormer(MaskClassifier):
    """Semantic, instance and panoptic segmentation by classifying masks, with a softmax over classes and "no object".

    Arguments are those of :class:`.MaskClassifier`; for the head see :class:`.MaskFormerHead`, for the criterion
    :class:`.SetCriterion`.
    """

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Read ``MODEL.MASK_FORMER`` and build the children; the metadata is that of ``DATASETS.TRAIN[0]``."""
        arguments = cls.arguments_of(cfg, cfg.MODEL.MASK_FORMER)
        criterion = _build_criterion(cfg, arguments["sem_seg_head"].num_classes)
        return {**arguments, "criterion": criterion}

    def _losses_of(self, features: dict[str, Tensor], targets: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = self.criterion(self.sem_seg_head(features), targets)  # type: ignore[arg-type]
        return losses

    def _instance_probabilities(self, logits: Tensor) -> Tensor:
        return logits.softmax(-1)[:, :-1]

    def _panoptic_choice(self, logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        scores, classes = logits.softmax(-1).max(-1)
        chosen = (classes != logits.shape[1] - 1) & (scores > self.object_mask_threshold)
        return scores, classes, chosen

    def _instances(self, logits: Tensor, masks: Tensor, boxes: Tensor | None) -> Instances:
        return self.instance_inference(logits, masks)

    def instance_inference(self, mask_cls: Tensor, mask_pred: Tensor) -> Instances:
        """Choose the best pairs of a query and a class; with panoptic results on, keep only things.

        Args:
            mask_cls: [Q, classes + 1] logits.
            mask_pred: [Q, H, W] logits.

        Returns:
            Instances with ``scores``, ``pred_classes``, ``pred_masks`` bool [D, H, W], and ``pred_boxes`` that are all
            zero: the model predicts none, and ``BitMasks(pred_masks).get_bounding_boxes()`` gives them if wanted.
        """
        return self.choose_instances(mask_cls, mask_pred)


def _build_criterion(cfg: CfgNode, num_classes: int) -> SetCriterion:
    """Build the criterion that ``MODEL.MASK_FORMER`` describes, with the same weights for every prediction."""
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
