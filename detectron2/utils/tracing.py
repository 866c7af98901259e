"""Detect whether code is being recorded to a graph, and adapt to it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = [
    "assert_fx_safe",
    "is_fx_tracing",
    "is_fx_tracing_legacy",
    "is_recording",
    "larger",
    "refuse_trace",
    "smaller",
]


def is_recording() -> bool:
    """Return whether ``torch.compile``, ``torch.export`` or ``torch.jit.trace`` records the caller."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


def refuse_trace(step: str) -> None:
    """Raise within ``torch.jit.trace``, for a step whose values a trace would record as constants.

    Args:
        step: name of the step, at the start of the message.
    """
    if torch.jit.is_tracing():
        raise NotImplementedError(
            f"{step} depends on values, which torch.jit.trace cannot record; use detectron2.export.export_program"
        )


def smaller(a: Any, b: Any) -> Any:
    """Return the smaller of two sizes, also symbols of ``torch.export`` or tensors of ``torch.jit.trace``."""
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return torch.minimum(torch.as_tensor(a), torch.as_tensor(b))
    return torch.sym_min(a, b)


def larger(a: Any, b: Any) -> Any:
    """Return the larger of two sizes; see :func:`smaller`."""
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return torch.maximum(torch.as_tensor(a), torch.as_tensor(b))
    return torch.sym_max(a, b)


def is_fx_tracing() -> bool:
    """Return whether ``torch.fx``, ``torch.export`` or ``torch.compile`` records the caller."""
    return bool(torch.compiler.is_compiling() or torch.fx._symbolic_trace.is_fx_tracing())


def is_fx_tracing_legacy() -> bool:
    """Return :func:`is_fx_tracing`; kept for code that calls it."""
    return is_fx_tracing()


def assert_fx_safe(condition: object, message: str) -> torch.Tensor:
    """Assert a condition unless the caller is being recorded, so that the graph has no branch.

    Args:
        condition: a truth value, or a Python expression as text, which is evaluated in the caller's scope.
        message: text of the error.

    Returns:
        An empty tensor while recording, a true scalar otherwise.

    Raises:
        AssertionError: if the condition does not hold and nothing is being recorded.
    """
    if is_fx_tracing():
        return torch.zeros(1)
    if isinstance(condition, str):
        import sys

        frame = sys._getframe(1)
        condition = eval(condition, frame.f_globals, frame.f_locals)  # text written by the calling code
    if not condition:
        raise AssertionError(message)
    return torch.ones(1)
