"""Identities over frames, from our trackers and from others, and the files that hold them."""

import csv

import numpy as np
import pytest
import torch

from detectron2.prediction.tracks import PackageTracker, TrackFiles, make_tracker
from detectron2.structures import Boxes, Instances, RotatedBoxes
from detectron2.utils.errors import UserError

OURS = ("BBoxIOUTracker", "VanillaHungarianBBoxIOUTracker", "IOUWeightedHungarianBBoxIOUTracker")
IMAGE = np.zeros((100, 200, 3), np.uint8)


def found(*lefts: float, masks: bool = False) -> Instances:
    """Squares of 20 pixels, one below the other."""
    boxes = [[x, 25.0 * k, x + 20, 25.0 * k + 20] for k, x in enumerate(lefts)]
    n = len(lefts)
    instances = Instances((100, 200), pred_boxes=Boxes(torch.tensor(boxes).reshape(-1, 4)))
    instances.scores, instances.pred_classes = torch.full((n,), 0.9), torch.arange(n) % 2
    if masks:
        instances.pred_masks = torch.zeros(n, 100, 200, dtype=torch.bool)
    return instances


def identities(tracker, frames):
    return [tracker.update(f, IMAGE, k / 25).ID for k, f in enumerate(frames)]


@pytest.mark.parametrize("name", OURS)
def test_objects_that_move_keep_their_identity(name):
    if "Hungarian" in name:
        pytest.importorskip("scipy")
    frames = [found(10 + 3 * k, 150 - 3 * k, masks=True) for k in range(8)]
    assert identities(make_tracker(name, 100, 200), frames) == [[1, 2]] * 8
    assert len(frames[0].pred_masks) == 2 and not frames[0].has("ID")


def test_an_object_that_is_lost_for_some_frames_comes_back_as_itself():
    frames = [
        found(10, 150),
        found(10, 150),
        found(10),
        found(10),
        found(),
        found(10, 150),
        found(10, 150, 60),
    ]
    assert identities(make_tracker("BBoxIOUTracker", 100, 200), frames) == [
        [1, 2], [1, 2], [1], [1], [], [1, 2], [1, 2, 3]
    ]  # fmt: skip


def test_unknown_trackers_are_named_and_rotated_boxes_refused(monkeypatch):
    with pytest.raises(UserError, match="'BBoxIOUTracker'"):
        make_tracker("BoxIOUTracker", 1, 1)
    monkeypatch.setitem(__import__("sys").modules, "trackers", None)
    with pytest.raises(UserError, match="pip install trackers"):
        make_tracker("trackers:SORTTracker", 1, 1)
    rotated = Instances((9, 9), pred_boxes=RotatedBoxes(torch.zeros(1, 5)))
    with pytest.raises(ValueError, match="upright"):
        make_tracker("BBoxIOUTracker", 9, 9).update(rotated, IMAGE, 0)


class Backwards:
    """Tracks in the form of the package ``trackers``: turns the order round, and drops the first object."""

    def update(self, detections, frame=None, timestamp=None):
        assert frame.shape == IMAGE.shape and timestamp == 0.5
        count = len(detections)
        turned = detections[np.arange(count)[::-1]]
        turned.tracker_id = np.arange(count)[::-1] - 1
        return turned


def test_other_trackers_may_reorder_and_drop():
    pytest.importorskip("supervision")
    tracked = PackageTracker(Backwards()).update(found(10, 50, 90, masks=True), IMAGE, 0.5)
    assert tracked.ID == [1, 2] and tracked.pred_boxes.tensor[:, 0].tolist() == [50, 90]
    assert len(PackageTracker(Backwards()).update(found(), IMAGE, 0.5)) == 0


@pytest.mark.parametrize("name", ["SORTTracker", "ByteTrackTracker"])
def test_the_package_itself(name):
    pytest.importorskip("trackers")
    ids = identities(make_tracker(f"trackers:{name}", 100, 200), [found(10 + k, 150 - k) for k in range(12)])
    assert ids[-1] == ids[-2] and len(set(ids[-1])) == 2 and min(ids[-1]) >= 1
    with pytest.raises(UserError, match="SORTTracker"):
        make_tracker("trackers:SORTTraker", 1, 1)


def test_files_of_tracks(tmp_path):
    files = TrackFiles(tmp_path / "t.csv", tmp_path / "t.txt", ["red", "blue"])
    tracker = make_tracker("BBoxIOUTracker", 100, 200)
    for k in range(3):
        files.add(k, k / 25, tracker.update(found(10 + k, 150), IMAGE, k / 25))
    files.add(3, 0.12, tracker.update(found(), IMAGE, 0.12))
    files.close()
    assert files.num_tracks == 2
    mot = (tmp_path / "t.txt").read_text().splitlines()
    assert mot[0] == "1,1,11.00,1.00,20.00,20.00,0.9000,-1,-1,-1" and len(mot) == 6
    with (tmp_path / "t.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(r["frame"], r["track"], r["class"]) for r in rows[:3]] == [
        ("0", "1", "red"), ("0", "2", "blue"), ("1", "1", "red")
    ]  # fmt: skip
    assert float(rows[2]["x0"]) == 11 and float(rows[2]["time"]) == 0.04
