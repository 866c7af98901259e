"""Panoptic-DeepLab: targets, post-processing and data."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from detectron2.data import MetadataCatalog
from detectron2.data import transforms as T
from detectron2.projects import panoptic_deeplab
from detectron2.projects.panoptic_deeplab import post_processing as pp
from detectron2.projects.panoptic_deeplab.panoptic_seg import instances_of_segments
from detectron2.projects.panoptic_deeplab.target_generator import PanopticDeepLabTargetGenerator
from detectron2.solver import build_optimizer

sys.path.insert(0, str(Path(__file__).parent))
from _panoptic_scenes import DATASET, R52, THINGS, config, record_on_disk, scene


@pytest.fixture(autouse=True)
def metadata() -> Iterator[None]:
    MetadataCatalog.get(DATASET).set(
        thing_dataset_id_to_contiguous_id={30: 3, 40: 4}, label_divisor=1000, ignore_label=255
    )
    yield
    MetadataCatalog.remove(DATASET)


# ---------------------------------------------------------------- targets
@pytest.mark.parametrize("ignore_stuff", [False, True])
@pytest.mark.parametrize("ignore_crowd", [False, True])
def test_targets_are_those_of_each_pixel(ignore_stuff: bool, ignore_crowd: bool) -> None:
    panoptic, info = scene()
    generator = PanopticDeepLabTargetGenerator(255, THINGS, 5, ignore_stuff, 150, 3, ignore_crowd)
    found = generator(panoptic, info)
    by_id: dict[int, dict[str, Any]] = {s["id"]: s for s in info}
    places = {i: np.nonzero(panoptic == i) for i in np.unique(panoptic)}
    names = ("sem_seg", "sem_seg_weights", "center_weights", "offset_weights", "offset")
    wanted = {name: np.zeros(found[name].shape) for name in names}
    for y, x in np.ndindex(*panoptic.shape):
        segment = by_id.get(panoptic[y, x])
        crowd = segment is not None and bool(segment.get("iscrowd"))
        thing = segment is not None and segment["category_id"] in THINGS
        rows, columns = places[panoptic[y, x]]
        unlabelled = segment is None or (crowd and ignore_crowd)
        wanted["sem_seg"][y, x] = 255 if unlabelled else by_id[panoptic[y, x]]["category_id"]
        wanted["sem_seg_weights"][y, x] = 3 if thing and len(rows) < 150 else 1
        wanted["center_weights"][0, y, x] = segment is not None and not crowd
        learned = segment is not None and not crowd and (thing or not ignore_stuff)
        wanted["offset_weights"][0, y, x] = learned
        wanted["offset"][:, y, x] = (rows.mean() - y, columns.mean() - x) if thing else (0, 0)
    for name, values in wanted.items():
        np.testing.assert_allclose(found[name], values, rtol=0, atol=1e-4, err_msg=name)
    points = found["center_points"]
    assert len(points) == 4
    ys, xs = np.mgrid[0:60, 0:90]
    distances = [(ys - round(y), xs - round(x)) for y, x in points]
    bells = [np.exp(-(y**2 + x**2) / 50) * (abs(y) <= 16) * (abs(x) <= 16) for y, x in distances]
    np.testing.assert_allclose(found["center"], np.max(bells, axis=0), atol=1e-6)


def test_an_image_without_segments_has_targets_of_weight_zero() -> None:
    found = PanopticDeepLabTargetGenerator(255, THINGS)(np.zeros((8, 9), np.int32), [])
    assert (found["sem_seg"] == 255).all()
    assert found["center_points"] == []
    for name in ("center", "offset", "center_weights", "offset_weights"):
        assert not found[name].any()


def test_targets_lead_back_to_the_segments() -> None:
    panoptic, info = scene()
    info[4]["iscrowd"] = 0
    found = PanopticDeepLabTargetGenerator(1, THINGS, sigma=3)(panoptic, info)
    segments, centers = pp.get_panoptic_segmentation(
        found["sem_seg"][None], found["center"][None], found["offset"], THINGS, 1000, 20, -1
    )
    assert centers.shape == (1, 4, 2)
    pairs = set(zip(panoptic.ravel().tolist(), segments.ravel().tolist()))
    # 27 pixels of class 1 are enough for a segment of stuff.
    assert len({a for a, _ in pairs}) == len({b for _, b in pairs}) == len(pairs) == 7
    assert {b for _, b in pairs} == {0, 1000, 2000, 3001, 3002, 3003, 4001}


# ---------------------------------------------------------------- post-processing
def test_peaks_are_the_highest_of_their_window() -> None:
    heat = torch.zeros(1, 12, 20)
    for y, x, value in ((2, 3, 0.9), (2, 5, 0.8), (9, 9, 0.5), (11, 19, 0.7), (5, 15, 0.05)):
        heat[0, y, x] = value
    before = heat.clone()
    assert pp.find_instance_center(heat, nms_kernel=3).tolist() == [[2, 3], [2, 5], [9, 9], [11, 19]]
    assert pp.find_instance_center(heat, nms_kernel=5).tolist() == [[2, 3], [9, 9], [11, 19]]
    assert pp.find_instance_center(heat, threshold=0.6, nms_kernel=5).tolist() == [[2, 3], [11, 19]]
    assert pp.find_instance_center(heat, nms_kernel=5, top_k=3).tolist() == [[2, 3], [11, 19]]
    for many in (200, 10**6):
        assert len(pp.find_instance_center(heat, nms_kernel=5, top_k=many)) == 3
    assert pp.find_instance_center(heat, threshold=2.0).shape == (0, 2)
    assert torch.equal(heat, before)


def test_pixels_go_to_the_nearest_center(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    monkeypatch.setattr(pp, "_PIXELS_AT_ONCE", 13)
    centers, offsets = torch.randint(0, 12, (5, 2)), torch.randn(2, 9, 11) * 4
    found = pp.group_pixels(centers, offsets)
    assert found.shape == (1, 9, 11)
    for y, x in np.ndindex(9, 11):
        target = torch.tensor([y, x]) + offsets[:, y, x]
        distances = (centers - target).norm(dim=1)
        torch.testing.assert_close(distances[found[0, y, x] - 1], distances.min())
    assert not pp.group_pixels(centers[:0], offsets).any()


def test_pixels_of_large_images_go_to_the_nearest_center_too() -> None:
    offsets = torch.zeros(2, 1, 4096)
    offsets[0] = 4000.0
    centers = torch.tensor([[4000, x] for x in range(0, 4096, 2)])
    found = pp.group_pixels(centers, offsets)[0, 0]
    assert torch.equal(found[::2], torch.arange(1, 2049))


def _merge_slowly(
    sem: np.ndarray, ins: np.ndarray, things: np.ndarray, divisor: int, thing_ids: Any, least: int, void: int
) -> np.ndarray:
    out, number = np.full(sem.shape, void), dict.fromkeys(range(9), 0)
    for k in range(1, ins.max() + 1):
        mask = (ins == k) & (things == 1)
        if mask.any():
            label = int(np.bincount(sem[mask]).argmax())
            number[label] += 1
            out[mask] = label * divisor + number[label]
    for label in np.unique(sem):
        mask = (sem == label) & (things == 0)
        if label not in thing_ids and mask.sum() >= least:
            out[mask] = label * divisor
    return out


@pytest.mark.parametrize("least", [0, 8, 1000])
def test_merging_equals_a_loop_over_segments(least: int) -> None:
    generator = np.random.default_rng(least)
    for _ in range(5):
        sem, ins = generator.integers(0, 5, (1, 7, 9)), generator.integers(0, 7, (1, 7, 9))
        for things in (np.isin(sem, THINGS).astype(int), generator.integers(0, 2, sem.shape)):
            arguments = (100, THINGS, least, -1)
            found = pp.merge_semantic_and_instance(*map(torch.from_numpy, (sem, ins, things)), *arguments)
            np.testing.assert_array_equal(found, _merge_slowly(sem, ins, things, *arguments))


def test_instances_are_the_things_with_their_scores() -> None:
    segments = torch.full((6, 8), -1)
    segments[:2] = 2000
    segments[3:5, 1:4] = 3001
    segments[5, 5:] = 4002
    torch.manual_seed(0)
    probabilities, center = torch.rand(5, 6, 8), torch.rand(6, 8)
    found = instances_of_segments(segments, probabilities, center, THINGS, 1000)
    assert found.pred_classes.tolist() == [3, 4]
    assert found.pred_boxes.tensor.tolist() == [[1, 3, 4, 5], [5, 5, 8, 6]]
    assert torch.equal(found.pred_masks, torch.stack([segments == 3001, segments == 4002]))
    scores = [probabilities[3, 3:5, 1:4].mean() * center[3, 2], probabilities[4, 5, 5:].mean() * center[5, 6]]
    torch.testing.assert_close(found.scores, torch.stack(scores))
    nothing = instances_of_segments(segments * 0 - 1, probabilities, center, THINGS, 1000)
    assert len(nothing) == 0
    assert nothing.pred_masks.shape == (0, 6, 8)


def test_wrong_shapes_are_named() -> None:
    maps = [torch.zeros(1, 4, 4).long(), torch.zeros(1, 4, 4), torch.zeros(2, 4, 4)]
    for i, name in enumerate(("sem_seg", "center_heatmap", "offsets")):
        with pytest.raises(ValueError, match=f"{name} must be .* got \\[4, 4\\]"):
            pp.get_panoptic_segmentation(*maps[:i], maps[i][0], *maps[i + 1 :], THINGS, 1000, 1, -1)


# ---------------------------------------------------------------- data
def test_mapper_moves_image_and_segments_together(tmp_path: Path) -> None:
    record = record_on_disk(tmp_path)
    untouched = copy.deepcopy(record)
    generator = PanopticDeepLabTargetGenerator(255, THINGS)
    mapper = panoptic_deeplab.PanopticDeeplabDatasetMapper(
        augmentations=[T.RandomFlip(1.0), T.CropTransform(10, 5, 60, 48)],
        image_format="RGB",
        panoptic_target_generator=generator,
    )
    found = mapper(record)
    assert record == untouched
    image = np.asarray(Image.open(record["file_name"]))[:, ::-1][5:53, 10:70]
    np.testing.assert_array_equal(found["image"].permute(1, 2, 0), image)
    expected = generator(scene()[0][:, ::-1][5:53, 10:70], record["segments_info"])
    for name, value in expected.items():
        assert np.array_equal(found[name], value), name
    assert "pan_seg_file_name" not in found
    assert (found["height"], found["width"], found["image_id"]) == (60, 90, 7)


@pytest.mark.parametrize(("height", "width"), [(33, 71), (120, 180), (137, 200)])
def test_segments_are_resized_without_mixing(tmp_path: Path, height: int, width: int) -> None:
    mapper = panoptic_deeplab.PanopticDeeplabDatasetMapper(
        augmentations=[T.Resize((height, width))],
        image_format="RGB",
        panoptic_target_generator=PanopticDeepLabTargetGenerator(255, THINGS),
    )
    found = mapper(record_on_disk(tmp_path))
    assert found["image"].shape == (3, height, width)
    assert found["sem_seg"].shape == (height, width)
    assert found["sem_seg"].unique().tolist() == [0, 2, 3, 4, 255]
    assert len(found["center_points"]) == 4


def test_mapper_and_optimizer_follow_the_config() -> None:
    cfg = config(R52, "INPUT.CROP.ENABLED", True, "INPUT.GAUSSIAN_SIGMA", 7)
    arguments = panoptic_deeplab.PanopticDeeplabDatasetMapper.from_config(cfg)
    kinds = [type(a).__name__ for a in arguments["augmentations"]]
    assert kinds == ["ResizeShortestEdge", "RandomCrop", "RandomFlip"]
    generator = arguments["panoptic_target_generator"]
    assert (generator.sigma, generator.thing_ids, generator.small_instance_area) == (7, {3, 4}, 4096)
    assert isinstance(build_optimizer(cfg, nn.Linear(2, 2)), torch.optim.Adam)
