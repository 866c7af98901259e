"""Values of a config: which types they have, how text becomes one, what may replace what."""

import ast
import re
from typing import Any

__all__ = ["LEAF_TYPES", "check_type", "decode"]

LEAF_TYPES = (tuple, list, str, int, float, bool, type(None))


# Lengths of a training: a number of iterations, or of epochs as text ("12ep").
EPOCH_KEYS = {
    "SOLVER.MAX_ITER",
    "SOLVER.WARMUP_ITERS",
    "SOLVER.CHECKPOINT_PERIOD",
    "SOLVER.REPORT_PERIOD",
    "TEST.EVAL_PERIOD",
    "TEST.VAL_LOSS.PERIOD",
}


def _is_length(value: Any) -> bool:
    return type(value) is int or (
        isinstance(value, str) and re.fullmatch(r"\d+(\.\d+)?ep", value) is not None
    )


def decode(value: Any) -> Any:
    """Read a value that came as text: a Python literal becomes what it denotes, other text stays text."""
    if not isinstance(value, str):
        return value
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return value


def check_type(old: Any, new: Any, key: str) -> Any:
    """Make ``new`` fit where ``old`` was, or refuse.

    Equal types pass; a list and a tuple turn into one another, an integer becomes a float where one was;
    ``None`` may replace anything and be replaced by anything.

    Raises:
        ValueError: for any other change of type.
    """
    if type(old) is type(new) or old is None or new is None:
        return new
    if key in EPOCH_KEYS and _is_length(old) and _is_length(new):
        return new
    if isinstance(old, (list, tuple)) and isinstance(new, (list, tuple)):
        return type(old)(new)
    if isinstance(old, float) and type(new) is int:
        return float(new)
    if isinstance(old, dict) and isinstance(new, dict):
        return new
    hint = ""
    if isinstance(old, (list, tuple)):
        hint = f"; one entry is written as {[new]!r}"
    elif isinstance(old, bool):
        hint = "; write True or False"
    raise ValueError(
        f"{key} is a {type(old).__name__} ({old!r}) and cannot become {new!r}, a {type(new).__name__}{hint}"
    )
