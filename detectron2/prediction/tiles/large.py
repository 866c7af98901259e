"""A predictor of large images: it reads, predicts and keeps one row of tiles after the other, and merges at the end."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from detectron2.data import Metadata
from detectron2.data.tiles import GeoReference, Tile, TileOptions, Windows, open_windows
from detectron2.engine.run_config import run_config
from detectron2.structures import Boxes, Instances, RotatedBoxes
from detectron2.structures.placed_masks import join_placed
from detectron2.structures.types import ModelOutput
from detectron2.utils.errors import UserError

from ..backends import Prepared
from ..batching import read_ahead
from ..predictor import Predictor
from ..selection import on_cpu
from .labels import cores_of, label_part, whole_map
from .merge import MergeRule, merge_pieces
from .pieces import Pieces, pieces_of
from .segments import PanopticMap, panoptic_map, segment_part
from .store import TileStore

__all__ = ["LargePrediction", "TiledModel", "TiledPredictor"]

logger = logging.getLogger(__name__)

_BATCHES_AHEAD = 2
_SAY_EVERY = 100  # tiles


@dataclass(frozen=True)
class LargePrediction:
    """What was found in a large image.

    Attributes:
        source: path.
        size: (height, width) in pixels.
        found: one piece for each object, best score first; masks are no larger than their objects.
        geo: where the image lies on the ground; None if its file does not say.
        num_tiles: tiles of the image.
        num_reused: those of them that an earlier run had finished.
        metadata: names and colours of the classes.
        labels: ``[H, W]``, the class of each pixel, of semantic and panoptic models; None for others.
        panoptic: the segments, of panoptic models; None for others.
    """

    source: str
    size: tuple[int, int]
    found: Pieces
    geo: GeoReference | None = None
    num_tiles: int = 1
    num_reused: int = 0
    metadata: Metadata = field(default_factory=Metadata, repr=False, compare=False)
    labels: npt.NDArray[np.unsignedinteger] | None = field(default=None, repr=False, compare=False)
    panoptic: PanopticMap | None = field(default=None, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.found)

    def instances(self) -> Instances:
        """Return the objects as ``Instances`` of the whole image.

        They have ``pred_boxes``, ``scores`` and ``pred_classes``, and where predicted ``pred_keypoints``, and ``pred_rle``: masks
        as COCO run-length encodings, since bitmaps of a large image fit no memory.

        Raises:
            ValueError: if there are masks and the image has 2^31 pixels or more, which such encodings cannot count.
        """
        found = self.found
        made = Instances(self.size)
        boxes = torch.from_numpy(found.boxes.copy())
        made.pred_boxes = RotatedBoxes(boxes) if found.rotated else Boxes(boxes)
        made.scores = torch.from_numpy(found.scores.copy())
        made.pred_classes = torch.from_numpy(found.classes.copy())
        if found.masks is not None:
            made.pred_rle = [
                join_placed([m.rle], [(m.window.x0, m.window.y0)], self.size) for m in found.masks
            ]
        if found.keypoints is not None:
            made.pred_keypoints = torch.from_numpy(found.keypoints.copy())
        return made


class _Ready(NamedTuple):
    number: int
    prepared: Prepared


class TiledPredictor:
    """Predicts for images of any size, tile by tile, in bounded memory.

    Memory is that of the model for ``batch_size`` tiles, of the tiles that are read ahead, and of the objects found.

    Args:
        predictor: predicts for the tiles; its ``batch_size`` tiles run together.
        options: the grid, and how files are read.
        rule: when pieces from several tiles are one object.
        folder: keeps finished tiles, so that a run that was broken off goes on behind them; None keeps none.
        maps: also put together the class maps of semantic and panoptic models, which take a byte for each pixel, and the
            panoptic segments, which take two; without this, a model must give instances.

    Example::

        large = TiledPredictor(Predictor("mask_rcnn_R_50_FPN_3x", batch_size=4), TileOptions(1024, 0.2))
        found = large("scene.tif")
        found.instances()
    """

    def __init__(
        self,
        predictor: Predictor,
        options: TileOptions | None = None,
        *,
        rule: MergeRule | None = None,
        folder: str | os.PathLike[str] | None = None,
        maps: bool = True,
    ) -> None:
        self.maps = maps
        self.predictor = predictor
        self.options = options or TileOptions()
        self.rule = rule or MergeRule()
        self.folder = None if folder is None else Path(folder)
        self.identity = _identity(predictor)
        self._told = False

    def __call__(self, path: str | os.PathLike[str], name: str | None = None) -> LargePrediction:
        """Predict for one image.

        Args:
            path: image file.
            name: of the file of finished tiles in ``folder``; None for that of the image.

        Raises:
            OSError, ValueError: if the image cannot be read.
            UserError: if the model finds neither instances nor classes of pixels.
        """
        source = os.fspath(path)
        with open_windows(source, self.options.read) as image:
            size = (image.height, image.width)
            tiles = self.options.grid(*size)
            kept = None if self.folder is None else self.folder / f"{name or Path(source).name}.tiles"
            store = TileStore(kept, self._stamp(source, size))
            with closing(store):
                self._predict(image, tiles, store)
                found = store.all()
                labels = whole_map(store.labels, tiles)
                panoptic = panoptic_map(store.segments, tiles, size, self.rule)
            merged = merge_pieces(found, tiles, size, self.rule)
            logger.info(
                "%s: %d tiles (%d of them kept from before), %d pieces, %d objects",
                source, len(tiles), store.found, len(found), len(merged),
            )  # fmt: skip
            return LargePrediction(
                source, size, merged, image.geo, len(tiles), store.found, self.predictor.metadata, labels, panoptic
            )  # fmt: skip

    def _predict(self, image: Windows, tiles: list[Tile], store: TileStore) -> None:
        """Predict for the tiles that are not in the store."""
        size, cores = self.predictor.batch_size, cores_of(tiles)
        with closing(read_ahead(self._prepared(image, tiles, store), _BATCHES_AHEAD * size)) as ready:
            while batch := list(islice(ready, size)):
                outputs = self.predictor.run_prepared([r.prepared for r in batch])
                for (number, _), given in zip(batch, outputs):
                    self._keep(on_cpu(given), number, tiles[number], cores[number], store)
                    if len(store) % _SAY_EVERY == 0:
                        logger.info("%d of %d tiles", len(store), len(tiles))

    def _keep(self, output: ModelOutput, number: int, tile: Tile, core: Tile, store: TileStore) -> None:
        """Keep what was found in a tile."""
        usable = ("instances", "sem_seg", "panoptic_seg") if self.maps else ("instances",)
        if not any(name in output for name in usable):
            others = ", classes of pixels and panoptic segments" if self.maps else ""
            raise UserError(
                f"the model gives {', '.join(output)}, and only instances{others} can be put together from tiles"
            )
        labels = segments = None
        if self.maps and "sem_seg" in output:
            labels = label_part(output["sem_seg"], tile, core)
        if self.maps and "panoptic_seg" in output:
            segments = segment_part(*output["panoptic_seg"], number, tile, core)
        store.add(number, pieces_of(output.get("instances", _none(tile)), number, tile), labels, segments)

    def _prepared(self, image: Windows, tiles: list[Tile], store: TileStore) -> Iterator[_Ready]:
        for number in [i for i in range(len(tiles)) if i not in store]:
            tile = tiles[number]
            prepared = self.predictor.backend.prepare(image.read(tile))
            self._say_scale(prepared, tile)
            yield _Ready(number, prepared)

    def _say_scale(self, prepared: Prepared, tile: Tile) -> None:
        """Say once how tiles are resized, which decides how small an object may be."""
        height = prepared.shape[-2] if isinstance(prepared.shape, tuple) else None
        if not self._told and isinstance(height, int):
            self._told = True
            logger.info(
                "The model sees a tile of %d x %d pixels at %.2f times its size.",
                tile.width, tile.height, height / tile.height,
            )  # fmt: skip

    def _stamp(self, source: str, size: tuple[int, int]) -> dict[str, Any]:
        stat = os.stat(source)
        return {
            "source": os.path.abspath(source), "bytes": stat.st_size, "modified": stat.st_mtime_ns, "size": list(size),
            **self.options.as_dict(), "identity": self.identity, "regions": self.maps,
        }  # fmt: skip


class TiledModel(nn.Module):
    """A model that takes records of a data set, whose images it reads in tiles, where others take loaded images.

    Args:
        large: predicts for the images.
    """

    def __init__(self, large: TiledPredictor) -> None:
        super().__init__()
        self.model = getattr(
            large.predictor.backend, "model", None
        )  # so that a module's fingerprint has its weights
        self.settings = [f"{name}={value}" for name, value in large.options.as_dict().items()]
        self._large = large

    def forward(self, inputs: Sequence[Mapping[str, Any]]) -> list[dict[str, Instances]]:
        """Predict for images.

        Args:
            inputs: with ``file_name`` and ``image_id``.

        Returns:
            For each ``{"instances": ...}`` with masks as ``pred_rle``.
        """
        return [{"instances": self._large(r["file_name"], _name_of(r)).instances()} for r in inputs]


def _none(tile: Tile) -> Instances:
    """Return the instances of a model that gives none."""
    return Instances(
        (tile.height, tile.width), pred_boxes=Boxes(torch.zeros(0, 4)), scores=torch.zeros(0),
        pred_classes=torch.zeros(0, dtype=torch.int64),
    )  # fmt: skip


def _name_of(record: Mapping[str, Any]) -> str:
    return f"{record.get('image_id', 0)} {Path(record['file_name']).name}"


def _identity(predictor: Predictor) -> dict[str, Any]:
    """Return what the pieces of a tile depend on beside the tile: config, weights and selection, as JSON values."""
    cfg = getattr(predictor.backend, "cfg", None)
    identity: dict[str, Any] = {"scores": predictor.scores, "classes": predictor.classes}
    if cfg is None:
        file = str(getattr(predictor.backend, "path", ""))  # of an exported model
        stat = os.stat(file) if os.path.isfile(file) else None
        return identity if stat is None else {**identity, "weights": [file, stat.st_size, stat.st_mtime_ns]}
    weights = run_config(cfg).options.weights
    stat = os.stat(weights) if os.path.isfile(weights) else None
    return {
        **identity,
        "config": hashlib.sha256(str(cfg).encode()).hexdigest()[:16],
        "weights": [weights] if stat is None else [weights, stat.st_size, stat.st_mtime_ns],
    }
