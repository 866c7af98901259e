"""Matching by the rules of LVIS, image by image, so that it can be distributed over processes.

Reference: Gupta et al., LVIS, https://arxiv.org/abs/1908.03195, and the benchmark's code.
"""

# Legend: N detections of a process.

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from detectron2.utils import comm

from ..coco.detections import ImageDetections, ImageId
from ..coco.engines import feed, figures_of
from ..coco.figures import average
from ..coco.truth import GroundTruth

if TYPE_CHECKING:
    import hotcoco

METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "APr", "APc", "APf")
_ENGINE_CAP = 300  # largest number of detections per image in the engine
_IGNORED_AREA = 1e12  # pixels, larger than every area range
_MOST_PARTS = 1 << 14
_FLUSH_IMAGES = 64


def best_of_image(found: ImageDetections, cap: int, task: str, truth: GroundTruth) -> ImageDetections:
    """Select the detections of an image to evaluate in a task.

    LVIS takes the ``cap`` detections with the best scores (the first of equal ones), then drops those of categories that
    the ground truth does not list, and those whose box (or, for ``segm``, mask) has no area.
    """
    if len(found) > cap:
        found = found.chosen(np.sort(np.argsort(-found.scores, kind="stable")[:cap]))
    found = truth.of_known_categories(found)
    masks = found.areas if task == "segm" else None
    area = found.boxes[:, 2] * found.boxes[:, 3] if masks is None else masks
    return found if (area > 0).all() else found.chosen(area > 0)


def best_of_categories(
    found: Iterable[ImageDetections], most: int, shared: bool = False
) -> list[npt.NDArray[np.bool_]]:
    """Find the ``most`` best detections of each category over all images of all processes.

    Equal scores are ordered by image id, then by their order within the image.

    Args:
        found: detections of this process's images.
        most: number of detections to keep per category.
        shared: whether other processes have other images; they must call this function too.

    Returns:
        A flag for each detection, by image.
    """
    images = [(d.image_id, d.category_ids, np.asarray(d.scores, dtype=np.float64)) for d in found]
    if not images:
        images = [(0, np.zeros(0, dtype=np.int64), np.zeros(0))]
    lengths = [len(scores) for _, _, scores in images]
    category = np.concatenate([c for _, c, _ in images])  # [N]
    score = np.concatenate([s for _, _, s in images])
    image = np.repeat(np.array([i for i, _, _ in images]), lengths)
    row = np.concatenate([np.arange(n) for n in lengths])
    keep = _best(category, score, image, row, most)
    if shared:
        # Only categories with too many detections in total need the detections of other processes.
        known, counts = np.unique(category[keep], return_counts=True)
        total: dict[int, int] = {}
        for part in comm.all_gather(dict(zip(known.tolist(), counts.tolist()))):
            for c, n in part.items():
                total[c] = total.get(c, 0) + n
        crowded = np.flatnonzero(keep & np.isin(category, [c for c, n in total.items() if n > most]))
        parts = comm.all_gather((category[crowded], score[crowded], image[crowded], row[crowded]))
        columns = [np.concatenate(column) for column in zip(*parts)]
        chosen = _best(columns[0], columns[1], columns[2], columns[3], most)
        before = sum(len(part[0]) for part in parts[: comm.get_rank()])
        keep[crowded] = chosen[before : before + len(crowded)]
    return np.split(keep, np.cumsum(lengths)[:-1])


def _best(
    category: npt.NDArray, score: npt.NDArray, image: npt.NDArray, row: npt.NDArray, most: int
) -> npt.NDArray[np.bool_]:
    order = np.lexsort((row, image, -score, category))
    ranked = category[order]
    keep = np.zeros(len(order), dtype=bool)
    keep[order[np.arange(len(order)) - np.searchsorted(ranked, ranked) < most]] = True
    return keep


# ------------------------------------------------------------------ matching


def lvis_shard(
    truth: GroundTruth,
    found: Iterable[ImageDetections],
    task: str,
    without_detections: Sequence[Any] = (),
) -> hotcoco.StreamingEval:
    """Match the images of one process, some at a time.

    Args:
        truth: ground truth whose images have ``neg_category_ids`` and ``not_exhaustive_category_ids``.
        found: detections to evaluate, with the dataset's category ids, those of the same image in succession.
        task: ``bbox`` or ``segm``.
        without_detections: ids of further images, without detections.
    """
    import hotcoco

    stream = hotcoco.StreamingEval(truth.categories, task, lvis_style=True)
    numbers = {image: k for k, image in enumerate(sorted(truth.images))}
    nothing = np.zeros(0, dtype=np.int64)
    empty = (ImageDetections(i, nothing, np.zeros((0, 4)), np.zeros(0)) for i in without_detections)
    by_image = itertools.groupby(itertools.chain(found, empty), key=lambda d: d.image_id)
    groups = ((i, list(parts)) for i, parts in by_image)
    while batch := list(itertools.islice(groups, _FLUSH_IMAGES)):
        images, annotations, rows = [], [], []
        for image_id, parts in batch:
            for part in _parts_of(truth, image_id, parts, numbers[image_id] * _MOST_PARTS):
                images.append(part[0])
                annotations += truth.slim(part[1], task)
                rows += part[2]
        feed(stream, images, annotations, rows, task)
    return stream


Part = tuple[dict[str, Any], list[dict[str, Any]], list[ImageDetections]]


def _parts_of(
    truth: GroundTruth, image_id: ImageId, found: list[ImageDetections], number: int
) -> Iterator[Part]:
    """Yield an image with its objects and detections, split into parts with few enough detections for the engine.

    LVIS matches each category separately, so an image can be split by categories. Parts are numbered from ``number``
    on, which keeps the order of images.
    """
    record = truth.images[image_id]
    objects = [a for a in truth.by_image.get(image_id, ()) if a["area"] > 0]  # LVIS ignores all others
    for k, members in enumerate(_category_groups(found)):
        own = objects if members is None else [a for a in objects if members(a["category_id"])]
        image: dict[str, Any] = {"id": number + k}
        for name in ("height", "width"):
            if name in record:
                image[name] = record[name]
        for name in ("neg_category_ids", "not_exhaustive_category_ids"):
            ids = record.get(name, ())
            image[name] = list(ids) if members is None else [c for c in ids if members(c)]
        yield (
            image,
            [_annotation(a, image["id"]) for a in own],
            [_moved(d, image["id"], members) for d in found],
        )


def _annotation(annotation: dict[str, Any], image_id: int) -> dict[str, Any]:
    """Move an annotation to another image; ignored ones get a huge area, because the engine ignores only by size."""
    area = _IGNORED_AREA if annotation.get("ignore") else annotation["area"]
    return {**annotation, "image_id": image_id, "area": area}


def _moved(found: ImageDetections, image_id: int, members: Callable[[int], bool] | None) -> ImageDetections:
    if members is not None:
        found = found.chosen(np.array([members(c) for c in found.category_ids.tolist()], dtype=bool))
    return replace(found, image_id=image_id)


def _category_groups(found: list[ImageDetections]) -> list[Any]:
    """Return predicates on category ids that split an image into parts of at most ``_ENGINE_CAP`` detections; [None] = one part."""
    if sum(len(d) for d in found) <= _ENGINE_CAP:
        return [None]
    known, counts = np.unique(np.concatenate([d.category_ids for d in found]), return_counts=True)
    if counts.max() > _ENGINE_CAP:
        logging.getLogger(__name__).warning(
            "Image %s has %d detections of one category; LVIS metrics use only the best %d of them.",
            found[0].image_id, counts.max(), _ENGINE_CAP,
        )  # fmt: skip
    groups: list[set[int]] = [set()]
    filled = 0
    for category, n in zip(known.tolist(), counts.tolist()):
        if filled + n > _ENGINE_CAP and groups[-1]:
            groups.append(set())
            filled = 0
        groups[-1].add(category)
        filled += n
    others = set().union(*groups[1:])
    # Categories without detections stay in the first part.
    return [lambda c: c not in others, *(group.__contains__ for group in groups[1:])]


def lvis_figures(stream: hotcoco.StreamingEval, categories: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Compute the metrics of LVIS, in percent; -100 without ground truth.

    Args:
        stream: the matches of all images.
        categories: categories of the ground truth, with ``frequency`` (``r``, ``c`` or ``f``).
    """
    figures = figures_of(stream.finalize(), "bbox")
    frequency = {c["id"]: c.get("frequency") for c in categories}
    groups = np.array([frequency.get(c) for c in figures.params.catIds], dtype=object)
    values = {"AP": average(figures), "AP50": average(figures, iou=0.5), "AP75": average(figures, iou=0.75)}
    values |= {f"AP{size[0]}": average(figures, area=size) for size in ("small", "medium", "large")}
    for group in "rcf":
        members = replace(figures, precision=figures.precision[:, :, groups == group])
        values[f"AP{group}"] = average(members)
    return {name: 100 * values[name] for name in METRICS}
