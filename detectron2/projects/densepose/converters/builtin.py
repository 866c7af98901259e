"""Register the conversions of the package's outputs."""

from ..structures import DensePoseChartPredictorOutput, DensePoseEmbeddingPredictorOutput
from .chart_output_hflip import densepose_chart_predictor_output_hflip
from .chart_output_to_chart_result import (
    densepose_chart_predictor_output_to_result,
    densepose_chart_predictor_output_to_result_with_confidences,
)
from .embedding_output_hflip import densepose_embedding_predictor_output_hflip
from .hflip import HFlipConverter
from .segm_to_mask import (
    predictor_output_with_coarse_segm_to_mask,
    predictor_output_with_fine_and_coarse_segm_to_mask,
)
from .to_chart_result import ToChartResultConverter, ToChartResultConverterWithConfidences
from .to_mask import ToMaskConverter

__all__: list[str] = []

_CHART, _EMBEDDING = DensePoseChartPredictorOutput, DensePoseEmbeddingPredictorOutput

ToMaskConverter.register(_CHART, predictor_output_with_fine_and_coarse_segm_to_mask)
ToMaskConverter.register(_EMBEDDING, predictor_output_with_coarse_segm_to_mask)
ToChartResultConverter.register(_CHART, densepose_chart_predictor_output_to_result)
ToChartResultConverterWithConfidences.register(
    _CHART, densepose_chart_predictor_output_to_result_with_confidences
)
HFlipConverter.register(_CHART, densepose_chart_predictor_output_hflip)
HFlipConverter.register(_EMBEDDING, densepose_embedding_predictor_output_hflip)
