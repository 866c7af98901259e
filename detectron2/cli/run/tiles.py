"""Large images on the command line: the options, and a training's data in tiles."""

import argparse
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from detectron2.data.formats import DataPlan
from detectron2.data.tiles import ReadOptions, TileOptions, any_size, cut_dataset
from detectron2.engine.run_config import RunConfig

from ..errors import UserError

__all__ = ["cut_parts", "fit_tiles", "most_detections", "of_any_size", "tile_options"]

# Shares of a tile's side to which training resizes its shorter side, so that objects of many sizes are seen.
_SCALES = (0.8, 0.9, 1.0)
_COCO_CAP = 100  # detections of an image that count in COCO's figures


def tile_options(args: argparse.Namespace, run: Mapping[str, Any] | None = None) -> TileOptions | None:
    """Return how images are cut, as the command line says; None for whole images.

    Args:
        args: with ``tile``, ``overlap``, ``bands`` and ``value_range``.
        run: what a run has learned from, which is taken where the command line says nothing.

    Raises:
        UserError: an option of tiles without ``--tile``, or a number out of range.
    """
    given = [name for name in ("overlap", "bands", "value_range") if getattr(args, name) is not None]
    if args.tile == 0 or (args.tile is None and run is None):
        if given:
            raise UserError(f"--{given[0].replace('_', '-')} goes with --tile PIXELS")
        return None
    old = TileOptions.from_dict(run) if run is not None else TileOptions()
    options = TileOptions(
        tile=old.tile if args.tile is None else args.tile,
        overlap=old.overlap if args.overlap is None else args.overlap,
        read=ReadOptions(
            bands=tuple(args.bands) if args.bands else old.read.bands,
            value_range=tuple(args.value_range) if args.value_range else old.read.value_range,
        ),
    )
    options.grid(1, 1)  # refuses numbers out of range
    return options


def of_any_size(options: TileOptions | None) -> AbstractContextManager[None]:
    """Let images of any size be opened in a ``with`` block if they are read in tiles."""
    return nullcontext() if options is None else any_size()


def fit_tiles(config: RunConfig, options: TileOptions, empty: float) -> list[str]:
    """Let a model see tiles at their own size, in training also somewhat smaller, and learn from empty ones.

    Args:
        config: before the user's own changes.
        options: the grid.
        empty: share of tiles without objects.

    Returns:
        Lines for the user.
    """
    if config.get("INPUT.MIN_SIZE_TRAIN") is None:
        return ["tiles are resized as the Python config says: see its augmentations"]
    side = options.tile
    config.set("INPUT.MIN_SIZE_TRAIN", tuple(max(round(side * scale), 1) for scale in _SCALES))
    config.set("INPUT.MIN_SIZE_TEST", side)
    for name in ("INPUT.MAX_SIZE_TRAIN", "INPUT.MAX_SIZE_TEST"):
        config.set(name, max(side, int(config.get(name))))
    if empty:
        config.set("DATALOADER.FILTER_EMPTY_ANNOTATIONS", False)
    return [
        f"the model sees tiles of {side} pixels at their own size (INPUT.MIN_SIZE_TRAIN, INPUT.MIN_SIZE_TEST)"
    ]


def cut_parts(plan: DataPlan, folder: Path, options: TileOptions, empty: float) -> DataPlan:
    """Cut the data of a training into tiles; all tiles of an image stay in its part.

    Args:
        plan: parts ``train`` and ``val`` of whole images.
        folder: of the run; gets ``tiles``.
        options: the grid.
        empty: how many tiles without an object are trained on, as a share of those with one; in validation all are.

    Returns:
        A plan with the parts ``train`` (tiles), ``val`` (whole images, for the evaluation at the end) and ``val_tiles``.

    Raises:
        UserError: no tile shows an object.
    """
    if empty < 0:
        raise UserError(f"--empty-tiles must be at least 0, got {empty}")
    parts = {
        name: cut_dataset(dataset, folder / "tiles" / name, options, empty if name == "train" else None)
        for name, dataset in plan.parts.items()
    }
    if not parts["train"].records:
        raise UserError("no tile of the training images shows an object")
    val = {"val": plan.parts["val"], "val_tiles": parts.pop("val")}
    cut = {"train": parts["train"], "val": val["val_tiles"]}
    notes = [
        f"{name}: {len(plan.parts[name].records)} images in {len(d.records)} tiles of {options.tile} pixels, "
        f"{sum(not r['annotations'] for r in d.records)} of them without an object"
        for name, d in cut.items()
    ]
    return DataPlan({**parts, **val}, plan.reports, plan.origin, [*plan.notes, *notes])


def most_detections(
    config: RunConfig, records: Sequence[Mapping[str, Any]], options: TileOptions | None
) -> int | None:
    """Return how many objects of an image count in an evaluation; None for COCO's 100.

    Args:
        config: its ``TEST.DETECTIONS_PER_IMAGE`` are found in each image, or tile, at most.
        records: of whole images.
        options: the grid, if images are cut.
    """
    each = int(config.get("TEST.DETECTIONS_PER_IMAGE", _COCO_CAP))
    tiles = 1
    if options is not None:
        tiles = max((len(options.grid(r["height"], r["width"])) for r in records), default=1)
    return each * tiles if each * tiles > _COCO_CAP else None
