"""TridentNet against plain convolutions, plain blocks and a plain ResNet."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from detectron2.config import get_cfg
from detectron2.modeling import build_backbone, build_model
from detectron2.modeling.backbone.resnet import BottleneckBlock
from detectron2.modeling.tensor_inference import TensorInference, outputs_to_instances
from detectron2.projects.tridentnet import (
    TridentBottleneckBlock,
    TridentStandardROIHeads,
    add_tridentnet_config,
    make_trident_stage,
)
from detectron2.projects.tridentnet.trident_conv import TridentConv
from detectron2.projects.tridentnet.trident_rcnn import merge_branch_instances
from detectron2.structures import Boxes, ImageList, Instances, pairwise_iou
from detectron2.utils.events import EventStorage


def small_cfg(**trident: Any) -> Any:
    cfg = get_cfg()
    add_tridentnet_config(cfg)
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.META_ARCHITECTURE = "GeneralizedRCNN"
    cfg.MODEL.BACKBONE.NAME = "build_trident_resnet_backbone"
    cfg.MODEL.PROPOSAL_GENERATOR.NAME = "TridentRPN"
    cfg.MODEL.ROI_HEADS.NAME = "TridentRes5ROIHeads"
    cfg.MODEL.RESNETS.STEM_OUT_CHANNELS = cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 16
    cfg.MODEL.RESNETS.WIDTH_PER_GROUP = 4
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 3
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    cfg.MODEL.RPN.POST_NMS_TOPK_TEST = 20
    cfg.MODEL.RPN.POST_NMS_TOPK_TRAIN = 20
    cfg.TEST.DETECTIONS_PER_IMAGE = 10
    for key, value in trident.items():
        cfg.MODEL.TRIDENT[key] = value
    return cfg


def image(seed: int, height: int = 64, width: int = 80) -> dict[str, Any]:
    return {"image": torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed)) * 255}


def labelled(seed: int, boxes: list[list[float]]) -> dict[str, Any]:
    truth = Instances((64, 80), gt_boxes=Boxes(torch.tensor(boxes).reshape(-1, 4)))
    truth.gt_classes = torch.arange(len(boxes)) % 3
    return {**image(seed), "instances": truth}


# ------------------------------------------------------------------ convolution
@pytest.mark.parametrize("bias", [False, True])
def test_each_branch_is_a_convolution_with_the_same_weight(bias: bool) -> None:
    conv = TridentConv(
        4, 6, 3, stride=2, paddings=[1, 2, 3], dilations=[1, 2, 3], num_branch=3, groups=2, bias=bias
    )
    xs = [torch.randn(2, 4, 9, 11) for _ in range(3)]
    for d, x, y in zip((1, 2, 3), xs, conv(xs)):
        torch.testing.assert_close(y, F.conv2d(x, conv.weight, conv.bias, 2, d, d, 2))
    assert len(list(conv.parameters())) == 1 + bias


def test_one_branch_runs_in_evaluation() -> None:
    conv = TridentConv(4, 4, 3, paddings=[1, 2], dilations=[1, 2], num_branch=2, test_branch_idx=1).eval()
    x = torch.randn(1, 4, 7, 7)
    torch.testing.assert_close(conv([x])[0], F.conv2d(x, conv.weight, padding=2, dilation=2))
    with pytest.raises(ValueError, match="runs 1 branches"):
        conv([x, x])
    with pytest.raises(ValueError, match="runs 2 branches"):
        conv.train()([x])


def test_norm_and_activation_follow_each_branch() -> None:
    conv = TridentConv(4, 4, 1, num_branch=2, norm=nn.BatchNorm2d(4), activation=F.relu)
    xs = [torch.randn(3, 4, 5, 5), 7 + 3 * torch.randn(3, 4, 5, 5)]
    for x, y in zip(xs, conv(xs)):
        alone = F.batch_norm(F.conv2d(x, conv.weight), None, None, training=True)
        torch.testing.assert_close(y, alone.relu())


def test_empty_input() -> None:
    conv = TridentConv(4, 6, 3, paddings=[1, 2], dilations=[1, 2], num_branch=2)
    ys = conv([torch.zeros(0, 4, 8, 8)] * 2)
    assert [y.shape for y in ys] == [(0, 6, 8, 8)] * 2
    sum(y.sum() for y in ys).backward()
    assert conv.weight.grad is not None
    assert not conv.weight.grad.any()


@pytest.mark.parametrize(
    "wrong", [{"dilations": [1, 2]}, {"paddings": [1]}, {"test_branch_idx": 3}, {"test_branch_idx": -2}]
)
def test_wrong_arguments(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="branch"):
        TridentConv(4, 4, 3, num_branch=3, **wrong)


# ------------------------------------------------------------------ blocks and backbone
@pytest.mark.parametrize("stride_in_1x1", [False, True])
def test_each_branch_is_a_dilated_bottleneck(stride_in_1x1: bool) -> None:
    options: dict[str, Any] = dict(
        bottleneck_channels=4, stride=2, stride_in_1x1=stride_in_1x1, norm="FrozenBN"
    )
    block = TridentBottleneckBlock(8, 16, **options, num_branch=2, dilations=[1, 3])
    x = torch.randn(2, 8, 12, 12)
    found = block(x)
    for dilation, y in zip((1, 3), found):
        plain = BottleneckBlock(8, 16, **options, dilation=dilation)
        plain.load_state_dict(block.state_dict())
        torch.testing.assert_close(y, plain(x))


def test_last_block_of_a_stage_joins_the_branches() -> None:
    options: dict[str, Any] = dict(
        in_channels=8, out_channels=16, bottleneck_channels=4, num_branch=3, norm=""
    )
    stage = nn.Sequential(*make_trident_stage(TridentBottleneckBlock, 2, **options))
    x = torch.randn(2, 8, 6, 6)
    y = stage(x)
    assert y.shape == (6, 16, 6, 6)
    branches = stage[0](x)
    stage[1].concat_output = False
    torch.testing.assert_close(y, torch.cat(stage[1](branches)))


def test_branch_of_dilation_one_is_a_resnet() -> None:
    cfg = small_cfg(TEST_BRANCH_IDX=0)
    trident = build_backbone(cfg).eval()
    cfg.MODEL.BACKBONE.NAME = "build_resnet_backbone"
    plain = build_backbone(cfg).eval()
    plain.load_state_dict(trident.state_dict())
    x = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(trident(x)["res4"], plain(x)["res4"])
    assert trident.train()(x)["res4"].shape[0] == 6


@pytest.mark.parametrize(
    "opts",
    [
        ("MODEL.TRIDENT.TRIDENT_STAGE", "res6"),
        ("MODEL.RESNETS.DEFORM_ON_PER_STAGE", [False, False, True, False]),
        ("MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64),
    ],
)
def test_stages_without_branches_are_refused(opts: tuple[Any, ...]) -> None:
    cfg = small_cfg()
    cfg.merge_from_list(list(opts))
    with pytest.raises(ValueError, match=r"TRIDENT_STAGE|DEFORM_ON_PER_STAGE"):
        build_backbone(cfg)


# ------------------------------------------------------------------ heads
def detections(seed: int, count: int) -> Instances:
    g = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=g) * 30
    boxes = torch.cat((corner, corner + 10 + 20 * torch.rand(count, 2, generator=g)), dim=1)
    return Instances(
        (60, 60),
        pred_boxes=Boxes(boxes),
        scores=torch.rand(count, generator=g),
        pred_classes=torch.randint(2, (count,), generator=g),
    )


def test_merging_is_greedy_suppression_over_all_branches() -> None:
    found = [detections(i, 12) for i in range(6)]
    merged = merge_branch_instances(found, 3, 0.4, 8)
    assert len(merged) == 2
    for i, result in enumerate(merged):
        everything = Instances.cat([found[i], found[i + 2], found[i + 4]])
        kept: list[int] = []
        for row in everything.scores.argsort(descending=True).tolist():
            rivals = [k for k in kept if everything.pred_classes[k] == everything.pred_classes[row]]
            overlaps = (
                pairwise_iou(everything.pred_boxes[[row]], everything.pred_boxes[rivals])
                if rivals
                else torch.zeros(1)
            )
            if (overlaps <= 0.4).all():
                kept.append(row)
        torch.testing.assert_close(result.pred_boxes.tensor, everything.pred_boxes.tensor[kept[:8]])


def test_merging_nothing() -> None:
    assert merge_branch_instances([], 3, 0.5, 10) == []
    assert [len(x) for x in merge_branch_instances([detections(0, 0)] * 3, 3, 0.5, 10)] == [0]


def test_standard_heads_merge_too() -> None:
    cfg = small_cfg(TEST_BRANCH_IDX=-1)
    cfg.MODEL.ROI_HEADS.NAME = "TridentStandardROIHeads"
    cfg.MODEL.ROI_BOX_HEAD.NAME, cfg.MODEL.ROI_BOX_HEAD.NUM_FC, cfg.MODEL.ROI_BOX_HEAD.FC_DIM = (
        "FastRCNNConvFCHead",
        1,
        8,
    )
    cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION = 2
    heads = TridentStandardROIHeads(cfg, build_backbone(cfg).output_shape()).eval()
    images = ImageList(torch.zeros(2, 3, 64, 64), [(64, 64)] * 2)
    proposals = [Instances((64, 64), proposal_boxes=detections(i, 5).pred_boxes) for i in range(6)]
    found, _ = heads(images, {"res4": torch.randn(6, 64, 4, 4)}, proposals)
    assert len(found) == 2
    assert max(len(x) for x in found) <= 10


# ------------------------------------------------------------------ whole models
@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(0)
    return build_model(small_cfg())


@pytest.mark.parametrize("boxes", [[[5.0, 5.0, 40.0, 40.0], [20.0, 10.0, 70.0, 60.0]], []])
def test_training_step(model: Any, boxes: list[list[float]]) -> None:
    model.train().zero_grad()
    with EventStorage():
        losses = model([labelled(0, boxes), labelled(1, boxes)])
        sum(losses.values()).backward()
    for name, p in model.named_parameters():
        if p.requires_grad:
            assert p.grad is not None, name
            assert p.grad.isfinite().all(), name


def test_batch_equals_single(model: Any) -> None:
    model.eval()
    data = [image(2), image(3)]
    with torch.no_grad():
        together = model(data)
        alone = [model([item])[0] for item in data]
    for a, b in zip(together, alone):
        # random weights magnify rounding
        torch.testing.assert_close(a["instances"].scores, b["instances"].scores, atol=1e-4, rtol=1e-3)
        boxes = [x["instances"].pred_boxes.tensor for x in (a, b)]
        torch.testing.assert_close(*boxes, atol=0.05, rtol=1e-3)


def test_fast_model_has_a_tensor_form(model: Any) -> None:
    item = image(4)
    with torch.no_grad():
        want = model.eval()([item])[0]["instances"]
        found = outputs_to_instances(TensorInference(model)(item["image"]), (64, 80))
    torch.testing.assert_close(found.scores, want.scores)
    torch.testing.assert_close(found.pred_boxes.tensor, want.pred_boxes.tensor)


def test_model_of_all_branches_has_none() -> None:
    full = build_model(small_cfg(TEST_BRANCH_IDX=-1))
    assert len(full.eval()([image(5)])[0]["instances"]) <= 10
    with pytest.raises(TypeError, match="branches"):
        TensorInference(full)(image(5)["image"])
