"""Transforms of other libraries: all labels repeat the choices made on the image."""

import random
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from detectron2.data import detection_utils as utils
from detectron2.data import transforms as T
from detectron2.data.transforms.adapters import AlbumentationsAugmentation, TorchvisionAugmentation
from detectron2.structures import BoxMode

H, W = 60, 90
AT = np.s_[20:27, 30:37]  # a white square around the pixel in column 33, row 23
POINT = np.asarray([[33.5, 23.5]])


def scene() -> tuple[np.ndarray, np.ndarray]:
    image, labels = np.zeros((H, W, 3), np.uint8), np.zeros((H, W), np.uint8)
    image[AT], labels[AT] = 255, 1
    return image, labels


TORCHVISION = {
    "flip": v2.RandomHorizontalFlip(1.0),
    "vflip": v2.RandomVerticalFlip(1.0),
    "resize": v2.Resize((90, 120)),
    "affine": v2.RandomAffine(20, translate=(0.1, 0.1), scale=(0.9, 1.3)),
    "perspective": v2.RandomPerspective(0.3, p=1.0),
    "crop": v2.RandomResizedCrop((70, 80), scale=(0.8, 1.0)),
    "zoom": v2.RandomZoomOut(p=1.0, side_range=(1.0, 1.5)),
    "several": [v2.ColorJitter(0.2), v2.RandomRotation(30), v2.RandomHorizontalFlip(0.5)],
    "compose": v2.Compose([v2.RandomApply([v2.RandomRotation(20)]), v2.RandomPosterize(4)]),
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision_labels_follow_the_image(name: str, seed: int) -> None:
    np.random.seed(seed)
    image, labels = scene()
    inputs = T.AugInput(image, sem_seg=labels, boxes=np.asarray([[30.0, 20, 37, 27]]))
    chosen = inputs.apply_augmentations([TorchvisionAugmentation(TORCHVISION[name])])
    assert inputs.image.shape[:2] == inputs.sem_seg.shape and inputs.image.dtype == np.uint8
    x, y = chosen.apply_coords(POINT)[0]
    if 2 < x < inputs.image.shape[1] - 2 and 2 < y < inputs.image.shape[0] - 2:
        assert inputs.image[int(y), int(x)].min() > 120
        assert inputs.sem_seg[int(y), int(x)] == 1
    rows, cols = np.nonzero(inputs.sem_seg)
    assert np.abs([cols.mean() + 0.5 - x, rows.mean() + 0.5 - y]).max() < 1.5 or name == "crop"
    x0, y0, x1, y1 = inputs.boxes[0]
    assert (
        cols.min() >= x0 - 1.5
        and cols.max() <= x1 + 1.5
        and rows.min() >= y0 - 1.5
        and rows.max() <= y1 + 1.5
    )
    again = chosen.apply_image(image.copy())
    np.testing.assert_array_equal(again, inputs.image)


def test_torchvision_leaves_other_generators_alone() -> None:
    torch.manual_seed(1), random.seed(1)
    want = torch.rand(1).item(), random.random()
    torch.manual_seed(1), random.seed(1)
    TorchvisionAugmentation(v2.RandomAffine(30))(T.AugInput(scene()[0]))
    assert (torch.rand(1).item(), random.random()) == want


def test_mirrored_keypoints_change_places() -> None:
    for transform, swapped in ((v2.RandomHorizontalFlip(1.0), True), (v2.RandomRotation((170, 190)), False)):
        inputs = T.AugInput(scene()[0])
        chosen = inputs.apply_augmentations([TorchvisionAugmentation(transform)])
        annotation = {
            "bbox": [30, 20, 37, 27],
            "bbox_mode": BoxMode.XYXY_ABS,
            "keypoints": [33.5, 23.5, 2, 40, 30, 1],
        }
        moved = utils.transform_instance_annotations(
            annotation, chosen, (H, W), keypoint_hflip_indices=[1, 0]
        )
        assert (moved["keypoints"][0, 2] == 1) == swapped


def test_gray_empty_and_wrong_size() -> None:
    inputs = T.AugInput(scene()[0][:, :, 0])
    chosen = inputs.apply_augmentations([TorchvisionAugmentation(v2.Resize((30, 45)))])
    assert inputs.image.shape == (30, 45)
    assert chosen.apply_coords(np.zeros((0, 2))).shape == (0, 2)
    with pytest.raises(ValueError, match="was made for"):
        chosen.apply_image(np.zeros((5, 5), np.uint8))
    with pytest.raises(ValueError, match="was made for"):
        chosen.apply_segmentation(np.zeros((5, 5), np.uint8))


class Pipeline:
    """What albumentations' ReplayCompose looks like from outside: a random flip and a random shift."""

    keeps_points = True

    def __call__(self, **data: Any) -> dict[str, Any]:
        saved = {"flip": random.random() < 0.5, "shift": random.randint(0, 10)}
        return {**self._apply(saved, **data), "replay": saved}

    @staticmethod
    def replay(saved: dict[str, Any], **data: Any) -> dict[str, Any]:
        return Pipeline._apply(saved, **data)

    @staticmethod
    def _apply(saved: dict[str, Any], **data: Any) -> dict[str, Any]:
        width = data["image"].shape[1]
        out = dict(data)
        for key in ("image", "mask"):
            if key in data:
                moved = np.roll(data[key], saved["shift"], axis=1)
                out[key] = moved[:, ::-1] if saved["flip"] else moved
        points = []
        for x, y in data.get("keypoints", []):
            x = x + saved["shift"]
            points.append((width - 1 - x if saved["flip"] else x, y))
        out["keypoints"] = points if Pipeline.keeps_points else points[1:]
        return out


@pytest.mark.parametrize("seed", range(6))
def test_albumentations_style_labels_follow_the_image(seed: int) -> None:
    random.seed(seed)
    image, labels = scene()
    inputs = T.AugInput(image, sem_seg=labels, boxes=np.asarray([[30.0, 20, 37, 27]]))
    chosen = inputs.apply_augmentations([AlbumentationsAugmentation(Pipeline())])
    x, y = chosen.apply_coords(POINT)[0]
    rows, cols = np.nonzero(inputs.sem_seg)
    assert (cols.mean() + 0.5, rows.mean() + 0.5) == (x, y)
    np.testing.assert_array_equal(inputs.image[:, :, 0] > 0, inputs.sem_seg > 0)
    assert inputs.boxes[0].tolist() == [cols.min(), rows.min(), cols.max() + 1, rows.max() + 1]
    saved = chosen[0]._saved
    assert chosen[0].mirrors == saved["flip"]
    np.testing.assert_array_equal(chosen.apply_image(image.copy()), inputs.image)


def test_lost_keypoints_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = AlbumentationsAugmentation(Pipeline()).get_transform(scene()[0])
    monkeypatch.setattr(Pipeline, "keeps_points", False)
    with pytest.raises(ValueError, match="remove_invisible"):
        chosen.apply_coords(POINT)


def test_albumentations_missing() -> None:
    try:
        import albumentations  # noqa: F401
    except ImportError:
        with pytest.raises(ImportError, match="pip install albumentations"):
            AlbumentationsAugmentation([object()])
    else:
        pytest.skip("albumentations is installed")
