"""Parts of the conversion of a yacs config to a Python config where one key is not one place."""

from typing import Any

from omegaconf import DictConfig

from detectron2.config import CfgNode
from detectron2.config import LazyCall as L
from detectron2.data import transforms as T
from detectron2.solver.param_scheduler import CosineParamScheduler, MultiStepParamScheduler

__all__ = ["PARTS", "TAKEN", "ConversionError", "get_at", "put_at"]


class ConversionError(ValueError):
    """A config has no form of the other kind."""


_AUGMENTATIONS = "dataloader.train.mapper.augmentations"
_ROI = "model.roi_heads"

# Keys that the functions below take over.
TAKEN = (
    "VERSION MODEL.META_ARCHITECTURE MODEL.BACKBONE.NAME MODEL.ROI_HEADS.NAME MODEL.ROI_BOX_HEAD.NAME "
    "MODEL.PROPOSAL_GENERATOR.NAME MODEL.FPN.IN_FEATURES MODEL.MASK_ON MODEL.KEYPOINT_ON INPUT.RANDOM_FLIP "
    "INPUT.CROP.ENABLED INPUT.CROP.TYPE INPUT.CROP.SIZE SOLVER.STEPS SOLVER.GAMMA SOLVER.WARMUP_ITERS "
    "SOLVER.LR_SCHEDULER_NAME SOLVER.BASE_LR_END MODEL.ROI_BOX_HEAD.NUM_CONV MODEL.ROI_BOX_HEAD.CONV_DIM "
    "MODEL.ROI_BOX_HEAD.NUM_FC MODEL.ROI_BOX_HEAD.FC_DIM MODEL.ROI_MASK_HEAD.NUM_CONV MODEL.ROI_MASK_HEAD.CONV_DIM "
    "MODEL.RETINANET.NUM_CONVS MODEL.RPN.LOSS_WEIGHT MODEL.RPN.BBOX_REG_LOSS_WEIGHT "
    "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_WEIGHT MODEL.ROI_MASK_HEAD.NAME MODEL.ROI_KEYPOINT_HEAD.NAME"
).split()


# ------------------------------------------------------------ places
def get_at(cfg: Any, place: str, default: object = None) -> Any:
    """The value at a dotted place; parts that are numbers index lists."""
    node = cfg
    for part in place.split("."):
        if hasattr(node, "keys"):
            if part not in node:
                return default
            node = node[part]
        elif (
            part.isdigit()
            and not isinstance(node, str)
            and hasattr(node, "__len__")
            and int(part) < len(node)
        ):
            node = node[int(part)]
        else:
            return default
    return node


def put_at(cfg: object, place: str, value: object) -> None:
    """Set the value at a place whose parent is there."""
    parent, _, last = place.rpartition(".")
    node = get_at(cfg, parent)
    node[last if hasattr(node, "keys") else int(last)] = value


def delete_at(cfg: object, *places: str) -> None:
    """Remove places that are there."""
    for place in places:
        parent, _, last = place.rpartition(".")
        node = get_at(cfg, parent)
        if node is not None and last in node:
            del node[last]


# ------------------------------------------------------------ masks and keypoints
def _branches(cfg: CfgNode, lazy: DictConfig) -> None:
    lazy.dataloader.train.mapper.use_instance_mask = bool(cfg.MODEL.MASK_ON)
    if not cfg.MODEL.MASK_ON:
        delete_at(lazy, *(f"{_ROI}.mask_{n}" for n in ("in_features", "pooler", "head")))


# ------------------------------------------------------------ sizes of heads
def _heads(cfg: CfgNode, lazy: DictConfig) -> None:
    box, mask = cfg.MODEL.ROI_BOX_HEAD, cfg.MODEL.ROI_MASK_HEAD
    channels = cfg.MODEL.FPN.OUT_CHANNELS
    sizes = {
        f"{_ROI}.box_head.conv_dims": [box.CONV_DIM] * box.NUM_CONV,
        f"{_ROI}.box_head.fc_dims": [box.FC_DIM] * box.NUM_FC,
        f"{_ROI}.box_head.input_shape.channels": channels,
        f"{_ROI}.mask_head.conv_dims": [mask.CONV_DIM] * (mask.NUM_CONV + 1),
        f"{_ROI}.keypoint_head.input_shape.channels": channels,
        "model.head.conv_dims": [channels] * cfg.MODEL.RETINANET.NUM_CONVS,
    }
    if cfg.MODEL.BACKBONE.NAME != "build_resnet_backbone":
        sizes[f"{_ROI}.mask_head.input_shape.channels"] = channels
        sizes["model.proposal_generator.head.in_channels"] = channels
        out = box.FC_DIM if box.NUM_FC else box.CONV_DIM
        sizes[f"{_ROI}.box_predictor.input_shape.channels"] = out
    for place, value in sizes.items():
        if get_at(lazy, place) is not None:
            put_at(lazy, place, value)
    for shape in get_at(lazy, "model.head.input_shape") or []:
        shape.channels = channels
    anchors = cfg.MODEL.ANCHOR_GENERATOR
    number = len(anchors.SIZES[0]) * len(anchors.ASPECT_RATIOS[0])
    for head in ("model.proposal_generator.head", "model.head"):
        if get_at(lazy, f"{head}.num_anchors") is not None:
            put_at(lazy, f"{head}.num_anchors", number)


# ------------------------------------------------------------ weights of losses
def _losses(cfg: CfgNode, lazy: DictConfig) -> None:
    rpn = cfg.MODEL.RPN
    weights = {"loss_rpn_cls": rpn.LOSS_WEIGHT, "loss_rpn_loc": rpn.BBOX_REG_LOSS_WEIGHT * rpn.LOSS_WEIGHT}
    if get_at(lazy, "model.proposal_generator") is not None and set(weights.values()) != {1.0}:
        put_at(lazy, "model.proposal_generator.loss_weight", weights)
    box = cfg.MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_WEIGHT
    if get_at(lazy, f"{_ROI}.box_predictor") is not None and box != 1.0:
        put_at(lazy, f"{_ROI}.box_predictor.loss_weight", {"loss_box_reg": box})


# ------------------------------------------------------------ schedule
def _schedule(cfg: CfgNode, lazy: DictConfig) -> None:
    s = cfg.SOLVER
    lazy.lr_multiplier.warmup_length = min(s.WARMUP_ITERS / s.MAX_ITER, 1.0) if s.MAX_ITER else 0.0
    if s.LR_SCHEDULER_NAME == "WarmupCosineLR":
        end = s.BASE_LR_END / s.BASE_LR
        lazy.lr_multiplier.scheduler = L(CosineParamScheduler)(start_value=1.0, end_value=end)
    elif s.LR_SCHEDULER_NAME == "WarmupMultiStepLR":
        steps = [step for step in s.STEPS if step <= s.MAX_ITER]
        values = [float(f"{s.GAMMA**i:.12g}") for i in range(len(steps) + 1)]
        lazy.lr_multiplier.scheduler = L(MultiStepParamScheduler)(
            values=values, milestones=[*steps, s.MAX_ITER]
        )
    else:
        raise ConversionError(f"there is no Python form for the schedule {s.LR_SCHEDULER_NAME}")


# ------------------------------------------------------------ augmentations
def _augmentations(cfg: CfgNode, lazy: DictConfig) -> None:
    augmentations = [lazy.dataloader.train.mapper.augmentations[0]]
    if cfg.INPUT.CROP.ENABLED:
        crop = L(T.RandomCrop)(crop_type=cfg.INPUT.CROP.TYPE, crop_size=list(cfg.INPUT.CROP.SIZE))
        augmentations.insert(0, crop)
    if cfg.INPUT.RANDOM_FLIP == "horizontal":
        augmentations.append(L(T.RandomFlip)(horizontal=True))
    elif cfg.INPUT.RANDOM_FLIP == "vertical":
        augmentations.append(L(T.RandomFlip)(horizontal=False, vertical=True))
    lazy.dataloader.train.mapper.augmentations = augmentations


PARTS = (_branches, _heads, _losses, _schedule, _augmentations)
