"""The two engines that match detections with ground truth: hotcoco (fast) and pycocotools (the reference).

Both compute the same arrays, which ``tests/evaluation/test_coco_engines.py`` checks.
"""

# Legend: T IoU thresholds, R recall points, K categories, A area ranges, M limits on detections per image.

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detectron2.utils.errors import BadValue
from detectron2.utils.memory import paused_garbage_collector

from .detections import ImageDetections, ImageId
from .figures import CocoFigures, FloatArray
from .quiet import QuietCOCO, QuietCOCOeval
from .truth import GroundTruth

if TYPE_CHECKING:
    import hotcoco

ENGINES = ("auto", "hotcoco", "pycocotools")
DEFAULT_MAX_DETS = (1, 10, 100)
_FLUSH_IMAGES = 64  # images per update of a stream: a compromise between overhead and memory
_FLUSH_BYTES = 4 << 20  # of compressed masks, which take many times as much when they are compared

_Group = tuple[ImageId, list[ImageDetections]]


def sigmas_of(kpt_oks_sigmas: Sequence[float], truth: GroundTruth) -> list[float] | None:
    """Return the OKS sigmas to use, checked against the number of keypoints in the ground truth."""
    count = next((len(a["keypoints"]) // 3 for a in truth.annotations if a.get("keypoints")), None)
    given = list(kpt_oks_sigmas)
    expected = len(given) or 17
    if count is not None and count != expected:
        what = (
            f"{expected} kpt_oks_sigmas were given" if given else "COCO's default kpt_oks_sigmas are for 17"
        )
        raise BadValue(
            f"{truth.source} has {count} keypoints per instance, but {what}; pass one sigma per keypoint "
            "(config: TEST.KEYPOINT_OKS_SIGMAS)"
        )
    return given or None


def can_use_hotcoco(truth: GroundTruth) -> bool:
    """Return whether the fast engine supports this dataset: ids of categories and images must be integers."""
    ids = [*truth.images, *(c["id"] for c in truth.categories)]
    return all(isinstance(i, int) and 0 <= i < 2**53 for i in ids)


# ------------------------------------------------------------------ hotcoco


def _hotcoco_params(task: str, max_dets: Sequence[int] | None, sigmas: list[float] | None) -> Any:
    import hotcoco

    params = hotcoco.Params(task)
    if max_dets is not None:
        params.max_dets = sorted(max_dets)
    if sigmas:
        params.kpt_oks_sigmas = sigmas
    return params


def _table(detections: Sequence[ImageDetections]) -> FloatArray:
    """Return rows [N, 7] of image, x, y, width, height, score, category."""
    rows = np.empty((sum(len(d) for d in detections), 7))
    at = 0
    for image in detections:
        block = rows[at : at + len(image)]
        block[:, 0], block[:, 1:5] = image.image_id, image.boxes[:, :4]
        block[:, 5], block[:, 6] = image.scores, image.category_ids
        at += len(image)
    return rows


@paused_garbage_collector()
def _result_dicts(detections: Sequence[ImageDetections], task: str) -> list[dict[str, Any]]:
    """Convert detections to result dicts; masks get no box, so that their area is that of the mask."""
    dicts = []
    for image in detections:
        for entry in image:
            if task == "segm":
                del entry["bbox"]
            dicts.append(entry)
    return dicts


@paused_garbage_collector()
def hotcoco_detections(truth: GroundTruth, detections: Sequence[ImageDetections], task: str) -> Any:
    """Convert detections to a ``hotcoco.COCO`` for its ground truth."""
    base = truth.hotcoco(task)
    if task == "keypoints" or not any(len(d) for d in detections):
        return base.load_res(_result_dicts(detections, task))
    if task == "bbox":
        return base.load_res(_table(detections))
    masks = [{"size": list(d.size), "counts": counts} for d in detections for counts in d.rles or ()]
    results = base.load_res(_table(detections), segmentation=masks)
    areas = np.concatenate([d.areas for d in detections if d.areas is not None])
    results.update_anns(ids=np.arange(1, len(areas) + 1), area=areas.astype(np.float64))
    return results


def hotcoco_eval(
    truth: GroundTruth,
    detections: Sequence[ImageDetections],
    task: str,
    max_dets: Sequence[int] | None = None,
    sigmas: list[float] | None = None,
    img_ids: Sequence[int] | None = None,
) -> hotcoco.COCOeval:
    """Match all detections and return the ``hotcoco.COCOeval``, for ``accumulate()``."""
    import hotcoco

    matcher = hotcoco.COCOeval(truth.hotcoco(task), hotcoco_detections(truth, detections, task), task)
    if max_dets is not None:
        matcher.params.max_dets = sorted(max_dets)
    if sigmas:
        matcher.params.kpt_oks_sigmas = sigmas
    if img_ids is not None:
        matcher.params.img_ids = sorted(set(img_ids))
    matcher.evaluate()
    return matcher


@paused_garbage_collector()
def stream_shard(
    truth: GroundTruth,
    detections: Iterable[ImageDetections],
    task: str,
    max_dets: Sequence[int] | None = None,
    sigmas: list[float] | None = None,
    without_detections: Sequence[int] = (),
) -> hotcoco.StreamingEval:
    """Match the images of one process, some at a time; the result can be merged without the detections.

    Args:
        truth: the whole ground truth.
        detections: detections of this process, those of the same image in succession.
        task: ``bbox``, ``segm`` or ``keypoints``.
        max_dets: limits on detections per image.
        sigmas: OKS sigmas.
        without_detections: ids of further images, without detections.
    """
    import hotcoco

    stream = hotcoco.StreamingEval(truth.categories, task, params=_hotcoco_params(task, max_dets, sigmas))
    cap = max(max_dets or ((20,) if task == "keypoints" else DEFAULT_MAX_DETS))
    empty = (ImageDetections(i, *_NOTHING) for i in without_detections)
    by_image = itertools.groupby(itertools.chain(detections, empty), key=lambda d: d.image_id)
    groups = ((i, list(found)) for i, found in by_image)
    for batch in _batches(groups):
        images = [{k: v for k, v in truth.images[i].items() if k in _IMAGE_FIELDS} for i, _ in batch]
        annotations = truth.slim([a for i, _ in batch for a in truth.by_image.get(i, ())], task)
        feed(
            stream,
            images,
            annotations,
            [best_of(truth.of_known_categories(d), cap) for _, group in batch for d in group],
            task,
        )
    return stream


def _batches(groups: Iterable[_Group]) -> Iterator[list[_Group]]:
    """Collect images, each with its detections, until they are enough for an update."""
    batch: list[_Group] = []
    size = 0
    for image_id, found in groups:
        batch.append((image_id, found))
        size += sum(len(counts) for one in found for counts in one.rles or ())
        if len(batch) >= _FLUSH_IMAGES or size >= _FLUSH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def feed(
    stream: hotcoco.StreamingEval,
    images: list[dict[str, Any]],
    annotations: list[dict[str, Any]],
    found: Sequence[ImageDetections],
    task: str,
) -> None:
    """Match some images with a ``hotcoco.StreamingEval``."""
    if task == "segm":
        rows, masks = _mask_table(found)
        stream.update(images, annotations, rows, segmentation=masks)
    else:
        stream.update(images, annotations, _table(found) if task == "bbox" else _result_dicts(found, task))


def best_of(found: ImageDetections, cap: int) -> ImageDetections:
    """Return the best ``cap`` detections of each category, in their original order."""
    if len(found) <= cap:
        return found
    order = np.lexsort((-found.scores, found.category_ids))  # stable: equal scores keep their order
    category = found.category_ids[order]
    rank = np.arange(len(order)) - np.searchsorted(category, category)
    return found if (rank < cap).all() else found.chosen(np.sort(order[rank < cap]))


def _mask_table(
    detections: Sequence[ImageDetections],
) -> tuple[FloatArray, list[dict[str, Any] | list[list[float]]]]:
    """Return rows as :func:`_table`, and masks; each box has the area of its mask, which the matching uses."""
    rows = _table(detections)
    rows[:, 1:3], rows[:, 4] = 0, 1
    if len(rows):
        rows[:, 3] = np.concatenate([d.areas for d in detections if len(d) and d.areas is not None])
    return rows, [{"size": list(d.size), "counts": counts} for d in detections for counts in d.rles or ()]


_IMAGE_FIELDS = ("id", "height", "width")
_NOTHING = (np.zeros(0, dtype=np.int64), np.zeros((0, 4)), np.zeros(0))


def joined_streams(states: Iterable[bytes]) -> hotcoco.StreamingEval:
    """Merge the ``to_bytes()`` of all processes into one ``hotcoco.StreamingEval``."""
    import hotcoco

    return hotcoco.StreamingEval.merge(hotcoco.StreamingEval.from_bytes(s) for s in states)


def merge_shards(states: Iterable[bytes]) -> hotcoco.COCOeval:
    """Merge the ``to_bytes()`` of all processes into one ``hotcoco.COCOeval``."""
    return joined_streams(states).finalize()


def figures_of(matcher: hotcoco.COCOeval | COCOeval, task: str) -> CocoFigures:
    """Accumulate a matcher of either engine and return its arrays."""
    matcher.accumulate()
    return figures_from(matcher, task)


def figures_from(matcher: hotcoco.COCOeval | COCOeval, task: str) -> CocoFigures:
    """Return the arrays of a matcher that has accumulated."""
    found, p = matcher.eval or {}, matcher.params
    params = SimpleNamespace(
        iouType=task, imgIds=list(p.imgIds), catIds=list(p.catIds), iouThrs=np.asarray(p.iouThrs),
        recThrs=np.asarray(p.recThrs), maxDets=list(p.maxDets), areaRng=[list(r) for r in p.areaRng],
        areaRngLbl=list(p.areaRngLbl), useCats=int(p.useCats), kpt_oks_sigmas=getattr(p, "kpt_oks_sigmas", None),
    )  # fmt: skip
    precision, recall, scores = (
        np.asarray(found[key], dtype=np.float64) for key in ("precision", "recall", "scores")
    )
    return CocoFigures(task, precision, recall, scores, params)


# ------------------------------------------------------------------ pycocotools


def pycocotools_eval(
    truth: COCO,
    results: Sequence[dict[str, Any]],
    task: str,
    max_dets: Sequence[int] | None = None,
    sigmas: Sequence[float] | None = None,
    img_ids: Sequence[ImageId] | None = None,
    evaluator: Callable[..., Any] | None = None,
) -> COCOeval:
    """Match detections and accumulate; see :func:`pycocotools_matcher`."""
    matcher = pycocotools_matcher(truth, results, task, max_dets, sigmas, img_ids, evaluator)
    matcher.accumulate()
    return matcher


def pycocotools_matcher(
    truth: COCO,
    results: Sequence[dict[str, Any]],
    task: str,
    max_dets: Sequence[int] | None = None,
    sigmas: Sequence[float] | None = None,
    img_ids: Sequence[ImageId] | None = None,
    evaluator: Callable[..., Any] | None = None,
) -> COCOeval:
    """Match detections and return the ``COCOeval``.

    Args:
        truth: the ground truth.
        results: COCO result dicts; without ``bbox`` for ``segm``.
        task: ``bbox``, ``segm`` or ``keypoints``.
        max_dets: limits on detections per image.
        sigmas: OKS sigmas.
        img_ids: images to evaluate; None = all.
        evaluator: class to use in place of ``COCOeval``.
    """
    matcher = (evaluator or QuietCOCOeval)(truth, _load_results(truth, results), task)
    if max_dets is not None:
        matcher.params.maxDets = list(max_dets)
    if sigmas is not None and len(sigmas):
        matcher.params.kpt_oks_sigmas = np.array(sigmas)
    if img_ids is not None:
        matcher.params.imgIds = list(img_ids)
    if img_ids is None or len(img_ids):
        matcher.evaluate()
    else:  # pycocotools would evaluate all images if there are none
        matcher.params.catIds = np.unique(matcher.params.catIds).tolist()
        matcher.params.maxDets = sorted(matcher.params.maxDets)
    return matcher


def _load_results(truth: COCO, results: Sequence[dict[str, Any]]) -> COCO:
    if type(truth).loadRes is COCO.loadRes:
        return QuietCOCO.loadRes(truth, list(results))
    return truth.loadRes(list(results))
