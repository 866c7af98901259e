"""DeepLab: loss, schedule, backbone, heads and small whole models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from detectron2 import solver
from detectron2.config import CfgNode, get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_backbone, build_model
from detectron2.projects import deeplab
from detectron2.projects.deeplab.loss import DeepLabCE, PixelCrossEntropy, build_pixel_loss
from detectron2.projects.deeplab.lr_scheduler import WarmupPolyLR
from detectron2.projects.deeplab.resnet import DeepLabStem
from detectron2.projects.deeplab.semantic_seg import DeepLabV3Head, DeepLabV3PlusHead

CONFIGS = Path(deeplab.__file__).parent / "configs" / "Cityscapes-SemanticSegmentation"
V3 = "deeplab_v3_R_103_os16_mg124_poly_90k_bs16.yaml"
V3_PLUS = "deeplab_v3_plus_R_103_os16_mg124_poly_90k_bs16.yaml"
SMALL = [
    *("MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", "INPUT.CROP.ENABLED", False),
    *("MODEL.RESNETS.DEPTH", 50, "MODEL.RESNETS.NORM", "BN", "MODEL.RESNETS.STEM_OUT_CHANNELS", 16),
    *("MODEL.RESNETS.RES2_OUT_CHANNELS", 32, "MODEL.RESNETS.WIDTH_PER_GROUP", 8),
    *(
        "MODEL.SEM_SEG_HEAD.NORM",
        "BN",
        "MODEL.SEM_SEG_HEAD.NUM_CLASSES",
        5,
        "MODEL.SEM_SEG_HEAD.CONVS_DIM",
        16,
    ),
    *("MODEL.SEM_SEG_HEAD.ASPP_CHANNELS", 16, "MODEL.SEM_SEG_HEAD.PROJECT_CHANNELS", [8]),
]
SHAPES = {"res2": ShapeSpec(channels=6, stride=4), "res5": ShapeSpec(channels=10, stride=16)}


def config(name: str, *options: Any) -> CfgNode:
    cfg = get_cfg()
    deeplab.add_deeplab_config(cfg)
    cfg.merge_from_file(str(CONFIGS / name))
    cfg.merge_from_list([*SMALL, *options])
    return cfg


def picture(height: int, width: int, seed: int = 0) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "image": torch.rand(3, height, width, generator=generator) * 255,
        "sem_seg": torch.randint(0, 5, (height, width), generator=generator),
    }


# ---------------------------------------------------------------- loss
def test_hard_pixels_are_those_with_the_largest_losses() -> None:
    torch.manual_seed(0)
    logits, labels, weights = torch.randn(2, 4, 5, 6), torch.randint(0, 4, (2, 5, 6)), torch.rand(2, 5, 6)
    labels[0, 0] = 9
    losses = []
    for n in range(2):
        for y in range(5):
            for x in range(6):
                label = int(labels[n, y, x])
                own = -logits[n, :, y, x].log_softmax(0)[label] if label != 9 else torch.tensor(0.0)
                losses.append(float(own * weights[n, y, x]))
    hardest = sorted(losses, reverse=True)[:18]  # 30 % of 60
    found = DeepLabCE(9, 0.3)(logits, labels, weights)
    torch.testing.assert_close(found, torch.tensor(sum(hardest) / 18))
    torch.testing.assert_close(DeepLabCE(9)(logits, labels, weights), torch.tensor(sum(losses) / 60))


def test_cross_entropy_is_that_of_torch_and_takes_weights() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 4, 5, 6), torch.randint(0, 4, (2, 5, 6))
    labels[1, :2] = 255
    loss = PixelCrossEntropy(255)
    expected = F.cross_entropy(logits, labels, ignore_index=255)
    torch.testing.assert_close(loss(logits, labels), expected)
    torch.testing.assert_close(loss(logits, labels, torch.full((2, 5, 6), 3.0)), 3 * expected)


@pytest.mark.parametrize("kind", ["cross_entropy", "hard_pixel_mining"])
@pytest.mark.parametrize("count", [0, 2])
def test_loss_without_labels_is_zero_with_zero_gradients(kind: str, count: int) -> None:
    logits = torch.randn(count, 4, 5, 6, requires_grad=True)
    loss = build_pixel_loss(kind, 255, 0.2)(logits, torch.full((count, 5, 6), 255))
    loss.backward()
    assert loss == 0
    assert logits.grad is not None and not logits.grad.any()


def test_wrong_options_of_the_loss_are_named() -> None:
    with pytest.raises(ValueError, match=r"fraction of the pixels in \(0, 1\], got 20"):
        DeepLabCE(255, 20)
    with pytest.raises(ValueError, match="got 'dice'"):
        build_pixel_loss("dice", 255, 0.2)


# ---------------------------------------------------------------- schedule
def rates(steps: int, **options: Any) -> list[float]:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule = WarmupPolyLR(optimizer, 10, **options)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def test_schedule_is_a_polynomial_times_a_warmup() -> None:
    found = rates(10, warmup_iters=4, warmup_factor=0.2, power=0.9)
    for step, rate in enumerate(found):
        warmup = 0.2 + 0.8 * step / 4 if step < 4 else 1.0
        assert rate == pytest.approx(2.0 * warmup * (1 - step / 10) ** 0.9)


def test_schedule_goes_on_after_its_end() -> None:
    """Detectron2 takes a power of a negative number there."""
    assert rates(14, warmup_iters=0)[10:] == [0.0] * 4
    assert rates(14, warmup_iters=0, constant_ending=0.25)[8:] == [pytest.approx(0.5)] * 6


def test_schedule_resumes() -> None:
    optimizer = torch.optim.SGD([{"params": [nn.Parameter(torch.zeros(1))], "initial_lr": 2.0}], lr=2.0)
    WarmupPolyLR(optimizer, 10, warmup_iters=4, last_epoch=5)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(rates(7, warmup_iters=4)[6])


def test_builder_knows_all_schedules() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    cfg = config(V3, "SOLVER.POLY_LR_POWER", 0.5, "SOLVER.POLY_LR_CONSTANT_ENDING", 0.1)
    built = deeplab.build_lr_scheduler(cfg, optimizer)
    assert isinstance(built, WarmupPolyLR)
    assert (built.max_iters, built.power, built.constant_ending) == (90000, 0.5, 0.1)
    cfg.SOLVER.LR_SCHEDULER_NAME = "WarmupCosineLR"
    assert isinstance(deeplab.build_lr_scheduler(cfg, optimizer), solver.LRMultiplier)


# ---------------------------------------------------------------- backbone
def test_stem_is_three_convolutions_of_stride_4_together() -> None:
    stem = DeepLabStem(3, 12, norm="BN")
    assert [tuple(c.weight.shape[:2]) for c in (stem.conv1, stem.conv2, stem.conv3)] == [
        (6, 3),
        (6, 6),
        (12, 6),
    ]
    assert stem(torch.rand(1, 3, 64, 33)).shape == (1, 12, 16, 9)
    assert stem.stride == 4
    assert not [p for p in stem.freeze().parameters() if p.requires_grad]


@pytest.mark.parametrize(
    ("res4", "res5", "grid", "strides", "dilations"),
    [
        (1, 1, [1, 1, 1], (16, 32), (1, [1, 1, 1])),
        (1, 2, [1, 2, 4], (16, 16), (1, [2, 4, 8])),
        (2, 4, [1, 2, 1], (8, 8), (2, [4, 8, 4])),
    ],
)
def test_dilation_keeps_the_resolution(
    res4: int, res5: int, grid: list[int], strides: tuple[int, int], dilations: tuple[int, list[int]]
) -> None:
    options = ["MODEL.RESNETS.RES4_DILATION", res4, "MODEL.RESNETS.RES5_DILATION", res5]
    options += ["MODEL.RESNETS.RES5_MULTI_GRID", grid, "MODEL.RESNETS.OUT_FEATURES", ["res4", "res5"]]
    backbone: Any = build_backbone(config(V3, *options)).eval()
    features = backbone(torch.rand(1, 3, 64, 96))
    for name, stride in zip(("res4", "res5"), strides):
        assert features[name].shape[2:] == (64 // stride, 96 // stride)
        assert backbone.output_shape()[name].stride == stride
    assert {block.conv2.dilation[0] for block in backbone.res4} == {dilations[0]}
    assert [block.conv2.dilation[0] for block in backbone.res5] == dilations[1]


def test_deformable_blocks_are_dilated_too() -> None:
    backbone: Any = build_backbone(config(V3, "MODEL.RESNETS.DEFORM_ON_PER_STAGE", [False] * 3 + [True]))
    assert [block.conv2.dilation[0] for block in backbone.res5] == [2, 4, 8]
    assert backbone(torch.rand(1, 3, 32, 32))["res5"].shape == (1, 256, 2, 2)


def test_all_wrong_options_of_the_backbone_are_named() -> None:
    options = ["MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.RES4_DILATION", 2, "MODEL.RESNETS.STEM_TYPE", "x"]
    with pytest.raises(ValueError, match=r"DEPTH.*18; STEM_TYPE.*'x'; RES4_DILATION 2 needs RES5_DILATION 4"):
        build_backbone(config(V3, *options))


# ---------------------------------------------------------------- heads
def test_heads_predict_at_full_resolution() -> None:
    features = {"res2": torch.rand(2, 6, 16, 24), "res5": torch.rand(2, 10, 4, 6)}
    for head in (DeepLabV3Head(config(V3), SHAPES), DeepLabV3PlusHead(config(V3_PLUS), SHAPES)):
        scores, losses = head.eval()(features)
        assert scores.shape == (2, 5, 64, 96)
        assert losses == {}
        nothing, losses = head.train()(features, torch.randint(0, 5, (2, 64, 96)))
        assert nothing is None
        # A predictor that starts near 0 gives all classes the same chance.
        assert losses["loss_sem_seg"].item() == pytest.approx(torch.tensor(5.0).log().item(), abs=0.1)
        with pytest.raises(ValueError, match="needs targets"):
            head(features)


def test_without_classes_the_head_is_a_decoder() -> None:
    arguments = DeepLabV3PlusHead.from_config(config(V3_PLUS), SHAPES)
    arguments["num_classes"] = None
    head = DeepLabV3PlusHead(**arguments)
    features = {"res2": torch.rand(2, 6, 16, 24), "res5": torch.rand(2, 10, 4, 6)}
    assert head(features).shape == (2, 16, 16, 24)
    assert "predictor.weight" not in head.state_dict()


def test_training_and_testing_pool_the_same_windows() -> None:
    crop = ("INPUT.CROP.ENABLED", True, "INPUT.CROP.SIZE", [64, 32])
    head = DeepLabV3Head(config(V3, *crop), SHAPES)
    assert head.aspp.pool_kernel_size == (4, 2)
    for bad, text in (
        ((*crop[:3], [60, 32]), "multiple of the stride 16"),
        ((*crop, "INPUT.CROP.TYPE", "relative_range"), "'absolute'"),
    ):
        with pytest.raises(ValueError, match=text):
            DeepLabV3Head(config(V3, *bad), SHAPES)


def test_wrong_options_of_the_heads_are_named() -> None:
    with pytest.raises(ValueError, match="one feature map"):
        DeepLabV3Head(config(V3, "MODEL.SEM_SEG_HEAD.IN_FEATURES", ["res2", "res5"]), SHAPES)
    with pytest.raises(ValueError, match="COMMON_STRIDE must be the stride 16"):
        DeepLabV3Head(config(V3, "MODEL.SEM_SEG_HEAD.COMMON_STRIDE", 8), SHAPES)
    with pytest.raises(ValueError, match="2 feature maps need 1 project_channels"):
        DeepLabV3PlusHead(config(V3_PLUS, "MODEL.SEM_SEG_HEAD.PROJECT_CHANNELS", [8, 8]), SHAPES)


# ---------------------------------------------------------------- models
@pytest.mark.parametrize("separable", [False, True])
@pytest.mark.parametrize("name", [V3, V3_PLUS])
def test_every_parameter_learns(name: str, separable: bool) -> None:
    torch.manual_seed(0)
    model = build_model(config(name, "MODEL.SEM_SEG_HEAD.USE_DEPTHWISE_SEPARABLE_CONV", separable))
    unlabelled = {**picture(64, 64, 2), "sem_seg": torch.full((64, 64), 255)}
    losses = model([picture(64, 80), unlabelled])
    losses["loss_sem_seg"].backward()
    assert losses["loss_sem_seg"].isfinite()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []
    model.zero_grad()
    losses = model([unlabelled, unlabelled])
    losses["loss_sem_seg"].backward()
    assert losses["loss_sem_seg"] == 0
    assert not any(p.grad.any() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", [V3, V3_PLUS])
def test_batched_equals_single_at_the_wanted_size(name: str) -> None:
    torch.manual_seed(0)
    model = build_model(config(name)).eval()
    nn.init.normal_(model.sem_seg_head.predictor.weight)
    inputs = [picture(64, 80, 1), {**picture(64, 80, 2), "height": 100, "width": 50}]
    with torch.no_grad():
        together = model(inputs)
        alone = [model([item])[0] for item in inputs]
    assert [tuple(r["sem_seg"].shape) for r in together] == [(5, 64, 80), (5, 100, 50)]
    for a, b in zip(together, alone):
        torch.testing.assert_close(a["sem_seg"], b["sem_seg"], rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", [V3, V3_PLUS])
def test_network_exports_with_any_multiple_of_its_stride(name: str) -> None:
    model = build_model(config(name)).eval()

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.model.sem_seg_head(self.model.backbone(x))[0]

    height, width = torch.export.Dim("height", min=4, max=20), torch.export.Dim("width", min=4, max=20)
    shapes = ({2: 16 * height, 3: 16 * width},)
    program = torch.export.export(Network(), (torch.rand(1, 3, 96, 128),), dynamic_shapes=shapes)
    image = torch.rand(1, 3, 160, 80)
    with torch.no_grad():
        torch.testing.assert_close(program.module()(image), Network()(image), rtol=1e-4, atol=1e-5)
