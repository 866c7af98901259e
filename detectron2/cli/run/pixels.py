"""Label maps in training: the task that labels and model have in common, and the config for it."""

from detectron2.data.formats import DataPlan, label_facts
from detectron2.data.formats.pixels import PixelTask
from detectron2.engine.run_config import RunConfig

from ..errors import UserError
from .model_fit import OTHER_TASKS, model_kinds

__all__ = ["check_pixels", "fit_pixels", "pixel_task"]

METRICS = {"panoptic": "panoptic_seg/PQ", "semantic": "sem_seg/mIoU"}
ADVICE = {
    "panoptic": "panoptic_fpn_R_50_3x, or a panoptic config of Mask2Former or MaskDINO",
    "semantic": "semantic_R_50_FPN_1x, or a semantic config of Mask2Former or MaskDINO",
}
# Where configs keep what models of masks by queries are tested for.
_TESTS = ("MODEL.MASK_FORMER.TEST", "MODEL.MaskDINO.TEST")


def pixel_task(run: RunConfig, plan: DataPlan, model: str) -> PixelTask | None:
    """Return the task for which a model trains on label maps; None for labels of objects, for which see :func:`fit_labels`.

    Panoptic labels also serve a semantic model.

    Args:
        run: config with the user's changes.
        plan: the data.
        model: name of the model, for messages.

    Raises:
        UserError: the labels do not suit the model; names models that they suit.
    """
    facts = label_facts(plan.parts["train"].records)
    wanted, meta = model_kinds(run)["other"], run.get("MODEL.META_ARCHITECTURE")
    if not facts.is_pixels:
        return None
    kind = "panoptic" if facts.panoptic else "semantic"
    if not wanted or (wanted, kind) == ("panoptic", "semantic"):
        needs = OTHER_TASKS.get(wanted, "labels of objects")
        raise UserError(
            f"the labels are {OTHER_TASKS[kind]}, but {model} needs {needs}: omit --model, or use {ADVICE[kind]}"
        )
    if meta is None or meta == "PanopticDeepLab":
        raise UserError(
            f"this command trains no {'Python configs' if meta is None else 'Panoptic-DeepLab'} on {OTHER_TASKS[kind]}: "
            f"use {ADVICE[wanted]}, or train in Python (tools/train_net.py)"
        )
    data = plan.parts["train"].metadata
    things = data.get("thing_dataset_id_to_contiguous_id", {})
    stuff = data.get("stuff_dataset_id_to_contiguous_id", {})
    numbers = {**things, **stuff}
    return PixelTask(
        kind=wanted,
        classes=plan.parts["train"].class_names,
        ids=sorted(numbers, key=lambda c: numbers[c]),
        things=len(things) if wanted == "panoptic" else 0,
        separate=meta == "PanopticFPN",
    )


def check_pixels(task: PixelTask, plan: DataPlan, model: str) -> None:
    """Check that validation data suit a run on label maps.

    Raises:
        UserError: they do not.
    """
    facts = label_facts(plan.parts["val"].records)
    if not (facts.panoptic or (facts.semantic and task.kind == "semantic")):
        raise UserError(f"{model} was trained on {OTHER_TASKS[task.kind]}, but these labels are {facts}")


def fit_pixels(run: RunConfig, task: PixelTask) -> list[str]:
    """Fit a config to the classes of label maps, and to what is to be evaluated.

    Args:
        run: config, before the user's own changes.
        task: the task.

    Returns:
        Messages for the user.
    """
    stuff = len(task.classes) - task.things
    classes = stuff + 1 if task.separate else len(task.classes)
    changes: dict[str, object] = {"MODEL.SEM_SEG_HEAD.NUM_CLASSES": classes}
    if task.separate:
        changes |= {"MODEL.ROI_HEADS.NUM_CLASSES": task.things, "INPUT.MASK_FORMAT": "auto"}
    if run.get("MODEL.POINT_HEAD.NUM_CLASSES") is not None:  # PointRend's
        changes["MODEL.POINT_HEAD.NUM_CLASSES"] = classes
    for node in _TESTS:
        if run.get(node) is not None:
            both = task.kind == "panoptic"
            changes |= {f"{node}.SEMANTIC_ON": True, f"{node}.INSTANCE_ON": both, f"{node}.PANOPTIC_ON": both}
    for path, value in changes.items():
        run.set(path, value)
    run.put(best_metric=METRICS[task.kind])
    if run.get(
        "INPUT.DATASET_MAPPER_NAME"
    ):  # only this mapper makes the labels of the model, and only in training
        run.put(val_loss_period=0)
    what = (
        f"{task.things} things and {stuff} stuff" if task.kind == "panoptic" else f"{stuff} classes of pixels"
    )
    return [f"Task: {task.kind} segmentation with {what}"]
