"""Read pickles and PyTorch files from others without running code from them.

A pickle is a small program: it may name any callable, have it called, and set attributes of what it names. Here it
can name only the builders below. They check what a file says about an array before they make one, because NumPy's own
builders trust their input: a false size or a dtype of Python objects lets a file read and write any memory.
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
    """A file asks for code to be run, or for an array that it must not make; nothing of it was used."""


# ------------------------------------------------------------------ arrays
_KINDS = re.compile(
    r"[?bBhHiIlLqQefdgFDGSU]|[biufcSU]\d{1,9}"
)  # of np.dtype: numbers and text, never objects


def _raw(data: object) -> bytes:
    """Bytes as any protocol stores them; as text where Python 2 wrote them."""
    if isinstance(data, str):
        return data.encode("latin1")
    if isinstance(data, (bytes, bytearray)):
        return bytes(data)
    raise UnsafeCheckpointError(f"an array must be made of bytes, got {type(data).__name__}")


class _Dtype:
    """A dtype of numbers or text; stands for the real one while a file is read."""

    __slots__ = ("real",)

    def __init__(self, kind: object, align: object = False, copy: object = False) -> None:
        text = kind.decode("latin1") if isinstance(kind, bytes) else kind
        if not isinstance(text, str) or not _KINDS.fullmatch(text):
            raise UnsafeCheckpointError(f"arrays of dtype {text!r} are not read, only numbers and text")
        self.real: np.dtype = np.dtype(text)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, order, subarray, names, fields, size, _, _, *more = state
        order = order.decode("latin1") if isinstance(order, bytes) else order
        simple = (subarray, names, fields, more) == (None, None, None, [])
        if not simple or size not in (-1, self.real.itemsize) or order not in ("<", ">", "|", "="):
            raise UnsafeCheckpointError(f"dtype {self.real} with the state {state!r} is not read")
        self.real = self.real.newbyteorder(order)  # type: ignore[arg-type]


class _Array(np.ndarray):
    """An array whose content arrives after it was made, as protocols 0 to 4 store it."""

    __slots__ = ()

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        shape, dtype, fortran, data = state[-4:]
        real, raw = _checked(shape, dtype, data)
        super().__setstate__((1, tuple(shape), real, bool(fortran), raw))  # type: ignore[arg-type]


def _checked(shape: object, dtype: object, data: object) -> tuple[np.dtype, bytes]:
    """Dtype and bytes of an array, if shape, dtype and number of bytes agree."""
    raw = _raw(data)
    if not isinstance(dtype, _Dtype) or not isinstance(shape, (tuple, list)):
        raise UnsafeCheckpointError(f"an array needs a shape and a dtype, got {shape!r} and {dtype!r}")
    counts = [n for n in shape if type(n) is int and n >= 0]
    if len(counts) != len(shape) or math.prod(counts) * dtype.real.itemsize != len(raw):
        raise UnsafeCheckpointError(f"an array of shape {shape} and dtype {dtype.real} has {len(raw)} bytes")
    return dtype.real, raw


def _reconstruct(cls: object, shape: object, kind: object) -> np.ndarray:
    """Make an empty array, which the file then fills."""
    return np.zeros(0, np.int8).view(_Array)


def _from_buffer(buffer: object, dtype: object, shape: Sequence[int], order: str) -> np.ndarray:
    """Make an array as protocol 5 stores it."""
    real, raw = _checked(shape, dtype, buffer)
    flat = np.frombuffer(bytearray(raw), real) if raw else np.empty(0, real)
    return flat.reshape(shape, order="F" if order == "F" else "C")


def _scalar(dtype: object, data: object = b"") -> np.generic:
    """Make a NumPy number or text."""
    real, raw = _checked((), dtype, data)
    return np.frombuffer(raw, real)[0] if raw else real.type()


def _not_called(*args: object) -> None:
    """Stand for the class ``numpy.ndarray``, which files name and only its builder uses."""
    raise UnsafeCheckpointError("an array must not be made of bytes and a dtype directly")


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
    """Make bytes as protocols 0 to 2 store them."""
    return text.encode("latin1")


def _bytes(content: object = b"", encoding: object = "latin1") -> bytes:
    return _raw(content)  # from a number, ``bytes`` itself would make as many zeros


def _bytearray(content: object = b"", encoding: object = "latin1") -> bytearray:
    return bytearray(_raw(content))


def _storage_from_bytes(data: bytes) -> object:
    """Read a tensor's storage: in a plain pickle it is a small PyTorch file."""
    return restricted_torch_load(io.BytesIO(data))


def _tensor(
    storage: torch.TypedStorage,
    offset: int,
    size: Sequence[int],
    stride: Sequence[int],
    requires_grad: bool = False,
    *_: object,
) -> torch.Tensor:
    """Make a view of a storage; PyTorch itself would enlarge a storage that is too small."""
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if min((offset, *size, *stride)) < 0 or (0 not in size and last >= storage._size()):
        raise UnsafeCheckpointError(f"a tensor of size {tuple(size)} lies outside of its storage")
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
    """A callable that a file named; unlike functions and classes, it has nothing to set."""

    __slots__ = ("make",)

    def __init__(self, make: Callable[..., Any]) -> None:
        self.make = make

    def __call__(self, *args: object) -> object:
        return self.make(*args)

    def __setstate__(self, state: object) -> None:
        raise UnsafeCheckpointError("a file must not set attributes of functions and classes")


# The unpickler written in C allocates as many places as a number in the file says, this one does not.
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
                "Reading it could run code, so it was not read. If you trust the file, read it with pickle or "
                "torch.load(weights_only=False) once, and save {'model': state_dict} with torch.save."
            ) from None

    def persistent_load(self, pid: object) -> NoReturn:
        raise UnsafeCheckpointError(f"{self._where} refers to an object outside the file ({pid!r})")

    def _load_bytearray(
        self,
    ) -> None:  # the original fills as many bytes as the file promises before it reads them
        self.append(bytearray(self.read(int.from_bytes(self.read(8), "little"))))

    def _load_new(self) -> None:
        arguments, named = self.stack.pop(), self.stack.pop()
        if (
            not isinstance(named, _Name)
            or not isinstance(named.make, type)
            or named.make in _BUILDERS.values()
        ):
            raise UnsafeCheckpointError(f"{self._where} makes an object without calling its class")
        self.append(named.make.__new__(named.make, *arguments))

    dispatch = {
        **pickle._Unpickler.dispatch,
        pickle.BYTEARRAY8[0]: _load_bytearray,  # type: ignore[dict-item]
        pickle.NEWOBJ[0]: _load_new,  # type: ignore[dict-item]
    }


def _settled(value: object, seen: set[int]) -> object:
    """Replace the stand-ins in plain containers by real arrays and dtypes."""
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
        encoding: of byte strings that Python 2 wrote; ``"latin1"`` is what arrays need.
        names: further functions and classes that the file may name, by ``"module.name"``. They must be safe for any
            arguments, and instances of the classes for any state.

    Raises:
        UnsafeCheckpointError: if it names anything else, or an array is not what it says.
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
            f"{where} is no pickle of arrays, or damaged: {kind}: {error}"
        ) from error


def numpy_safe_globals() -> list[Any]:
    """Return what ``torch.load(weights_only=True)`` must know beyond its own list to read NumPy arrays and scalars."""
    named = [(builder, name) for name, builder in _ARRAY_BUILDERS.items()]
    # PyTorch sets the state only of known types. No file can name one without a dot, and so make it with any arguments.
    return [*named, (_encode, "_codecs.encode"), (_bytes, "builtins.bytes"), (_Array, "nameless")]


def restricted_torch_load(
    source: str | os.PathLike[str] | IO[bytes], *, mmap: bool = False, names: Sequence[Any] = ()
) -> Any:
    """Read a file that ``torch.save`` wrote, on the CPU, without running code from it.

    Args:
        source: path, or file open for reading bytes.
        mmap: leave tensors on disk until they are used.
        names: further classes and functions that the file may name, as for ``torch.serialization.safe_globals``.

    Raises:
        UnsafeCheckpointError: if an array is not what it says.
        pickle.UnpicklingError: if it names anything else.
        RuntimeError, OSError, EOFError, ValueError, LookupError: if it is damaged.
    """
    with warnings.catch_warnings(), torch.serialization.safe_globals([*names, *numpy_safe_globals()]):
        # Which protocol a pickle has is nobody's concern: it can be read, or an error says that it cannot.
        warnings.filterwarnings("ignore", message="Detected pickle protocol")
        return _settled(torch.load(source, map_location="cpu", weights_only=True, mmap=mmap), set())
