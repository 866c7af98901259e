"""Box classification and regression of Fast R-CNN.

Fast R-CNN (Girshick 2015, https://arxiv.org/abs/1504.08083), section 2.
R proposals of a batch, K classes, D = 4 or 5 numbers per box.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detectron2.config import CfgNode, configurable
from detectron2.data.detection_utils import get_fed_loss_cls_weights
from detectron2.layers import ShapeSpec, cat, cross_entropy
from detectron2.layers.soft_nms import SoftNMS
from detectron2.structures import Instances
from detectron2.utils.errors import BadValue
from detectron2.utils.reexports import passed_on, publish

from .._selection import clip_boxes, selects_in_rounds, stack_detections
from ..box_regression import Box2BoxTransform, BoxTransform, _box_loss
from ..fixed_shapes import Size, size_of_each
from ..tensor_inference import Tensors
from ._box_losses import _log_classification_stats, losses_of_fixed_samples
from .detections import (
    fast_rcnn_inference,
    fast_rcnn_inference_single_image,
    select_detections,
    select_in_rounds,
    soft_nms_inference,
)

__all__ = ["FastRCNNOutputLayers", "fast_rcnn_inference"]

__getattr__ = passed_on(__name__)
publish(__name__, fast_rcnn_inference, fast_rcnn_inference_single_image)


def soft_nms_of(cfg: CfgNode) -> SoftNMS | None:
    """Return the soft-NMS of ``TEST.SOFT_NMS``; None if it is disabled."""
    n = cfg.TEST.SOFT_NMS
    return SoftNMS(n.METHOD, n.IOU_THRESH, n.SIGMA, n.MIN_SCORE, n.CLASS_WISE) if n.ENABLED else None


class FastRCNNOutputLayers(nn.Module):
    """Two linear layers that predict class scores and box deltas from the features of a proposal.

    Args:
        input_shape: shape of the features of one proposal, or their number.
        box2box_transform: encodes boxes as deltas; any object with ``get_deltas``, ``apply_deltas`` and, if boxes are
            rotated, five ``weights``.
        num_classes: K, the number of foreground classes.
        test_score_thresh, test_nms_thresh, test_topk_per_image: see :func:`fast_rcnn_inference`.
        cls_agnostic_bbox_reg: whether all classes share one box.
        smooth_l1_beta: error at which smooth L1 changes from quadratic to linear; 0 = plain L1.
        box_reg_loss_type: "smooth_l1", "giou", "diou" or "ciou".
        loss_weight: one factor for all losses, or a dict with a factor for ``loss_cls`` and ``loss_box_reg``.
        use_fed_loss: whether to use the federated loss of LVIS, which takes only the classes of the batch and a few
            sampled ones into account (https://arxiv.org/abs/2103.07461, section 6). Needs ``use_sigmoid_ce``.
        use_sigmoid_ce: use a binary cross-entropy for each class instead of softmax.
        get_fed_loss_cls_weights: called without arguments; returns the weights [K] for sampling classes.
        fed_loss_num_classes: number of classes in the federated loss, including those of the batch.
        soft_nms: replaces NMS: lowers the scores of overlapping detections instead of dropping them.

    Raises:
        ValueError: if ``use_fed_loss`` is set without ``use_sigmoid_ce`` or without K class weights.
    """

    fed_loss_cls_weights: Tensor
    _clip: Any = staticmethod(clip_boxes)
    _box_dim = 4

    @configurable
    def __init__(
        self,
        input_shape: ShapeSpec,
        *,
        box2box_transform: BoxTransform,
        num_classes: int,
        test_score_thresh: float = 0.0,
        test_nms_thresh: float = 0.5,
        test_topk_per_image: int = 100,
        cls_agnostic_bbox_reg: bool = False,
        smooth_l1_beta: float = 0.0,
        box_reg_loss_type: str = "smooth_l1",
        loss_weight: float | dict[str, float] = 1.0,
        use_fed_loss: bool = False,
        use_sigmoid_ce: bool = False,
        get_fed_loss_cls_weights: Callable[[], Tensor] | None = None,
        fed_loss_num_classes: int = 50,
        soft_nms: SoftNMS | None = None,
    ) -> None:
        super().__init__()
        shape = ShapeSpec(channels=input_shape) if isinstance(input_shape, int) else input_shape
        features = (shape.channels or 0) * (shape.width or 1) * (shape.height or 1)
        self.num_classes = num_classes
        self.box_dim = len(getattr(box2box_transform, "weights", (1.0,) * 4))
        self.cls_score = nn.Linear(features, num_classes + 1)
        self.bbox_pred = nn.Linear(features, self.box_dim * (1 if cls_agnostic_bbox_reg else num_classes))
        for layer, std in ((self.cls_score, 0.01), (self.bbox_pred, 0.001)):
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)

        self.box2box_transform = box2box_transform
        self.smooth_l1_beta = smooth_l1_beta
        self.test_score_thresh = test_score_thresh
        self.test_nms_thresh = test_nms_thresh
        self.test_topk_per_image = test_topk_per_image
        self.box_reg_loss_type = box_reg_loss_type
        if not isinstance(loss_weight, Mapping):
            loss_weight = {"loss_cls": loss_weight, "loss_box_reg": loss_weight}
        self.loss_weight = dict(loss_weight)
        self.use_fed_loss = use_fed_loss
        self.use_sigmoid_ce = use_sigmoid_ce
        self.fed_loss_num_classes = fed_loss_num_classes
        self.soft_nms = soft_nms
        if use_fed_loss:
            self._register_class_weights(get_fed_loss_cls_weights)

    def _register_class_weights(self, get_weights: Callable[[], Tensor] | None) -> None:
        if not self.use_sigmoid_ce:
            raise BadValue("the federated loss needs a sigmoid for each class; set use_sigmoid_ce=True")
        if get_weights is None:
            raise BadValue(
                "the federated loss needs get_fed_loss_cls_weights, a function that returns the weights"
            )
        weights = get_weights()
        if len(weights) != self.num_classes:
            raise BadValue(
                f"get_fed_loss_cls_weights must return {self.num_classes} weights, one per class, got {len(weights)}"
            )
        self.register_buffer("fed_loss_cls_weights", weights)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        """Read the arguments from ``MODEL.ROI_BOX_HEAD``, ``MODEL.ROI_HEADS`` and ``TEST``."""
        node, heads = cfg.MODEL.ROI_BOX_HEAD, cfg.MODEL.ROI_HEADS
        return {
            "input_shape": input_shape,
            "box2box_transform": Box2BoxTransform(weights=node.BBOX_REG_WEIGHTS),
            "num_classes": heads.NUM_CLASSES,
            "cls_agnostic_bbox_reg": node.CLS_AGNOSTIC_BBOX_REG,
            "smooth_l1_beta": node.SMOOTH_L1_BETA,
            "test_score_thresh": heads.SCORE_THRESH_TEST,
            "test_nms_thresh": heads.NMS_THRESH_TEST,
            "test_topk_per_image": cfg.TEST.DETECTIONS_PER_IMAGE,
            "box_reg_loss_type": node.BBOX_REG_LOSS_TYPE,
            "loss_weight": {"loss_box_reg": node.BBOX_REG_LOSS_WEIGHT},
            "use_fed_loss": node.USE_FED_LOSS,
            "use_sigmoid_ce": node.USE_SIGMOID_CE,
            "get_fed_loss_cls_weights": lambda: get_fed_loss_cls_weights(
                cfg.DATASETS.TRAIN, node.FED_LOSS_FREQ_WEIGHT_POWER
            ),
            "fed_loss_num_classes": node.FED_LOSS_NUM_CLASSES,
            "soft_nms": soft_nms_of(cfg),
        }

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Compute scores [R, K + 1] and deltas [R, K * D] (or [R, D]) from features [R, ...]."""
        x = x.flatten(1)
        return self.cls_score(x), self.bbox_pred(x)

    def losses(self, predictions: tuple[Tensor, Tensor], proposals: list[Instances]) -> dict[str, Tensor]:
        """Compute ``loss_cls`` and ``loss_box_reg``.

        Args:
            predictions: the result of :meth:`forward`.
            proposals: Instances with ``proposal_boxes``, ``gt_classes`` (K = background) and, if an image has ground
                truth, ``gt_boxes``.
        """
        scores, deltas = predictions
        gt_classes = cat([p.gt_classes for p in proposals]) if proposals else scores.new_zeros(0).long()
        _log_classification_stats(scores, gt_classes)
        if proposals:
            # Without ground truth all proposals are background, whose targets are never read.
            boxes = cat([p.proposal_boxes.tensor for p in proposals])
            targets = cat([(p.gt_boxes if p.has("gt_boxes") else p.proposal_boxes).tensor for p in proposals])
        else:
            boxes = targets = deltas.new_zeros((0, self.box_dim))
        if self.use_sigmoid_ce:
            loss_cls = self.sigmoid_cross_entropy_loss(scores, gt_classes)
        else:
            loss_cls = cross_entropy(scores, gt_classes, reduction="mean")
        found = {
            "loss_cls": loss_cls,
            "loss_box_reg": self.box_reg_loss(boxes, targets, deltas, gt_classes),
        }
        return {name: loss * self.loss_weight.get(name, 1.0) for name, loss in found.items()}

    def get_fed_loss_classes(
        self, gt_classes: Tensor, num_fed_loss_classes: int, num_classes: int, weight: Tensor
    ) -> Tensor:
        """Return the classes of the batch and sampled other ones, ``num_fed_loss_classes`` in total.

        Args:
            gt_classes: [R] in [0, K], K = background.
            num_fed_loss_classes: number of classes to return; more if the batch has more.
            num_classes: K.
            weight: [K], weights for sampling.

        Returns:
            int64 [C] without duplicates; contains K if the batch does.
        """
        present = gt_classes.unique()
        missing = num_fed_loss_classes - len(present)
        if missing <= 0:
            return present
        chances = weight.new_ones(num_classes + 1, dtype=torch.float32)
        chances[:num_classes] = weight.float()
        chances[num_classes] = 0
        chances[present] = 0
        missing = min(missing, int((chances > 0).sum()))
        if missing == 0:
            return present
        return torch.cat((present, torch.multinomial(chances, missing, replacement=False)))

    def sigmoid_cross_entropy_loss(self, pred_class_logits: Tensor, gt_classes: Tensor) -> Tensor:
        """Sum the binary cross-entropies of all classes, or those of the federated loss, and divide by R.

        Args:
            pred_class_logits: [R, K + 1]; the background column is not used.
            gt_classes: [R] in [0, K], K = background.
        """
        if pred_class_logits.numel() == 0:
            return pred_class_logits.sum() * 0.0
        num_rows, num_classes = pred_class_logits.shape[0], self.num_classes
        logits = pred_class_logits[:, :num_classes]
        target = F.one_hot(gt_classes, num_classes + 1)[:, :num_classes].to(logits.dtype)
        loss = F.binary_cross_entropy_with_logits(logits, target, reduction="none")  # [R, K]
        if self.use_fed_loss:
            chosen = self.get_fed_loss_classes(
                gt_classes, self.fed_loss_num_classes, num_classes, self.fed_loss_cls_weights
            )
            counts = loss.new_zeros(num_classes + 1).index_fill(0, chosen, 1.0)
            loss = loss * counts[:num_classes]
        return loss.sum() / num_rows

    def box_reg_loss(
        self, proposal_boxes: Tensor, gt_boxes: Tensor, pred_deltas: Tensor, gt_classes: Tensor
    ) -> Tensor:
        """Sum the localisation loss of foreground proposals, and divide by R.

        Dividing by R, which includes background, gives each foreground box the same weight, whatever their number in
        a batch.

        Args:
            proposal_boxes, gt_boxes: [R, D].
            pred_deltas: [R, K * D] or [R, D].
            gt_classes: [R] in [0, K], K = background.
        """
        foreground = torch.nonzero((gt_classes >= 0) & (gt_classes < self.num_classes))[:, 0]  # [P]
        by_class = pred_deltas.unflatten(1, (pred_deltas.shape[1] // self.box_dim, self.box_dim))
        chosen = by_class[foreground]  # [P, K or 1, D]
        column = gt_classes[foreground] if chosen.shape[1] > 1 else torch.zeros_like(foreground)
        deltas = chosen[torch.arange(len(foreground), device=foreground.device), column]  # [P, D]
        loss = _box_loss(
            self.box2box_transform,
            proposal_boxes[foreground],
            deltas,
            gt_boxes[foreground],
            self.box_reg_loss_type,
            self.smooth_l1_beta,
        )
        return loss / max(gt_classes.numel(), 1)

    def loss_tensors(self, hidden: Tensor, sample: Tensors) -> Tensors:
        """Compute what :meth:`losses` does for a fixed number of proposals per image; see :mod:`.fixed_shapes`.

        Args:
            hidden: features [N * k, ...] of the proposals.
            sample: the proposals, see :func:`.match_and_sample_padded`.

        Returns:
            Losses, and with a slash in their names figures for the log.
        """
        scores, deltas = self(hidden)
        found = losses_of_fixed_samples(self, scores, deltas, sample)
        return {name: loss * self.loss_weight.get(name, 1.0) for name, loss in found.items()}

    def check_loss_tensors(self) -> None:
        """Raise ValueError if an option has no form with fixed shapes."""
        if self.use_fed_loss:
            raise BadValue("the federated loss has no form with fixed shapes; set MODEL.FIXED_SHAPES = False")

    def decode_tensors(self, hidden: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Predict boxes and class probabilities for the same number of boxes per image, for :class:`.TensorInference`.

        Args:
            hidden: features [N * P, ...] of the boxes.
            boxes: [N, P, 4].

        Returns:
            Boxes [N, P, K * 4], or [N, P, 4] if classes share a box, and probabilities [N, P, K + 1].
        """
        scores, deltas = self(hidden)
        decoded = self.box2box_transform.apply_deltas(deltas, boxes.flatten(0, 1))
        shape = boxes.shape[:2]
        return decoded.unflatten(0, shape), self.probabilities(scores).unflatten(0, shape)

    def select_tensors(self, boxes: Tensor, scores: Tensor, real: Tensor, size: Size) -> Tensors:
        """Select the best D = ``test_topk_per_image`` detections of each image, for :class:`.TensorInference`.

        Args:
            boxes: [N, P, K * 4] or [N, P, 4].
            scores: [N, P, K + 1].
            real: bool [N, P], which rows are real.
            size: height and width of the images, numbers or tensors [N].

        Returns:
            ``boxes`` [N, D, 4], ``scores``, ``classes`` and ``valid`` [N, D].
        """
        options = (self.test_score_thresh, self.test_nms_thresh, self.test_topk_per_image)
        sizes = size_of_each(size, boxes.shape[0])
        if self._box_dim == 4 and selects_in_rounds(boxes[..., :4]):
            found = select_in_rounds(boxes, scores, sizes, options, real, self._clip)
            return stack_detections(list(zip(*found)), self.test_topk_per_image)
        images = []
        for b, s, valid, image_size in zip(boxes, scores, real, sizes):
            box, score, classes, _, kept = select_detections(
                b, s, image_size, *options, self._clip, self._box_dim, valid
            )
            images.append((box, score, classes, kept))
        return stack_detections(images, self.test_topk_per_image)

    def check_tensor_form(self) -> None:
        """Raise ValueError if soft-NMS is enabled, or the number of detections is not limited."""
        if self.soft_nms is not None:
            raise BadValue("a graph cannot hold soft-NMS, which takes one step per box; set soft_nms=None")
        if self.test_topk_per_image < 0:
            raise BadValue(
                "a graph needs a limit on the number of detections; set test_topk_per_image "
                "(TEST.DETECTIONS_PER_IMAGE)"
            )

    def inference(
        self, predictions: tuple[Tensor, Tensor], proposals: list[Instances]
    ) -> tuple[list[Instances], list[Tensor]]:
        """Select detections; arguments as for :meth:`losses`, result as of :func:`fast_rcnn_inference`."""
        return self.select(
            list(self.predict_boxes(predictions, proposals)),
            list(self.predict_probs(predictions, proposals)),
            [p.image_size for p in proposals],
        )

    def select(
        self, boxes: list[Tensor], scores: list[Tensor], image_shapes: list[tuple[int, int]]
    ) -> tuple[list[Instances], list[Tensor]]:
        """Select detections by the thresholds of this predictor; see :func:`fast_rcnn_inference`."""
        threshold, limit = self.test_score_thresh, self.test_topk_per_image
        if self.soft_nms is not None:
            return soft_nms_inference(boxes, scores, image_shapes, threshold, limit, self.soft_nms)
        return fast_rcnn_inference(boxes, scores, image_shapes, threshold, self.test_nms_thresh, limit)

    def predict_boxes_for_gt_classes(
        self, predictions: tuple[Tensor, Tensor], proposals: list[Instances]
    ) -> tuple[Tensor, ...]:
        """Predict the boxes [R_i, D] of the ground-truth classes of each image's proposals.

        Background proposals get the box of the last class.
        """
        if not proposals:
            return ()
        boxes = self._decode(predictions[1], proposals)  # [R, K or 1, D]
        if boxes.shape[1] > 1:
            classes = torch.cat([p.gt_classes for p in proposals]).clamp(0, self.num_classes - 1)
            boxes = torch.take_along_dim(boxes, classes[:, None, None], dim=1)
        return boxes[:, 0].split([len(p) for p in proposals])

    def predict_boxes(
        self, predictions: tuple[Tensor, Tensor], proposals: list[Instances]
    ) -> tuple[Tensor, ...]:
        """Predict boxes [R_i, K * D] of each image, or [R_i, D] if classes share a box."""
        if not proposals:
            return ()
        return self._decode(predictions[1], proposals).flatten(1).split([len(p) for p in proposals])

    def _decode(self, deltas: Tensor, proposals: list[Instances]) -> Tensor:
        """Decode boxes [R, K or 1, D]."""
        base = cat([p.proposal_boxes.tensor for p in proposals])
        boxes = self.box2box_transform.apply_deltas(deltas, base)
        return boxes.reshape(boxes.shape[0], deltas.shape[1] // self.box_dim, self.box_dim)

    def probabilities(self, scores: Tensor) -> Tensor:
        """Convert scores [R, K + 1] to probabilities; with sigmoids, the last column is meaningless."""
        return scores.sigmoid() if self.use_sigmoid_ce else F.softmax(scores, dim=-1)

    def predict_probs(
        self, predictions: tuple[Tensor, Tensor], proposals: list[Instances]
    ) -> tuple[Tensor, ...]:
        """Predict class probabilities [R_i, K + 1] of each image."""
        return self.probabilities(predictions[0]).split([len(p) for p in proposals])
