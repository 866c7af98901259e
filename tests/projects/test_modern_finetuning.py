"""Weights of other classes and another number of queries: what does not fit begins anew and is listed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import instantiate

sys.path.insert(0, str(Path(__file__).parent))
import _mask2former_models as mask2former
import _maskdino_models as maskdino
from _modern_runs import tiny_eva02


def eva02(classes: int) -> nn.Module:
    cfg = tiny_eva02(num_classes=classes)
    for part in (*cfg.model.roi_heads.box_predictors, cfg.model.roi_heads.mask_head):
        part.num_classes = classes
    return instantiate(cfg.model)  # type: ignore[no-any-return]


def masks(kind: Any, node: str, classes: int, queries: int) -> nn.Module:
    options = ("MODEL.SEM_SEG_HEAD.NUM_CLASSES", classes, f"{node}.NUM_OBJECT_QUERIES", queries)
    return kind.model_of(kind.INSTANCE, *options)  # type: ignore[no-any-return]


# Models before and after, and the parts of names that may differ in shape.
FAMILIES = {
    "Mask2Former": (
        lambda: masks(mask2former, "MODEL.MASK_FORMER", 80, 8),
        lambda: masks(mask2former, "MODEL.MASK_FORMER", 3, 5),
        ("class_embed", "query_feat", "query_embed", "empty_weight"),
    ),
    "MaskDINO": (
        lambda: masks(maskdino, "MODEL.MaskDINO", 80, 8),
        lambda: masks(maskdino, "MODEL.MaskDINO", 3, 5),
        ("class_embed", "label_enc", "query_feat", "query_embed", "empty_weight"),
    ),
    "EVA-02": (lambda: eva02(80), lambda: eva02(3), ("cls_score", "mask_head.predictor")),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_what_does_not_fit_begins_anew(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    before, after, parts = FAMILIES[name]
    released, model = before(), after()
    DetectionCheckpointer(released, str(tmp_path)).save("released")
    fresh = {k: v.clone() for k, v in model.state_dict().items()}
    saver = DetectionCheckpointer(model)
    saver.load(str(tmp_path / "released.pth"))
    report = saver.last_report
    assert report is not None
    differ = {key for key, _, _ in report.mismatched}
    assert any(parts[0] in key for key in differ)
    assert all(any(part in key for part in parts) for key in differ), differ
    assert not report.missing
    assert not report.unexpected
    old = released.state_dict()
    for key, value in model.state_dict().items():
        assert torch.equal(value, fresh[key] if key in differ else old[key]), key
        assert key not in differ or key in caplog.text
