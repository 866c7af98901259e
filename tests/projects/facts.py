"""What was recorded about the projects: configs, state dicts, and where their configs lie in this package."""

from __future__ import annotations

import functools
import gzip
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from detectron2 import projects

ZOO = Path(__file__).resolve().parents[1] / "parity" / "zoo"
# Folder of a project in Detectron2 -> its package here.
PACKAGES = {
    "DeepLab": "deeplab",
    "Panoptic-DeepLab": "panoptic_deeplab",
    "PointRend": "point_rend",
    "PointSup": "point_sup",
    "TridentNet": "tridentnet",
    "TensorMask": "tensormask",
    "ViTDet": "vitdet",
    "MViTv2": "mvitv2",
    "Rethinking-BatchNorm": "rethinking_batchnorm",
    "DensePose": "densepose",
}


def some_slow(names: Iterable[str], quick: Sequence[str]) -> list[Any]:
    """All names as parameters, the others than the quick ones slow: the same code serves all."""
    return [n if n in quick else pytest.param(n, marks=pytest.mark.slow) for n in names]


@functools.cache
def configs(kind: str) -> dict[str, Any]:
    """The recorded "yaml", "python" or "new_keys"."""
    found: dict[str, Any] = json.loads((ZOO / "projects_configs.json").read_text())[kind]
    return found


@functools.cache
def state_dicts() -> dict[str, dict[str, list[int]]]:
    """Names and shapes for each config."""
    groups = json.loads(gzip.decompress((ZOO / "projects_state_dicts.json.gz").read_bytes()))
    return {path: dict(group["state_dict"]) for group in groups for path in group["configs"]}


def config_file(name: str) -> str:
    """Path of the config ``Project/configs/…`` in this package."""
    project, _, rest = name.partition("/")
    return str(Path(projects.__file__).parent / PACKAGES[project] / rest)


def same_object(got: Any, want: str) -> bool:
    """Whether an object is the one that was printed as ``<module.name>``."""
    if want.endswith("<lambda>>"):  # a partial serves the same end and can be saved
        return callable(got)
    if want.startswith("<functools.functools.partial"):
        shown = [re.sub(r" at 0x[0-9a-f]+", "", text) for text in (f"<functools.{got!r}>", want)]
        return isinstance(got, functools.partial) and shown[0] == shown[1]
    moved = want.startswith(("<fvcore.", "<None.", "<builtins.", "<config."))
    name = got.__qualname__ if moved else f"{got.__module__}.{got.__qualname__}"
    return bool(name == (want[1:-1].rsplit(".", 1)[-1] if moved else want[1:-1]))


def differences(got: Any, want: Any, place: str = "") -> list[str]:
    """Places where a tree differs from the recorded one."""
    if isinstance(want, dict):
        if not isinstance(got, dict) or set(got) != set(want):
            return [f"{place}: keys {got if not isinstance(got, dict) else sorted(set(got) ^ set(want))}"]
        return [d for k in want for d in differences(got[k], want[k], f"{place}.{k}")]
    if isinstance(want, list):
        if not isinstance(got, (list, tuple)) or len(got) != len(want):
            return [f"{place}: {got} for {want}"]
        return [d for i, w in enumerate(want) for d in differences(got[i], w, f"{place}[{i}]")]
    if isinstance(want, str) and want.startswith("<"):
        return [] if same_object(got, want) else [f"{place}: {got} for {want[:80]}"]
    return [] if type(got) is type(want) and got == want else [f"{place}: {got!r} for {want!r}"]
