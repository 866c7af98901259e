"""Augmentations of semantic PointRend: colours against colorsys, and what a config asks for."""

from __future__ import annotations

import colorsys
import random
import sys
from pathlib import Path

import numpy as np
import pytest

from detectron2.data import transforms as T
from detectron2.projects.point_rend import ColorAugSSDTransform, color_augmentation
from detectron2.projects.point_rend.semantic_augmentation import build_sem_seg_train_aug

sys.path.insert(0, str(Path(__file__).parent))
from _point_models import SEMANTIC, config


@pytest.fixture
def picture() -> np.ndarray:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 8, 3), dtype=np.uint8)
    pixels[0] = [
        [0, 0, 0],
        [255, 255, 255],
        [128, 128, 128],
        [255, 0, 0],
        [0, 255, 0],
        [0, 0, 255],
        [9, 9, 8],
        [0, 1, 0],
    ]
    return pixels


def through_hsv(bgr: np.ndarray, turn: int, factor: float) -> np.ndarray:
    """Turn the hue, in steps of 2 degrees, and multiply the saturation of every pixel, one by one, in 8 bits each."""
    out = np.empty_like(bgr)
    for at in np.ndindex(bgr.shape[:2]):
        b, g, r = bgr[at] / 255
        h, s, v = colorsys.rgb_to_hsv(r, g, b)
        hue, saturation = (int(h * 180 + 0.5) + turn) % 180, min(255, int(int(s * 255 + 0.5) * factor))
        out[at] = np.rint(np.asarray(colorsys.hsv_to_rgb(hue / 180, saturation / 255, v)) * 255)[::-1]
    return out


def always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(color_augmentation, "_coin", lambda: True)


@pytest.mark.parametrize("factor", [0.0, 0.4, 1.0, 1.5])
def test_saturation(picture: np.ndarray, factor: float, monkeypatch: pytest.MonkeyPatch) -> None:
    always(monkeypatch)
    found = ColorAugSSDTransform("BGR", saturation_low=factor, saturation_high=factor).saturation(picture)
    expected = through_hsv(picture, 0, factor)
    assert np.abs(found.astype(int) - expected).max() <= 1  # a half may be rounded either way


@pytest.mark.parametrize("shift", [-18, 0, 7, 90])
def test_hue(picture: np.ndarray, shift: int, monkeypatch: pytest.MonkeyPatch) -> None:
    always(monkeypatch)
    monkeypatch.setattr(random, "randint", lambda low, high: shift)
    found = ColorAugSSDTransform("BGR").hue(picture)
    assert np.abs(found.astype(int) - through_hsv(picture, shift, 1)).max() <= 1


@pytest.mark.parametrize("width", [24, 32, 77])
def test_hue_is_that_of_opencv(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    cv2 = pytest.importorskip("cv2")
    always(monkeypatch)
    monkeypatch.setattr(random, "randint", lambda low, high: 0)
    image = np.random.default_rng(0).integers(0, 256, (50, width, 3), dtype=np.uint8)
    there = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
    wanted = cv2.cvtColor(there, cv2.COLOR_HSV2BGR)
    assert all(
        np.array_equal(a[..., 0], b) for a, b in zip(color_augmentation._hsv(image), np.moveaxis(there, 2, 0))
    )
    off = ColorAugSSDTransform("BGR").hue(image).astype(int) - wanted
    assert np.abs(off).max() <= 1  # builds of OpenCV round differently


def test_brightness_and_contrast_clip(picture: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    always(monkeypatch)
    change = ColorAugSSDTransform("BGR", contrast_low=2, contrast_high=2)
    assert np.array_equal(change.contrast(picture), np.minimum(picture.astype(int) * 2, 255))
    monkeypatch.setattr(random, "uniform", lambda low, high: low)
    assert np.array_equal(change.brightness(picture), np.maximum(picture.astype(int) - 32, 0))


def test_order_of_channels_makes_no_difference(picture: np.ndarray) -> None:
    for seed in range(8):
        random.seed(seed)
        bgr = ColorAugSSDTransform("BGR").apply_image(picture)
        random.seed(seed)
        rgb = ColorAugSSDTransform("RGB").apply_image(picture[:, :, ::-1])
        assert np.array_equal(bgr, rgb[:, :, ::-1])
        assert rgb.dtype == np.uint8


def test_shapes_stay(picture: np.ndarray) -> None:
    change, points = ColorAugSSDTransform("RGB"), np.random.rand(4, 2)
    assert change.apply_coords(points) is points
    assert change.apply_segmentation(picture[:, :, 0]).base is picture
    assert isinstance(change.inverse(), T.NoOpTransform)
    with pytest.raises(ValueError, match="img_format"):
        ColorAugSSDTransform("L")


def test_augmentations_of_a_config() -> None:
    cfg = config(SEMANTIC)
    names = [type(a).__name__ for a in build_sem_seg_train_aug(cfg)]
    assert names == [
        "ResizeShortestEdge",
        "RandomCrop_CategoryAreaConstraint",
        "ColorAugSSDTransform",
        "RandomFlip",
    ]
    cfg.merge_from_list(["INPUT.CROP.ENABLED", False, "INPUT.COLOR_AUG_SSD", False])
    assert [type(a).__name__ for a in build_sem_seg_train_aug(cfg)] == ["ResizeShortestEdge", "RandomFlip"]


def test_augmentations_run(picture: np.ndarray) -> None:
    cfg = config(SEMANTIC)
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.CROP.SIZE = (64,), [32, 48]
    inputs = T.AugInput(
        np.kron(picture, np.ones((8, 8, 1), dtype=np.uint8)), sem_seg=np.zeros((72, 64), dtype=np.uint8)
    )
    T.AugmentationList(build_sem_seg_train_aug(cfg))(inputs)
    assert inputs.image.shape == (32, 48, 3)
    assert inputs.sem_seg is not None
    assert inputs.sem_seg.shape == (32, 48)
