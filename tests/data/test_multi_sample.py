"""Mosaic, mixup and copy-paste keep boxes, masks, keypoints and label maps on the pixels they belong to."""

from typing import Any

import numpy as np
import pytest
from PIL import Image

from detectron2.config import get_cfg
from detectron2.data import DatasetMapper, build_detection_train_loader
from detectron2.data import transforms as T
from detectron2.data.multi_sample import multi_sample_augmentations
from detectron2.data.samplers import TrainingSampler
from detectron2.data.streaming import TarDataset
from detectron2.data.transforms.multi_sample import (
    CopyPaste,
    MixUp,
    Mosaic,
    MultiSampleAugmentation,
    MultiSampleMapper,
    Sample,
    load_sample,
    paste_objects,
)
from detectron2.data.transforms.samples import mask_of
from detectron2.structures import BoxMode

HALF = 6


def scene(colour: int, size: tuple[int, int] = (80, 100), labels: bool = True, kind: str = "mixed") -> Sample:
    """Three squares of one colour on black; label = colour."""
    image = np.zeros((*size, 3), np.uint8)
    sem_seg = np.zeros(size, np.uint8)
    annotations = []
    for k, (col, row) in enumerate([(15, 15), (60, 30), (30, 60)]):
        at = np.s_[row - HALF : row + HALF + 1, col - HALF : col + HALF + 1]
        image[at], sem_seg[at] = colour, colour
        mask = np.zeros(size, np.uint8)
        mask[at] = 1
        x0, y0, x1, y1 = col - HALF, row - HALF, col + HALF + 1, row + HALF + 1
        polygon = [[x0, y0, x1, y0, x1, y1, x0, y1]]
        annotations.append(
            {
                "bbox": np.asarray([x0, y0, x1, y1], dtype=float),
                "bbox_mode": BoxMode.XYXY_ABS,
                "category_id": colour,
                "segmentation": mask if kind == "mixed" and k == 1 else polygon,
                "keypoints": np.asarray([[col + 0.5, row + 0.5, 2.0]]),
            }
        )
    return Sample(image, annotations, sem_seg if labels else None, {"image_id": colour})


def check(sample: Sample, exact: bool = True) -> int:
    """Every visible keypoint lies in its box and mask, on a pixel of its colour and label; returns how many."""
    count = 0
    for annotation in sample.annotations:
        ((x, y, visible),) = annotation["keypoints"]
        x0, y0, x1, y1 = annotation["bbox"]
        assert x1 > x0 and y1 > y0 and x0 >= 0 and y0 >= 0 and x1 <= sample.size[1] and y1 <= sample.size[0]
        mask = mask_of(annotation, sample.size)
        assert mask.any()
        rows, cols = np.nonzero(mask)
        assert cols.min() >= x0 - 1 and cols.max() <= x1 and rows.min() >= y0 - 1 and rows.max() <= y1
        if visible < 2 or not (x0 <= x < x1 and y0 <= y < y1):
            continue
        row, col = int(y), int(x)
        count += 1
        assert mask[row, col]
        if exact:
            assert (sample.image[row, col] == annotation["category_id"]).all()
            if sample.sem_seg is not None:
                assert sample.sem_seg[row, col] == annotation["category_id"]
    return count


@pytest.mark.parametrize("seed", range(8))
def test_mosaic(seed: int) -> None:
    np.random.seed(seed)
    others = iter([scene(120, (50, 90)), scene(180, (100, 60)), scene(240)])
    first = scene(60)
    out = Mosaic((90, 120), fill=3)(first, lambda: next(others))
    assert out.image.shape == (90, 120, 3) and out.sem_seg.shape == (90, 120)
    assert check(out) >= 2
    assert out.record["image_id"] == 60 and (out.record["height"], out.record["width"]) == (90, 120)
    outside = out.sem_seg == 255
    assert (out.image[outside] == 3).all() and (
        out.image[~outside] == 3
    ).mean() < 0.02  # borders of squares are grey
    assert len(first.annotations) == 3 and first.annotations[0]["bbox"].tolist() == [9, 9, 22, 22]


def test_mosaic_drops_slivers_and_takes_images_without_labels() -> None:
    counts = []
    for least in (0.01, 0.99):
        np.random.seed(0)
        mosaic = Mosaic((60, 60), scale=(1.2, 1.2), min_visible=least)
        out = mosaic(scene(60), lambda: scene(90, labels=False))
        counts.append(len(out.annotations))
    assert counts[0] > counts[1] > 0
    for annotation in out.annotations:
        w, h = np.diff(np.reshape(annotation["bbox"], (2, 2)), axis=0)[0]
        assert w == pytest.approx(h, rel=0.1)  # squares that stayed whole
    assert out.sem_seg is not None
    empty = Sample(np.zeros((20, 20, 3), np.uint8))
    assert Mosaic((30, 30))(empty, lambda: empty).annotations == []
    with pytest.raises(ValueError, match="same channels"):
        Mosaic((30, 30))(empty, lambda: Sample(np.zeros((20, 20, 1), np.uint8)))
    with pytest.raises(ValueError, match="center"):
        Mosaic((30, 30), center=(0, 1))


@pytest.mark.parametrize("seed", range(4))
def test_mixup(seed: int) -> None:
    np.random.seed(seed)
    out = MixUp()(scene(200), lambda: scene(100))
    assert len(out.annotations) == 6
    check(out, exact=False)
    state = np.random.RandomState(seed)
    state.uniform()
    weight = state.beta(8.0, 8.0)
    assert out.image[15, 15, 0] == round(weight * 200 + (1 - weight) * 100)  # both have a square there
    assert set(np.unique(out.sem_seg)) <= {0, 100, 200}
    assert out.sem_seg[15, 15] == (200 if weight >= 0.5 else 100)
    scaled = MixUp()(scene(200), lambda: scene(100, (160, 100)))
    assert scaled.annotations[3]["bbox"].tolist() == [4.5, 4.5, 11, 11]
    assert (scaled.sem_seg[:, 50:] == scene(200).sem_seg[:, 50:]).all()  # nothing lies above that half
    bare = MixUp()(scene(200), lambda: scene(100, labels=False))
    assert (bare.sem_seg == 255).all()
    with pytest.raises(ValueError, match="alpha"):
        MixUp(0)


def inner(mask: np.ndarray, width: int = 2) -> np.ndarray:
    """The pixels of a mask that resampling does not mix with those around it."""
    for _ in range(width):
        padded = np.pad(mask, 1)
        mask = mask & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("kind", ["mixed", "polygons"])
def test_copy_paste(seed: int, kind: str) -> None:
    np.random.seed(seed)
    target = scene(60, kind=kind)
    out = CopyPaste()(target, lambda: scene(200, (90, 70), kind=kind))
    assert check(out) >= 1
    pasted = [a for a in out.annotations if a["category_id"] == 200]
    assert 1 <= len(pasted) <= 3
    seen = np.zeros(out.size, int)
    for annotation in out.annotations:
        mask = mask_of(annotation, out.size)
        seen += mask
        assert (
            out.image[inner(mask)] == annotation["category_id"]
        ).all()  # every pixel of a mask shows its object
        assert (out.sem_seg[mask] == annotation["category_id"]).all()
    assert seen.max() <= 1
    assert (target.image == scene(60).image).all() and len(target.annotations) == 3


def test_pasting_covers() -> None:
    target, source = scene(60), scene(200)
    for annotation in source.annotations[1:]:
        annotation["keypoints"] = annotation["keypoints"] * 0
    top = source.annotations[0]
    top["segmentation"] = np.zeros((80, 100), np.uint8)
    top["segmentation"][9:22, 9:16] = 1  # the left half of the first square and one column of its right half
    out = paste_objects(target, source, [top], 0.1)
    below = out.annotations[0]
    assert below["bbox"].tolist() == [16, 9, 22, 22]
    assert below["segmentation"].sum() == 6 * 13
    assert below["keypoints"].tolist() == [[15.5, 15.5, 1]]  # labelled, not visible
    assert out.annotations[1] is not target.annotations[1] and out.annotations[1]["bbox"].tolist() == [
        54,
        24,
        67,
        37,
    ]
    assert (
        len(paste_objects(target, source, [top], 0.9).annotations) == 3
    )  # two untouched ones and the pasted one
    whole = paste_objects(target, source, [source.annotations[2]], 0.0)
    assert [a["category_id"] for a in whole.annotations] == [60, 60, 200]
    bare = paste_objects(target, scene(200, labels=False), [source.annotations[2]], 0.0)
    assert bare.sem_seg[60, 30] == 255


def test_nothing_to_paste() -> None:
    target = scene(60)
    boxes_only = scene(200)
    for annotation in boxes_only.annotations:
        del annotation["segmentation"]
    assert CopyPaste()(target, lambda: boxes_only) is target


def write(sample: Sample, path: Any) -> dict[str, Any]:
    Image.fromarray(sample.image).save(path)
    annotations = [
        dict(a, bbox=a["bbox"].tolist(), keypoints=a["keypoints"].reshape(-1).tolist())
        for a in sample.annotations
    ]
    return {
        "file_name": str(path),
        "height": sample.size[0],
        "width": sample.size[1],
        "annotations": annotations,
    }


def test_mapper_on_files(tmp_path) -> None:
    records = [write(scene(50 * k, kind="polygons"), tmp_path / f"{k}.png") for k in (1, 2, 3, 4)]
    inner = DatasetMapper(
        True,
        augmentations=[T.ResizeShortestEdge(60), T.RandomFlip(1.0)],
        image_format="BGR",
        use_instance_mask=True,
        use_keypoint=True,
        keypoint_hflip_indices=[0],
        instance_mask_format="auto",
    )
    np.random.seed(0)
    steps: list[MultiSampleAugmentation] = [Mosaic((100, 120)), CopyPaste(), MixUp(prob=0.0)]
    out = MultiSampleMapper(inner, records, steps)(records[0])
    assert out["image"].shape == (3, 60, 72)
    instances = out["instances"]
    assert len(instances) > 0 and instances.gt_masks.tensor.shape[1:] == (60, 72)
    for box, mask, marks in zip(
        instances.gt_boxes.tensor, instances.gt_masks.tensor, instances.gt_keypoints.tensor
    ):
        x, y, visible = marks[0].tolist()
        inside = box[0] <= x < box[2] and box[1] <= y < box[3]
        assert visible < 2 or not inside or mask[int(y), int(x)]
    with pytest.raises(ValueError, match="MASK_FORMAT"):
        inner.instance_mask_format = "polygon"
        MultiSampleMapper(inner, records, steps)
    with pytest.raises(ValueError, match="at least one record"):
        MultiSampleMapper(inner, [], [])


def test_broken_partners_are_reported_and_replaced(tmp_path, caplog: pytest.LogCaptureFixture) -> None:
    good = write(scene(50, kind="polygons"), tmp_path / "a.png")
    broken = {**good, "file_name": str(tmp_path / "none.png")}
    inner = DatasetMapper(True, augmentations=[], image_format="BGR")
    queue = [broken, good]
    out = MultiSampleMapper(inner, lambda: queue.pop(0), [MixUp()])(good)
    assert len(out["instances"]) == 6 and "none.png" in caplog.text
    with pytest.raises(OSError, match="none"):
        MultiSampleMapper(inner, [broken], [MixUp()], tries=2)(good)


def test_loading_brings_labels_to_one_form(tmp_path) -> None:
    record = write(scene(50, kind="polygons"), tmp_path / "a.png")
    record["annotations"][0]["bbox"] = [9, 9, 13, 13]
    record["annotations"][0]["bbox_mode"] = BoxMode.XYWH_ABS
    sample = load_sample(record)
    assert sample.annotations[0]["bbox"].tolist() == [9, 9, 22, 22]
    assert check(sample) == 3
    assert record["annotations"][0]["bbox"] == [9, 9, 13, 13]
    record["annotations"][0] |= {"bbox": [15, 15, 13, 13, 30], "bbox_mode": BoxMode.XYWHA_ABS}
    with pytest.raises(TypeError, match="rotated"):
        load_sample(record)


def test_probability() -> None:
    class Never(MultiSampleAugmentation):
        def combine(self, sample: Sample, draw: Any) -> Sample:
            raise AssertionError

    sample = scene(1)
    assert Never(0.0)(sample, lambda: sample) is sample
    with pytest.raises(ValueError, match="prob"):
        Never(2.0)
    with pytest.raises(NotImplementedError):
        MultiSampleAugmentation()(sample, lambda: sample)


# ------------------------------------------------------------------ from a config
def config(**keys: Any) -> Any:
    cfg = get_cfg()
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.SOLVER.IMS_PER_BATCH, cfg.DATALOADER.NUM_WORKERS = (60,), 2, 0
    cfg.merge_from_list([x for pair in keys.items() for x in (pair[0].replace("__", "."), pair[1])])
    return cfg


def test_augmentations_from_a_config() -> None:
    assert multi_sample_augmentations(get_cfg()) == []
    assert "MOSAIC" not in get_cfg().dump() and "MULTI_SAMPLE_CLOSE" not in get_cfg().dump()
    mosaic, paste, mixup = multi_sample_augmentations(
        config(INPUT__MOSAIC__PROB=0.5, INPUT__MIXUP__PROB=0.25, INPUT__COPY_PASTE__PROB=0.75)
    )
    assert isinstance(mosaic, Mosaic) and mosaic.size == (60, 60) and mosaic.prob == 0.5
    assert isinstance(paste, CopyPaste) and paste.max_objects is None and paste.prob == 0.75
    assert isinstance(mixup, MixUp) and mixup.alpha == 8.0 and mixup.prob == 0.25
    (sized,) = multi_sample_augmentations(config(INPUT__MOSAIC__PROB=1.0, INPUT__MOSAIC__SIZE=[40, 50]))
    assert isinstance(sized, Mosaic) and sized.size == (40, 50)
    with pytest.raises(ValueError, match=r"MOSAIC\.SIZE"):
        multi_sample_augmentations(config(INPUT__MOSAIC__PROB=1.0, INPUT__MOSAIC__SIZE=[40]))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("length", [4, "2ep"])
def test_a_loader_mixes_until_the_last_part(tmp_path, workers: int, length: Any) -> None:
    records = [write(scene(50 * k, kind="polygons"), tmp_path / f"{k}.png") for k in (1, 2, 3, 4)]
    cfg = config(INPUT__MIXUP__PROB=1.0, INPUT__MULTI_SAMPLE_CLOSE=0.5, DATALOADER__NUM_WORKERS=workers)
    cfg.SOLVER.MAX_ITER = length
    cfg.DATALOADER.ASPECT_RATIO_GROUPING = False

    def counts(loader: Any, batches: int) -> list[int]:
        return [len(r["instances"]) for _, batch in zip(range(batches), loader) for r in batch]

    make = lambda: build_detection_train_loader(cfg, dataset=records, sampler=TrainingSampler(4, seed=0))  # noqa: E731
    first = make()
    # 4 iterations of 2 images, or 2 epochs of 4: mixed, with the objects of two images, in the first half.
    assert counts(first, 4) == [6] * 4 + [3] * 4
    again = make()
    taken = iter(again)
    next(taken)
    resumed = make()
    resumed.load_state_dict(again.state_dict())
    assert counts(resumed, 3) == [6] * 2 + [3] * 4


def test_configs_that_cannot_mix(tmp_path) -> None:
    record = write(scene(50, kind="polygons"), tmp_path / "a.png")
    with pytest.raises(ValueError, match="MASK_FORMAT"):
        build_detection_train_loader(
            config(INPUT__COPY_PASTE__PROB=1.0, MODEL__MASK_ON=True), dataset=[record]
        )
    with pytest.raises(ValueError, match="map_loaded"):
        build_detection_train_loader(config(INPUT__MIXUP__PROB=1.0), dataset=[record], mapper=dict)
    with pytest.raises(ValueError, match="MULTI_SAMPLE_CLOSE"):
        build_detection_train_loader(
            config(INPUT__MIXUP__PROB=1.0, INPUT__MULTI_SAMPLE_CLOSE=2.0), dataset=[record]
        )
    with pytest.raises(ValueError, match="iterable"):
        build_detection_train_loader(config(INPUT__MIXUP__PROB=1.0), dataset=TarDataset("x.tar"))
