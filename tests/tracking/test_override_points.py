"""Trackers call the methods that subclasses replace."""

import torch

from detectron2.structures import Boxes, Instances
from detectron2.tracking.bbox_iou_tracker import BBoxIOUTracker
from detectron2.tracking.vanilla_hungarian_bbox_iou_tracker import VanillaHungarianBBoxIOUTracker

SIZE = {"video_height": 50, "video_width": 60, "max_lost_frame_count": 3, "min_instance_period": 0}


def _frame(*boxes: tuple[int, int, int, int]) -> Instances:
    found = Instances((50, 60), pred_boxes=Boxes(torch.tensor(boxes, dtype=torch.float32)))
    found.pred_classes, found.scores = torch.zeros(len(boxes), dtype=torch.int64), torch.ones(len(boxes))
    return found


def _calls(kind: type, points: set[str], **options: object) -> set[str]:
    called = set()

    class Own(kind):  # type: ignore[misc]
        def __getattribute__(self, name: str) -> object:
            if name in points:
                called.add(name)
            return super().__getattribute__(name)

    tracker = Own(**SIZE, **options)
    tracker.update(_frame((5, 5, 20, 20), (30, 30, 45, 45)))
    out = tracker.update(_frame((5, 5, 20, 21), (40, 1, 55, 9)))
    assert len(out) >= 2 and out.ID[0] == 0
    return called


def test_trackers_call_what_subclasses_replace() -> None:
    points = {
        "_assign_new_id", "_create_prediction_pairs", "_initialize_extra_fields", "_merge_untracked_instances",
        "_reset_fields",
    }  # fmt: skip
    assert _calls(BBoxIOUTracker, points) == points
    points = {
        "_initialize_extra_fields", "_process_matched_idx", "_process_unmatched_idx", "_process_unmatched_prev_idx",
    }  # fmt: skip
    assert _calls(VanillaHungarianBBoxIOUTracker, points) == points
