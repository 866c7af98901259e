"""Read untrusted pickles and PyTorch files without running code from them.

A pickle is a small program: it may name and call any callable, and set attributes. Here it can name only the builders
below. They check the description of an array before they create it, because NumPy's own builders trust their input: a
wrong size or a dtype of Python objects lets a file read and write any memory.
"""

import io
import math
import os
import pickle
import re
import warnings
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Any, NoReturn

import numpy as np
import torch

__all__ = ["UnsafeCheckpointError", "numpy_safe_globals", "restricted_load", "restricted_torch_load"]


class UnsafeCheckpointError(ValueError):
    """Reading a file would run code or create an invalid array; nothing of it was used."""


# ------------------------------------------------------------------ arrays
# Strings of np.dtype for numbers and text, never objects.
_KINDS = re.compile(r"[?bBhHiIlLqQefdgFDGSU]|[biufcSU]\d{1,9}")


def _raw(data: object) -> bytes:
    """Convert the bytes of any protocol; Python 2 stored them as text."""
    if isinstance(data, str):
        return data.encode("latin1")
    if isinstance(data, (bytes, bytearray)):
        return bytes(data)
    raise UnsafeCheckpointError(f"the content of an array must be bytes, got {type(data).__name__}")


class _Dtype:
    """A dtype of numbers or text, in place of NumPy's while a file is read."""

    __slots__ = ("real",)

    def __init__(self, kind: object, align: object = False, copy: object = False) -> None:
        text = kind.decode("latin1") if isinstance(kind, bytes) else kind
        if not isinstance(text, str) or not _KINDS.fullmatch(text):
            raise UnsafeCheckpointError(f"arrays of dtype {text!r} are not supported, only numbers and text")
        self.real: np.dtype = np.dtype(text)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, order, subarray, names, fields, size, _, _, *more = state
        order = order.decode("latin1") if isinstance(order, bytes) else order
        simple = (subarray, names, fields, more) == (None, None, None, [])
        if not simple or size not in (-1, self.real.itemsize) or order not in ("<", ">", "|", "="):
            raise UnsafeCheckpointError(f"dtype {self.real} with the state {state!r} is not supported")
        self.real = self.real.newbyteorder(order)  # type: ignore[arg-type]


class _Array(np.ndarray):
    """An array that gets its content after its creation, as in protocols 0 to 4."""

    __slots__ = ()

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        shape, dtype, fortran, data = state[-4:]
        real, raw = _checked(shape, dtype, data)
        super().__setstate__((1, tuple(shape), real, bool(fortran), raw))  # type: ignore[arg-type]


def _checked(shape: object, dtype: object, data: object) -> tuple[np.dtype, bytes]:
    """Return dtype and bytes of an array, after checking that they match its shape."""
    raw = _raw(data)
    if not isinstance(dtype, _Dtype) or not isinstance(shape, (tuple, list)):
        raise UnsafeCheckpointError(f"an array needs a shape and a dtype, got {shape!r} and {dtype!r}")
    counts = [n for n in shape if type(n) is int and n >= 0]
    if len(counts) != len(shape) or math.prod(counts) * dtype.real.itemsize != len(raw):
        raise UnsafeCheckpointError(f"an array of shape {shape} and dtype {dtype.real} has {len(raw)} bytes")
    return dtype.real, raw


def _reconstruct(cls: object, shape: object, kind: object) -> np.ndarray:
    """Create an empty array, which the file then fills."""
    return np.zeros(0, np.int8).view(_Array)


def _from_buffer(buffer: object, dtype: object, shape: Sequence[int], order: str) -> np.ndarray:
    """Create an array stored by protocol 5."""
    real, raw = _checked(shape, dtype, buffer)
    flat = np.frombuffer(bytearray(raw), real) if raw else np.empty(0, real)
    return flat.reshape(shape, order="F" if order == "F" else "C")


def _scalar(dtype: object, data: object = b"") -> np.generic:
    """Create a NumPy number or text."""
    real, raw = _checked((), dtype, data)
    return np.frombuffer(raw, real)[0] if raw else real.type()


def _not_called(*args: object) -> None:
    """Raise an error; used for ``numpy.ndarray``, which files name only as an argument of its builder."""
    raise UnsafeCheckpointError("a file must not create an array from bytes and a dtype directly")


_ARRAY_BUILDERS: dict[str, Callable[..., Any]] = {
    "numpy.ndarray": _not_called,
    "numpy.dtype": _Dtype,
    **{
        f"numpy.{core}.{name}": builder
        for core in ("core", "_core")  # files name the module of the NumPy that wrote them
        for name, builder in (
            ("multiarray._reconstruct", _reconstruct),
            ("multiarray.scalar", _scalar),
            ("numeric._frombuffer", _from_buffer),
        )
    },
}


# ------------------------------------------------------------------ bytes and tensors
def _encode(text: str, encoding: str = "latin1") -> bytes:
    """Create bytes stored by protocols 0 to 2."""
    return text.encode("latin1")


def _bytes(content: object = b"", encoding: object = "latin1") -> bytes:
    return _raw(content)  # ``bytes`` itself would allocate zeros for a number


def _bytearray(content: object = b"", encoding: object = "latin1") -> bytearray:
    return bytearray(_raw(content))


def _storage_from_bytes(data: bytes) -> object:
    """Read a tensor's storage, which is a small PyTorch file in a plain pickle."""
    return restricted_torch_load(io.BytesIO(data))


def _tensor(
    storage: torch.TypedStorage,
    offset: int,
    size: Sequence[int],
    stride: Sequence[int],
    requires_grad: bool = False,
    *_: object,
) -> torch.Tensor:
    """Create a view of a storage; PyTorch itself would enlarge a storage that is too small."""
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if min((offset, *size, *stride)) < 0 or (0 not in size and last >= storage._size()):
        raise UnsafeCheckpointError(f"a tensor of size {tuple(size)} exceeds its storage")
    made = torch._utils._rebuild_tensor(storage, offset, size, stride)
    return made.requires_grad_(bool(requires_grad))


def _parameter(data: torch.Tensor, requires_grad: bool = True, *_: object) -> torch.nn.Parameter:
    return torch.nn.Parameter(data, bool(requires_grad))


def _defaultdict(factory: object = None) -> defaultdict:
    return defaultdict(getattr(factory, "make", None))


_PLAIN_TYPES = (set, frozenset, complex, list, dict, int, float)
_BUILDERS: dict[str, Callable[..., Any]] = {
    **_ARRAY_BUILDERS,
    "_codecs.encode": _encode,
    "collections.OrderedDict": OrderedDict,
    "collections.defaultdict": _defaultdict,
    "torch.Size": torch.Size,
    "torch.device": torch.device,
    "torch.storage._load_from_bytes": _storage_from_bytes,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    **{
        f"{home}.{name}": builder
        for home in ("__builtin__", "builtins")
        for name, builder in (
            *((t.__name__, t) for t in _PLAIN_TYPES),
            ("long", int),
            ("bytes", _bytes),
            ("bytearray", _bytearray),
        )
    },
}


# ------------------------------------------------------------------ reading
class _Name:
    """A callable that a file names; unlike functions and classes, it has no attributes to set."""

    __slots__ = ("make",)

    def __init__(self, make: Callable[..., Any]) -> None:
        self.make = make

    def __call__(self, *args: object) -> object:
        return self.make(*args)

    def __setstate__(self, state: object) -> None:
        raise UnsafeCheckpointError("a file must not set attributes of functions and classes")


# The C unpickler allocates memory by numbers in the file, this one does not.
class _Restricted(pickle._Unpickler):
    append: Callable[[Any], None]
    stack: list[Any]
    read: Callable[[int], bytes]

    def __init__(
        self, file: IO[bytes], where: str, encoding: str, names: Mapping[str, Callable[..., Any]]
    ) -> None:
        super().__init__(file, encoding=encoding)
        self._names, self._where = names, where

    def find_class(self, module: str, name: str) -> object:
        if module == "torch" and isinstance(found := getattr(torch, name, None), torch.dtype):
            return found
        try:
            return _Name(self._names[f"{module}.{name}"])
        except KeyError:
            raise UnsafeCheckpointError(
                f"{self._where} asks for {module}.{name}, which is neither an array, a tensor nor a plain container. "
                "Reading it could run code, so it was not read. If you trust the file, read it once with pickle or "
                "torch.load(weights_only=False), and save {'model': state_dict} with torch.save."
            ) from None

    def persistent_load(self, pid: object) -> NoReturn:
        raise UnsafeCheckpointError(f"{self._where} refers to an object outside the file ({pid!r})")

    def _load_bytearray(self) -> None:
        # The original allocates the number of bytes in the file before it reads them.
        self.append(bytearray(self.read(int.from_bytes(self.read(8), "little"))))

    def _load_new(self) -> None:
        arguments, named = self.stack.pop(), self.stack.pop()
        if (
            not isinstance(named, _Name)
            or not isinstance(named.make, type)
            or named.make in _BUILDERS.values()
        ):
            raise UnsafeCheckpointError(f"{self._where} creates an object without calling its class")
        self.append(named.make.__new__(named.make, *arguments))

    dispatch = {
        **pickle._Unpickler.dispatch,
        pickle.BYTEARRAY8[0]: _load_bytearray,  # type: ignore[dict-item]
        pickle.NEWOBJ[0]: _load_new,  # type: ignore[dict-item]
    }


def _settled(value: object, seen: set[int]) -> object:
    """Replace the placeholders in plain containers by real arrays and dtypes."""
    if isinstance(value, _Array):
        return value.view(np.ndarray)
    if isinstance(value, _Dtype):
        return value.real
    if type(value) is tuple:
        return tuple(_settled(v, seen) for v in value)
    if isinstance(value, (dict, list)) and id(value) not in seen:
        seen.add(id(value))
        for key, item in list(value.items() if isinstance(value, dict) else enumerate(value)):
            if isinstance(item, (_Array, _Dtype, tuple, dict, list)):
                value[key] = _settled(item, seen)
    return value


def restricted_load(
    source: IO[bytes] | bytes,
    where: str = "the pickle",
    encoding: str = "latin1",
    names: Mapping[str, Callable[..., Any]] | None = None,
) -> Any:
    """Read one pickle of arrays, tensors, numbers, text and plain containers.

    Args:
        source: file open for reading bytes, or the bytes.
        where: name of the file, for errors.
        encoding: of byte strings from Python 2; arrays need ``"latin1"``.
        names: additional functions and classes that the file may name, by ``"module.name"``. They must be safe for any
            arguments, and instances of the classes for any state.

    Raises:
        UnsafeCheckpointError: if it names anything else, or describes an array wrongly.
        pickle.UnpicklingError: if it is truncated or damaged.
    """
    file = io.BytesIO(source) if isinstance(source, (bytes, bytearray)) else source
    try:
        return _settled(_Restricted(file, where, encoding, {**_BUILDERS, **(names or {})}).load(), set())
    except UnsafeCheckpointError:
        raise
    except (pickle.UnpicklingError, MemoryError, RecursionError, EOFError, ArithmeticError, AttributeError, LookupError,
            RuntimeError, TypeError, ValueError) as error:  # fmt: skip
        kind = type(error).__name__
        raise pickle.UnpicklingError(
            f"{where} is not a pickle of arrays, or damaged: {kind}: {error}"
        ) from error


def numpy_safe_globals() -> list[Any]:
    """Return what ``torch.load(weights_only=True)`` additionally needs to read NumPy arrays and scalars."""
    named = [(builder, name) for name, builder in _ARRAY_BUILDERS.items()]
    # PyTorch only sets the state of listed types. "nameless" has no dot, so that no file can call _Array.
    return [*named, (_encode, "_codecs.encode"), (_bytes, "builtins.bytes"), (_Array, "nameless")]


def restricted_torch_load(
    source: str | os.PathLike[str] | IO[bytes], *, mmap: bool = False, names: Sequence[Any] = ()
) -> Any:
    """Read a file of ``torch.save`` on the CPU, without running code from it.

    Args:
        source: path, or file open for reading bytes.
        mmap: leave tensors on disk until they are used.
        names: additional classes and functions that the file may name, as in ``torch.serialization.safe_globals``.

    Raises:
        UnsafeCheckpointError: if it describes an array wrongly.
        pickle.UnpicklingError: if it names anything else.
        RuntimeError, OSError, EOFError, ValueError, LookupError: if it is damaged.
    """
    with warnings.catch_warnings(), torch.serialization.safe_globals([*names, *numpy_safe_globals()]):
        # The protocol does not matter: either the file can be read, or there is an error.
        warnings.filterwarnings("ignore", message="Detected pickle protocol")
        return _settled(torch.load(source, map_location="cpu", weights_only=True, mmap=mmap), set())
