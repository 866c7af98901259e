"""Greedy tracking by overlap."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from detectron2.config import CfgNode as CfgNode_
from detectron2.config import configurable
from detectron2.structures import Boxes, Instances, pairwise_iou

from ._base_matching import MatchingTracker, settings_from
from .base_tracker import TRACKER_HEADS_REGISTRY, BaseTracker
from .utils import create_prediction_pairs

__all__ = ["BBoxIOUTracker", "BaseTracker", "Boxes", "CfgNode_", "Instances", "configurable", "pairwise_iou"]


@TRACKER_HEADS_REGISTRY.register()
class BBoxIOUTracker(MatchingTracker):
    """Matches each instance with the first unmatched instance of the previous frame that it overlaps enough."""

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
        """
        Args:
            video_height: height of a frame, in pixels.
            video_width: width of a frame, in pixels.
            max_num_instances: lost instances are kept only up to this total number of instances.
            max_lost_frame_count: number of frames for which a lost instance is kept.
            min_box_rel_dim: lost boxes whose width or height is a smaller fraction of the frame are dropped.
            min_instance_period: lost instances seen in this many frames or fewer are dropped.
            track_iou_threshold: smallest IoU of a match.
            **kwargs: ignored.
        """
        super().__init__(**kwargs)
        self._set_up(
            video_height,
            video_width,
            max_num_instances,
            max_lost_frame_count,
            min_box_rel_dim,
            min_instance_period,
        )
        self._track_iou_threshold = track_iou_threshold

    @classmethod
    def from_config(cls, cfg: CfgNode_) -> dict[str, Any]:
        """Read the arguments from ``cfg.TRACKER_HEADS``."""
        return settings_from(cfg)

    def _follow(self, instances: Instances, previous: Instances) -> Instances:
        iou = pairwise_iou(instances.pred_boxes, previous.pred_boxes).cpu().numpy()
        pairs = self._create_prediction_pairs(instances, iou)
        self._reset_fields()
        chosen: dict[int, int] = {}
        for pair in pairs:
            i, j = pair["idx"], pair["prev_idx"]
            if i not in chosen and j in self._untracked_prev_idx:
                chosen[i] = j
                self._untracked_prev_idx.remove(j)
        instances = self._assign_new_id(self._continued(instances, chosen.items()))
        return self._merge_untracked_instances(instances)

    def _create_prediction_pairs(self, instances: Instances, iou_all: npt.NDArray) -> list[dict[str, Any]]:
        """Return the pairs of new and earlier instances that overlap enough, in the order of the instances.

        Args:
            instances: N instances of this frame.
            iou_all: ``[N, M]`` IoU with the M instances of the previous frame.
        """
        assert self._prev_instances is not None
        return create_prediction_pairs(instances, self._prev_instances, iou_all, self._track_iou_threshold)

    def _reset_fields(self) -> None:
        """Mark all instances of the previous frame as untracked."""
        self._untracked_prev_idx = set(range(len(self._prev_instances or ())))

    def _assign_new_id(self, instances: Instances) -> Instances:
        """Assign new identities to unmatched instances."""
        return self._with_new_ids(instances)

    def _merge_untracked_instances(self, instances: Instances) -> Instances:
        """Append the lost instances of the previous frame."""
        return self._with_lost(instances, self._untracked_prev_idx)
