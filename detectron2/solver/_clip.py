"""Gradient clipping as part of the optimizer's step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from enum import Enum

import torch

__all__ = ["GradientClipType", "clip_full_norm", "clip_norm", "clip_value", "with_gradient_clipping"]

Clipper = Callable[[Sequence[torch.nn.Parameter]], None]


class GradientClipType(Enum):
    """Values of ``SOLVER.CLIP_GRADIENTS.CLIP_TYPE``."""

    VALUE = "value"
    """Clamp each element to [-limit, limit]."""
    NORM = "norm"
    """Limit the gradient norm of each parameter separately."""
    FULL_MODEL = "full_model"
    """Limit the joint norm of all gradients."""


def _gradients(parameters: Iterable[torch.nn.Parameter]) -> list[torch.Tensor]:
    return [p.grad for p in parameters if p.grad is not None]


def clip_value(parameters: Sequence[torch.nn.Parameter], limit: float) -> None:
    """Clamp each element of each gradient to [-limit, limit], in place."""
    grads = _gradients(parameters)
    if grads:
        torch._foreach_clamp_min_(grads, -limit)
        torch._foreach_clamp_max_(grads, limit)


def clip_norm(parameters: Sequence[torch.nn.Parameter], limit: float, norm_type: float = 2.0) -> None:
    """Scale the gradient of each parameter down to a norm of at most ``limit``, in place."""
    grads = _gradients(parameters)
    if not grads:
        return
    norms = (
        [grad.abs().max() for grad in grads]
        if norm_type == float("inf")
        else list(torch._foreach_norm(grads, norm_type))
    )
    # The small number avoids division by zero.
    scales = [(limit / (norm + 1e-6)).clamp(max=1.0) for norm in norms]
    torch._foreach_mul_(grads, [s.to(g.dtype) for s, g in zip(scales, grads)])


def clip_full_norm(parameters: Sequence[torch.nn.Parameter], limit: float, norm_type: float = 2.0) -> None:
    """Scale all gradients by one factor so that their joint norm is at most ``limit``, in place."""
    torch.nn.utils.clip_grad_norm_(parameters, limit, norm_type=norm_type)


def with_gradient_clipping(kind: type[torch.optim.Optimizer], clip: Clipper) -> type[torch.optim.Optimizer]:
    """Derive an optimizer class that clips all its gradients before each step.

    With mixed precision, the scaler has already unscaled the gradients when it calls ``step``.
    """

    def step(self: torch.optim.Optimizer, closure: Callable[[], float] | None = None) -> float | None:
        if closure is not None:
            # The closure computes the gradients, so it must run before they are clipped.
            with torch.enable_grad():
                loss = closure()
        clip([p for group in self.param_groups for p in group["params"]])
        result = super(clipping, self).step()  # type: ignore[misc]
        return result if closure is None else loss

    clipping: type[torch.optim.Optimizer] = type(f"{kind.__name__}WithGradientClip", (kind,), {"step": step})
    return clipping
