"""Tracking by the assignment with the lowest total cost."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from detectron2.config import CfgNode as CfgNode_
from detectron2.config import configurable
from detectron2.structures import Boxes, Instances

from ._base_matching import MatchingTracker, settings_from
from .base_tracker import BaseTracker

__all__ = ["BaseHungarianTracker", "BaseTracker", "Boxes", "CfgNode_", "Instances", "configurable"]

LARGE_COST_VALUE = 100000.0


class BaseHungarianTracker(MatchingTracker):
    """Finds the matches with the lowest total cost; subclasses define the costs.

    The assignment is complete, as in Detectron2: remaining instances of both frames are matched even at
    ``LARGE_COST_VALUE``.
    """

    @configurable
    def __init__(
        self,
        video_height: int,
        video_width: int,
        max_num_instances: int = 200,
        max_lost_frame_count: int = 0,
        min_box_rel_dim: float = 0.02,
        min_instance_period: int = 1,
        **kwargs: Any,
    ) -> None:
        """Arguments as for :class:`BBoxIOUTracker`."""
        super().__init__(**kwargs)
        self._set_up(
            video_height,
            video_width,
            max_num_instances,
            max_lost_frame_count,
            min_box_rel_dim,
            min_instance_period,
        )

    @classmethod
    def from_config(cls, cfg: CfgNode_) -> dict[str, Any]:
        """Read the arguments from ``cfg.TRACKER_HEADS``."""
        return settings_from(cfg, with_threshold=False)

    def build_cost_matrix(self, instances: Instances, prev_instances: Instances) -> npt.NDArray[np.float64]:
        """Compute the costs ``[N, M]`` of matching N new instances with M earlier ones."""
        raise NotImplementedError(f"{type(self).__name__} must implement build_cost_matrix()")

    def _follow(self, instances: Instances, previous: Instances) -> Instances:
        try:
            from scipy.optimize import linear_sum_assignment
        except ImportError as error:
            raise ImportError(
                f"{type(self).__name__} needs scipy: pip install 'detectron2[tracking]'"
            ) from error
        rows, columns = linear_sum_assignment(self.build_cost_matrix(instances, previous))
        instances = self._process_matched_idx(instances, rows, columns)
        instances = self._process_unmatched_idx(instances, rows)
        return self._process_unmatched_prev_idx(instances, columns)

    def _process_matched_idx(
        self,
        instances: Instances,
        matched_idx: npt.NDArray[np.int64],
        matched_prev_idx: npt.NDArray[np.int64],
    ) -> Instances:
        """Continue the identities of ``matched_prev_idx`` in ``matched_idx`` of this frame."""
        return self._continued(instances, zip(matched_idx.tolist(), matched_prev_idx.tolist()))

    def _process_unmatched_idx(self, instances: Instances, matched_idx: npt.NDArray[np.int64]) -> Instances:
        """Assign new identities to unmatched instances."""
        return self._with_new_ids(instances)

    def _process_unmatched_prev_idx(
        self, instances: Instances, matched_prev_idx: npt.NDArray[np.int64]
    ) -> Instances:
        """Append the lost instances of the previous frame, which are not in ``matched_prev_idx``."""
        count = len(self._prev_instances or ())
        return self._with_lost(instances, set(range(count)) - set(matched_prev_idx.tolist()))
