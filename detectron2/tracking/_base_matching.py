"""What all trackers share: identities that begin, go on, are lost for a while, and end."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import numpy as np

from detectron2.config import CfgNode
from detectron2.structures import Instances

from .base_tracker import BaseTracker

# constructor argument -> key below TRACKER_HEADS, default
_SETTINGS: dict[str, tuple[str, float]] = {
    "max_num_instances": ("MAX_NUM_INSTANCES", 200),
    "max_lost_frame_count": ("MAX_LOST_FRAME_COUNT", 0),
    "min_box_rel_dim": ("MIN_BOX_REL_DIM", 0.02),
    "min_instance_period": ("MIN_INSTANCE_PERIOD", 1),
}


def settings_from(cfg: CfgNode, with_threshold: bool = True) -> dict[str, Any]:
    """Constructor arguments of a tracker from ``cfg.TRACKER_HEADS``."""
    node = cfg.TRACKER_HEADS
    settings: dict[str, Any] = {"video_height": node.VIDEO_HEIGHT, "video_width": node.VIDEO_WIDTH}
    settings |= {name: node.get(key, default) for name, (key, default) in _SETTINGS.items()}
    if with_threshold:
        settings["track_iou_threshold"] = node.get("TRACK_IOU_THRESHOLD", 0.5)
    return settings


class MatchingTracker(BaseTracker):
    """A tracker that matches each frame with the one before; subclasses say how, in :meth:`_follow`.

    ``update`` adds three lists to the instances: ``ID``, ``ID_period`` (frames in which the identity was
    seen) and ``lost_frame_count`` (frames since it was seen last; more than 0 for instances that are carried on
    unseen, which stand at the end).
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
        """Take in the next frame.

        Args:
            instances: with ``pred_boxes``; any further fields are carried along.

        Returns:
            The same instances with identities, and after them those of earlier frames that are lost for now. Also
            kept as the state for the next frame.
        """
        instances = self._initialize_extra_fields(instances)
        if self._prev_instances is not None:
            instances = self._follow(instances, self._prev_instances)
        self._prev_instances = copy.copy(instances)
        return instances

    def _follow(self, instances: Instances, previous: Instances) -> Instances:
        """Give identities to the instances of a frame, and add the lost ones of the frame before."""
        raise NotImplementedError

    def _initialize_extra_fields(self, instances: Instances) -> Instances:
        """Give a frame's instances the fields of identities, in the first frame with new ones."""
        count = len(instances)
        instances.ID, instances.ID_period, instances.lost_frame_count = (
            [None] * count,
            [1] * count,
            [0] * count,
        )
        return self._with_new_ids(instances) if self._prev_instances is None else instances

    def _with_new_ids(self, instances: Instances) -> Instances:
        """Give new identities to those that have none."""
        for i, known in enumerate(instances.ID):
            if known is None:
                instances.ID[i] = self._id_count
                self._id_count += 1
        return instances

    def _continued(self, instances: Instances, pairs: Iterable[tuple[int, int]]) -> Instances:
        """Hand on identities.

        Args:
            instances: of this frame.
            pairs: positions: an instance of this frame, and the one of the last frame that it continues.
        """
        previous = self._prev_instances
        assert previous is not None
        for i, j in pairs:
            instances.ID[i], instances.ID_period[i] = previous.ID[j], previous.ID_period[j] + 1
        return instances

    def _with_lost(self, instances: Instances, unmatched: Iterable[int]) -> Instances:
        """Add, behind the instances, those unmatched ones of the last frame that are worth waiting for."""
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
