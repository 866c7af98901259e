"""Whole models as functions from a tensor to tensors, for ``torch.export`` and ``torch.compile``.

The models of this package take and return dicts, ``Instances`` and lists whose lengths depend on what was found. No
graph can hold that. :class:`TensorInference` runs the same parts on plain tensors: every count is fixed, and a mask
says which rows are real. The numbers are those of the model itself.

N images of one size, P proposals, D detections, K classes, M cells of a mask in each direction.

Example:
    >>> graph = torch.export.export(
    ...     TensorInference(model), (torch.rand(3, 480, 640) * 255,),
    ...     dynamic_shapes={"image": {1: Dim("height", min=64, max=2048), 2: Dim("width", min=64, max=2048)}},
    ...     strict=True,
    ... )  # doctest: +SKIP
    >>> found = graph.module()(image)  # doctest: +SKIP
    >>> found["boxes"][found["valid"]]  # doctest: +SKIP
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch._higher_order_ops.scan import scan
from torch.nn import functional as F

from detectron2.layers import paste_masks_in_image
from detectron2.structures import Boxes, Instances, heatmaps_to_keypoints

from ._selection import clip_boxes
from .meta_arch import DenseDetector, GeneralizedRCNN, PanopticFPN, ProposalNetwork, SemanticSegmentor
from .proposal_generator import RPN, RRPN
from .proposal_generator.proposal_utils import select_proposals
from .roi_heads import CascadeROIHeads, Res5ROIHeads, RROIHeads, StandardROIHeads
from .roi_heads._detections import select_detections
from .roi_heads.mask_head import masks_of_classes

__all__ = ["TensorInference", "outputs_to_instances"]

Tensors = dict[str, Tensor]

# What the package's own models return; anything else comes from heads of other code.
_NAMES_OF_OUTPUTS = {
    *("boxes", "scores", "classes", "valid", "masks", "keypoints", "logits"),
    *("sem_seg", "panoptic_seg", "thing_segments", "stuff_segments"),
}


class TensorInference(nn.Module):
    """A model of this package as a function from images to tensors of fixed counts. Evaluation only.

    Args:
        model: GeneralizedRCNN (with RPN and standard, cascade or C4 heads), ProposalNetwork, RetinaNet, FCOS,
            SemanticSegmentor or PanopticFPN. It is switched to evaluation.

    Raises:
        TypeError: for models with parts that have no such form.
        ValueError: when the number of detections is not limited.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        _check_supported(model)
        self.model: Any = model.eval()

    def forward(self, image: Tensor) -> Tensors:
        """Predict.

        Args:
            image: [C, H, W], or [N, C, H, W] for N images of one size; channels and range as the model takes them.

        Returns:
            In coordinates of the image, each with a leading N if the input had one:

            * R-CNN and dense models: ``boxes`` [D, 4], ``scores`` [D], ``classes`` [D] and ``valid`` bool [D], in
              descending order of score; with mask heads ``masks`` [D, M, M], soft masks within the boxes; with
              keypoint heads ``keypoints`` [D, keypoints, 3] (x, y, score); and what heads with a method
              ``extra_tensors(features, pool)`` add, [D, ...] by name, where ``pool(pooler, maps)`` gives the features
              [N * D, C, H, W] of the detections;
            * ProposalNetwork: ``boxes`` [P, 4], ``logits`` [P] and ``valid`` [P];
            * semantic models: ``sem_seg`` [classes, H, W];
            * PanopticFPN: all of these, ``panoptic_seg`` int32 [H, W], and the segment of each detection,
              ``thing_segments`` [D], and of each class of ``sem_seg``, ``stuff_segments`` [classes]; 0 = none.
        """
        images = image if image.dim() == 4 else image[None]
        found = self._predict(images)
        return found if image.dim() == 4 else {name: value[0] for name, value in found.items()}

    def _predict(self, images: Tensor) -> Tensors:
        model = self.model
        size = (images.shape[-2], images.shape[-1])
        features = model.backbone(_normalise_and_pad(model, images))
        if isinstance(model, SemanticSegmentor):
            return {"sem_seg": _semantic_scores(model, features, size)}
        if isinstance(model, DenseDetector):
            return _dense(model, features, size)
        boxes, logits, real = _propose(model.proposal_generator, features, size)
        if boxes.shape[0] != images.shape[0]:
            raise TypeError(
                f"no tensor form for a backbone that makes features of {boxes.shape[0]} images from "
                f"{images.shape[0]}, in branches whose detections are merged later"
            )
        if isinstance(model, ProposalNetwork):
            return {"boxes": boxes, "logits": logits, "valid": real}
        found = _detect(model.roi_heads, features, boxes, real, size)
        if isinstance(model, PanopticFPN):
            found["sem_seg"] = _semantic_scores(model, features, size)
            found.update(_merge_panoptic(model, found, size))
        return found


def outputs_to_instances(outputs: Tensors, image_size: tuple[int, int]) -> Instances:
    """The real rows of one image's outputs as the Instances that the model itself would return for it.

    Args:
        outputs: of :class:`TensorInference` for one image [C, H, W].
        image_size: (H, W).
    """
    rows = outputs["valid"]
    boxes = Boxes(outputs["boxes"][rows])
    if "logits" in outputs:
        return Instances(image_size, proposal_boxes=boxes, objectness_logits=outputs["logits"][rows])
    found = Instances(
        image_size, pred_boxes=boxes, scores=outputs["scores"][rows], pred_classes=outputs["classes"][rows]
    )
    if "masks" in outputs:
        found.pred_masks = paste_masks_in_image(outputs["masks"][rows], boxes, image_size)
    if "keypoints" in outputs:
        found.pred_keypoints = outputs["keypoints"][rows]
    for name in outputs.keys() - _NAMES_OF_OUTPUTS:
        found.set(name, outputs[name][rows])
    return found


def _check_supported(model: Any) -> None:
    known = (GeneralizedRCNN, ProposalNetwork, DenseDetector, SemanticSegmentor)
    if not isinstance(model, known):
        raise TypeError(f"no tensor form for {type(model).__name__}; known are {[k.__name__ for k in known]}")
    generator = getattr(model, "proposal_generator", None)
    if isinstance(model, (GeneralizedRCNN, ProposalNetwork)) and (
        not isinstance(generator, RPN) or isinstance(generator, RRPN)
    ):
        raise TypeError(f"no tensor form for proposals of {type(generator).__name__}; an RPN is needed")
    if isinstance(model, GeneralizedRCNN):
        heads = model.roi_heads
        if not isinstance(heads, (StandardROIHeads, Res5ROIHeads)) or isinstance(heads, RROIHeads):
            raise TypeError(f"no tensor form for heads of type {type(heads).__name__}")
        if _last_predictor(heads).test_topk_per_image < 0:
            raise ValueError(
                "a graph needs a limit on detections; set test_topk_per_image (TEST.DETECTIONS_PER_IMAGE)"
            )


def _last_predictor(heads: Any) -> Any:
    return heads.box_predictor[-1] if isinstance(heads, CascadeROIHeads) else heads.box_predictor


def _normalise_and_pad(model: Any, images: Tensor) -> Tensor:
    """What ``preprocess_image`` makes of N images of one size."""
    images = (images - model.pixel_mean) / model.pixel_std
    height, width = images.shape[-2], images.shape[-1]
    constraints = model.backbone.padding_constraints
    side = constraints.get("square_size", 0)
    step = max(model.backbone.size_divisibility, constraints.get("size_divisibility", 0), 1)
    if side > 0:
        target = (side, side)
    else:
        target = ((height + step - 1) // step * step, (width + step - 1) // step * step)
    return F.pad(images, (0, target[1] - width, 0, target[0] - height))


def _semantic_scores(model: Any, features: Tensors, size: tuple[int, int]) -> Tensor:
    scores, _ = model.sem_seg_head(features, None)
    if not torch.compiler.is_compiling():
        return scores[..., : size[0], : size[1]]
    # A slice of unknown length would have to be proved shorter than the padded side; picking rows need not.
    rows, columns = (torch.arange(n, device=scores.device) for n in size)
    return scores.index_select(-2, rows).index_select(-1, columns)


def _fill_up(rows: Tensor, count: int) -> Tensor:
    """``count`` rows, the missing ones zero (or False)."""
    missing = count - rows.shape[0]
    return torch.cat((rows, rows.new_zeros((missing, *rows.shape[1:])))) if missing > 0 else rows


def _visible(boxes: Tensor, valid: Tensor) -> Tensor:
    """Valid rows whose boxes have an area."""
    return valid & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])


def _dense(model: Any, features: Tensors, size: tuple[int, int]) -> Tensors:
    maps = [features[name] for name in model.head_in_features]
    scores, deltas = model.image_scores(model.head(maps))
    anchors = model.anchor_generator(maps)
    columns: list[tuple[Tensor, ...]] = []
    for i in range(scores[0].shape[0]):
        boxes, score, classes, real = model.select(anchors, [s[i] for s in scores], [d[i] for d in deltas])
        boxes = clip_boxes(boxes, *size)
        chosen = (boxes, score, classes, _visible(boxes, real))
        columns.append(tuple(_fill_up(column, model.max_detections_per_image) for column in chosen))
    return _stack(columns)


def _stack(images: list[tuple[Tensor, ...]]) -> Tensors:
    names = ("boxes", "scores", "classes", "valid")
    return {name: torch.stack([columns[j] for columns in images]) for j, name in enumerate(names)}


def _propose(rpn: Any, features: Tensors, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Proposals [N, P, 4], logits [N, P], and which are real."""
    maps = [features[name] for name in rpn.in_features]
    logits, deltas = rpn.predict(maps)
    decoded = rpn._decode_proposals(rpn.anchor_generator(maps), deltas)
    chosen = select_proposals(
        decoded,
        logits,
        [size] * maps[0].shape[0],
        rpn.nms_thresh,
        rpn.pre_nms_topk[False],
        rpn.post_nms_topk[False],
        rpn.min_box_size,
    )
    boxes, scores, real = (torch.stack(column) for column in zip(*chosen))
    return boxes, scores, real


def _pool(pooler: Any, maps: list[Tensor], boxes: Tensor) -> Tensor:
    """Features [N * P, C, H, W] of boxes [N, P, 4]."""
    image = torch.arange(boxes.shape[0], device=boxes.device, dtype=boxes.dtype)
    index = image[:, None, None].expand(-1, boxes.shape[1], 1)
    rois = torch.cat((index, boxes), dim=2).flatten(0, 1)  # [N * P, 5]
    return pooler.pool(maps, rois, (rois[:, 3] - rois[:, 1]) * (rois[:, 4] - rois[:, 2]))


def _detect(heads: Any, features: Tensors, boxes: Tensor, real: Tensor, size: tuple[int, int]) -> Tensors:
    if isinstance(heads, Res5ROIHeads):
        maps = [features[name] for name in heads.in_features]
        scores, decoded = _box_stage(
            heads.box_predictor, heads.res5(_pool(heads.pooler, maps, boxes)).mean(dim=(2, 3)), boxes
        )
        found = _choose(heads, decoded, scores, real, size)
        if heads.mask_on:
            pooled = heads.res5(_pool(heads.pooler, maps, found["boxes"]))
            found["masks"] = _masks(heads.mask_head, pooled, found["classes"])
        return found
    maps = [features[name] for name in heads.box_in_features]
    if isinstance(heads, CascadeROIHeads):
        decoded, scores = _cascade(heads, maps, boxes, size)
    else:
        hidden = heads.box_head(_pool(heads.box_pooler, maps, boxes))
        scores, decoded = _box_stage(heads.box_predictor, hidden, boxes)
    found = _choose(heads, decoded, scores, real, size)
    if heads.mask_on and heads.mask_pooler is None:
        found["masks"] = _masks_from_maps(heads, features, found)
    elif heads.mask_on:
        pooled = _extra_features(heads.mask_pooler, features, heads.mask_in_features, found["boxes"])
        found["masks"] = _masks(heads.mask_head, pooled, found["classes"])
    if heads.keypoint_on:
        pooled = _extra_features(heads.keypoint_pooler, features, heads.keypoint_in_features, found["boxes"])
        maps_of_points = heads.keypoint_head.layers(pooled)
        points = heatmaps_to_keypoints(maps_of_points, found["boxes"].flatten(0, 1))
        found["keypoints"] = points[:, :, [0, 1, 3]].unflatten(0, found["scores"].shape)
    if hasattr(heads, "extra_tensors"):
        extra = heads.extra_tensors(features, lambda pooler, maps: _pool(pooler, maps, found["boxes"]))
        found.update({name: value.unflatten(0, found["scores"].shape) for name, value in extra.items()})
    return found


def _extra_features(pooler: Any, features: Tensors, names: list[str], boxes: Tensor) -> Tensor:
    if pooler is None:
        raise TypeError("heads without a pooler have no tensor form")
    return _pool(pooler, [features[name] for name in names], boxes)


def _box_stage(predictor: Any, hidden: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities [N, P, K + 1] and boxes [N, P, K * 4 or 4]."""
    scores, deltas = predictor(hidden)
    decoded = predictor.box2box_transform.apply_deltas(deltas, boxes.flatten(0, 1))
    probabilities = predictor.probabilities(scores)
    shape = boxes.shape[:2]
    return probabilities.unflatten(0, shape), decoded.unflatten(0, shape)


def _cascade(heads: Any, maps: list[Tensor], boxes: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Boxes of the last stage and mean probabilities of all."""
    total: Tensor | None = None
    for k in range(heads.num_cascade_stages):
        boxes = boxes if k == 0 else clip_boxes(boxes, *size)
        hidden = heads.box_head[k](_pool(heads.box_pooler, maps, boxes))
        scores, boxes = _box_stage(heads.box_predictor[k], hidden, boxes)
        total = scores if total is None else total + scores
    assert total is not None
    return boxes, total / heads.num_cascade_stages


def _choose(heads: Any, boxes: Tensor, scores: Tensor, real: Tensor, size: tuple[int, int]) -> Tensors:
    """The best D detections of each image."""
    predictor = _last_predictor(heads)
    images: list[tuple[Tensor, ...]] = []
    for b, s, valid in zip(boxes, scores, real):
        box, score, classes, _, kept = select_detections(
            b,
            s,
            size,
            predictor.test_score_thresh,
            predictor.test_nms_thresh,
            predictor.test_topk_per_image,
            valid=valid,
        )
        chosen = (box, score, classes, _visible(box, kept))
        images.append(tuple(_fill_up(column, predictor.test_topk_per_image) for column in chosen))
    return _stack(images)


def _masks(head: Any, pooled: Tensor, classes: Tensor) -> Tensor:
    """Soft masks [N, D, M, M]."""
    logits = head.layers(pooled)
    return masks_of_classes(logits, classes.flatten()).sigmoid().unflatten(0, classes.shape)


def _masks_from_maps(heads: Any, features: Tensors, found: Tensors) -> Tensor:
    """Soft masks [N, D, M, M] of a head that samples the feature maps itself, such as PointRend's."""
    if not hasattr(heads.mask_head, "predict"):
        raise TypeError(
            f"{type(heads.mask_head).__name__} has no pooler and no method predict(features, boxes, classes), which a "
            "tensor form needs"
        )
    maps = {name: features[name] for name in heads.mask_in_features}
    logits = heads.mask_head.predict(maps, list(found["boxes"].unbind()), found["classes"].flatten())
    return logits[:, 0].sigmoid().unflatten(0, found["classes"].shape)


def _merge_panoptic(model: Any, found: Tensors, size: tuple[int, int]) -> Tensors:
    """What ``combine_semantic_and_instance_outputs`` does, with a fixed number of steps."""
    merged = [
        _merge_one_image(model, {name: value[i] for name, value in found.items()}, size)
        for i in range(found["boxes"].shape[0])
    ]
    names = ("panoptic_seg", "thing_segments", "stuff_segments")
    return {name: torch.stack([m[j] for m in merged]) for j, name in enumerate(names)}


def _merge_one_image(model: Any, found: Tensors, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    labels = found["sem_seg"].argmax(dim=0)  # [H, W]
    masks = paste_masks_in_image(found["masks"], found["boxes"], size)  # [D, H, W]
    areas = masks.flatten(1).sum(dim=1)
    wanted = found["valid"] & (found["scores"] >= model.combine_instances_score_thresh) & (areas > 0)
    taken = _lay_down(masks, areas, model.combine_overlap_thresh * areas, wanted)
    ids = taken.cumsum(dim=0).to(torch.int32)
    things, last = torch.where(taken, ids, 0), ids[-1]
    # those that are taken, the best first: of several in a pixel the first has it
    over = (masks & taken[:, None, None]).to(torch.uint8)
    panoptic = torch.where(over.amax(dim=0) > 0, ids[over.argmax(dim=0)], 0)
    free = panoptic == 0
    num_classes = found["sem_seg"].shape[0]
    counts = torch.zeros((2, num_classes), dtype=torch.int64, device=labels.device)
    flat = labels.flatten()
    left = counts[0].scatter_add(0, flat, free.flatten().to(torch.int64))
    present = counts[1].scatter_add(0, flat, torch.ones_like(flat))
    kept = (present > 0) & (left >= model.combine_stuff_area_thresh)
    kept = kept & (torch.arange(num_classes, device=labels.device) > 0)  # label 0 stands for things
    stuff = torch.where(kept, last + kept.cumsum(dim=0), 0).to(torch.int32)
    return torch.where(free, stuff[labels], panoptic), things, stuff


def _lay_down(masks: Tensor, areas: Tensor, may_lose: Tensor, wanted: Tensor) -> Tensor:
    """Which of the masks [D, H, W], in descending order of score, keep enough of their area; bool [D].

    A wanted mask is taken unless those taken before it cover more of it than it may lose. So each step needs the one
    before; a graph holds one step and a loop.
    """

    def step(covered: Tensor, one: tuple[Tensor, Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        mask, area, limit, want = one
        lost = area - (mask & ~covered).sum()
        taken = want & (lost <= limit)
        return covered | (mask & taken), taken.clone()

    covered = torch.zeros_like(masks[0])
    if torch.compiler.is_compiling():
        return scan(step, covered, (masks, areas, may_lose, wanted))[1]
    found = []
    for one in zip(masks, areas, may_lose, wanted):
        covered, taken = step(covered, one)
        found.append(taken)
    return torch.stack(found)
