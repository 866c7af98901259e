"""Reading pickles and PyTorch files that others made, without running code from them.

A pickle is a small program: it may name any callable and have it called. Here only the few names that arrays,
tensors and plain containers need are known; any other name is an error before anything is called.
"""

import codecs
import collections
import functools
import io
import pickle
from typing import IO, Any

import numpy as np
import torch

try:
    from numpy._core import multiarray
except ImportError:  # numpy 1
    from numpy.core import multiarray  # type: ignore[no-redef]

__all__ = ["UnsafeCheckpointError", "numpy_safe_globals", "restricted_load"]


class UnsafeCheckpointError(ValueError):
    """A file asks for code to be run while it is read; nothing of it was run."""


_NUMPY_HOMES = ("numpy.core.multiarray", "numpy._core.multiarray")
_BUILTINS = (set, frozenset, bytearray, bytes, complex, list, dict, int, float)


def _dtype_classes() -> list[type]:
    """Classes of the dtypes without Python objects in them, which numpy 1.25 and later pickle by name."""
    names = "? b B h H i I l L q Q e f d F D S U".split()
    return sorted({type(np.dtype(n)) for n in names}, key=lambda c: c.__name__)


def numpy_safe_globals() -> list[Any]:
    """What ``torch.load(weights_only=True)`` must know beyond its own list to read arrays and numpy scalars."""
    found: list[Any] = [np.ndarray, np.dtype, *_dtype_classes(), codecs.encode]
    for home in _NUMPY_HOMES:  # files name the module of the numpy that wrote them
        found.append((multiarray._reconstruct, f"{home}._reconstruct"))
        found.append((multiarray.scalar, f"{home}.scalar"))
    return found


def _storage_from_bytes(data: bytes) -> Any:
    """Plain pickles hold each tensor's storage as a small PyTorch file, which is read with the same care."""
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def _array_from_buffer(buffer: Any, dtype: Any, shape: Any, order: str) -> np.ndarray:
    """How protocol 5 stores arrays."""
    return np.frombuffer(buffer, dtype=dtype).reshape(shape, order=order)  # type: ignore[call-overload]


def _allowed() -> dict[tuple[str, str], Any]:
    table: dict[tuple[str, str], Any] = {
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("_codecs", "encode"): codecs.encode,
        ("collections", "OrderedDict"): collections.OrderedDict,
        ("collections", "defaultdict"): collections.defaultdict,
        ("torch", "Size"): torch.Size,
        ("torch", "device"): torch.device,
        ("torch.storage", "_load_from_bytes"): _storage_from_bytes,
    }
    for home in _NUMPY_HOMES:
        table[home, "_reconstruct"] = multiarray._reconstruct
        table[home, "scalar"] = multiarray.scalar
    for home in ("numpy.core.numeric", "numpy._core.numeric"):
        table[home, "_frombuffer"] = _array_from_buffer
    for cls in _dtype_classes():
        table["numpy.dtypes", cls.__name__] = cls
    for name in ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter"):
        table["torch._utils", name] = getattr(torch._utils, name)
    for home in ("__builtin__", "builtins"):
        table.update({(home, t.__name__): t for t in _BUILTINS})
        table[home, "long"] = int
    # A pickle can also set attributes of what it names; so Python functions are handed out wrapped, and fresh.
    return {
        key: functools.partial(value) if hasattr(value, "__code__") else value for key, value in table.items()
    }


class _Restricted(pickle.Unpickler):
    def __init__(self, file: IO[bytes], where: str, encoding: str) -> None:
        super().__init__(file, encoding=encoding)
        self._table = _allowed()
        self._where = where

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._table[module, name]
        except KeyError:
            raise UnsafeCheckpointError(
                f"{self._where} asks for {module}.{name}, which is neither an array, a tensor nor a plain container. "
                "Reading it could run code, so it was not read. If you trust the file, read it with pickle or "
                "torch.load(weights_only=False) once, and save {'model': state_dict} with torch.save."
            ) from None

    def persistent_load(self, pid: Any) -> Any:
        raise UnsafeCheckpointError(f"{self._where} refers to an object outside the file ({pid!r})")


def restricted_load(file: IO[bytes], where: str = "the pickle", encoding: str = "latin1") -> Any:
    """Read one pickle of arrays, tensors, numbers, text and plain containers.

    Args:
        file: open for reading bytes.
        where: name of the file, for errors.
        encoding: of byte strings that Python 2 wrote; ``"latin1"`` is what arrays need.

    Raises:
        UnsafeCheckpointError: if it names anything else.
        pickle.UnpicklingError, EOFError: if it is broken.
    """
    return _Restricted(file, where, encoding).load()
