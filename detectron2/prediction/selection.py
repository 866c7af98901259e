"""Which of a model's findings a user wants."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from detectron2.data import Metadata
from detectron2.modeling.roi_heads import FastRCNNOutputLayers
from detectron2.modeling.roi_heads.rotated_fast_rcnn import RotatedFastRCNNOutputLayers
from detectron2.structures import Instances
from detectron2.structures.types import ModelOutput
from detectron2.utils.errors import BadValue, UnknownNameError
from detectron2.utils.suggest import did_you_mean

__all__ = ["class_indices", "in_float32", "least_score", "on_cpu", "select"]

# A subclass may change scores after it has chosen objects by them.
_CHOOSE_BY_SCORE = (FastRCNNOutputLayers, RotatedFastRCNNOutputLayers)


def class_indices(classes: Iterable[str | int] | None, metadata: Metadata) -> list[int] | None:
    """Return the indices of classes given by name or index; None for all.

    Raises:
        UnknownNameError: if no class has the name; names the nearest.
        ValueError: if an index is not that of a class.
    """
    if classes is None:
        return None
    names: Sequence[str] = metadata.get("thing_classes") or ()
    found = []
    for wanted in [classes] if isinstance(classes, (str, int)) else classes:
        if isinstance(wanted, str):
            if wanted not in names:
                raise UnknownNameError(f"the model has no class {wanted!r}. {did_you_mean(wanted, names)}")
            found.append(names.index(wanted))
        elif wanted < 0 or (names and wanted >= len(names)):
            raise BadValue(f"the model's classes have the indices 0 to {len(names) - 1}, got {wanted}")
        else:
            found.append(int(wanted))
    return found


def select(outputs: ModelOutput, scores: float | None, classes: Sequence[int] | None) -> ModelOutput:
    """Keep the instances of some classes with at least a score; other outputs stay.

    Args:
        outputs: of a model, for one image.
        scores: lowest score; None for all.
        classes: indices of classes; None for all.
    """
    instances = outputs.get("instances")
    if instances is None:
        return outputs
    if scores is not None and instances.has("scores"):
        instances = instances[instances.scores >= scores]
    if classes is not None and instances.has("pred_classes"):
        found = instances.pred_classes
        instances = instances[torch.isin(found, torch.as_tensor(classes, device=found.device))]
    return {**outputs, "instances": instances}


@contextmanager
def least_score(model: nn.Module, scores: float | None) -> Iterator[None]:
    """Let a two-stage model predict masks and keypoints only for objects that :func:`select` will keep.

    These come out as without it: NMS never removes an object because of one with a lower score. Other models, and heads that
    change scores after NMS, stay as they are.

    Args:
        model: changed for the time of the context; must not be run by another thread meanwhile.
        scores: lowest score that is kept; None for all.
    """
    heads = getattr(model, "roi_heads", None)
    layers = [] if heads is None else [m for m in heads.modules() if hasattr(m, "test_score_thresh")]
    ordinary = all(type(m) in _CHOOSE_BY_SCORE and m.soft_nms is None for m in layers)
    if scores is None or not ordinary or not type(heads).__module__.startswith("detectron2."):
        yield
        return
    # Panoptic models merge objects from a threshold of their own; the models want higher scores, `select` equal ones, too.
    lowest = min(scores, getattr(model, "combine_instances_score_thresh", scores))
    floor = float(np.nextafter(np.float32(lowest), np.float32(-1)))
    before = [m.test_score_thresh for m in layers]
    try:
        for layer in layers:
            layer.test_score_thresh = max(layer.test_score_thresh, floor)
        yield
    finally:
        for layer, threshold in zip(layers, before):
            layer.test_score_thresh = threshold


def on_cpu(outputs: ModelOutput) -> ModelOutput:
    """Return the outputs on the CPU."""
    return _mapped(outputs, lambda value: value.to("cpu"))


def in_float32(outputs: ModelOutput) -> ModelOutput:
    """Return the outputs with fields of half precision widened, as drawing and NumPy need."""
    return _mapped(outputs, _widened)


def _widened(value: Any) -> Any:
    if isinstance(value, Instances):
        wide = Instances(value.image_size)
        for name, field in value.get_fields().items():
            wide.set(name, _widened(field))
        return wide
    tensor = getattr(value, "tensor", value)
    if not isinstance(tensor, torch.Tensor) or tensor.dtype not in (torch.float16, torch.bfloat16):
        return value
    return tensor.float() if tensor is value else type(value)(tensor.float())


def _mapped(outputs: ModelOutput, change: Any) -> ModelOutput:
    """Apply a function to each tensor and each ``Instances`` of one image's outputs."""
    mapped: dict[str, Any] = {}
    for name, value in outputs.items():
        if isinstance(value, tuple):  # panoptic: the map and its segments
            mapped[name] = (change(value[0]), *value[1:])
        else:
            mapped[name] = change(value) if hasattr(value, "to") else value
    return mapped  # type: ignore[return-value]
