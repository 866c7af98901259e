"""Python configs: dictionaries written in Python that describe calls, loaded, overridden, saved and printed."""

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from omegaconf import DictConfig

from .python.call import LazyCall
from .python.load import load, path_beside
from .python.overrides import apply_overrides
from .python.save import save
from .python.to_py import to_py

__all__ = ["LazyCall", "LazyConfig"]


class LazyConfig:
    """Load, save, override and print configs that are made of dictionaries."""

    @staticmethod
    def load(filename: str, keys: str | tuple[str, ...] | None = None) -> Any:
        """Load a config file.

        A ``.py`` file is run. Its relative imports may name other config files anywhere below or above it, without
        ``__init__.py``; dictionaries come through them as configs. Each load runs all files afresh, so that changing
        what one load returned does not show in another.

        Args:
            filename: path or URL of a ``.py`` or ``.yaml`` file. YAML is read as data: no code is run from it.
            keys: one name or several that the file defines; default: everything.

        Returns:
            An omegaconf dictionary of all dictionaries and omegaconf lists that the file defines at its top level,
            but for names that start with ``_``. With ``keys``: the value, or a tuple of values.

        Raises:
            ValueError: for other file names, and bad YAML.
            ImportError: for a relative import of something that is not there.
            KeyError: if the file does not define a key.
        """
        return load(filename, keys)

    @staticmethod
    def load_rel(filename: str, keys: str | tuple[str, ...] | None = None) -> Any:
        """Load a config file whose path is relative to the file that this call is written in.

        Args:
            filename: relative path.
            keys: as in :meth:`load`.
        """
        caller = sys._getframe(1).f_globals.get("__file__")
        if not caller:
            raise ValueError(
                "load_rel is relative to the file that calls it; here is none, use LazyConfig.load"
            )
        return load(path_beside(caller, filename), keys)

    @staticmethod
    def save(cfg: object, filename: str) -> None:
        """Write a config to YAML.

        Callables, dataclass objects, ``functools.partial`` objects and torch data types are written as calls that
        ``instantiate`` turns into the same objects. Anything else that YAML cannot hold (a lambda, say) makes the
        file incomplete: it has a note in each such place, a warning is logged, and the whole config is pickled to
        ``filename + ".pkl"``. Unpickling runs code, so nothing in this package reads that file.

        Args:
            cfg: an omegaconf config; it is not changed, interpolations are kept.
            filename: path of the YAML file.
        """
        save(cfg, filename)

    @staticmethod
    def apply_overrides(cfg: "DictConfig", overrides: list[str]) -> "DictConfig":
        """Change a config in place by texts from a command line.

        ========================  =================================================================
        ``a.b=3``, ``a.list.0=3``  set a value; missing groups are made
        ``+a.b=3``                 set it, and mean it: no error if the name looks like a misspelling
        ``~a.b``                   delete a key that nothing refers to
        ========================  =================================================================

        Values are numbers, ``true``/``false``, ``null``, text with or without quotes, ``[lists]``, ``{k: v}`` and
        ``${interpolations}``, nested at will.

        Args:
            cfg: an omegaconf config.
            overrides: one text per change.

        Returns:
            ``cfg``.

        Raises:
            ValueError: for a text that cannot be understood; points at the place.
            KeyError: for a new key that looks like a misspelled one, or a deleted one that is not there or is
                referred to; lists the nearest keys.
        """
        return apply_overrides(cfg, overrides)

    @staticmethod
    def to_py(cfg: object, prefix: str = "cfg.") -> str:
        """Print a config as Python-like text, easier to read than YAML: calls look like calls.

        Args:
            cfg: an omegaconf config; interpolations are shown resolved.
            prefix: put before each key.

        Returns:
            One assignment per line (or group of lines), sorted by key. It is valid Python syntax for reading; to
            load a config again, use the file that it came from or :meth:`save`.
        """
        return to_py(cfg, prefix)
