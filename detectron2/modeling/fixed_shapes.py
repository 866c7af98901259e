"""Ground truth and sizes of a batch as tensors of fixed shapes, for training in the fast form.

With ``MODEL.FIXED_SHAPES``, Faster, Mask, Keypoint and Cascade R-CNN train and predict with shapes that do not depend
on values: padding and masks take the place of lists whose lengths the host must read, so that it never waits for the
device, and ``torch.compile`` sees one graph. Each part of the model has a method for it, ``loss_tensors``, beside
those of :mod:`.tensor_inference`: :meth:`.RPN.loss_tensors`, :meth:`.StandardROIHeads.loss_tensors`,
:meth:`.FastRCNNOutputLayers.loss_tensors`, :meth:`.BaseMaskRCNNHead.loss_tensors` and
:meth:`.BaseKeypointRCNNHead.loss_tensors`.

N images, M ground truths after padding.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from detectron2.structures import BitMasks, Boxes, Instances, PolygonMasks

from .tensor_inference import Tensors

__all__ = ["CompiledFunctions", "Size", "padded_instances", "padded_truth", "size_of_each", "size_tensors"]

Size = tuple[int | Tensor, int | Tensor]
"""Height and width of all images of a batch, or of each of them as tensors [N]."""

Method = Callable[..., Tensors]

# Numbers of ground truths after padding: the first and the factor to the next. Each is another compiled graph.
_FEWEST, _FACTOR = 32, 4


class CompiledFunctions:
    """Compiles methods of a model, each at its first call. Copies of the model may share it.

    Args:
        options: of ``torch.compile``.
    """

    def __init__(self, **options: object) -> None:
        self.options = options
        self._compiled: dict[Method, Method] = {}

    def __reduce__(self) -> tuple[object, ...]:
        """Keep the options alone."""
        return functools.partial(type(self), **self.options), ()

    def __call__(self, method: Method) -> Method:
        """Return the compiled form of a function that takes the model as its first argument."""
        if method not in self._compiled:
            self._compiled[method] = torch.compile(method, **self.options)  # type: ignore[call-overload]
        return self._compiled[method]


def size_of_each(size: Size, count: int) -> list[Size]:
    """Return height and width, numbers or scalars on the device, of each of ``count`` images."""
    height, width = size
    if isinstance(height, Tensor) and isinstance(width, Tensor) and height.dim() == 1:
        return list(zip(height.unbind(), width.unbind()))
    return [size] * count


def size_tensors(sizes: Sequence[tuple[int, int]], device: torch.device) -> Size:
    """Return the heights [N] and widths [N] of images as tensors on a device."""
    height, width = torch.tensor(list(sizes)).to(device, non_blocking=True).unbind(dim=1)
    return height, width


def padded_instances(outputs: Tensors, image_sizes: Sequence[tuple[int, int]]) -> list[Instances]:
    """Convert outputs of :class:`.TensorInference` for N images to Instances, whose unreal rows stay."""
    found = []
    for i, size in enumerate(image_sizes):
        one = Instances(size, pred_boxes=Boxes(outputs["boxes"][i]))
        one.scores, one.pred_classes = outputs["scores"][i], outputs["classes"][i]
        if "masks" in outputs:
            one.pred_masks = outputs["masks"][i][:, None]
        if "keypoints" in outputs:
            one.pred_keypoints = outputs["keypoints"][i]
        found.append(one)
    return found


def padded_truth(
    targets: Sequence[Instances], height: int, width: int, with_masks: bool, with_keypoints: bool = False
) -> Tensors:
    """Pad the ground truth of N images to the same number M: the first of 32, 128, 512, ... that suffices.

    Args:
        targets: N Instances with ``gt_boxes``, ``gt_classes`` and, if needed, ``gt_masks`` and ``gt_keypoints``.
        height, width: size of the padded batch of images.
        with_masks, with_keypoints: which are needed.

    Returns:
        ``boxes`` [N, M, 4], ``classes`` [N, M], ``valid`` bool [N, M] (which are real), ``masks`` bool
        [N, M, height, width] and ``keypoints`` [N, M, K, 3], where K is 1 if no image has any.
    """
    count = _FEWEST
    while count < max(len(t) for t in targets):
        count *= _FACTOR
    names = ("boxes", "classes", "valid", "masks", "keypoints")
    columns: dict[str, list[Tensor]] = {name: [] for name in names}
    kinds = next((t.gt_keypoints.tensor.shape[1] for t in targets if t.has("gt_keypoints")), 1)
    for target in targets:
        boxes, missing = target.gt_boxes.tensor, count - len(target)
        columns["boxes"].append(F.pad(boxes, (0, 0, 0, missing)))
        columns["classes"].append(F.pad(target.gt_classes, (0, missing)))
        columns["valid"].append(torch.arange(count, device=boxes.device) < len(target))
        if with_masks:
            masks = _bitmaps(target, boxes.device)
            right, bottom = width - masks.shape[2], height - masks.shape[1]
            columns["masks"].append(F.pad(masks, (0, right, 0, bottom, 0, missing)))
        if with_keypoints:
            # A mapper gives images without objects no keypoints.
            points = target.gt_keypoints.tensor if len(target) else boxes.new_zeros(0, kinds, 3)
            columns["keypoints"].append(F.pad(points, (0, 0, 0, 0, 0, missing)))
    return {name: torch.stack(values) for name, values in columns.items() if values}


def _bitmaps(target: Instances, device: torch.device) -> Tensor:
    """Return the masks of one image as bool [m, height, width]; polygons are filled on the host."""
    if not len(target):
        return torch.zeros((0, *target.image_size), dtype=torch.bool, device=device)
    masks = target.gt_masks
    if isinstance(masks, PolygonMasks):
        masks = BitMasks.from_polygon_masks(masks, *target.image_size)
    return masks.tensor.to(device, non_blocking=True)
