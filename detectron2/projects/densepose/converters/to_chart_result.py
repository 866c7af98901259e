"""Convert predictor outputs to chart results."""

from detectron2.structures import Boxes

from ..structures.chart_result import DensePoseChartResult, DensePoseChartResultWithConfidences
from .base import BaseConverter

__all__ = ["ToChartResultConverter", "ToChartResultConverterWithConfidences"]


class ToChartResultConverter(BaseConverter):
    """Converts predictor outputs to ``DensePoseChartResult``."""

    registry = {}
    dst_type = DensePoseChartResult

    @classmethod
    def convert(  # type: ignore[override]
        cls, predictor_outputs: object, boxes: Boxes, *args: object, **kwargs: object
    ) -> DensePoseChartResult:
        """Compute charts and coordinates of the pixels of one instance.

        Args:
            predictor_outputs: output for one instance.
            boxes: its box, in pixels.
            args: further arguments of the registered function.
            kwargs: further keyword arguments of the registered function.
        """
        return super().convert(predictor_outputs, boxes, *args, **kwargs)


class ToChartResultConverterWithConfidences(BaseConverter):
    """Converts predictor outputs to ``DensePoseChartResultWithConfidences``."""

    registry = {}
    dst_type = DensePoseChartResultWithConfidences

    @classmethod
    def convert(  # type: ignore[override]
        cls, predictor_outputs: object, boxes: Boxes, *args: object, **kwargs: object
    ) -> DensePoseChartResultWithConfidences:
        """Compute charts, coordinates and confidences of the pixels of one instance.

        Args:
            predictor_outputs: output for one instance; missing confidences stay None.
            boxes: its box, in pixels.
            args: further arguments of the registered function.
            kwargs: further keyword arguments of the registered function.
        """
        return super().convert(predictor_outputs, boxes, *args, **kwargs)
