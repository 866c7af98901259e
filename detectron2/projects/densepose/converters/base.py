"""Converters that select a function by the type of the input."""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

__all__ = ["BaseConverter", "IntTupleBox", "make_int_box"]

IntTupleBox = tuple[int, int, int, int]


class BaseConverter:
    """Converts several types to one. Subclasses define ``registry`` (an empty dict) and ``dst_type``.

    Attributes:
        registry: for each type of input, the function that converts it.
        dst_type: type of the result.
    """

    registry: ClassVar[dict[type, Callable[..., Any]]]
    dst_type: ClassVar[Any]

    @classmethod
    def register(cls, from_type: type, converter: Callable[..., Any] | None = None) -> Any:
        """Register the conversion of an input type and its subclasses.

        Args:
            from_type: type of input.
            converter: the function; None = return a decorator.
        """

        def add(function: Callable[..., Any]) -> Callable[..., Any]:
            cls.registry[from_type] = function
            return function

        return add if converter is None else add(converter)

    @classmethod
    def convert(cls, instance: object, *args: object, **kwargs: object) -> Any:
        """Convert one object.

        Args:
            instance: object to convert.
            args: further arguments of the registered function.
            kwargs: further keyword arguments of the registered function.

        Raises:
            KeyError: no function is registered for the type of ``instance`` or its base classes.
        """
        kind = type(instance)
        known = next((base for base in kind.__mro__ if base in cls.registry), None)
        if known is None:
            names = sorted(t.__name__ for t in cls.registry)
            raise KeyError(
                f"{cls.__name__} converts {names}, got {kind.__name__}; see {cls.__name__}.register"
            )
        converter = cls.registry[kind] = cls.registry[known]
        return converter(instance, *args, **kwargs)


def make_int_box(box: Tensor) -> IntTupleBox:
    """Truncate four numbers to integers.

    Args:
        box: [4], such as x, y, width and height.
    """
    x, y, w, h = box.to(torch.int64).tolist()
    return x, y, w, h
