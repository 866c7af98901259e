"""Classes and functions with explicit arguments that can also be called with a config."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from detectron2.utils.errors import BadAttribute, BadType

from .yacs.cfg_node import BaseNode

__all__ = ["configurable"]


def configurable(
    init_func: Callable[..., None] | None = None, *, from_config: Callable[..., Any] | None = None
) -> Any:
    """Let a class or function with explicit arguments also be called with a config.

    For ``__init__``, the class method ``from_config(cls, cfg, …)`` converts a config to arguments::

        class A:
            @configurable
            def __init__(self, a, b=2): ...

            @classmethod
            def from_config(cls, cfg):
                return {"a": cfg.A}

        A(a=1)            # explicit arguments
        A(cfg)            # a = cfg.A
        A(cfg, b=3)       # explicit arguments have priority

    For a function, pass the conversion to the decorator: ``@configurable(from_config=lambda cfg: {…})``.

    The config must be the first positional argument, or the argument ``cfg``, and a ``CfgNode`` or an omegaconf
    dictionary. Other arguments are passed to ``from_config`` if it has parameters with these names (or variable
    arguments), otherwise directly to the function.

    Args:
        init_func: the ``__init__`` to wrap; its class must have ``from_config``.
        from_config: conversion for a function; its first parameter must be called ``cfg``.

    Raises:
        AttributeError: if a class is called with a config but has no ``from_config``.
        TypeError: if ``from_config`` is not a class method or its first parameter is not ``cfg``, or if ``init_func`` is
            not an ``__init__``.
    """
    if init_func is not None:
        if from_config is not None or not inspect.isfunction(init_func) or init_func.__name__ != "__init__":
            raise BadType("use @configurable on __init__, or @configurable(from_config=…) on a function")
        return _wrap_init(init_func)
    if from_config is None:
        return configurable
    if not inspect.isfunction(from_config) and not inspect.ismethod(from_config):
        raise BadType(f"from_config must be a function, got {from_config!r}")
    _check_first_parameter(from_config, "from_config")
    return functools.partial(_wrap_function, translate=from_config)


def _wrap_init(init: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(init)
    def wrapped(self: object, *args: object, **kwargs: object) -> None:
        if not _given_config(args, kwargs):
            init(self, *args, **kwargs)
            return
        cls = type(self)
        translate = getattr(cls, "from_config", None)
        if translate is None:
            raise BadAttribute(
                f"{cls.__name__} was called with a config, but has no class method from_config(cls, cfg, …)"
            )
        if not inspect.ismethod(translate):
            raise BadType(f"{cls.__name__}.from_config must be a class method: from_config(cls, cfg, …)")
        _check_first_parameter(translate, f"{cls.__name__}.from_config")
        init(self, **_arguments(translate, args, kwargs))

    return wrapped


def _wrap_function(function: Callable[..., Any], translate: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapped(*args: object, **kwargs: object) -> Any:
        if _given_config(args, kwargs):
            return function(**_arguments(translate, args, kwargs))
        return function(*args, **kwargs)

    wrapped.from_config = translate  # type: ignore[attr-defined]
    return wrapped


def _check_first_parameter(translate: Callable[..., Any], name: str) -> None:
    first = next(iter(inspect.signature(translate).parameters), None)
    if first != "cfg":
        raise BadType(
            f"{name} must take the config as its first parameter, called cfg; it is called {first!r}"
        )


def _given_config(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    return (bool(args) and _is_config(args[0])) or _is_config(kwargs.get("cfg"))


def _is_config(value: object) -> bool:
    if isinstance(value, BaseNode):
        return True
    # Check the module name first, so that plain calls never import omegaconf.
    if not type(value).__module__.startswith("omegaconf"):
        return False
    from omegaconf import DictConfig

    return isinstance(value, DictConfig)


def _arguments(
    translate: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, Any]:
    """Convert the config, and merge the arguments that belong to the function itself."""
    parameters = inspect.signature(translate).parameters.values()
    named = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    takes_any = any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters)
    if takes_any:
        result = translate(*args, **kwargs)
        rest: dict[str, Any] = {}
    else:
        rest = {k: v for k, v in kwargs.items() if k not in named}
        result = translate(*args, **{k: v for k, v in kwargs.items() if k in named})
    if not isinstance(result, Mapping):
        raise BadType(
            f"{translate.__qualname__} must return a dictionary of arguments, it returned {type(result).__name__}"
        )
    return {**result, **rest}
