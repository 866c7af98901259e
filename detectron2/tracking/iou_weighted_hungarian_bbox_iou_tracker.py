"""Assignment of the largest total overlap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from detectron2.config import CfgNode as CfgNode_
from detectron2.config import configurable
from detectron2.structures import Instances

from ._base_matching import settings_from
from .base_tracker import TRACKER_HEADS_REGISTRY
from .vanilla_hungarian_bbox_iou_tracker import VanillaHungarianBBoxIOUTracker

__all__ = ["CfgNode_", "IOUWeightedHungarianBBoxIOUTracker", "VanillaHungarianBBoxIOUTracker", "configurable"]


@TRACKER_HEADS_REGISTRY.register()
class IOUWeightedHungarianBBoxIOUTracker(VanillaHungarianBBoxIOUTracker):
    """A pair costs the less the more it overlaps, so that the best overlaps are continued.

    Detectron2 keeps the costs as whole numbers, in which every IoU below 1 counts the same. That is the default
    here, too, so that identities agree; ``exact_weights=True`` weighs overlaps as the name says.
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
        """
        Args:
            video_height: of a frame, in pixels.
            video_width: of a frame, in pixels.
            max_num_instances: lost instances are carried on only up to this number in all.
            max_lost_frame_count: frames for which a lost instance is carried on.
            min_box_rel_dim: lost boxes whose width or height is a smaller share of the frame are dropped.
            min_instance_period: lost instances seen in this many frames or fewer are dropped.
            track_iou_threshold: least IoU of an instance with the one that it continues.
            exact_weights: weigh pairs by their IoU itself, not by its whole part.
            **kwargs: for subclasses.
        """
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
        """Constructor arguments from ``cfg.TRACKER_HEADS``."""
        return settings_from(cfg) | {"exact_weights": cfg.TRACKER_HEADS.get("EXACT_IOU_WEIGHTS", False)}

    def build_cost_matrix(self, instances: Instances, prev_instances: Instances) -> npt.NDArray[np.float64]:
        """Costs ``[N, M]``; ``LARGE_COST_VALUE`` where boxes overlap too little."""
        return super().build_cost_matrix(instances, prev_instances)

    def update(self, instances: Instances) -> Instances:
        """Take in the next frame; see :class:`MatchingTracker`."""
        return super().update(instances)

    def assign_cost_matrix_values(
        self, cost_matrix: npt.NDArray[np.float64], bbox_pairs: Sequence[dict[str, Any]]
    ) -> npt.NDArray[np.float64]:
        """Put minus the IoU of overlapping pairs (or its whole part) into the matrix.

        Args:
            cost_matrix: ``[N, M]``, changed in place.
            bbox_pairs: see :func:`create_prediction_pairs`.
        """
        for pair in bbox_pairs:
            iou = float(pair["IoU"])
            cost_matrix[pair["idx"], pair["prev_idx"]] = -iou if self._exact_weights else -int(iou)
        return cost_matrix
