"""Output of predictors that map pixels to charts."""

from dataclasses import dataclass

from torch import Tensor

from .predictor_output import PredictorOutput

__all__ = ["DensePoseChartPredictorOutput"]


@dataclass
class DensePoseChartPredictorOutput(PredictorOutput):
    """Scores and chart coordinates of N instances, on a grid over each box.

    Args:
        coarse_segm: [N, D, S, S] logits of background and body (D = 2), or background and 14 parts (D = 15).
        fine_segm: [N, 25, S, S] logits of background and 24 charts.
        u: [N, 25, S, S] first coordinate for each chart, about 0 to 1.
        v: [N, 25, S, S] second coordinate.
    """

    coarse_segm: Tensor
    fine_segm: Tensor
    u: Tensor
    v: Tensor
