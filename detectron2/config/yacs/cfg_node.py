"""The tree of typed settings behind ``detectron2.config.CfgNode``: merging, freezing, renamed keys."""

import copy
import logging
from collections.abc import ItemsView, Iterable, Iterator, KeysView, ValuesView
from typing import Any

import yaml
from typing_extensions import Self

from detectron2.utils.errors import BadKey, BadType, BadValue, UnknownNameError
from detectron2.utils.suggest import did_you_mean

from .values import LEAF_TYPES, check_type, decode

__all__ = ["BaseNode"]

logger = logging.getLogger(__name__)


class BaseNode(dict[str, Any]):
    """A dictionary with attribute access, into which only known keys with values of the same types can be merged.

    Keys declared with :meth:`add_optional` are known, typed and readable, but appear in iteration and ``dump`` only if
    they differ from their defaults. Configs that do not use them are thus saved as if they did not exist.
    """

    IMMUTABLE = "__immutable__"
    DEPRECATED_KEYS = "__deprecated_keys__"
    RENAMED_KEYS = "__renamed_keys__"
    NEW_ALLOWED = "__new_allowed__"
    OPTIONAL = "__optional__"

    def __init__(
        self,
        init_dict: dict[str, Any] | None = None,
        key_list: list[str] | None = None,
        new_allowed: bool = False,
    ) -> None:
        path = list(key_list or [])
        content = {}
        for key, value in (init_dict or {}).items():
            if isinstance(value, dict) and not isinstance(value, BaseNode):
                value = type(self)(value, key_list=[*path, key], new_allowed=new_allowed)
            elif not isinstance(value, (BaseNode, *LEAF_TYPES)):
                raise _bad_type(".".join([*path, str(key)]), value)
            content[key] = value
        super().__init__(content)
        self._set_state(self.IMMUTABLE, False)
        self._set_state(self.DEPRECATED_KEYS, set())
        self._set_state(self.RENAMED_KEYS, {})
        self._set_state(self.NEW_ALLOWED, new_allowed)
        self._set_state(self.OPTIONAL, {})

    # ------------------------------------------------------------ state
    def _set_state(self, name: str, value: object) -> None:
        self.__dict__[name] = value

    def _optional(self) -> dict[str, Any]:
        return self.__dict__.get(self.OPTIONAL, {})

    def _children(self) -> Iterator["BaseNode"]:
        return (v for v in dict.values(self) if isinstance(v, BaseNode))

    # ------------------------------------------------------------ access
    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            if name.startswith("__"):
                raise AttributeError(name) from None
            known: list[str] = list(dict.keys(self))
            raise AttributeError(f"config has no key {name!r} here. {did_you_mean(name, known)}") from None

    def __setattr__(self, name: str, value: object) -> None:
        if self.is_frozen():
            raise AttributeError(
                f"cannot set {name} = {value!r}: the config is frozen; call defrost() or clone() first"
            )
        if name in self.__dict__:
            raise AttributeError(f"{name!r} is reserved")
        if not isinstance(value, (BaseNode, *LEAF_TYPES)):
            raise _bad_type(name, value)
        self[name] = value

    def __delattr__(self, name: str) -> None:
        if self.is_frozen():
            raise AttributeError(f"cannot delete {name}: the config is frozen")
        try:
            del self[name]
        except KeyError:
            raise AttributeError(name) from None

    # ------------------------------------------------------------ optional keys
    def add_optional(self, name: str, default: object) -> None:
        """Declare a key that is hidden while it has its default.

        Args:
            name: key in this node.
            default: a plain value, or a node with optional keys.
        """
        self._optional()[name] = copy.deepcopy(default)
        self[name] = default

    def _hidden(self, name: str) -> bool:
        if name not in self._optional():
            return False
        value = dict.__getitem__(self, name)
        if isinstance(value, BaseNode):
            return len(value) == 0
        default = self._optional()[name]
        return type(value) is type(default) and bool(value == default)

    def __iter__(self) -> Iterator[str]:
        optional = self._optional()
        return (
            (k for k in dict.keys(self) if k not in optional or not self._hidden(k))
            if optional
            else super().__iter__()
        )

    def __len__(self) -> int:
        return sum(1 for _ in self) if self._optional() else super().__len__()

    def keys(self) -> KeysView[str]:  # type: ignore[override]
        return KeysView(self)

    def values(self) -> ValuesView[Any]:  # type: ignore[override]
        return ValuesView(self)

    def items(self) -> ItemsView[str, Any]:  # type: ignore[override]
        return ItemsView(self)

    # ------------------------------------------------------------ freezing and copying
    def freeze(self) -> None:
        """Forbid changes in this node and all nodes below."""
        self._freeze(True)

    def defrost(self) -> None:
        """Allow changes in this node and all nodes below."""
        self._freeze(False)

    def _freeze(self, frozen: bool) -> None:
        self._set_state(self.IMMUTABLE, frozen)
        for child in self._children():
            child._freeze(frozen)

    def _freeze_added(self) -> None:
        """Freeze nodes that were merged into a frozen config, which only merging may change."""
        if self.is_frozen():
            self._freeze(True)

    def is_frozen(self) -> bool:
        """Return whether changes are forbidden."""
        return bool(self.__dict__.get(self.IMMUTABLE, False))

    def clone(self) -> Self:
        """Return an independent copy."""
        return copy.deepcopy(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> "BaseNode":
        twin = type(self).__new__(type(self))
        memo[id(self)] = twin
        dict.update(twin, {k: copy.deepcopy(v, memo) for k, v in dict.items(self)})
        twin.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return twin

    def __copy__(self) -> "BaseNode":
        twin = type(self).__new__(type(self))
        dict.update(twin, dict(dict.items(self)))
        twin.__dict__.update({k: copy.copy(v) for k, v in self.__dict__.items()})
        return twin

    def copy(self) -> Self:  # dict.copy() would return a dict
        """Return a shallow copy of the same class."""
        return copy.copy(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return _empty, (type(self),), dict(self.__dict__), None, iter(dict.items(self))

    def __setstate__(self, state: dict[str, Any]) -> None:
        defaults = {
            self.IMMUTABLE: False,
            self.DEPRECATED_KEYS: set(),
            self.RENAMED_KEYS: {},
            self.NEW_ALLOWED: False,
        }
        self.__dict__.update({**defaults, self.OPTIONAL: {}, **state})

    # ------------------------------------------------------------ printing
    def as_dict(self) -> dict[str, Any]:
        """Convert to nested plain dictionaries; tuples and lists are kept."""
        return {k: v.as_dict() if isinstance(v, BaseNode) else v for k, v in self.items()}

    def dump(self, *args: Any, **kwargs: Any) -> str:
        """Convert the visible keys to YAML text, sorted; arguments are passed to ``yaml.safe_dump``."""
        return str(yaml.safe_dump(self.as_dict(), *args, **kwargs))

    def __str__(self) -> str:
        lines = []
        for key, value in sorted(self.items()):
            if isinstance(value, BaseNode):
                lines += [f"{key}:", *("  " + line for line in str(value).splitlines())]
            else:
                lines.append(f"{key}: {value}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({dict(self.items())!r})"

    # ------------------------------------------------------------ old names
    def register_deprecated_key(self, key: str) -> None:
        """Accept a key (dotted path) without a meaning; merging drops it with a warning."""
        if key in self.__dict__[self.DEPRECATED_KEYS]:
            raise BadValue(f"{key} is registered as deprecated already")
        self.__dict__[self.DEPRECATED_KEYS].add(key)

    def register_renamed_key(self, old_name: str, new_name: str, message: str | None = None) -> None:
        """Register the new name of a key for the error about the old one; both are dotted paths."""
        if old_name in self.__dict__[self.RENAMED_KEYS]:
            raise BadValue(f"{old_name} is registered as renamed already")
        self.__dict__[self.RENAMED_KEYS][old_name] = (new_name, message) if message else new_name

    def key_is_deprecated(self, full_key: str) -> bool:
        """Return whether a key is registered as deprecated, with a warning if so."""
        if full_key not in self.__dict__[self.DEPRECATED_KEYS]:
            return False
        logger.warning("config key %s no longer has a meaning and is ignored", full_key)
        return True

    def key_is_renamed(self, full_key: str) -> bool:
        """Return whether a key is registered as renamed."""
        return full_key in self.__dict__[self.RENAMED_KEYS]

    def raise_key_rename_error(self, full_key: str) -> None:
        """Raise an error that states the new name of a renamed key."""
        new = self.__dict__[self.RENAMED_KEYS][full_key]
        new, note = new if isinstance(new, tuple) else (new, "")
        raise UnknownNameError(f"config key {full_key} is called {new} now. {note}".strip())

    def is_new_allowed(self) -> bool:
        """Return whether merging may add keys to this node."""
        return bool(self.__dict__.get(self.NEW_ALLOWED, False))

    def set_new_allowed(self, is_new_allowed: bool) -> None:
        """Allow or forbid merging new keys into this node and all nodes below."""
        self._set_state(self.NEW_ALLOWED, is_new_allowed)
        for child in self._children():
            child.set_new_allowed(is_new_allowed)

    # ------------------------------------------------------------ merging
    def merge_from_other_cfg(self, cfg_other: dict[str, Any]) -> None:
        """Merge the values of another tree into this one.

        Args:
            cfg_other: its keys must exist in this tree (unless new keys are allowed), with values of the same types.

        Raises:
            KeyError: a key is unknown or renamed; the message lists similar keys.
            ValueError: a value has the wrong type.
        """
        _merge(cfg_other, self, self, [])
        self._freeze_added()

    def merge_from_list(self, cfg_list: Iterable[Any]) -> None:
        """Set values from ``[key, value, key, value, …]``; keys are dotted paths, and text values are decoded.

        Raises:
            ValueError: the number of entries is odd, or a value has the wrong type.
            KeyError: a key is unknown or renamed.
        """
        flat = list(cfg_list)
        if len(flat) % 2:
            raise BadValue(
                f"expected KEY VALUE pairs, got {len(flat)} entries; {flat[-1]!r} is alone: {flat}"
            )
        for full_key, value in zip(flat[::2], flat[1::2]):
            if self.key_is_deprecated(full_key):
                continue
            if self.key_is_renamed(full_key):
                self.raise_key_rename_error(full_key)
            *parents, last = full_key.split(".")
            node: Any = self
            for depth, part in enumerate(parents):
                if not isinstance(node, BaseNode) or part not in node:
                    raise _unknown(full_key, ".".join(parents[: depth + 1]), self)
                node = node[part]
            if not isinstance(node, BaseNode) or (last not in node and not node.is_new_allowed()):
                raise _unknown(full_key, full_key, self)
            value = _to_node(decode(value), type(self), node)
            node._assign(last, value, full_key, self)
            self._freeze_added()

    def _assign(self, name: str, value: object, full_key: str, root: "BaseNode") -> None:
        """Check and set one value; a dictionary is merged into an existing node."""
        if name not in self:
            self[name] = value
            return
        old = self[name]
        value = check_type(old, value, full_key)
        if isinstance(old, BaseNode) and isinstance(value, dict):
            _merge(value, old, root, full_key.split("."))
        else:
            self[name] = value

    def leaf_keys(self) -> list[str]:
        """Return the dotted paths of all values, including optional ones."""
        found = []
        for key, value in dict.items(self):
            found += [f"{key}.{k}" for k in value.leaf_keys()] if isinstance(value, BaseNode) else [key]
        return found


def _empty(cls: type[BaseNode]) -> BaseNode:
    """Create an uninitialised node, which pickle fills."""
    return cls.__new__(cls)


def _bad_type(key: str, value: object) -> TypeError:
    return BadType(
        f"{key} = {value!r} is a {type(value).__name__}; a config holds numbers, text, None, lists, tuples and CfgNodes"
    )


def _unknown(full_key: str, missing: str, root: BaseNode) -> KeyError:
    known = root.leaf_keys()
    rest = "" if missing == full_key else f" (there is no {missing})"
    return BadKey(f"unknown config key {full_key}{rest}. {did_you_mean(full_key, known)}")


def _to_node(value: object, cls: type[BaseNode], like: BaseNode) -> object:
    if isinstance(value, dict) and not isinstance(value, BaseNode):
        return cls(value, new_allowed=like.is_new_allowed())
    return value


def _merge(new: dict[str, Any], into: BaseNode, root: BaseNode, path: list[str]) -> None:
    """Merge ``new`` into ``into``, which is at ``path`` below ``root``."""
    if not isinstance(new, dict):
        raise BadType(f"expected a config or a dictionary, got {type(new).__name__}")
    for key, value in dict.items(new):
        full_key = ".".join([*path, str(key)])
        if key not in into:
            if root.key_is_deprecated(full_key):
                continue
            if root.key_is_renamed(full_key):
                root.raise_key_rename_error(full_key)
            if not into.is_new_allowed():
                raise _unknown(full_key, full_key, root)
        value = _to_node(decode(copy.deepcopy(value)), type(into), into)
        if not isinstance(value, (BaseNode, *LEAF_TYPES)):
            raise _bad_type(full_key, value)
        into._assign(key, value, full_key, root)
