"""Base class of all trackers: assigns identities, continues them, and keeps lost ones for a while."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import numpy as np

from detectron2.config import CfgNode
from detectron2.structures import Instances

from .base_tracker import BaseTracker

# Constructor argument: key below TRACKER_HEADS, default.
_SETTINGS: dict[str, tuple[str, float]] = {
    "max_num_instances": ("MAX_NUM_INSTANCES", 200),
    "max_lost_frame_count": ("MAX_LOST_FRAME_COUNT", 0),
    "min_box_rel_dim": ("MIN_BOX_REL_DIM", 0.02),
    "min_instance_period": ("MIN_INSTANCE_PERIOD", 1),
}


def settings_from(cfg: CfgNode, with_threshold: bool = True) -> dict[str, Any]:
    """Read the constructor arguments of a tracker from ``cfg.TRACKER_HEADS``."""
    node = cfg.TRACKER_HEADS
    settings: dict[str, Any] = {"video_height": node.VIDEO_HEIGHT, "video_width": node.VIDEO_WIDTH}
    settings |= {name: node.get(key, default) for name, (key, default) in _SETTINGS.items()}
    if with_threshold:
        settings["track_iou_threshold"] = node.get("TRACK_IOU_THRESHOLD", 0.5)
    return settings


class MatchingTracker(BaseTracker):
    """A tracker that matches each frame with the previous one; subclasses define :meth:`_follow`.

    ``update`` adds three lists to the instances: ``ID``, ``ID_period`` (number of frames in which the identity was
    seen) and ``lost_frame_count`` (number of frames since it was last seen). Lost instances, with a count greater than 0,
    come last.
    """

    def _set_up(
        self,
        video_height: int,
        video_width: int,
        max_num_instances: int,
        max_lost_frame_count: int,
        min_box_rel_dim: float,
        min_instance_period: int,
    ) -> None:
        self._prev_instances = None
        self._id_count = 0
        self._video_height, self._video_width = video_height, video_width
        self._max_num_instances = max_num_instances
        self._max_lost_frame_count = max_lost_frame_count
        self._min_box_rel_dim = min_box_rel_dim
        self._min_instance_period = min_instance_period

    def update(self, instances: Instances) -> Instances:
        """Track the instances of the next frame.

        Args:
            instances: instances with ``pred_boxes`` and any other fields.

        Returns:
            The same instances with identities, followed by lost instances of earlier frames.
        """
        instances = self._initialize_extra_fields(instances)
        if self._prev_instances is not None:
            instances = self._follow(instances, self._prev_instances)
        self._prev_instances = copy.copy(instances)
        return instances

    def _follow(self, instances: Instances, previous: Instances) -> Instances:
        """Assign identities to the instances of a frame, and append the lost ones of the previous frame."""
        raise NotImplementedError

    def _initialize_extra_fields(self, instances: Instances) -> Instances:
        """Add the fields of identities to a frame's instances; in the first frame, assign new identities."""
        count = len(instances)
        instances.ID, instances.ID_period, instances.lost_frame_count = (
            [None] * count,
            [1] * count,
            [0] * count,
        )
        return self._with_new_ids(instances) if self._prev_instances is None else instances

    def _with_new_ids(self, instances: Instances) -> Instances:
        """Assign new identities to instances without one."""
        for i, known in enumerate(instances.ID):
            if known is None:
                instances.ID[i] = self._id_count
                self._id_count += 1
        return instances

    def _continued(self, instances: Instances, pairs: Iterable[tuple[int, int]]) -> Instances:
        """Continue identities.

        Args:
            instances: instances of this frame.
            pairs: pairs of indices, of an instance in this frame and its match in the previous one.
        """
        previous = self._prev_instances
        assert previous is not None
        for i, j in pairs:
            instances.ID[i], instances.ID_period[i] = previous.ID[j], previous.ID_period[j] + 1
        return instances

    def _with_lost(self, instances: Instances, unmatched: Iterable[int]) -> Instances:
        """Append the unmatched instances of the previous frame that have not been lost for too long."""
        previous = self._prev_instances
        assert previous is not None
        boxes = previous.pred_boxes.tensor
        sizes = (boxes[:, 2:] - boxes[:, :2]).cpu().numpy() / np.array(
            [self._video_width, self._video_height]
        )
        kept = [
            j
            for j in sorted(unmatched)
            if previous.lost_frame_count[j] < self._max_lost_frame_count
            and previous.ID_period[j] > self._min_instance_period
            and (sizes[j] >= self._min_box_rel_dim).all()
        ]
        kept = kept[: max(self._max_num_instances - len(instances), 0)]
        if not kept:
            return instances
        lost = Instances(instances.image_size)
        for name, value in previous.get_fields().items():
            if instances.has(name):
                lost.set(name, [value[j] for j in kept] if isinstance(value, list) else value[kept])
        lost.lost_frame_count = [n + 1 for n in lost.lost_frame_count]
        return Instances.cat([instances, lost])
