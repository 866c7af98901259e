"""ResNet, RegNet and FPN: against plain versions, properties, freezing, graphs."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from detectron2.config import get_cfg
from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling.backbone import build_backbone, fold_batch_norms, optimize_for_inference
from detectron2.modeling.backbone._resnet_blocks import conv_norm
from detectron2.modeling.backbone.fpn import FPN, LastLevelMaxPool, LastLevelP6, LastLevelP6P7
from detectron2.modeling.backbone.regnet import (
    AnyNet,
    RegNet,
    ResBottleneckBlock,
    ResStem,
    SimpleStem,
    regnet_stages,
)
from detectron2.modeling.backbone.resnet import (
    BasicBlock,
    BasicStem,
    BottleneckBlock,
    DeformBottleneckBlock,
    ResNet,
    make_stage,
)

ALL = ["res2", "res3", "res4", "res5"]


def shake(net):
    """Norms that do something."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in net.state_dict().items():
        if "norm" in name or "bn" in name:
            if name.endswith("running_var"):
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
            elif tensor.is_floating_point():
                tensor.add_(0.2 * torch.randn(tensor.shape, generator=generator))
    return net


def tiny(norm="FrozenBN", features=ALL, **kwargs):
    stages = [
        ResNet.make_stage(
            BottleneckBlock,
            2,
            stride_per_block=[1 if i == 0 else 2, 1],
            in_channels=8 * 2 ** max(i, 1),
            out_channels=16 * 2**i if i else 16,
            bottleneck_channels=8,
            norm=norm,
        )
        if i
        else ResNet.make_stage(BasicBlock, 1, in_channels=8, out_channels=16, norm=norm)
        for i in range(4)
    ]
    return shake(ResNet(BasicStem(3, 8, norm), stages, out_features=features, **kwargs)).eval()


def tiny_fpn(**kwargs):
    return FPN(tiny(), ALL, 8, top_block=LastLevelMaxPool(), **kwargs).eval()


def test_bottleneck_equals_the_formula():
    block = shake(
        BottleneckBlock(6, 10, bottleneck_channels=4, stride=2, norm="FrozenBN", num_groups=2)
    ).eval()
    x = torch.randn(2, 6, 9, 7)

    def conv_norm(layer, y, **kwargs):
        n = layer.norm
        y = F.conv2d(y, layer.weight, **kwargs)
        scale = n.weight / (n.running_var + 1e-5).sqrt()
        return (y - n.running_mean[:, None, None]) * scale[:, None, None] + n.bias[:, None, None]

    y = conv_norm(block.conv1, x).relu()
    y = conv_norm(block.conv2, y, stride=2, padding=1, groups=2).relu()
    y = (conv_norm(block.conv3, y) + conv_norm(block.shortcut, x, stride=2)).relu()
    torch.testing.assert_close(block(x), y)


@pytest.mark.parametrize("modulated", [False, True])
def test_deformable_block_starts_as_a_plain_one(modulated):
    torch.manual_seed(0)
    kwargs = dict(bottleneck_channels=4, norm="FrozenBN", dilation=2)
    deform = DeformBottleneckBlock(6, 6, deform_modulated=modulated, **kwargs)
    plain = BottleneckBlock(6, 6, **kwargs)
    plain.load_state_dict({k: v for k, v in deform.state_dict().items() if "offset" not in k})
    x = torch.randn(1, 6, 8, 8)
    if modulated:  # the mask starts at sigmoid(0)
        plain.conv2.weight.data.mul_(0.5)
    torch.testing.assert_close(deform(x), plain(x))


def test_features_and_shapes_agree():
    net = tiny(features=["stem", *ALL])
    x = torch.randn(2, 3, 64, 96)
    found = net(x)
    assert list(found) == ["stem", *ALL]
    for name, spec in net.output_shape().items():
        assert found[name].shape == (2, spec.channels, 64 // spec.stride, 96 // spec.stride)
    one = net(x[1:])
    for name, value in found.items():
        torch.testing.assert_close(value[1:], one[name])


def test_classifier_has_an_output_shape():
    net = ResNet(
        BasicStem(3, 8),
        [make_stage(BasicBlock, 2, first_stride=2, in_channels=8, out_channels=12)],
        num_classes=7,
    )
    assert net.output_shape()["linear"].channels == 7
    assert net(torch.randn(2, 3, 32, 32))["linear"].shape == (2, 7)
    assert net.stages[0][0].stride == 2


def test_unused_stages_are_not_kept():
    net = tiny(features=["res3"])
    assert not hasattr(net, "res4")
    assert all(p.requires_grad for p in net.parameters())


def test_freezing():
    net = tiny(norm="BN", features=["res5"], freeze_at=2)
    frozen = {n.split(".")[0] for n, p in net.named_parameters() if not p.requires_grad}
    assert frozen == {"stem", "res2"}
    assert not any(isinstance(m, nn.BatchNorm2d) for m in (*net.stem.modules(), *net.res2.modules()))
    assert any(isinstance(m, nn.BatchNorm2d) for m in net.res3.modules())
    net.train()
    net(torch.randn(2, 3, 64, 64))["res5"].sum().backward()
    assert {n for n, p in net.named_parameters() if p.grad is None} == {
        n for n, p in net.named_parameters() if not p.requires_grad
    }
    assert net.freeze(5) is net
    assert not any(p.requires_grad for p in net.parameters())


@pytest.mark.parametrize("norm", ["", "BN", "SyncBN", "FrozenBN", "GN", "naiveSyncBN", "LN"])
def test_every_norm_builds_from_config(norm):
    cfg = get_cfg()
    c = cfg.MODEL.RESNETS
    c.NORM, c.OUT_FEATURES, c.STEM_OUT_CHANNELS, c.WIDTH_PER_GROUP, c.RES2_OUT_CHANNELS = (
        norm,
        ["res3"],
        32,
        32,
        32,
    )
    net = build_backbone(cfg).eval()
    assert net(torch.randn(1, 3, 32, 32))["res3"].shape == (1, 64, 4, 4)


@pytest.mark.parametrize(
    "key,value,text",
    [
        ("DEPTH", 51, "depth 51"),
        ("RES5_DILATION", 3, "RES5_DILATION"),
        ("OUT_FEATURES", ["res6"], "res6"),
        ("OUT_FEATURES", [], "empty"),
    ],
)
def test_wrong_options_are_named(key, value, text):
    cfg = get_cfg()
    setattr(cfg.MODEL.RESNETS, key, value)
    with pytest.raises(ValueError, match=text):
        build_backbone(cfg)


def test_shallow_nets_name_all_that_does_not_go_with_them():
    cfg = get_cfg()
    cfg.MODEL.RESNETS.DEPTH = 18
    cfg.MODEL.RESNETS.NUM_GROUPS = 2
    with pytest.raises(ValueError, match=r"RES2_OUT_CHANNELS must be 64.*NUM_GROUPS must be 1"):
        build_backbone(cfg)


def test_per_block_lists_are_checked():
    with pytest.raises(ValueError, match="2 values for 3 blocks"):
        ResNet.make_stage(BasicBlock, 3, in_channels=4, out_channels=4, stride_per_block=[1, 1])
    with pytest.raises(ValueError, match="not both"):
        ResNet.make_stage(BasicBlock, 1, in_channels=4, out_channels=4, stride=1, stride_per_block=[1])


def test_fpn_equals_the_formula():
    net = tiny_fpn(fuse_type="avg")
    x = torch.randn(1, 3, 64, 96)
    below = net.bottom_up(x)
    got = net(x)
    merged = net.fpn_lateral5(below["res5"])
    torch.testing.assert_close(got["p5"], net.fpn_output5(merged))
    for k in (4, 3, 2):
        up = merged.repeat_interleave(2, 2).repeat_interleave(2, 3)
        merged = (net.get_submodule(f"fpn_lateral{k}")(below[f"res{k}"]) + up) / 2
        torch.testing.assert_close(got[f"p{k}"], net.get_submodule(f"fpn_output{k}")(merged))
    assert torch.equal(got["p6"], got["p5"][:, :, ::2, ::2])
    assert list(got) == list(net.output_shape()) == ["p2", "p3", "p4", "p5", "p6"]


def test_top_blocks():
    x = torch.randn(1, 128, 5, 7)
    p6, p7 = LastLevelP6P7(128, 4)(x)
    assert (p6.shape, p7.shape) == ((1, 4, 3, 4), (1, 4, 2, 2))
    net = FPN(tiny(), ["res4", "res5"], 6, top_block=LastLevelP6(6, 6, in_feature="p5"))
    assert list(net(torch.randn(1, 3, 64, 64))) == ["p4", "p5", "p6"]
    assert net.output_shape()["p6"].stride == 64


@pytest.mark.parametrize(
    "kwargs,text",
    [
        (dict(in_features=[]), "empty"),
        (dict(in_features=["res2", "res9"]), "res9"),
        (dict(in_features=["res2", "res4"]), "twice"),
        (dict(in_features=ALL, fuse_type="max"), "fuse_type"),
    ],
)
def test_fpn_errors(kwargs, text):
    with pytest.raises(ValueError, match=text):
        FPN(tiny(), out_channels=8, **kwargs)


def slow_regnet(w_a, w_0, w_m, depth):
    widths = []
    for j in range(depth):
        u = w_0 + w_a * j
        best = min(
            range(50), key=lambda s: abs(torch.log(torch.tensor(u / w_0)) - s * torch.log(torch.tensor(w_m)))
        )
        widths.append(int(round(w_0 * w_m**best / 8) * 8))
    return widths


def test_regnet_widths_equal_the_rule():
    for w_a, w_0, w_m, depth in ((36.44, 24, 2.49, 13), (20.0, 24, 2.4, 10), (0.0, 16, 2.0, 3)):
        stages, counts = regnet_stages(w_a, w_0, w_m, depth)
        assert [w for w, n in zip(stages, counts) for _ in range(n)] == slow_regnet(w_a, w_0, w_m, depth)
    with pytest.raises(ValueError, match="multiple of 8"):
        regnet_stages(1.0, 10, 2.0, 3)


def small_regnet(**kwargs):
    base = dict(
        stem_class=SimpleStem, stem_width=8, block_class=ResBottleneckBlock, depth=4, w_a=12.0, w_0=16
    )
    return RegNet(**base, w_m=2.2, group_width=8, **kwargs)


def test_regnet_freezes_and_names_wrong_outputs():
    net = small_regnet(freeze_at=2, norm="BN")
    assert {n.split(".")[0] for n, p in net.named_parameters() if not p.requires_grad} == {"stem", "s1"}
    assert any(isinstance(m, FrozenBatchNorm2d) for m in net.s1.modules())
    with pytest.raises(ValueError, match="s9"):
        small_regnet(out_features=["s9"])
    with pytest.raises(ValueError, match="one entry per stage"):
        AnyNet(
            stem_class=ResStem, stem_width=8, block_class=ResBottleneckBlock, depths=[1], widths=[8, 8], group_widths=[8],
            strides=[1], bottleneck_ratios=[1.0], se_ratio=0, activation_class=nn.ReLU,
        )  # fmt: skip


@pytest.mark.parametrize("make", [tiny_fpn, lambda: shake(small_regnet(norm="BN", se_ratio=0.25)).eval()])
def test_folding_changes_nothing(make):
    net = make()
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        want = net(x)
        for folded in (fold_batch_norms(net), optimize_for_inference(net)):
            assert not any(isinstance(m, (nn.BatchNorm2d, FrozenBatchNorm2d)) for m in folded.modules())
            for name, value in folded(x).items():
                torch.testing.assert_close(value, want[name], rtol=1e-4, atol=1e-4)
        again = net(x)
        assert all(torch.equal(again[k], v) for k, v in want.items())  # the original is untouched


def test_norms_in_training_are_not_folded():
    net = tiny(norm="BN").train()
    assert any(isinstance(m, nn.BatchNorm2d) for m in fold_batch_norms(net).modules())


def two_levels():
    stages = ResNet.make_stage(BasicBlock, 1, in_channels=8, out_channels=16, norm="FrozenBN")
    coarse = ResNet.make_stage(BasicBlock, 1, in_channels=16, out_channels=32, stride=2, norm="FrozenBN")
    net = ResNet(BasicStem(3, 8, "FrozenBN"), [stages, coarse], out_features=["res2", "res3"])
    return FPN(net, ["res2", "res3"], 8, top_block=LastLevelP6P7(32, 8, "res3")).eval()


@pytest.mark.slow
@pytest.mark.parametrize("make", [two_levels, tiny_fpn])
def test_exports_with_dynamic_size_and_compiles_whole(make):
    net = make()
    x = torch.randn(1, 3, 64, 96)
    height, width = torch.export.Dim("h", min=2, max=64), torch.export.Dim("w", min=2, max=64)
    shapes = {"x": {2: 32 * height, 3: 32 * width}}
    program = torch.export.export(net, (x,), dynamic_shapes=shapes, strict=True).module()
    compiled = torch.compile(net, fullgraph=True, dynamic=True, backend="eager")
    other = torch.randn(1, 3, 128, 64)
    with torch.no_grad():
        for image in (x, other):
            want = net(image)
            for got in (program(image), compiled(image)):
                assert list(got) == list(want)
                assert all(torch.allclose(got[k], want[k], atol=1e-5) for k in want)


def test_frozen_norms_go_through_the_weights_unless_someone_listens():
    conv = conv_norm(3, 4, 3, "FrozenBN").double()
    for buffer in conv.norm.buffers():
        buffer.copy_(torch.rand_like(buffer) + 0.5)
    calls = []
    results = []
    for listen in (False, True):
        if listen:
            conv.norm.register_forward_hook(lambda *args: calls.append(1))
        x = torch.ones(2, 3, 6, 7, dtype=torch.float64).cumsum(2).requires_grad_()
        y = conv(x)
        conv.weight.grad = None
        y.square().sum().backward()
        results.append((y.detach(), x.grad, conv.weight.grad))
        assert len(calls) == listen
    for folded, separate in zip(*results):
        torch.testing.assert_close(folded, separate)
