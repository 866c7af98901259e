"""The numbers that a seed gives: initial weights, and the losses of two steps with random sampling.

``seeded.json`` has, for every child of a model, the sum and the absolute sum of its state after ``torch.manual_seed(7)``;
another order of draws changes the sums by far more than the tolerance, another processor by far less. They are the
numbers of this package; for the models under ``"as_detectron2"`` every entry of the state and all losses were compared
with Detectron2 itself, and agreed. After a change that is meant, write the file anew::

    python tests/modeling/test_seeded.py
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from detectron2 import model_zoo
from detectron2.config import instantiate
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage

sys.path.insert(0, str(Path(__file__).parent))
from _models import CONFIGS, TRANSFORMERS, example, small_config

RECORDS = Path(__file__).with_name("seeded.json")
AS_DETECTRON2 = (
    "COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml",
    "COCO-Detection/retinanet_R_50_FPN_1x.yaml",
    "COCO-InstanceSegmentation/mask_rcnn_R_50_C4_1x.yaml",
    "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml",
    "COCO-PanopticSegmentation/panoptic_fpn_R_50_1x.yaml",
)
OTHERS = (
    "COCO-Detection/fast_rcnn_R_50_FPN_1x.yaml",
    "COCO-Detection/faster_rcnn_R_50_DC5_1x.yaml",
    "COCO-Detection/fcos_R_50_FPN_1x.py",
    "COCO-Detection/rpn_R_50_C4_1x.yaml",
    "COCO-Detection/rpn_R_50_FPN_1x.yaml",
    "COCO-InstanceSegmentation/mask_rcnn_regnetx_4gf_dds_fpn_1x.py",
    "COCO-InstanceSegmentation/mask_rcnn_regnety_4gf_dds_fpn_1x.py",
    "COCO-Keypoints/keypoint_rcnn_R_50_FPN_1x.yaml",
    "LVISv0.5-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml",
    "Misc/cascade_mask_rcnn_R_50_FPN_1x.yaml",
    "Misc/mask_rcnn_R_50_FPN_1x_dconv_c3-c5.yaml",
    "Misc/scratch_mask_rcnn_R_50_FPN_3x_gn.yaml",
    "Misc/semantic_R_50_FPN_1x.yaml",
    "common/models/mask_rcnn_vitdet.py",
    "new_baselines/mask_rcnn_R_50_FPN_100ep_LSJ.py",
)
QUICK = ("faster_rcnn", "cascade", "panoptic", "retinanet", "vitdet", "swin")
SMALL = ("c4", "keypoint_rcnn", "mask_rcnn", "rotated", "rpn", "semantic")
# Convolutions of random initial weights let features grow until rounding shows in the losses of later stages.
TOLERANCE = 1e-3


def build(name: str) -> nn.Module:
    torch.manual_seed(7)
    if name in TRANSFORMERS:
        return TRANSFORMERS[name]()
    if name.endswith(".py"):
        return instantiate(model_zoo.get_config(name).model)
    cfg = small_config(name) if name in CONFIGS else model_zoo.get_config(name)
    cfg.merge_from_list(["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", ""])
    return build_model(cfg)


def weights(model: nn.Module) -> dict[str, list[float]]:
    found = {}
    for name, child in model.named_children():
        values = [v.double() for v in child.state_dict().values() if v.is_floating_point()]
        found[name] = [float(sum(v.sum() for v in values)), float(sum(v.abs().sum() for v in values))]
    return found


def losses(model: nn.Module, name: str) -> list[dict[str, float]]:
    """The losses of two steps, the second after a small step on the first."""
    kind = "keypoint_rcnn" if "keypoint" in name else "rotated" if name == "rotated" else ""
    data = [example(kind, 96, 128, 4, seed=1), example(kind, 128, 96, 2, seed=2)]
    optimizer = torch.optim.SGD(model.parameters(), 1e-6, momentum=0.9)
    torch.manual_seed(11)
    steps = []
    for _ in range(2):
        with EventStorage():
            found = model.train()(data)
        steps.append({key: float(value.detach()) for key, value in found.items()})
        optimizer.zero_grad()
        sum(found.values()).backward()
        optimizer.step()
    return steps


def record(name: str) -> dict[str, Any]:
    model = build(name)
    if name in TRANSFORMERS or not trained(name):
        return {"weights": weights(model)}
    return {"weights": weights(model), "losses": losses(model, name)}


def trained(name: str) -> bool:
    """Whether the losses are part of the record: not of models that want proposals, nor of the largest."""
    return not any(word in name for word in ("fast_rcnn_R", "vitdet", "new_baselines"))


def check(name: str) -> None:
    want = json.loads(RECORDS.read_text(encoding="utf-8"))
    want = next(group[name] for group in want.values() if name in group)
    found = record(name)
    assert found.keys() == want.keys() and found["weights"].keys() == want["weights"].keys()
    for part, (total, size) in want["weights"].items():
        assert found["weights"][part] == pytest.approx([total, size], abs=1e-6 * size), part
    for step, wanted in zip(found.get("losses", ()), want.get("losses", ()), strict=True):
        assert step == pytest.approx(wanted, rel=TOLERANCE, abs=1e-5)


@pytest.mark.parametrize("name", QUICK)
def test_small_models_start_from_the_same_numbers(name: str) -> None:
    check(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", AS_DETECTRON2 + OTHERS + SMALL)
def test_models_of_the_zoo_start_from_the_same_numbers(name: str) -> None:
    check(name)


def _lines(groups: dict[str, dict[str, Any]]) -> str:
    """JSON with one line for each model."""
    parts = [
        f'"{group}": {{\n' + ",\n".join(f'"{name}": {json.dumps(v)}' for name, v in models.items()) + "\n}"
        for group, models in groups.items()
    ]
    return "{\n" + ",\n".join(parts) + "\n}\n"


if __name__ == "__main__":
    groups = {"as_detectron2": AS_DETECTRON2, "others": OTHERS, "small": QUICK + SMALL}
    records = {group: {name: record(name) for name in names} for group, names in groups.items()}
    RECORDS.write_text(_lines(records), encoding="utf-8")
