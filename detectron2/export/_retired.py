"""Names of ways to export that have ended; they say what to use instead."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from functools import cache, partial
from types import ModuleType
from typing import NoReturn

__all__ = ["CAFFE2", "TORCHSCRIPT", "RetiredError", "retire", "retired_modules"]

CAFFE2 = (
    "Caffe2 is no longer part of PyTorch and nothing runs its files any more. "
    "Export the whole model with `detectron2.export.export_program(model, image)` and `save_program`, or wrap it in "
    "`detectron2.export.TracingAdapter` for another exporter"
)
TORCHSCRIPT = (
    "Scripting is deprecated in PyTorch and the models of this package are not written for it. "
    "Use `detectron2.export.export_program(model, image)` and `save_program`, which make one graph of a whole model "
    "with any height and width, or `torch.export.export` on a `detectron2.export.TracingAdapter`"
)


class RetiredError(NotImplementedError):
    """A way to export that has ended was asked for."""


def retire(name: str, advice: str) -> NoReturn:
    """Say that ``name`` is gone, and what to use."""
    raise RetiredError(f"{name} is not available: {advice}.")


def _raise(cls: type, *args: object, **kwargs: object) -> NoReturn:
    gone = next(base for base in reversed(cls.__mro__) if isinstance(base, _Gone))
    retire(f"{gone.__module__}.{gone.__qualname__}", CAFFE2)


class _Gone(type):
    """Class of stand-ins: they can be imported and subclassed, as a project's module does; any use of them raises."""

    __call__ = __getitem__ = __contains__ = __iter__ = __len__ = _raise  # type: ignore[assignment]

    def __bool__(cls) -> bool:
        return True  # otherwise Python would ask for the length

    def __getattr__(cls, name: str) -> NoReturn:
        if name.startswith("_"):  # Python's own machinery asks for these and counts on AttributeError
            raise AttributeError(name)
        _raise(cls)


def retired_modules(package: str, names: Iterable[str]) -> dict[str, ModuleType]:
    """Make modules in which every public name is a stand-in, and register them for import.

    Args:
        package: dotted path of the package that they belong to.
        names: names of the modules.

    Returns:
        The modules by name.
    """
    found = {}
    for name in names:
        module = ModuleType(f"{package}.{name}", f"Part of Caffe2, which is gone. {CAFFE2}.")
        module.__getattr__ = partial(_stand_in, module.__name__)  # type: ignore[method-assign]
        found[name] = sys.modules[module.__name__] = module
    return found


@cache
def _stand_in(module: str, name: str) -> type:
    if name.startswith("_"):
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    return _Gone(name, (), {"__module__": module, "__doc__": f"Gone. {CAFFE2}."})
