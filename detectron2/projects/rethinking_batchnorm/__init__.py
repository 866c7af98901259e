"""Configs and layers of experiments on batch norm in heads: which samples make up "the batch".

Reference: Rethinking "Batch" in BatchNorm, https://arxiv.org/abs/2105.07576
"""

from .heads import (
    BatchNormBatchStat,
    FastRCNNConvFCHeadWithShuffle,
    MaskRCNNConvUpsampleHeadWithShuffle,
    RetinaNetHead_SharedTrainingBN,
)

__all__ = [
    "BatchNormBatchStat",
    "FastRCNNConvFCHeadWithShuffle",
    "MaskRCNNConvUpsampleHeadWithShuffle",
    "RetinaNetHead_SharedTrainingBN",
]
