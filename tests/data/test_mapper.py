"""DatasetMapper on real files."""

import copy
import logging
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from detectron2.config import get_cfg
from detectron2.data import DatasetMapper
from detectron2.data import transforms as T
from detectron2.data.dataset_mapper import _asks_for_boxes, _copy_record
from detectron2.structures import BitMasks, BoxMode, PolygonMasks, RotatedBoxes

H, W = 60, 90


@pytest.fixture
def record(tmp_path) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (H, W, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    Image.fromarray((np.arange(H * W).reshape(H, W) % 5).astype(np.uint8)).save(tmp_path / "s.png")
    annotations = []
    for k in range(3):
        x, y = 10 + 20 * k, 5 + 10 * k
        annotations.append(
            {
                "bbox": [x, y, 16, 12],
                "bbox_mode": BoxMode.XYWH_ABS,
                "category_id": k,
                "iscrowd": int(k == 2),
                "segmentation": [[x, y, x + 16, y, x + 16, y + 12, x, y + 12]],
                "keypoints": [x, y, 2, x + 16, y + 12, 1],
            }
        )
    return {
        "file_name": str(tmp_path / "a.png"),
        "sem_seg_file_name": str(tmp_path / "s.png"),
        "height": H,
        "width": W,
        "image_id": 7,
        "annotations": annotations,
    }


def mapper(*augmentations: Any, train: bool = True, **kwargs: Any) -> DatasetMapper:
    return DatasetMapper(train, **{"augmentations": augmentations, "image_format": "BGR", **kwargs})


def test_training(record: dict[str, Any]) -> None:
    before = copy.deepcopy(record)
    out = mapper(
        T.Resize((120, 180)),
        T.RandomFlip(1.0),
        use_instance_mask=True,
        use_keypoint=True,
        keypoint_hflip_indices=[1, 0],
    )(record)
    assert record == before
    assert (
        out["image"].shape == (3, 120, 180)
        and out["image"].dtype == torch.uint8
        and out["image"].is_contiguous()
    )
    instances = out["instances"]
    assert instances.image_size == (120, 180)
    assert instances.gt_classes.tolist() == [0, 1]  # crowds are left out
    assert instances.gt_boxes.tensor.tolist() == [[128, 10, 160, 34], [88, 30, 120, 54]]
    assert type(instances.gt_masks) is PolygonMasks and instances.gt_masks.area().tolist() == [32 * 24] * 2
    assert instances.gt_keypoints.tensor[0].tolist() == [[128, 34, 1], [160, 10, 2]]
    assert out["sem_seg"].shape == (120, 180) and out["sem_seg"].dtype == torch.int64
    assert "annotations" not in out and "sem_seg_file_name" not in out
    assert (out["height"], out["width"], out["image_id"]) == (H, W, 7)


def test_inference_drops_labels(record: dict[str, Any]) -> None:
    out = mapper(train=False)(record)
    want = np.asarray(Image.open(record["file_name"]))[:, :, ::-1].transpose(2, 0, 1)
    np.testing.assert_array_equal(out["image"].numpy(), want)
    assert sorted(out) == ["file_name", "height", "image", "image_id", "sem_seg", "width"]


@pytest.mark.parametrize("annotations", [[], None], ids=["empty", "absent"])
@pytest.mark.parametrize("mask_format", ["polygon", "bitmask", "auto"])
def test_images_without_objects(record: dict[str, Any], annotations: Any, mask_format: str) -> None:
    record.pop("annotations")
    if annotations is not None:
        record["annotations"] = annotations
    crop = T.RandomCrop("relative", (0.5, 0.5))
    out = mapper(crop, use_instance_mask=True, instance_mask_format=mask_format, recompute_boxes=True)(record)
    assert ("instances" in out) == (annotations is not None)
    if annotations is not None:
        assert len(out["instances"]) == 0 and out["instances"].gt_boxes.tensor.shape == (0, 4)


def test_boxes_from_masks_after_a_crop(record: dict[str, Any]) -> None:
    triangle = [[10, 5, 26, 5, 10, 17]]
    record["annotations"][0]["segmentation"] = triangle
    crop = T.CropTransform(0, 11, W, H - 11, W, H)  # the lower half of the triangle is narrower than its box
    moved = mapper(crop, use_instance_mask=True)(copy.deepcopy(record))["instances"]
    tight = mapper(crop, use_instance_mask=True, recompute_boxes=True)(record)["instances"]
    assert moved.gt_boxes.tensor[0].tolist() == [10, 0, 26, 6]
    assert tight.gt_boxes.tensor[0].tolist() == [10, 0, 18, 6]
    with pytest.raises(ValueError, match="use_instance_mask"):
        mapper(recompute_boxes=True)


def test_what_a_crop_loses_is_dropped(record: dict[str, Any]) -> None:
    out = mapper(T.CropTransform(0, 0, 20, 20, W, H), use_instance_mask=True)(record)
    assert out["instances"].gt_classes.tolist() == [0]


def test_mixed_masks(record: dict[str, Any]) -> None:
    mask = np.zeros((H, W), np.uint8)
    mask[15:27, 30:46] = 1
    record["annotations"][1]["segmentation"] = mask
    out = mapper(T.RandomFlip(1.0), use_instance_mask=True, instance_mask_format="auto")(record)["instances"]
    assert type(out.gt_masks) is BitMasks
    assert out.gt_masks.tensor.sum((1, 2)).tolist() == [192, 192]
    with pytest.raises(ValueError, match="auto"):
        mapper(use_instance_mask=True)(record)


def test_rotated_data(record: dict[str, Any]) -> None:
    for annotation in record["annotations"]:
        annotation.update(bbox=[40, 30, 20, 10, 30], bbox_mode=BoxMode.XYWHA_ABS)
    boxes = mapper(T.RandomFlip(1.0))(record)["instances"].gt_boxes
    assert type(boxes) is RotatedBoxes
    torch.testing.assert_close(boxes.tensor[0], torch.tensor([50.0, 30, 20, 10, -30]))


def test_augmentations_may_look_at_boxes(record: dict[str, Any]) -> None:
    seen = []

    class Look(T.Augmentation):
        def get_transform(self, image: np.ndarray, boxes: np.ndarray) -> T.Transform:
            seen.append(boxes)
            return T.NoOpTransform()

    mapper(T.HFlipTransform(W), Look())(record)
    assert seen[0].tolist() == [[64, 5, 80, 17], [44, 15, 60, 27]]
    mapper(Look(), train=False)(record)
    assert seen[1] is None
    assert _asks_for_boxes(T.AugmentationList([T.RandomApply(T.MinIoURandomCrop())]))
    assert not _asks_for_boxes(T.AugmentationList([T.RandomFlip(), T.NoOpTransform()]))


def test_from_config(record: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    cfg = get_cfg()
    cfg.INPUT.CROP.ENABLED = True
    cfg.MODEL.MASK_ON = True
    cfg.INPUT.MIN_SIZE_TRAIN = (40,)
    with caplog.at_level(logging.INFO):
        train = DatasetMapper(cfg, True)
    assert "RandomCrop" in caplog.text and "training" in caplog.text
    assert [type(a) for a in train.augmentations.augs] == [T.RandomCrop, T.ResizeShortestEdge, T.RandomFlip]
    assert train.recompute_boxes and train.use_instance_mask
    assert min(train(record)["image"].shape[1:]) == 40
    test = DatasetMapper(cfg, is_train=False)
    assert not test.recompute_boxes and len(test.augmentations.augs) == 1
    cfg.MODEL.LOAD_PROPOSALS = True
    assert DatasetMapper(cfg, False).proposal_topk == 1000
    assert DatasetMapper(cfg, True).proposal_topk == 2000


def test_backends_differ_by_a_level_at_most(record: dict[str, Any]) -> None:
    cfg = get_cfg()
    cfg.INPUT.MIN_SIZE_TEST = 100
    exact = DatasetMapper(cfg, False)(record)["image"].int()
    cfg.INPUT.RESIZE_BACKEND = "torch"
    fast = DatasetMapper(cfg, False)(record)["image"].int()
    assert fast.shape == exact.shape and (fast - exact).abs().max() <= 1


def test_subclass_may_replace_the_annotations(record: dict[str, Any]) -> None:
    class Count(DatasetMapper):
        def _transform_annotations(self, dataset_dict, transforms, image_shape) -> None:
            dataset_dict["instances"] = (len(dataset_dict.pop("annotations")), len(transforms), image_shape)

    out = Count(True, augmentations=[T.Resize(50)], image_format="RGB")(record)
    assert out["instances"] == (3, 1, (50, 50))


def test_pictures_of_many_channels(record: dict[str, Any], tmp_path) -> None:
    np.save(tmp_path / "a.npy", np.random.default_rng(0).normal(size=(H, W, 6)).astype(np.float32))
    record["file_name"] = str(tmp_path / "a.npy")
    out = mapper(T.Resize((30, 45)), T.RandomFlip(1.0))(record)["image"]
    assert out.shape == (6, 30, 45) and out.dtype == torch.float32


def test_copies_are_deep_enough(record: dict[str, Any]) -> None:
    record["annotations"][0]["segmentation"] = np.ones((2, 2))
    copied = _copy_record(record)
    assert copied["annotations"][1] == record["annotations"][1]
    copied["annotations"][1]["segmentation"][0][0] = -1
    copied["annotations"][0]["segmentation"][0, 0] = -1
    copied["annotations"][0]["bbox"][0] = -1
    assert record["annotations"][1]["segmentation"][0][0] == 30
    assert record["annotations"][0]["segmentation"][0, 0] == 1
    assert record["annotations"][0]["bbox"][0] == 10
