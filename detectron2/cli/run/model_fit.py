"""Choosing a model for labels, and adapting model and labels to each other."""

from collections.abc import Callable, Sequence
from typing import Any

from detectron2.data.formats import DataPlan, Dataset, LabelFacts, label_facts
from detectron2.data.formats.base import bbox_xyxy
from detectron2.engine.run_config import RunConfig
from detectron2.structures import BoxMode

from ..errors import UserError

__all__ = ["OTHER_TASKS", "ROTATED", "default_model", "fit_labels", "fit_model", "model_kinds"]

BOXES, MASKS, KEYPOINTS = "faster_rcnn_R_50_FPN_3x", "mask_rcnn_R_50_FPN_3x", "keypoint_rcnn_R_50_FPN_3x"
PANOPTIC, SEMANTIC = "panoptic_fpn_R_50_3x", "semantic_R_50_FPN_1x"
OTHER_TASKS = {"panoptic": "panoptic label maps", "semantic": "semantic label maps"}

# Changes of a Faster R-CNN with FPN for rotated boxes, for which the zoo has no model.
ROTATED: dict[str, Any] = {
    "MODEL.ANCHOR_GENERATOR.NAME": "RotatedAnchorGenerator",
    "MODEL.ANCHOR_GENERATOR.ANGLES": [[-90, -60, -30, 0, 30, 60]],
    "MODEL.PROPOSAL_GENERATOR.NAME": "RRPN",
    "MODEL.RPN.BBOX_REG_WEIGHTS": (1.0, 1.0, 1.0, 1.0, 1.0),
    "MODEL.ROI_HEADS.NAME": "RROIHeads",
    "MODEL.ROI_BOX_HEAD.POOLER_TYPE": "ROIAlignRotated",
    "MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS": (10.0, 10.0, 5.0, 5.0, 1.0),
}


def default_model(facts: LabelFacts) -> str:
    """Choose a model of the zoo for labels."""
    if facts.is_pixels:
        return PANOPTIC if facts.panoptic else SEMANTIC
    if facts.rotated * 2 > facts.labels:
        return BOXES
    if facts.keypoints * 2 > facts.labels and facts.masks * 2 <= facts.labels:
        return KEYPOINTS
    return MASKS if facts.masks * 2 > facts.labels else BOXES


def model_kinds(run: RunConfig) -> dict[str, Any]:
    """Return the labels that a config's model needs: "masks", "rotated", "keypoints" (number), "other" (a task)."""
    meta = str(run.get("MODEL.META_ARCHITECTURE", ""))
    lazy_target = str(run.get("model._target_", ""))
    # For models that classify masks, the mapper defines the task.
    mapper = str(run.get("INPUT.DATASET_MAPPER_NAME", ""))
    other = ""
    if "Panoptic" in meta or "Panoptic" in lazy_target or "panoptic" in mapper:
        other = "panoptic"
    elif "semantic" in mapper or "SemanticSegmentor" in meta or "SemanticSegmentor" in lazy_target:
        other = "semantic"
    keypoints = 0
    if run.get("MODEL.KEYPOINT_ON"):
        keypoints = int(run.get("MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS"))
    elif run.get("model.roi_heads.keypoint_head") is not None:
        keypoints = int(run.get("model.roi_heads.keypoint_head.num_keypoints", 17))
    rotated = run.get("MODEL.PROPOSAL_GENERATOR.NAME") == "RRPN"
    return {"masks": bool(run.predicts_masks), "rotated": rotated, "keypoints": keypoints, "other": other}


def fit_model(run: RunConfig, plan: DataPlan, model: str, *, chosen: bool) -> list[str]:
    """Adapt a config to the labels: type of masks, number of keypoints, flips, and rotated boxes.

    Args:
        run: config, before the user's own changes.
        plan: the data.
        model: name of the model, for messages.
        chosen: whether the model was chosen automatically for these labels.

    Returns:
        Messages for the user.
    """
    facts = label_facts(plan.parts["train"].records)
    notes = []
    kinds = model_kinds(run)
    yacs = run.get("MODEL.META_ARCHITECTURE") is not None
    if chosen and facts.rotated * 2 > facts.labels:
        for path, value in ROTATED.items():
            run.set(path, value)
        notes.append(f"{model} was changed to rotated boxes ({', '.join(ROTATED)})")
    if kinds["masks"] and facts.bitmaps:
        key = "INPUT.MASK_FORMAT" if yacs else "dataloader.train.mapper.instance_mask_format"
        if run.get(key, "polygon") == "polygon":  # also of mappers that do not name it
            run.set(key, "auto")
            notes.append(f"{key} is set to 'auto', since {facts.bitmaps} masks are RLE or bitmaps")
    if kinds["keypoints"] and facts.keypoints:
        if yacs and kinds["keypoints"] != facts.num_keypoints:
            run.set("MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS", facts.num_keypoints)
            notes.append(
                f"{model} gets {facts.num_keypoints} keypoints, as the labels have, instead of {kinds['keypoints']}"
            )
        if yacs and facts.num_keypoints != 17 and not run.get("TEST.KEYPOINT_OKS_SIGMAS"):
            run.set("TEST.KEYPOINT_OKS_SIGMAS", [0.1] * facts.num_keypoints)
            notes.append(
                "TEST.KEYPOINT_OKS_SIGMAS is set to 0.1 for each keypoint; COCO's own are for its 17"
            )
        names = plan.parts["train"].metadata.get("keypoint_names", ())
        if yacs and not _flips_known(names, plan.parts["train"]):
            run.set("INPUT.RANDOM_FLIP", "none")
            notes.append(
                "images are not flipped, because the labels do not say which keypoints are left and right"
            )
    return notes


def _flips_known(names: Sequence[str], dataset: Dataset) -> bool:
    """Return whether flips are safe: pairs are known, or keypoints have meaningful names without left or right."""
    if dataset.metadata.get("keypoint_flip_map"):
        return True
    meaningful = bool(names) and not any(n.startswith("keypoint_") or n.isdigit() for n in names)
    return meaningful and not any(side in n.lower() for n in names for side in ("left", "right"))


def fit_labels(run: RunConfig, plan: DataPlan, model: str) -> list[str]:
    """Convert labels to those that the model needs, if little is lost.

    Args:
        run: config with the user's changes.
        plan: the data; its parts are changed.
        model: name of the model, for messages.

    Returns:
        Messages for the user.

    Raises:
        UserError: if the labels lack those that the model needs; names a suitable model.
    """
    kinds, notes = model_kinds(run), []
    # An evaluation has no training part.
    facts = label_facts(plan.parts["train" if "train" in plan.parts else "val"].records)
    fitting = default_model(facts)
    advice = f"omit --model, or use {fitting}"
    if facts.is_pixels:
        raise UserError(f"the labels are {facts}, but {model} needs labels of objects: {advice}")
    if kinds["other"]:
        raise UserError(
            f"{model} needs {OTHER_TASKS[kinds['other']]} ({kinds['other']}, sem_seg), which the labels lack: {advice}"
        )
    if kinds["keypoints"]:
        _check_keypoints(facts, kinds["keypoints"], model, advice)
        notes += _keep(plan, lambda a: bool(a.get("keypoints")), "keypoints")
    if kinds["masks"]:
        if facts.masks * 2 <= facts.labels:
            raise UserError(
                f"{model} needs masks, but only {facts.masks} of {facts.labels} labels have an outline (segmentation): {advice}"
                + (" (or add MODEL.MASK_ON False)" if run.get("MODEL.MASK_ON") else "")
            )
        notes += _keep(
            plan, lambda a: a.get("segmentation") is not None and len(a["segmentation"]) > 0, "masks"
        )
    if facts.rotated and not kinds["rotated"]:
        if facts.rotated * 2 > facts.labels:
            raise UserError(
                f"{facts.rotated} of {facts.labels} labels are rotated boxes (with an angle), but {model} needs upright "
                f"ones: omit --model, or use a model for rotated boxes (MODEL.PROPOSAL_GENERATOR.NAME RRPN)"
            )
        notes += _convert(plan, _upright, "{} rotated boxes are replaced by the upright boxes around them")
    elif kinds["rotated"]:
        notes += _convert(plan, _turned, "{} upright boxes are trained as rotated boxes with angle 0")
    return notes


def _check_keypoints(facts: LabelFacts, wanted: int, model: str, advice: str) -> None:
    if not facts.keypoints:
        raise UserError(f"{model} needs keypoints, which the labels lack: {advice}")
    if facts.num_keypoints != wanted:
        raise UserError(
            f"{model} has {wanted} keypoints (MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS), but the labels have "
            f"{facts.num_keypoints}"
        )


def _keep(plan: DataPlan, has: Callable[[dict[str, Any]], bool], what: str) -> list[str]:
    """Drop labels that lack something that the model needs."""
    notes = []
    for name, dataset in plan.parts.items():
        lost = 0
        for record in dataset.records:
            kept = [a for a in record["annotations"] if a.get("iscrowd") or has(a)]
            lost += len(record["annotations"]) - len(kept)
            record["annotations"] = kept
        if lost:
            dataset.file = None
            notes.append(f"dropped from {name}: {lost} labels without {what}, which this model needs")
    return notes


def _convert(plan: DataPlan, change: Callable[[dict[str, Any]], bool], text: str) -> list[str]:
    changed = 0
    for dataset in plan.parts.values():
        before = changed
        for record in dataset.records:
            changed += sum(change(a) for a in record["annotations"])
        if changed > before:
            dataset.file = None
    return [text.format(changed)] if changed else []


def _upright(anno: dict[str, Any]) -> bool:
    if len(anno["bbox"]) != 5:
        return False
    anno |= {"bbox": bbox_xyxy(anno), "bbox_mode": BoxMode.XYXY_ABS}
    return True


def _turned(anno: dict[str, Any]) -> bool:
    if len(anno["bbox"]) == 5:
        return False
    x0, y0, x1, y1 = bbox_xyxy(anno)
    anno |= {"bbox": [(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0, 0.0], "bbox_mode": BoxMode.XYWHA_ABS}
    return True
