"""The bridge to timm."""

import pytest
import torch

from detectron2.config import LazyCall, get_cfg, instantiate
from detectron2.modeling.backbone import TimmBackbone, add_timm_config, build_backbone


def test_without_timm_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(ImportError, match=r"detectron2\[timm\]"):
        TimmBackbone("resnet18")


def test_the_yacs_builder_says_which_keys_it_needs():
    cfg = get_cfg()
    cfg.MODEL.BACKBONE.NAME = "timm_backbone"
    with pytest.raises(KeyError, match="add_timm_config"):
        build_backbone(cfg)


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
