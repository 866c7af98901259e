"""Finished tiles, kept in a file, so that a prediction that was broken off goes on behind them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from detectron2.data.tiles import Tile
from detectron2.evaluation.progress.records import RecordWriter, read_records

from .labels import LabelPart
from .pieces import Crop, Pieces, joined
from .segments import SegmentPart

__all__ = ["TileStore"]


class TileStore:
    """The pieces of each tile of one image.

    Args:
        path: file that only grows; None keeps the tiles in memory alone.
        stamp: what the pieces depend on, as JSON values; a file with another stamp is begun anew.

    Attributes:
        found: number of tiles that the file had.
        labels: classes of the pixels of each tile; empty for models that give none.
        segments: panoptic segments of each tile; empty for models that give none.
    """

    def __init__(self, path: Path | None, stamp: Mapping[str, Any]) -> None:
        self._parts: dict[int, Pieces] = {}
        self.labels: dict[int, LabelPart] = {}
        self.segments: dict[int, SegmentPart] = {}
        self._writer: RecordWriter | None = None
        end = self._read(path, dict(stamp)) if path is not None else 0
        self.found = len(self._parts)
        if path is not None:
            self._writer = RecordWriter(os.fspath(path), keep=end)
            if not end:
                self._writer.append({"stamp": dict(stamp)})

    def _read(self, path: Path, stamp: Mapping[str, Any]) -> int:
        """Read the whole records of a file; return the place where they end."""
        end = 0
        for record, place in read_records(os.fspath(path)):
            if not end and record.get("stamp") != stamp:
                return 0
            if end:
                number = record["tile"]
                self._parts[number] = _unpacked(record, number)
                if record["labels"]:
                    self.labels[number] = LabelPart(*record["labels"])
                if record["segments"]:
                    things, stuff = record["segments"]
                    self.segments[number] = SegmentPart(_unpacked(things, number), LabelPart(*stuff))
            end = place
        return end

    def __contains__(self, number: int) -> bool:
        return number in self._parts

    def __len__(self) -> int:
        return len(self._parts)

    def add(
        self,
        number: int,
        pieces: Pieces,
        labels: LabelPart | None = None,
        segments: SegmentPart | None = None,
    ) -> None:
        """Keep what was found in a tile; it outlives this process when the call returns."""
        self._parts[number] = pieces
        if labels is not None:
            self.labels[number] = labels
        if segments is not None:
            self.segments[number] = segments
        if self._writer is not None:
            kept = None if segments is None else [_packed(segments.things), segments.stuff]
            record = {"tile": number, **_packed(pieces), "labels": labels, "segments": kept}
            self._writer.append(record)

    def all(self) -> Pieces:
        """Return the pieces of all tiles, in their order."""
        return joined([self._parts[number] for number in sorted(self._parts)])

    def close(self) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()


def _packed(pieces: Pieces) -> dict[str, Any]:
    masks = pieces.masks
    return {
        "boxes": pieces.boxes,
        "scores": pieces.scores,
        "classes": pieces.classes,
        "keypoints": pieces.keypoints,
        "windows": None
        if masks is None
        else np.array([m.window for m in masks], dtype=np.int64).reshape(-1, 4),
        "counts": None if masks is None else [m.counts for m in masks],
    }


def _unpacked(record: Mapping[str, Any], number: int) -> Pieces:
    masks = None
    if record["windows"] is not None:
        masks = tuple(Crop(Tile(*w), c) for w, c in zip(record["windows"].tolist(), record["counts"]))
    return Pieces(
        tiles=np.full(len(record["scores"]), number, dtype=np.int64),
        boxes=record["boxes"],
        scores=record["scores"],
        classes=record["classes"],
        masks=masks,
        keypoints=record["keypoints"],
    )
