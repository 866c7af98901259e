"""Test-time augmentation of semantic segmentation."""

from torch import Tensor

from detectron2.modeling import SemanticSegmentorWithTTA as CoreSemanticSegmentorWithTTA

__all__ = ["SemanticSegmentorWithTTA"]


class SemanticSegmentorWithTTA(CoreSemanticSegmentorWithTTA):
    """The core's test-time augmentation, for models whose ``sem_seg`` is averaged without a softmax.

    Arguments are those of :class:`detectron2.modeling.SemanticSegmentorWithTTA`.
    """

    def _probabilities(self, scores: Tensor) -> Tensor:
        return scores
