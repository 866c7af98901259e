"""Small trainings of the modern detectors: published configs with few layers, on drawn discs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import detectron2.projects.dino as dino
from detectron2 import model_zoo
from detectron2.config import LazyCall, LazyConfig
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data import transforms as T
from detectron2.data.datasets import register_coco_instances
from detectron2.engine import DefaultTrainer
from detectron2.engine.run_config import RunConfig, run_config
from detectron2.layers import ShapeSpec
from detectron2.modeling.backbone import timm_simple_pyramid
from detectron2.solver import layer_decay_params
from detectron2.utils.logger import setup_logger

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS / "projects"))
sys.path.insert(0, str(TESTS / "cli"))
from _mask2former_models import INSTANCE  # noqa: E402
from _mask2former_models import config as mask2former_config  # noqa: E402
from _maskdino_models import INSTANCE as MASKDINO_INSTANCE  # noqa: E402
from _maskdino_models import config as maskdino_config  # noqa: E402
from conftest import write_discs  # noqa: E402

CONFIGS = Path(dino.__file__).parent / "configs"
DINO = "dino/dino-resnet/dino_r50_4scale_12ep.py"
DEFORMABLE = "deformable_detr/deformable_detr_r50_50ep.py"
EVA02 = "EVA-02/configs/eva2_mim_to_coco/eva2_coco_cascade_mask_rcnn_vitdet_b_4attn_1024_lrd0p7.py"


def tiny_detr(path: str) -> Any:
    """DINO or Deformable DETR on ResNet-18, with few layers and queries, and small images."""
    cfg = LazyConfig.load(str(CONFIGS / path))
    cfg.model.num_queries = 20
    cfg.model.select_box_nums_for_evaluation = 20
    cfg.model.transformer.encoder.update(num_layers=1, feedforward_dim=64)
    cfg.model.transformer.decoder.update(num_layers=2, feedforward_dim=64)
    stages = cfg.model.backbone.stages
    cfg.model.backbone.stages = {**{k: v for k, v in stages.items() if k != "stride_in_1x1"}, "depth": 18}
    for name, channels in (("res3", 128), ("res4", 256), ("res5", 512)):
        cfg.model.neck.input_shapes[name].channels = channels
    train, test = cfg.dataloader.train.mapper, cfg.dataloader.test.mapper
    train.augmentation[1].short_edge_length = (64, 80)
    train.augmentation_with_crop = None
    test.augmentation[0].short_edge_length = 64
    cfg.train.device = "cpu"
    return cfg


STEADY = (  # whole images of 96 pixels, and one rate
    *("INPUT.IMAGE_SIZE", 96, "INPUT.MIN_SCALE", 1.0, "INPUT.MAX_SCALE", 1.001, "INPUT.MIN_SIZE_TEST", 96),
    *("SOLVER.STEPS", (), "SOLVER.WARMUP_ITERS", 0, "SOLVER.AMP.ENABLED", False),
)


def tiny_mask2former(*options: Any) -> Any:
    """Mask2Former for instances on a small Swin."""
    width = (
        *("MODEL.SWIN.EMBED_DIM", 16, "MODEL.MASK_FORMER.HIDDEN_DIM", 64, "MODEL.SEM_SEG_HEAD.CONVS_DIM", 64),
        *("MODEL.SEM_SEG_HEAD.MASK_DIM", 64, "MODEL.MASK_FORMER.TRAIN_NUM_POINTS", 256),
    )
    return mask2former_config(INSTANCE, *width, *STEADY, *options)


def tiny_maskdino(*options: Any) -> Any:
    """MaskDINO for instances on a small Swin."""
    width = (
        *("MODEL.SWIN.EMBED_DIM", 16, "MODEL.MaskDINO.HIDDEN_DIM", 64, "MODEL.SEM_SEG_HEAD.MASK_DIM", 64),
        *("MODEL.MaskDINO.TRAIN_NUM_POINTS", 256, "MODEL.MaskDINO.NUM_OBJECT_QUERIES", 20),
    )
    return maskdino_config(MASKDINO_INSTANCE, *width, *STEADY, *options)


def tiny_eva02(**heads: Any) -> Any:
    """EVA-02 with two blocks, in squares of 64 pixels."""
    cfg = model_zoo.get_config(EVA02)
    model = cfg.model
    model.backbone.net.update(img_size=64, embed_dim=32, depth=2, num_heads=2, window_size=2)
    model.backbone.net.update(window_block_indexes=[0], drop_path_rate=0.0)
    model.backbone.update(square_pad=64, out_channels=16)
    model.proposal_generator.head.in_channels = 16
    model.proposal_generator.update(pre_nms_topk=[50, 20], post_nms_topk=[40, 20])
    for head, predictor in zip(model.roi_heads.box_heads, model.roi_heads.box_predictors):
        head.input_shape.channels = 16
        head.update(conv_dims=[8], fc_dims=[16])
        predictor.input_shape.channels = 16
        predictor.update(test_topk_per_image=8, test_score_thresh=0.0)
    model.roi_heads.mask_head.input_shape.channels = 16
    model.roi_heads.mask_head.conv_dims = [8, 8]
    model.roi_heads.update(**heads)
    for part in (cfg.dataloader.train, cfg.dataloader.test):
        part.mapper.augmentations = [LazyCall(T.ResizeShortestEdge)(short_edge_length=64, max_size=64)]
    cfg.train.device = "cpu"
    return cfg


def tiny_timm() -> Any:
    """Mask R-CNN with a DINOv3 ViT of timm: a config of the zoo with one other line for the backbone, and narrow heads."""
    cfg = model_zoo.get_config("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.py")
    cfg.model.backbone = LazyCall(timm_simple_pyramid)(
        name="vit_small_patch16_dinov3", out_channels=16, depth=2, embed_dim=32, num_heads=2
    )
    model = cfg.model
    model.proposal_generator.head.in_channels = 16
    model.proposal_generator.anchor_generator.sizes = [[8], [16], [32], [64], [128]]
    heads = model.roi_heads
    heads.box_head.update(input_shape=LazyCall(ShapeSpec)(channels=16, height=7, width=7), fc_dims=[32])
    heads.box_predictor.input_shape.channels = 32
    heads.mask_head.update(
        input_shape=LazyCall(ShapeSpec)(channels=16, width=14, height=14), conv_dims=[8, 8]
    )
    cfg.optimizer.params = LazyCall(layer_decay_params)(base_lr="${..lr}", rate=0.8)
    for part in (cfg.dataloader.train, cfg.dataloader.test):
        part.mapper.augmentations = [LazyCall(T.ResizeShortestEdge)(short_edge_length=64, max_size=80)]
    cfg.train.device = "cpu"
    return cfg


# Configs, and learning rates that suit 30 steps.
ARCHITECTURES: dict[str, tuple[Any, float]] = {
    "DINO": (lambda: tiny_detr(DINO), 5e-4),
    "Deformable DETR": (lambda: tiny_detr(DEFORMABLE), 1e-3),
    "Mask2Former": (tiny_mask2former, 1e-3),
    "MaskDINO": (tiny_maskdino, 1e-3),
    "EVA-02": (tiny_eva02, 1e-3),
    "timm": (tiny_timm, 5e-3),
}


def register_discs(folder: Path) -> None:
    """Register ``train`` and ``val``, both of the same four pictures."""
    labels = folder / "discs.json"
    if not labels.is_file():
        write_discs(folder, 4)
    for name in ("train", "val"):
        if name in DatasetCatalog.list():
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)
        register_coco_instances(name, {}, str(labels), str(folder / "images"))


def run_of(name: str, folder: Path, steps: int = 30, **options: Any) -> RunConfig:
    """A training of an architecture in ``folder``; options as :meth:`RunConfig.put` takes them."""
    make, rate = ARCHITECTURES[name]
    run = run_config(make())
    run.set_data("train", "val", 2, 0)
    run.unfreeze()
    defaults = {
        "output_dir": str(folder),
        "weights": "",
        "seed": 3,
        "max_iter": steps,
        "eval_period": 0,
        "checkpoint_period": 15,
        "log_period": 1,
        "ema": True,
        "ema_decay": 0.9,
        "amp": False,
        "report_period": 0,
    }
    run.put(**(defaults | options))
    run.set(run.batch_path, 2)
    run.set(run.rate_path, rate)
    return run


def train(run: RunConfig, resume: bool = False) -> DefaultTrainer:
    """Train in this process."""
    setup_logger(name="detectron2")
    trainer = DefaultTrainer(run.cfg)
    trainer.resume_or_load(resume)
    trainer.train()
    return trainer
