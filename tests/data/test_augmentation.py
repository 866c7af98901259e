"""Every augmentation on image, boxes, polygons, masks, keypoints and label map together; and the policies themselves."""

import pickle
from typing import Any

import numpy as np
import pytest

from detectron2.data import detection_utils as utils
from detectron2.data import transforms as T
from detectron2.structures import BoxMode, polygons_to_bitmask

H, W, HALF = 120, 160, 7
CENTERS = [(30, 25), (80, 40), (130, 30), (40, 90), (110, 85)]


def scene() -> tuple[np.ndarray, np.ndarray, list[dict[str, Any]]]:
    """Five squares of one colour each on grey, with every kind of label; centres are those of pixels."""
    image = np.full((H, W, 3), 60, np.uint8)
    labels = np.zeros((H, W), np.uint8)
    annotations = []
    for k, (col, row) in enumerate(CENTERS):
        at = np.s_[row - HALF : row + HALF + 1, col - HALF : col + HALF + 1]
        image[at] = [100 + 30 * k, 250 - 30 * k, 100 + 15 * k]
        labels[at] = k + 1
        x0, y0, x1, y1 = box = [col - HALF, row - HALF, col + HALF + 1, row + HALF + 1]
        mask = np.zeros((H, W), np.uint8)
        mask[at] = 1
        annotations.append(
            {
                "bbox": box,
                "bbox_mode": BoxMode.XYXY_ABS,
                "category_id": k,
                "segmentation": mask if k % 2 else [[x0, y0, x1, y0, x1, y1, x0, y1]],
                "keypoints": [col + 0.5, row + 0.5, 2],
            }
        )
    return image, labels, annotations


GEOMETRIC = {
    "flip": T.RandomFlip(1.0),
    "vflip": T.RandomFlip(1.0, horizontal=False, vertical=True),
    "resize": T.Resize((200, 190)),
    "fast": T.Resize((90, 310), "fast"),
    "random_resize": T.RandomResize([(100, 110), (240, 150)]),
    "shortest": T.ResizeShortestEdge((90, 300), 400),
    "choice": T.ResizeShortestEdge([100, 250], 380, "choice"),
    "scale": T.ResizeScale(0.6, 2.0, 150, 150),
    "fixed": T.FixedSizeCrop((100, 100)),
    "fixed_pad": T.FixedSizeCrop((140, 200)),
    "lsj": T.AugmentationList([T.ResizeScale(0.5, 2.0, 140, 140), T.FixedSizeCrop((140, 140))]),
    "crop": T.RandomCrop("relative_range", (0.5, 0.5)),
    "area": T.RandomCrop_CategoryAreaConstraint("absolute", (70, 80), 0.9, 255),
    "min_iou": T.MinIoURandomCrop((0.01, 0.02), mode_trials=50),
    "rotate": T.RandomRotation((-180, 180)),
    "rotate_in_place": T.RandomRotation([20, -30, 75], False, [[0.5, 0.5], [0.3, 0.6]], "choice"),
    "extent": T.RandomExtent((0.6, 1.3), (0.3, 0.3)),
    "apply": T.RandomApply(T.RandomRotation((10, 40)), 0.5),
    "all": T.AugmentationList(
        [
            T.RandomCrop("relative", (0.8, 0.8)),
            T.RandomFlip(),
            T.RandomRotation((-20, 20)),
            T.Resize((200, 260)),
        ]
    ),
}
COLOURS = {
    "contrast": T.RandomContrast(0.7, 1.3),
    "brightness": T.RandomBrightness(0.7, 1.3),
    "saturation": T.RandomSaturation(0.7, 1.3),
    "lighting": T.RandomLighting(0.5),
    "pillow": T.PILColorTransform(lambda im: im.point(lambda v: v // 2)),
}


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", [*GEOMETRIC, *COLOURS])
def test_a_drawn_point_stays_on_its_drawn_pixel(name: str, seed: int) -> None:
    np.random.seed(seed)
    image, labels, annotations = scene()
    colours = [image[row, col].astype(int) for col, row in CENTERS]
    augmentation = {**GEOMETRIC, **COLOURS}[name]
    boxes = np.asarray([a["bbox"] for a in annotations], dtype=float)
    inputs = T.AugInput(image, boxes=boxes, sem_seg=labels)
    chosen = inputs.apply_augmentations([augmentation])
    size = inputs.image.shape[:2]
    assert inputs.sem_seg.shape == size
    flips = [0]
    seen = 0
    for k, annotation in enumerate(annotations):
        moved = utils.transform_instance_annotations(annotation, chosen, size, keypoint_hflip_indices=flips)
        ((x, y, visible),) = moved["keypoints"]
        if not visible:
            continue
        assert 0 <= x < size[1] and 0 <= y < size[0]
        seen += 1
        row, col = int(y), int(x)
        assert inputs.sem_seg[row, col] == k + 1
        if name in GEOMETRIC:
            assert np.abs(inputs.image[row, col].astype(int) - colours[k]).max() <= 2
        x0, y0, x1, y1 = moved["bbox"]
        assert x0 <= x <= x1 and y0 <= y <= y1
        mask = moved["segmentation"]
        if isinstance(mask, list):
            mask = polygons_to_bitmask(mask, *size)
        assert mask[row, col]
        # The mask is where the label map says, up to the border of the object.
        same = inputs.sem_seg == k + 1
        assert (mask.astype(bool) ^ same).sum() <= 4 * np.sqrt(same.sum()) + 4
        np.testing.assert_allclose(moved["bbox"], np.clip(inputs.boxes[k], 0, [*size[::-1]] * 2), atol=1e-6)
    if name not in ("crop", "area", "min_iou", "fixed", "lsj", "rotate_in_place", "extent", "all"):
        assert seen == len(CENTERS)


@pytest.mark.parametrize("name", [n for n in {**GEOMETRIC, **COLOURS} if n not in ("pillow",)])
def test_text_and_pickle(name: str) -> None:
    augmentation = {**GEOMETRIC, **COLOURS}[name]
    assert type(augmentation).__name__ in repr(augmentation)
    copy = pickle.loads(pickle.dumps(augmentation))
    # Arguments are left out where they are the default object itself; a copy may show some that its source does not.
    assert type(copy) is type(augmentation) and repr(pickle.loads(pickle.dumps(copy))) == repr(copy)
    results = []
    for each in (augmentation, copy):
        np.random.seed(3)
        inputs = T.AugInput(scene()[0], boxes=np.asarray([[1.0, 2, 30, 40]]), sem_seg=scene()[1])
        each(inputs)
        results.append(inputs.image)
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("name", ["contrast", "brightness", "saturation", "lighting"])
def test_intensity_one_changes_nothing(name: str) -> None:
    same = {
        "contrast": T.RandomContrast(1, 1),
        "brightness": T.RandomBrightness(1, 1),
        "saturation": T.RandomSaturation(1, 1),
        "lighting": T.RandomLighting(0.0),
    }[name]
    image = scene()[0]
    np.testing.assert_array_equal(same.get_transform(image).apply_image(image), image)


def test_intensity_zero_is_dull() -> None:
    image = np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    grey = T.RandomSaturation(0, 0).get_transform(image).apply_image(image)
    assert (grey == grey[:, :, :1]).all()
    assert len(np.unique(T.RandomContrast(0, 0).get_transform(image).apply_image(image))) == 1
    assert not T.RandomBrightness(0, 0).get_transform(image).apply_image(image).any()
    for augmentation in (T.RandomSaturation(1, 1), T.RandomLighting(1)):
        with pytest.raises(ValueError, match="RGB"):
            augmentation.get_transform(image[:, :, :2])


@pytest.mark.parametrize(
    ("size", "short", "longest", "want"),
    [
        ((480, 640), 800, 1333, (800, 1067)),
        ((640, 480), 800, 1333, (1067, 800)),
        ((100, 1000), 800, 1333, (133, 1333)),
        ((500, 500), 800, 700, (700, 700)),
        ((7, 7), 1, 10, (1, 1)),
    ],
)
def test_shortest_edge(size: tuple[int, int], short: int, longest: int, want: tuple[int, int]) -> None:
    assert T.ResizeShortestEdge.get_output_shape(*size, short, longest) == want


@pytest.mark.parametrize("size", [(1, 3000), (3000, 1)])
def test_a_thin_picture_keeps_its_one_row(size: tuple[int, int]) -> None:
    image = np.zeros((*size, 3), dtype=np.uint8)
    resized = T.ResizeShortestEdge(800, 1333).get_transform(image).apply_image(image)
    assert sorted(resized.shape[:2]) == [1, 1333]


def test_probabilities() -> None:
    image = scene()[0]
    flip = T.RandomFlip(0.25)
    np.random.seed(0)
    flipped = sum(isinstance(flip.get_transform(image), T.HFlipTransform) for _ in range(2000))
    assert 400 < flipped < 600
    sizes = {T.ResizeShortestEdge((50, 53)).get_transform(image).new_h for _ in range(200)}
    assert sizes == {50, 51, 52, 53}
    sizes = {
        T.ResizeShortestEdge([50, 53], sample_style="choice").get_transform(image).new_h for _ in range(200)
    }
    assert sizes == {50, 53}
    apply = T.RandomApply(T.RandomFlip(1.0), 0.25)
    applied = sum(isinstance(apply(T.AugInput(image)), T.HFlipTransform) for _ in range(800))
    assert 130 < applied < 270


def test_crops_stay_inside_and_keep_their_promise() -> None:
    image = scene()[0]
    for kind, crop in (("relative_range", (0.2, 0.7)), ("absolute_range", (30, 70)), ("absolute", (500, 40))):
        for _ in range(50):
            t = T.RandomCrop(kind, crop).get_transform(image)
            assert 0 <= t.x0 and 0 <= t.y0 and t.x0 + t.w <= W and t.y0 + t.h <= H
            assert t.apply_image(image).shape == (t.h, t.w, 3)
    boxes = np.asarray([[20.0, 20, 70, 70], [80, 50, 150, 110]])
    for _ in range(30):
        t = T.MinIoURandomCrop((0.3,), mode_trials=20).get_transform(image, boxes)
        if isinstance(t, T.CropTransform):
            moved = np.clip(t.apply_box(boxes), 0, [t.w, t.h, t.w, t.h])
            assert (moved[:, 2:] > moved[:, :2]).all(axis=1).any()
    assert isinstance(T.MinIoURandomCrop().get_transform(image, None), T.NoOpTransform)
    empty = T.MinIoURandomCrop((0.5,), mode_trials=3).get_transform(image, np.zeros((0, 4)))
    assert isinstance(empty, (T.CropTransform, T.NoOpTransform))


def test_category_constraint_avoids_full_crops() -> None:
    labels = np.zeros((100, 100), np.uint8)
    labels[:, 50:] = 1
    aug = T.RandomCrop_CategoryAreaConstraint("absolute", (40, 40), 0.75)
    np.random.seed(0)
    shares = []
    for _ in range(40):
        part = aug.get_transform(np.zeros((100, 100, 3)), labels).apply_segmentation(labels)
        shares.append(max(part.mean(), 1 - part.mean()))
    assert np.mean(np.asarray(shares) < 0.75) > 0.6


def test_fixed_size_crop_can_be_undone_on_small_images() -> None:
    image = scene()[0]
    chain = T.FixedSizeCrop((150, 100)).get_transform(image)
    out = chain.apply_image(image)
    assert out.shape == (150, 100, 3)
    back = chain.inverse()
    assert back.apply_image(out).shape == image.shape
    point = np.asarray([[50.0, 60.0]])
    np.testing.assert_allclose(back.apply_coords(chain.apply_coords(point)), point)


def test_rotation_by_choice_with_center() -> None:
    aug = T.RandomRotation([90], expand=False, center=[(0.5, 0.5)], sample_style="choice")
    image = np.arange(16, dtype=np.uint8).reshape(4, 4)
    np.testing.assert_array_equal(aug.get_transform(image).apply_image(image), np.rot90(image))
    one = T.RandomRotation(90, expand=False, center=(0.5, 0.5)).get_transform(image)
    np.testing.assert_array_equal(one.apply_image(image), np.rot90(image))
    assert isinstance(T.RandomRotation(0).get_transform(image), T.NoOpTransform)


def test_inputs_are_named_by_parameters() -> None:
    class Scaled(T.AugInput):
        def __init__(self, image: np.ndarray, depth: np.ndarray) -> None:
            super().__init__(image)
            self.depth = depth

        def transform(self, tfm: T.Transform) -> None:
            super().transform(tfm)
            self.depth = tfm.apply_image(self.depth)

    class ByDepth(T.Augmentation):
        def __init__(self, limit: float) -> None:
            self._init(locals())

        def get_transform(self, image: np.ndarray, depth: np.ndarray) -> T.Transform:
            return T.VFlipTransform(len(image)) if depth.max() > self.limit else T.NoOpTransform()

    inputs = Scaled(scene()[0], np.arange(H * W, dtype=np.float32).reshape(H, W))
    chosen = inputs.apply_augmentations([ByDepth(3.0), T.HFlipTransform(W)])
    assert [type(t) for t in chosen] == [T.VFlipTransform, T.HFlipTransform]
    assert inputs.depth[-1, -1] == 0
    assert repr(ByDepth(3.0)) == "ByDepth(limit=3.0)"
    with pytest.raises(AttributeError, match="depth"):
        ByDepth(1)(T.AugInput(scene()[0]))


def test_wrong_augmentations_are_named() -> None:
    class Loose(T.Augmentation):
        def get_transform(self, *args: Any) -> T.Transform:
            return T.NoOpTransform()

    class Optional(T.Augmentation):
        def get_transform(self, image: Any, boxes: Any = None) -> T.Transform:
            return T.NoOpTransform()

    class Wrong(T.Augmentation):
        def get_transform(self, image: Any) -> T.Transform:
            return 3  # type: ignore[return-value]

    inputs = T.AugInput(scene()[0])
    for aug, words in ((Loose(), "by name"), (Optional(), "default"), (Wrong(), "must return a Transform")):
        with pytest.raises(TypeError, match=words):
            aug(inputs)
    with pytest.raises(TypeError, match="Augmentation or a Transform"):
        T.AugmentationList([3])
    with pytest.raises(NotImplementedError):
        T.Augmentation()(inputs)
    for image, error in (([1, 2], TypeError), (np.zeros(3), ValueError), (np.zeros((2, 2), bool), TypeError)):
        with pytest.raises(error):
            T.AugInput(image)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "make",
    [
        lambda: T.RandomFlip(horizontal=True, vertical=True),
        lambda: T.ResizeShortestEdge((1, 2, 3), 5),
        lambda: T.ResizeShortestEdge((1, 2), 5, "sometimes"),
        lambda: T.ResizeShortestEdge((), 5, "choice"),
        lambda: T.RandomCrop("relative", (2, 2)),
        lambda: T.RandomCrop("absolute_range", (5, 2)),
        lambda: T.RandomCrop("absolute", (5,)),
        lambda: T.RandomApply(T.NoOpTransform(), 3),
        lambda: T.RandomResize([]),
        lambda: T.RandomRotation([1, 2, 3]),
        lambda: T.ColorTransform(3),
    ],
)
def test_wrong_arguments(make: Any) -> None:
    with pytest.raises(ValueError, match=r"got|at least"):
        make()


def test_functions() -> None:
    image = scene()[0]
    flipped, chosen = T.apply_augmentations([T.RandomFlip(1.0)], image)
    np.testing.assert_array_equal(flipped, image[:, ::-1])
    inputs = T.AugInput(image)
    same, again = T.apply_transform_gens(chosen.transforms, inputs)
    assert same is inputs and again.transforms == chosen.transforms
    assert str(T.AugmentationList([T.RandomFlip()])).startswith("AugmentationList[RandomFlip(")
