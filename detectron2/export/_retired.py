"""What is left of ways to export that have ended: names that say what to use instead."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NoReturn

__all__ = ["CAFFE2", "TORCHSCRIPT", "RetiredError", "retire", "retired_module"]

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


class _Gone(type):
    """Class of stand-ins: they can be imported and named, but any use of them raises.

    Subclassing is let through, as it happens when a project's module is imported, which may well be all it does with
    the name; making an object of the subclass raises.
    """

    def __call__(cls, *args: Any, **kwargs: Any) -> NoReturn:
        cls._raise()

    def __getattr__(cls, name: str) -> NoReturn:
        if name.startswith("_"):  # asked by Python's own machinery, which counts on AttributeError
            raise AttributeError(name)
        cls._raise()

    def __getitem__(cls, key: Any) -> NoReturn:
        cls._raise()

    def __contains__(cls, key: Any) -> bool:
        cls._raise()

    def __iter__(cls) -> Iterator[Any]:
        cls._raise()

    def __len__(cls) -> int:
        cls._raise()

    def __bool__(cls) -> bool:
        return True  # else truth would be asked of the length

    def _raise(cls) -> NoReturn:
        gone = next(base for base in reversed(cls.__mro__) if isinstance(base, _Gone))
        retire(f"{gone.__module__}.{gone.__qualname__}", CAFFE2)


@cache
def _stand_in(module: str, name: str) -> Any:
    return _Gone(name, (), {"__module__": module, "__doc__": f"Gone. {CAFFE2}."})


def retired_module(module: str) -> Callable[[str], Any]:
    """``__getattr__`` of a module that belonged to Caffe2: every public name in it is a stand-in.

    Args:
        module: its full name.
    """

    def __getattr__(name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        return _stand_in(module, name)

    return __getattr__
