"""``detectron2 predict --tile``: run a model on large images tile by tile."""

import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image

from detectron2.data.tiles import TileOptions, any_size, open_windows
from detectron2.prediction import Predictor
from detectron2.prediction.sources import is_video
from detectron2.prediction.tiles import (
    LargePrediction,
    TiledPredictor,
    class_areas,
    coco_objects,
    draw_small,
    write_geojson,
)
from detectron2.structures.exchange import class_texts
from detectron2.utils.file_io.atomic import atomic_write
from detectron2.utils.image_io import READ_ERRORS

from ..errors import UserError

__all__ = ["predict_tiles"]

_LONG_SIDE = 2000  # pixels of the pictures that are drawn


def predict_tiles(
    predictor: Predictor, names: Mapping[str, str], target: Path, tiles: TileOptions, logger: logging.Logger
) -> int:
    """Predict, and write a list of records, and for each image a small picture, classes of pixels, and GeoJSON.

    Args:
        predictor: predicts for the tiles.
        names: image files, and the name of what is written for each.
        target: the list to write; other files go beside it, and finished tiles are kept in the folder ``tiles`` there.
        tiles: the grid.
        logger: is told of images that cannot be read.

    Returns:
        Exit status.
    """
    output = target.parent
    videos = [path for path in names if is_video(path) or "://" in path]
    if videos:
        raise UserError(f"--tile takes image files, and {videos[0]} is none")
    output.mkdir(parents=True, exist_ok=True)
    large = TiledPredictor(predictor, tiles, folder=output / "tiles")
    total = done = 0
    with any_size(), atomic_write(target) as file:
        file.write("[")
        for path, name in names.items():
            try:
                found = large(path, name)
                picture = _write_picture(found, output / f"{name}.jpg", tiles)
                regions = _write_labels(found, output / f"{name}.labels.png")
                regions |= _write_segments(found, output / f"{name}.panoptic.png")
            except (*READ_ERRORS, ValueError) as error:
                reason = str(error) if path in str(error) else f"{path} ({error})"
                logger.warning("Skipped, since it cannot be read: %s", reason)
                continue
            if found.geo is not None:
                with atomic_write(output / f"{name}.geojson") as features:
                    write_geojson(found, found.geo, features)
            file.write(",\n" if done else "\n")
            _write_record(file, found, picture, regions)
            total, done = total + len(found), done + 1
        file.write("\n]\n")
    print(f"{total} objects in {done} images, {len(names) - done} skipped; see {output}")
    return int(not done)


def _write_picture(found: LargePrediction, path: Path, tiles: TileOptions) -> str:
    with open_windows(found.source, tiles.read) as image:
        small = image.small(_LONG_SIDE)
    drawn = draw_small(found, small, found.metadata)
    Image.fromarray(drawn.get_image()).save(path, quality=90)
    return path.name


def _write_labels(found: LargePrediction, path: Path) -> dict[str, Any]:
    """Write the class of each pixel as the grey value of a picture; return what the record says of it."""
    if found.labels is None:
        return {}
    Image.fromarray(found.labels).save(path, compress_level=1)
    areas = class_areas(found.labels, found.metadata)
    return {"labels": path.name, "regions": [{"category_id": n, "class": c, "area": a} for n, c, a in areas]}


def _write_segments(found: LargePrediction, path: Path) -> dict[str, Any]:
    """Write the segment of each pixel as the grey value of a picture; of more than 16 bits, as COCO's colours."""
    if found.panoptic is None:
        return {}
    ids, segments = found.panoptic.ids, found.panoptic.segments
    pixels = ids if ids.dtype == np.uint16 else np.stack([ids >> bits & 255 for bits in (0, 8, 16)], -1).astype(np.uint8)  # fmt: skip
    Image.fromarray(pixels).save(path, compress_level=1)
    things, stuff = (found.metadata.get(k) for k in ("thing_classes", "stuff_classes"))
    entries = [
        {**s, "class": class_texts([s["category_id"]], things if s["isthing"] else stuff)[0]}
        for s in segments
    ]
    return {"panoptic": path.name, "segments_info": entries}


def _write_record(file: IO[str], found: LargePrediction, picture: str, regions: dict[str, Any]) -> None:
    """Write one entry of ``predictions.json``, object by object, since all of them together may be large."""
    height, width = found.size
    head: dict[str, Any] = {
        "file_name": found.source,
        "picture": picture,
        "height": height,
        "width": width,
        **regions,
    }
    file.write(json.dumps(head)[:-1] + ', "objects": [')
    file.writelines(_separated(found))
    file.write("]}")


def _separated(found: LargePrediction) -> Iterator[str]:
    for number, entry in enumerate(coco_objects(found)):
        yield (",\n" if number else "\n") + json.dumps(entry)
