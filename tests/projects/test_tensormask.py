"""TensorMask against loops that follow the definitions of the paper."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from detectron2.config import get_cfg
from detectron2.layers import paste_masks_in_image
from detectron2.modeling import build_model
from detectron2.modeling.tensor_inference import TensorInference
from detectron2.projects.tensormask import TensorMask, add_tensormask_config
from detectron2.projects.tensormask.anchors import match_windows
from detectron2.projects.tensormask.arch import _focal_loss_star
from detectron2.projects.tensormask.head import TensorMaskHead
from detectron2.projects.tensormask.layers import SwapAlign2Nat, swap_align2nat
from detectron2.projects.tensormask.postprocessing import paste_windows
from detectron2.structures import BitMasks, Boxes, Instances, PolygonMasks
from detectron2.utils.events import EventStorage


# ------------------------------------------------------------------ SwapAlign2Nat
def at(x: torch.Tensor, point: tuple[float, ...], outside: float) -> float:
    """Value of ``x`` at a point between its entries, linear along every axis, with ``outside`` beyond it."""
    total = 0.0
    low = [math.floor(p) for p in point]
    for corner in range(2 ** len(point)):
        index = [lo + (corner >> axis & 1) for axis, lo in enumerate(low)]
        weight = math.prod(1 - abs(p - i) for p, i in zip(point, index))
        inside = all(0 <= i < n for i, n in zip(index, x.shape))
        total += weight * (float(x[tuple(index)]) if inside else outside)
    return total


def slow_swap(x: torch.Tensor, scale: int, outside: float) -> torch.Tensor:
    """The definition, entry by entry: aligned masks looked up at the pixel that a natural entry stands for."""
    n, channels, height, width = x.shape
    side = math.isqrt(channels)
    fine, rows, columns = scale * side, math.ceil(height / scale), math.ceil(width / scale)
    out = torch.empty(n, fine, fine, rows, columns, dtype=x.dtype)
    for i, v, u, y, c in torch.cartesian_prod(*map(torch.arange, out.shape)).tolist():
        offsets = [k + 0.5 - scale * side / 2 for k in (v, u)]  # from the centre of the window, in fine cells
        point = (
            (v + 0.5) / scale - 0.5,
            (u + 0.5) / scale - 0.5,
            scale * y + offsets[0],
            scale * c + offsets[1],
        )
        out[i, v, u, y, c] = at(x[i].reshape(side, side, height, width), point, outside)
    return out.flatten(1, 2)


@pytest.mark.parametrize(
    ("scale", "side", "height", "width", "outside"),
    [(1, 3, 4, 5, -6.0), (1, 2, 4, 3, -6.0), (2, 1, 5, 4, 0.0), (2, 3, 4, 6, 1.5), (3, 1, 5, 7, 0.5), (3, 2, 5, 4, 0.0), (4, 2, 3, 5, -6.0)],
)  # fmt: skip
def test_swap_follows_the_definition(scale: int, side: int, height: int, width: int, outside: float) -> None:
    torch.manual_seed(scale * 10 + side)
    x = torch.randn(2, side * side, height, width, dtype=torch.double)
    torch.testing.assert_close(swap_align2nat(x, scale, outside), slow_swap(x, scale, outside))


@pytest.mark.parametrize(("scale", "side"), [(1, 3), (1, 2), (2, 2), (3, 1)])
def test_swap_gradients(scale: int, side: int) -> None:
    x = torch.randn(1, side * side, 2, 3, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: swap_align2nat(t, scale), x, fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda t: swap_align2nat(t, scale).square(), x, fast_mode=True)


def test_swap_of_a_constant_is_constant_inside() -> None:
    y = swap_align2nat(torch.full((1, 9, 9, 9), 2.0), 1, -6.0)
    assert (y[:, :, 1:-1, 1:-1] == 2.0).all()
    assert (y[0].reshape(3, 3, 9, 9)[0, 0, 0] == -6.0).all()  # above the first row


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.double])
def test_swap_keeps_the_type(dtype: torch.dtype) -> None:
    assert swap_align2nat(torch.zeros(1, 4, 4, 4, dtype=dtype), 2).dtype == dtype


def test_swap_of_nothing() -> None:
    assert swap_align2nat(torch.zeros(0, 4, 5, 6), 2).shape == (0, 16, 3, 3)


def test_swap_in_a_graph() -> None:
    module = SwapAlign2Nat(2)
    x = torch.randn(1, 4, 6, 5)
    graph = torch.export.export(module, (x,), dynamic_shapes={"X": {2: torch.export.Dim("h", min=4, max=64)}})
    taller = torch.randn(1, 4, 12, 5)
    torch.testing.assert_close(graph.module()(taller), module(taller))


@pytest.mark.parametrize(
    ("shape", "scale"), [((1, 6, 4, 4), 1), ((4, 4, 4), 1), ((1, 4, 4, 4), 0), ((1, 0, 4, 4), 1)]
)
def test_swap_refuses(shape: tuple[int, ...], scale: int) -> None:
    with pytest.raises(ValueError, match=r"SwapAlign2Nat|lambda_val"):
        swap_align2nat(torch.zeros(shape), scale)


# ------------------------------------------------------------------ targets
def slow_match(gt: torch.Tensor, windows: torch.Tensor, units: torch.Tensor, min_size: float) -> list[int]:
    """The object of each window by the rules of the paper, -1 for none."""
    result = []
    for (a0, b0, a1, b1), unit in zip(windows.tolist(), units.tolist()):
        fitting = []
        for i, (x0, y0, x1, y1) in enumerate(gt.tolist()):
            contained = a0 <= x0 and b0 <= y0 and x1 <= a1 and y1 <= b1
            longer, size = max(a1 - a0, b1 - b0), max(x1 - x0, y1 - y0)
            scale = longer - unit <= max(2 * size, min_size)
            apart = math.hypot((x0 + x1 - a0 - a1) / 2, (y0 + y1 - b0 - b1) / 2)
            if contained and scale and apart <= unit:
                fitting.append(i)
        result.append(fitting[0] if len(fitting) == 1 else -1)
    return result


def test_windows_are_matched_by_the_rules() -> None:
    torch.manual_seed(0)
    corner = torch.randint(0, 40, (8, 2)).float()
    gt = torch.cat((corner, corner + torch.randint(4, 30, (8, 2))), dim=1)
    gt = torch.cat((gt, gt[:1] + 1))  # two objects that the same windows fit
    centre = torch.cartesian_prod(torch.arange(0, 64, 4), torch.arange(0, 64, 4)).float()
    windows = torch.cat([torch.cat((centre - s, centre + s), dim=1) for s in (10, 20, 30)])
    units = torch.full((len(windows),), 4.0)
    matches, has = match_windows(gt, windows, units, 16.0)
    want = torch.tensor(slow_match(gt, windows, units, 16.0))
    assert (want >= 0).sum() > 10
    assert torch.equal(torch.where(has, matches, -1), want)


def test_no_objects_match_nothing() -> None:
    matches, has = match_windows(torch.zeros(0, 4), torch.rand(5, 4), torch.ones(5), 8.0)
    assert matches.tolist() == [0] * 5
    assert not has.any()


def test_focal_loss_star() -> None:
    logits, targets = torch.randn(50), (torch.rand(50) > 0.5).float()
    p = torch.where(targets > 0, torch.sigmoid(3 * logits), 1 - torch.sigmoid(3 * logits))
    weight = torch.where(targets > 0, 0.3, 0.7)
    torch.testing.assert_close(_focal_loss_star(logits, targets, 0.3, 3.0), (-weight * p.log() / 3).sum())


# ------------------------------------------------------------------ head
@pytest.mark.parametrize("bipyramid", [True, False])
def test_masks_belong_to_the_cells_of_their_level(bipyramid: bool) -> None:
    head = TensorMaskHead(
        in_channels=8, num_levels=3, mask_sizes=[3, 5], num_classes=2, cls_channels=4, bbox_channels=4,
        mask_channels=4, num_convs=1, bipyramid_on=bipyramid,
    )  # fmt: skip
    logits, deltas, masks = head([torch.randn(2, 8, *size) for size in ((9, 12), (5, 6), (3, 3))])
    assert masks is not None
    for level in range(3):
        cells = logits[level].shape[-2:]
        assert logits[level].shape[1] == 4
        assert deltas[level].shape == (2, 8, *cells)
        sides = [side * (2**level if bipyramid else 1) for side in (3, 5)]
        assert [m.shape for m in masks[level]] == [(2, s * s, *cells) for s in sides]


def test_bipyramid_needs_aligned_masks() -> None:
    cfg = small_cfg()
    cfg.MODEL.TENSOR_MASK.ALIGNED_ON = False
    with pytest.raises(ValueError, match="ALIGNED_ON"):
        build_model(cfg)


# ------------------------------------------------------------------ whole models
def small_cfg() -> Any:
    cfg = get_cfg()
    add_tensormask_config(cfg)
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.META_ARCHITECTURE = "TensorMask"
    cfg.MODEL.MASK_ON = True
    cfg.MODEL.BACKBONE.NAME = "build_retinanet_resnet_fpn_backbone"
    cfg.MODEL.RESNETS.DEPTH = 18
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64
    cfg.MODEL.RESNETS.OUT_FEATURES = cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.FPN.OUT_CHANNELS = 8
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[28 * 2**i, 44 * 2**i] for i in range(6)]
    cfg.MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS = [[1.0]]
    node = cfg.MODEL.TENSOR_MASK
    node.ALIGNED_ON = node.BIPYRAMID_ON = True
    node.CLS_CHANNELS = node.BBOX_CHANNELS = node.MASK_CHANNELS = 8
    node.NUM_CONVS, node.NUM_CLASSES, node.SCORE_THRESH_TEST = 1, 3, 0.0
    cfg.TEST.DETECTIONS_PER_IMAGE = 12
    return cfg


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(0)
    return build_model(small_cfg())


def image(seed: int, height: int = 64, width: int = 96) -> dict[str, Any]:
    return {"image": torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed)) * 255}


def labelled(seed: int, count: int, masks: str) -> dict[str, Any]:
    boxes = torch.tensor([[8.0, 8, 30, 28], [40, 20, 90, 60]])[:count]
    polygons = [[[x0, y0, x1, y0, x1, y1, x0, y1]] for x0, y0, x1, y1 in boxes.tolist()]
    shapes: Any = PolygonMasks([[torch.tensor(p) for p in one] for one in polygons])
    if masks == "bitmask":
        shapes = BitMasks.from_polygon_masks(shapes, 64, 96)
    truth = Instances((64, 96), gt_boxes=Boxes(boxes), gt_classes=torch.arange(count), gt_masks=shapes)
    return {**image(seed), "instances": truth}


@pytest.mark.parametrize(("counts", "masks"), [((2, 1), "polygon"), ((2, 0), "bitmask"), ((0, 0), "polygon")])
def test_training_step(model: Any, counts: tuple[int, ...], masks: str) -> None:
    model.train().zero_grad()
    with EventStorage():
        losses = model([labelled(i, n, masks) for i, n in enumerate(counts)])
    assert set(losses) == {"loss_cls", "loss_box_reg", "loss_mask"}
    assert (losses["loss_mask"] > 0) == (sum(counts) > 0)
    sum(losses.values()).backward()
    for name, p in model.named_parameters():
        if p.requires_grad:
            assert p.grad is not None, name
            assert p.grad.isfinite().all(), name


def test_mask_targets_are_the_objects_in_their_windows(model: Any) -> None:
    """A rectangle covers the part of each window that it shares with it."""
    features = [
        torch.zeros(1, 1, math.ceil(64 / s), math.ceil(96 / s)) for s in model.anchor_generator.strides
    ]
    truth = labelled(0, 2, "bitmask")["instances"]
    anchors, units, indexes = model.anchor_generator(features)
    (classes, valid), (deltas, foreground), (masks, places), count = model.get_ground_truth(
        anchors, units, indexes, [truth]
    )
    assert count == int(foreground.sum()) == len(deltas) == int(classes.sum()) > 0
    assert valid.all()
    sides = {
        (level, number): m for level, row in enumerate(masks) for number, m in enumerate(row) if m is not None
    }
    assert sum(len(m) for m in sides.values()) == count
    for (level, number), m in sides.items():
        stride = model.anchor_generator.strides[level]
        assert m.shape[1:] == (model.mask_sizes[number] * 2**level,) * 2
        area = m.flatten(1).sum(1).double() * (stride / 2**level) ** 2
        sizes = {400.0 + 40.0, 2000.0}  # 22 x 20 and 50 x 40
        assert all(min(abs(a - s) / s for s in sizes) < 0.3 for a in area.tolist())
        assert places[level][number].shape == (len(m), 3)


def test_batch_equals_single(model: Any) -> None:
    model.eval()
    data = [image(2), {**image(3), "height": 32, "width": 48}]
    with torch.no_grad():
        together = model(data)
        alone = [model([item])[0] for item in data]
    assert together[1]["instances"].pred_masks.shape[1:] == (32, 48)
    for a, b in zip(together, alone):
        torch.testing.assert_close(a["instances"].scores, b["instances"].scores)
        torch.testing.assert_close(
            a["instances"].pred_boxes.tensor, b["instances"].pred_boxes.tensor, atol=1e-2, rtol=1e-3
        )
        assert (a["instances"].pred_masks != b["instances"].pred_masks).double().mean() < 1e-3


def test_nothing_found(model: Any) -> None:
    model.eval().score_threshold = 1.0
    try:
        found = model([image(4)])[0]["instances"]
    finally:
        model.score_threshold = 0.0
    assert len(found) == 0
    assert found.pred_masks.shape == (0, 64, 96)


def test_without_masks() -> None:
    cfg = small_cfg()
    cfg.MODEL.MASK_ON = False
    model = build_model(cfg)
    assert isinstance(model, TensorMask)
    assert set(model.eval()([image(5)])[0]["instances"].get_fields()) == {
        "pred_boxes",
        "scores",
        "pred_classes",
    }
    assert set(model.train()([labelled(0, 2, "polygon")])) == {"loss_cls", "loss_box_reg"}


def test_masks_are_pasted_on_their_windows() -> None:
    windows = torch.tensor([[0.0, 0, 20, 20], [10, 10, 30, 30], [50, 50, 60, 60]])
    boxes = torch.tensor([[0.0, 0, 10, 20], [12, 12, 28, 28], [200, 200, 210, 210]])  # the last is outside
    masks = [torch.rand(4, 4), torch.rand(7, 7), torch.rand(4, 4)]
    results = Instances((64, 64), pred_boxes=Boxes(boxes), scores=torch.tensor([0.9, 0.8, 0.7]))
    results.pred_windows, results.pred_masks = Boxes(windows), masks
    found = paste_windows(results, 128, 64)
    assert len(found) == 2
    assert "pred_windows" not in found.get_fields()
    scaled = windows * torch.tensor([1.0, 2, 1, 2])
    for i in range(2):
        want = paste_masks_in_image(masks[i][None], scaled[i : i + 1], (128, 64))[0]
        assert torch.equal(found.pred_masks[i], want)
    assert torch.equal(results.pred_boxes.tensor, boxes)


@pytest.mark.parametrize(
    ("key", "value"),
    [("SIZES", [[30, 44]] * 6), ("SIZES", [[28, 44]]), ("ASPECT_RATIOS", [[0.5, 1.0]])],
)
def test_windows_must_be_squares_of_cells(key: str, value: Any) -> None:
    cfg = small_cfg()
    cfg.MODEL.ANCHOR_GENERATOR[key] = value
    with pytest.raises(ValueError, match=key):
        build_model(cfg)


def test_it_has_no_tensor_form(model: Any) -> None:
    with pytest.raises(TypeError, match="TensorMask"):
        TensorInference(model)
