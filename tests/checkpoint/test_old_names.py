"""Weights under the names of earlier programs: Detectron, and the first releases of Detectron2's projects."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.layers import FrozenBatchNorm2d, ShapeSpec
from detectron2.modeling import build_backbone, build_model
from detectron2.modeling.roi_heads.mask_head import MaskRCNNConvUpsampleHead
from detectron2.projects.densepose.modeling.predictors import DensePoseChartPredictor

sys.path.insert(0, str(Path(__file__).parents[1] / "projects"))
from _point_models import POINTREND, small_config


def write(path: Path, weights: dict[str, Any], **more: Any) -> str:
    """Write weights in the way that the ending of the file stands for."""
    if path.suffix == ".pkl":
        arrays = {k: np.asarray(v) for k, v in weights.items()}
        path.write_bytes(pickle.dumps({"model": arrays, "__author__": "us", **more}))
    else:
        torch.save({"model": weights, **more}, path)
    return str(path)


def blobs_of(layers: dict[str, nn.Module]) -> dict[str, np.ndarray]:
    """Random blobs ``<name>_w`` and ``<name>_b`` for layers."""
    rng = np.random.default_rng(0)
    return {
        f"{name}_{parameter[0]}": rng.normal(size=value.shape).astype(np.float32)
        for name, layer in layers.items()
        for parameter, value in layer.named_parameters()
    }


@pytest.mark.parametrize("form", ["_[mask]_fcn{}", "_mask_fcn{}"])
def test_mask_heads_of_detectron(form: str, tmp_path: Path) -> None:
    model = nn.Module()
    model.mask_head = head = MaskRCNNConvUpsampleHead(ShapeSpec(channels=3), num_classes=2, conv_dims=[4] * 5)
    layers = {form.format(i): getattr(head, f"mask_fcn{i}") for i in range(1, 5)}
    blobs = blobs_of({**layers, "conv5_mask": head.deconv, "mask_fcn_logits": head.predictor})
    for name in ("mask_fcn_logits_w", "mask_fcn_logits_b"):  # class 0 is the background
        blobs[name] = np.concatenate([np.full_like(blobs[name][:1], 9), blobs[name]])
    (tmp_path / "a.pkl").write_bytes(
        pickle.dumps({"blobs": {**blobs, "conv5_mask_w_momentum": blobs["conv5_mask_w"]}})
    )
    DetectionCheckpointer(model).load(str(tmp_path / "a.pkl"))
    for name, layer in layers.items():
        np.testing.assert_array_equal(layer.weight.detach(), blobs[f"{name}_w"])
    np.testing.assert_array_equal(head.predictor.bias.detach(), blobs["mask_fcn_logits_b"][1:])


def test_charts_of_detectron(tmp_path: Path) -> None:
    from detectron2.config import get_cfg
    from detectron2.projects.densepose import add_densepose_config

    cfg = get_cfg()
    add_densepose_config(cfg)
    model = nn.Module()
    model.densepose_predictor = head = DensePoseChartPredictor(cfg, 6)
    layers = {
        "AnnIndex_lowres": head.ann_index_lowres, "Index_UV_lowres": head.index_uv_lowres,
        "U_lowres": head.u_lowres, "V_lowres": head.v_lowres,
    }  # fmt: skip
    blobs = blobs_of(layers)
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(blobs))  # ImageNet models too have no "blobs"
    DetectionCheckpointer(model).load(str(tmp_path / "a.pkl"))
    for name, layer in layers.items():
        np.testing.assert_array_equal(layer.weight.detach(), blobs[f"{name}_w"])
        np.testing.assert_array_equal(layer.bias.detach(), blobs[f"{name}_b"])


@pytest.mark.parametrize("ending", [".pkl", ".pth"])
@pytest.mark.parametrize("heads", ["PointRendROIHeads", "StandardROIHeads"])
def test_first_releases_of_point_rend(heads: str, ending: str, tmp_path: Path) -> None:
    """Both heads beside the mask head at first; later within it, with only the linear layers called otherwise."""
    model = build_model(small_config(POINTREND, "MODEL.ROI_HEADS.NAME", heads))
    old = {}
    for name, value in model.state_dict().items():
        name = name.replace("coarse_head.fc", "coarse_head.coarse_mask_fc")
        if heads == "PointRendROIHeads":
            name = name.replace("mask_head.point_head", "mask_point_head")
            name = name.replace("mask_head.coarse_head", "mask_coarse_head")
        old[name] = torch.full_like(value, 0.25)
    assert set(old) != set(model.state_dict())
    checkpointer = DetectionCheckpointer(model)
    checkpointer.load(write(tmp_path / f"old{ending}", old))
    assert not checkpointer.last_report.missing and not checkpointer.last_report.unexpected
    assert all((value == 0.25).all() for value in model.roi_heads.state_dict().values())


@pytest.mark.parametrize("ending", [".pkl", ".pth"])
def test_trunks_of_deeplab(ending: str, tmp_path: Path) -> None:
    """Trained on ImageNet: names without the model's prefix, and a classifier that has no place."""
    from detectron2.config import get_cfg
    from detectron2.projects.deeplab import add_deeplab_config

    cfg = get_cfg()
    add_deeplab_config(cfg)
    cfg.MODEL.BACKBONE.NAME = "build_resnet_deeplab_backbone"
    model = nn.Module()
    model.backbone = build_backbone(cfg)
    weights = {name: torch.full_like(value, 0.5) for name, value in model.backbone.state_dict().items()}
    weights["linear.weight"] = torch.ones(2, 3)
    file = write(tmp_path / f"R-103{ending}", weights, matching_heuristics=True)
    checkpointer = DetectionCheckpointer(model)
    checkpointer.load(file)
    assert not checkpointer.last_report.missing
    assert checkpointer.last_report.unexpected == ["linear.weight"]
    assert all((value == 0.5).all() for value in model.state_dict().values())


@pytest.mark.parametrize("ending", [".pkl", ".pth"])
def test_frozen_norms_without_statistics(ending: str, tmp_path: Path) -> None:
    """The first version of the norm had none: they are 0 and 1."""
    model = nn.Sequential(FrozenBatchNorm2d(2, eps=0))
    model.load_state_dict({k: torch.full_like(v, 7) for k, v in model.state_dict().items()})
    DetectionCheckpointer(model).load(
        write(tmp_path / f"old{ending}", {"0.weight": torch.full((2,), 3.0), "0.bias": torch.full((2,), 4.0)})
    )
    assert model(torch.ones(1, 2, 1, 1)).flatten().tolist() == [7, 7]
