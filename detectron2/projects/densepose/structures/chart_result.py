"""Charts of one instance on the pixels of its box, and compact forms of them."""

import base64
import io
from dataclasses import dataclass, fields

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from typing_extensions import Self

__all__ = [
    "DensePoseChartResult",
    "DensePoseChartResultCompressed",
    "DensePoseChartResultQuantized",
    "DensePoseChartResultWithConfidences",
    "compress_quantized_densepose_chart_result",
    "decompress_compressed_densepose_chart_result",
    "quantize_densepose_chart_result",
]


class _Movable:
    def to(self, device: torch.device) -> Self:
        """Return the same values on another device."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}  # type: ignore[arg-type]
        return type(self)(**{k: v if v is None else v.to(device) for k, v in values.items()})


@dataclass
class DensePoseChartResult(_Movable):
    """Charts of an instance whose box has H x W pixels.

    Args:
        labels: [H, W] charts: 0 for background, 1 to 24.
        uv: [2, H, W] coordinates in the chart.
    """

    labels: Tensor
    uv: Tensor


@dataclass
class DensePoseChartResultWithConfidences(_Movable):
    """Charts with confidences, each of which is [H, W] or None.

    Args:
        labels: [H, W] charts: 0 for background, 1 to 24.
        uv: [2, H, W] coordinates in the chart.
        sigma_1: uncertainty of U and V.
        sigma_2: second uncertainty of U and V.
        kappa_u: U component of the direction of their joint uncertainty.
        kappa_v: V component of that direction.
        fine_segm_confidence: confidence of the chart.
        coarse_segm_confidence: confidence of the body part.
    """

    labels: Tensor
    uv: Tensor
    sigma_1: Tensor | None = None
    sigma_2: Tensor | None = None
    kappa_u: Tensor | None = None
    kappa_v: Tensor | None = None
    fine_segm_confidence: Tensor | None = None
    coarse_segm_confidence: Tensor | None = None


@dataclass
class DensePoseChartResultQuantized(_Movable):
    """Charts in bytes.

    Args:
        labels_uv_uint8: [3, H, W]: labels, then U and V times 255.
    """

    labels_uv_uint8: Tensor


@dataclass
class DensePoseChartResultCompressed:
    """Charts as the text of a PNG image.

    Args:
        shape_chw: 3, H, W.
        labels_uv_str: base64 text of the image, whose colours are label, U and V.
    """

    shape_chw: tuple[int, int, int]
    labels_uv_str: str


def quantize_densepose_chart_result(
    result: DensePoseChartResult | DensePoseChartResultWithConfidences,
) -> DensePoseChartResultQuantized:
    """Convert charts to bytes; coordinates are clipped to 0..1 and rounded down.

    Args:
        result: charts of an instance; confidences are dropped.
    """
    uv = (result.uv * 255).clamp(0, 255)
    return DensePoseChartResultQuantized(torch.cat([result.labels[None].byte(), uv.byte()]))


def compress_quantized_densepose_chart_result(
    result: DensePoseChartResultQuantized,
) -> DensePoseChartResultCompressed:
    """Compress charts without loss.

    Args:
        result: charts in bytes.
    """
    pixels = result.labels_uv_uint8.permute(1, 2, 0).cpu().numpy()
    png = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(png, format="PNG")
    height, width, channels = pixels.shape
    return DensePoseChartResultCompressed(
        (channels, height, width), base64.encodebytes(png.getvalue()).decode("ascii")
    )


def decompress_compressed_densepose_chart_result(
    result: DensePoseChartResultCompressed,
) -> DensePoseChartResultQuantized:
    """Undo ``compress_quantized_densepose_chart_result``, onto the CPU.

    Args:
        result: compressed charts.
    """
    with Image.open(io.BytesIO(base64.b64decode(result.labels_uv_str)), formats=["PNG"]) as image:
        pixels = torch.from_numpy(np.array(image))
    return DensePoseChartResultQuantized(pixels.permute(2, 0, 1).contiguous())
