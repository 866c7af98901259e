"""Patches for TorchScript. Those for scripting have ended; the one for tracing remains."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Any, NoReturn
from unittest import mock

from torch import Tensor, nn

from detectron2.structures import Boxes, Instances

from ._retired import TORCHSCRIPT, retire

__all__ = [
    "Boxes",
    "Instances",
    "freeze_training_mode",
    "patch_builtin_len",
    "patch_instances",
    "patch_nonscriptable_classes",
]

_MODULES_WITH_LENGTHS = (
    "detectron2.structures.boxes",
    "detectron2.structures.instances",
    "detectron2.modeling.roi_heads.fast_rcnn",
    "detectron2.modeling.roi_heads.keypoint_head",
    "detectron2.modeling.roi_heads.mask_head",
)


@contextlib.contextmanager
def patch_builtin_len(modules: Iterable[str | ModuleType] = ()) -> Iterator[None]:
    """Let ``len`` keep symbolic sizes while a model is traced.

    The builtin must return an int, which a trace holds as a constant. Within this context ``len``, in the modules of
    this package that count detections and in the given ones, returns the first size of a tensor as it is.
    ``torch.export`` with ``strict=True`` does not need it.

    Args:
        modules: more modules to patch, or their names; those not imported are left alone.
    """
    found = [sys.modules.get(m) if isinstance(m, str) else m for m in (*_MODULES_WITH_LENGTHS, *modules)]
    with contextlib.ExitStack() as stack:
        for module in found:
            if module is not None:
                stack.enter_context(mock.patch.object(module, "len", _length, create=True))
        yield


def _length(value: Any) -> Any:
    return value.shape[0] if isinstance(value, Tensor) else value.__len__()


def patch_instances(fields: object) -> NoReturn:
    """Gone: raises ``NotImplementedError`` with the replacement. It made ``Instances`` scriptable."""
    retire("patch_instances", TORCHSCRIPT)


def patch_nonscriptable_classes() -> NoReturn:
    """Gone: raises ``NotImplementedError`` with the replacement. It made parts of models scriptable."""
    retire("patch_nonscriptable_classes", TORCHSCRIPT)


def freeze_training_mode(model: nn.Module) -> NoReturn:
    """Gone: raises ``NotImplementedError`` with the replacement. It hid training branches from the script compiler."""
    retire("freeze_training_mode", TORCHSCRIPT)
