"""Small models of PointRend and PointSup."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_model
from detectron2.projects import point_rend, point_sup

sys.path.insert(0, str(Path(__file__).parent.parent / "modeling"))
import _models

POINTREND = "point_rend/configs/InstanceSegmentation/pointrend_rcnn_R_50_FPN_1x_coco.yaml"
IMPLICIT = "point_rend/configs/InstanceSegmentation/implicit_pointrend_R_50_FPN_1x_coco.yaml"
SEMANTIC = "point_rend/configs/SemanticSegmentation/pointrend_semantic_R_101_FPN_1x_cityscapes.yaml"
POINT_SUP = "point_sup/configs/mask_rcnn_R_50_FPN_3x_point_sup_coco.yaml"
IMPLICIT_POINT_SUP = "point_sup/configs/implicit_pointrend_R_50_FPN_3x_point_sup_point_aug_coco.yaml"
PROJECTS = Path(point_rend.__file__).parent.parent

_SMALL = (
    *(("MODEL.POINT_HEAD.NUM_CLASSES", 5), ("MODEL.SEM_SEG_HEAD.NUM_CLASSES", 5)),
    *(("MODEL.POINT_HEAD.FC_DIM", 12), ("MODEL.ROI_MASK_HEAD.FC_DIM", 24)),
    *(("MODEL.POINT_HEAD.SUBDIVISION_STEPS", 2), ("MODEL.POINT_HEAD.SUBDIVISION_NUM_POINTS", 120)),
    *(("MODEL.POINT_HEAD.TRAIN_NUM_POINTS", 30), ("INPUT.CROP.ENABLED", False)),
)


def config(path: str) -> CfgNode:
    """A config of the package, as it is."""
    cfg = get_cfg()
    point_rend.add_pointrend_config(cfg)
    if path.startswith("point_sup"):
        point_sup.add_point_sup_config(cfg)
    cfg.merge_from_file(str(PROJECTS / path))
    return cfg


def small_config(path: str, *options: Any) -> CfgNode:
    cfg = config(path)
    for pair in (*_models._SMALL, *_SMALL):
        cfg.merge_from_list(pair)
    cfg.merge_from_list(list(options))
    return cfg


def small_model(path: str, *options: Any) -> Any:
    """A model with random weights, of which classes and points differ."""
    torch.manual_seed(0)
    model = build_model(small_config(path, *options))
    for name, parameter in model.named_parameters():
        if name.endswith(("cls_score.weight", "predictor.weight", "prediction.weight")):
            nn.init.normal_(parameter, std=0.05)
    _models._settle_norms(model)
    return model.eval()


def example(height: int, width: int, num_objects: int, seed: int = 0, points: int = 0) -> dict[str, Any]:
    """An input for training, with as many labelled points of each object as asked for."""
    item = _models.example("mask_rcnn", height, width, num_objects, seed)
    item["sem_seg"] %= 5
    if points and num_objects:
        truth = item["instances"]
        generator = torch.Generator().manual_seed(seed)
        boxes = truth.gt_boxes.tensor
        inside = torch.rand(num_objects, points, 2, generator=generator)
        truth.gt_point_coords = (
            boxes[:, None, :2] + inside * (boxes[:, None, 2:] - boxes[:, None, :2])
        ).double()
        truth.gt_point_labels = (torch.arange(num_objects * points) % 2).view(num_objects, points).double()
    return item


image = _models.image
