"""Registries of classes and functions by name, and lookup of objects by dotted path."""

import importlib
import sys
from collections.abc import Callable, Iterable, Iterator
from types import ModuleType
from typing import Any, TypeVar

from .errors import BadValue, UnknownNameError
from .suggest import did_you_mean

__all__ = ["Registry", "locate"]

T = TypeVar("T")


class Registry(Iterable[tuple[str, Any]]):
    """Maps names to classes or functions, which a decorator registers.

    Configs refer to components by name (``MODEL.BACKBONE.NAME``); a registry finds the component, so that projects can
    add their own without changing this package::

        @BACKBONE_REGISTRY.register()
        class MyBackbone(Backbone): ...

    Args:
        name: of the registry, for errors.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._obj_map: dict[str, Any] = {}

    def register(self, obj: object = None, *, name: str | None = None) -> Any:
        """Register ``obj``, or return a decorator that registers what it decorates.

        Registering the same object again under the same name does nothing.

        Args:
            obj: class, function or any other object.
            name: its name in configs; default: its ``__name__``.

        Raises:
            ValueError: if another object has the name.
        """
        if obj is None:

            def decorate(item: T) -> T:
                self._add(item, name)
                return item

            return decorate
        self._add(obj, name)
        return obj

    def _add(self, obj: Any, name: str | None) -> None:
        name = obj.__name__ if name is None else name
        old = self._obj_map.setdefault(name, obj)
        if old is not obj:
            raise BadValue(
                f"{name!r} is already in the {self._name} registry, as {_where(old)}; "
                f"{_where(obj)} needs another name"
            )

    def get(self, name: str) -> Any:
        """Return the object registered as ``name``.

        Raises:
            KeyError: if there is none; the message lists similar names.
        """
        try:
            return self._obj_map[name]
        except KeyError:
            raise UnknownNameError(
                f"no {name!r} in the {self._name} registry. {did_you_mean(str(name), self._obj_map)} "
                "If it is yours, import the module that registers it first."
            ) from None

    def __contains__(self, name: object) -> bool:
        return name in self._obj_map

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        return iter(self._obj_map.items())

    def __len__(self) -> int:
        return len(self._obj_map)

    def __bool__(self) -> bool:
        return True  # an empty registry is still a registry

    def __repr__(self) -> str:
        rows = [f"  {name} = {_where(obj)}" for name, obj in sorted(self._obj_map.items())]
        return "\n".join([f"Registry of {self._name} ({len(rows)}):", *rows])


def _where(obj: object) -> str:
    return f"{getattr(obj, '__module__', '?')}.{getattr(obj, '__qualname__', repr(obj))}"


def _import_longest(parts: list[str]) -> tuple[ModuleType, int]:
    """Import the longest prefix of a dotted path that is a module; also return its number of parts."""
    for size in range(len(parts), 0, -1):
        name = ".".join(parts[:size])
        if name in sys.modules:
            return sys.modules[name], size
        try:
            return importlib.import_module(name), size
        except ModuleNotFoundError as e:
            # If this prefix itself is not a module, try a shorter one; if an import inside it failed, report that.
            missing = e.name or ""
            if not (name == missing or name.startswith(missing + ".")):
                raise ImportError(
                    f"importing {name!r} failed: it needs {missing!r}, which is not installed"
                ) from e
    raise ImportError(f"cannot find {'.'.join(parts)!r}: there is no module {parts[0]!r}")


_MOVED = {
    "detrex": "detectron2.projects.dino",
    "mask2former": "detectron2.projects.mask2former",
    "maskdino": "detectron2.projects.maskdino",
    "projects.deformable_detr": "detectron2.projects.dino",
    "projects.dino": "detectron2.projects.dino",
}
"""Prefixes of paths in other projects -> packages here that offer the same names."""


def _moved(name: str) -> str | None:
    """Return the current path of an object of a project that is now part of this package; None for other paths."""
    for old, new in _MOVED.items():
        if name.startswith(old + "."):
            return f"{new}.{name.rpartition('.')[2]}"
    return None


def locate(name: str) -> Any:
    """Find a class, function, method or module by its dotted path, importing modules as needed.

    Paths in projects that are now part of this package, such as ``"mask2former.modeling.matcher.HungarianMatcher"``,
    find their replacements unless the project itself is installed.

    Args:
        name: such as ``"torch.nn.Conv2d"`` or ``"detectron2.modeling.ResNet.make_default_stages"``.

    Raises:
        ImportError: if there is no such object; the message states the missing part of the path and similar names.
    """
    try:
        return _locate(name)
    except ImportError:
        moved = _moved(name) if isinstance(name, str) else None
        if moved is None:
            raise
    return _locate(moved)


def _locate(name: str) -> Any:
    parts = name.split(".") if isinstance(name, str) else []
    if not parts or not all(p.isidentifier() for p in parts):
        raise ImportError(f"{name!r} is not a dotted path such as 'torch.nn.Conv2d'")
    if len(parts) == 1:  # a bare builtin such as "dict"
        import builtins

        if hasattr(builtins, name):
            return getattr(builtins, name)
    found, size = _import_longest(parts)
    obj: Any = found
    for i in range(size, len(parts)):
        try:
            obj = getattr(obj, parts[i])
        except AttributeError:
            owner = ".".join(parts[:i])
            raise ImportError(
                f"cannot find {name!r}: {owner!r} has no {parts[i]!r}. {did_you_mean(parts[i], dir(obj))}"
            ) from None
    return obj


def _convert_target_to_string(t: Callable[..., Any]) -> str:
    """Return the shortest dotted path by which :func:`locate` finds a class or function.

    If an outer package offers the object under the same name, inner modules are dropped:
    ``detectron2.modeling.backbone.resnet.ResNet`` becomes ``detectron2.modeling.ResNet``.
    """
    module, qualname = t.__module__, t.__qualname__
    first, *rest = qualname.split(".")
    top = sys.modules.get(module)
    holder = getattr(top, first, None)
    packages = module.split(".")
    for size in range(1, len(packages)):
        outer = sys.modules.get(".".join(packages[:size]))
        if holder is not None and outer is not None and vars(outer).get(first) is holder:
            return ".".join([*packages[:size], first, *rest])
    return f"{module}.{qualname}"
