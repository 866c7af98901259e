"""Data of Mask2Former: mappers, and datasets beyond the built-in ones."""

from . import datasets  # registers them
from .lsj_mappers import COCOInstanceNewBaselineDatasetMapper, COCOPanopticNewBaselineDatasetMapper
from .mask_former_mappers import (
    MaskFormerInstanceDatasetMapper,
    MaskFormerPanopticDatasetMapper,
    MaskFormerSemanticDatasetMapper,
)

__all__ = [
    "COCOInstanceNewBaselineDatasetMapper",
    "COCOPanopticNewBaselineDatasetMapper",
    "MaskFormerInstanceDatasetMapper",
    "MaskFormerPanopticDatasetMapper",
    "MaskFormerSemanticDatasetMapper",
    "datasets",
]
