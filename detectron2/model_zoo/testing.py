"""Helpers for tests of models and of code built on them."""

from __future__ import annotations

import io
import os
import tempfile
import unittest
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from omegaconf import DictConfig

from detectron2.config import CfgNode, LazyConfig, instantiate
from detectron2.data import DatasetCatalog
from detectron2.data.detection_utils import read_image
from detectron2.engine.run_config import run_config
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances, ROIMasks
from detectron2.utils.torch_version_utils import min_torch_version

from . import model_zoo

_T = TypeVar("_T", bound=Callable[..., Any] | type)

__all__ = [
    "Boxes",
    "CfgNode",
    "DatasetCatalog",
    "Instances",
    "LazyConfig",
    "ROIMasks",
    "assert_instances_allclose",
    "build_model",
    "convert_scripted_instances",
    "get_model_no_weights",
    "get_sample_coco_image",
    "has_dynamic_axes",
    "instantiate",
    "min_torch_version",
    "random_boxes",
    "read_image",
    "register_custom_op_onnx_export",
    "reload_lazy_config",
    "reload_script_model",
    "skipIfOnCPUCI",
    "skipIfUnsupportedMinOpsetVersion",
    "skipIfUnsupportedMinTorchVersion",
    "unregister_custom_op_onnx_export",
]


def get_model_no_weights(config_path: str) -> torch.nn.Module:
    """Build a model of the zoo with random weights, on the GPU if there is one.

    Args:
        config_path: as for ``model_zoo.get_config``.
    """
    run = run_config(model_zoo.get_config(config_path))
    run.put(device="cuda" if torch.cuda.is_available() else "cpu")
    return run.model()


def random_boxes(num_boxes: int, max_coord: float = 100, device: torch.device | str = "cpu") -> torch.Tensor:
    """Draw random boxes ``[N, 4]`` XYXY.

    Args:
        num_boxes: N.
        max_coord: corners lie below; the upper left ones in the first half of the range.
        device: of the result.
    """
    corner = torch.rand(num_boxes, 2, device=device) * (max_coord * 0.5)
    size = 1 + torch.rand(num_boxes, 2, device=device) * max(max_coord * 0.5 - 1, 0.0)
    return torch.cat([corner, corner + size], dim=1)


def get_sample_coco_image(tensor: bool = True) -> torch.Tensor | np.ndarray:
    """Load an image of the size of COCO's: one of ``coco_2017_val_100`` if it is there, else a drawn one.

    Args:
        tensor: return a tensor ``[3, height, width]``; else an array ``[height, width, 3]``.

    Returns:
        BGR, uint8.
    """
    try:
        image = read_image(DatasetCatalog.get("coco_2017_val_100")[0]["file_name"], format="BGR")
    except (KeyError, FileNotFoundError, OSError):
        image = _drawn_image()
    image = np.ascontiguousarray(image)
    return torch.from_numpy(image.transpose(2, 0, 1).copy()) if tensor else image


def _drawn_image(height: int = 480, width: int = 640) -> np.ndarray:
    """Discs of several colours on a soft background; the same in every run."""
    rng = np.random.default_rng(0)
    ys, xs = np.mgrid[:height, :width]
    image = np.stack(
        [96 + 64 * np.sin(xs / 90), 96 + 64 * np.cos(ys / 70), 128 + 48 * np.sin((xs + ys) / 120)], axis=2
    )
    for _ in range(12):
        x, y, radius = rng.uniform([0, 0, 15], [width, height, 90])
        image[(xs - x) ** 2 + (ys - y) ** 2 < radius**2] = rng.uniform(0, 255, 3)
    noisy = image + rng.normal(0, 6, image.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)


def convert_scripted_instances(instances: Any) -> Instances:
    """``Instances`` from any object with an ``image_size`` and fields, such as one made by exported code."""
    fields = instances.get_fields() if hasattr(instances, "get_fields") else vars(instances)
    converted = Instances(instances.image_size)
    for name, value in fields.items():
        bare = name.lstrip("_")
        if bare != "image_size" and value is not None:
            converted.set(bare, value)
    return converted


def assert_instances_allclose(
    input: Instances, other: Instances, *, rtol: float = 1e-5, msg: str = "", size_as_tensor: bool = False
) -> None:
    """Assert that two ``Instances`` have the same size, fields and values.

    Args:
        input: the one.
        other: the other.
        rtol: relative tolerance of numbers that are not whole; for boxes and masks, of the image size and of 1.
        msg: put before the message of a failure.
        size_as_tensor: compare the image sizes as numbers, whatever their type.
    """
    prefix = f"{msg}: " if msg else ""
    sizes = [tuple(int(v) for v in i.image_size) if size_as_tensor else i.image_size for i in (input, other)]
    if sizes[0] != sizes[1]:
        raise AssertionError(f"{prefix}image sizes are {sizes[0]} and {sizes[1]}")
    names = [sorted(i.get_fields()) for i in (input, other)]
    if names[0] != names[1]:
        raise AssertionError(f"{prefix}fields are {names[0]} and {names[1]}")
    extent = float(max(int(v) for v in input.image_size))
    for name in names[0]:
        _assert_field_close(f"{prefix}field {name!r}", input.get(name), other.get(name), rtol, extent)


def _assert_field_close(what: str, a: Any, b: Any, rtol: float, extent: float) -> None:
    if type(a) is not type(b):
        raise AssertionError(f"{what}: types are {type(a).__name__} and {type(b).__name__}")
    if not isinstance(a, torch.Tensor) and hasattr(a, "tensor"):
        atol = rtol * extent if "Boxes" in type(a).__name__ else rtol
        a, b = a.tensor, b.tensor
    else:
        atol = rtol
    if not isinstance(a, torch.Tensor):
        if a != b:
            raise AssertionError(f"{what}: {a!r} is not {b!r}")
        return
    if a.shape != b.shape:
        raise AssertionError(f"{what}: shapes are {tuple(a.shape)} and {tuple(b.shape)}")
    if a.is_floating_point():
        torch.testing.assert_close(a, b, rtol=rtol, atol=atol, msg=lambda m: f"{what}: {m}")
    elif not torch.equal(a, b):
        raise AssertionError(f"{what}: {int((a != b).sum())} of {a.numel()} values differ")


def reload_script_model(module: object) -> object:
    """Save a program and load it again.

    Args:
        module: from ``torch.export.export``, or a module of TorchScript.
    """
    buffer = io.BytesIO()
    if isinstance(module, torch.export.ExportedProgram):
        torch.export.save(module, buffer)
        buffer.seek(0)
        return torch.export.load(buffer)
    torch.jit.save(module, buffer)
    buffer.seek(0)
    return torch.jit.load(buffer)


def reload_lazy_config(cfg: DictConfig) -> DictConfig:
    """Save a LazyConfig and load it again."""
    with tempfile.TemporaryDirectory(prefix="detectron2") as folder:
        path = Path(folder) / "config.yaml"
        LazyConfig.save(cfg, str(path))
        return LazyConfig.load(str(path))


def has_dynamic_axes(onnx_model: Any) -> bool:
    """Return whether an input of an ONNX model has a size that is named, and not a number."""
    return any(
        dim.dim_param and not dim.dim_param.isnumeric()
        for node in onnx_model.graph.input
        for dim in node.type.tensor_type.shape.dim
    )


_NO_SYMBOLIC = (
    "symbolic functions belong to the exporter on TorchScript, which torch has given up; pass "
    "torch.onnx.export(..., dynamo=True, custom_translation_table={op: function})"
)


def register_custom_op_onnx_export(
    opname: str, symbolic_fn: Callable, opset_version: int, min_version: str
) -> None:
    """Not available: torch's exporter takes a translation table in its place.

    Raises:
        NotImplementedError: always, with the replacement.
    """
    raise NotImplementedError(f"cannot register {opname!r}: {_NO_SYMBOLIC}")


def unregister_custom_op_onnx_export(opname: str, opset_version: int, min_version: str) -> None:
    """Nothing is ever registered, and so there is nothing to undo."""


def skipIfUnsupportedMinOpsetVersion(
    min_opset_version: int, current_opset_version: int | None = None
) -> Callable[[Callable], Callable]:
    """Decorator: skip a test when the opset is too old.

    Args:
        min_opset_version: the oldest opset that serves.
        current_opset_version: the opset in use; None for torch's default, which is 18 or newer.
    """
    current = 18 if current_opset_version is None else current_opset_version
    return unittest.skipIf(current < min_opset_version, f"needs opset {min_opset_version}, this is {current}")


def skipIfUnsupportedMinTorchVersion(min_version: str) -> Callable[[Callable], Callable]:
    """Decorator: skip a test when torch is too old.

    Args:
        min_version: the oldest version that serves.
    """
    reason = f"needs torch {min_version}, this is {torch.__version__}"
    return unittest.skipIf(not min_torch_version(min_version), reason)


def skipIfOnCPUCI(test: _T) -> _T:
    """Skip a slow test where continuous integration (``CI=1``) runs without a GPU."""
    slow = os.environ.get("CI") is not None and not torch.cuda.is_available()
    return unittest.skipIf(slow, "too slow without a GPU")(test)
