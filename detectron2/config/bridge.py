"""Showing and comparing configs of both kinds: for ``detectron2 config``."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from .key_table import COMPOUND, RULES, new_names, old_names
from .yacs.cfg_node import BaseNode

__all__ = ["Change", "diff", "flatten", "key_table", "load_any", "new_names", "old_names", "render"]


class Change(NamedTuple):
    """One difference between two configs; a side that lacks the key has ``MISSING``."""

    key: str
    left: Any
    right: Any


class _Missing:
    def __repr__(self) -> str:
        return "(not there)"


MISSING = _Missing()


def load_any(path: str, overrides: list[str] | None = None) -> Any:
    """Load a config file of either kind and apply command-line overrides.

    Args:
        path: a ``.py`` file; or a ``.yaml`` file, which is taken for a yacs-style config if its keys are upper case,
            and for a saved Python config otherwise.
        overrides: ``KEY VALUE`` pairs for a yacs-style config, ``key=value`` texts for a Python config.

    Returns:
        A ``CfgNode`` or an omegaconf dictionary.
    """
    from .config import get_cfg
    from .lazy import LazyConfig
    from .yacs.yaml_files import load_with_base

    changes = list(overrides or [])
    if not path.endswith(".py") and all(str(k).isupper() for k in load_with_base(path)):
        cfg = get_cfg()
        cfg.merge_from_file(path)
        cfg.merge_from_list(changes)
        return cfg
    return LazyConfig.apply_overrides(LazyConfig.load(path), changes)


def flatten(cfg: Any) -> dict[str, Any]:
    """Dotted keys and values of a config; calls and lists of calls in it are taken apart, other lists are values.

    Args:
        cfg: either kind. Interpolations are resolved.
    """
    if not isinstance(cfg, BaseNode):
        from omegaconf import OmegaConf, SCMode

        if OmegaConf.is_config(cfg):
            cfg = OmegaConf.to_container(cfg, resolve=True, structured_config_mode=SCMode.DICT)
    return dict(_leaves(cfg, ""))


def _leaves(value: Any, place: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and (value or not place):
        for key, inner in value.items():
            yield from _leaves(inner, f"{place}.{key}" if place else str(key))
    elif isinstance(value, (list, tuple)) and any(isinstance(v, Mapping) for v in value):
        for i, inner in enumerate(value):
            yield from _leaves(inner, f"{place}.{i}")
    elif place.endswith("_target_"):
        from .python.targets import target_name

        yield place, target_name(value)
    else:
        yield place, value


def diff(left: Any, right: Any) -> list[Change]:
    """What differs between two configs of the same kind, sorted by key; a list and a tuple of the same values agree.

    Raises:
        TypeError: if they are of different kinds; convert one first.
    """
    if isinstance(left, BaseNode) != isinstance(right, BaseNode):
        raise TypeError(
            "one config is yacs-style, the other a Python config: convert one before comparing them"
        )
    a, b = flatten(left), flatten(right)
    found = []
    for key in sorted({*a, *b}):
        x, y = a.get(key, MISSING), b.get(key, MISSING)
        if not _equal(x, y):
            found.append(Change(key, x, y))
    return found


def _equal(x: Any, y: Any) -> bool:
    if isinstance(x, (list, tuple)) and isinstance(y, (list, tuple)):
        return len(x) == len(y) and all(_equal(p, q) for p, q in zip(x, y))
    return type(x) is type(y) and bool(x == y) if isinstance(x, bool) or isinstance(y, bool) else bool(x == y)


def render(cfg: Any, form: str = "yaml") -> str:
    """A config as text.

    Args:
        cfg: either kind.
        form: "yaml"; or "py": assignments, with calls written as calls.

    Raises:
        ValueError: for another form.
    """
    if form not in ("yaml", "py"):
        raise ValueError(f"a config is shown as 'yaml' or 'py', not as {form!r}")
    if isinstance(cfg, BaseNode):
        return (
            cfg.dump()
            if form == "yaml"
            else "".join(f"cfg.{k} = {v!r}\n" for k, v in sorted(flatten(cfg).items()))
        )
    if form == "py":
        from .lazy import LazyConfig

        return LazyConfig.to_py(cfg)
    from .python.save import to_text

    return to_text(cfg, [])


def key_table() -> list[tuple[str, str, str]]:
    """Rows (yacs key, place in a Python config, note) for people, in the order of the table."""
    rows = [(rule.old, ", ".join(rule.new), "") for rule in RULES]
    return [*rows, *COMPOUND]
