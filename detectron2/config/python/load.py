"""Execute Python config files, which may import each other by relative paths without being a package.

Each config file gets its own import function, in the ``__builtins__`` of its globals, so that the interpreter, other
modules and other threads are not affected.
"""

import builtins
import os
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import CodeType
from typing import TYPE_CHECKING, Any

from detectron2.utils.errors import UnknownNameError
from detectron2.utils.file_io import PathManager
from detectron2.utils.suggest import did_you_mean

from ..yacs.yaml_files import parse, path_beside
from .call import lists_for_tuples

if TYPE_CHECKING:
    from omegaconf import DictConfig, ListConfig

__all__ = ["as_config", "load"]

MODULE_PREFIX = "detectron2._cfg_loader"


def as_config(value: object) -> Any:
    """Convert a dictionary to an omegaconf config that may hold any object; return other values unchanged."""
    if not isinstance(value, dict):
        return value
    from omegaconf import DictConfig

    return DictConfig(lists_for_tuples(value), flags={"allow_objects": True})


def load(filename: str, keys: str | tuple[str, ...] | None) -> Any:
    """See :meth:`detectron2.config.LazyConfig.load`."""
    filename = os.fspath(filename)
    extension = os.path.splitext(filename)[1]
    if extension == ".py":
        content = _run(filename, ())
    elif extension in (".yaml", ".yml"):
        content = _read_yaml(filename)
    else:
        raise ValueError(f"a config file must end in .py, .yaml or .yml, got {filename}")
    if keys is None:
        return _all_configs(content)
    if isinstance(keys, str):
        return as_config(_pick(content, keys, filename))
    return tuple(as_config(_pick(content, k, filename)) for k in keys)


def _all_configs(content: Any) -> "DictConfig | ListConfig":
    from omegaconf import DictConfig, ListConfig

    if isinstance(content, (DictConfig, ListConfig)):
        return content
    found = {
        k: as_config(v)
        for k, v in content.items()
        if isinstance(v, (dict, DictConfig, ListConfig)) and not k.startswith("_")
    }
    return DictConfig(found, flags={"allow_objects": True})


def _pick(content: Mapping[str, object], key: str, filename: str) -> object:
    if key not in content:
        public = [str(k) for k in content if not str(k).startswith("_")]
        raise UnknownNameError(f"{filename} defines no {key!r}. {did_you_mean(key, public)}")
    return content[key]


def _read_yaml(filename: str) -> Any:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    with PathManager.open(filename, "rb") as f:
        content = parse(f, filename)
    try:
        return OmegaConf.create({} if content is None else content, flags={"allow_objects": True})
    except OmegaConfBaseException as e:
        raise ValueError(f"{filename}: {str(e).strip().splitlines()[0]}") from e


# ------------------------------------------------------------ Python files
def _run(filename: str, chain: tuple[str, ...]) -> dict[str, Any]:
    """Execute a config file and return its globals.

    Args:
        filename: path or URL.
        chain: config files that import this one, directly or indirectly.
    """
    if filename in chain:
        raise ImportError(f"config files import each other in a circle: {' -> '.join([*chain, filename])}")
    stem = os.path.basename(filename)
    module: dict[str, Any] = {
        "__name__": f"{MODULE_PREFIX}.{os.path.splitext(stem)[0]}",
        "__file__": filename,
        "__package__": MODULE_PREFIX,
        "__builtins__": {**vars(builtins), "__import__": _importer(filename, chain)},
    }
    exec(_compiled(filename), module)
    return module


def _compiled(filename: str) -> CodeType:
    if "://" in filename:
        with PathManager.open(filename, "r") as f:
            return compile(f.read(), filename, "exec")
    state = os.stat(filename)
    return _compile_local(filename, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=256)
def _compile_local(filename: str, modified: int, size: int) -> CodeType:
    with open(filename, "rb") as f:
        return compile(f.read(), filename, "exec")


class _Names:
    """The result of an import, whose attributes are the names in ``from … import``."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.__dict__.update(values)


def _importer(filename: str, chain: tuple[str, ...]) -> Callable[..., Any]:
    """Return the ``__import__`` of one config file, whose relative imports execute config files."""

    def import_(
        name: str,
        globals: Mapping[str, Any] | None = None,
        locals: Mapping[str, Any] | None = None,
        fromlist: tuple[str, ...] | None = (),
        level: int = 0,
    ) -> Any:
        if level == 0:
            return builtins.__import__(name, globals, locals, fromlist or (), 0)
        statement = f"from {'.' * level}{name} import {', '.join(fromlist or ())}"
        target = _find(filename, name, level, statement)
        content = _run(target, (*chain, filename))
        if fromlist and "*" in fromlist:
            names = [k for k in content if not k.startswith("_")]
            return _Names({"__all__": names, **{k: as_config(content[k]) for k in names}})
        try:
            return _Names({k: as_config(_pick(content, k, target)) for k in fromlist or ()})
        except KeyError as e:
            raise ImportError(f"{filename}: {statement!r}: {e.args[0]}") from e

    return import_


def _find(filename: str, name: str, level: int, statement: str) -> str:
    """Return the file that a relative import refers to.

    Raises:
        ImportError: if there is none; the message says what was searched for.
    """
    if not name:
        raise ImportError(
            f"{filename}: {statement!r}: a relative import must name a file; write 'from .file import name'"
        )
    target = path_beside(filename, "../" * (level - 1) + name.replace(".", "/"))
    for candidate in (target + ".py", target + "/__init__.py"):
        if _is_file(candidate):
            return candidate
    what = (
        "a folder without __init__.py is there, but a relative import can only read files"
        if os.path.isdir(target)
        else "it does not exist"
    )
    raise ImportError(f"{filename}: {statement!r} looks for {target}.py: {what}. {_similar_files(target)}")


def _is_file(path: str) -> bool:
    if "://" not in path:
        return os.path.isfile(path)
    return PathManager.isfile(path)


def _similar_files(target: str) -> str:
    folder = os.path.dirname(target)
    if "://" in target or not os.path.isdir(folder):
        return ""
    files = [f[:-3] for f in os.listdir(folder) if f.endswith(".py")]
    return did_you_mean(os.path.basename(target), files)
