"""Named collections of classes and functions, and finding an object by its dotted path."""

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
    """A table from names to classes or functions, filled by a decorator.

    Configs name components by text (``MODEL.BACKBONE.NAME``); a registry turns that text into the component, so
    that a project can add its own without touching this package::

        @BACKBONE_REGISTRY.register()
        class MyBackbone(Backbone): ...

    Args:
        name: what the registry holds; appears in errors.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._obj_map: dict[str, Any] = {}

    def register(self, obj: object = None, *, name: str | None = None) -> Any:
        """Add ``obj``; without it, return a decorator that adds what it decorates.

        Registering the same object twice under one name does nothing.

        Args:
            obj: class, function or any other object.
            name: what configs call it; its ``__name__`` by default.

        Raises:
            ValueError: if another object has the name already.
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
                f"{name!r} is in the {self._name} registry already, as {_where(old)}; "
                f"{_where(obj)} needs another name"
            )

    def get(self, name: str) -> Any:
        """Return the object registered as ``name``.

        Raises:
            KeyError: if there is none; the message lists the nearest names.
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
    """Import the longest prefix of a dotted path that is a module; also returns how many parts it has."""
    for size in range(len(parts), 0, -1):
        name = ".".join(parts[:size])
        if name in sys.modules:
            return sys.modules[name], size
        try:
            return importlib.import_module(name), size
        except ModuleNotFoundError as e:
            # Missing because this prefix is no module: try a shorter one. Missing inside the module: report it.
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
"""Packages of other projects, by the beginning of their paths, to those that offer the same names at their top."""


def _moved(name: str) -> str | None:
    """Return where an object of a project that is part of this package now is; None for other paths."""
    for old, new in _MOVED.items():
        if name.startswith(old + "."):
            return f"{new}.{name.rpartition('.')[2]}"
    return None


def locate(name: str) -> Any:
    """Find a class, function, method or module by its dotted path, importing what is needed.

    Paths of projects that are part of this package now, such as ``"mask2former.modeling.matcher.HungarianMatcher"``,
    find what took their place, unless the project itself is installed.

    Args:
        name: such as ``"torch.nn.Conv2d"`` or ``"detectron2.modeling.ResNet.make_default_stages"``.

    Returns:
        The object.

    Raises:
        ImportError: if there is no such object; the message says which part of the path is missing and what is
            near it.
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
    """Dotted path of a class or function, as short as it can be while :func:`locate` still finds the same object.

    Inner modules are dropped where an outer package offers the object under the same name:
    ``detectron2.modeling.backbone.resnet.ResNet`` becomes ``detectron2.modeling.ResNet`` where that works.
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
