"""Replaying a bad step, to find where its values stop being finite."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from detectron2.structures import Boxes, ImageList, Instances, RotatedBoxes
from detectron2.utils.events import EventStorage

from ..trainer.precision import Precision
from .incident import bad_inputs, bad_parameter, describe_batch, first_bad

__all__ = ["Finding", "Replay", "replay_step", "tensors_in"]


@dataclass
class Finding:
    """A module at which values stopped being finite.

    Attributes:
        name: name of the module in the model; "" = the model itself.
        kind: name of its class.
        inputs_finite: whether its input was finite, so that the module itself is the cause.
        largest_input: largest absolute value of the input; 0 if it has no finite value.
        nans: number of output values that are NaN.
        infs: number of infinite output values.
        total: number of output values.
    """

    name: str
    kind: str
    inputs_finite: bool
    largest_input: float
    nans: int
    infs: int
    total: int

    def __str__(self) -> str:
        name = self.name or "the whole model"
        given = f"finite, up to {self.largest_input:.4g}" if self.inputs_finite else "already not finite"
        return f"{name} ({self.kind}): {self.nans} NaN and {self.infs} infinite of {self.total}; its input was {given}"


@dataclass
class Replay:
    """Result of a replayed step.

    Attributes:
        iteration: iteration of the step.
        images: description of the batch.
        kept_losses: losses during training.
        losses: losses of the replay; empty if the model raised an error.
        bad_inputs: defects of the batch itself.
        bad_weight: first parameter or buffer that is not finite, or None.
        forward: first module whose output was not finite, or None.
        backward: last module, in forward order, whose output received a gradient that is not finite, or None.
        bad_gradients: parameters whose gradient is not finite.
        error: text of the error that the model raised, or "".
    """

    iteration: int
    images: str
    kept_losses: dict[str, float]
    losses: dict[str, float] = field(default_factory=dict)
    bad_inputs: list[str] = field(default_factory=list)
    bad_weight: str | None = None
    forward: Finding | None = None
    backward: Finding | None = None
    bad_gradients: list[str] = field(default_factory=list)
    error: str = ""

    @property
    def reproduced(self) -> bool:
        """Whether anything was not finite in the replay too."""
        found = (self.bad_weight, self.forward, self.backward, first_bad(self.losses))
        return any(found) or bool(self.bad_inputs or self.bad_gradients)

    def to_text(self) -> str:
        """Return the report as text."""
        lines = [f"Iteration {self.iteration}, images:", self.images]
        lines.append(f"losses in training: {_listed(self.kept_losses)}")
        lines.append(f"losses now:         {_listed(self.losses) if self.losses else self.error}")
        bad = first_bad(self.losses)
        if bad:
            lines.append(f"first loss that is not finite: {bad}")
        lines += [f"data: {text}" for text in self.bad_inputs]
        if self.bad_weight:
            lines.append(f"weights: {self.bad_weight} is not finite; it broke in an earlier step")
        if self.forward:
            lines.append(f"forward: first output that is not finite: {self.forward}")
        if self.backward:
            lines.append(f"backward: first gradient that is not finite, at the output of {self.backward}")
        if self.bad_gradients:
            more = f" and {len(self.bad_gradients) - 1} more" if len(self.bad_gradients) > 1 else ""
            lines.append(f"gradients: {self.bad_gradients[0]}{more} would not be finite")
        if not self.reproduced:
            lines.append(
                "Everything is finite this time: the failure depends on the device or the precision. Replay the step on "
                "the device of the training (--device) and with its precision."
            )
        return "\n".join(lines)


def _listed(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in values.items()) or "none"


def tensors_in(value: object, depth: int = 6) -> Iterator[torch.Tensor]:
    """Yield the floating-point tensors in nested lists, tuples, dicts, dataclasses and structures of this package."""
    if isinstance(value, torch.Tensor):
        if value.is_floating_point() and value.numel():
            yield value
        return
    parts: Iterable[object] = ()
    if isinstance(value, (Boxes, RotatedBoxes, ImageList)):
        parts = (value.tensor,)
    elif isinstance(value, Instances):
        parts = value.get_fields().values()
    elif isinstance(value, Mapping):
        parts = value.values()
    elif isinstance(value, (list, tuple)):
        parts = value
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = vars(value).values()
    if depth > 0:
        for part in parts:
            yield from tensors_in(part, depth - 1)


def _count(tensors: list[torch.Tensor]) -> tuple[int, int, int]:
    """Count the NaN, the infinite and all values."""
    nans = sum(int(torch.isnan(t).sum()) for t in tensors)
    infs = sum(int(torch.isinf(t).sum()) for t in tensors)
    return nans, infs, sum(t.numel() for t in tensors)


class _Watch:
    """Hooks on every module that record the first bad output and the first bad gradient."""

    def __init__(self, model: nn.Module, stack: ExitStack) -> None:
        self.forward: Finding | None = None
        self.backward: Finding | None = None
        for name, module in model.named_modules():
            handle = module.register_forward_hook(self._hook(name), with_kwargs=True)
            stack.callback(handle.remove)

    def _hook(self, name: str) -> Callable[..., None]:
        def look(module: nn.Module, args: object, kwargs: object, output: object) -> None:
            outputs = list(tensors_in(output))
            inputs = list(tensors_in((args, kwargs)))
            if self.forward is None:
                self.forward = _finding(name, module, inputs, outputs)
            for tensor in outputs:
                if tensor.requires_grad:
                    tensor.register_hook(lambda gradient: self._look_back(name, module, gradient))

        return look

    def _look_back(self, name: str, module: nn.Module, gradient: torch.Tensor) -> None:
        if self.backward is None:
            self.backward = _finding(name, module, [], [gradient.detach()])


def _finding(
    name: str, module: nn.Module, inputs: list[torch.Tensor], outputs: list[torch.Tensor]
) -> Finding | None:
    """Describe a module if its output is not finite."""
    nans, infs, total = _count(outputs)
    if not nans and not infs:
        return None
    largest = [float(t.detach().abs().max()) for t in inputs]
    finite = all(math.isfinite(v) for v in largest)
    peak = max((v for v in largest if math.isfinite(v)), default=0.0)
    return Finding(name, type(module).__name__, finite, peak, nans, infs, total)


def _to(value: object, device: torch.device) -> Any:
    """Move a batch to another device; the model would move images but not everything else."""
    if isinstance(value, (torch.Tensor, Boxes, RotatedBoxes, Instances)):
        return value.to(device)
    if isinstance(value, Mapping):
        return {key: _to(part, device) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_to(part, device) for part in value]
    return value


def replay_step(model: nn.Module, incident: Mapping[str, Any], dtype: torch.dtype = torch.float32) -> Replay:
    """Run the forward and backward pass of a saved step again, checking every module.

    On accelerators, training notices a bad loss a few steps late, so the saved weights can be those after the bad step;
    then ``bad_weight`` is set.

    Args:
        model: the trained model, on the device to use; its weights are replaced and it is set to training mode.
        incident: result of ``load_incident``.
        dtype: dtype of autocast; float32 = no autocast.

    Raises:
        ValueError: if the weights were not saved.
    """
    if incident["model"] is None:
        raise ValueError(
            "this batch was saved without weights, because the model of its run was sharded (SOLVER.FSDP)"
        )
    model.load_state_dict(incident["model"])
    model.train()
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    batch = incident["batch"]
    result = Replay(
        int(incident["iteration"]),
        describe_batch(batch),
        dict(incident["losses"]),
        bad_inputs=bad_inputs(batch),
        bad_weight=bad_parameter(model),
    )
    with torch.random.fork_rng(), ExitStack() as stack, EventStorage(result.iteration):
        if incident["rng"] is not None:
            torch.set_rng_state(incident["rng"])
        watch = _Watch(model, stack)
        try:
            with Precision(dtype, device.type, scaler=False).autocast():
                output = model(_to(batch, device))
            losses = {"total_loss": output} if isinstance(output, torch.Tensor) else dict(output)
            result.losses = {name: float(value.detach()) for name, value in losses.items()}
            model.zero_grad()
            sum(losses.values()).backward()  # type: ignore[union-attr]
        except FloatingPointError as error:  # a model that checks its numbers itself
            result.error = str(error)
    result.forward, result.backward = watch.forward, watch.backward
    result.bad_gradients = [
        name
        for name, p in model.named_parameters()
        if p.grad is not None and not bool(torch.isfinite(p.grad).all())
    ]
    return result
