"""Multi-scale deformable attention against a loop over single samples."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detectron2.layers import MSDeformAttn, deformable_attention, multi_scale_deformable_attention

SHAPES = [(6, 9), (3, 5), (1, 2)]


def slow(value: Tensor, shapes: list[tuple[int, int]], locations: Tensor, weights: Tensor) -> Tensor:
    """One corner of one sample at a time."""
    n, _, heads, dim = value.shape
    q, levels, points = locations.shape[1], locations.shape[3], locations.shape[4]
    out = value.new_zeros(n, q, heads, dim)
    start = 0
    for level in range(levels):
        h, w = shapes[level]
        maps = value[:, start : start + h * w].reshape(n, h, w, heads, dim)
        start += h * w
        for i, j, k, p in torch.cartesian_prod(*map(torch.arange, (n, q, heads, points))).tolist():
            x, y = (locations[i, j, k, level, p] * torch.tensor([w, h]) - 0.5).tolist()
            for row in (math.floor(y), math.floor(y) + 1):
                for column in (math.floor(x), math.floor(x) + 1):
                    if 0 <= row < h and 0 <= column < w:
                        share = (1 - abs(y - row)) * (1 - abs(x - column))
                        out[i, j, k] += weights[i, j, k, level, p] * share * maps[i, row, column, k]
    return out.flatten(2)


def inputs(
    shapes: list[tuple[int, int]], n: int = 2, q: int = 4, heads: int = 3, dim: int = 5, points: int = 2, **kw
) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    low, high = kw.get("low", -0.3), kw.get("high", 1.3)
    dtype = kw.get("dtype", torch.float32)
    levels = len(shapes)
    value = torch.randn(n, sum(h * w for h, w in shapes), heads, dim, dtype=dtype)
    locations = torch.rand(n, q, heads, levels, points, 2, dtype=dtype) * (high - low) + low
    weights = torch.randn(n, q, heads, levels * points, dtype=dtype).softmax(-1)
    return value, locations, weights.view(n, q, heads, levels, points)


WAYS = {"grids": deformable_attention._by_grids, "rows": deformable_attention._by_rows}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("shapes", "options"),
    [
        (SHAPES, {}),
        ([(5, 4)], {"heads": 1, "points": 1}),
        ([(1, 11), (7, 1)], {"points": 3}),
        ([(4, 6), (2, 3)], {"low": -3.0, "high": 4.0}),
        ([(8, 8), (4, 4), (2, 2), (1, 1), (1, 3)], {"low": 0.0, "high": 1.0}),
    ],
)
def test_equals_loop(way: str, shapes: list[tuple[int, int]], options: dict) -> None:
    value, locations, weights = inputs(shapes, **options)
    want = slow(value, shapes, locations, weights)
    torch.testing.assert_close(WAYS[way](shapes, value, locations, weights), want)
    # shapes as a tensor mean the same
    got = multi_scale_deformable_attention(value, torch.tensor(shapes), locations, weights)
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize("way", WAYS)
def test_gradients(way: str) -> None:
    shapes = [(3, 4), (2, 2)]
    given = inputs(shapes, n=2, q=3, heads=2, dim=3, dtype=torch.float64)
    for t in given:
        t.requires_grad_()
    assert torch.autograd.gradcheck(lambda *a: WAYS[way](shapes, *a), given, fast_mode=True)


def test_blocks_and_recomputation_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    given = inputs(SHAPES, q=11)
    results = []
    for at_once in (2**22, 200):
        monkeypatch.setattr(deformable_attention, "_CORNERS_AT_ONCE", at_once)
        leaves = [t.clone().requires_grad_() for t in given]
        out = multi_scale_deformable_attention(leaves[0], SHAPES, *leaves[1:])
        out.square().sum().backward()
        results.append([out.detach(), *(t.grad for t in leaves)])
        with torch.no_grad():
            assert torch.equal(multi_scale_deformable_attention(leaves[0], SHAPES, *leaves[1:]), out)
    for a, b in zip(*results):
        torch.testing.assert_close(a, b)


def test_points_that_are_not_finite_find_nothing() -> None:
    value, locations, weights = inputs(SHAPES)
    locations[:, 0] = math.inf
    locations[:, 1] = -math.inf
    locations[:, 2] = 1e30
    out = multi_scale_deformable_attention(value, SHAPES, locations, weights)
    assert not out[:, :3].any()
    assert out[:, 3].any()


@pytest.mark.parametrize(("n", "q"), [(0, 4), (2, 0)])
def test_nothing(n: int, q: int) -> None:
    given = [t.requires_grad_() for t in inputs(SHAPES, n=n, q=q)]
    out = multi_scale_deformable_attention(given[0], SHAPES, *given[1:])
    assert out.shape == (n, q, 15)
    out.sum().backward()
    assert all(t.grad is not None and not t.grad.any() for t in given)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_single(dtype: torch.dtype) -> None:
    value, locations, weights = inputs(SHAPES)
    half = value.to(dtype)
    got = multi_scale_deformable_attention(half, SHAPES, locations, weights)
    assert got.dtype == dtype
    want = multi_scale_deformable_attention(half.float(), SHAPES, locations, weights)
    assert torch.equal(got, want.to(dtype))


def test_wrong_shapes_are_named() -> None:
    value, locations, weights = inputs(SHAPES)
    with pytest.raises(ValueError, match="2 levels, but sampling locations on 3"):
        multi_scale_deformable_attention(value, SHAPES[:2], locations, weights)
    with pytest.raises(ValueError, match="71 pixels"):
        multi_scale_deformable_attention(value[:, 1:], SHAPES, locations, weights)
    with pytest.raises(ValueError, match="multiple of the heads"):
        MSDeformAttn(30, n_heads=4)


# ---------------------------------------------------------------------------------------------------- the module


def module() -> MSDeformAttn:
    torch.manual_seed(0)
    m = MSDeformAttn(16, len(SHAPES), 4, 2)
    for p in m.parameters():
        nn.init.normal_(p, std=0.3)
    return m


def module_inputs(last: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(2, 7, 16), torch.rand(2, 7, 3, last), torch.randn(2, 71, 16)


def test_each_head_begins_in_a_direction_of_its_own() -> None:
    m = MSDeformAttn(32, 2, 8, 3)
    assert {k: tuple(v.shape) for k, v in m.state_dict().items()} == {
        "sampling_offsets.weight": (96, 32),
        "sampling_offsets.bias": (96,),
        "attention_weights.weight": (48, 32),
        "attention_weights.bias": (48,),
        "value_proj.weight": (32, 32),
        "value_proj.bias": (32,),
        "output_proj.weight": (32, 32),
        "output_proj.bias": (32,),
    }
    offsets = m.sampling_offsets.bias.view(8, 2, 3, 2)
    assert torch.equal(offsets[:, 0], offsets[:, 1])
    torch.testing.assert_close(offsets[0, 0], torch.tensor([[1.0, 0], [2, 0], [3, 0]]))
    torch.testing.assert_close(offsets[1, 0], torch.tensor([[1.0, 1], [2, 2], [3, 3]]))
    assert len({tuple(o.round().tolist()) for o in offsets[:, 0, 0]}) == 8
    for layer in (m.sampling_offsets.weight, m.attention_weights.weight, m.attention_weights.bias):
        assert not layer.any()


@pytest.mark.parametrize("last", [2, 4])
def test_module_is_the_formula(last: int) -> None:
    m, (query, reference, values) = module(), module_inputs(last)
    hidden = torch.zeros(2, 71, dtype=torch.bool)
    hidden[1, 10:30] = True
    value = F.linear(values, m.value_proj.weight, m.value_proj.bias)
    value[hidden] = 0
    offsets = F.linear(query, m.sampling_offsets.weight, m.sampling_offsets.bias).view(2, 7, 4, 3, 2, 2)
    logits = F.linear(query, m.attention_weights.weight, m.attention_weights.bias).view(2, 7, 4, 6)
    points = torch.empty_like(offsets)
    for level, (h, w) in enumerate(SHAPES):
        for p in range(2):
            r, o = reference[:, :, None, level], offsets[:, :, :, level, p]
            if last == 2:
                points[:, :, :, level, p] = r + o / torch.tensor([w, h])
            else:
                points[:, :, :, level, p] = r[..., :2] + o / 2 * r[..., 2:] / 2
    got = m(query, reference, values, torch.tensor(SHAPES), None, hidden)
    want = slow(value.view(2, 71, 4, 4), SHAPES, points, logits.softmax(-1).view(2, 7, 4, 3, 2))
    torch.testing.assert_close(got, F.linear(want, m.output_proj.weight, m.output_proj.bias))
    with pytest.raises(ValueError, match="2 or 4"):
        m(query, reference[..., :1], values, SHAPES)


def test_autocast_keeps_positions_exact() -> None:
    m, (query, reference, values) = module(), module_inputs()
    with torch.autocast("cpu", torch.bfloat16):
        half = m(query, reference, values, SHAPES)
        half.sum().backward()
    assert half.dtype == torch.bfloat16
    assert all(p.grad is not None and p.grad.isfinite().all() for p in m.parameters())
    torch.testing.assert_close(half.float(), m(query, reference, values, SHAPES), atol=0.2, rtol=0.1)


class Pyramid(nn.Module):
    """The module over maps of any size, as models use it."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = module()

    def forward(self, query: Tensor, reference: Tensor, *maps: Tensor) -> Tensor:
        shapes = [(m.shape[2], m.shape[3]) for m in maps]
        flat = torch.cat([m.flatten(2).transpose(1, 2) for m in maps], 1)
        return self.attention(query, reference, flat, shapes)


def pyramid_inputs(side: int) -> tuple[Tensor, ...]:
    torch.manual_seed(2)
    maps = [torch.randn(2, 16, side // 2**i + 1, side // 2**i) for i in range(3)]
    return torch.randn(2, side, 16), torch.rand(2, side, 3, 2), *maps


def test_exports_once_for_all_sizes() -> None:
    auto = torch.export.Dim.AUTO
    sizes = {"query": {1: auto}, "reference": {1: auto}, "maps": ({2: auto, 3: auto},) * 3}
    model = Pyramid().eval()
    graph = torch.export.export(model, pyramid_inputs(8), dynamic_shapes=sizes).module()
    for side in (8, 12):
        given = pyramid_inputs(side)
        torch.testing.assert_close(graph(*given), model(*given))


@pytest.mark.slow
def test_compiles_as_one_graph() -> None:
    model = Pyramid()
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend="aot_eager")
    for side in (8, 12):
        given = pyramid_inputs(side)
        torch.testing.assert_close(compiled(*given), model(*given))
