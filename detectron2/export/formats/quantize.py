"""int8: ranges of activations are measured on pictures, then convolutions and matrix products run on 8 bits."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from .base import optional

__all__ = ["quantize_onnx", "quantize_openvino"]

# Left as they are by OpenVINO: arithmetic on coordinates needs more than 8 bits, and convolutions take most of the time.
_EXACT = [
    "Add",
    "Subtract",
    "Multiply",
    "Divide",
    "MaxPool",
    "AvgPool",
    "Interpolate",
    "Concat",
    "ReduceMean",
    "Clamp",
]


def quantize_onnx(path: Path, images: Sequence[Tensor]) -> None:
    """Quantize an ONNX file in place, by ONNX Runtime.

    Args:
        path: of the file.
        images: to measure ranges on.
    """
    quantization = optional("onnxruntime.quantization", "int8")
    preparation = optional("onnxruntime.quantization.shape_inference", "int8")
    runtime = optional("onnxruntime", "int8")
    runtime.set_default_logger_severity(3)  # it warns of each constant that it cannot fold
    whole = path.with_name("whole-" + path.name)
    # Folds norms into convolutions and constants into one another. Sizes that are symbols are no matter.
    preparation.quant_pre_process(str(path), str(whole), skip_symbolic_shape=True)
    quantization.quantize_static(
        str(whole),
        str(path),
        _Reader(images),
        quant_format=quantization.QuantFormat.QDQ,
        op_types_to_quantize=["Conv", "Gemm", "MatMul"],
        per_channel=True,
        weight_type=quantization.QuantType.QInt8,
        activation_type=quantization.QuantType.QUInt8,
    )
    whole.unlink()


class _Reader:
    """Pictures, one at a time, as ONNX Runtime's calibration asks for them."""

    def __init__(self, images: Sequence[Tensor]) -> None:
        self._rest = iter(images)

    def get_next(self) -> dict[str, Any] | None:
        image = next(self._rest, None)
        return None if image is None else {"image": image.numpy()}

    def __len__(self) -> int:
        return 0

    def set_range(self, start_index: int, end_index: int) -> None:
        """Nothing: all pictures are read in order."""


def quantize_openvino(model: Any, images: Sequence[Tensor]) -> Any:
    """Return an OpenVINO model quantized by NNCF.

    Args:
        model: of OpenVINO.
        images: to measure ranges on.
    """
    nncf = optional("nncf", "int8 for OpenVINO")
    nncf.set_log_level(logging.WARNING)  # else it names each operation that it leaves as it is
    data = nncf.Dataset(list(images), lambda image: image.numpy())
    return nncf.quantize(
        model,
        data,
        subset_size=len(images),
        preset=nncf.QuantizationPreset.MIXED,
        ignored_scope=nncf.IgnoredScope(types=_EXACT, validate=False),
    )
