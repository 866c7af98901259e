"""Tracking by the assignment with the largest total overlap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from detectron2.config import CfgNode as CfgNode_
from detectron2.config import configurable

from ._base_matching import settings_from
from .base_tracker import TRACKER_HEADS_REGISTRY
from .vanilla_hungarian_bbox_iou_tracker import VanillaHungarianBBoxIOUTracker

__all__ = ["CfgNode_", "IOUWeightedHungarianBBoxIOUTracker", "VanillaHungarianBBoxIOUTracker", "configurable"]


@TRACKER_HEADS_REGISTRY.register()
class IOUWeightedHungarianBBoxIOUTracker(VanillaHungarianBBoxIOUTracker):
    """Maximises the total IoU of matches.

    Detectron2 rounds costs toward zero, so that every IoU below 1 has the same cost. This is also the default here, so
    that identities agree; ``exact_weights=True`` uses the exact IoU.
    """

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
        exact_weights: bool = False,
        **kwargs: Any,
    ) -> None:
        """Arguments as for :class:`BBoxIOUTracker`, and ``exact_weights``, see above."""
        super().__init__(
            video_height=video_height,
            video_width=video_width,
            max_num_instances=max_num_instances,
            max_lost_frame_count=max_lost_frame_count,
            min_box_rel_dim=min_box_rel_dim,
            min_instance_period=min_instance_period,
            track_iou_threshold=track_iou_threshold,
            **kwargs,
        )
        self._exact_weights = exact_weights

    @classmethod
    def from_config(cls, cfg: CfgNode_) -> dict[str, Any]:
        """Read the arguments from ``cfg.TRACKER_HEADS``."""
        return settings_from(cfg) | {"exact_weights": cfg.TRACKER_HEADS.get("EXACT_IOU_WEIGHTS", False)}

    def assign_cost_matrix_values(
        self, cost_matrix: npt.NDArray[np.float64], bbox_pairs: Sequence[dict[str, Any]]
    ) -> npt.NDArray[np.float64]:
        """Set the costs of overlapping pairs to their negated IoU, rounded toward zero by default.

        Args:
            cost_matrix: ``[N, M]``, changed in place.
            bbox_pairs: see :func:`create_prediction_pairs`.
        """
        for pair in bbox_pairs:
            iou = float(pair["IoU"])
            cost_matrix[pair["idx"], pair["prev_idx"]] = -iou if self._exact_weights else -int(iou)
        return cost_matrix
