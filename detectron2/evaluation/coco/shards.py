"""Matching by classes like pycocotools' ``COCOeval``, distributed over processes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from . import engines as engines
from .detections import ImageDetections
from .engines import CocoFigures

_CHUNK_IMAGES = 500  # number of images matched at a time, whose detections are in memory

Places = dict[tuple[int, int, Any], dict[str, Any]]


@dataclass
class MatchedImages:
    """The matches of some images, without their detections.

    Attributes:
        image_ids: ids of the images.
        places: the inputs of ``COCOeval.accumulate`` by category index, area range index and image id; missing if
            there are neither objects nor detections.
    """

    image_ids: list[Any]
    places: Places


def match_images(
    truth: COCO,
    detections: Sequence[ImageDetections],
    image_ids: Sequence[Any],
    task: str,
    max_dets: Sequence[int] | None = None,
    sigmas: Sequence[float] | None = None,
    evaluator: Callable[..., Any] | None = None,
) -> MatchedImages:
    """Match the images of one process.

    Args:
        truth: the whole ground truth.
        detections: detections of this process.
        image_ids: all images of this process, with or without detections.
        task: ``bbox``, ``segm`` or ``keypoints``.
        max_dets: limits on detections per image.
        sigmas: OKS sigmas.
        evaluator: class to use in place of ``COCOeval``.
    """
    rows: dict[Any, list[int]] = {}
    for k, image in enumerate(_ids_of(detections)):
        rows.setdefault(image, []).append(k)
    places: Places = {}
    for start in range(0, len(image_ids), _CHUNK_IMAGES):
        chunk = list(image_ids[start : start + _CHUNK_IMAGES])
        found = [detections[k] for i in chunk for k in rows.get(i, ())]
        matcher = engines.pycocotools_matcher(
            truth, engines._result_dicts(found, task), task, max_dets, sigmas, chunk, evaluator
        )
        places.update(_places(matcher))
    return MatchedImages(list(image_ids), places)


def _ids_of(detections: Any) -> list[Any]:
    known = getattr(detections, "image_ids", None)
    return [d.image_id for d in detections] if known is None else known


def _places(matcher: COCOeval) -> Places:
    """Return the matches of a matcher, see :class:`MatchedImages`; ids of matches are converted to flags."""
    images, areas = len(matcher.params.imgIds), len(matcher.params.areaRng)
    found: Places = {}
    for k, result in enumerate(matcher.evalImgs):
        if result is not None:
            category, rest = divmod(k, areas * images)
            found[category, rest // images, result["image_id"]] = {
                "dtScores": np.asarray(result["dtScores"], dtype=np.float64),
                "dtMatches": np.asarray(result["dtMatches"]) != 0,
                "dtIgnore": np.asarray(result["dtIgnore"]).astype(bool),
                "gtIgnore": np.asarray(result["gtIgnore"]).astype(bool),
            }
    return found


def joined_figures(
    truth: COCO,
    parts: Iterable[MatchedImages],
    task: str,
    max_dets: Sequence[int] | None = None,
    sigmas: Sequence[float] | None = None,
    evaluator: Callable[..., Any] | None = None,
) -> CocoFigures:
    """Compute the arrays of all images from the matches of all processes.

    Args:
        truth: the ground truth.
        parts: the matches of each process; an image must be in only one part.
        task, max_dets, sigmas, evaluator: see :func:`match_images`.
    """
    image_ids: list[Any] = []
    places: Places = {}
    for part in parts:
        image_ids += part.image_ids
        places.update(part.places)
    matcher = engines.pycocotools_matcher(truth, [], task, max_dets, sigmas, [], evaluator)
    matcher.params.imgIds = np.unique(image_ids).tolist()
    p = matcher.params
    matcher.evalImgs = [
        places.get((k, a, i)) for k in range(len(p.catIds)) for a in range(len(p.areaRng)) for i in p.imgIds
    ]
    matcher._paramsEval = p
    matcher.accumulate()
    return engines.figures_from(matcher, task)
