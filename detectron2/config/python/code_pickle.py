"""Pickling that also takes functions which cannot be found by name, such as lambdas in config files.

Such a function is stored as compiled code with the globals and closure values that it uses, so the file can be read
by the same Python version only; a class that a config file defines is looked up in that file again. Reading it runs code: read only files of your own.
"""

import builtins
import importlib
import marshal
import os
import pickle
import sys
import types
from typing import IO, Any

from .load import MODULE_PREFIX

__all__ = ["dump", "load"]


class _Pickler(pickle.Pickler):
    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, types.FunctionType) and not _importable(obj):
            return _function_parts(obj)
        if isinstance(obj, type) and obj.__module__.startswith(MODULE_PREFIX):
            return _class_of_config, (_config_file(obj), obj.__qualname__)
        if isinstance(obj, types.ModuleType):
            return importlib.import_module, (obj.__name__,)
        return NotImplemented


def _config_file(cls: type) -> str:
    """The config file that defines a class, known from the globals of its methods."""
    for member in vars(cls).values():
        function = getattr(member, "fget", None) or getattr(member, "__func__", member)
        if isinstance(function, types.FunctionType) and "__file__" in function.__globals__:
            return os.path.abspath(function.__globals__["__file__"])
    raise pickle.PicklingError(f"cannot tell which config file defines {cls.__qualname__}")


def _class_of_config(filename: str, name: str) -> type:
    """Run a config file again for a class that it defines; classes are not stored in the pickle."""
    from .load import load

    found: type = load(filename, name)
    return found


def _importable(function: types.FunctionType) -> bool:
    found: Any = sys.modules.get(function.__module__ or "")
    for part in function.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is function


def _names(code: types.CodeType) -> set[str]:
    """Names that the code, or functions inside it, look up in the globals."""
    inner = [c for c in code.co_consts if isinstance(c, types.CodeType)]
    return set(code.co_names).union(*(_names(c) for c in inner))


def _function_parts(function: types.FunctionType) -> tuple[Any, ...]:
    used = {
        k: v for k, v in function.__globals__.items() if k in _names(function.__code__) and v is not function
    }
    cells = tuple(c.cell_contents for c in function.__closure__ or ())
    parts = (marshal.dumps(function.__code__), used, function.__name__, function.__defaults__, cells)
    return _make_function, (*parts, function.__kwdefaults__, function.__module__, function.__qualname__)


def _make_function(
    code: bytes,
    names: dict[str, Any],
    name: str,
    defaults: tuple[Any, ...] | None,
    cells: tuple[Any, ...],
    keyword_defaults: dict[str, Any] | None,
    module: str,
    qualname: str,
) -> types.FunctionType:
    scope = {"__builtins__": builtins, "__name__": module, **names}
    closure = tuple(types.CellType(c) for c in cells)
    function = types.FunctionType(marshal.loads(code), scope, name, defaults, closure)
    function.__kwdefaults__ = keyword_defaults
    function.__module__, function.__qualname__ = module, qualname
    return function


def dump(obj: Any, file: IO[bytes]) -> None:
    """Pickle ``obj`` to an open file."""
    _Pickler(file, protocol=4).dump(obj)


def load(file: IO[bytes]) -> Any:
    """Read what :func:`dump` wrote."""
    return pickle.load(file)
