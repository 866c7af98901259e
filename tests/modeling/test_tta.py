"""Test-time augmentation of models from either kind of config."""

import sys
from pathlib import Path

import pytest
import torch

from detectron2 import model_zoo
from detectron2.config import instantiate
from detectron2.modeling import GeneralizedRCNNWithTTA
from detectron2.modeling.test_time_augmentation import DatasetMapperTTA
from detectron2.structures import Boxes, Instances

sys.path.insert(0, str(Path(__file__).parent))
from _models import image, small_config, small_model


def test_a_lazy_config() -> None:
    torch.manual_seed(0)
    cfg = model_zoo.get_config("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.py")
    cfg.model.backbone.bottom_up.stages.depth = 18
    del cfg.model.backbone.bottom_up.stages["stride_in_1x1"]
    cfg.model.roi_heads.box_head.fc_dims = [16]
    cfg.model.roi_heads.box_predictor.input_shape.channels = 16
    cfg.model.roi_heads.box_predictor.update(test_topk_per_image=7, test_score_thresh=0.0)
    cfg.model.roi_heads.mask_head.conv_dims = [16, 16]
    cfg.model.proposal_generator.post_nms_topk = [50, 50]
    merged = GeneralizedRCNNWithTTA(
        cfg, instantiate(cfg.model).eval(), DatasetMapperTTA(min_sizes=[48, 64], max_size=96, flip=True)
    )
    image = torch.randint(0, 255, (3, 64, 80), dtype=torch.uint8)
    with torch.no_grad():
        found = merged([{"image": image, "height": 128, "width": 160}])[0]["instances"]
    assert found.image_size == (128, 160)
    assert found.pred_masks.shape == (7, 128, 160)
    assert (found.scores[:-1] >= found.scores[1:]).all()


@pytest.mark.parametrize("name", ["keypoint_rcnn", "mask_rcnn"])
def test_one_version_alone_is_the_plain_model(name: str) -> None:
    model = small_model(name)
    item = {**image(128, 160), "height": 128, "width": 160}
    once = GeneralizedRCNNWithTTA(small_config(name), model, DatasetMapperTTA([128], 1000, flip=False))
    with torch.no_grad():
        (want,), (got,) = model([item]), once([item])
    want, got = want["instances"], got["instances"]
    assert len(want) > 0
    assert set(want.get_fields()) == set(got.get_fields())
    torch.testing.assert_close(got.scores, want.scores)
    torch.testing.assert_close(got.pred_boxes.tensor, want.pred_boxes.tensor)
    if name == "keypoint_rcnn":
        torch.testing.assert_close(
            got.pred_keypoint_heatmaps, want.pred_keypoint_heatmaps, rtol=1e-4, atol=1e-4
        )
        torch.testing.assert_close(got.pred_keypoints, want.pred_keypoints, rtol=1e-4, atol=1e-3)
    else:
        assert (got.pred_masks != want.pred_masks).float().mean() < 1e-3


def symmetric_tta(monkeypatch: pytest.MonkeyPatch) -> tuple[GeneralizedRCNNWithTTA, dict]:
    """A model that is given two boxes that mirror each other and one that mirrors itself, and a symmetric image."""
    tta = GeneralizedRCNNWithTTA(
        small_config("keypoint_rcnn"),
        small_model("keypoint_rcnn"),
        DatasetMapperTTA([96, 128], 1000, flip=True),
    )
    boxes = torch.tensor([[10.0, 20, 60, 100], [100, 20, 150, 100], [40, 30, 120, 90]])
    given = Instances(
        (128, 160),
        pred_boxes=Boxes(boxes),
        scores=torch.tensor([0.9, 0.9, 0.8]),
        pred_classes=torch.zeros(3, dtype=torch.int64),
    )
    monkeypatch.setattr(tta, "_merge_detections", lambda *_: given)
    half = image(128, 80)["image"].to(torch.uint8)
    return tta, {"image": torch.cat((half, half.flip(dims=[2])), dim=2), "height": 128, "width": 160}


def test_symmetric_image_gives_symmetric_keypoints(monkeypatch: pytest.MonkeyPatch) -> None:
    tta, item = symmetric_tta(monkeypatch)
    with torch.no_grad():
        found = tta([item])[0]["instances"]
    assert tta.keypoint_hflip_indices is not None
    partner = list(tta.keypoint_hflip_indices)  # COCO: the nose stays, eyes, ears, … change places
    assert partner[:5] == [0, 2, 1, 4, 3]
    mirrored = found.pred_keypoint_heatmaps.flip(dims=[3])[:, partner]
    torch.testing.assert_close(mirrored[[1, 0, 2]], found.pred_keypoint_heatmaps, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(mirrored[2], found.pred_keypoint_heatmaps[2][partner], atol=1e-3)
    left, right = found.pred_keypoints[0], found.pred_keypoints[1][partner]
    torch.testing.assert_close(left[:, 0], 160 - right[:, 0], rtol=0, atol=1e-2)
    torch.testing.assert_close(left[:, 1:], right[:, 1:], rtol=1e-3, atol=1e-2)


def test_pairs_of_keypoints_must_be_known(monkeypatch: pytest.MonkeyPatch) -> None:
    tta, item = symmetric_tta(monkeypatch)
    tta.cfg.DATASETS.TEST = ("keypoints_without_pairs",)
    with pytest.raises(ValueError, match=r"keypoints_without_pairs.*keypoint_flip_map"):
        tta([item])
    tta.keypoint_hflip_indices = [0, 1]
    with pytest.raises(ValueError, match="permutation of 17 keypoints"):
        tta([item])
    tta.keypoint_hflip_indices = list(range(17))
    assert len(tta([item])[0]["instances"]) == 3
