"""Trackers: identities last, are lost, and end."""

import pytest
import torch

from detectron2.structures import Boxes, Instances, pairwise_iou
from detectron2.tracking import (
    BBoxIOUTracker,
    IOUWeightedHungarianBBoxIOUTracker,
    VanillaHungarianBBoxIOUTracker,
    create_prediction_pairs,
)

TRACKERS = [BBoxIOUTracker, VanillaHungarianBBoxIOUTracker, IOUWeightedHungarianBBoxIOUTracker]


def frame(*boxes, **fields):
    tensor = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return Instances(
        (100, 100),
        pred_boxes=Boxes(tensor),
        pred_classes=torch.zeros(len(tensor), dtype=torch.int64),
        **fields,
    )


A, B = [0, 0, 20, 20], [50, 50, 80, 80]


@pytest.mark.parametrize("cls", TRACKERS)
def test_identities_follow_moving_boxes(cls):
    tracker = cls(video_height=100, video_width=100)
    assert tracker.update(frame(A, B)).ID == [0, 1]
    result = tracker.update(frame([52, 51, 82, 81], [1, 0, 21, 20]))
    assert result.ID == [1, 0]
    assert result.ID_period == [2, 2]
    assert tracker.update(frame()).ID == []


def test_new_boxes_get_new_identities():
    tracker = BBoxIOUTracker(video_height=100, video_width=100)
    tracker.update(frame(A))
    assert tracker.update(frame(B)).ID == [1]


@pytest.mark.parametrize("cls", TRACKERS)
def test_lost_instances_are_carried_on_and_found_again(cls):
    tracker = cls(video_height=100, video_width=100, max_lost_frame_count=2)
    for _ in range(3):
        tracker.update(frame(A, B))
    lost = tracker.update(frame(A))
    assert lost.ID == [0, 1]
    assert lost.lost_frame_count == [0, 1]
    assert tracker.update(frame(A, B)).ID == [0, 1]
    counts = [len(tracker.update(frame(A))) for _ in range(4)]
    assert counts == [2, 2, 1, 1]


def test_kept_keypoints_keep_their_values():
    tracker = BBoxIOUTracker(video_height=100, video_width=100, max_lost_frame_count=2)
    points = torch.full((1, 2, 3), 300.7)
    for _ in range(3):
        tracker.update(frame(A, pred_keypoints=points))
    lost = tracker.update(frame(pred_keypoints=points[:0]))
    assert lost.pred_keypoints.dtype == points.dtype
    assert torch.equal(lost.pred_keypoints, points)


def test_small_lost_boxes_and_the_cap_on_instances():
    tracker = BBoxIOUTracker(video_height=100, video_width=100, max_lost_frame_count=2, min_box_rel_dim=0.5)
    for _ in range(3):
        tracker.update(frame(A))
    assert len(tracker.update(frame())) == 0
    tracker = BBoxIOUTracker(video_height=100, video_width=100, max_lost_frame_count=2, max_num_instances=1)
    for _ in range(3):
        tracker.update(frame(A, B))
    assert len(tracker.update(frame(A))) == 1


def test_exact_weights_prefer_the_better_overlap():
    previous = frame([0, 0, 20, 20], [8, 0, 28, 20])
    now = frame([4, 0, 24, 20], [9, 0, 29, 20])
    ids = {}
    for exact in (False, True):
        tracker = IOUWeightedHungarianBBoxIOUTracker(
            video_height=100, video_width=100, track_iou_threshold=0.1, exact_weights=exact
        )
        tracker.update(frame(*previous.pred_boxes.tensor.tolist()))
        matrix = tracker.build_cost_matrix(now, tracker._prev_instances)
        ids[exact] = matrix
    iou = pairwise_iou(now.pred_boxes, previous.pred_boxes).numpy()
    assert (ids[False] == 0).all()
    assert ids[True] == pytest.approx(-iou)


def test_pairs():
    previous = BBoxIOUTracker(video_height=9, video_width=9).update(frame(A, B))
    pairs = create_prediction_pairs(frame(B), previous, [[0.2, 0.9]], threshold=0.5)
    assert pairs == [{"idx": 0, "prev_idx": 1, "prev_id": 1, "IoU": 0.9, "prev_period": 1}]
    with pytest.raises(ValueError, match="iou_all"):
        create_prediction_pairs(frame(B), previous, [[0.2]])
