"""Parts of the conversion between the two kinds of configs where one key is not one place."""

from collections.abc import Callable
from typing import Any, NamedTuple

from detectron2.config import CfgNode
from detectron2.config import LazyCall as L

__all__ = ["PARTS", "TAKEN_NEW", "TAKEN_OLD", "ConversionError", "Part", "delete_at", "get_at", "put_at"]


class ConversionError(ValueError):
    """A config has no form of the other kind."""


class Part(NamedTuple):
    """Two functions that take over one matter, in either direction."""

    to_new: Callable[[CfgNode, Any], None]
    to_old: Callable[[Any, CfgNode], None]


_AUGMENTATIONS = "dataloader.train.mapper.augmentations"
_ROI = "model.roi_heads"

# Keys and places that the functions below take over.
TAKEN_OLD = (
    "VERSION MODEL.META_ARCHITECTURE MODEL.BACKBONE.NAME MODEL.ROI_HEADS.NAME MODEL.ROI_BOX_HEAD.NAME "
    "MODEL.PROPOSAL_GENERATOR.NAME MODEL.FPN.IN_FEATURES MODEL.MASK_ON MODEL.KEYPOINT_ON INPUT.RANDOM_FLIP "
    "INPUT.CROP.ENABLED INPUT.CROP.TYPE INPUT.CROP.SIZE SOLVER.STEPS SOLVER.GAMMA SOLVER.WARMUP_ITERS "
    "SOLVER.LR_SCHEDULER_NAME SOLVER.BASE_LR_END MODEL.ROI_BOX_HEAD.NUM_CONV MODEL.ROI_BOX_HEAD.CONV_DIM "
    "MODEL.ROI_BOX_HEAD.NUM_FC MODEL.ROI_BOX_HEAD.FC_DIM MODEL.ROI_MASK_HEAD.NUM_CONV MODEL.ROI_MASK_HEAD.CONV_DIM "
    "MODEL.RETINANET.NUM_CONVS MODEL.RPN.LOSS_WEIGHT MODEL.RPN.BBOX_REG_LOSS_WEIGHT "
    "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_WEIGHT MODEL.ROI_MASK_HEAD.NAME MODEL.ROI_KEYPOINT_HEAD.NAME"
).split()
TAKEN_NEW = (
    f"{_AUGMENTATIONS} lr_multiplier dataloader.train.mapper.use_instance_mask dataloader.train.mapper.use_keypoint "
    f"{_ROI}.box_head.conv_dims {_ROI}.box_head.fc_dims {_ROI}.mask_head.conv_dims model.head.conv_dims "
    f"{_ROI}.box_head.input_shape {_ROI}.mask_head.input_shape {_ROI}.keypoint_head.input_shape "
    f"{_ROI}.box_predictor.input_shape {_ROI}.box_predictor.num_classes {_ROI}.mask_head.num_classes "
    f"model.head.num_classes model.backbone.in_features model.proposal_generator.head.in_channels "
    f"model.proposal_generator.head.num_anchors model.head.num_anchors model.head.input_shape "
    f"model.sem_seg_head.input_shape dataloader.evaluator dataloader.test.mapper.image_format "
    f"model.proposal_generator.loss_weight {_ROI}.box_predictor.loss_weight model.backbone.top_block.out_channels"
).split()


# ------------------------------------------------------------ places
def get_at(cfg: Any, place: str, default: Any = None) -> Any:
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


def put_at(cfg: Any, place: str, value: Any) -> None:
    """Set the value at a place whose parent is there."""
    parent, _, last = place.rpartition(".")
    node = get_at(cfg, parent)
    node[last if hasattr(node, "keys") else int(last)] = value


def delete_at(cfg: Any, *places: str) -> None:
    """Remove places that are there."""
    for place in places:
        parent, _, last = place.rpartition(".")
        node = get_at(cfg, parent)
        if node is not None and last in node:
            del node[last]


# ------------------------------------------------------------ masks and keypoints
def _branches_to_new(cfg: CfgNode, lazy: Any) -> None:
    lazy.dataloader.train.mapper.use_instance_mask = bool(cfg.MODEL.MASK_ON)
    if not cfg.MODEL.MASK_ON:
        delete_at(lazy, *(f"{_ROI}.mask_{n}" for n in ("in_features", "pooler", "head")))


def _branches_to_old(lazy: Any, cfg: CfgNode) -> None:
    cfg.MODEL.MASK_ON = get_at(lazy, f"{_ROI}.mask_head") is not None
    cfg.MODEL.KEYPOINT_ON = get_at(lazy, f"{_ROI}.keypoint_head") is not None


# ------------------------------------------------------------ sizes of heads
def _heads_to_new(cfg: CfgNode, lazy: Any) -> None:
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


def _uniform(dims: Any, name: str) -> tuple[int, int | None]:
    """Length and common value of a list of layer sizes."""
    if len(set(dims)) > 1:
        raise ConversionError(f"yacs configs have one size for all layers of {name}, this has {list(dims)}")
    return len(dims), (dims[0] if len(dims) else None)


def _heads_to_old(lazy: Any, cfg: CfgNode) -> None:
    for place, node, count, size, extra in (
        (f"{_ROI}.box_head.conv_dims", cfg.MODEL.ROI_BOX_HEAD, "NUM_CONV", "CONV_DIM", 0),
        (f"{_ROI}.box_head.fc_dims", cfg.MODEL.ROI_BOX_HEAD, "NUM_FC", "FC_DIM", 0),
        (f"{_ROI}.mask_head.conv_dims", cfg.MODEL.ROI_MASK_HEAD, "NUM_CONV", "CONV_DIM", 1),
        ("model.head.conv_dims", cfg.MODEL.RETINANET, "NUM_CONVS", "", 0),
    ):
        dims = get_at(lazy, place)
        if dims is None:
            continue
        number, value = _uniform(dims, place)
        node[count] = number - extra
        if size and value is not None:
            node[size] = value


# ------------------------------------------------------------ weights of losses
def _losses_to_new(cfg: CfgNode, lazy: Any) -> None:
    rpn = cfg.MODEL.RPN
    weights = {"loss_rpn_cls": rpn.LOSS_WEIGHT, "loss_rpn_loc": rpn.BBOX_REG_LOSS_WEIGHT * rpn.LOSS_WEIGHT}
    if get_at(lazy, "model.proposal_generator") is not None and set(weights.values()) != {1.0}:
        put_at(lazy, "model.proposal_generator.loss_weight", weights)
    box = cfg.MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_WEIGHT
    if get_at(lazy, f"{_ROI}.box_predictor") is not None and box != 1.0:
        put_at(lazy, f"{_ROI}.box_predictor.loss_weight", {"loss_box_reg": box})


def _losses_to_old(lazy: Any, cfg: CfgNode) -> None:
    rpn = get_at(lazy, "model.proposal_generator.loss_weight", 1.0)
    both = (rpn.get("loss_rpn_cls", 1.0), rpn.get("loss_rpn_loc", 1.0)) if hasattr(rpn, "get") else (rpn, rpn)
    cfg.MODEL.RPN.LOSS_WEIGHT = float(both[0])
    cfg.MODEL.RPN.BBOX_REG_LOSS_WEIGHT = float(both[1] / both[0]) if both[0] else 1.0
    box = get_at(lazy, f"{_ROI}.box_predictor.loss_weight", 1.0)
    cfg.MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_WEIGHT = float(
        box.get("loss_box_reg", 1.0) if hasattr(box, "get") else box
    )


# ------------------------------------------------------------ schedule
def _schedule_to_new(cfg: CfgNode, lazy: Any) -> None:
    from detectron2.solver.param_scheduler import CosineParamScheduler, MultiStepParamScheduler

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


def _schedule_to_old(lazy: Any, cfg: CfgNode) -> None:
    s, schedule = cfg.SOLVER, lazy.lr_multiplier.scheduler
    total = int(lazy.train.max_iter)
    s.WARMUP_ITERS = round(lazy.lr_multiplier.get("warmup_length", 0.0) * total)
    name = flat_name(schedule._target_)
    if name == "CosineParamScheduler":
        s.LR_SCHEDULER_NAME = "WarmupCosineLR"
        s.BASE_LR_END = float(schedule.end_value / schedule.start_value * lazy.optimizer.lr)
        return
    if name != "MultiStepParamScheduler":
        raise ConversionError(f"there is no yacs form for the schedule {name}")
    values = list(schedule["values"])
    gamma = values[1] / values[0] if len(values) > 1 else 0.1
    if any(abs(v - values[0] * gamma**i) > 1e-9 * abs(v) for i, v in enumerate(values)):
        raise ConversionError(
            f"yacs schedules multiply by the same factor at each step, this one goes {values}"
        )
    milestones = list(schedule.milestones)
    length = schedule.get("num_updates") or milestones[-1]
    s.STEPS = tuple(round(m * total / length) for m in milestones[: len(values) - 1])
    s.GAMMA = float(f"{gamma:.12g}")


def flat_name(target: Any) -> str:
    """Last name of a target, text or object."""
    return str(getattr(target, "__name__", target)).rsplit(".", 1)[-1]


# ------------------------------------------------------------ augmentations
def _augmentations_to_new(cfg: CfgNode, lazy: Any) -> None:
    from detectron2.data import transforms as T

    augmentations = [lazy.dataloader.train.mapper.augmentations[0]]
    if cfg.INPUT.CROP.ENABLED:
        crop = L(T.RandomCrop)(crop_type=cfg.INPUT.CROP.TYPE, crop_size=list(cfg.INPUT.CROP.SIZE))
        augmentations.insert(0, crop)
    if cfg.INPUT.RANDOM_FLIP == "horizontal":
        augmentations.append(L(T.RandomFlip)(horizontal=True))
    elif cfg.INPUT.RANDOM_FLIP == "vertical":
        augmentations.append(L(T.RandomFlip)(horizontal=False, vertical=True))
    lazy.dataloader.train.mapper.augmentations = augmentations


def _augmentations_to_old(lazy: Any, cfg: CfgNode) -> None:
    """Read crop and flip, and leave the resize in front, where the key table looks for its sizes."""
    remaining = list(lazy.dataloader.train.mapper.augmentations)
    cfg.INPUT.CROP.ENABLED = bool(remaining) and flat_name(remaining[0]._target_) == "RandomCrop"
    if cfg.INPUT.CROP.ENABLED:
        crop = remaining.pop(0)
        cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE = str(crop.crop_type), [float(v) for v in crop.crop_size]
    names = [flat_name(a._target_) for a in remaining]
    if names not in (["ResizeShortestEdge"], ["ResizeShortestEdge", "RandomFlip"]):
        raise ConversionError(
            f"yacs configs resize and flip, they have no keys for the augmentations {names}"
        )
    cfg.INPUT.RANDOM_FLIP = "none"
    if len(remaining) > 1:
        cfg.INPUT.RANDOM_FLIP = "vertical" if remaining[1].get("vertical", False) else "horizontal"
    lazy.dataloader.train.mapper.augmentations = remaining


PARTS = (
    Part(_branches_to_new, _branches_to_old),
    Part(_heads_to_new, _heads_to_old),
    Part(_losses_to_new, _losses_to_old),
    Part(_schedule_to_new, _schedule_to_old),
    Part(_augmentations_to_new, _augmentations_to_old),
)
