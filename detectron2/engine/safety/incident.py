"""Error reports about bad steps, and saving their batches."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from detectron2 import structures
from detectron2.checkpoint.files.shards import is_sharded, own_part
from detectron2.utils.file_io.atomic import atomic_write
from detectron2.utils.file_io.safe_pickle import restricted_torch_load
from detectron2.utils.unwrap import unwrap_model

__all__ = [
    "Step",
    "bad_inputs",
    "bad_parameter",
    "describe_batch",
    "diagnose",
    "first_bad",
    "load_incident",
    "save_incident",
]


@dataclass(frozen=True)
class Step:
    """A training step, as described in error reports.

    Attributes:
        iteration: number of the iteration.
        model: the model in training.
        optimizer: its optimizer.
        dtype: dtype of autocast; float32 = no autocast.
    """

    iteration: int
    model: nn.Module
    optimizer: torch.optim.Optimizer
    dtype: torch.dtype = torch.float32


def first_bad(values: Mapping[str, float]) -> str | None:
    """Return the name of the first value that is not finite."""
    return next((name for name, value in values.items() if not math.isfinite(value)), None)


def _record_text(record: object) -> str:
    """Describe an input in one line: image id, file, size, number of instances."""
    if not isinstance(record, Mapping):
        return type(record).__name__
    parts = []
    if "image_id" in record:
        parts.append(f"image_id {record['image_id']}")
    if "file_name" in record:
        parts.append(str(record["file_name"]))
    image = record.get("image")
    if isinstance(image, torch.Tensor) and image.dim() == 3:
        parts.append(f"{image.shape[1]}x{image.shape[2]} px")
    instances = record.get("instances")
    if instances is not None:
        parts.append(f"{len(instances)} instances")
    return ", ".join(parts) or f"a dict with {', '.join(map(str, record))}"


def describe_batch(batch: object) -> str:
    """Describe each image of a batch in one line."""
    records = batch if isinstance(batch, (list, tuple)) else [batch]
    return "\n".join(f"  - {_record_text(record)}" for record in records[:64])


def bad_inputs(batch: object) -> list[str]:
    """List the inputs with values that are not finite, or with boxes without area."""
    found = []
    for record in batch if isinstance(batch, (list, tuple)) else [batch]:
        if isinstance(record, torch.Tensor):
            if record.is_floating_point() and not bool(torch.isfinite(record).all()):
                found.append("a tensor of the batch has values that are not finite")
            continue
        if not isinstance(record, Mapping):
            continue
        image = record.get("image")
        if isinstance(image, torch.Tensor) and not bool(torch.isfinite(image.float()).all()):
            found.append(f"the image of {_record_text(record)} has values that are not finite")
        boxes = getattr(record.get("instances"), "gt_boxes", None)
        tensor = getattr(boxes, "tensor", None)
        if tensor is not None and len(tensor):
            if not bool(torch.isfinite(tensor).all()):
                found.append(f"a box of {_record_text(record)} is not finite")
            elif tensor.shape[1] == 4 and bool((tensor[:, 2:] <= tensor[:, :2]).any()):
                found.append(f"a box of {_record_text(record)} has no area")
    return found


def bad_parameter(model: nn.Module) -> str | None:
    """Return the first parameter or buffer that is not finite, in this process's part of a sharded model."""
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_floating_point() and not bool(torch.isfinite(own_part(tensor)).all()):
            return name
    return None


def _gradient_norm(model: nn.Module) -> float | None:
    """Return the norm of the current gradients, which are those of the previous step."""
    grads = [own_part(p.grad.detach()).float() for p in model.parameters() if p.grad is not None]
    if not grads:
        return None
    return float(torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in grads])))


def _remedy(step: Step, inputs: list[str], parameter: str | None, rate: float) -> str:
    """Return the most likely remedy."""
    if inputs:
        return f"the data: {'; '.join(inputs)}. Check them with `detectron2 data check`."
    if step.dtype == torch.float16 and parameter is None:
        return (
            "float16 overflowed in the forward pass: set SOLVER.AMP.DTYPE bfloat16, or SOLVER.AMP.ENABLED False "
            "to see whether it also happens in float32."
        )
    if step.iteration == 0 and parameter is not None:
        return f"the initial weights: {parameter} is not finite; check MODEL.WEIGHTS."
    cause = (
        f"the weights failed first ({parameter} is not finite)"
        if parameter
        else "the weights are still finite"
    )
    return (
        f"{cause}: the training diverged. Lower SOLVER.BASE_LR (now {rate:.3g}) to a tenth, increase "
        "SOLVER.WARMUP_ITERS, or set SOLVER.CLIP_GRADIENTS.ENABLED True. A learning rate for 16 images per batch is too "
        "high for fewer images."
    )


def diagnose(step: Step, batch: object, values: Mapping[str, float]) -> str:
    """Describe all that is known about a step whose loss is not finite.

    Args:
        step: the step.
        batch: its input.
        values: its losses; empty if the model itself raised an error.
    """
    rate = max((group["lr"] for group in step.optimizer.param_groups), default=0.0)
    bad = first_bad(values) or "the sum of the losses"
    parameter = bad_parameter(step.model)
    norm = _gradient_norm(step.model)
    listed = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
    what = f"first {bad} ({listed})" if values else "the model raised an error before it returned losses"
    lines = [
        f"Loss is not finite in iteration {step.iteration}: {what}.",
        f"Images:\n{describe_batch(batch)}",
        f"Learning rate {rate:.4g}; gradient norm of the previous step "
        + ("unknown" if norm is None else f"{norm:.4g}")
        + ".",
        f"Likely remedy: {_remedy(step, bad_inputs(batch), parameter, rate)}",
    ]
    return "\n".join(lines)


def save_incident(
    path: str,
    model: nn.Module,
    batch: object,
    iteration: int,
    values: Mapping[str, float],
    rng: torch.Tensor | None,
) -> None:
    """Save all that is needed to run a bad step again.

    Args:
        path: file to write.
        model: the model; its weights are saved unless it is sharded, since this process may be the only one to fail.
        batch: the input.
        iteration: number of the iteration.
        values: the losses.
        rng: state of PyTorch's CPU generator before the step.
    """
    os.makedirs(os.path.dirname(path), exist_ok=True)
    weights = unwrap_model(model).state_dict()
    content = {
        "model": None if any(is_sharded(value) for value in weights.values()) else weights,
        "batch": batch,
        "iteration": iteration,
        "losses": dict(values),
        "rng": rng,
    }
    with atomic_write(path, "wb") as file:
        torch.save(content, file)


def load_incident(path: str) -> dict[str, Any]:
    """Load a file of ``save_incident``, allowing only plain data and the structures of this package.

    Returns:
        A dict with ``model``, ``batch``, ``iteration``, ``losses`` and ``rng``.
    """
    kinds = [getattr(structures, n) for n in dir(structures) if isinstance(getattr(structures, n), type)]
    return restricted_torch_load(path, names=kinds)
