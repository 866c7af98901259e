"""Identities for the instances of a video's frames, and the files that hold tracks."""

from __future__ import annotations

import csv
import inspect
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from detectron2 import tracking
from detectron2.structures import Boxes, Instances, RotatedBoxes
from detectron2.structures.exchange import as_arrays, class_texts
from detectron2.tracking import TRACKER_HEADS_REGISTRY
from detectron2.utils.errors import BadValue, UserError
from detectron2.utils.file_io.text import csv_encoding
from detectron2.utils.suggest import did_you_mean

__all__ = ["DEFAULT_TRACKER", "FrameTracker", "HeadTracker", "PackageTracker", "TrackFiles", "make_tracker"]

DEFAULT_TRACKER = "BBoxIOUTracker"
_PACKAGE = "trackers:"  # prefix of the names of the package of that name
# What a tracker of ours is built with; a lost object is waited for, a second at the usual rate.
_SETTINGS = {"max_num_instances": 1000, "max_lost_frame_count": 25, "min_box_rel_dim": 0.0}


class FrameTracker(Protocol):
    """Gives the instances of successive frames identities."""

    def update(self, instances: Instances, image: npt.NDArray[Any], time: float) -> Instances:
        """Take in the next frame.

        Args:
            instances: of the frame, on the CPU.
            image: the frame, ``(H, W, 3)`` RGB.
            time: seconds since the start of the video.

        Returns:
            The instances that have an identity, with the field ``ID``: whole numbers from 1.
        """


def make_tracker(name: str, height: int, width: int, rate: float = 30.0) -> FrameTracker:
    """Build a tracker for one video.

    Args:
        name: of a registered tracker, such as "BBoxIOUTracker" or "VanillaHungarianBBoxIOUTracker"; or
            "trackers:NAME" for a class of the package ``trackers``, such as "trackers:ByteTrackTracker".
        height: of a frame, in pixels.
        width: of a frame, in pixels.
        rate: frames a second.

    Raises:
        UserError: if there is no tracker of that name, or its package is not installed.
    """
    if name.startswith(_PACKAGE):
        return PackageTracker(_of_package(name.removeprefix(_PACKAGE), rate))
    if name not in TRACKER_HEADS_REGISTRY:
        known = [key for key, _ in TRACKER_HEADS_REGISTRY]
        raise UserError(f"there is no tracker {name!r}. {did_you_mean(name, known)}")
    return HeadTracker(TRACKER_HEADS_REGISTRY.get(name)(video_height=height, video_width=width, **_SETTINGS))


def _of_package(name: str, rate: float) -> Any:
    try:
        import trackers
    except ImportError as error:
        raise UserError(
            f"{_PACKAGE}{name} needs the package trackers: pip install trackers ({error})"
        ) from error
    if not isinstance(getattr(trackers, name, None), type):
        known = [key for key in dir(trackers) if key.endswith("Tracker")]
        raise UserError(f"the package trackers has no {name!r}. {did_you_mean(name, known)}")
    return getattr(trackers, name)(frame_rate=rate)


def _boxes_of(instances: Instances) -> Boxes:
    boxes = instances.pred_boxes if instances.has("pred_boxes") else None
    if not isinstance(boxes, Boxes) or isinstance(boxes, RotatedBoxes):
        raise BadValue("tracking needs instances with upright boxes (pred_boxes)")
    return boxes


class HeadTracker:
    """One of the trackers of ``detectron2.tracking``; it is given boxes only, so that it keeps no masks.

    Args:
        tracker: any ``BaseTracker``.
    """

    def __init__(self, tracker: tracking.BaseTracker) -> None:
        self._tracker = tracker

    def update(self, instances: Instances, image: npt.NDArray[Any], time: float) -> Instances:
        """Take in the next frame; see :class:`FrameTracker`."""
        count = len(instances)
        seen = Instances(instances.image_size, pred_boxes=_boxes_of(instances))
        for name in ("scores", "pred_classes"):
            if instances.has(name):
                seen.set(name, instances.get(name))
        # those of this frame come first, in their order, and behind them the lost ones
        identities = list(self._tracker.update(seen).ID)[:count]
        tracked = instances[:]
        tracked.ID = [int(identity) + 1 for identity in identities]
        return tracked


class PackageTracker:
    """A tracker of the package ``trackers``, or any object with its method ``update``.

    Args:
        tracker: its ``update`` takes ``supervision.Detections``, in newer releases also ``frame`` (BGR) and
            ``timestamp``, and returns those that are tracked, with ``tracker_id``; below 0 for objects that it does not
            follow yet.
    """

    def __init__(self, tracker: Any) -> None:
        self._tracker = tracker
        self._takes = set(inspect.signature(tracker.update).parameters)

    def update(self, instances: Instances, image: npt.NDArray[Any], time: float) -> Instances:
        """Take in the next frame; see :class:`FrameTracker`."""
        _boxes_of(instances)
        light = Instances(instances.image_size)
        for name in ("pred_boxes", "scores", "pred_classes"):
            if instances.has(name):
                light.set(name, instances.get(name))
        detections = light.to_supervision()
        detections.data["row"] = np.arange(len(instances))
        given = {"frame": np.ascontiguousarray(image[:, :, ::-1]), "timestamp": time}
        with warnings.catch_warnings():  # of trackers that have no use for the picture
            warnings.filterwarnings("ignore", message=".*received a frame argument")
            found = self._tracker.update(detections, **{k: v for k, v in given.items() if k in self._takes})
        identities = np.full(len(instances), -1)
        if len(found) and found.tracker_id is not None:
            identities[found.data["row"]] = found.tracker_id
        rows = np.flatnonzero(identities >= 0).tolist()
        tracked = instances[rows] if rows else instances[:0]
        tracked.ID = [int(identities[row]) + 1 for row in rows]
        return tracked


class TrackFiles:
    """Writes the tracks of a video as CSV and in the format of MOTChallenge, frame by frame.

    A line of the latter is ``frame, track, left, top, width, height, score, -1, -1, -1``, with frames, tracks and pixels
    counted from 1 (Dendorfer et al., MOT20, https://arxiv.org/abs/2003.09003). The CSV has a header, counts frames and
    pixels from 0, and names the classes.

    Args:
        csv_path: CSV file.
        mot_path: MOT file.
        class_names: names of the classes.
    """

    HEADER = ("frame", "time", "track", "class", "score", "x0", "y0", "x1", "y1")

    def __init__(self, csv_path: Path, mot_path: Path, class_names: Sequence[str] | None) -> None:
        self._names = class_names
        self._tracks: set[int] = set()
        self._csv = csv_path.open("w", newline="", encoding=csv_encoding(class_names or ()))
        self._mot = mot_path.open("w", encoding="utf-8")
        self._writer = csv.writer(self._csv)
        self._writer.writerow(self.HEADER)

    @property
    def num_tracks(self) -> int:
        """Number of tracks so far."""
        return len(self._tracks)

    def add(self, frame: int, time: float, instances: Instances) -> None:
        """Write one frame.

        Args:
            frame: its number, from 0.
            time: seconds since the start of the video.
            instances: with ``ID``.
        """
        arrays = as_arrays(instances)
        count = len(instances)
        scores = arrays.get("scores", np.ones(count)).tolist()
        texts = class_texts(arrays.get("classes", np.zeros(count, int)), self._names)
        for identity, text, score, box in zip(
            arrays["ids"].tolist(), texts, scores, arrays["boxes"].tolist()
        ):
            self._tracks.add(identity)
            corners = [f"{v:.2f}" for v in box]
            self._writer.writerow([frame, f"{time:.6f}", identity, text, f"{score:.4f}", *corners])
            x0, y0, x1, y1 = box
            place = f"{x0 + 1:.2f},{y0 + 1:.2f},{x1 - x0:.2f},{y1 - y0:.2f}"
            self._mot.write(f"{frame + 1},{identity},{place},{score:.4f},-1,-1,-1\n")

    def close(self) -> None:
        """Close both files."""
        self._csv.close()
        self._mot.close()
