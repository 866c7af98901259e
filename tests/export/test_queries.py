"""Results of models of masks by queries, from the outputs of their graphs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from detectron2.export import ExportedModel
from detectron2.export.metadata import describe_model, side_limits
from detectron2.export.proof.compare import TOLERANCES, compare
from detectron2.modeling import MaskClassifier
from detectron2.modeling.tensor_inference import TensorInference
from detectron2.structures import Instances

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "projects"))
import _mask2former_models as mask2former
from _mask_scenes import image


@pytest.fixture(scope="module")
def model() -> MaskClassifier:
    key = "MODEL.MASK_FORMER.TEST.OBJECT_MASK_THRESHOLD"
    return mask2former.model_of(mask2former.PANOPTIC, key, 0.0).eval()


def exported(model: MaskClassifier) -> ExportedModel:
    graph = TensorInference(model)

    def run(picture: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():
            return graph(picture)

    about = {"static": None, "batch": None, "sides": list(side_limits(model, None)), **describe_model(model)}
    return ExportedModel(run, about)


def test_results_are_those_of_the_model(model: MaskClassifier) -> None:
    item = image(100, 130)
    with torch.no_grad():
        wanted = model([item])[0]
    (found,) = exported(model).predict([item])
    assert set(found) == set(wanted)
    assert isinstance(found["instances"], Instances)
    assert len(found["instances"]) > 0
    assert compare(wanted, found, TOLERANCES["fp32"]).problems == []
    assert found["panoptic_seg"][1] == wanted["panoptic_seg"][1]
    assert torch.equal(found["panoptic_seg"][0], wanted["panoptic_seg"][0])
    changed = {**found, "instances": found["instances"][1:]}
    assert compare(wanted, changed, TOLERANCES["fp32"]).problems


def test_results_in_the_size_of_the_picture(model: MaskClassifier) -> None:
    item = {**image(100, 130), "height": 150, "width": 195}
    with torch.no_grad():
        wanted = model([item])[0]
    (found,) = exported(model).predict([item])
    assert found["instances"].image_size == (150, 195)
    a, b = wanted["instances"].pred_masks, found["instances"].pred_masks
    assert a.shape == b.shape
    assert (a == b).float().mean() > 0.95
    segments, info = found["panoptic_seg"]
    assert segments.shape == (150, 195)
    assert set(segments.unique().tolist()) - {0} <= {s["id"] for s in info}
    nothing = {
        "valid": torch.zeros(3, dtype=torch.bool),
        "boxes": torch.zeros(3, 4),
        "scores": torch.zeros(3),
    }
    nothing |= {"classes": torch.zeros(3), "pred_masks": torch.zeros(3, 100, 130, dtype=torch.bool)}
    empty = ExportedModel(lambda _: nothing, exported(model).metadata)
    assert empty.predict([item])[0]["instances"].pred_masks.shape == (0, 150, 195)


def test_pictures_below_the_least_size_are_padded(model: MaskClassifier) -> None:
    file = exported(model)
    assert file.metadata["sides"][0] > 64
    (found,) = file.predict([image(64, 64)])
    assert found["instances"].pred_masks.shape[1:] == (64, 64)
    assert found["panoptic_seg"][0].shape == found["sem_seg"].shape[1:] == (64, 64)
