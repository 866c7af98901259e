"""Reading images, transforming annotations, making instances of them."""

import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from detectron2.config import get_cfg
from detectron2.data import MetadataCatalog
from detectron2.data import detection_utils as utils
from detectron2.data import transforms as T
from detectron2.data.annotations import transform_annotations
from detectron2.structures import BitMasks, BoxMode, PolygonMasks, RotatedBoxes
from detectron2.utils.image_io import image_size, read_label_map

H, W = 30, 40


def pixels(height: int = H, width: int = W, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_formats_of_real_files(folder) -> None:
    rgb = pixels()
    Image.fromarray(rgb).save("a.png")
    np.testing.assert_array_equal(utils.read_image("a.png", "RGB"), rgb)
    bgr = utils.read_image("a.png", "BGR")
    np.testing.assert_array_equal(bgr, rgb[:, :, ::-1])
    assert bgr.flags.writeable and bgr.flags.c_contiguous
    assert utils.read_image("a.png", "L").shape == (H, W, 1)
    np.testing.assert_array_equal(utils.read_image("a.png"), rgb)
    np.testing.assert_array_equal(utils.read_image("a.png", ""), rgb)
    for name in ("RGB", "BGR", "YUV-BT.601", "HSV", "YCbCr"):
        back = utils.convert_image_to_rgb(utils.read_image("a.png", name), name)
        assert np.abs(back.astype(float) - rgb).mean() < {"HSV": 4, "YCbCr": 2}.get(name, 0.1)
    gray = utils.read_image("a.png", "L")
    assert utils.convert_image_to_rgb(gray, "L").shape == (H, W, 3)
    tensor = torch.from_numpy(bgr)
    np.testing.assert_array_equal(utils.convert_image_to_rgb(tensor, "BGR"), rgb)


def test_palette_alpha_cmyk_and_gray(folder) -> None:
    image = Image.fromarray(pixels())
    image.convert("P").save("p.png")
    image.convert("RGBA").save("t.png")
    image.convert("CMYK").save("c.jpg", quality=95)
    image.convert("L").save("g.png")
    for name in ("p.png", "t.png", "c.jpg", "g.png"):
        assert utils.read_image(name, "BGR").shape == (H, W, 3)
    assert utils.read_image("t.png").shape == (H, W, 4)
    assert utils.read_image("g.png").shape == (H, W)


def test_more_than_8_bits_and_more_than_4_channels(folder) -> None:
    deep = (np.arange(H * W).reshape(H, W) * 50).astype(np.uint16)
    Image.fromarray(deep).save("deep.png")
    kept = utils.read_image("deep.png")
    assert kept.astype(int).max() == deep.max()
    np.testing.assert_array_equal(utils.read_image("deep.png", "L")[:, :, 0], deep >> 8)
    for deep_format, dtype in (("I;16", np.uint16), ("I", np.int32), ("F", np.float32)):
        whole = utils.read_image("deep.png", deep_format)
        assert whole.dtype == dtype
        np.testing.assert_array_equal(whole, deep)
    assert utils.read_image("deep.png", "BGR").shape == (H, W, 3)
    many = np.random.default_rng(0).normal(size=(H, W, 7)).astype(np.float32)
    np.save("many.npy", many)
    np.testing.assert_array_equal(utils.read_image("many.npy", "BGR"), many)
    np.save("flat.npy", many[:, :, 0])
    assert utils.read_image("flat.npy", "L").shape == (H, W, 1)
    np.save("bad.npy", many[None])
    with pytest.raises(ValueError, match=r"bad\.npy"):
        utils.read_image("bad.npy")
    Image.fromarray(many[:, :, 0] * 1000).save("float.tif")
    with pytest.raises(ValueError, match="8 bits"):
        utils.read_image("float.tif", "BGR")


def test_exif_turns_the_picture(folder) -> None:
    rgb = pixels()
    want = {
        1: rgb,
        2: rgb[:, ::-1],
        3: rgb[::-1, ::-1],
        4: rgb[::-1],
        5: rgb.transpose(1, 0, 2),
        6: np.rot90(rgb, -1),
        7: np.rot90(rgb, 2).transpose(1, 0, 2),
        8: np.rot90(rgb),
        99: rgb,
    }
    for tag, upright in want.items():
        exif = Image.Exif()
        exif[274] = tag
        Image.fromarray(rgb).save(f"{tag}.png", exif=exif)
        np.testing.assert_array_equal(utils.read_image(f"{tag}.png", "RGB"), upright)
        assert image_size(f"{tag}.png") == upright.shape[:2]
    np.testing.assert_array_equal(utils._apply_exif_orientation(Image.fromarray(rgb)), rgb)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_broken_exif_does_not_cost_the_picture(folder) -> None:
    Image.fromarray(pixels()).save("a.jpg", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01garbage")
    assert utils.read_image("a.jpg", "RGB").shape == (H, W, 3)


def test_label_maps(folder) -> None:
    labels = (np.arange(H * W).reshape(H, W) % 7).astype(np.uint8)
    palette = Image.fromarray(labels)
    palette.putpalette([200, 10, 10] * 3 + [0, 0, 0] * 253)
    palette.save("p.png")
    np.testing.assert_array_equal(read_label_map("p.png"), labels)
    Image.fromarray(labels.astype(np.uint16) * 1000).save("d.png")
    np.testing.assert_array_equal(read_label_map("d.png"), labels.astype(int) * 1000)
    Image.fromarray(np.stack([labels] * 3, 2)).save("grey.png")
    np.testing.assert_array_equal(read_label_map("grey.png"), labels)
    Image.fromarray(pixels()).save("c.png")
    with pytest.raises(ValueError, match=r"c\.png"):
        read_label_map("c.png")


def test_sizes() -> None:
    record = {}
    utils.check_image_size(record, pixels())
    assert record == {"width": W, "height": H}
    utils.check_image_size(record, pixels())
    with pytest.raises(utils.SizeMismatchError, match="EXIF"):
        utils.check_image_size({"width": H, "height": W, "file_name": "x.jpg"}, pixels())
    with pytest.raises(utils.SizeMismatchError, match=r"x\.jpg is 40 wide"):
        utils.check_image_size({"width": 1, "height": W, "file_name": "x.jpg"}, pixels())


def annotation(**more) -> dict:
    return {"bbox": [5.0, 6.0, 15.0, 26.0], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 1, **more}


def run_lengths(mask: np.ndarray, compressed: bool = True) -> dict:
    rle = mask_util.encode(np.asfortranarray(mask.astype(np.uint8)))
    if compressed:
        return rle
    flat = mask.T.reshape(-1)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flat, [2]])))
    return {"size": list(mask.shape), "counts": np.diff(np.concatenate([[0], edges])).tolist()}


def block() -> np.ndarray:
    mask = np.zeros((H, W), np.uint8)
    mask[6:26, 5:15] = 1
    return mask


@pytest.mark.parametrize("kind", ["polygon", "rle", "uncompressed", "array", "bool", "255"])
def test_every_kind_of_mask_moves_alike(kind: str) -> None:
    segmentation = {
        "polygon": [[5, 6, 15, 6, 15, 26, 5, 26]],
        "rle": run_lengths(block()),
        "uncompressed": run_lengths(block(), False),
        "array": block(),
        "bool": block().astype(bool),
        "255": block() * 255,
    }[kind]
    chain = [T.HFlipTransform(W), T.PadTransform(0, 0, 5, 0, W, H, 0, 255)]
    moved = utils.transform_instance_annotations(annotation(segmentation=segmentation), chain, (H, W + 5))
    instances = utils.annotations_to_instances([moved], (H, W + 5), "bitmask")
    want = np.pad(block()[:, ::-1], [(0, 0), (0, 5)]).astype(bool)
    np.testing.assert_array_equal(instances.gt_masks.tensor[0].numpy(), want)


def test_wrong_masks_are_named() -> None:
    for wrong, words in (("x", "run-length"), ({"a": 1}, "'counts'"), (np.zeros((3, 3)), r"\(3, 3\)")):
        with pytest.raises(ValueError, match=words):
            utils.transform_instance_annotations(annotation(segmentation=wrong), [T.NoOpTransform()], (H, W))
    with pytest.raises(ValueError, match="annotations \\[1\\] of this image have no 'segmentation'"):
        utils.annotations_to_instances([annotation(segmentation=[]), annotation()], (H, W))
    with pytest.raises(ValueError, match="'auto'"):
        utils.annotations_to_instances([annotation(segmentation=block())], (H, W), "polygon")
    with pytest.raises(ValueError, match="mask_format"):
        utils.annotations_to_instances([annotation(segmentation=block())], (H, W), "bits")
    with pytest.raises(ValueError, match="but its image"):
        utils.annotations_to_instances([annotation(segmentation=np.ones((2, 2)))], (H, W), "bitmask")


def test_auto_keeps_polygons_where_it_can() -> None:
    poly = annotation(segmentation=[[5, 6, 15, 6, 15, 26, 5, 26.0]])
    bits = annotation(segmentation=block())
    assert type(utils.annotations_to_instances([poly, poly], (H, W), "auto").gt_masks) is PolygonMasks
    mixed = utils.annotations_to_instances(
        [poly, bits, annotation(segmentation=run_lengths(block()))], (H, W), "auto"
    )
    assert type(mixed.gt_masks) is BitMasks
    assert mixed.gt_masks.tensor.sum((1, 2)).tolist() == [200, 200, 200]


def test_no_annotations() -> None:
    empty = utils.annotations_to_instances([], (H, W))
    assert len(empty) == 0 and empty.gt_boxes.tensor.shape == (0, 4) and empty.gt_classes.dtype == torch.int64
    assert len(utils.filter_empty_instances(empty)) == 0
    kept, mask = utils.filter_empty_instances(empty, return_mask=True)
    assert len(kept) == 0 and mask.shape == (0,)
    assert len(utils.annotations_to_instances_rotated([], (H, W))) == 0
    assert transform_annotations([], [T.HFlipTransform(W)], (H, W)) == []


def test_rotated_boxes_stay_rotated() -> None:
    rotated = {"bbox": [20, 15, 10, 4, 30], "bbox_mode": BoxMode.XYWHA_ABS, "category_id": 2}
    upright = annotation()
    moved = transform_annotations([rotated, upright], T.HFlipTransform(W), (H, W))
    np.testing.assert_allclose(moved[0]["bbox"], [20, 15, 10, 4, -30])
    np.testing.assert_allclose(moved[1]["bbox"], [25, 6, 35, 26])
    instances = utils.annotations_to_instances_rotated(moved[:1], (H, W))
    assert type(instances.gt_boxes) is RotatedBoxes and instances.gt_classes.tolist() == [2]


def test_keypoints() -> None:
    marks = annotation(keypoints=[1, 2, 2, 3, 4, 1, 39, 5, 2, 0, 0, 0])
    flip = T.TransformList([T.HFlipTransform(W)])
    moved = utils.transform_instance_annotations(marks, flip, (H, W), keypoint_hflip_indices=[0, 2, 1, 3])
    np.testing.assert_allclose(moved["keypoints"], [[39, 2, 2], [1, 5, 2], [37, 4, 1], [0, 0, 0]])
    crop = T.CropTransform(2, 0, 10, 10)
    marks = annotation(keypoints=[1, 2, 2, 3, 4, 1, 39, 5, 2])
    cut = utils.transform_instance_annotations(marks, crop, (10, 10))["keypoints"]
    np.testing.assert_allclose(cut, [[0, 0, 0], [1, 4, 1], [0, 0, 0]])
    with pytest.raises(ValueError, match="keypoint_hflip_indices"):
        utils.transform_keypoint_annotations([1, 2, 2], flip, (H, W))
    with pytest.raises(ValueError, match="for 2 keypoints"):
        utils.transform_keypoint_annotations([1, 2, 2], flip, (H, W), [1, 0])
    with pytest.raises(ValueError, match="same number of keypoints"):
        utils.annotations_to_instances([annotation(keypoints=[1, 2, 2]), annotation(keypoints=[])], (H, W))


boxes = st.lists(st.tuples(*[st.floats(-20, 60)] * 4), min_size=0, max_size=6)


@settings(max_examples=40, deadline=None)
@given(boxes, st.booleans())
def test_batched_equals_single_and_clipping_is_idempotent(rows: list, cut: bool) -> None:
    def make() -> list[dict]:
        polygons = [[5, 6, 15, 6, 15, 26], [20, 20, 30, 20, 25, 28.5]]
        return [
            annotation(
                bbox=[x, y, x + abs(w), y + abs(h)] if k % 2 else [x, y, abs(w), abs(h)],
                bbox_mode=BoxMode.XYXY_ABS if k % 2 else BoxMode.XYWH_ABS,
                segmentation=polygons[: 1 + k % 2] if k % 3 else block(),
                keypoints=[x, y, 2, w, h, 1],
            )
            for k, (x, y, w, h) in enumerate(rows)
        ]

    chain = [T.HFlipTransform(W), T.CropTransform(3, 2, 30, 20) if cut else T.ResizeTransform(H, W, 20, 30)]
    args = {"keypoint_hflip_indices": [1, 0]}
    together = transform_annotations(make(), chain, (20, 30), **args)
    single = [utils.transform_instance_annotations(a, chain, (20, 30), **args) for a in make()]
    twice = [
        utils.transform_instance_annotations(dict(a), [T.NoOpTransform()], (20, 30), **args) for a in single
    ]
    for a, b, c in zip(together, single, twice):
        np.testing.assert_array_equal(a["bbox"], b["bbox"])
        np.testing.assert_array_equal(b["bbox"], c["bbox"])
        np.testing.assert_array_equal(a["keypoints"], b["keypoints"])
        assert len(a["segmentation"]) == len(b["segmentation"])
        for p, q in zip(a["segmentation"], b["segmentation"]):
            np.testing.assert_array_equal(p, q)


def test_proposals() -> None:
    record = {
        "proposal_boxes": np.asarray([[0, 0, 10, 10], [35, 0, 50, 10], [1, 1, 2, 30.0], [3, 3, 20, 20]]),
        "proposal_bbox_mode": BoxMode.XYXY_ABS,
        "proposal_objectness_logits": np.asarray([4, 3, 2, 1.0]),
    }
    utils.transform_proposals(record, (H, W), T.HFlipTransform(W), proposal_topk=2, min_box_size=1)
    proposals = record.pop("proposals")
    assert record == {}
    assert proposals.proposal_boxes.tensor.tolist() == [[30, 0, 40, 10], [0, 0, 5, 10]]
    assert proposals.objectness_logits.tolist() == [4, 3]
    utils.transform_proposals(record, (H, W), T.HFlipTransform(W), proposal_topk=2)
    assert record == {}


def test_crop_at_an_instance() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        x0, y0 = rng.uniform(0, [W - 3, H - 3])
        box = {
            "bbox": [x0, y0, rng.uniform(1, W - x0), rng.uniform(1, H - y0)],
            "bbox_mode": BoxMode.XYWH_ABS,
        }
        t = utils.gen_crop_transform_with_instance((12, 100), (H, W), box)
        assert (t.w, t.h) == (W, 12) and t.x0 == 0 and 0 <= t.y0 <= H - 12
        center = utils.get_bbox(box)[1::2].mean()
        assert t.y0 - 1 <= center <= t.y0 + t.h + 1
    with pytest.raises(ValueError, match="outside"):
        utils.gen_crop_transform_with_instance((5, 5), (H, W), annotation(bbox=[100, 0, 110, 10]))


def test_augmentations_of_a_config() -> None:
    cfg = get_cfg()
    resize, flip = utils.build_augmentation(cfg, True)
    assert (resize.short_edge_length, resize.max_size, resize.interp) == ((800,), 1333, 2)
    assert isinstance(flip, T.RandomFlip)
    cfg.INPUT.RESIZE_BACKEND = "torch"
    assert utils.build_augmentation(cfg, False)[0].interp == "fast"
    cfg.INPUT.RESIZE_BACKEND = "opencv"
    with pytest.raises(ValueError, match="RESIZE_BACKEND"):
        utils.build_augmentation(cfg, False)
    cfg.INPUT.RESIZE_BACKEND, cfg.INPUT.RANDOM_FLIP = "pillow", "diagonal"
    with pytest.raises(ValueError, match="diagonal"):
        utils.build_augmentation(cfg, True)


def test_metadata_of_keypoints() -> None:
    name = "test_detection_utils_keypoints"
    MetadataCatalog.get(name).set(keypoint_names=["a", "b", "c"], keypoint_flip_map=[("a", "c")])
    try:
        assert utils.create_keypoint_hflip_indices(name) == [2, 1, 0]
        MetadataCatalog.remove(name)
        MetadataCatalog.get(name).set(keypoint_names=["a", "b", "c"], keypoint_flip_map=[("a", "z")])
        with pytest.raises(ValueError, match="'z'"):
            utils.create_keypoint_hflip_indices([name])
        with pytest.raises(ValueError, match="no data sets"):
            utils.check_metadata_consistency("keypoint_names", [])
    finally:
        MetadataCatalog.remove(name)
