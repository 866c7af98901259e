"""Small models of every architecture, and inputs for them."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import nn

from detectron2 import model_zoo
from detectron2.config import instantiate
from detectron2.modeling import build_model
from detectron2.modeling.backbone import FPN, SimpleFeaturePyramid, SwinTransformer, ViT
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from detectron2.structures import BitMasks, Boxes, Instances, Keypoints, RotatedBoxes

_SMALL = (
    ("MODEL.DEVICE", "cpu"),
    ("MODEL.WEIGHTS", ""),
    ("MODEL.RESNETS.DEPTH", 18),
    ("MODEL.RESNETS.RES2_OUT_CHANNELS", 64),
    ("MODEL.RESNETS.STEM_OUT_CHANNELS", 16),
    ("MODEL.RESNETS.NORM", "BN"),
    ("MODEL.BACKBONE.FREEZE_AT", 0),
    ("MODEL.FPN.OUT_CHANNELS", 32),
    ("MODEL.RPN.PRE_NMS_TOPK_TEST", 200),
    ("MODEL.RPN.POST_NMS_TOPK_TEST", 50),
    ("MODEL.RPN.PRE_NMS_TOPK_TRAIN", 200),
    ("MODEL.RPN.POST_NMS_TOPK_TRAIN", 100),
    ("MODEL.ROI_HEADS.NUM_CLASSES", 5),
    ("MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", 64),
    ("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0),
    ("MODEL.ROI_BOX_HEAD.FC_DIM", 32),
    ("MODEL.ROI_MASK_HEAD.CONV_DIM", 16),
    ("MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS", (16, 16)),
    ("MODEL.RETINANET.NUM_CLASSES", 5),
    ("MODEL.RETINANET.SCORE_THRESH_TEST", 0.0),
    ("MODEL.SEM_SEG_HEAD.CONVS_DIM", 32),
    ("MODEL.PANOPTIC_FPN.COMBINE.STUFF_AREA_LIMIT", 64),
    ("MODEL.PANOPTIC_FPN.COMBINE.INSTANCES_CONFIDENCE_THRESH", 0.1),
    ("TEST.DETECTIONS_PER_IMAGE", 12),
)
_ROTATED = (
    ("MODEL.ANCHOR_GENERATOR.NAME", "RotatedAnchorGenerator"),
    ("MODEL.ANCHOR_GENERATOR.ANGLES", [[-60, 0, 60]]),
    ("MODEL.PROPOSAL_GENERATOR.NAME", "RRPN"),
    ("MODEL.RPN.BBOX_REG_WEIGHTS", (1, 1, 1, 1, 1)),
    ("MODEL.ROI_HEADS.NAME", "RROIHeads"),
    ("MODEL.ROI_BOX_HEAD.POOLER_TYPE", "ROIAlignRotated"),
    ("MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS", (10, 10, 5, 5, 1)),
)
_C4 = (  # the head is the last stage, so that the blocks have to be those of ResNet-50
    ("MODEL.RESNETS.DEPTH", 50),
    ("MODEL.RESNETS.RES2_OUT_CHANNELS", 32),
    ("MODEL.RESNETS.WIDTH_PER_GROUP", 8),
)
CONFIGS = {
    "c4": ("COCO-InstanceSegmentation/mask_rcnn_R_50_C4_1x.yaml", _C4),
    "faster_rcnn": ("COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml", ()),
    "mask_rcnn": ("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml", ()),
    "keypoint_rcnn": (
        "COCO-Keypoints/keypoint_rcnn_R_50_FPN_1x.yaml",
        (("MODEL.ROI_HEADS.NUM_CLASSES", 1),),
    ),
    "cascade": ("Misc/cascade_mask_rcnn_R_50_FPN_1x.yaml", ()),
    "panoptic": ("COCO-PanopticSegmentation/panoptic_fpn_R_50_1x.yaml", ()),
    "semantic": ("Misc/semantic_R_50_FPN_1x.yaml", ()),
    "retinanet": ("COCO-Detection/retinanet_R_50_FPN_1x.yaml", ()),
    "rpn": ("COCO-Detection/rpn_R_50_FPN_1x.yaml", ()),
    "rotated": ("COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml", _ROTATED),
    "fcos": ("COCO-Detection/fcos_R_50_FPN_1x.py", ()),
    "vitdet": ("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml", ()),
    "swin": ("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml", ()),
}


def small_config(name: str, *opts: Any) -> Any:
    path, extra = CONFIGS[name]
    cfg = model_zoo.get_config(path)
    for key, value in (*_SMALL, *extra):
        cfg.merge_from_list([key, value])
    cfg.merge_from_list(list(opts))
    return cfg


def _small_fcos() -> nn.Module:
    cfg = model_zoo.get_config(CONFIGS["fcos"][0]).model
    stages = cfg.backbone.bottom_up.stages
    stages.pop("stride_in_1x1")
    stages.depth, cfg.backbone.bottom_up.stem.norm, stages.norm = 18, "BN", "BN"
    cfg.backbone.out_channels = 32
    cfg.backbone.top_block.in_channels = 32
    cfg.head.input_shape = [{"_target_": "detectron2.layers.ShapeSpec", "channels": 32}] * 5
    cfg.head.conv_dims = [32]
    cfg.num_classes, cfg.test_score_thresh, cfg.max_detections_per_image = 5, 0.0, 12
    return instantiate(cfg)


def _small_vitdet() -> nn.Module:
    vit = ViT(
        img_size=128,
        embed_dim=32,
        depth=2,
        num_heads=2,
        use_rel_pos=True,
        window_size=4,
        window_block_indexes=(0,),
        residual_block_indexes=(1,),
        pretrain_img_size=64,
    )
    nn.init.constant_(vit.blocks[1].residual.norm3.weight, 0.5)
    return SimpleFeaturePyramid(vit, "last_feat", 32, (4.0, 2.0, 1.0, 0.5), LastLevelMaxPool())


def _small_swin() -> nn.Module:
    swin = SwinTransformer(
        embed_dim=16, depths=(2, 2, 2, 2), num_heads=(1, 2, 2, 2), window_size=2, drop_path_rate=0.0
    )
    return FPN(swin, ["p0", "p1", "p2", "p3"], 32, top_block=LastLevelMaxPool())


TRANSFORMERS = {"vitdet": _small_vitdet, "swin": _small_swin}


@functools.lru_cache(maxsize=5)
def small_model(name: str) -> nn.Module:
    """A model with random weights of which scores differ. Shared: leave its weights as they are."""
    torch.manual_seed(0)
    model = _small_fcos() if name == "fcos" else build_model(small_config(name))
    if name in TRANSFORMERS:
        model.backbone = TRANSFORMERS[name]()
    for key, parameter in model.named_parameters():
        if key.endswith("cls_score.weight"):
            nn.init.normal_(parameter, std=0.05)
    _settle_norms(model)
    return model.eval()


@torch.no_grad()
def _settle_norms(model: nn.Module) -> None:
    """Statistics of a picture for the norms: features of the order of one, and so scores without ties at 1."""
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # the mean of all that was seen
    model.train()
    model.backbone(image(160, 160)["image"][None] - 110)
    for norm in norms:
        norm.momentum = 0.1


def image(height: int, width: int, seed: int = 0) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    return {"image": torch.rand(3, height, width, generator=generator) * 255}


def example(name: str, height: int, width: int, num_objects: int, seed: int = 0) -> dict[str, Any]:
    """An input for training; every kind of ground truth that any of the models wants."""
    item = image(height, width, seed)
    generator = torch.Generator().manual_seed(seed + 1)
    corner = torch.rand(num_objects, 2, generator=generator) * torch.tensor([width / 2.0, height / 2.0])
    side = 20 + torch.rand(num_objects, 2, generator=generator) * 30
    boxes = torch.cat((corner, corner + side), dim=1)
    truth = Instances((height, width))
    truth.gt_boxes = Boxes(boxes)
    if name == "rotated":
        truth.gt_boxes = RotatedBoxes(
            torch.cat((corner + side / 2, side, torch.zeros(num_objects, 1)), dim=1)
        )
    num_classes = 1 if name == "keypoint_rcnn" else 5
    truth.gt_classes = torch.arange(num_objects) % num_classes
    y, x = torch.arange(height)[None, :, None], torch.arange(width)[None, None, :]
    low, high = boxes[:, :2, None, None], boxes[:, 2:, None, None]
    truth.gt_masks = BitMasks((x >= low[:, 0]) & (x < high[:, 0]) & (y >= low[:, 1]) & (y < high[:, 1]))
    points = corner[:, None] + side[:, None] * torch.rand(num_objects, 17, 2, generator=generator)
    truth.gt_keypoints = Keypoints(torch.cat((points, torch.full((num_objects, 17, 1), 2.0)), dim=2))
    item["instances"] = truth
    item["sem_seg"] = torch.randint(0, 54, (height, width), generator=generator)
    return item
