"""Test-time augmentation of models from either kind of config."""

import pytest
import torch

from detectron2 import model_zoo
from detectron2.config import instantiate
from detectron2.modeling import GeneralizedRCNNWithTTA, build_model
from detectron2.modeling.test_time_augmentation import DatasetMapperTTA


@pytest.mark.parametrize("suffix", ["yaml", "py"])
def test_either_kind_of_config(suffix: str) -> None:
    torch.manual_seed(0)
    cfg = model_zoo.get_config(f"COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.{suffix}")
    if suffix == "yaml":
        cfg.MODEL.DEVICE = "cpu"
        model = build_model(cfg)
    else:
        model = instantiate(cfg.model)
    merged = GeneralizedRCNNWithTTA(
        cfg, model.eval(), DatasetMapperTTA(min_sizes=[64, 96], max_size=128, flip=True)
    )
    image = torch.randint(0, 255, (3, 64, 80), dtype=torch.uint8)
    with torch.no_grad():
        found = merged([{"image": image, "height": 128, "width": 160}])[0]["instances"]
    assert found.image_size == (128, 160)
    assert len(found) <= 100
    assert found.pred_masks.shape == (len(found), 128, 160)
    assert (found.scores[:-1] >= found.scores[1:]).all()
