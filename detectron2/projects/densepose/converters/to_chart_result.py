"""Chart results from the outputs of predictors."""

from detectron2.structures import Boxes

from ..structures.chart_result import DensePoseChartResult, DensePoseChartResultWithConfidences
from .base import BaseConverter

__all__ = ["ToChartResultConverter", "ToChartResultConverterWithConfidences"]


class ToChartResultConverter(BaseConverter):
    """Conversion of predictor outputs to ``DensePoseChartResult``."""

    registry = {}
    dst_type = DensePoseChartResult

    @classmethod
    def convert(  # type: ignore[override]
        cls, predictor_outputs: object, boxes: Boxes, *args: object, **kwargs: object
    ) -> DensePoseChartResult:
        """Find charts and coordinates of the pixels of one instance.

        Args:
            predictor_outputs: output for one instance.
            boxes: its box, in pixels.
            args: further arguments of the registered function.
            kwargs: further keyword arguments of it.
        """
        return super().convert(predictor_outputs, boxes, *args, **kwargs)


class ToChartResultConverterWithConfidences(BaseConverter):
    """Conversion of predictor outputs to ``DensePoseChartResultWithConfidences``."""

    registry = {}
    dst_type = DensePoseChartResultWithConfidences

    @classmethod
    def convert(  # type: ignore[override]
        cls, predictor_outputs: object, boxes: Boxes, *args: object, **kwargs: object
    ) -> DensePoseChartResultWithConfidences:
        """Find charts, coordinates and confidences of the pixels of one instance.

        Args:
            predictor_outputs: output for one instance; the confidences that it lacks stay None.
            boxes: its box, in pixels.
            args: further arguments of the registered function.
            kwargs: further keyword arguments of it.
        """
        return super().convert(predictor_outputs, boxes, *args, **kwargs)
