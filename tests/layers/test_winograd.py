"""Convolutions of 3x3 with fewer multiplications, against the plain ones in double precision."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from detectron2.layers import Conv2d
from detectron2.layers.winograd import conv3x3, winograd_pays


def given(n: int, c: int, k: int, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    draw: Callable[..., Tensor] = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    return draw(n, c, height, width), draw(k, c, 3, 3) / (3 * c**0.5), draw(k)


@pytest.mark.parametrize(
    "shape", [(1, 64, 70, 17, 18), (3, 65, 64, 18, 25), (40, 64, 64, 5, 7), (1, 1, 1, 1, 1)]
)
def test_values_and_gradients(shape: tuple[int, ...]) -> None:
    leaves = [t.requires_grad_() for t in given(*shape)]
    doubles = [t.detach().double().requires_grad_() for t in leaves]
    found, want = conv3x3(*leaves), F.conv2d(*doubles, padding=1)
    torch.testing.assert_close(found.double(), want, rtol=0, atol=1e-4)
    grad = torch.randn(want.shape, generator=torch.Generator().manual_seed(1))
    for ours, theirs in zip(
        torch.autograd.grad(found, leaves, grad), torch.autograd.grad(want, doubles, grad.double())
    ):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-4, atol=1e-4 * float(theirs.abs().max()))


def test_second_derivatives_and_missing_bias() -> None:
    x, weight, _ = (t.double().requires_grad_() for t in given(1, 1, 2, 2, 3))
    assert torch.autograd.gradgradcheck(lambda a, b: conv3x3(a, b).sin(), (x, weight), fast_mode=True)
    torch.testing.assert_close(conv3x3(x, weight), F.conv2d(x, weight, padding=1))


def test_memory_format_is_that_of_the_input() -> None:
    x, weight, bias = given(2, 64, 64, 10, 9)
    last = torch.channels_last
    assert conv3x3(x, weight, bias).is_contiguous()
    assert conv3x3(x.contiguous(memory_format=last), weight, bias).is_contiguous(memory_format=last)


def test_strips_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = given(3, 8, 8, 9, 14)
    want = conv3x3(*weights)
    for cells in (1, 36 * 8 * 5, 36 * 8 * 20):
        monkeypatch.setattr("detectron2.layers.winograd._CELLS_AT_ONCE", cells)
        torch.testing.assert_close(conv3x3(*weights), want, rtol=1e-5, atol=1e-5)


def test_who_takes_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("detectron2.layers.winograd._MEASURED", True)
    x = torch.zeros(1, 128, 32, 32)
    plain: dict[str, object] = {"kernel_size": 3, "padding": 1}
    assert winograd_pays(Conv2d(128, 128, **plain), x)
    for other in (
        {"stride": 2},
        {"padding": 2, "dilation": 2},
        {"padding": 0},
        {"padding": "same"},
        {"groups": 2},
        {"padding_mode": "reflect"},
        {"kernel_size": 1, "padding": 0},
        {"out_channels": 127},
    ):
        assert not winograd_pays(Conv2d(**{"in_channels": 128, "out_channels": 128, **plain, **other}), x), (
            other
        )
    conv = Conv2d(128, 128, **plain)
    for wrong in (x[:0], x[0], x[:, :, :31], x.double(), x.bfloat16(), x.to("meta"), nn.Parameter(x)):
        assert not winograd_pays(conv, wrong)
    with torch.autocast("cpu"):
        assert not winograd_pays(conv, x)
    monkeypatch.setattr("detectron2.layers.winograd._MEASURED", False)
    assert not winograd_pays(conv, x)


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace:FutureWarning")
def test_recorded_graphs_and_counters_see_a_convolution(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("detectron2.layers.winograd._MEASURED", True)
    conv, x = Conv2d(128, 128, 3, padding=1), torch.ones(1, 128, 32, 32)
    kinds = {
        node.target for node in torch.export.export(conv, (x,)).graph.nodes if node.op == "call_function"
    }
    assert kinds == {torch.ops.aten.conv2d.default}
    assert "conv" in str(torch.jit.trace(conv, x).inlined_graph)
    with FlopCounterMode(display=False) as counter:
        conv(x)
    assert counter.get_total_flops() == 2 * 32 * 32 * 128 * 128 * 9
