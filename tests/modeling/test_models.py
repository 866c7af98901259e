"""Whole models, small: losses, gradients, background-only images, batches, formats of results."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from detectron2.utils.events import EventStorage

sys.path.insert(0, str(Path(__file__).parent))
from _models import CONFIGS, example, image, small_model

NAMES = sorted(CONFIGS)
FIELDS = {
    "faster_rcnn": {"pred_boxes", "scores", "pred_classes"},
    "mask_rcnn": {"pred_boxes", "scores", "pred_classes", "pred_masks"},
    "keypoint_rcnn": {"pred_boxes", "scores", "pred_classes", "pred_keypoints", "pred_keypoint_heatmaps"},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_learns(name: str) -> None:
    model = small_model(name).train()
    torch.manual_seed(1)
    try:
        with EventStorage():
            losses = model([example(name, 128, 160, 4), example(name, 160, 128, 2, seed=5)])
            sum(losses.values()).backward()
        assert losses
        assert all(loss.dim() == 0 and loss.isfinite() for loss in losses.values())
        without = [k for k, p in model.named_parameters() if p.requires_grad and p.grad is None]
        assert without == []
        assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    finally:
        model.zero_grad(set_to_none=True)
        model.eval()


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_background_only_images_give_finite_losses_to_every_parameter(name: str) -> None:
    model = small_model(name).train()
    try:
        with EventStorage():
            losses = model([example(name, 128, 128, 0), example(name, 128, 128, 0, seed=3)])
            sum(losses.values()).backward()
        assert all(loss.isfinite() for loss in losses.values())
        assert [k for k, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
    finally:
        model.zero_grad(set_to_none=True)
        model.eval()


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_batched_equals_single(name: str) -> None:
    model = small_model(name)
    inputs = [image(128, 160, seed) for seed in (1, 2)]
    with torch.no_grad():
        together = model(inputs)
        alone = [model([item])[0] for item in inputs]
    for a, b in zip(together, alone):
        assert set(a) == set(b)
        if "sem_seg" in a:
            torch.testing.assert_close(a["sem_seg"], b["sem_seg"], rtol=1e-4, atol=1e-3)
        found = a.get("instances", a.get("proposals"))
        if found is not None:
            other = b.get("instances", b.get("proposals"))
            assert len(found) == len(other) > 0
            key = "scores" if found.has("scores") else "objectness_logits"
            torch.testing.assert_close(found.get(key), other.get(key), rtol=1e-3, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(FIELDS))
def test_results_have_the_documented_fields_and_size(name: str) -> None:
    item = {**image(128, 160), "height": 64, "width": 90}
    with torch.no_grad():
        (result,) = small_model(name)([item])
    found = result["instances"]
    assert set(found.get_fields()) == FIELDS[name]
    assert found.image_size == (64, 90)
    if found.has("pred_masks"):
        assert found.pred_masks.shape[1:] == (64, 90)
        assert found.pred_masks.dtype == torch.bool


@pytest.mark.slow
def test_training_without_ground_truth_says_what_is_missing() -> None:
    model = small_model("retinanet").train()
    try:
        with EventStorage(), pytest.raises(ValueError, match="'instances'"):
            model([image(64, 64)])
    finally:
        model.eval()


@pytest.mark.slow
def test_wrong_number_of_channels_is_named() -> None:
    with pytest.raises(ValueError, match=r"\[3, H, W\]"):
        small_model("faster_rcnn")([{"image": torch.zeros(4, 64, 64)}])
