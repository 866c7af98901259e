"""Which of a model's findings a user wants."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch

from detectron2.data import Metadata
from detectron2.structures import Instances
from detectron2.structures.types import ModelOutput
from detectron2.utils.errors import BadValue, UnknownNameError
from detectron2.utils.suggest import did_you_mean

__all__ = ["class_indices", "in_float32", "on_cpu", "select"]


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
