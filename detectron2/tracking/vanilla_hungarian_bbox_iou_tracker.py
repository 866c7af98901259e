"""Tracking by the assignment with the most overlapping pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from detectron2.config import CfgNode as CfgNode_
from detectron2.config import configurable
from detectron2.structures import Instances, pairwise_iou

from ._base_matching import settings_from
from .base_tracker import TRACKER_HEADS_REGISTRY
from .hungarian_tracker import LARGE_COST_VALUE, BaseHungarianTracker
from .utils import create_prediction_pairs

__all__ = [
    "BaseHungarianTracker",
    "CfgNode_",
    "Instances",
    "VanillaHungarianBBoxIOUTracker",
    "configurable",
    "create_prediction_pairs",
    "pairwise_iou",
]


@TRACKER_HEADS_REGISTRY.register()
class VanillaHungarianBBoxIOUTracker(BaseHungarianTracker):
    """Maximises the number of matches that overlap enough; all of them have the same cost."""

    @configurable
    def __init__(
        self,
        *,
        video_height: int,
        video_width: int,
        max_num_instances: int = 200,
        max_lost_frame_count: int = 0,
        min_box_rel_dim: float = 0.02,
        min_instance_period: int = 1,
        track_iou_threshold: float = 0.5,
        **kwargs: Any,
    ) -> None:
        """Arguments as for :class:`BBoxIOUTracker`."""
        super().__init__(
            video_height=video_height,
            video_width=video_width,
            max_num_instances=max_num_instances,
            max_lost_frame_count=max_lost_frame_count,
            min_box_rel_dim=min_box_rel_dim,
            min_instance_period=min_instance_period,
            **kwargs,
        )
        self._track_iou_threshold = track_iou_threshold

    @classmethod
    def from_config(cls, cfg: CfgNode_) -> dict[str, Any]:
        """Read the arguments from ``cfg.TRACKER_HEADS``."""
        return settings_from(cfg)

    def build_cost_matrix(self, instances: Instances, prev_instances: Instances) -> npt.NDArray[np.float64]:
        """Compute the costs ``[N, M]``; ``LARGE_COST_VALUE`` if boxes overlap too little."""
        iou = pairwise_iou(instances.pred_boxes, prev_instances.pred_boxes).cpu()
        pairs = create_prediction_pairs(instances, prev_instances, iou, self._track_iou_threshold)
        cost = np.full((len(instances), len(prev_instances)), LARGE_COST_VALUE)
        return self.assign_cost_matrix_values(cost, pairs)

    def assign_cost_matrix_values(
        self, cost_matrix: npt.NDArray[np.float64], bbox_pairs: Sequence[dict[str, Any]]
    ) -> npt.NDArray[np.float64]:
        """Set the costs of overlapping pairs.

        Args:
            cost_matrix: ``[N, M]``, changed in place.
            bbox_pairs: see :func:`create_prediction_pairs`.
        """
        for pair in bbox_pairs:
            cost_matrix[pair["idx"], pair["prev_idx"]] = -1.0
        return cost_matrix
