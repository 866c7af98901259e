"""Small DensePose annotations, outputs and models for tests."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from detectron2.config import CfgNode, get_cfg
from detectron2.projects.densepose import add_densepose_config
from detectron2.projects.densepose.data.meshes.catalog import MeshCatalog, MeshInfo, register_mesh
from detectron2.projects.densepose.structures import (
    DensePoseChartPredictorOutput,
    DensePoseDataRelative,
    DensePoseEmbeddingPredictorOutput,
    DensePoseList,
    DensePoseTransformData,
)
from detectron2.structures import BitMasks, Boxes, Instances


def random(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def chart_annotation(seed: int, points: int = 12, segm: bool = True) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    found: dict[str, Any] = {
        "dp_x": rng.uniform(5, 250, points).tolist(),
        "dp_y": rng.uniform(5, 250, points).tolist(),
        "dp_I": rng.integers(1, 25, points).tolist(),
        "dp_U": rng.uniform(0, 1, points).tolist(),
        "dp_V": rng.uniform(0, 1, points).tolist(),
    }
    if segm:
        found["dp_masks"] = torch.from_numpy(rng.integers(0, 15, (256, 256))).float()
    return found


def vertex_annotation(seed: int, mesh: str, vertices: int, points: int = 12) -> dict[str, Any]:
    chart = chart_annotation(seed, points)
    rng = np.random.default_rng(seed)
    kept = {k: chart[k] for k in ("dp_x", "dp_y", "dp_masks")}
    return {**kept, "dp_vertex": rng.integers(0, vertices, points).tolist(), "ref_model": mesh}


def chart_output(seed: int, n: int = 2, size: int = 8) -> DensePoseChartPredictorOutput:
    return DensePoseChartPredictorOutput(
        coarse_segm=random(seed, n, 2, size, size),
        fine_segm=random(seed + 1, n, 25, size, size),
        u=random(seed + 2, n, 25, size, size).sigmoid(),
        v=random(seed + 3, n, 25, size, size).sigmoid(),
    )


def embedding_output(seed: int, n: int = 2, size: int = 8, dim: int = 6) -> DensePoseEmbeddingPredictorOutput:
    return DensePoseEmbeddingPredictorOutput(
        embedding=random(seed, n, dim, size, size), coarse_segm=random(seed + 1, n, 2, size, size)
    )


def mirror_tables() -> DensePoseTransformData:
    """Symmetries that reverse U and keep V, to within a step of the table."""
    u = torch.linspace(1, 0, 256).expand(24, 256, 256)
    v = torch.linspace(0, 1, 256)[:, None].expand(24, 256, 256)
    return DensePoseTransformData({"U_transforms": u, "V_transforms": v}, torch.device("cpu"))


def make_mesh(folder: Path, name: str, vertices: int = 10, symmetry: bool = True) -> None:
    """Register a mesh whose mirror image swaps neighbouring vertices."""
    points = random(len(name), vertices, 3).numpy()
    swapped = np.arange(vertices).reshape(-1, 2)[:, ::-1].reshape(-1)
    parts = {
        "data": {"vertices": points, "faces": np.arange(6).reshape(2, 3)},
        "geodists": np.linalg.norm(points[:, None] - points[None], axis=2).astype(np.float32),
        "texcoords": np.full((vertices, 2), 0.5, np.float32),
    }
    if symmetry:
        parts["symmetry"] = {"vertex_transforms": swapped}
    paths = {}
    for key, value in parts.items():
        paths[key] = str(folder / f"{name}.{key}.pkl")
        (folder / f"{name}.{key}.pkl").write_bytes(pickle.dumps(value))
    MeshCatalog.pop(name, None)
    register_mesh(MeshInfo(name=name, **paths), None)


def matches(seeds: list[int | None], **annotation: Any) -> Instances:
    """Proposals of an image of 60 x 80, each with its ground truth; a seed of None has no DensePose annotation."""
    boxes = torch.tensor([[5.0, 4, 45, 50], [20, 10, 70, 55], [8, 8, 40, 58]])[: len(seeds)]
    found = Instances((60, 80), gt_boxes=Boxes(boxes), proposal_boxes=Boxes(boxes + 1.5))
    found.gt_classes = torch.zeros(len(seeds), dtype=torch.int64)
    datas = [None if s is None else DensePoseDataRelative(chart_annotation(s, **annotation)) for s in seeds]
    found.gt_densepose = DensePoseList(datas, boxes, (60, 80))
    found.gt_masks = BitMasks(torch.ones(len(seeds), 60, 80, dtype=torch.bool))
    return found


def small_cfg(**head: Any) -> CfgNode:
    """A whole model, small enough for a test."""
    cfg = get_cfg()
    add_densepose_config(cfg)
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.META_ARCHITECTURE = "GeneralizedRCNN"
    cfg.MODEL.BACKBONE.NAME = "build_resnet_fpn_backbone"
    cfg.MODEL.RESNETS.STEM_OUT_CHANNELS = cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 16
    cfg.MODEL.RESNETS.WIDTH_PER_GROUP = 4
    cfg.MODEL.RESNETS.OUT_FEATURES = cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.FPN.OUT_CHANNELS = 32
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[16], [32], [64], [128], [256]]
    cfg.MODEL.RPN.IN_FEATURES = ["p2", "p3", "p4", "p5", "p6"]
    cfg.MODEL.RPN.POST_NMS_TOPK_TRAIN = cfg.MODEL.RPN.POST_NMS_TOPK_TEST = 30
    cfg.MODEL.ROI_HEADS.NAME = "DensePoseROIHeads"
    cfg.MODEL.ROI_HEADS.IN_FEATURES = ["p2", "p3", "p4", "p5"]
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 1
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    cfg.MODEL.ROI_BOX_HEAD.NAME = "FastRCNNConvFCHead"
    cfg.MODEL.ROI_BOX_HEAD.NUM_FC = 1
    cfg.MODEL.ROI_BOX_HEAD.FC_DIM = 32
    cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION = 7
    cfg.TEST.DETECTIONS_PER_IMAGE = 5
    node = cfg.MODEL.ROI_DENSEPOSE_HEAD
    node.NAME = "DensePoseV1ConvXHead"
    node.CONV_HEAD_DIM = node.DECODER_CONV_DIMS = node.DECODER_NUM_CLASSES = 32
    node.NUM_STACKED_CONVS = 1
    node.POOLER_RESOLUTION = 7
    node.HEATMAP_SIZE = 28
    node.FG_IOU_THRESHOLD = 0.5
    for key, value in head.items():
        node[key] = value
    return cfg


def cse_cfg(*meshes: str, vertices: int = 10) -> CfgNode:
    """A whole model of surface embeddings."""
    cfg = small_cfg(LOSS_NAME="DensePoseCseLoss", PREDICTOR_NAME="DensePoseEmbeddingPredictor")
    cse = cfg.MODEL.ROI_DENSEPOSE_HEAD.CSE
    cse.EMBED_SIZE = 6
    for name in meshes:
        cse.EMBEDDERS[name] = CfgNode(
            {"TYPE": "vertex_direct", "NUM_VERTICES": vertices, "IS_TRAINABLE": True, "INIT_FILE": ""}
        )
    return cfg


def image(seed: int, height: int = 64, width: int = 80) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    pixels = (torch.rand(3, height, width, generator=generator) * 255).byte().float()
    return {"image": pixels, "height": height, "width": width}


def labelled(seed: int, datas: list[dict[str, Any] | None]) -> dict[str, Any]:
    """An image with one object per annotation."""
    boxes = torch.tensor([[6.0, 5, 50, 58], [30, 8, 75, 60]])[: len(datas)]
    truth = Instances((64, 80), gt_boxes=Boxes(boxes), gt_classes=torch.zeros(len(datas), dtype=torch.int64))
    if datas:
        relative = [None if d is None else DensePoseDataRelative(d) for d in datas]
        truth.gt_densepose = DensePoseList(relative, boxes, (64, 80))
    return {**image(seed), "instances": truth}
