"""Small data sets with DensePose annotations, written to a folder, and a small surface to judge predictions on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask as mask_util
import scipy.io
import torch
from PIL import Image

from detectron2.config import CfgNode, get_cfg
from detectron2.data import MetadataCatalog
from detectron2.data.catalog import forget
from detectron2.projects.densepose import add_densepose_config
from detectron2.projects.densepose.data.datasets.coco import CocoDatasetInfo, register_dataset
from detectron2.projects.densepose.evaluation.smpl_geodesics import SmplGeodesics
from detectron2.projects.densepose.structures import DensePoseChartPredictorOutput
from detectron2.structures import Boxes, Instances

POINTS = 8


def encode(mask: np.ndarray) -> dict[str, Any]:
    rle = mask_util.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {**rle, "counts": rle["counts"].decode()}


def chart_keys(seed: int) -> dict[str, Any]:
    """Annotated points, and a body that fills the middle of the box in two parts."""
    rng = np.random.default_rng(seed)
    left, right = np.zeros((256, 256)), np.zeros((256, 256))
    left[40:216, 40:128], right[40:216, 128:216] = 1, 1
    return {
        "dp_x": rng.uniform(50, 200, POINTS).tolist(),
        "dp_y": rng.uniform(50, 200, POINTS).tolist(),
        "dp_I": rng.integers(1, 25, POINTS).astype(float).tolist(),
        "dp_U": rng.uniform(0.1, 0.9, POINTS).tolist(),
        "dp_V": rng.uniform(0.1, 0.9, POINTS).tolist(),
        "dp_masks": [encode(left), encode(right)] + [[] for _ in range(12)],
    }


def annotation(number: int, image: int, box: list[float], category: int = 1, **more: Any) -> dict[str, Any]:
    x, y, w, h = box
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "iscrowd": 0,
        "bbox": box,
        "area": w * h,
        "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
        **more,
    }


def register(
    folder: Path,
    name: str,
    annotations: list[dict[str, Any]],
    images: tuple[int, ...] = (1, 2),
    categories: dict[int, str] | None = None,
    size: tuple[int, int] = (60, 80),
    **image_keys: Any,
) -> dict[str, Any]:
    """Write images and annotations, and register them; returns the content of the file."""
    content = {
        "images": [
            {"id": i, "file_name": f"{i}.png", "height": size[0], "width": size[1], **image_keys}
            for i in images
        ],
        "annotations": annotations,
        "categories": [{"id": i, "name": n} for i, n in (categories or {1: "person"}).items()],
    }
    (folder / f"{name}.json").write_text(json.dumps(content))
    rng = np.random.default_rng(0)
    for i in images:
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    forget(name)
    register_dataset(CocoDatasetInfo(name, str(folder), str(folder / f"{name}.json")))
    tables = np.empty((1, 24), dtype=object)
    for k in range(24):
        tables[0, k] = np.full((256, 256), 0.5)
    scipy.io.savemat(folder / "uv.mat", {"U_transforms": tables, "V_transforms": tables})
    MetadataCatalog.get(name).__dict__["densepose_transform_src"] = str(folder / "uv.mat")
    return content


def config(train: tuple[str, ...] = (), test: tuple[str, ...] = ()) -> CfgNode:
    cfg = get_cfg()
    add_densepose_config(cfg)
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = train, test
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TEST = (60,), 60
    cfg.INPUT.RANDOM_FLIP = "none"
    cfg.MODEL.DEVICE = "cpu"
    return cfg


def small_surface(per_chart: int = 10) -> SmplGeodesics:
    """A surface whose distances are those of random points in space."""
    rng = np.random.default_rng(5)
    number = 24 * per_chart
    chart = np.arange(number) % 24 + 1
    space = rng.normal(size=(number, 3)) * 0.2 + rng.normal(size=(24, 3))[chart - 1] * 0.4
    i, j = np.tril_indices(number, -1)
    return SmplGeodesics(
        chart_ids=chart,
        uv=rng.uniform(size=(number, 2)),
        coarse_ids=rng.permutation(number) + 1,
        distances=np.linalg.norm(space[i] - space[j], axis=1),
    )


def exact_prediction(annotations: list[dict[str, Any]], size: tuple[int, int]) -> Instances:
    """Detections in the annotated boxes that say of every pixel what was annotated at the nearest point."""
    n, side = len(annotations), 64
    coarse, fine = torch.full((n, 2, side, side), -1.0), torch.zeros(n, 25, side, side)
    u, v = torch.zeros(n, 25, side, side), torch.zeros(n, 25, side, side)
    at = (torch.arange(side) + 0.5) / side * 256
    for k, a in enumerate(annotations):
        x, y = torch.tensor(a["dp_x"]), torch.tensor(a["dp_y"])
        near = ((at[None, :, None] - x) ** 2 + (at[:, None, None] - y) ** 2).argmin(dim=2)
        chart = torch.tensor(a["dp_I"]).long()[near]
        fine[k].scatter_(0, chart[None], 9.0)
        u[k], v[k] = torch.tensor(a["dp_U"]).float()[near], torch.tensor(a["dp_V"]).float()[near]
        coarse[k, 1, 10:54, 10:54] = 1
    boxes = torch.tensor([a["bbox"] for a in annotations])
    boxes[:, 2:] += boxes[:, :2]
    found = Instances(size, pred_boxes=Boxes(boxes), scores=torch.linspace(0.9, 0.5, n))
    found.pred_classes = torch.zeros(n, dtype=torch.int64)
    found.pred_densepose = DensePoseChartPredictorOutput(coarse_segm=coarse, fine_segm=fine, u=u, v=v)
    return found
