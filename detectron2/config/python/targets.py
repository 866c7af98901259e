"""From the text of a ``_target_`` to the object, old homes of some classes included."""

from typing import Any

from detectron2.utils.registry import _convert_target_to_string, locate

__all__ = ["ALIASES", "current_name", "resolve", "target_name"]

# Where the things live that Detectron2 took from fvcore and iopath: (old prefix, new module). First match wins; what
# comes after the prefix is looked up in the new module under its last name.
ALIASES: tuple[tuple[str, str], ...] = (
    ("fvcore.common.param_scheduler.", "detectron2.solver.param_scheduler"),
    ("fvcore.common.checkpoint.", "detectron2.checkpoint"),
    ("fvcore.common.config.", "detectron2.config"),
    ("fvcore.common.registry.", "detectron2.utils.registry"),
    ("fvcore.common.timer.", "detectron2.utils.events"),
    ("fvcore.common.history_buffer.", "detectron2.utils.events"),
    ("fvcore.common.file_io.", "detectron2.utils.file_io"),
    ("fvcore.transforms.", "detectron2.data.transforms"),
    ("fvcore.nn.weight_init.", "detectron2.layers.weight_init"),
    ("fvcore.nn.", "detectron2.layers.losses"),
    ("iopath.common.file_io.", "detectron2.utils.file_io"),
)


def current_name(name: str) -> str:
    """The dotted path of today for one that names fvcore or iopath; any other path comes back as it is."""
    for prefix, module in ALIASES:
        if name.startswith(prefix):
            return f"{module}.{name.rsplit('.', 1)[-1]}"
    return name


def resolve(name: str) -> Any:
    """Find the object that a ``_target_`` names.

    Raises:
        ImportError: if there is none; says what is near.
    """
    today = current_name(name)
    try:
        return locate(today)
    except ImportError as e:
        if today == name:
            raise
        raise ImportError(f"{name} is {today} here, and: {e}") from e


def target_name(target: Any) -> str:
    """Dotted path of a target, which may be text already."""
    if isinstance(target, str):
        return target
    if hasattr(target, "__module__") and hasattr(target, "__qualname__"):
        return _convert_target_to_string(target)
    return repr(target)
