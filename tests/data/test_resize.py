"""Resizing: Pillow's bytes, the fast kernel, types beyond uint8, and the way to tensors."""

import numpy as np
import pytest
import torch
from PIL import Image

from detectron2.data import transforms as T
from detectron2.data.transforms.operations.resample import to_chw_tensor

H, W = 40, 60


def picture(height: int = H, width: int = W, channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


@pytest.mark.parametrize("size", [(20, 30), (90, 130), (1, 1), (40, 61), (13, 150)])
@pytest.mark.parametrize("interp", ["NEAREST", "BILINEAR", "BICUBIC", "LANCZOS", "BOX"])
def test_resize_gives_pillows_bytes(size: tuple[int, int], interp: str) -> None:
    flag = Image.Resampling[interp]
    got = T.ResizeTransform(H, W, *size, flag).apply_image(picture())
    want = np.asarray(Image.fromarray(picture()).resize(size[::-1], flag))
    np.testing.assert_array_equal(got, want)
    gray = T.ResizeTransform(H, W, *size, flag).apply_image(picture()[:, :, 1])
    np.testing.assert_array_equal(gray, want[:, :, 1])


@pytest.mark.parametrize("channels", [1, 2, 5, 7])
def test_resize_treats_channels_alike(channels: int) -> None:
    image = picture(channels=channels)
    got = T.ResizeTransform(H, W, 33, 71).apply_image(image)
    planes = [np.asarray(Image.fromarray(image[:, :, c]).resize((71, 33), 2)) for c in range(channels)]
    np.testing.assert_array_equal(got, np.stack(planes, axis=2))


@pytest.mark.parametrize("size", [(80, 101), (20, 31), (40, 60)])
@pytest.mark.parametrize("view", ["plain", "flipped", "gray", "two"])
def test_fast_resize_is_one_level_off_at_most(size: tuple[int, int], view: str) -> None:
    image = {
        "plain": picture(),
        "flipped": picture()[::-1, ::-1],
        "gray": picture()[:, :, 0],
        "two": picture()[:, :, :2],
    }
    exact = T.ResizeTransform(H, W, *size).apply_image(image[view]).astype(int)
    fast = T.ResizeTransform(H, W, *size, "fast").apply_image(image[view])
    assert fast.dtype == np.uint8 and fast.shape == exact.shape
    assert np.abs(fast - exact).max() <= 1
    assert (fast != exact).mean() < 0.02


def test_resize_of_other_types() -> None:
    labels = np.arange(H * W).reshape(H, W)  # int64, more than 16 bits would hold if it were larger
    twice = T.ResizeTransform(H, W, 2 * H, 2 * W).apply_segmentation(labels)
    np.testing.assert_array_equal(twice, labels.repeat(2, 0).repeat(2, 1))
    deep = (picture().astype(np.uint16) * 257)[:, :, :2]
    smooth = T.ResizeTransform(H, W, 2 * H, 2 * W).apply_image(deep)
    assert smooth.dtype == np.uint16 and smooth.max() > 60000
    assert T.ResizeTransform(H, W, H, W).apply_image(picture().astype(np.float16)).dtype == np.float16
    with pytest.raises(ValueError, match="can be resized with"):
        T.ResizeTransform(H, W, 5, 5, Image.Resampling.LANCZOS).apply_image(deep.astype(np.float32))
    with pytest.raises(ValueError, match="height 40 and width 60"):
        T.ResizeTransform(H, W, 5, 5).apply_image(picture(10, 10))
    with pytest.raises(ValueError, match="'fast'"):
        T.ResizeTransform(H, W, 5, 5, "quick").apply_image(picture())
    with pytest.raises(TypeError, match="bool"):
        T.ResizeTransform(H, W, 5, 5).apply_image(picture() > 3)
    mask = T.ResizeTransform(H, W, 5, 5).apply_segmentation(picture()[:, :, 0] > 3)
    assert mask.dtype == np.bool_ and mask.shape == (5, 5)


@pytest.mark.parametrize(
    "layout", ["plain", "flipped", "both", "planar", "planar_flipped", "gray", "readonly", "crop"]
)
def test_chw_tensor_is_a_contiguous_copy(layout: str) -> None:
    base = picture()
    planar = np.ascontiguousarray(base.transpose(2, 0, 1)).transpose(1, 2, 0)
    frozen = picture()
    frozen.flags.writeable = False
    image = {
        "plain": base,
        "flipped": base[:, ::-1],
        "both": base[::-1, ::-1, ::-1],
        "planar": planar,
        "planar_flipped": planar[:, ::-1],
        "gray": base[:, :, 0],
        "readonly": frozen,
        "crop": base[3:20, 4:9],
    }[layout]
    want = np.array(image if image.ndim == 3 else image[:, :, None]).transpose(2, 0, 1)
    got = to_chw_tensor(image)
    assert got.is_contiguous()
    np.testing.assert_array_equal(got.numpy(), want)
    base[:], planar[:] = 0, 0
    np.testing.assert_array_equal(got.numpy(), want)
    assert to_chw_tensor(np.full((2, 2), 65535, np.uint16)).dtype == torch.int32


@pytest.mark.parametrize("layout", ["plain", "planar", "gray", "readonly", "float"])
@pytest.mark.parametrize("axis", [0, 1])
def test_mirrored_images_can_go_to_torch(layout: str, axis: int) -> None:
    frozen = picture()
    frozen.flags.writeable = False
    image = {
        "plain": picture(),
        "planar": np.ascontiguousarray(picture().transpose(2, 0, 1)).transpose(1, 2, 0),
        "gray": picture()[:, :, 0],
        "readonly": frozen,
        "float": picture() / 3.0,
    }[layout]
    flip = T.HFlipTransform(W) if axis else T.VFlipTransform(H)
    got = flip.apply_image(image)
    np.testing.assert_array_equal(torch.from_numpy(got).numpy(), np.flip(image, axis))
    np.testing.assert_array_equal(flip.inverse().apply_image(got), image)
    assert not np.shares_memory(got, image)
