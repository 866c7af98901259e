"""Resolve the name in a ``_target_``, which may come from an untrusted file, to a callable.

A config file is data, so that a name in it must not run arbitrary code. :func:`resolve` finds

* components of models, data and evaluations of this package, layers and optimizers of torch, models and operators of
  torchvision and timm (:data:`PARTS`);
* callables of the program itself, defined in an imported module that is not installed software;
* classes of installed software that inherit from models, data sets, optimizers or classes of this package, if the
  program has imported their module;
* names that a Python program itself has given to a ``LazyCall``.

It imports nothing else, and never finds the standard library (except plain containers), loaders of code, or attributes
of objects. Everything else needs :func:`trusted`.
"""

import dataclasses
import functools
import importlib
import inspect
import os
import site
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any

from detectron2.utils.registry import _convert_target_to_string, locate
from detectron2.utils.suggest import did_you_mean

__all__ = [
    "UntrustedTargetError",
    "check_arguments",
    "current_name",
    "partial_of",
    "remember_name",
    "resolve",
    "target_name",
    "trusted",
]

# Locations of names that Detectron2 took from fvcore and iopath, and of those of detrex: (old prefix, new module). The
# first match is used; the last part of the name is looked up in the new module.
ALIASES: tuple[tuple[str, str], ...] = (
    ("fvcore.common.param_scheduler.", "detectron2.solver.param_scheduler"),
    ("fvcore.common.checkpoint.", "detectron2.checkpoint"),
    ("fvcore.common.config.", "detectron2.config"),
    ("fvcore.common.registry.", "detectron2.utils.registry"),
    ("fvcore.common.timer.", "detectron2.utils.events"),
    ("fvcore.common.history_buffer.", "detectron2.utils.events"),
    ("fvcore.common.file_io.", "detectron2.utils.file_io"),
    ("fvcore.transforms.", "detectron2.data.transforms"),
    ("fvcore.nn.weight_init.", "detectron2.layers.weight_init"),
    ("fvcore.nn.", "detectron2.layers.losses"),
    ("iopath.common.file_io.", "detectron2.utils.file_io"),
    ("detrex.", "detectron2.projects.dino"),
    ("projects.dino.", "detectron2.projects.dino"),
    ("projects.deformable_detr.", "detectron2.projects.dino"),
    # Saved configs refer to functions and types by a call of `locate`, which finds anything; `reference` checks first.
    ("detectron2.utils.registry.locate", "detectron2.config.python.targets.reference"),
)

# Packages that config files may name: all classes and functions, only classes, or only torch modules.
PARTS = {
    "detectron2.layers": "all",
    "detectron2.structures": "all",
    "detectron2.modeling": "all",
    "detectron2.solver": "all",
    "detectron2.data": "classes",
    "detectron2.evaluation": "classes",
    "detectron2.projects": "classes",
    "detectron2.tracking": "classes",
    "torch.nn": "modules",
    "torch.optim": "classes",
    "torchvision.models": "all",
    "torchvision.ops": "all",
    "torchvision.transforms": "classes",
    "timm.layers": "modules",
    "timm.models": "modules",
}
# Callables outside those packages that configs may name: plain containers, and functions that read or build data.
FUNCTIONS = {
    "builtins.dict",
    "builtins.list",
    "builtins.set",
    "builtins.tuple",
    "collections.Counter",
    "collections.OrderedDict",
    "detectron2.config.config.get_cfg",
    "detectron2.config.python.targets.partial_of",
    "detectron2.config.python.targets.reference",
    "detectron2.config.python.targets.not_saved",
    "detectron2.data.build.build_detection_test_loader",
    "detectron2.data.build.build_detection_train_loader",
    "detectron2.data.build.get_detection_dataset_dicts",
    "detectron2.data.detection_utils.build_augmentation",
    "detectron2.data.metadata_facts.get_fed_loss_cls_weights",
    "detectron2.data.samplers.distributed_sampler.RepeatFactorTrainingSampler.repeat_factors_from_category_frequency",
    "timm.models._factory.create_model",
}
# Arguments with which a harmless callable would read a file that may contain code.
LOADING_ARGUMENTS = {"checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay", "custom_load"}
_TRUST: ContextVar[bool] = ContextVar("trust", default=False)
_WRITTEN_BY_CODE: set[str] = set()


class UntrustedTargetError(ValueError, ImportError):
    """A config names a callable that an untrusted file could misuse; nothing was called."""


@contextmanager
def trusted(trust: bool = True) -> Iterator[None]:
    """Let configs name any callable inside the ``with`` block, for files that you would also run as programs.

    Args:
        trust: False changes nothing.
    """
    token = _TRUST.set(trust or _TRUST.get())
    try:
        yield
    finally:
        _TRUST.reset(token)


def remember_name(name: str) -> str:
    """Record that Python code, not a file, uses ``name`` as a target; return it."""
    _WRITTEN_BY_CODE.add(name)
    return name


def current_name(name: str) -> str:
    """Return the current path of a name in fvcore, iopath or detrex; return any other path unchanged."""
    for prefix, module in ALIASES:
        if name == prefix:
            return module
        if prefix.endswith(".") and name.startswith(prefix):
            return f"{module}.{name.rsplit('.', 1)[-1]}"
    return name


def resolve(name: str) -> Any:
    """Find the callable that a ``_target_`` names.

    Raises:
        ImportError: if there is none; the message lists similar names.
        UntrustedTargetError: if the rules of this module do not allow it.
    """
    today = current_name(name)
    try:
        if _TRUST.get() or name in _WRITTEN_BY_CODE:
            return locate(today)
        return _find_part(today)
    except ImportError as e:
        if today == name or isinstance(e, UntrustedTargetError):
            raise
        raise ImportError(f"{name} is {today} here, and: {e}") from e


def reference(name: str) -> Any:
    """Return the object called ``name``, by the rules of :func:`resolve`; saved configs call this."""
    torch = sys.modules.get("torch")
    if torch is not None and name.startswith("torch.") and name.count(".") == 1:
        value = getattr(torch, name[len("torch.") :], None)
        if isinstance(value, (torch.dtype, torch.memory_format, torch.layout)):
            return value
    return resolve(name)


def partial_of(
    function: str | Callable[..., Any],
    args: Sequence[Any] = (),
    keywords: Mapping[str, Any] | None = None,
) -> functools.partial[Any]:
    """Create a ``functools.partial`` from keyword arguments only; saved configs call this."""
    found = resolve(function) if isinstance(function, str) else function
    check_arguments(found, keywords or {})
    return functools.partial(found, *args, **(keywords or {}))


def not_saved(what: str) -> None:
    """Raise an error; saved configs call this in place of an object that YAML cannot hold."""
    raise ValueError(
        f"this config was saved without {what}; load its original file, or the .pkl file beside it if you trust it"
    )


def check_arguments(target: object, arguments: Mapping[str, Any]) -> None:
    """Refuse arguments that make a model library load a file that may contain code.

    Raises:
        UntrustedTargetError: if there is one and the config is not trusted.
    """
    if _TRUST.get() or not str(getattr(target, "__module__", "")).startswith(
        ("timm", "detectron2.modeling.backbone.timm")
    ):
        return
    found = sorted(LOADING_ARGUMENTS & set(arguments))
    name = str(arguments.get("model_name", arguments.get("name", "")))
    if found or ":" in name or "/" in name:
        what = f"the argument {found[0]}" if found else f"the model {name!r}"
        raise UntrustedTargetError(
            f"{target_name(target)}: {what} would read a file that may contain code. {_mend()}"
        )


def target_name(target: object) -> str:
    """Return the dotted path of a target, which may already be text."""
    if isinstance(target, str):
        return target
    if hasattr(target, "__module__") and hasattr(target, "__qualname__"):
        return _convert_target_to_string(target)  # type: ignore[arg-type]
    return repr(target)


# ---------------------------------------------------------------------------------------------- the rules
def _mend(module: str = "") -> str:
    imported = f"import {module} first (on the command line: --import {module}), or " if module else ""
    return (
        f"If the config is yours, {imported}trust it: instantiate(cfg, trust=True), `with "
        "detectron2.config.trusted():`, or --trust on the command line."
    )


def _find_part(name: str) -> Any:
    parts = name.split(".")
    if not all(p.isidentifier() for p in parts):
        raise ImportError(f"{name!r} is not a dotted path such as 'torch.nn.Conv2d'")
    if any(p.startswith("__") for p in parts[1:]):
        raise UntrustedTargetError(f"a config file may not name {name}. {_mend()}")
    module_name, rest = _split(parts)
    module = sys.modules[module_name]
    if not rest:
        raise ImportError(f"{name} is a module, not a callable")
    found: Any = module
    for i, part in enumerate(rest):
        if i > 0 and not isinstance(found, type):
            raise UntrustedTargetError(f"{name} is an attribute of an object. {_mend()}")
        try:
            found = getattr(found, part)
        except AttributeError:
            owner = ".".join([module_name, *rest[:i]])
            raise ImportError(
                f"cannot find {name!r}: {owner!r} has no {part!r}. {did_you_mean(part, dir(found))}"
            ) from None
    if not (_is_part(found) or _is_of_the_program(found)):
        raise UntrustedTargetError(f"a config file may not call {name}. {_mend()}")
    return found


def _split(parts: list[str]) -> tuple[str, list[str]]:
    """Split a path into its module and the rest; import only modules of :data:`PARTS`.

    Raises:
        ImportError: if a part of this package does not exist.
        UntrustedTargetError: if the program has not imported the module.
    """
    for size in range(len(parts) - 1, 0, -1):
        name = ".".join(parts[:size])
        if name in sys.modules:
            return name, parts[size:]
        if any(name == p or name.startswith(p + ".") for p in PARTS):
            try:
                importlib.import_module(name)
            except ModuleNotFoundError as e:
                if e.name is None or not (name == e.name or name.startswith(e.name + ".")):
                    raise ImportError(
                        f"importing {name!r} failed: it needs {e.name!r}, which is not installed"
                    ) from e
                if size == 1:
                    raise ImportError(f"{name!r} is not installed") from e
            else:
                return name, parts[size:]
    name = ".".join(parts)
    if parts[0] in sys.stdlib_module_names:
        raise UntrustedTargetError(f"a config file may not call {name}, which is part of Python. {_mend()}")
    raise UntrustedTargetError(
        f"a config file may not import {'.'.join(parts[:-1]) or name!r} for its target {name}. {_mend('.'.join(parts[:-1]))}"
    )


def _home(found: object) -> str:
    """Return the dotted path of the definition of a class, function or method; "" if it has none."""
    inner = getattr(found, "__func__", found)
    module, qualname = getattr(inner, "__module__", None), getattr(inner, "__qualname__", None)
    return f"{module}.{qualname}" if isinstance(module, str) and isinstance(qualname, str) else ""


def _is_part(found: object) -> bool:
    """Return whether any config may name a callable."""
    home = _home(found)
    if home in FUNCTIONS:
        return True
    if home.startswith(("torch.nn.functional.", "torch._C._nn.")) or _is_torch_function(found):
        return callable(found) and not isinstance(found, type)
    kind = next((k for p, k in PARTS.items() if home.startswith(p + ".")), None)
    if kind is None:
        return False
    if kind == "all":
        return isinstance(found, type) or inspect.isroutine(found)
    if not isinstance(found, type):
        return False
    return kind == "classes" or any(_home(base) == "torch.nn.modules.module.Module" for base in found.__mro__)


def _is_torch_function(found: object) -> bool:
    """Return whether this is a function of ``torch.nn.functional`` that is written in C."""
    functional = sys.modules.get("torch.nn.functional")
    name = getattr(found, "__name__", "")
    return inspect.isbuiltin(found) and getattr(functional, name, None) is found


_BASES = ("torch.nn.modules.", "torch.optim.", "torch.utils.data.", "detectron2.")


def _is_of_the_program(found: object) -> bool:
    """Return whether a callable belongs to the running program rather than to Python or installed software."""
    inner = getattr(found, "__func__", found)
    if not callable(found) or not (isinstance(inner, type) or inspect.isfunction(inner)):
        return False
    name = inner.__module__ or ""
    root = name.partition(".")[0]
    module = sys.modules.get(name)
    if (
        module is None
        or root in sys.stdlib_module_names - {"__main__"}
        or root in ("detectron2", "torch", "torchvision", "timm")
    ):
        return False
    if not _is_installed(getattr(module, "__file__", None)):
        return True
    return isinstance(inner, type) and (
        dataclasses.is_dataclass(inner) or any(_home(base).startswith(_BASES) for base in inner.__mro__[1:])
    )


def _is_installed(file: str | None) -> bool:
    """Return whether a module's file belongs to Python or to installed packages."""
    return file is not None and os.path.realpath(file).startswith(_installation())


@cache
def _installation() -> tuple[str, ...]:
    paths = {sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")}
    paths |= {*site.getsitepackages(), site.getusersitepackages()}
    return tuple(os.path.realpath(p) + os.sep for p in paths if p)
