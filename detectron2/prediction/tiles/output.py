"""What was found in a large image, as files: COCO's fields, GeoJSON, and a small picture."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from detectron2.data import Metadata
from detectron2.data.tiles import GeoReference
from detectron2.structures.exchange import class_texts
from detectron2.structures.outlines import trace_outlines
from detectron2.structures.placed_masks import join_placed, sample_window
from detectron2.structures.types import Segmentation
from detectron2.visualization import VisImage, Visualizer
from detectron2.visualization.colors import palette_color

from .large import LargePrediction
from .pieces import Crop, Pieces
from .shapes import corners_of

__all__ = ["coco_objects", "draw_small", "geojson", "write_geojson"]

Points = npt.NDArray[np.float64]

# Keypoint heads answer in continuous coordinates, where a pixel's centre lies at +0.5; COCO's files count pixels.
_KEYPOINT_SHIFT = 0.5
_MOST_ENCODED = (1 << 31) - 1  # pixels of an image that COCO's run-length encodings can count
_MOST_TRACED = 1 << 24  # pixels in which the outlines of a mask are traced
_MOST_OUTLINED = 500  # objects above which the small picture shows boxes only
_MOST_DRAWN = 5000


def class_names(prediction: LargePrediction) -> list[str]:
    """Name the class of each object; one without a name by its index."""
    return class_texts(prediction.found.classes.tolist(), prediction.metadata.get("thing_classes"))


def coco_objects(prediction: LargePrediction) -> Iterator[dict[str, Any]]:
    """Yield the objects with COCO's fields and the name of the class, one at a time.

    ``bbox`` is XYWH, or centre, size and angle of rotated boxes; ``segmentation`` a run-length encoding of the whole image,
    or polygons (without holes) if the image has 2^31 pixels or more.
    """
    found, size = prediction.found, prediction.size
    for i, name in enumerate(class_names(prediction)):
        box = found.boxes[i].astype(float)
        if not found.rotated:
            box[2:] -= box[:2]
        entry: dict[str, Any] = {
            "category_id": int(found.classes[i]),
            "class": name,
            "bbox": box.tolist(),
            "score": float(found.scores[i]),
        }
        if found.masks is not None:
            entry["segmentation"] = _segmentation(found.masks[i], size)
        if found.keypoints is not None:
            points = found.keypoints[i].astype(float)
            points[:, :2] -= _KEYPOINT_SHIFT
            entry["keypoints"] = points.reshape(-1).tolist()
        yield entry


def _segmentation(crop: Crop, size: tuple[int, int]) -> Segmentation:
    if size[0] * size[1] > _MOST_ENCODED:
        return [outline.reshape(-1).tolist() for outline, hole in _outlines(crop) if not hole]
    return join_placed([crop.rle], [(crop.window.x0, crop.window.y0)], size)


def _outlines(crop: Crop) -> list[tuple[Points, bool]]:
    """Outlines of a mask in the frame of the image, and whether each surrounds a hole.

    Of a mask whose window has more than 16 million pixels only every few columns and rows are looked at.
    """
    window = crop.window
    if not window.width:
        return []
    step = math.ceil(math.sqrt(window.width * window.height / _MOST_TRACED))
    bits = sample_window(crop.rle, np.arange(0, window.width, step), np.arange(0, window.height, step))
    corner, end = np.array([window.x0, window.y0]), np.array([window.x1, window.y1])
    return [(np.minimum(outline * step + corner, end), hole) for outline, hole in trace_outlines(bits)]


# ------------------------------------------------------------------ GeoJSON
def geojson(prediction: LargePrediction, geo: GeoReference) -> dict[str, Any]:
    """Return the objects as a GeoJSON ``FeatureCollection``, in the coordinate reference system of the image.

    Each object is the outline of its mask, with holes, or of its box, with the properties ``class``, ``category_id`` and
    ``score``. The system is named by the member ``crs`` (GeoJSON 2008), which GDAL and QGIS read.
    """
    return {**_collection(geo), "features": list(_features(prediction, geo))}


def write_geojson(prediction: LargePrediction, geo: GeoReference, file: IO[str]) -> None:
    """Write what :func:`geojson` returns, object by object, since all outlines together may be large."""
    file.write(json.dumps(_collection(geo))[:-1] + ', "features": [')
    for number, feature in enumerate(_features(prediction, geo)):
        file.write((",\n" if number else "\n") + json.dumps(feature))
    file.write("\n]}\n")


def _collection(geo: GeoReference) -> dict[str, Any]:
    """Return the collection without its features."""
    authority, _, code = geo.crs.partition(":")
    known = code.isalnum() and authority.isalnum()
    named = f"urn:ogc:def:crs:{authority}::{code}" if known else geo.crs
    return {"type": "FeatureCollection", "crs": {"type": "name", "properties": {"name": named}}}


def _features(prediction: LargePrediction, geo: GeoReference) -> Iterator[dict[str, Any]]:
    found = prediction.found
    for i, name in enumerate(class_names(prediction)):
        properties = {"class": name, "category_id": int(found.classes[i]), "score": float(found.scores[i])}
        yield {"type": "Feature", "geometry": _geometry(found, i, geo), "properties": properties}


def _geometry(found: Pieces, number: int, geo: GeoReference) -> dict[str, Any]:
    outlines = [] if found.masks is None else _outlines(found.masks[number])
    if not outlines:
        outlines = [(corners_of(found.boxes[number : number + 1])[0], False)]
    outer = [outline for outline, hole in outlines if not hole]
    polygons = [[o] for o in outer]
    for hole in (outline for outline, is_hole in outlines if is_hole):
        owner = next((k for k, o in enumerate(outer) if _surrounds(o, hole)), 0)
        polygons[owner].append(hole)
    rings = [[_ring(r, geo, k == 0) for k, r in enumerate(polygon)] for polygon in polygons]
    if len(rings) == 1:
        return {"type": "Polygon", "coordinates": rings[0]}
    return {"type": "MultiPolygon", "coordinates": rings}


def _surrounds(outline: Points, hole: Points) -> bool:
    """Return whether an outline along pixel edges surrounds a hole: a ray to the left crosses it an odd number of times."""
    x, y = hole.min(axis=0) + (
        0.5,
        0.5,
    )  # inside of the leftmost, uppermost pixels: no corner lies on the ray
    first, second = outline, np.roll(outline, -1, axis=0)
    crossed = ((first[:, 1] > y) != (second[:, 1] > y)) & (first[:, 0] < x)
    return bool(np.count_nonzero(crossed) % 2)


def _ring(outline: Points, geo: GeoReference, outer: bool) -> list[list[float]]:
    """Return a closed ring on the ground, counter-clockwise for outer ones and clockwise for holes (RFC 7946)."""
    a, b, c, d, e, f = geo.transform
    x, y = outline.T
    ring = np.stack([a * x + b * y + c, d * x + e * y + f], axis=1)
    east, north = (ring - ring[0]).T
    area = np.dot(east, np.roll(north, -1)) - np.dot(north, np.roll(east, -1))
    ring = ring if (area > 0) == outer else ring[::-1]
    closed: list[list[float]] = np.concatenate([ring, ring[:1]]).tolist()
    return closed


# ------------------------------------------------------------------ a picture
def draw_small(prediction: LargePrediction, image: npt.NDArray[np.uint8], metadata: Metadata) -> VisImage:
    """Draw the objects into the shrunken image: outlines of up to 500, boxes of up to 5,000, the best ones.

    Below them lie the classes of the pixels, if the model gives these; of panoptic models up to 500 segments
    are drawn instead.

    Args:
        prediction: of the whole image.
        image: the whole image, shrunk, ``(h, w, 3)`` in RGB order.
        metadata: colours of the classes.
    """
    scale = np.array([image.shape[1] / prediction.size[1], image.shape[0] / prediction.size[0]])
    found = prediction.found.chosen(range(min(len(prediction.found), _MOST_DRAWN)))
    canvas = Visualizer(image, metadata)
    rows, columns = (np.arange(n) * full // n for n, full in zip(image.shape[:2], prediction.size))
    panoptic = prediction.panoptic
    if panoptic is not None and len(panoptic.segments) <= _MOST_OUTLINED:
        return canvas.draw_panoptic_seg(panoptic.ids[rows[:, None], columns], panoptic.segments, alpha=0.5)
    if prediction.labels is not None:
        canvas.draw_sem_seg(prediction.labels[rows[:, None], columns], alpha=0.5)
    if not len(found):
        return canvas.output
    colors = _colors(found.classes.tolist(), metadata)
    if found.masks is not None and len(found) <= _MOST_OUTLINED:
        masks = [[(o * scale).reshape(-1) for o, hole in _outlines(m) if not hole] for m in found.masks]
        if all(masks):
            return canvas.overlay_instances(masks=masks, assigned_colors=colors)
    for corners, color in zip(corners_of(found.boxes) * scale, colors):
        for start, end in zip(corners, np.roll(corners, -1, axis=0)):
            canvas.draw_line([start[0], end[0]], [start[1], end[1]], color=color)
    return canvas.output


def _colors(classes: Sequence[int], metadata: Metadata) -> list[Any]:
    """Colours of the classes in [0, 1], those of the palette where the metadata have none."""
    known = metadata.get("thing_colors") or ()
    return [tuple(v / 255 for v in known[c]) if c < len(known) else palette_color(c) for c in classes]
