"""The public names of the package, each under its shortest path."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from functools import cache
from types import ModuleType

import detectron2

SKIP = ("configs", "__main__")


@cache
def modules() -> dict[str, ModuleType]:
    """Import all public modules."""
    found = {"detectron2": detectron2}
    for info in pkgutil.walk_packages(detectron2.__path__, "detectron2."):
        parts = info.name.split(".")
        if any(p.startswith("_") or p in SKIP for p in parts):
            continue
        try:
            found[info.name] = importlib.import_module(info.name)
        except ImportError:  # an optional library
            continue
    return found


def names_of(module: ModuleType) -> list[str]:
    """Return the public classes and functions of a module."""
    listed = getattr(module, "__all__", None)
    if listed is None:
        listed = [
            n
            for n, v in vars(module).items()
            if not n.startswith("_") and getattr(v, "__module__", "") == module.__name__
        ]
    return [n for n in listed if _is_ours(getattr(module, n, None))]


def _is_ours(value: object) -> bool:
    if not (inspect.isclass(value) or inspect.isfunction(value)):
        return False
    return str(getattr(value, "__module__", "")).startswith("detectron2")


@cache
def homes() -> dict[int, str]:
    """Return the shortest path of each public object, by its identity."""
    found: dict[int, str] = {}
    for name in sorted(modules(), key=lambda n: (n.count("."), n)):
        module = modules()[name]
        for public in names_of(module):
            found.setdefault(id(getattr(module, public)), f"{name}.{public}")
    return found


def packages() -> Iterator[tuple[str, list[str]]]:
    """Yield the packages below the top, and each project, with their modules."""
    groups: dict[str, list[str]] = {}
    for name in sorted(modules()):
        parts = name.split(".")
        depth = 3 if parts[1:2] == ["projects"] else 2
        groups.setdefault(".".join(parts[:depth]), []).append(name)
    yield from groups.items()


def pages_of(package: str, names: list[str]) -> str:
    """Write the page of a package, in reStructuredText."""
    out = [_title(package, "="), (inspect.getdoc(modules()[package]) or "").strip(), ""]
    for name in names:
        module = modules()[name]
        objects = [(n, getattr(module, n)) for n in names_of(module)]
        own = [(n, o) for n, o in objects if homes().get(id(o)) == f"{name}.{n}"]
        if name != package and (own or not objects):
            out += [_title(name, "-"), (inspect.getdoc(module) or "").strip(), ""]
        for public, value in own:
            kind = "class" if inspect.isclass(value) else "function"
            if inspect.isclass(value) and issubclass(value, BaseException):
                kind = "exception"
            out += [f".. auto{kind}:: {name}.{public}", ""]
    return "\n".join(out) + "\n"


def _title(text: str, line: str) -> str:
    return f"{text}\n{line * len(text)}\n"
