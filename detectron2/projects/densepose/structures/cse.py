"""Output of predictors that map pixels to surface embeddings."""

from dataclasses import dataclass

from torch import Tensor

from .predictor_output import PredictorOutput

__all__ = ["DensePoseEmbeddingPredictorOutput"]


@dataclass
class DensePoseEmbeddingPredictorOutput(PredictorOutput):
    """Embeddings of the pixels of N instances, on a grid over each box.

    Args:
        embedding: [N, E, S, S] embedding of each pixel.
        coarse_segm: [N, 2, S, S] logits of background and body.
    """

    embedding: Tensor
    coarse_segm: Tensor
