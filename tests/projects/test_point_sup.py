"""PointSup: annotated points from the file to the loss."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data import transforms as T
from detectron2.projects.point_sup import PointSupDatasetMapper, get_point_coords_from_point_annotation
from detectron2.projects.point_sup.detection_utils import (
    annotations_to_instances,
    transform_instance_annotations,
)
from detectron2.projects.point_sup.register_point_annotations import register_coco_instances_with_points
from detectron2.structures import Boxes, BoxMode, Instances
from detectron2.utils.events import EventStorage

sys.path.insert(0, str(Path(__file__).parent))
from _point_models import IMPLICIT_POINT_SUP, POINT_SUP, config, example, image, small_model

COCO = "coco_2017_train_points_n10_v1_without_masks"


def annotation(points: int = 4, seed: int = 0, **more: Any) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    coords = rng.integers([10, 5], [50, 45], size=(points, 2))
    return {
        "bbox": [10.0, 5.0, 40.0, 40.0], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 1, "iscrowd": 0,
        "point_coords": coords.tolist(), "point_labels": rng.integers(0, 2, points).tolist(), **more,
    }  # fmt: skip


# ---------------------------------------------------------------- points
def test_points_in_coordinates_of_proposals() -> None:
    instances = Instances(
        (60, 80),
        proposal_boxes=Boxes(torch.tensor([[10.0, 20, 30, 60], [0, 0, 80, 60]])),
        gt_point_coords=torch.tensor(
            [[[10.0, 20], [20, 50], [31, 30]], [[40, 30], [80, 60], [0, 0]]]
        ).double(),
        gt_point_labels=torch.tensor([[1, 0, 1], [1, 0, -1]]).double(),
    )
    nothing = Instances((60, 80), proposal_boxes=Boxes(torch.zeros(0, 4)))
    coords, labels = get_point_coords_from_point_annotation([instances, nothing])
    assert coords[0, :2].tolist() == [[0, 0], [0.5, 0.75]]
    assert labels.tolist() == [[1, 0, -1], [1, 0, -1]]  # (31, 30) lies outside of its box
    assert coords.dtype == labels.dtype == torch.float32
    assert get_point_coords_from_point_annotation([nothing])[0].shape == (0, 0, 2)


def test_points_move_with_the_image() -> None:
    one = annotation(point_coords=[[10, 5], [79, 5], [40, 59], [45, 30]], point_labels=[1, 0, 1, 0])
    moved = transform_instance_annotations(
        one, [T.HFlipTransform(80), T.CropTransform(0, 0, 75, 50)], (50, 75)
    )
    assert moved["point_coords"].tolist() == [[70, 5], [1, 5], [40, 59], [35, 30]]
    assert moved["point_labels"].tolist() == [1, 0, -1, 0]
    assert "point_coords" not in transform_instance_annotations(
        {"bbox": [0, 0, 1, 1], "bbox_mode": BoxMode.XYXY_ABS}, T.NoOpTransform(), (9, 9)
    )
    with pytest.raises(ValueError, match="each point needs one label"):
        transform_instance_annotations(annotation(point_labels=[1]), T.NoOpTransform(), (60, 80))


@pytest.mark.parametrize("count", [3, 4, 9])
def test_drawn_points_are_those_of_the_object(count: int) -> None:
    np.random.seed(0)
    annos = [annotation(seed=s) for s in range(3)]
    for anno in annos:
        anno.update(bbox=[10.0, 5, 50, 45], bbox_mode=BoxMode.XYXY_ABS)
    drawn = annotations_to_instances(annos, (60, 80), sample_points=count)
    assert drawn.gt_point_coords.shape == (3, count, 2)
    for n, anno in enumerate(annos):
        own = {(*xy, label) for xy, label in zip(anno["point_coords"], anno["point_labels"])}
        found = [
            (*xy, label)
            for xy, label in zip(drawn.gt_point_coords[n].tolist(), drawn.gt_point_labels[n].tolist())
        ]
        assert set(found) <= own
        assert len(set(found)) == len(own) if count == 4 else count


def test_objects_need_as_many_points() -> None:
    assert not annotations_to_instances([], (60, 80), 5).has("gt_point_coords")
    with pytest.raises(ValueError, match="same number of points"):
        annotations_to_instances([annotation(3), annotation(4)], (60, 80))


# ---------------------------------------------------------------- data
def test_from_the_file_to_the_input_of_a_model(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((60, 80, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    annos = [
        {**annotation(seed=s), "id": s + 1, "image_id": 1, "category_id": 7, "area": 1.0} for s in range(2)
    ]
    annos.append({**annos[0], "id": 3, "iscrowd": 1})
    for anno in annos:
        del anno["bbox_mode"]
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": 60, "width": 80}],
        "annotations": annos,
        "categories": [{"id": 7, "name": "thing"}],
    }
    (tmp_path / "points.json").write_text(json.dumps(content))
    name = f"points of {tmp_path.name}"
    register_coco_instances_with_points(name, {"extra": 1}, str(tmp_path / "points.json"), str(tmp_path))
    (record,) = DatasetCatalog.get(name)
    meta = MetadataCatalog.get(name)
    assert (meta.extra, meta.evaluator_type, meta.thing_classes) == (1, "coco", ["thing"])
    before = json.dumps(record, default=str)
    mapper = PointSupDatasetMapper(
        is_train=True,
        augmentations=[T.ResizeTransform(60, 80, 120, 160)],
        image_format="BGR",
        sample_points=0,
    )
    instances = mapper(record)["instances"]
    assert json.dumps(record, default=str) == before
    assert len(instances) == 2  # without the crowd
    expected = (np.asarray(annos[1]["point_coords"]) + 0.5) * 2  # centres of pixels, scaled
    assert instances.gt_point_coords[1].tolist() == expected.tolist()
    assert instances.gt_classes.tolist() == [0, 0]
    testing = PointSupDatasetMapper(is_train=False, augmentations=[], image_format="BGR")(record)
    assert "annotations" not in testing
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)


def test_mapper_of_a_config() -> None:
    cfg = config(IMPLICIT_POINT_SUP)
    assert PointSupDatasetMapper(cfg, is_train=True).sample_points == 5
    cfg.INPUT.CROP.ENABLED = True
    with pytest.raises(ValueError, match=r"INPUT\.CROP\.ENABLED"):
        PointSupDatasetMapper(cfg, is_train=True)


def test_coco_with_points_is_registered() -> None:
    assert COCO in DatasetCatalog.list()
    meta, plain = MetadataCatalog.get(COCO), MetadataCatalog.get("coco_2017_train")
    assert meta.json_file.endswith("coco/annotations/instances_train2017_n10_v1_without_masks.json")
    assert meta.thing_classes == plain.thing_classes
    assert meta.thing_dataset_id_to_contiguous_id == plain.thing_dataset_id_to_contiguous_id


# ---------------------------------------------------------------- models
@pytest.mark.parametrize("path", [POINT_SUP, IMPLICIT_POINT_SUP])
def test_a_step_of_training(path: str) -> None:
    model = small_model(path).train()
    items = [example(128, 160, 3, points=6), example(96, 128, 0)]
    for item in items:
        if item["instances"].has("gt_masks"):
            item["instances"].remove("gt_masks")
    with EventStorage():
        losses = model(items)
        sum(losses.values()).backward()
        nothing = model(items[1:])
    missing = [
        name for name, p in model.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()
    ]
    assert missing == []
    assert all(torch.isfinite(value) for value in nothing.values())


@pytest.mark.parametrize("path", [POINT_SUP, IMPLICIT_POINT_SUP])
def test_predictions_in_batches(path: str) -> None:
    model = small_model(path)
    pictures = [image(128, 160), image(128, 160, seed=1)]
    with torch.no_grad():
        together = model(pictures)
        alone = [model([p])[0] for p in pictures]
    for a, b in zip(together, alone):
        assert len(a["instances"]) == len(b["instances"]) > 0
        assert (a["instances"].pred_masks != b["instances"].pred_masks).float().mean() < 1e-3


def test_the_loss_sees_only_labelled_points() -> None:
    """Masks that are right at the points and wrong everywhere else have a small loss."""
    head = small_model(POINT_SUP).roi_heads.mask_head.train()
    instances = Instances(
        (28, 28),
        proposal_boxes=Boxes(torch.tensor([[0.0, 0, 28, 28]])),
        gt_classes=torch.tensor([2]),
        gt_point_coords=torch.tensor([[[5.5, 7.5], [20.5, 9.5]]]),
        gt_point_labels=torch.tensor([[1.0, 0.0]]),
    )
    logits = torch.zeros(1, 5, 28, 28)
    logits[0, 2, 7, 5], logits[0, 2, 9, 20] = 20, -20
    head.layers = lambda x: logits
    with EventStorage():
        assert head(torch.zeros(1), [instances])["loss_mask"].item() < 1e-6
