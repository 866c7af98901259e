"""ViT, MViT and Swin: their parts against plain loops, properties, training."""

import math

import pytest
import torch
from torch import nn

from detectron2.modeling.backbone import (
    MViT,
    SimpleFeaturePyramid,
    SwinTransformer,
    ViT,
    get_vit_lr_decay_rate,
)
from detectron2.modeling.backbone import swin as swin_module
from detectron2.modeling.backbone._swin_attention import shifted_window_mask
from detectron2.modeling.backbone.transformer import DropPath
from detectron2.modeling.backbone.utils import (
    add_decomposed_rel_pos,
    get_abs_pos,
    get_rel_pos,
    window_partition,
    window_unpartition,
)


def small_vit(**kwargs):
    base = dict(
        img_size=32, patch_size=8, embed_dim=16, depth=2, num_heads=2, mlp_ratio=2, pretrain_img_size=32
    )
    return ViT(**{**base, **kwargs})


def small_mvit(**kwargs):
    base = dict(img_size=32, embed_dim=8, depth=4, last_block_indexes=(0, 1, 2, 3), adaptive_window_size=4)
    return MViT(**{**base, **kwargs})


def small_swin(**kwargs):
    base = dict(
        embed_dim=8, depths=(2, 2), num_heads=(2, 2), window_size=3, out_indices=(0, 1), drop_path_rate=0.0
    )
    return SwinTransformer(**{**base, **kwargs})


NETS = {
    "vit": lambda **k: small_vit(use_rel_pos=True, window_size=3, window_block_indexes=(0,), **k),
    "mvit": small_mvit,
    "swin": small_swin,
}


@pytest.mark.parametrize("hw", [(6, 9), (7, 8), (1, 1), (3, 3)])
def test_windows_round_trip_and_equal_a_loop(hw):
    x = torch.randn(2, *hw, 5)
    windows, padded = window_partition(x, 3)
    rows, cols = math.ceil(hw[0] / 3), math.ceil(hw[1] / 3)
    assert padded == (3 * rows, 3 * cols)
    assert torch.equal(window_unpartition(windows, 3, padded, hw), x)
    full = torch.zeros(2, *padded, 5)
    full[:, : hw[0], : hw[1]] = x
    at = 0
    for n in range(2):
        for r in range(rows):
            for c in range(cols):
                assert torch.equal(windows[at], full[n, 3 * r : 3 * r + 3, 3 * c : 3 * c + 3])
                at += 1


@pytest.mark.parametrize("q_size,k_size", [(4, 4), (8, 4), (4, 8), (6, 3)])
def test_relative_positions_equal_a_loop(q_size, k_size):
    table = torch.randn(2 * max(q_size, k_size) - 1, 3)
    got = get_rel_pos(q_size, k_size, table)
    for i in range(q_size):
        for j in range(k_size):
            step_q, step_k = max(k_size / q_size, 1), max(q_size / k_size, 1)
            at = int(i * step_q - j * step_k + (k_size - 1) * step_k)
            torch.testing.assert_close(got[i, j], table[at])


def test_relative_positions_are_added_by_axis():
    q = torch.randn(2, 6, 4)
    attn = torch.randn(2, 6, 6)
    rel_h, rel_w = torch.randn(3, 4), torch.randn(5, 4)
    got = add_decomposed_rel_pos(attn, q, rel_h, rel_w, (2, 3), (2, 3))
    for a in range(6):
        for b in range(6):
            extra = q[:, a] @ (rel_h[a // 3 - b // 3 + 1] + rel_w[a % 3 - b % 3 + 2])
            torch.testing.assert_close(got[:, a, b], attn[:, a, b] + extra)


def test_absolute_positions():
    pos = torch.randn(1, 17, 6)
    assert torch.equal(get_abs_pos(pos, True, (4, 4)), pos[:, 1:].view(1, 4, 4, 6))
    assert get_abs_pos(pos, True, (3, 7)).shape == (1, 3, 7, 6)
    with pytest.raises(ValueError, match="square"):
        get_abs_pos(pos, False, (4, 4))


def test_shifted_mask_equals_a_loop():
    h, w, window, shift = 8, 12, 4, 2
    mask = shifted_window_mask(h, w, window, shift, torch.device("cpu"), torch.float32)
    ys, xs = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    ys, xs = ys.roll(-shift, 0), xs.roll(-shift, 1)  # where each pixel of the rolled map comes from
    at = 0
    for r in range(h // window):
        for c in range(w // window):
            y = ys[r * window : (r + 1) * window, c * window : (c + 1) * window].flatten()
            x = xs[r * window : (r + 1) * window, c * window : (c + 1) * window].flatten()
            near = ((y[:, None] - y).abs() < window) & ((x[:, None] - x).abs() < window)
            assert torch.equal(mask[at] == 0, near)
            at += 1


def test_patch_merging_order():
    merge = swin_module.PatchMerging(1)
    merge.norm, merge.reduction = nn.Identity(), nn.Identity()
    x = torch.arange(9.0).view(1, 9, 1)  # 3 x 3, filled up with zeros to 4 x 4
    assert merge(x, 3, 3)[0].tolist() == [[0, 3, 1, 4], [2, 5, 0, 0], [6, 0, 7, 0], [8, 0, 0, 0]]


@pytest.mark.parametrize("name", NETS)
def test_shapes_batches_and_gradients(name):
    torch.manual_seed(0)
    net = NETS[name]().eval()
    x = torch.randn(2, 3, 64, 96)
    found = net(x)
    assert list(found) == list(net.output_shape())
    for key, spec in net.output_shape().items():
        assert found[key].shape == (2, spec.channels, 64 // spec.stride, 96 // spec.stride)
        torch.testing.assert_close(net(x[1:])[key], found[key][1:], rtol=1e-4, atol=1e-5)
    net.train()
    sum(v.square().mean() for v in net(x).values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize("name", NETS)
def test_activation_checkpointing_gives_the_same_gradients(name):
    key = "use_checkpoint" if name == "swin" else "use_act_checkpoint"
    plain, saving = NETS[name](), NETS[name](**{key: True})
    saving.load_state_dict(plain.state_dict())
    x = torch.randn(1, 3, 32, 64)
    for net in (plain, saving):
        sum(v.square().mean() for v in net.train()(x).values()).backward()
    for p, q in zip(plain.parameters(), saving.parameters()):
        torch.testing.assert_close(p.grad, q.grad)


def test_mvit_windows_agree_when_strides_do_not_divide_them():
    net = small_mvit(adaptive_kv_stride=8, adaptive_window_size=12, img_size=64).eval()
    found = net(torch.randn(1, 3, 96, 64))
    assert found["scale2"].shape == (1, 8, 24, 16)
    assert all(v.isfinite().all() for v in found.values())


def test_mvit_errors():
    with pytest.raises(ValueError, match="scale9"):
        small_mvit(out_features=("scale9",))


@pytest.mark.parametrize("size", [(33, 47), (4, 4), (64, 20)])
def test_swin_takes_any_size(size):
    found = small_swin(ape=True, pretrain_img_size=32).eval()(torch.randn(1, 3, *size))
    assert found["p0"].shape[2:] == tuple(math.ceil(s / 4) for s in size)
    assert small_swin().size_divisibility == 8


def test_swin_frozen_stages_stay_frozen():
    net = small_swin(frozen_stages=2, drop_rate=0.1, ape=True)
    net.train()
    assert not net.patch_embed.training
    assert not net.layers[0].training
    assert net.layers[1].training
    frozen = {
        n.split(".")[0] + n.split(".")[1]
        for n, p in net.named_parameters()
        if not p.requires_grad and "." in n
    }
    assert frozen == {"patch_embedproj", "patch_embednorm", "layers0"}
    assert not net.absolute_pos_embed.requires_grad


def test_residual_blocks_start_as_the_identity():
    torch.manual_seed(0)
    plain = small_vit().eval()
    net = small_vit(residual_block_indexes=(0, 1)).eval()
    net.load_state_dict(plain.state_dict(), strict=False)
    x = torch.randn(1, 3, 32, 32)
    assert torch.equal(plain(x)["last_feat"], net(x)["last_feat"])


def test_pyramid():
    net = SimpleFeaturePyramid(small_vit(), "last_feat", 6, (4.0, 2.0, 1.0, 0.5), norm="", square_pad=64)
    found = net(torch.randn(1, 3, 64, 32))
    assert {k: tuple(v.shape) for k, v in found.items()} == {
        "p1": (1, 6, 32, 16),
        "p2": (1, 6, 16, 8),
        "p3": (1, 6, 8, 4),
        "p4": (1, 6, 4, 2),
    }
    assert net.padding_constraints == {"size_divisibility": 16, "square_size": 64}
    with pytest.raises(ValueError, match="no output 'x'"):
        SimpleFeaturePyramid(small_vit(), "x", 6, (1.0,))


def test_drop_path():
    torch.manual_seed(0)
    layer = DropPath(0.25)
    x = torch.ones(4000, 2, 1)
    y = layer(x)
    assert y.unique().tolist() == [0.0, pytest.approx(1 / 0.75)]
    assert torch.equal(y[:, 0], y[:, 1])  # whole samples
    assert abs(float(y.mean()) - 1) < 0.05
    assert layer.eval()(x) is x


def test_layer_decay():
    assert get_vit_lr_decay_rate("backbone.net.blocks.11.x", 0.5, 12) == 0.5
    assert get_vit_lr_decay_rate("backbone.net.pos_embed", 0.5, 2) == 0.125
    assert get_vit_lr_decay_rate("roi_heads.blocks.0.x", 0.5, 12) == 1.0


@pytest.mark.slow
@pytest.mark.parametrize("name", NETS)
def test_exports_with_dynamic_size(name):
    net = NETS[name]().eval()
    height, width = torch.export.Dim("h", min=4, max=64), torch.export.Dim("w", min=4, max=64)
    shapes = {"x": {2: 32 * height, 3: 32 * width}}
    program = torch.export.export(
        net, (torch.randn(1, 3, 128, 192),), dynamic_shapes=shapes, strict=True
    ).module()
    with torch.no_grad():
        for size in ((128, 192), (160, 224), (256, 128)):
            x = torch.randn(1, 3, *size)
            want, got = net(x), program(x)
            assert all(torch.allclose(got[k], want[k], atol=1e-5) for k in want)
