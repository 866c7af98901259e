"""How much two results for one picture differ, and whether that is too much."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from detectron2.structures import Boxes, Instances, RotatedBoxes, pairwise_iou, pairwise_iou_rotated
from detectron2.structures.types import ModelOutput, SegmentInfo

__all__ = ["BY_AP", "TOLERANCES", "Difference", "Tolerance", "compare"]

_SLACK = 0.05  # above the lowest score that there can be, even where scores may differ by more


@dataclass(frozen=True)
class Tolerance:
    """How far results of a file may be from those of its model.

    Attributes:
        pixels: of a box's edges, or
        share: of the longer side of the box, whichever is more.
        score: of scores, in [0, 1]; 10 times as much for logits.
        mask_iou: lowest IoU of masks of one object. Masks of few pixels may differ by 4.
        keypoint: pixels that keypoints may be off; one in a hundred may be more, since peaks can be twins.
        labels: lowest share of pixels with the same class or segment.
        missing: highest share of objects that only one of the two has, or whose boxes are too far apart: where
            boxes compete, a small difference of scores lets another one of the same object win.
        above: objects with a lower score do not count.
        overlap: IoU from which two boxes of one class are one object.
    """

    pixels: float = 0.1
    share: float = 2e-4
    score: float = 1e-3
    mask_iou: float = 0.98
    keypoint: float = 1.0
    labels: float = 0.999
    missing: float = 0.0
    above: float = 0.0
    overlap: float = 0.9


TOLERANCES = {
    "fp32": Tolerance(),
    "fp16": Tolerance(2.0, 0.02, 0.03, 0.9, 4.0, 0.99, missing=0.05, above=0.1, overlap=0.8),
    "bf16": Tolerance(6.0, 0.06, 0.1, 0.8, 12.0, 0.95, missing=0.15, above=0.3, overlap=0.6),
    # Without labels; this only catches what is broken.
    "int8": Tolerance(1e4, 1.0, 0.5, 0.5, 1e4, 0.8, missing=0.25, above=0.5, overlap=0.5),
}

BY_AP = Tolerance(1e9, 1e9, 1e9, -1.0, 1e9, -1e9, missing=1e9, above=0.5, overlap=0.5)
"""Where AP decides: single objects may differ as they like, and are only counted."""


@dataclass
class Difference:
    """What was found by comparing two results for one picture.

    Attributes:
        objects: how many the model found, those below the tolerance's ``above`` left out.
        missing: how many objects only one of the two has, or has elsewhere.
        box, score, keypoint: largest difference, in pixels and as a number.
        mask_iou, labels: lowest IoU of masks, and share of pixels with the same label.
        problems: what is too much, in words; empty if they agree.
    """

    objects: int = 0
    missing: int = 0
    box: float = 0.0
    score: float = 0.0
    mask_iou: float | None = None
    keypoint: float | None = None
    labels: float | None = None
    problems: list[str] = field(default_factory=list)


def compare(
    wanted: ModelOutput,
    found: ModelOutput,
    tolerance: Tolerance,
    threshold: float = 0.0,
    most: int | None = None,
) -> Difference:
    """Compare the result of a file with that of its model.

    Objects are paired by class and overlap, since those of equal score may come in any order. An object whose score is
    within the tolerance of the lowest that the model gives may be missing.

    Args:
        wanted: of the model.
        found: of the file.
        tolerance: what is allowed.
        threshold: the model gives no lower scores.
        most: the model gives no more objects: the score of the last one then is the lowest.
    """
    result = Difference()
    lacking = sorted(set(wanted) - set(found))
    if lacking:
        result.problems.append(f"the file gives no {', '.join(lacking)}")
        return result
    for name in ("instances", "proposals"):
        if name in wanted:
            _compare_objects(wanted[name], found[name], tolerance, result, (threshold, most))
    if "sem_seg" in wanted:
        _compare_labels(wanted["sem_seg"].argmax(0), found["sem_seg"].argmax(0), "sem_seg", tolerance, result)
    if "panoptic_seg" in wanted:
        a, b = (_categories(*output["panoptic_seg"]) for output in (wanted, found))
        _compare_labels(a, b, "panoptic_seg", tolerance, result)
    return result


def _scores(objects: Instances) -> Tensor:
    return objects.scores if objects.has("scores") else objects.objectness_logits


def _boxes(objects: Instances) -> Boxes | RotatedBoxes:
    return objects.pred_boxes if objects.has("pred_boxes") else objects.proposal_boxes


def _compare_objects(
    wanted: Instances,
    found: Instances,
    limits: Tolerance,
    result: Difference,
    cut: tuple[float, int | None],
) -> None:
    rated = wanted.has("scores")
    slack, above = (limits.score, limits.above) if rated else (10 * limits.score, -torch.inf)
    pairs = _pair(wanted, found, limits.overlap)
    alone = []
    for side, used in zip((wanted, found), (pairs[:, 0], pairs[:, 1])):
        full = not rated or (cut[1] is not None and len(side) >= cut[1])
        lowest = float(_scores(side).min()) if full and len(side) else cut[0]
        alone.append(_alone(side, used, max(lowest + min(slack, _SLACK), above)))
    result.objects = int((_scores(wanted) >= above).sum())
    result.missing = sum(len(a) for a in alone)
    if result.missing > limits.missing * max(result.objects, int((_scores(found) >= above).sum())):
        for who, side, places in (("the file", wanted, alone[0]), ("the model", found, alone[1])):
            if places:
                result.problems.append(
                    f"{who} lacks {len(places)} of {len(side)} objects, such as {_name(side, places[0])}"
                )
    wanted, found = wanted[pairs[:, 0]], found[pairs[:, 1]]
    count = torch.maximum(_scores(wanted), _scores(found)) >= above
    wanted, found = wanted[count], found[count]
    if not len(wanted):
        return
    off, far = _box_distances(wanted, found, limits)
    elsewhere = int(far.sum())
    if result.missing + elsewhere <= limits.missing * result.objects:
        result.missing += elsewhere
        wanted, found, off = wanted[~far], found[~far], off[~far]
    else:
        _report(far, off, wanted, "box", "px off", result)
    result.box = float(off.max()) if len(off) else 0.0
    off = (_scores(wanted) - _scores(found)).abs()
    result.score = float(off.max()) if len(off) else 0.0
    _report(off > slack, off, wanted, "score", "off", result)
    _compare_details(wanted, found, limits, result)


def _box_distances(wanted: Instances, found: Instances, limits: Tolerance) -> tuple[Tensor, Tensor]:
    """Return the largest distance of two edges, in pixels, for each pair of boxes, and whether it is too much."""
    ours, theirs = _boxes(wanted).tensor, _boxes(found).tensor
    off = (ours - theirs).abs().amax(1)
    sides = ours[:, 2:4] - ours[:, :2] if ours.shape[1] == 4 else ours[:, 2:4]
    return off, off > (limits.share * sides.amax(1)).clamp(min=limits.pixels)


def _compare_details(wanted: Instances, found: Instances, limits: Tolerance, result: Difference) -> None:
    if wanted.has("pred_masks"):
        a, b = wanted.pred_masks.flatten(1), found.pred_masks.flatten(1)
        common, either = (a & b).sum(1), (a | b).sum(1)
        iou = torch.where(either > 0, common / either.clamp(min=1), 1.0)
        result.mask_iou = float(iou.min())
        _report((iou < limits.mask_iou) & (either - common > 4), iou, wanted, "mask", "IoU", result)
    if wanted.has("pred_keypoints"):
        off = (wanted.pred_keypoints - found.pred_keypoints)[..., :2].abs().amax(-1)
        far = off > limits.keypoint
        result.keypoint = float(off.quantile(0.99))
        if far.float().mean() > 0.01:
            _report(far.any(1), off.amax(1), wanted, "keypoint", "px off", result)


def _pair(wanted: Instances, found: Instances, overlap: float) -> Tensor:
    """Pair objects of one class one to one, those that overlap most first; rows of (wanted, found)."""
    ours, theirs = _boxes(wanted), _boxes(found)
    if wanted.has("pred_masks") and not ours.nonempty().any():  # Mask2Former has no boxes
        iou = _mask_iou(wanted.pred_masks, found.pred_masks)
    elif isinstance(ours, RotatedBoxes) and isinstance(theirs, RotatedBoxes):
        iou = pairwise_iou_rotated(ours, theirs)
    else:
        iou = pairwise_iou(ours, theirs)
    if wanted.has("pred_classes"):
        same = wanted.pred_classes[:, None] == found.pred_classes[None]
        iou = torch.where(same, iou, -1.0)
    # Of boxes that overlap alike, those of like scores.
    apart = (_scores(wanted)[:, None] - _scores(found)[None]).abs()
    rank = iou - 1e-2 * apart / (1 + apart)
    pairs = []
    for place in rank.flatten().argsort(descending=True).tolist():
        row, column = divmod(place, max(len(found), 1))
        if iou[row, column] < overlap:
            continue
        if rank[row, column] == -torch.inf:
            break
        pairs.append((row, column))
        rank[row], rank[:, column] = -torch.inf, -torch.inf
        iou[row], iou[:, column] = -1.0, -1.0
    return torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2)


def _mask_iou(ours: Tensor, theirs: Tensor) -> Tensor:
    """Return the IoU of each mask bool [D, H, W] with each of the others; 0 for two empty ones."""
    a, b = ours.flatten(1).float(), theirs.flatten(1).float()
    common = a @ b.T
    return common / (a.sum(1)[:, None] + b.sum(1) - common).clamp(min=1)


def _alone(objects: Instances, paired: Tensor, above: float) -> list[int]:
    """Places of objects without a partner whose score is higher than a limit."""
    left = _scores(objects) > above
    left[paired] = False
    return left.nonzero()[:, 0].tolist()


def _report(bad: Tensor, value: Tensor, objects: Instances, what: str, unit: str, result: Difference) -> None:
    places = bad.nonzero()[:, 0].tolist()
    if places:
        first = places[0]
        result.problems.append(
            f"{what}: {len(places)} of {len(objects)} objects, such as {_name(objects, first)}: {value[first]:.4g} {unit}"
        )


def _name(objects: Instances, place: int) -> str:
    box = ", ".join(f"{v:.1f}" for v in _boxes(objects).tensor[place].tolist())
    kind = f"class {int(objects.pred_classes[place])}, " if objects.has("pred_classes") else ""
    return f"{kind}score {float(_scores(objects)[place]):.3f}, box ({box})"


def _categories(segments: Tensor, info: list[SegmentInfo]) -> Tensor:
    """Write the category into each pixel: the numbers of segments depend on their order. Things count from 1000."""
    categories = torch.zeros_like(segments, dtype=torch.int64)
    for segment in info:
        categories[segments == segment["id"]] = segment["category_id"] + 1 + 1000 * bool(segment["isthing"])
    return categories


def _compare_labels(wanted: Tensor, found: Tensor, name: str, limits: Tolerance, result: Difference) -> None:
    same = float((wanted == found).float().mean())
    result.labels = same if result.labels is None else min(result.labels, same)
    # Panoptic segments appear and vanish as wholes.
    least = limits.labels if name == "sem_seg" else 1 - 10 * (1 - limits.labels)
    if same < least:
        result.problems.append(f"{name}: only {100 * same:.2f} % of the pixels have the same label")
