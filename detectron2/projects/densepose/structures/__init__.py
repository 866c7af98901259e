"""Annotations, predictions and surfaces of DensePose."""

from .chart import DensePoseChartPredictorOutput
from .chart_confidence import decorate_predictor_output_class_with_confidences
from .chart_result import (
    DensePoseChartResult,
    DensePoseChartResultWithConfidences,
    compress_quantized_densepose_chart_result,
    decompress_compressed_densepose_chart_result,
    quantize_densepose_chart_result,
)
from .cse import DensePoseEmbeddingPredictorOutput
from .cse_confidence import decorate_cse_predictor_output_class_with_confidences
from .data_relative import DensePoseDataRelative
from .list import DensePoseList
from .mesh import Mesh, create_mesh
from .transform_data import DensePoseTransformData, normalized_coords_transform

__all__ = [
    "DensePoseChartPredictorOutput",
    "DensePoseChartResult",
    "DensePoseChartResultWithConfidences",
    "DensePoseDataRelative",
    "DensePoseEmbeddingPredictorOutput",
    "DensePoseList",
    "DensePoseTransformData",
    "Mesh",
    "compress_quantized_densepose_chart_result",
    "create_mesh",
    "decompress_compressed_densepose_chart_result",
    "decorate_cse_predictor_output_class_with_confidences",
    "decorate_predictor_output_class_with_confidences",
    "normalized_coords_transform",
    "quantize_densepose_chart_result",
]
