"""Save a config to YAML from which it can be instantiated again, as far as possible."""

import dataclasses
import functools
import logging
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import cloudpickle
import yaml

from detectron2.utils.file_io.atomic import atomic_write
from detectron2.utils.registry import locate

from ..instantiate import TARGET, dump_dataclass
from .targets import not_saved, partial_of, target_name

__all__ = ["save", "to_plain", "to_text"]

logger = logging.getLogger(__name__)


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:
        return True  # write repeated lists out: &id001 is hard to read and edit


def save(cfg: object, filename: str) -> None:
    """See :meth:`detectron2.config.LazyConfig.save`."""
    lost: list[str] = []
    text = to_text(cfg, lost)
    if lost:
        places, side = ", ".join(lost), f"{filename}.pkl"
        text = f"# Not complete: YAML cannot hold {places}. The whole config is in {os.path.basename(side)}\n{text}"
        logger.warning(
            "%s is incomplete: YAML cannot hold %s; the whole config is in %s", filename, places, side
        )
        with atomic_write(side, "wb") as f:
            cloudpickle.dump(cfg, f)
    with atomic_write(filename) as f:
        f.write(text)


def to_text(cfg: object, lost: list[str]) -> str:
    """Convert a config to YAML text, and add the places that YAML cannot hold to ``lost``."""
    from omegaconf import OmegaConf, SCMode

    tree = cfg
    if OmegaConf.is_config(cfg):
        tree = OmegaConf.to_container(cfg, resolve=False, structured_config_mode=SCMode.INSTANTIATE)
    plain = to_plain(tree, lost)
    return str(yaml.dump(plain, Dumper=_Dumper, default_flow_style=None, allow_unicode=True, width=9999))


def to_plain(value: object, lost: list[str], place: str = "") -> Any:
    """Convert ``value`` to what YAML can hold; other objects become calls that recreate them.

    Args:
        value: a container without omegaconf nodes.
        lost: the places of objects that cannot be written are added; they are replaced by a call of ``not_saved``.
        place: dotted path of ``value``.
    """
    if isinstance(value, Mapping):
        content = {}
        for k, v in value.items():
            if k == TARGET and not isinstance(v, (str, Mapping)):
                content[k] = _plain_target(v, lost, _join(place, k))
            else:
                content[k] = to_plain(v, lost, _join(place, k))
        return content
    if isinstance(value, (list, tuple)):
        return [to_plain(v, lost, _join(place, i)) for i, v in enumerate(value)]
    if value is None or type(value) in (str, int, float, bool):
        return value
    return _plain_object(value, lost, place)


def _join(place: str, key: object) -> str:
    return f"{place}.{key}" if place else str(key)


def _findable(value: object) -> str | None:
    """Return the dotted path by which ``locate`` finds this object; None if there is none."""
    if not hasattr(value, "__qualname__") or not hasattr(value, "__module__"):
        return None
    name = target_name(value)
    try:
        found = locate(name)
    except ImportError:
        return None
    same = found is value or (found == value and getattr(value, "__self__", None) is not None)
    return name if same else None


def _plain_target(target: object, lost: list[str], place: str) -> object:
    name = _findable(target)
    if name is not None:
        return name
    return to_plain(target, lost, place)


def _plain_object(value: object, lost: list[str], place: str) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_plain(dump_dataclass(value), lost, place)
    if isinstance(value, functools.partial):
        call = {"function": value.func, "args": list(value.args), "keywords": dict(value.keywords)}
        return {
            TARGET: target_name(partial_of),
            **to_plain({k: v for k, v in call.items() if v}, lost, place),
        }
    name = _findable(value)
    if name is None and type(value).__module__ == "torch":
        name = str(value)  # torch.float32 and torch.channels_last are printed as their dotted path
    if name is not None:
        return {TARGET: "detectron2.utils.registry.locate", "name": name}
    builder = _plain_builtin(value)
    if builder is not None:
        return builder
    lost.append(place)
    kind = target_name(value) if hasattr(value, "__qualname__") else target_name(type(value))
    return {TARGET: target_name(not_saved), "what": f"{place} ({kind})"}


def _plain_builtin(value: object) -> object:
    """Convert paths and NumPy scalars to plain values; return None for other objects."""
    if isinstance(value, pathlib.PurePath):
        return str(value)
    if hasattr(value, "item") and type(value).__module__ == "numpy" and getattr(value, "ndim", 1) == 0:
        return value.item()
    return None
