"""Instantiate objects from dictionaries that describe calls."""

import dataclasses
import inspect
import logging
from collections.abc import Callable, Mapping
from typing import Any

from detectron2.utils.errors import BadType
from detectron2.utils.reexports import passed_on
from detectron2.utils.suggest import did_you_mean

from .python.targets import (
    UntrustedTargetError,
    check_arguments,
    remember_name,
    resolve,
    target_name,
    trusted,
)

__all__ = ["dump_dataclass", "instantiate"]

__getattr__ = passed_on(__name__)

TARGET = "_target_"
RECURSIVE = "_recursive_"


def instantiate(cfg: object, *, trust: bool = False) -> Any:
    """Execute the calls that a config describes.

    A mapping with the key ``_target_`` describes a call: the value is a callable or its dotted path, the other keys
    are its arguments, which are instantiated first unless ``_recursive_`` is False. Lists and mappings that contain
    calls are returned with the results in their places.

    Args:
        cfg: an omegaconf config, or plain dictionaries and lists. Interpolations are resolved.
        trust: let the config name any callable. By default a dotted path must name a part of a model, of its data or
            of its training, or something of your own program (docs/security.md), since config files may come from
            others. Callables in Python configs need no trust.

    Returns:
        The result of the call, or ``cfg`` if it describes no call. omegaconf lists remain omegaconf lists, tuples remain
        tuples, dataclass nodes become dataclass objects.

    Raises:
        ImportError: if a target cannot be found.
        UntrustedTargetError: if a dotted path names something that config files may not call.
        TypeError: if a target is not callable, or an argument is missing or unknown; the message states the place in
            the config, the target and the argument.
        Exception: any error of a target, with a note that states its place in the config.

    Example::

        instantiate({"_target_": "torch.nn.Conv2d", "in_channels": 3, "out_channels": 8, "kernel_size": 1})
    """
    with trusted(trust):
        return _build(cfg, _place_of(cfg))


def dump_dataclass(obj: object) -> dict[str, Any]:
    """Describe a dataclass object as a call from which :func:`instantiate` creates an equal one.

    Args:
        obj: an instance; its fields may be dataclass objects or lists of them.

    Raises:
        TypeError: if it is not an instance of a dataclass.
    """
    if not dataclasses.is_dataclass(obj) or isinstance(obj, type):
        raise BadType(f"expected an instance of a dataclass, got {obj!r}")
    content: dict[str, Any] = {TARGET: remember_name(target_name(type(obj)))}
    for field in dataclasses.fields(obj):
        content[field.name] = _dump_value(getattr(obj, field.name))
    return content


def _dump_value(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dump_dataclass(value)
    if isinstance(value, (list, tuple)):
        return [_dump_value(v) for v in value]
    return value


# ------------------------------------------------------------ kinds of nodes
_SEQUENCES = ("ListConfig", "TupleConfig")


def is_tuple_config(value: object) -> bool:
    """Return whether this is the immutable node in which omegaconf stores tuples since version 2.4."""
    return type(value).__name__ == "TupleConfig" and _is_omega(value)


def _is_omega(value: object) -> bool:
    return type(value).__module__.startswith("omegaconf")


def _place_of(cfg: Any) -> str:
    """Return the dotted path of an omegaconf node in its tree, "" for the root."""
    keys: list[str] = []
    node = cfg if _is_omega(cfg) else None
    while node is not None and node._get_parent() is not None:
        keys.insert(0, str(node._key()))
        node = node._get_parent()
    return ".".join(keys)


def _join(place: str, key: object) -> str:
    return f"{place}.{key}" if place else str(key)


def _build(cfg: Any, place: str) -> Any:
    if _is_omega(cfg):
        from omegaconf import ListConfig, OmegaConf

        if is_tuple_config(cfg):
            return tuple(_detached(_build(v, _join(place, i))) for i, v in enumerate(cfg))
        if OmegaConf.is_list(cfg):
            items = [_detached(_build(v, _join(place, i))) for i, v in enumerate(cfg)]
            return ListConfig(items, flags={"allow_objects": True})
        if OmegaConf.is_dict(cfg) and dataclasses.is_dataclass(OmegaConf.get_type(cfg)) and TARGET not in cfg:
            return OmegaConf.to_object(cfg)
    if type(cfg) in (list, tuple):
        return type(cfg)(_build(v, _join(place, i)) for i, v in enumerate(cfg))
    if isinstance(cfg, Mapping) and TARGET in cfg:
        return _call(cfg, place)
    if _has_calls(cfg):
        return _build_mapping(cfg, place)
    return cfg


def _has_calls(cfg: object) -> bool:
    """Return whether a plain mapping contains a description of a call."""
    if type(cfg) is not dict and not _is_omega(cfg):
        return False
    if not isinstance(cfg, Mapping):
        return False
    for key in cfg:
        if _is_omega(cfg) and _is_interpolation(cfg, key):
            continue  # its target is built at its own place
        value = cfg[key]
        items = value if type(value) in (list, tuple) or type(value).__name__ in _SEQUENCES else [value]
        if any(isinstance(v, Mapping) and (TARGET in v or _has_calls(v)) for v in items):
            return True
    return False


def _is_interpolation(cfg: object, key: Any) -> bool:
    from omegaconf import OmegaConf

    return OmegaConf.is_interpolation(cfg, key) or OmegaConf.is_missing(cfg, key)


def _build_mapping(cfg: Mapping[Any, Any], place: str) -> object:
    content = {k: _detached(_build(v, _join(place, k))) for k, v in cfg.items()}
    if not _is_omega(cfg):
        return content
    from omegaconf import DictConfig

    return DictConfig(content, flags={"allow_objects": True})


def _detached(value: object) -> object:
    """Return a config node with its interpolations resolved, so that it does not depend on its tree."""
    if not _is_omega(value):
        return value
    from omegaconf import OmegaConf

    if not OmegaConf.is_config(value):
        return value
    plain = OmegaConf.to_container(value, resolve=True)
    return OmegaConf.create(plain, flags={"allow_objects": True})  # type: ignore[arg-type]


# ------------------------------------------------------------ calling
def _call(cfg: Mapping[Any, Any], place: str) -> object:
    target = _find_target(cfg[TARGET], place)
    recursive = cfg.get(RECURSIVE, True)
    arguments = {
        k: _build(v, _join(place, k)) if recursive else v
        for k, v in cfg.items()
        if k not in (TARGET, RECURSIVE)
    }
    check_arguments(target, arguments)
    where = f"{place or 'config'}: {target_name(target)}"
    try:
        return target(**arguments)
    except TypeError as e:
        problem = _mismatch(target, arguments)
        if problem:
            raise BadType(f"{where} {problem}") from e
        _annotate(e, where)
        raise
    except Exception as e:
        _annotate(e, where)
        raise


def _find_target(target: object, place: str) -> Callable[..., Any]:
    if isinstance(target, Mapping):
        target = _build(target, _join(place, TARGET))
    if isinstance(target, str):
        try:
            target = resolve(target)
        except (ImportError, UntrustedTargetError) as e:
            raise type(e)(f"{_join(place, TARGET)}: {e}") from e
    if not callable(target):
        raise BadType(f"{_join(place, TARGET)} must be a callable or its dotted path, got {target!r}")
    return target  # type: ignore[no-any-return]


def _mismatch(target: Callable[..., Any], arguments: Mapping[str, Any]) -> str:
    """Describe missing and unknown arguments; empty if there are none, or if the signature is unknown."""
    try:
        parameters = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):
        return ""
    by_name = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    names = [p.name for p in by_name]
    problems = []
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        free = [n for n in names if n not in arguments]
        problems += [f"has no argument {k!r}. {did_you_mean(k, free)}" for k in arguments if k not in names]
    missing = [p.name for p in by_name if p.default is p.empty and p.name not in arguments]
    if missing:
        problems.append(f"needs the argument{'s' * (len(missing) > 1)} {', '.join(map(repr, missing))}")
    return " and ".join(problems)


def _annotate(error: Exception, where: str) -> None:
    text = f"(while instantiating {where})"
    if hasattr(error, "add_note"):
        error.add_note(text)
    else:  # Python 3.10
        logging.getLogger(__name__).error("%s: %s", text, error)
