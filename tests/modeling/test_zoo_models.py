"""Every architecture of the zoo in full size, with random weights: training, background alone, results, batches."""

from __future__ import annotations

import gc
import gzip
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from detectron2 import model_zoo
from detectron2.config import instantiate
from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

sys.path.insert(0, str(Path(__file__).parent))
from _models import example

RECORDS = Path(__file__).parent.parent / "parity" / "zoo" / "state_dicts.json.gz"
CLASSIFIERS = {"Misc/torchvision_imagenet_R_50.py"}
FEW_REGIONS = (
    *("MODEL.RPN.POST_NMS_TOPK_TRAIN", 100, "MODEL.RPN.POST_NMS_TOPK_TEST", 30),
    *("MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", 32, "TEST.DETECTIONS_PER_IMAGE", 20),
)
SIZES = ((128, 160), (160, 128))
FIELDS = {
    "instances": {
        "pred_boxes",
        "scores",
        "pred_classes",
        "pred_masks",
        "pred_keypoints",
        "pred_keypoint_heatmaps",
    },
    "proposals": {"proposal_boxes", "objectness_logits"},
}


def _architectures() -> list[str]:
    """One config of each group with the same parameters."""
    groups = json.loads(gzip.decompress(RECORDS.read_bytes()))
    first = [next((c for c in g["configs"] if "Base" not in c), g["configs"][0]) for g in groups]
    return sorted(set(first) - CLASSIFIERS)


def build(path: str) -> Any:
    torch.manual_seed(0)
    cfg = model_zoo.get_config(path)
    if path.endswith(".yaml"):
        cfg.merge_from_list(["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", *FEW_REGIONS])
        return calm(build_model(cfg))
    if "vitdet" in path:
        cfg.model.backbone.square_pad = 160  # not the 1024 pixels of the recipe
    if "roi_heads" in cfg.model:
        cfg.model.proposal_generator.post_nms_topk = (100, 30)
        cfg.model.roi_heads.batch_size_per_image = 32
    return calm(instantiate(cfg.model))


@torch.no_grad()
def calm(model: Any) -> Any:
    """Without pretrained weights frozen norms let activations grow from block to block until all scores are 0 or 1."""
    for name, norm in model.named_modules():
        if isinstance(norm, (FrozenBatchNorm2d, nn.modules.batchnorm._BatchNorm)) and norm.weight is not None:
            if ".stem" in name:
                norm.weight.fill_(0.01)
            elif name.endswith(("conv3.norm", "c_bn")):
                norm.weight.fill_(0.2)
    return model


def inputs(path: str, counts: tuple[int, int], sizes: Any = SIZES) -> list[dict[str, Any]]:
    """Two images with so many objects; given proposals where the model makes none."""
    kind = "keypoint_rcnn" if "Keypoint" in path else ""
    items = [example(kind, *size, count, seed=i) for i, (size, count) in enumerate(zip(sizes, counts))]
    return [with_proposals(item) if "fast_rcnn_R_50_FPN_1x" in path else item for item in items]


def with_proposals(item: dict[str, Any]) -> dict[str, Any]:
    size = item["image"].shape[-2:]
    boxes = Boxes(torch.tensor([[8.0, 8, 60, 70], [30, 20, 100, 120], [64, 64, 120, 120]]))
    item["proposals"] = Instances(
        tuple(size), proposal_boxes=boxes, objectness_logits=torch.tensor([3.0, 2, 1])
    )
    return item


def check_training(model: Any, path: str) -> None:
    with EventStorage():
        losses = model.train()(inputs(path, (3, 0)))
        sum(losses.values()).backward()
    assert losses
    assert all(loss.dim() == 0 and loss.isfinite() for loss in losses.values())
    trained = {k: p for k, p in model.named_parameters() if p.requires_grad}
    assert [k for k, p in trained.items() if p.grad is None] == []
    assert [k for k, p in trained.items() if not p.grad.isfinite().all()] == []
    model.zero_grad(set_to_none=True)
    with EventStorage(), torch.no_grad():
        losses = model(inputs(path, (0, 0)))
    assert all(loss.isfinite() for loss in losses.values())


def check_results(model: Any, path: str) -> None:
    size = SIZES[0]  # of both images: beside a larger one an image gets padding, which convolutions see
    items = inputs(path, (0, 0), (size, size))
    items = [{k: v for k, v in item.items() if k in ("image", "proposals")} for item in items]
    with torch.no_grad():
        together = model.eval()(items)
        alone = [model([item])[0] for item in items]
    for one, other in zip(together, alone):
        assert set(one) == set(other) <= {"instances", "proposals", "sem_seg", "panoptic_seg"}
        if "sem_seg" in one:
            assert one["sem_seg"].shape[1:] == size
            torch.testing.assert_close(one["sem_seg"], other["sem_seg"], rtol=1e-3, atol=1e-2)
        for key in FIELDS.keys() & one.keys():
            found = one[key]
            assert found.image_size == size
            assert set(found.get_fields()) <= FIELDS[key]
            score = "scores" if key == "instances" else "objectness_logits"
            assert len(found) == len(other[key])
            torch.testing.assert_close(found.get(score), other[key].get(score), rtol=1e-2, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("path", _architectures())
def test_trains_and_predicts(path: str) -> None:
    model = build(path)
    check_training(model, path)
    check_results(model, path)
    del model
    gc.collect()
