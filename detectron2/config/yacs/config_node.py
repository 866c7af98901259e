"""The node class of yacs-style configs, with files, versions and computed values."""

from collections.abc import Iterable
from typing import IO, Any

from detectron2.utils.errors import BadKey, BadType, BadValue, UnknownNameError

from ..compat import downgrade_config, guess_version, upgrade_config
from .cfg_node import BaseNode
from .values import decode
from .yaml_files import BASE_KEY, load_with_base, parse

__all__ = ["CfgNode"]

COMPUTED_PREFIX = "COMPUTED_"


class CfgNode(BaseNode):
    """A tree of settings: a dictionary with attribute access that checks keys and types when merging.

    Example::

        cfg = get_cfg()
        cfg.merge_from_file("my.yaml")
        cfg.merge_from_list(["SOLVER.BASE_LR", "0.01"])
        cfg.freeze()

    Values are numbers, text, ``None``, lists, tuples and nodes. Text that is a Python literal is converted, so that
    ``(1, 2)`` in YAML is a tuple. Keys that start with ``COMPUTED_`` are results, not settings: they may be set once,
    also in a frozen config, and no file may set them.

    Args:
        init_dict: initial content; nested dictionaries become nodes.
        key_list: path of this node, for errors.
        new_allowed: whether merging may add keys.
    """

    @classmethod
    def load_yaml_with_base(cls, filename: str, allow_unsafe: bool = False) -> dict[str, Any]:
        """Read a YAML file and its ``_BASE_`` files into plain dictionaries.

        Args:
            filename: path or URL.
            allow_unsafe: has no effect: a config file never runs code.

        Raises:
            FileNotFoundError: if it or a base is missing.
            ValueError: if it is not valid YAML, or contains a Python object.
        """
        return load_with_base(str(filename))

    @classmethod
    def load_cfg(cls, cfg_file_obj_or_str: str | IO[str]) -> "CfgNode":
        """Create a node from YAML text or an open YAML file."""
        content = parse(cfg_file_obj_or_str)
        return cls(content if content is not None else {})

    @staticmethod
    def _decode_cfg_value(value: object) -> object:
        return decode(value)

    def __setattr__(self, name: str, value: object) -> None:
        if name.startswith(COMPUTED_PREFIX):
            if name in self and self[name] != value:
                raise UnknownNameError(
                    f"{name} is computed and already has the value {self[name]!r}, cannot set {value!r}"
                )
            self[name] = value
        else:
            super().__setattr__(name, value)

    def merge_from_file(self, cfg_filename: str, allow_unsafe: bool = True) -> None:
        """Merge the values of a YAML file (and of its ``_BASE_`` files).

        The keys of an older ``VERSION`` are converted to the current names. The version of a file without ``VERSION`` is
        guessed from its keys.

        Args:
            cfg_filename: path or URL.
            allow_unsafe: has no effect: a config file never runs code.

        Raises:
            FileNotFoundError: if it or a base is missing.
            KeyError: if a key is unknown; the message lists similar keys.
            ValueError: if a value has the wrong type, the YAML is invalid, or the version is too new.
        """
        content = self.load_yaml_with_base(str(cfg_filename), allow_unsafe=allow_unsafe)
        try:
            loaded = type(self)(content)
            self._merge_any_version(loaded, str(cfg_filename))
        except (KeyError, ValueError, BadType) as e:
            raise type(e)(f"{cfg_filename}: {e.args[0] if e.args else e}") from e

    def _merge_any_version(self, loaded: "CfgNode", source: str) -> None:
        if "VERSION" not in self:
            self.merge_from_other_cfg(loaded)
            return
        theirs = loaded.get("VERSION")
        if theirs is None:
            theirs = guess_version(loaded, source)
        if not isinstance(theirs, int) or theirs > self.VERSION:
            raise BadValue(f"its VERSION is {theirs!r}, this package knows versions up to {self.VERSION}")
        if theirs == self.VERSION:
            self.merge_from_other_cfg(loaded)
            return
        ours = self.VERSION
        old = downgrade_config(self, theirs)
        old.merge_from_other_cfg(loaded)
        self.clear()
        self.update(dict.items(upgrade_config(old, ours)))
        self._freeze_added()

    def merge_from_other_cfg(self, cfg_other: dict[str, Any]) -> None:
        if BASE_KEY in cfg_other:
            raise BadKey(f"{BASE_KEY} has a meaning only in files; load it with merge_from_file")
        super().merge_from_other_cfg(cfg_other)

    def merge_from_list(self, cfg_list: Iterable[Any]) -> None:
        flat = list(cfg_list)
        if BASE_KEY in flat[::2]:
            raise BadKey(f"{BASE_KEY} has a meaning only in files; load it with merge_from_file")
        super().merge_from_list(flat)
