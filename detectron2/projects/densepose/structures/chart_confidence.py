"""Chart outputs with confidences."""

from .predictor_output import with_confidences

__all__ = ["decorate_predictor_output_class_with_confidences"]

_CONFIDENCES = ("sigma_1", "sigma_2", "kappa_u", "kappa_v", "fine_segm_confidence", "coarse_segm_confidence")


def decorate_predictor_output_class_with_confidences(BasePredictorOutput: type) -> type:
    """Derive a class of outputs that may also hold confidences, each None by default.

    ``sigma_1``, ``sigma_2``, ``kappa_u`` and ``kappa_v`` ([N, 25, S, S]) describe the uncertainty of U and V,
    ``fine_segm_confidence`` and ``coarse_segm_confidence`` ([N, 1, S, S]) that of the labels.

    Args:
        BasePredictorOutput: class to derive from.
    """
    return with_confidences(BasePredictorOutput, _CONFIDENCES)
