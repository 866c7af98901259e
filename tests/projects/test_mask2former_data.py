"""Mask2Former's mappers, data sets and evaluator."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as rle

from detectron2.cli.run.model_fit import model_kinds
from detectron2.data import DatasetCatalog, MetadataCatalog, build_detection_train_loader
from detectron2.data import transforms as T
from detectron2.data.catalog import forget
from detectron2.data.dataset_mapper import DATASET_MAPPER_REGISTRY, DatasetMapper, build_train_mapper
from detectron2.engine.run_config import YacsRunConfig
from detectron2.evaluation import EVALUATOR_REGISTRY
from detectron2.modeling import build_model
from detectron2.projects.mask2former import (
    COCOInstanceNewBaselineDatasetMapper,
    COCOPanopticNewBaselineDatasetMapper,
    InstanceSegEvaluator,
    MaskFormerInstanceDatasetMapper,
    MaskFormerPanopticDatasetMapper,
    MaskFormerSemanticDatasetMapper,
)
from detectron2.projects.mask2former.data.datasets import load_panoptic
from detectron2.structures import Boxes, BoxMode, Instances

sys.path.insert(0, str(Path(__file__).parent))
from _mask2former_models import INSTANCE, PANOPTIC, SEMANTIC, config

FLIP = [T.RandomFlip(prob=1.0)]


@pytest.fixture
def record(tmp_path: Path) -> dict[str, Any]:
    """An image of 20 x 30 pixels: class 3 above, two objects of class 1 below, and a crowd at the right."""
    labels = np.full((20, 30), 3, np.uint8)
    labels[10:] = 1
    labels[:, 25:] = 255
    ids = np.full((20, 30), 7, np.uint32)
    ids[10:, :12], ids[10:, 12:], ids[:, 25:] = 300, 70000, 9
    picture = np.stack([ids % 256, ids // 256 % 256, ids // 65536], -1).astype(np.uint8)
    rng = np.random.default_rng(0)
    for name, array in {
        "image.png": rng.integers(0, 256, (20, 30, 3), dtype=np.uint8),
        "labels.png": labels,
        "segments.png": picture,
    }.items():
        Image.fromarray(array).save(tmp_path / name)
    return {
        "file_name": str(tmp_path / "image.png"),
        "sem_seg_file_name": str(tmp_path / "labels.png"),
        "pan_seg_file_name": str(tmp_path / "segments.png"),
        "segments_info": [
            {"id": 7, "category_id": 3, "iscrowd": 0},
            {"id": 300, "category_id": 1, "iscrowd": 0},
            {"id": 70000, "category_id": 1, "iscrowd": 0},
            {"id": 9, "category_id": 1, "iscrowd": 1},
        ],
        "height": 20,
        "width": 30,
    }


def annotated(record: dict[str, Any], as_rle: bool = False) -> dict[str, Any]:
    """The same image with two boxes as instances, and a crowd."""
    box = [2.0, 3.0, 10.0, 12.0]
    polygon = [[2.0, 3.0, 12.0, 3.0, 12.0, 15.0, 2.0, 15.0]]
    segmentation: Any = rle.merge(rle.frPyObjects(polygon, 20, 30)) if as_rle else polygon
    one = {"bbox": box, "bbox_mode": BoxMode.XYWH_ABS, "segmentation": segmentation, "category_id": 5}
    keys = ("file_name", "height", "width")
    return {
        **{k: record[k] for k in keys},
        "annotations": [{**one, "iscrowd": 0}, {**one, "category_id": 2}, {**one, "iscrowd": 1}],
    }


def test_semantic_labels_become_masks(record: dict[str, Any]) -> None:
    mapper = MaskFormerSemanticDatasetMapper(
        augmentations=FLIP, image_format="RGB", ignore_label=255, size_divisibility=40
    )
    before = json.dumps(record)
    found = mapper(record)
    assert json.dumps(record) == before
    assert found["image"].shape == (3, 40, 40) and (found["image"][:, 20:] == 128).all()
    labels = np.asarray(Image.open(record["sem_seg_file_name"]))[:, ::-1]
    assert np.array_equal(found["sem_seg"][:20, :30].numpy(), labels)
    assert (found["sem_seg"][20:] == 255).all()
    instances = found["instances"]
    assert instances.gt_classes.tolist() == [1, 3]
    for label, mask in zip((1, 3), instances.gt_masks):
        assert torch.equal(mask, found["sem_seg"] == label)
    with pytest.raises(ValueError, match="sem_seg_file_name"):
        mapper({"file_name": record["file_name"], "height": 20, "width": 30})
    with pytest.raises(ValueError, match="annotations"):
        mapper({**record, "annotations": []})


def test_only_ignored_pixels_are_no_objects(record: dict[str, Any], tmp_path: Path) -> None:
    Image.fromarray(np.full((20, 30), 255, np.uint8)).save(tmp_path / "labels.png")
    mapper = MaskFormerSemanticDatasetMapper(
        augmentations=[], image_format="RGB", ignore_label=255, size_divisibility=-1
    )
    assert len(mapper(record)["instances"]) == 0


def test_segments_become_masks_without_crowds(record: dict[str, Any]) -> None:
    shared: dict[str, Any] = {"image_format": "RGB"}
    large = MaskFormerPanopticDatasetMapper(
        augmentations=FLIP, ignore_label=255, size_divisibility=32, **shared
    )(record)
    jitter = COCOPanopticNewBaselineDatasetMapper(tfm_gens=[*FLIP, T.FixedSizeCrop((32, 32))], **shared)(
        record
    )
    for found in (large, jitter):
        instances = found["instances"]
        assert instances.gt_classes.tolist() == [3, 1, 1]
        assert instances.gt_masks.shape == (3, 32, 32)
        assert instances.gt_masks.flatten(1).sum(1).tolist() == [250, 120, 130]
        assert not instances.gt_masks[:, :20, :5].any()  # the crowd, mirrored
    assert jitter["instances"].gt_boxes.tensor[0].tolist() == [5, 0, 30, 10]
    assert "sem_seg" in large and "sem_seg" not in jitter


@pytest.mark.parametrize("as_rle", [False, True])
def test_annotations_become_masks(record: dict[str, Any], as_rle: bool) -> None:
    jitter = COCOInstanceNewBaselineDatasetMapper(
        tfm_gens=[*FLIP, T.FixedSizeCrop((32, 32))], image_format="RGB"
    )(annotated(record, as_rle))
    plain = MaskFormerInstanceDatasetMapper(augmentations=FLIP, image_format="RGB", size_divisibility=32)(
        annotated(record, as_rle)
    )
    for found in (jitter, plain):
        instances = found["instances"]
        assert instances.gt_classes.tolist() == [5, 2]
        assert instances.gt_masks.shape == (2, 32, 32)
        assert instances.gt_masks[0].bool().nonzero().amin(0).tolist() == [3, 18]
        assert int(instances.gt_masks[0].sum()) == 120
    assert jitter["instances"].gt_boxes.tensor[0].tolist() == [18, 3, 28, 15]
    assert jitter["padding_mask"].shape == (32, 32)


def test_objects_that_a_crop_removes_are_left_out(record: dict[str, Any]) -> None:
    crop = [T.CropTransform(20, 0, 10, 20)]
    given = annotated(record)
    found = MaskFormerInstanceDatasetMapper(augmentations=crop, image_format="RGB", size_divisibility=-1)(
        given
    )
    assert found["instances"].gt_masks.shape == (0, 20, 10)
    jitter = COCOInstanceNewBaselineDatasetMapper(tfm_gens=crop, image_format="RGB")
    assert len(jitter(given)["instances"]) == 0
    given["annotations"] = []
    assert jitter(given)["instances"].gt_masks.shape == (0, 20, 10)
    test = COCOInstanceNewBaselineDatasetMapper(is_train=False, tfm_gens=crop, image_format="RGB")
    assert "instances" not in test(given) and "annotations" not in test(given)


def test_configs_name_their_mappers() -> None:
    assert type(build_train_mapper(config(PANOPTIC))) is COCOPanopticNewBaselineDatasetMapper
    assert type(build_train_mapper(config(INSTANCE))) is COCOInstanceNewBaselineDatasetMapper
    semantic = config(SEMANTIC)
    mapper = build_train_mapper(semantic)
    assert isinstance(mapper, MaskFormerSemanticDatasetMapper) and mapper.ignore_label == 255
    names = ("mask_former_instance", "mask_former_panoptic")
    assert all(name in DATASET_MAPPER_REGISTRY for name in names)
    semantic.INPUT.DATASET_MAPPER_NAME = "mine"
    assert type(build_train_mapper(semantic)) is DatasetMapper
    with pytest.raises(ValueError, match="training only"):
        COCOInstanceNewBaselineDatasetMapper(config(INSTANCE), False)


def test_train_loader_uses_the_mapper(record: dict[str, Any]) -> None:
    name = "mask2former_test_segments"
    DatasetCatalog.register(name, lambda: [record])
    try:
        cfg = config(PANOPTIC, "DATASETS.TRAIN", (name,), "INPUT.IMAGE_SIZE", 64, "SOLVER.IMS_PER_BATCH", 1)
        cfg.DATALOADER.NUM_WORKERS = 0
        cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS = False
        (item,) = next(iter(build_detection_train_loader(cfg)))
    finally:
        forget(name)
    assert item["image"].shape == (3, 64, 64) and item["instances"].gt_masks.shape[1:] == (64, 64)


def test_panoptic_files_are_loaded(tmp_path: Path) -> None:
    segments = [{"id": 5, "category_id": 9, "iscrowd": 0}, {"id": 6, "category_id": 4, "iscrowd": 0}]
    content = {"annotations": [{"image_id": "a_1", "file_name": "a_1.png", "segments_info": segments}]}
    (tmp_path / "p.json").write_text(json.dumps(content))
    meta = {"thing_dataset_id_to_contiguous_id": {9: 1}, "stuff_dataset_id_to_contiguous_id": {4: 0, 9: 1}}
    (found,) = load_panoptic(str(tmp_path / "p.json"), "images", "segments", "labels", meta)
    assert found["file_name"] == "images/a_1.jpg" and found["image_id"] == "a_1"
    assert found["pan_seg_file_name"] == "segments/a_1.png"
    assert found["sem_seg_file_name"] == "labels/a_1.png"
    assert [(s["category_id"], s["isthing"]) for s in found["segments_info"]] == [(1, True), (0, False)]


# ------------------------------------------------------------------------------------------------------- evaluator


@pytest.fixture
def data_set(tmp_path: Path) -> Any:
    """Two images whose classes are 2 and 5 of a panoptic data set."""
    name = "mask2former_test_instances"
    annotations = [
        {
            "id": i + 1,
            "image_id": 1 + i // 2,
            "category_id": (3, 8)[i % 2],
            "bbox": [2, 2, 10, 8],
            "area": 80,
            "iscrowd": 0,
            "segmentation": [[2, 2, 12, 2, 12, 10, 2, 10]],
        }
        for i in range(4)
    ]
    content = {
        "images": [{"id": i, "height": 20, "width": 30, "file_name": f"{i}.png"} for i in (1, 2)],
        "annotations": annotations,
        "categories": [{"id": 3, "name": "cat"}, {"id": 8, "name": "dog"}],
    }
    (tmp_path / "i.json").write_text(json.dumps(content))
    DatasetCatalog.register(name, lambda: [])
    MetadataCatalog.get(name).set(
        json_file=str(tmp_path / "i.json"),
        image_root="",
        thing_dataset_id_to_contiguous_id={3: 2, 8: 5},
        thing_classes=["cat", "dog"],
    )
    yield name
    forget(name)


@pytest.mark.parametrize("boxes", [False, True])
def test_masks_are_judged_and_boxes_if_there_are_any(data_set: str, boxes: bool) -> None:
    evaluator = InstanceSegEvaluator(data_set)
    evaluator.reset()
    for image_id in (1, 2):
        masks = torch.zeros(2, 20, 30, dtype=torch.bool)
        masks[0, 2:10, 2:12] = True
        masks[1, 12:, 20:] = True  # the dog is elsewhere
        found = Instances((20, 30), pred_masks=masks, scores=torch.tensor([0.9, 0.8]))
        found.pred_classes = torch.tensor([2, 5])
        found.pred_boxes = Boxes(torch.tensor([[2.0, 2, 12, 10]] * 2) * boxes)
        evaluator.process([{"image_id": image_id}], [{"instances": found}])
    results = evaluator.evaluate()
    assert set(results) == ({"bbox", "segm"} if boxes else {"segm"})
    assert results["segm"]["AP-cat"] == pytest.approx(100)
    assert results["segm"]["AP-dog"] == 0
    assert len([k for k in results["segm"] if k.startswith("AP-")]) == 2


def test_mapillary_has_an_evaluator() -> None:
    assert "mapillary_vistas_panoptic_seg" in EVALUATOR_REGISTRY


# ------------------------------------------------------------------------------------------------- command line


def test_the_command_line_fits_models_to_labels() -> None:
    instances, panoptic, semantic = (YacsRunConfig(config(name)) for name in (INSTANCE, PANOPTIC, SEMANTIC))
    assert model_kinds(instances) == {"masks": True, "rotated": False, "keypoints": 0, "other": ""}
    assert model_kinds(panoptic)["other"] == "panoptic"
    assert model_kinds(semantic)["other"] == "semantic"
    instances.set_data("train", "val", 7, 0)
    assert instances.get("MODEL.SEM_SEG_HEAD.NUM_CLASSES") == 7
    assert build_model(instances.cfg).criterion.empty_weight.shape == (8,)
