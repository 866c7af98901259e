"""A video with its predictions drawn, and the files beside it: frames as JSON lines, tracks as CSV and MOT."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from detectron2.data import Metadata
from detectron2.structures.types import ModelOutput
from detectron2.visualization import VideoVisualizer

from .drawing import draw_frame
from .predictor import Prediction
from .records import best_first, count_objects, output_record
from .tracks import FrameTracker, TrackFiles, make_tracker
from .video_writer import VideoWriter

__all__ = ["AnnotatedVideo"]


class AnnotatedVideo:
    """Takes the predictions of one video, frame by frame, and writes them down and drawn.

    Written are the video, with the time stamps and the sound of its source; ``STEM.jsonl``, one line a frame; and with a
    tracker ``STEM.tracks.csv`` and ``STEM.mot.txt``.

    Args:
        source: the video; its sound is copied, unless it is a camera.
        path: video to write.
        metadata: names and colours of the classes.
        tracker: name for :func:`make_tracker`; None for no tracks.
        rate: frames a second, if known.

    Attributes:
        source: the video that is read.
        num_frames: frames written.
        num_objects: objects in them all.
    """

    def __init__(
        self, source: str, path: Path, metadata: Metadata, *, tracker: str | None = None, rate: float | None = None,
        sound: bool = True,
    ) -> None:  # fmt: skip
        self.source = source
        self.path = path
        self.num_frames = 0
        self.num_objects = 0
        self._metadata = metadata
        self._rate = rate
        self._tracker_name = tracker
        self._tracker: FrameTracker | None = None
        self._size = (0, 0)
        self._begun = time.monotonic()
        self._drawer = VideoVisualizer(metadata)
        self._writer = VideoWriter(path, sound_of=source if sound else None, rate=rate)
        self._lines = self._beside(".jsonl").open("w", encoding="utf-8")
        self._tracks: TrackFiles | None = None
        if tracker is not None:
            names = metadata.get("thing_classes")
            self._tracks = TrackFiles(self._beside(".tracks.csv"), self._beside(".mot.txt"), names)

    def _beside(self, ending: str) -> Path:
        return self.path.with_name(self.path.stem + ending)

    @property
    def speed(self) -> float:
        """Frames a second, all work together."""
        return self.num_frames / max(time.monotonic() - self._begun, 1e-9)

    def add(self, found: Prediction) -> None:
        """Write and draw one frame.

        Args:
            found: of the video's next frame.
        """
        number = self.num_frames if found.frame is None else found.frame
        seconds = found.time or 0.0
        outputs = self._tracked(best_first(found.outputs), found, number, seconds)
        record = output_record(outputs, self._metadata)
        self._lines.write(json.dumps({"frame": number, "time": round(seconds, 6), **record}) + "\n")
        drawn = draw_frame(self._drawer, np.ascontiguousarray(found.image), outputs).get_image()
        self._writer.write(drawn, seconds)
        self._size = found.image.shape[:2]
        self.num_frames += 1
        self.num_objects += count_objects(record)

    def _tracked(self, outputs: ModelOutput, found: Prediction, number: int, seconds: float) -> ModelOutput:
        if self._tracker_name is None or self._tracks is None or "instances" not in outputs:
            return outputs
        if self._tracker is None:
            height, width = found.image.shape[:2]
            self._tracker = make_tracker(self._tracker_name, height, width, self._rate or 30.0)
        instances = self._tracker.update(outputs["instances"], found.image, seconds)
        self._tracks.add(number, seconds, instances)
        return {**outputs, "instances": instances}

    def record(self, num_broken: int = 0) -> dict[str, Any]:
        """Describe the video, ready for JSON.

        Args:
            num_broken: frames that could not be read.
        """
        found: dict[str, Any] = {
            "file_name": self.source,
            "video": self.path.name,
            "height": self._size[0],
            "width": self._size[1],
            "frames": self.num_frames,
            "broken_frames": num_broken,
            "num_objects": self.num_objects,
            "lines": self._beside(".jsonl").name,
        }
        if self._tracks is not None:
            found["num_tracks"] = self._tracks.num_tracks
            found["tracks"], found["mot"] = (self._beside(e).name for e in (".tracks.csv", ".mot.txt"))
        return found

    def close(self) -> None:
        """Finish all files; a video without frames leaves none."""
        self._writer.close()
        self._lines.close()
        if self._tracks is not None:
            self._tracks.close()
        if not self.num_frames:
            for ending in (".jsonl", ".tracks.csv", ".mot.txt"):
                self._beside(ending).unlink(missing_ok=True)
