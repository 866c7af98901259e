"""Numerical precision of a training step, as one object that the loop calls."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

__all__ = ["Precision", "parse_dtype"]

_NAMES = {
    "float32": torch.float32,
    "fp32": torch.float32,
    "float16": torch.float16,
    "fp16": torch.float16,
    "half": torch.float16,
    "bfloat16": torch.bfloat16,
    "bf16": torch.bfloat16,
}


def parse_dtype(name: str | torch.dtype) -> torch.dtype:
    """A dtype from its name: float32/fp32, float16/fp16, bfloat16/bf16.

    Raises:
        ValueError: for any other name.
    """
    if isinstance(name, torch.dtype):
        return name
    key = str(name).removeprefix("torch.").lower()
    if key not in _NAMES:
        raise ValueError(f"precision must be one of {sorted(_NAMES)}, got {name!r}")
    return _NAMES[key]


class Precision:
    """How a step computes: dtype of autocast and, for float16, scaling of the loss.

    Args:
        dtype: float32 computes plainly; float16 and bfloat16 run what is safe in that dtype.
        device_type: "cuda", "cpu", "mps", …
        scaler: scales the loss so that small float16 gradients do not vanish; made when None and
            `dtype` is float16, not used otherwise unless given.
    """

    def __init__(
        self, dtype: torch.dtype = torch.float32, device_type: str = "cpu", scaler: Any = None
    ) -> None:
        self.dtype = dtype
        self.device_type = device_type
        if scaler is None and dtype == torch.float16:
            scaler = torch.amp.GradScaler(device_type)
        self.scaler = scaler

    def autocast(self) -> AbstractContextManager[Any]:
        """The context for forward passes."""
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device_type, dtype=self.dtype)

    def backward(self, loss: torch.Tensor) -> None:
        """Adds the gradients of a loss, scaled if there is a scaler."""
        (loss if self.scaler is None else self.scaler.scale(loss)).backward()

    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        """Brings the gradients to their true size before the step, for those who want to read them."""
        if self.scaler is not None:
            self.scaler.unscale_(optimizer)

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """Takes the optimizer's step; with a scaler it is left out when a gradient has overflowed."""
        if self.scaler is None:
            optimizer.step()
        else:
            self.scaler.step(optimizer)
            self.scaler.update()
