"""Python configs: load, override, save and print dictionaries that describe calls."""

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from omegaconf import DictConfig

from .python.call import LazyCall
from .python.load import load
from .python.overrides import apply_overrides
from .python.save import save
from .python.to_py import to_py
from .yacs.yaml_files import path_beside

__all__ = ["LazyCall", "LazyConfig"]


class LazyConfig:
    """Load, save, override and print configs that consist of dictionaries."""

    @staticmethod
    def load(filename: str, keys: str | tuple[str, ...] | None = None) -> Any:
        """Load a config file.

        A ``.py`` file is executed. Its relative imports may refer to config files in any other folder, without
        ``__init__.py``; imported dictionaries are configs. Each load executes all files again, so that its result can
        be changed without affecting other loads.

        Args:
            filename: path or URL of a ``.py`` or ``.yaml`` file. YAML is read as data: no code is run from it.
            keys: one or several names that the file defines; default: everything.

        Returns:
            An omegaconf dictionary of all dictionaries and omegaconf lists that the file defines at its top level,
            except names that start with ``_``. With ``keys``: the value, or a tuple of values.

        Raises:
            ValueError: if the file has another extension, or is not valid YAML.
            ImportError: if the file of a relative import does not exist.
            KeyError: if the file does not define a key.
        """
        return load(filename, keys)

    @staticmethod
    def load_rel(filename: str, keys: str | tuple[str, ...] | None = None) -> Any:
        """Load a config file whose path is relative to the calling file.

        Args:
            filename: relative path.
            keys: as in :meth:`load`.
        """
        caller = sys._getframe(1).f_globals.get("__file__")
        if not caller:
            raise ValueError(
                "load_rel is relative to the calling file, but the caller is not in a file; use LazyConfig.load"
            )
        return load(path_beside(caller, filename), keys)

    @staticmethod
    def save(cfg: object, filename: str) -> None:
        """Write a config to YAML.

        Callables, dataclass objects, ``functools.partial`` objects and torch data types are written as calls from which
        ``instantiate`` recreates them. Anything else that YAML cannot represent (such as a lambda) makes the file
        incomplete: each such place has a note, a warning is logged, and the whole config is pickled to
        ``filename + ".pkl"``. Unpickling runs code, so nothing in this package reads that file.

        Args:
            cfg: an omegaconf config; not changed, interpolations are kept.
            filename: path of the YAML file.
        """
        save(cfg, filename)

    @staticmethod
    def apply_overrides(cfg: "DictConfig", overrides: list[str]) -> "DictConfig":
        """Apply command-line overrides to a config in place.

        =========================  =================================================================
        ``a.b=3``, ``a.list.0=3``  set a value; missing groups are created
        ``+a.b=3``                 add a key even if its name looks like a misspelling
        ``~a.b``                   delete a key that nothing refers to
        =========================  =================================================================

        Values are numbers, ``true``/``false``, ``null``, text with or without quotes, ``[lists]``, ``{k: v}`` and
        ``${interpolations}``, arbitrarily nested.

        Args:
            cfg: an omegaconf config.
            overrides: one text per change.

        Returns:
            ``cfg``.

        Raises:
            ValueError: if an override cannot be parsed; the message marks the position.
            KeyError: if a new key looks like a misspelling, or a key to delete does not exist or is referred to; the
                message lists similar keys.
        """
        return apply_overrides(cfg, overrides)

    @staticmethod
    def to_py(cfg: object, prefix: str = "cfg.") -> str:
        """Format a config as Python-like text, in which calls look like calls.

        Args:
            cfg: an omegaconf config; interpolations are resolved.
            prefix: prefix of each key.

        Returns:
            One assignment per line (or group of lines), sorted by key, in Python syntax. It is for reading only; to load
            a config again, use its original file or :meth:`save`.
        """
        return to_py(cfg, prefix)
