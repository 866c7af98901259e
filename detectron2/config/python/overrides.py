"""Parse command-line overrides and apply them to a config.

The grammar::

    override  = ["+" | "++"] key "=" value  |  "~" key
    key       = name ("." name | "[" index "]")*
    value     = text of one of: null, true, false, integer, float, "quoted", 'quoted', [value, …], (value, …),
                {key: value, …}, ${interpolation}, a cast such as int(value), or anything else, which is text
"""

import logging
import re
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from detectron2.utils.errors import UnknownNameError
from detectron2.utils.suggest import did_you_mean, misspelt

from ..instantiate import is_tuple_config
from .override_values import parse_value

if TYPE_CHECKING:
    from omegaconf import DictConfig, ListConfig

    _Node: TypeAlias = DictConfig | ListConfig

__all__ = ["Override", "apply_overrides", "parse_override"]

logger = logging.getLogger(__name__)

_KEY = re.compile(
    r"(?P<mark>\+\+|\+|~)?(?P<key>[^=\s\[\]{}'\"]+(?:\[-?\w+\][^=\s\[\]{}'\"]*)*)(?P<rest>=.*)?\Z", re.DOTALL
)


class Override(NamedTuple):
    """One change: the action ("set", "add" or "delete"), the parts of the key, and the value."""

    action: str
    key: list[str]
    value: object

    @property
    def name(self) -> str:
        return ".".join(self.key)


def parse_override(text: str) -> Override:
    """Parse one override.

    Raises:
        ValueError: if it does not follow the grammar; the message says what was expected.
    """
    match = _KEY.match(text.strip())
    if not match:
        raise ValueError(f"cannot read the override {text!r}: expected key=value, +key=value or ~key")
    mark, key, rest = match["mark"], match["key"], match["rest"]
    parts = [p for p in re.split(r"\.|\[|\]\.?", key) if p != ""]
    if not parts or key.startswith(".") or key.endswith(".") or ".." in key:
        raise ValueError(f"cannot read the key of the override {text!r}: names are separated by single dots")
    if mark == "~":
        if rest not in (None, "="):
            raise ValueError(f"cannot read the override {text!r}: deletion takes no value; write ~{key}")
        return Override("delete", parts, None)
    if rest is None:
        raise ValueError(
            f"the override {text!r} has no value: write {key}=VALUE, or ~{key} to delete the key"
        )
    try:
        value = parse_value(rest[1:])
    except ValueError as e:
        raise ValueError(f"cannot read the value of the override {text!r}: {e}") from None
    return Override("add" if mark else "set", parts, value)


def apply_overrides(cfg: "DictConfig", overrides: list[str]) -> "DictConfig":
    """See :meth:`detectron2.config.LazyConfig.apply_overrides`."""
    from omegaconf import OmegaConf, open_dict

    if not OmegaConf.is_config(cfg):
        raise TypeError(f"overrides apply to an omegaconf config, not to a {type(cfg).__name__}")
    # Parse all before applying the first, so that a mistake leaves the config unchanged.
    parsed = [parse_override(text) for text in overrides]
    for change in parsed:
        with open_dict(cfg):
            if change.action == "delete":
                _delete(cfg, change)
            else:
                _set(cfg, change)
    return cfg


def _set(cfg: "DictConfig", change: Override) -> None:
    from omegaconf import OmegaConf

    node = cfg
    for depth, part in enumerate(change.key[:-1]):
        here = ".".join(change.key[: depth + 1])
        if not _has(node, part):
            _check_spelling(node, part, change)
            node[_index(node, part, here)] = {}
        index = _index(node, part, here)
        if is_tuple_config(node[index]):  # cannot be changed in place
            _replace(node, index, list(node[index]))
        node = node[index]
        if not OmegaConf.is_config(node):
            raise UnknownNameError(f"cannot set {change.name}: {here} is {node!r}, which has no keys")
    last = change.key[-1]
    if not _has(node, last):
        _check_spelling(node, last, change)
    index = _index(node, last, change.name)
    old = node._get_node(index) if _has(node, last) else None
    if (
        isinstance(change.value, dict)
        and OmegaConf.is_dict(old)
        and not OmegaConf.is_interpolation(node, index)
    ):
        node[index] = OmegaConf.merge(old, change.value)
    else:
        _replace(node, index, change.value)


def _replace(node: Any, index: int | str, value: object) -> None:
    """Set an entry; remove a tuple first, since it would convert an assigned list to a tuple."""
    from omegaconf import OmegaConf

    if isinstance(value, list) and _has(node, str(index)) and is_tuple_config(node._get_node(index)):
        if OmegaConf.is_list(node):
            node.pop(index)
            node.insert(index, value)
            return
        del node[index]
    node[index] = value


def _delete(cfg: "DictConfig", change: Override) -> None:
    node = cfg
    for depth, part in enumerate(change.key[:-1]):
        if not _has(node, part):
            raise _no_key(change, node, part)
        node = node[_index(node, part, ".".join(change.key[: depth + 1]))]
    last = change.key[-1]
    if not _has(node, last):
        raise _no_key(change, node, last)
    if is_tuple_config(node):
        raise UnknownNameError(
            f"cannot delete {change.name}: entries of a tuple cannot be deleted; set the whole tuple"
        )
    users = _referring(cfg, change.key)
    if users:
        raise UnknownNameError(f"cannot delete {change.name}: {', '.join(users)} refers to it")
    del node[_index(node, last, change.name)]


def _no_key(change: Override, node: "_Node", part: str) -> KeyError:
    known = [str(k) for k in node] if hasattr(node, "keys") else [str(i) for i in range(len(node))]
    return UnknownNameError(f"cannot delete {change.name}: there is no {part!r}. {did_you_mean(part, known)}")


def _has(node: "_Node", part: str) -> bool:
    from omegaconf import OmegaConf

    if OmegaConf.is_list(node) or is_tuple_config(node):
        return part.lstrip("-").isdigit() and -len(node) <= int(part) < len(node)
    return OmegaConf.is_dict(node) and (part in node.keys() or _typed(node, part) in node.keys())


def _typed(node: "_Node", part: str) -> int | str:
    """Return the key in a dictionary whose keys are integers."""
    return int(part) if part.lstrip("-").isdigit() and int(part) in node.keys() else part


def _index(node: "_Node", part: str, place: str) -> int | str:
    from omegaconf import OmegaConf

    if OmegaConf.is_dict(node):
        return _typed(node, part)
    if not part.lstrip("-").isdigit():
        raise UnknownNameError(f"cannot set {place}: it is in a list, and {part!r} is not an index")
    if not -len(node) <= int(part) < len(node):
        raise UnknownNameError(
            f"cannot set {place}: the list has {len(node)} entries; give the whole list to make it longer"
        )
    return int(part)


def _check_spelling(node: "_Node", part: str, change: Override) -> None:
    """Refuse a new key that resembles an existing one, unless it is marked with "+"."""
    from omegaconf import OmegaConf

    if change.action == "add" or not OmegaConf.is_dict(node):
        return
    known = [str(k) for k in node.keys()]
    if misspelt(part, known):
        raise UnknownNameError(
            f"the config has no {change.name}. {did_you_mean(part, known)} "
            f"To add a new key, write +{change.name}=…"
        )
    logger.warning(
        "the config had no %s: added (write +%s=… to avoid this warning)", change.name, change.name
    )


def _referring(cfg: "DictConfig", key: list[str]) -> list[str]:
    """Return the places outside ``key`` whose interpolations refer to ``key`` or something below it."""
    from omegaconf import OmegaConf

    found: list[str] = []

    def visit(node: Any, path: list[str]) -> None:
        names = list(node.keys()) if OmegaConf.is_dict(node) else list(range(len(node)))
        for name in names:
            child = node._get_node(name)
            place = [*path, str(name)]
            if place[: len(key)] == key:
                continue
            raw = child._value() if child is not None else None
            if isinstance(raw, str) and "${" in raw:
                if any(_leads_to(ref, place, key) for ref in re.findall(r"\$\{([^${}]*)\}", raw)):
                    found.append(".".join(place))
            elif OmegaConf.is_config(child) and raw is not None:
                visit(child, place)

    visit(cfg, [])
    return found


def _leads_to(reference: str, place: list[str], key: list[str]) -> bool:
    """Return whether an interpolation at ``place`` refers to ``key`` or something below it."""
    if ":" in reference:  # a resolver such as ${oc.env:HOME}
        return False
    dots = len(reference) - len(reference.lstrip("."))
    base = place[: len(place) - dots] if dots else []
    target = base + [p for p in re.split(r"\.|\[|\]", reference.lstrip(".")) if p]
    return target[: len(key)] == key
