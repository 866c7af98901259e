"""Losses against formulas on single boxes and numbers."""

import math

import pytest
import torch
import torch.nn.functional as F
import torchvision

from detectron2.layers import ciou_loss, diou_loss, giou_loss, sigmoid_focal_loss, smooth_l1_loss

BOX_LOSSES = [giou_loss, diou_loss, ciou_loss]


def random_boxes(count: int) -> torch.Tensor:
    near = torch.rand(count, 2) * 50
    return torch.cat([near, near + 1 + torch.rand(count, 2) * 50], 1)


def one_pair(name: str, a: list[float], b: list[float]) -> float:
    w = max(min(a[2], b[2]) - max(a[0], b[0]), 0)
    h = max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    (aw, ah), (bw, bh) = ((c[2] - c[0], c[3] - c[1]) for c in (a, b))
    union = aw * ah + bw * bh - w * h
    iou = w * h / union
    hw, hh = max(a[2], b[2]) - min(a[0], b[0]), max(a[3], b[3]) - min(a[1], b[1])
    if name == "giou_loss":
        return 1 - iou + (hw * hh - union) / (hw * hh)
    away = ((a[0] + a[2] - b[0] - b[2]) / 2) ** 2 + ((a[1] + a[3] - b[1] - b[3]) / 2) ** 2
    diou = 1 - iou + away / (hw**2 + hh**2)
    if name == "diou_loss":
        return diou
    v = 4 / math.pi**2 * (math.atan(bw / bh) - math.atan(aw / ah)) ** 2
    return diou + v * v / (1 - iou + v)


@pytest.mark.parametrize("loss", BOX_LOSSES)
def test_box_losses_against_single_pairs(loss) -> None:
    torch.manual_seed(0)
    a, b = random_boxes(40).double(), random_boxes(40).double()
    want = torch.tensor([one_pair(loss.__name__, p, q) for p, q in zip(a.tolist(), b.tolist())]).double()
    torch.testing.assert_close(loss(a, b), want, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(loss(a, b, reduction="mean"), want.mean(), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(loss(a, b, "sum"), want.sum(), atol=1e-5, rtol=1e-5)
    assert loss(a, a).abs().max() < 1e-6


@pytest.mark.parametrize("loss", BOX_LOSSES)
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_box_losses_of_nothing(loss, reduction: str) -> None:
    x = torch.zeros(0, 4, requires_grad=True)
    y = loss(x, torch.zeros(0, 4), reduction=reduction)
    assert y.shape == ((0,) if reduction == "none" else ())
    y.sum().backward()
    assert x.grad is not None


@pytest.mark.parametrize("loss", [giou_loss, diou_loss])
def test_box_losses_gradients(loss) -> None:
    torch.manual_seed(1)
    a, b = random_boxes(5).double().requires_grad_(), random_boxes(5).double().requires_grad_()
    assert torch.autograd.gradcheck(loss, (a, b))


def test_ciou_weight_is_a_constant() -> None:
    """As torchvision, whose trade-off term is taken out of the graph, too."""
    torch.manual_seed(2)
    a, b = random_boxes(9).requires_grad_(), random_boxes(9)
    ciou_loss(a, b, "sum").backward()
    grad = a.grad.clone()
    a.grad = None
    torchvision.ops.complete_box_iou_loss(a, b, "sum").backward()
    torch.testing.assert_close(grad, a.grad, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("loss", BOX_LOSSES)
def test_box_losses_in_half_precision(loss) -> None:
    big = torch.tensor([[0, 0, 1000, 1000.0]])
    assert loss(big.half(), big.half() + 8).item() == pytest.approx(loss(big, big + 8).item(), abs=1e-3)


@pytest.mark.parametrize("loss", BOX_LOSSES)
def test_box_losses_refuse_bad_boxes(loss) -> None:
    with pytest.raises(ValueError, match="boxes1 has boxes with x1 < x0"):
        loss(torch.tensor([[5, 0, 1, 3.0]]), torch.tensor([[0, 0, 1, 1.0]]))
    with pytest.raises(ValueError, match="reduction"):
        loss(torch.zeros(1, 4), torch.zeros(1, 4), reduction="max")


@pytest.mark.parametrize("beta", [0.0, 0.11, 1.0])
def test_smooth_l1(beta: float) -> None:
    x = torch.tensor([-3.0, -0.5, -0.05, 0.0, 0.05, 0.5, 3.0])
    want = [0.5 * d * d / beta if d < beta else d - 0.5 * beta for d in x.abs().tolist()]
    torch.testing.assert_close(smooth_l1_loss(x, torch.zeros(7), beta), torch.tensor(want))
    assert smooth_l1_loss(x[:0], x[:0], beta, reduction="mean") == 0


def test_focal_loss() -> None:
    torch.manual_seed(3)
    x, t = torch.randn(30), torch.rand(30).round()
    torch.testing.assert_close(
        sigmoid_focal_loss(x, t, gamma=0), F.binary_cross_entropy_with_logits(x, t, reduction="none")
    )
    for alpha in (-1, 0.25):
        want = torchvision.ops.sigmoid_focal_loss(x, t, alpha, 2.0)
        torch.testing.assert_close(sigmoid_focal_loss(x, t, alpha, 2.0), want)
    sure = sigmoid_focal_loss(
        torch.tensor([200.0, -200.0], requires_grad=True), torch.tensor([0.0, 1.0]), 0.25
    )
    assert sure.isfinite().all()
