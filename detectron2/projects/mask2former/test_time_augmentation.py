"""Semantic segmentation of several versions of an image."""

from torch import Tensor

from detectron2.modeling import SemanticSegmentorWithTTA as CoreSemanticSegmentorWithTTA

__all__ = ["SemanticSegmentorWithTTA"]


class SemanticSegmentorWithTTA(CoreSemanticSegmentorWithTTA):
    """The core's test-time augmentation, for models whose ``sem_seg`` needs no softmax before it is averaged.

    Arguments are those of :class:`detectron2.modeling.SemanticSegmentorWithTTA`.
    """

    def _probabilities(self, scores: Tensor) -> Tensor:
        return scores
