"""Conversions of the outputs of predictors."""

from . import builtin
from .chart_output_hflip import densepose_chart_predictor_output_hflip
from .chart_output_to_chart_result import (
    densepose_chart_predictor_output_to_result,
    densepose_chart_predictor_output_to_result_with_confidences,
)
from .hflip import HFlipConverter
from .segm_to_mask import (
    predictor_output_with_coarse_segm_to_mask,
    predictor_output_with_fine_and_coarse_segm_to_mask,
    resample_fine_and_coarse_segm_to_bbox,
)
from .to_chart_result import ToChartResultConverter, ToChartResultConverterWithConfidences
from .to_mask import ToMaskConverter

__all__ = [
    "HFlipConverter",
    "ToChartResultConverter",
    "ToChartResultConverterWithConfidences",
    "ToMaskConverter",
    "builtin",
    "densepose_chart_predictor_output_hflip",
    "densepose_chart_predictor_output_to_result",
    "densepose_chart_predictor_output_to_result_with_confidences",
    "predictor_output_with_coarse_segm_to_mask",
    "predictor_output_with_fine_and_coarse_segm_to_mask",
    "resample_fine_and_coarse_segm_to_bbox",
]
