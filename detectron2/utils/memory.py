"""Handle exhausted memory, and pause garbage collection."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from typing import Any, TypeVar

import torch

__all__ = ["is_out_of_memory", "paused_garbage_collector", "release_memory", "retry_if_cuda_oom"]

T = TypeVar("T")


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that an accelerator (CUDA, MPS, XPU) or the host ran out of memory."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and (
        "out of memory" in text or "can't allocate memory" in text or "cannot allocate memory" in text
    )


@contextmanager
def paused_garbage_collector() -> Iterator[None]:
    """Pause the cyclic garbage collector while creating many objects that will stay.

    Otherwise each batch of new containers starts it, and it visits everything that torch has loaded without finding
    garbage, at ten times the cost of creating the objects.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def release_memory() -> None:
    """Free unreferenced memory, on the host and in the allocators of devices."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()


def _to_cpu(value: object) -> Any:
    """Move tensors and objects with ``.device`` and ``.to``, also in lists, tuples and dicts, to the host."""
    if isinstance(value, (list, tuple)) and type(value) in (list, tuple):
        return type(value)(_to_cpu(item) for item in value)
    if isinstance(value, dict):
        return {key: _to_cpu(item) for key, item in value.items()}
    device = getattr(value, "device", None)
    if device is not None and getattr(device, "type", "cpu") != "cpu" and hasattr(value, "to"):
        return value.to(device="cpu")
    return value


def retry_if_cuda_oom(func: Callable[..., T]) -> Callable[..., T]:
    """Wrap a stateless function so that it is retried when it runs out of device memory.

    After an out-of-memory error, the function is called again with an emptied cache; after a second one, with its
    arguments copied to the host. The result is then on the host, so that the caller must accept both devices. Arguments
    may be tensors, objects with ``.device`` and ``.to`` (such as ``Boxes``), or lists, tuples and dicts of these.

    Args:
        func: a function without side effects that works on any device.
    """

    @wraps(func)
    def careful(*args: object, **kwargs: object) -> T:
        for attempt in range(2):
            try:
                return func(*args, **kwargs)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            # Outside the handler: the traceback would keep the failed attempt's tensors alive.
            if attempt == 0:
                release_memory()
        release_memory()
        with suppress(AttributeError):
            logging.getLogger(__name__).info(
                "Device memory does not suffice for %s; computing it on the CPU.", func.__qualname__
            )
        return func(*_to_cpu(args), **_to_cpu(kwargs))

    return careful
