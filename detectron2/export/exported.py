"""Exported files as models: pictures in, what the model itself returns out."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from detectron2.data.transforms import ResizeShortestEdge
from detectron2.modeling.meta_arch.panoptic_fpn import combine_semantic_and_instance_outputs
from detectron2.modeling.postprocessing import detector_postprocess, sem_seg_postprocess
from detectron2.modeling.tensor_inference import Tensors
from detectron2.structures import Boxes, Instances, ROIMasks, RotatedBoxes
from detectron2.structures.types import ModelInput, ModelOutput, SegmentInfo
from detectron2.utils.errors import BadValue

from .formats import FORMATS, Metadata, Runner, format_of

__all__ = ["ExportedModel", "is_exported", "load_exported"]

Array = npt.NDArray[Any]


def is_exported(name: object) -> TypeGuard[str | os.PathLike[str]]:
    """Say whether this is the path of a file with the ending of an exported one."""
    if not isinstance(name, (str, os.PathLike)) or not os.path.isfile(name):
        return False
    return any(os.fspath(name).endswith(kind.suffix) for kind in FORMATS.values())


def load_exported(path: str | os.PathLike[str]) -> ExportedModel:
    """Make a file that ``detectron2 export`` wrote ready to run.

    Args:
        path: of the file: ``.pt2``, ``.onnx``, ``.xml`` (OpenVINO), ``.ts`` (TorchScript) or ``.aoti.pt2``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no exported model, or was not written by this package.
        ImportError: the package that runs such files is not installed.
    """
    path = Path(path)
    kind = format_of(path)
    try:
        run, metadata = kind.read(path)
    except (RuntimeError, KeyError, ValueError) as error:
        raise BadValue(f"{path} cannot be read as {kind.name}: {error}") from error
    if "outputs" not in metadata:
        raise BadValue(f"{path} has no metadata of this package: write it by `detectron2 export`")
    return ExportedModel(run, metadata)


class ExportedModel:
    """A model in a file of another form. Threads may share it.

    Args:
        run: runs the graph.
        metadata: of the file.

    Attributes:
        metadata: dict: ``classes``, ``category_ids``, ``input_format`` ("BGR" …), ``min_size`` and ``max_size`` of
            resizing, ``score_threshold``, ``precision``, ``format``, ``batch``, ``static``, ``outputs``, ``versions``.
    """

    def __init__(self, run: Runner, metadata: Metadata) -> None:
        self.run = run
        self.metadata = metadata

    def __call__(self, images: Sequence[Array]) -> list[ModelOutput]:
        """Predict for pictures of any size.

        Args:
            images: arrays (H, W, C) with channels in the order of ``metadata["input_format"]``, values as in files.

        Returns:
            For each picture what the model itself returns: a dict with ``instances``, ``proposals``, ``sem_seg`` or
            ``panoptic_seg``, in coordinates of the picture.
        """
        return self.predict(
            [
                {"image": self.resize(image), "height": image.shape[0], "width": image.shape[1]}
                for image in images
            ]
        )

    def resize(self, image: Array) -> Tensor:
        """Return a picture (H, W, C) as the model takes it: float32 [C, h, w].

        Raises:
            ValueError: another number of dimensions or channels, or no pixels.
        """
        channels = len(self.metadata["pixel_mean"] or ()) or 3
        if image.ndim != 3 or image.shape[2] != channels or not image.size:
            raise BadValue(f"images must be arrays (height, width, {channels}), got {image.shape}")
        static, low = self.metadata["static"], self.metadata["min_size"]
        if static:
            image = _fit(image, *static)
        elif low:
            step = ResizeShortestEdge((low, low), self.metadata["max_size"])
            image = step.get_transform(image).apply_image(image)
        return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)).astype(np.float32))

    def predict(self, batched_inputs: Sequence[ModelInput]) -> list[ModelOutput]:
        """Predict as the model itself does, for evaluation and the like.

        Args:
            batched_inputs: dicts with ``image`` [C, h, w] of the size that the model works at, and optionally ``height``
                and ``width``, the size that results are wanted in.
        """
        images = [self.pad(torch.as_tensor(item["image"]).float()) for item in batched_inputs]
        results: list[ModelOutput] = [{}] * len(images)
        for rows in self._batches(images):
            for row, outputs in zip(rows, self._run_batch([images[row] for row in rows])):
                item = batched_inputs[row]
                size = (int(item["image"].shape[1]), int(item["image"].shape[2]))
                wanted = (int(item.get("height", size[0])), int(item.get("width", size[1])))
                results[row] = to_model_output(outputs, size, wanted, self.metadata)
        return results

    def pad(self, image: Tensor) -> Tensor:
        """Pad to the size of a file of fixed size, or to the least size of another, with what the model pads with."""
        height, width = image.shape[1:]
        low, high = self.metadata["sides"] or (0, 0)
        least = self.metadata["static"] or (low, low)
        limit = self.metadata["static"] or (high, high)
        if height > limit[0] or width > limit[1]:
            raise BadValue(
                f"this file takes images of up to {limit[0]} x {limit[1]} pixels (height x width), got {height} x "
                f"{width}: export again with other sizes"
            )
        more = (0, max(least[1] - width, 0), 0, max(least[0] - height, 0))
        if not any(more):
            return image
        mean = torch.tensor(self.metadata["pixel_mean"] or [0.0] * image.shape[0])[:, None, None]
        return F.pad(image - mean, more) + mean

    def _batches(self, images: Sequence[Tensor]) -> Iterator[list[int]]:
        """Yield the places of images of one size, at most as many as the file takes."""
        most = self.metadata["batch"] or 1
        by_size: dict[tuple[int, ...], list[int]] = {}
        for place, image in enumerate(images):
            by_size.setdefault(tuple(image.shape), []).append(place)
        for places in by_size.values():
            for start in range(0, len(places), most):
                yield places[start : start + most]

    def _run_batch(self, images: list[Tensor]) -> list[Tensors]:
        """Run images of one size; a batch that is not full is filled up with its last image."""
        most = self.metadata["batch"]
        if most is None:
            return [self.run(image.contiguous()) for image in images]
        outputs = self.run(torch.stack(images + images[-1:] * (most - len(images))))
        return [{name: value[i] for name, value in outputs.items()} for i in range(len(images))]


def _fit(image: Array, height: int, width: int) -> Array:
    """Resize a picture as large as fits into a frame, keeping its shape."""
    scale = min(height / image.shape[0], width / image.shape[1])
    size = [max(int(side * scale + 0.5), 1) for side in image.shape[:2]]
    step = ResizeShortestEdge((min(size), min(size)), max(size))
    resized = step.get_transform(image).apply_image(image)
    return resized[:height, :width]


def to_model_output(
    outputs: Tensors, size: tuple[int, int], wanted: tuple[int, int], metadata: Metadata
) -> ModelOutput:
    """Convert one image's outputs of a graph to what the model itself returns.

    Args:
        outputs: of :class:`detectron2.modeling.tensor_inference.TensorInference`, for [C, h, w].
        size: (h, w), without padding.
        wanted: height and width of the result.
        metadata: of the file.
    """
    result: ModelOutput = {}
    if "pred_masks" in outputs:
        result["instances"] = _segmented(outputs, size, wanted)
    elif "boxes" in outputs:
        found = detector_postprocess(_instances(outputs, size), *wanted)
        if "logits" in outputs:
            result["proposals"] = found
        else:
            result["instances"] = found
    if "sem_seg" in outputs:
        result["sem_seg"] = sem_seg_postprocess(outputs["sem_seg"], size, *wanted)
    if "query_segments" in outputs:
        result["panoptic_seg"] = _panoptic(outputs, size, wanted, metadata["things"])
    merging = metadata.get("panoptic")
    if merging and "sem_seg" in result and "instances" in result:
        result["panoptic_seg"] = combine_semantic_and_instance_outputs(
            result["instances"],
            result["sem_seg"].argmax(dim=0),
            merging["overlap_threshold"],
            merging["stuff_area_threshold"],
            merging["score_threshold"],
        )
    return result


def _instances(outputs: Tensors, size: tuple[int, int]) -> Instances:
    """Return the real rows, at the size that the graph worked at."""
    rows = outputs["valid"].bool()
    kind = Boxes if outputs["boxes"].shape[-1] == 4 else RotatedBoxes
    boxes = kind(outputs["boxes"][rows])
    if "logits" in outputs:
        return Instances(size, proposal_boxes=boxes, objectness_logits=outputs["logits"][rows])
    found = Instances(
        size, pred_boxes=boxes, scores=outputs["scores"][rows], pred_classes=outputs["classes"][rows].long()
    )
    if "masks" in outputs:
        found.pred_masks = ROIMasks(outputs["masks"][rows])
    if "keypoints" in outputs:
        found.pred_keypoints = outputs["keypoints"][rows]
    return found


def _segmented(outputs: Tensors, size: tuple[int, int], wanted: tuple[int, int]) -> Instances:
    """Return the real rows of a model whose masks are of the whole image, at the size that is wanted."""
    rows = outputs["valid"].bool()
    boxes, masks = Boxes(outputs["boxes"][rows].clone()), outputs["pred_masks"][rows].bool()
    masks = masks[:, : size[0], : size[1]]
    boxes.scale(wanted[1] / size[1], wanted[0] / size[0])
    if wanted != size:
        soft = masks.new_zeros((0, *wanted), dtype=torch.float)
        if len(masks):
            soft = F.interpolate(masks[None].float(), size=wanted, mode="bilinear", align_corners=False)[0]
        masks = soft > 0.5
    return Instances(
        wanted,
        pred_masks=masks,
        pred_boxes=boxes,
        scores=outputs["scores"][rows],
        pred_classes=outputs["classes"][rows].long(),
    )


def _panoptic(
    outputs: Tensors, size: tuple[int, int], wanted: tuple[int, int], things: Sequence[int]
) -> tuple[Tensor, list[SegmentInfo]]:
    """Return the segments of a model of queries, and what each of them is."""
    segments = outputs["panoptic_seg"][: size[0], : size[1]]
    if tuple(segments.shape) != wanted:
        segments = F.interpolate(segments[None, None].float(), size=wanted, mode="nearest")[0, 0].int()
    kinds = dict(zip(outputs["query_segments"].tolist(), outputs["query_classes"].tolist()))
    info: list[SegmentInfo] = [
        {"id": segment, "isthing": category in things, "category_id": category}
        for segment, category in kinds.items()
        if segment
    ]
    return segments, info
