"""R-CNN heads that read models of the first PointRend releases."""

import logging
from typing import Any

from torch import Tensor

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling.roi_heads import ROI_HEADS_REGISTRY, StandardROIHeads

from .old_weights import rename_entries

__all__ = ["PointRendROIHeads"]

_OLD_NAMES = {"mask_point_head.": "mask_head.point_head.", "mask_coarse_head.": "mask_head.coarse_head."}


@ROI_HEADS_REGISTRY.register()
class PointRendROIHeads(StandardROIHeads):
    """StandardROIHeads that also read configs and weights of the first PointRend releases.

    New configs use ``StandardROIHeads``. Arguments are those of :class:`StandardROIHeads`.
    """

    @classmethod
    def _init_mask_head(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        if cfg.MODEL.MASK_ON and cfg.MODEL.ROI_MASK_HEAD.NAME == "CoarseMaskHead":
            logging.getLogger(__name__).warning(
                "the config is from an early PointRend: MODEL.ROI_MASK_HEAD.NAME 'CoarseMaskHead' is read as "
                "'PointRendMaskHead', with POOLER_TYPE ''"
            )
            cfg = cfg.clone()
            cfg.defrost()
            cfg.MODEL.ROI_MASK_HEAD.NAME = "PointRendMaskHead"
            cfg.MODEL.ROI_MASK_HEAD.POOLER_TYPE = ""
        return super()._init_mask_head(cfg, input_shape)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        rename_entries(state_dict, prefix, _OLD_NAMES)
        super()._load_from_state_dict(state_dict, prefix, *args)
