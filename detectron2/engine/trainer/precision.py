"""Numerical precision of a training step."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

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
    """Return the dtype of a name: float32/fp32, float16/fp16/half, bfloat16/bf16.

    Raises:
        ValueError: if the name is unknown.
    """
    if isinstance(name, torch.dtype):
        return name
    key = str(name).removeprefix("torch.").lower()
    if key not in _NAMES:
        raise ValueError(f"precision must be one of {sorted(_NAMES)}, got {name!r}")
    return _NAMES[key]


class Precision:
    """Numerical precision of a step: dtype of autocast and, for float16, scaling of the loss.

    Args:
        dtype: dtype of the operators that are safe in it; float32 disables autocast.
        device_type: "cuda", "cpu", "mps", …
        scaler: scales the loss, so that small float16 gradients do not vanish. None creates one if ``dtype`` is
            float16; False = no scaler.
    """

    def __init__(
        self,
        dtype: torch.dtype = torch.float32,
        device_type: str = "cpu",
        scaler: torch.amp.GradScaler | Literal[False] | None = None,
    ) -> None:
        self.dtype = dtype
        self.device_type = device_type
        if scaler is None and dtype == torch.float16:
            scaler = torch.amp.GradScaler(device_type)
        self.scaler: torch.amp.GradScaler | None = scaler or None

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context for forward passes."""
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device_type, dtype=self.dtype)

    def backward(self, loss: torch.Tensor) -> None:
        """Add the gradients of a loss, scaled if there is a scaler."""
        (loss if self.scaler is None else self.scaler.scale(loss)).backward()

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """Take the optimizer step; with a scaler it is skipped if a gradient has overflowed."""
        if self.scaler is None:
            optimizer.step()
        else:
            self.scaler.step(optimizer)
            self.scaler.update()
