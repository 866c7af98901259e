"""Embedding outputs with confidences."""

from .predictor_output import with_confidences

__all__ = ["decorate_cse_predictor_output_class_with_confidences"]


def decorate_cse_predictor_output_class_with_confidences(BasePredictorOutput: type) -> type:
    """Derive a class of outputs that may also hold ``coarse_segm_confidence``, [N, 1, S, S], None by default.

    Args:
        BasePredictorOutput: class to derive from.
    """
    return with_confidences(BasePredictorOutput, ("coarse_segm_confidence",))
