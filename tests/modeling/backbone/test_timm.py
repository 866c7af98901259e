"""The bridge to timm."""

import re

import pytest
import torch

from detectron2.config import LazyCall, get_cfg, instantiate
from detectron2.engine.model_options import freeze_by_pattern
from detectron2.modeling.backbone import (
    TimmBackbone,
    add_timm_config,
    build_backbone,
    timm_fpn,
    timm_simple_pyramid,
)
from detectron2.solver import layer_decay, layer_decay_params


def test_without_timm_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(ImportError, match=r"detectron2\[timm\]"):
        TimmBackbone("resnet18")


def test_both_config_kinds():
    pytest.importorskip("timm")
    cfg = get_cfg()
    add_timm_config(cfg)
    cfg.MODEL.BACKBONE.NAME = "timm_fpn_backbone"
    cfg.MODEL.TIMM.NAME = "resnet18"
    cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.FPN.OUT_CHANNELS = 8
    net = build_backbone(cfg).eval()
    found = net(torch.randn(1, 3, 64, 64))
    assert list(found) == ["p2", "p3", "p4", "p5", "p6"]
    lazy = instantiate(
        LazyCall(TimmBackbone)(name="swin_tiny_patch4_window7_224", img_size=64, in_chans=5)
    ).eval()
    for name, value in lazy(torch.randn(1, 5, 64, 64)).items():
        spec = lazy.output_shape()[name]
        assert value.shape == (1, spec.channels, 64 // spec.stride, 64 // spec.stride)
    with pytest.raises(ValueError, match="resnet18"):
        TimmBackbone("resnet_18")


# Networks of detection with few and narrow layers.
PLAIN = {
    "vit_small_patch14_dinov2": {},
    "vit_small_patch14_reg4_dinov2": {},
    "vit_small_patch16_dinov3": {},
}
PLAIN = {name: {"depth": 3, "embed_dim": 32, "num_heads": 2} for name in PLAIN}
STAGED = {
    "convnext_tiny.dinov3_lvd1689m": {"depths": (1, 1, 1, 1), "dims": (8, 16, 32, 64)},
    "swinv2_tiny_window8_256": {
        "embed_dim": 16,
        "depths": (1, 1, 1, 1),
        "num_heads": (1, 1, 2, 2),
        "window_size": 4,
    },
    "hiera_tiny_224": {"img_size": 128, "embed_dim": 16, "stages": (1, 1, 1, 1)},
}
NETWORKS = {**PLAIN, **STAGED}


def pyramid_of(name, in_chans=5, **kwargs):
    make = timm_simple_pyramid if name in PLAIN else timm_fpn
    torch.manual_seed(0)
    return instantiate(
        LazyCall(make)(name=name, out_channels=8, in_chans=in_chans, **NETWORKS[name], **kwargs)
    )


@pytest.mark.parametrize("name", NETWORKS)
def test_pyramids_for_images_of_any_size_and_channels(name):
    pytest.importorskip("timm")
    net = pyramid_of(name).eval()
    unit, square = net.size_divisibility, net.padding_constraints.get("square_size", 0)
    assert list(net.output_shape()) == ["p2", "p3", "p4", "p5", "p6"]
    with torch.no_grad():
        for height, width in ((128, 128),) if square else ((64, 96), (128, 64)):
            assert height % unit == width % unit == 0
            found = net(torch.rand(1, 5, height, width))
            for level, value in found.items():
                stride = net.output_shape()[level].stride
                assert value.shape == (1, 8, -(-height // stride), -(-width // stride)), level
                assert value.isfinite().all()
    assert square == (128 if "hiera" in name else 0)


@pytest.mark.parametrize("name", NETWORKS)
def test_layers_nearer_to_the_input_learn_more_slowly(name):
    pytest.importorskip("timm")
    model = torch.nn.Module()
    model.backbone = pyramid_of(name)
    factor = layer_decay(model, 0.5)
    inside = [n for n, _ in model.named_parameters() if ".net." in n or ".bottom_up." in n]
    front = next(n for n in inside if "patch_embed" in n or "stem" in n)
    number = r"(?:stages_|layers_)(\d+)" if name in STAGED and "hiera" not in name else r"blocks\.(\d+)"
    rates = {int(m[1]): factor(n) for n in inside if (m := re.search(number, n))}
    assert len(rates) >= 3
    assert [rates[i] for i in sorted(rates)] == sorted(rates.values())
    assert len(set(rates.values())) == len(rates)
    assert factor(front) < min(rates.values())
    outside = [n for n, _ in model.named_parameters() if n not in inside]
    assert all(factor(n) == 1 for n in outside)
    groups = layer_decay_params(model, base_lr=1.0, rate=0.5)
    assert {g["lr"] for g in groups} >= {1.0, factor(front)}


def test_frozen_and_partly_frozen():
    pytest.importorskip("timm")
    net = pyramid_of("vit_small_patch16_dinov3", freeze=True)
    assert not any(p.requires_grad for p in net.net.parameters())
    assert all(p.requires_grad for n, p in net.named_parameters() if not n.startswith("net."))
    model = torch.nn.Module()
    model.backbone = pyramid_of("vit_small_patch16_dinov3")
    freeze_by_pattern(model, [r"backbone\..*(patch_embed|cls_token|reg_token|blocks\.[01]\.)"])
    learns = {n for n, p in model.named_parameters() if p.requires_grad}
    assert not any("blocks.0." in n or "patch_embed" in n for n in learns)
    assert any("blocks.2." in n for n in learns)


@pytest.mark.parametrize("name", ["vit_small_patch16_dinov3", "convnext_tiny.dinov3_lvd1689m"])
def test_one_line_of_yaml(name, tmp_path):
    timm = pytest.importorskip("timm")
    builder = "timm_simple_pyramid_backbone" if name in PLAIN else "timm_fpn_backbone"
    path = tmp_path / "x.yaml"
    path.write_text(
        f"MODEL: {{BACKBONE: {{NAME: {builder}}}, TIMM: {{NAME: {name}}}, FPN: {{OUT_CHANNELS: 8}}}}\n"
    )
    cfg = get_cfg()
    assert "TIMM" not in list(cfg.MODEL)
    cfg.merge_from_file(str(path))
    cfg.MODEL.PIXEL_MEAN = [0.0] * 4
    made = {}
    real = timm.create_model

    def small(network, **kwargs):
        made.update(kwargs)
        return real(network, **(kwargs | NETWORKS[name]))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timm, "create_model", small)
        net = build_backbone(cfg).eval()
    assert made["in_chans"] == 4
    assert made["pretrained"] is False
    with torch.no_grad():
        assert list(net(torch.rand(1, 4, 64, 64))) == ["p2", "p3", "p4", "p5", "p6"]
