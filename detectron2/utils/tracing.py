"""Asking whether code is being recorded rather than run."""

from __future__ import annotations

import torch

__all__ = ["assert_fx_safe", "is_fx_tracing", "is_fx_tracing_legacy"]


def is_fx_tracing() -> bool:
    """True while ``torch.fx``, ``torch.export`` or ``torch.compile`` records the caller."""
    return bool(torch.compiler.is_compiling() or torch.fx._symbolic_trace.is_fx_tracing())


def is_fx_tracing_legacy() -> bool:
    """Same answer as ``is_fx_tracing``; kept for code that names it."""
    return is_fx_tracing()


def assert_fx_safe(condition: object, message: str) -> torch.Tensor:
    """Assert, without breaking a recording or leaving a branch in it.

    Args:
        condition: a truth value, or a string holding a Python expression of the caller's, which is
            evaluated only when nothing is being recorded.
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
