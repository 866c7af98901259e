"""Drawing: exact coverage, outlines that round-trip, and every form of input."""

import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch
from PIL import Image

from detectron2.data import Metadata
from detectron2.structures import BitMasks, Boxes, BoxMode, Instances, PolygonMasks, RotatedBoxes
from detectron2.utils.colormap import colormap, random_color, random_colors
from detectron2.utils.video_visualizer import VideoVisualizer
from detectron2.utils.visualizer import ColorMode, GenericMask, VisImage, Visualizer, _create_text_labels
from detectron2.visualization.colors import change_brightness, to_rgb
from detectron2.visualization.masks import trace_outlines

H, W = 60, 80


@pytest.fixture
def image():
    return np.full((H, W, 3), 128, dtype=np.uint8)


@pytest.fixture
def metadata():
    return Metadata().set(
        thing_classes=["ant", "bee"], thing_colors=[(255, 0, 0), (0, 0, 255)], stuff_classes=["sky", "sea"]
    )


def predictions(n=3):
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 30, (n, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(8, 25, (n, 2))], 1)
    masks = torch.zeros(n, H, W, dtype=torch.bool)
    for m, (x0, y0, x1, y1) in zip(masks, boxes.astype(int).tolist()):
        m[y0:y1, x0:x1] = True
    found = Instances(
        (H, W), pred_boxes=Boxes(torch.from_numpy(boxes).float()), scores=torch.linspace(0.9, 0.4, n)
    )
    found.pred_classes, found.pred_masks = torch.arange(n) % 2, masks
    return found


@pytest.mark.parametrize("seed", range(20))
def test_outlines_enclose_exactly_the_mask(seed):
    rng = np.random.default_rng(seed)
    mask = rng.random((9, 11)) < rng.choice([0.2, 0.5, 0.8])
    outlines = trace_outlines(mask)
    signed = sum(
        (-1 if hole else 1)
        * abs(np.dot(p[:, 0], np.roll(p[:, 1], -1)) - np.dot(p[:, 1], np.roll(p[:, 0], -1)))
        / 2
        for p, hole in outlines
    )
    assert signed == mask.sum()
    big = np.kron(mask, np.ones((8, 8), dtype=bool))
    outer = [(p * 8).reshape(-1).tolist() for p, hole in outlines if not hole]
    inner = [(p * 8).reshape(-1).tolist() for p, hole in outlines if hole]

    def area(rings):
        return (
            np.sum([mask_util.decode(r).astype(int) for r in mask_util.frPyObjects(rings, *big.shape)], 0)
            if rings
            else 0
        )

    np.testing.assert_array_equal(area(outer) - area(inner), big)


def test_generic_mask_in_all_forms():
    pixels = np.zeros((H, W), dtype=bool)
    pixels[10:20, 5:25] = True
    square = [[5, 10, 25, 10, 25, 20, 5, 20]]
    rle = mask_util.encode(np.asfortranarray(pixels.astype(np.uint8)))
    for form in (pixels, square, rle, mask_util.frPyObjects(square, H, W)[0]):
        mask = GenericMask(form, H, W)
        assert mask.area() == 200
        assert mask.bbox().tolist() == [5, 10, 25, 20]
        assert not mask.has_holes
        assert len(mask.polygons) == 1
    pixels[12:15, 8:12] = False
    assert GenericMask(pixels, H, W).has_holes
    with pytest.raises(ValueError, match="mask must be"):
        GenericMask(pixels, 5, 5)


def test_rectangle_coverage_is_exact(image):
    canvas = VisImage(image)
    canvas.rectangle((10, 10, 30, 25), "white", 1.0, 2.0)
    drawn = canvas.get_image()[:, :, 0]
    assert (drawn[9:11, 9:31] == 255).all()
    assert (drawn[12:23, 12:28] == 128).all()
    assert (drawn == 255).sum() == 22 * 17 - 18 * 13
    canvas.reset_image(image)
    canvas.rectangle((10.5, 10, 30, 25), "white", 1.0, 2.0)  # half a pixel further: half covered
    assert canvas.get_image()[15, 9, 0] == pytest.approx(128 + 127 / 2, abs=1)


@pytest.mark.parametrize("mode", list(ColorMode))
@pytest.mark.parametrize("scale", [1.0, 1.7])
def test_predictions(image, metadata, mode, scale):
    original = image.copy()
    out = Visualizer(image, metadata, scale=scale, instance_mode=mode).draw_instance_predictions(
        predictions()
    )
    drawn = out.get_image()
    assert drawn.shape == (round(H * scale), round(W * scale), 3)
    assert drawn.dtype == np.uint8
    assert (drawn != 128).any()
    np.testing.assert_array_equal(image, original)  # the caller's picture is left alone


def test_the_same_picture_in_every_run(image, metadata):
    pictures = [
        Visualizer(image, metadata).draw_instance_predictions(predictions()).get_image() for _ in range(2)
    ]
    np.testing.assert_array_equal(*pictures)


def test_nothing_to_draw(image, metadata):
    v = Visualizer(image, metadata)
    v.draw_instance_predictions(predictions()[:0])
    v.draw_dataset_dict({})
    v.overlay_instances()
    np.testing.assert_array_equal(v.get_output().get_image(), image)


def test_mask_pixels_and_only_they_change(image):
    mask = np.zeros((H, W), dtype=bool)
    mask[20:40, 30:50] = True
    drawn = Visualizer(image).draw_binary_mask(mask, "red", alpha=0.5).get_image()
    changed = (drawn != 128).any(axis=2)
    np.testing.assert_array_equal(changed, mask)
    assert drawn[30, 40].tolist() == [192, 64, 64]


@pytest.mark.parametrize("form", ["Boxes", "array", "rotated"])
def test_boxes_in_all_forms(image, form):
    boxes = torch.tensor([[5.0, 5, 30, 40]])
    given = {
        "Boxes": Boxes(boxes),
        "array": boxes.numpy(),
        "rotated": RotatedBoxes([[30.0, 30, 20, 10, 25]]),
    }[form]
    v = Visualizer(image)
    assert (v.overlay_instances(boxes=given, labels=["x"]).get_image() != 128).any()


@pytest.mark.parametrize(
    "form", [PolygonMasks([[[5, 5, 30, 5, 30, 40]]]), BitMasks(torch.ones(1, H, W))], ids=["polygons", "bits"]
)
def test_masks_in_all_forms(image, form):
    assert (Visualizer(image).overlay_instances(masks=form).get_image() != 128).any()


def test_dataset_dict_with_everything(image, metadata):
    metadata.set(keypoint_names=["nose", "eye"], keypoint_connection_rules=[("nose", "eye", (255, 0, 0))])
    annotation = {
        "bbox": [5, 5, 20, 30], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 1, "iscrowd": 1,
        "segmentation": [[5, 5, 25, 5, 25, 35]], "keypoints": [10, 10, 2, 20, 20, 2],
    }  # fmt: skip
    sem_seg = np.zeros((H, W), dtype=np.int64)
    sem_seg[:, 40:] = 1
    plain = Visualizer(image, metadata).draw_dataset_dict({"annotations": [annotation]}).get_image().copy()
    both = (
        Visualizer(image, metadata)
        .draw_dataset_dict({"annotations": [annotation], "sem_seg": sem_seg})
        .get_image()
    )
    assert (plain != both).any()


def test_panoptic(image, metadata):
    ids = torch.zeros(H, W, dtype=torch.int64)
    ids[:30], ids[40:, :40] = 1, 2
    infos = [
        {"id": 1, "category_id": 1, "isthing": False},
        {"id": 2, "category_id": 0, "isthing": True, "score": 0.9},
    ]
    drawn = Visualizer(image, metadata).draw_panoptic_seg(ids, infos).get_image()
    assert (drawn[35, 70] == 128).all()
    assert (drawn[5, 5] != 128).any()
    assert (drawn[45, 5] != 128).any()
    with pytest.raises(ValueError, match="label_divisor"):
        Visualizer(image, metadata).draw_panoptic_seg(ids, None)


def test_strokes(image):
    v = Visualizer(image)
    v.draw_line([0, 70], [0, 50], "r", linestyle="--")
    v.draw_circle((40, 30), "#00ff00", radius=5)
    v.draw_polygon([[5, 5], [20, 5], [20, 20]], "b")
    v.draw_soft_mask(np.linspace(0, 1, H * W).reshape(H, W), "y", text="soft")
    v.draw_text("two\nlines Ω", (40, 5), rotation=30)
    v.draw_box((1, 1, 200, 200), line_style=":")
    assert v.output.get_image()[30, 40].tolist() != [128] * 3
    with pytest.raises(ValueError, match="line style"):
        v.draw_line([0, 1], [0, 1], "r", linestyle="~")
    with pytest.raises(ValueError, match="alignment"):
        v.draw_text("x", (0, 0), horizontal_alignment="middle")


def test_save(image, tmp_path):
    out = Visualizer(image).draw_box((5, 5, 20, 20))
    out.save(str(tmp_path / "a.png"))
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a.png")), out.get_image())
    with pytest.raises(ValueError, match="ending"):
        out.save(str(tmp_path / "a.xyz"))


def test_lengths_must_agree(image):
    with pytest.raises(ValueError, match="differ in number"):
        Visualizer(image).overlay_instances(boxes=np.ones((2, 4)), labels=["a"])


def test_colours():
    assert to_rgb("g") == (0, 0.5, 0)
    assert to_rgb("#ff0000") == (1, 0, 0)
    assert to_rgb("0.25") == (0.25,) * 3
    assert sum(change_brightness("red", 0.5)) > sum(change_brightness("red", -0.5))
    for bad in ("nosuch", (255, 0, 0), (1, 0)):
        with pytest.raises(ValueError):
            to_rgb(bad)
    assert colormap(rgb=True, maximum=1).max() <= 1
    np.testing.assert_array_equal(colormap(rgb=True)[:, ::-1], colormap())
    assert len({tuple(c) for c in random_colors(60)}) == 60
    assert random_color().shape == (3,)


def test_label_texts():
    assert _create_text_labels([0, 1], [0.984, 0.5], ["ant", "bee"]) == ["ant 98%", "bee 50%"]
    assert _create_text_labels([7], None, ["ant"], [1]) == ["7|crowd"]
    assert _create_text_labels(None, [0.5], None) == ["50%"]
    assert _create_text_labels(None, None, None) is None


@pytest.mark.parametrize("with_masks", [True, False])
def test_video_colours_follow_objects(image, metadata, with_masks):
    video = VideoVisualizer(metadata)
    first = predictions()
    if not with_masks:
        first.remove("pred_masks")
    video.draw_instance_predictions(image, first)
    before = [o.color for o in video._old_instances]
    video.draw_instance_predictions(image, first[[2, 0, 1]])
    after = [o.color for o in video._old_instances]
    assert after == [before[2], before[0], before[1]]
    for _ in range(20):
        video.draw_instance_predictions(image, first[:0])
    assert video._old_instances == []
