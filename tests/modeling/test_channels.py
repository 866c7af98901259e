"""Images of any number of channels and of 16 bits, from the file to the first convolution."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from detectron2.data import DatasetMapper
from detectron2.modeling import build_model
from detectron2.structures import BoxMode
from detectron2.utils.events import EventStorage

sys.path.insert(0, str(Path(__file__).parent))
from _models import small_config


def record(path: Path) -> dict:
    box = {"bbox": [8, 8, 40, 50], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 1, "iscrowd": 0}
    return {"file_name": str(path), "image_id": 1, "height": 64, "width": 96, "annotations": [box]}


@pytest.mark.parametrize(("channels", "image_format"), [(1, "I;16"), (1, "F"), (5, "BGR")])
def test_deep_images_of_many_channels_reach_the_stem_as_they_are(
    tmp_path: Path, channels: int, image_format: str
) -> None:
    values = np.random.default_rng(0).integers(0, 60_000, (64, 96, channels), dtype=np.uint16)
    if channels == 1:
        path = tmp_path / "deep.png"
        Image.fromarray(values[:, :, 0]).save(path)
    else:
        path = tmp_path / "deep.npy"
        np.save(path, values)
    mean, std = [1000.0 * (i + 1) for i in range(channels)], [2000.0] * channels
    cfg = small_config(
        "faster_rcnn",
        *("MODEL.PIXEL_MEAN", mean, "MODEL.PIXEL_STD", std),
        *("INPUT.FORMAT", image_format, "INPUT.MIN_SIZE_TRAIN", (64,)),
    )
    model = build_model(cfg)
    assert model.backbone.bottom_up.stem.conv1.weight.shape[1] == channels
    item = DatasetMapper(cfg, is_train=True, augmentations=[])(record(path))
    assert item["image"].shape == (channels, 64, 96)

    seen = []
    model.backbone.bottom_up.stem.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with EventStorage():
        losses = model([item])
        sum(losses.values()).backward()
    want = (
        torch.from_numpy(values.astype(np.float32)).permute(2, 0, 1) - torch.tensor(mean)[:, None, None]
    ) / 2000
    torch.testing.assert_close(seen[0][0, :, :64, :96], want)
    gradient = model.backbone.bottom_up.stem.conv1.weight.grad
    assert gradient is not None and bool(gradient.abs().sum(dim=(0, 2, 3)).gt(0).all())
    with torch.no_grad():
        (found,) = model.eval()([{"image": item["image"], "height": 64, "width": 96}])
    assert found["instances"].image_size == (64, 96)
