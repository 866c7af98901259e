"""Losses and results of heads, empty inputs, and the ways to exchange parts."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from detectron2.config import get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling import ROI_BOX_HEAD_REGISTRY, build_roi_heads
from detectron2.modeling._selection import class_aware_nms_mask
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.proposal_generator.proposal_utils import find_top_rpn_proposals
from detectron2.modeling.roi_heads import FastRCNNOutputLayers, StandardROIHeads
from detectron2.modeling.roi_heads.fast_rcnn import fast_rcnn_inference
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage


def predictor(**kwargs: object) -> FastRCNNOutputLayers:
    return FastRCNNOutputLayers(
        ShapeSpec(channels=6), box2box_transform=Box2BoxTransform((1.0,) * 4), num_classes=3, **kwargs
    )


def proposals(n: int) -> Instances:
    corner = torch.rand(n, 2) * 50
    found = Instances((100, 100), proposal_boxes=Boxes(torch.cat((corner, corner + 20), dim=1)))
    found.gt_classes = torch.arange(n) % 4
    found.gt_boxes = Boxes(found.proposal_boxes.tensor + 2)
    return found


@pytest.mark.parametrize("kind", ["smooth_l1", "giou", "diou", "ciou"])
@pytest.mark.parametrize("agnostic", [False, True])
def test_losses_reach_all_parameters_with_and_without_foreground(kind: str, agnostic: bool) -> None:
    torch.manual_seed(0)
    for given in ([proposals(8)], [proposals(8)[torch.tensor([3, 7])]], [proposals(0)], []):
        layers = predictor(box_reg_loss_type=kind, cls_agnostic_bbox_reg=agnostic)
        x = torch.randn(sum(len(p) for p in given), 6)
        with EventStorage():
            losses = layers.losses(layers(x), given)
        assert set(losses) == {"loss_cls", "loss_box_reg"}
        assert all(loss.isfinite() for loss in losses.values())
        sum(losses.values()).backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in layers.parameters())


def test_sigmoid_loss_equals_a_sum_of_binary_ones() -> None:
    layers = predictor(use_sigmoid_ce=True)
    logits, classes = torch.randn(5, 4), torch.tensor([0, 3, 1, 2, 3])
    want = sum(
        F.binary_cross_entropy_with_logits(logits[i, k], torch.tensor(float(classes[i] == k)))
        for i in range(5)
        for k in range(3)
    )
    torch.testing.assert_close(layers.sigmoid_cross_entropy_loss(logits, classes), want / 5)


def test_federated_classes_contain_those_at_hand_and_no_weightless_ones() -> None:
    layers = predictor()
    weight = torch.tensor([1.0, 0.0, 1.0, 1.0, 0.0])
    for seed in range(20):
        torch.manual_seed(seed)
        chosen = layers.get_fed_loss_classes(torch.tensor([1, 5, 1]), 4, 5, weight).tolist()
        assert {1, 5} <= set(chosen)
        assert 4 not in chosen
        assert len(chosen) == len(set(chosen)) == 4


def test_federated_loss_names_what_it_lacks() -> None:
    with pytest.raises(ValueError, match="use_sigmoid_ce"):
        predictor(use_fed_loss=True)
    with pytest.raises(ValueError, match="get_fed_loss_cls_weights"):
        predictor(use_fed_loss=True, use_sigmoid_ce=True)


def test_detections_are_the_best_of_each_class() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 11], [50, 50, 60, 60]])
    scores = torch.tensor([[0.6, 0.3, 0.1], [0.5, 0.4, 0.1], [0.05, 0.9, 0.05]])
    (found,), (rows,) = fast_rcnn_inference([boxes], [scores], [(100, 100)], 0.2, 0.5, 10)
    assert found.pred_classes.tolist() == [1, 0, 1]
    assert rows.tolist() == [2, 0, 1]
    torch.testing.assert_close(found.scores, torch.tensor([0.9, 0.6, 0.4]))
    (none,), _ = fast_rcnn_inference([boxes[:0]], [scores[:0]], [(100, 100)], 0.2, 0.5, 10)
    assert len(none) == 0


def test_nms_mask_equals_a_loop() -> None:
    torch.manual_seed(0)
    corner = torch.rand(60, 2) * 30
    boxes, scores = torch.cat((corner, corner + 12), dim=1), torch.rand(60)
    groups, valid = torch.arange(60) % 3, torch.rand(60) > 0.2
    kept: list[int] = []
    for i in scores.argsort(descending=True).tolist():
        if valid[i] and all(groups[i] != groups[j] or _iou(boxes[i], boxes[j]) <= 0.5 for j in kept):
            kept.append(i)
    mask = class_aware_nms_mask(boxes, scores, groups, valid, 0.5)
    assert mask.nonzero()[:, 0].tolist() == sorted(kept)


def _iou(a: torch.Tensor, b: torch.Tensor) -> float:
    inter = (torch.minimum(a[2:], b[2:]) - torch.maximum(a[:2], b[:2])).clamp(min=0).prod()
    return float(inter / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - inter))


def test_proposals_that_are_not_finite_stop_training_and_are_dropped_in_evaluation() -> None:
    boxes = torch.tensor([[[0.0, 0, 10, 10], [5, 5, float("nan"), 20], [20, 20, 40, 40]]])
    logits = torch.tensor([[0.1, 0.9, 0.5]])
    args = ([boxes], [logits], [(50, 50)], 0.7, 10, 10, 0.0)
    (found,) = find_top_rpn_proposals(*args, False)
    assert found.objectness_logits.tolist() == pytest.approx([0.5, 0.1])
    with pytest.raises(FloatingPointError, match="diverged"):
        find_top_rpn_proposals(*args, True)


def heads_config() -> object:
    cfg = get_cfg()
    cfg.merge_from_list(
        ["MODEL.ROI_HEADS.NAME", "StandardROIHeads", "MODEL.ROI_HEADS.IN_FEATURES", ["p3"]]
        + ["MODEL.ROI_HEADS.NUM_CLASSES", 3, "MODEL.ROI_BOX_HEAD.NAME", "FastRCNNConvFCHead"]
        + ["MODEL.ROI_BOX_HEAD.NUM_FC", 1, "MODEL.ROI_BOX_HEAD.FC_DIM", 6]
    )
    return cfg


def test_a_part_can_be_given_as_an_object_or_by_name() -> None:
    class Doubled(FastRCNNOutputLayers):
        def losses(self, predictions: object, proposals: object) -> dict[str, torch.Tensor]:
            return {k: 2 * v for k, v in super().losses(predictions, proposals).items()}

    shape, cfg = {"p3": ShapeSpec(channels=4, stride=8)}, heads_config()
    mine = Doubled(cfg, ShapeSpec(channels=6))
    heads = StandardROIHeads(cfg, shape, box_predictor=mine)
    assert heads.box_predictor is mine

    if "NamedForTest" not in ROI_BOX_HEAD_REGISTRY:

        @ROI_BOX_HEAD_REGISTRY.register()
        class NamedForTest(torch.nn.Flatten):
            def __init__(self, cfg: object, input_shape: ShapeSpec) -> None:
                super().__init__()
                self.output_shape = ShapeSpec(channels=4 * 14 * 14)

    cfg.MODEL.ROI_BOX_HEAD.NAME = "NamedForTest"
    assert type(build_roi_heads(cfg, shape).box_head).__name__ == "NamedForTest"
