"""Models as graphs that run without this package's Python code.

:func:`export_model` writes a whole model to a file of one of five formats and proves the file on pictures;
:func:`load_exported` runs such files. :func:`export_program` makes one ``torch.export`` graph of a whole model;
:class:`TracingAdapter` adapts any model with structured inputs and outputs to exporters that want tensors.
"""

import warnings
from typing import Any, TypeVar

from ._retired import RetiredError, retired_modules
from ._torch_export import export_program, load_program, save_program
from .exported import ExportedModel, is_exported, load_exported
from .flatten import TracingAdapter, flatten_to_tuple
from .proof import Agreement
from .sampling import with_sampling_ratio
from .torchscript import dump_torchscript_IR, scripting_with_instances
from .writing import ExportOptions, export_model

__all__ = [
    "STABLE_ONNX_OPSET_VERSION",
    "Agreement",
    "ExportOptions",
    "ExportedModel",
    "RetiredError",
    "TracingAdapter",
    "add_export_config",
    "dump_torchscript_IR",
    "export_model",
    "export_program",
    "flatten_to_tuple",
    "is_exported",
    "load_exported",
    "load_program",
    "save_program",
    "scripting_with_instances",
    "with_sampling_ratio",
]

T = TypeVar("T")

#: Operator set of ONNX that PyTorch's exporter writes without converting.
STABLE_ONNX_OPSET_VERSION = 18

_CAFFE2_MODULES = (
    "api",
    "c10",
    "caffe2_export",
    "caffe2_inference",
    "caffe2_modeling",
    "caffe2_patch",
    "shared",
)
_CAFFE2_NAMES = ("Caffe2Model", "Caffe2Tracer", "export_caffe2_model", "export_onnx_model")
_CAFFE2 = retired_modules(__name__, _CAFFE2_MODULES)


def add_export_config(cfg: T) -> T:
    """Return ``cfg`` unchanged and warn: exporting needs no config keys.

    Args:
        cfg: any config.
    """
    warnings.warn(
        "add_export_config does nothing, as exporting needs no config keys; leave the call out",
        DeprecationWarning,
        stacklevel=2,
    )
    return cfg


def __getattr__(name: str) -> Any:
    if name in _CAFFE2_MODULES:
        return _CAFFE2[name]
    if name in _CAFFE2_NAMES:
        return getattr(_CAFFE2["api"], name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
