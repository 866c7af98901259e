"""MaskDINO's mapper, and its configs in the command line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from detectron2.cli.run.model_fit import model_kinds
from detectron2.data import transforms as T
from detectron2.data.dataset_mapper import build_train_mapper
from detectron2.engine.run_config import YacsRunConfig
from detectron2.modeling import build_model
from detectron2.projects.maskdino import (
    COCOInstanceNewBaselineDatasetMapper,
    COCOPanopticNewBaselineDatasetMapper,
    DetrDatasetMapper,
    MaskFormerSemanticDatasetMapper,
)
from detectron2.structures import BoxMode

sys.path.insert(0, str(Path(__file__).parent))
from _maskdino_models import INSTANCE, PANOPTIC, SEMANTIC, config


@pytest.fixture
def record(tmp_path: Path) -> dict[str, Any]:
    """An image of 40 x 60 pixels with a box of 20 x 24 pixels around a smaller mask, and a crowd."""
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    one = {
        "bbox": [4.0, 6.0, 20.0, 24.0],
        "bbox_mode": BoxMode.XYWH_ABS,
        "segmentation": [[8.0, 10.0, 20.0, 10.0, 20.0, 26.0, 8.0, 26.0]],
        "category_id": 5,
    }
    annotations = [{**one, "iscrowd": 0}, {**one, "iscrowd": 1}]
    return {"file_name": str(tmp_path / "image.png"), "height": 40, "width": 60, "annotations": annotations}


def options(*more: Any) -> list[Any]:
    return ["INPUT.MIN_SIZE_TRAIN", (80,), "INPUT.MAX_SIZE_TRAIN", 200, "INPUT.MIN_SIZE_TEST", 20, *more]


def test_images_are_resized_and_boxes_stay_those_of_the_labels(record: dict[str, Any]) -> None:
    mapper = DetrDatasetMapper(config(INSTANCE, *options()), True)
    found = mapper(record)
    assert "annotations" in record and "annotations" not in found
    assert found["image"].shape == (3, 80, 120)
    instances = found["instances"]
    assert instances.gt_classes.tolist() == [5]
    (box,) = instances.gt_boxes.tensor.tolist()
    assert box in ([8, 12, 48, 60], [72, 12, 112, 60])
    assert instances.gt_masks.dtype == torch.uint8 and int(instances.gt_masks.sum()) == 24 * 32
    assert len(mapper({**record, "annotations": []})["instances"]) == 0
    test = DetrDatasetMapper(config(INSTANCE, *options()), False)(record)
    assert test["image"].shape == (3, 20, 30) and "instances" not in test


def test_half_of_the_images_are_cropped(record: dict[str, Any]) -> None:
    crop = ("INPUT.CROP.ENABLED", True, "INPUT.CROP.TYPE", "absolute", "INPUT.CROP.SIZE", (300, 300))
    mapper = DetrDatasetMapper(config(INSTANCE, *options(*crop)), True)
    np.random.seed(0)
    shapes = {tuple(mapper(record)["image"].shape[1:]) for _ in range(12)}
    assert shapes == {(80, 120), (80, 80)}  # the whole image, and a square of it
    (either,) = mapper.tfm_gens
    assert isinstance(either, T.RandomEither) and len(either.augs) == 2


def test_configs_name_their_mappers() -> None:
    assert type(build_train_mapper(config(INSTANCE))) is COCOInstanceNewBaselineDatasetMapper
    assert type(build_train_mapper(config(PANOPTIC))) is COCOPanopticNewBaselineDatasetMapper
    for name in ("mask_former_semantic", "MaskDINO_semantic"):
        mapper = build_train_mapper(config(SEMANTIC, "INPUT.DATASET_MAPPER_NAME", name))
        assert type(mapper) is MaskFormerSemanticDatasetMapper
    mapper = build_train_mapper(config(INSTANCE, "INPUT.DATASET_MAPPER_NAME", "coco_instance_detr"))
    assert type(mapper) is DetrDatasetMapper


def test_the_command_line_fits_models_to_labels() -> None:
    instances, panoptic, semantic = (YacsRunConfig(config(name)) for name in (INSTANCE, PANOPTIC, SEMANTIC))
    assert model_kinds(instances) == {"masks": True, "rotated": False, "keypoints": 0, "other": ""}
    assert model_kinds(panoptic)["other"] == "panoptic"
    assert model_kinds(semantic)["other"] == "semantic"
    instances.set_data("train", "val", 7, 0)
    model = build_model(instances.cfg)
    assert model.sem_seg_head.predictor.class_embed.out_features == 7
    assert model.sem_seg_head.predictor.label_enc.num_embeddings == 7
