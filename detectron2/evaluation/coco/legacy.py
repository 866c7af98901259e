"""Functions for older code that uses pycocotools' ``COCOeval``, and small helpers of the COCO evaluator."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detectron2.utils.logger import create_small_table

from ..fast_eval_api import COCOeval_opt
from . import engines as engines
from .figures import METRICS
from .quiet import QuietCOCOeval

TASKS = ("bbox", "keypoints", "segm")  # in the order of results


def checked_tasks(
    tasks: str | Sequence[str] | Mapping[str, object] | None, logger: logging.Logger
) -> tuple[str, ...] | None:
    if tasks is None:
        return None
    if isinstance(tasks, Mapping):
        logger.warning(
            "COCOEvaluator(dataset, cfg, ...) ignores the config; pass tasks=None, and kpt_oks_sigmas if needed."
        )
        return None
    tasks = (tasks,) if isinstance(tasks, str) else tuple(tasks)
    unknown = [t for t in tasks if t not in TASKS]
    if unknown:
        raise ValueError(f"unknown tasks {unknown}; known are {list(TASKS)}")
    return tasks


def category_table(by_class: Mapping[str, float]) -> str:
    """Format names and AP in three pairs of columns."""
    cells = [f"{name.removeprefix('AP-')[:28]:<28} {value:8.3f}" for name, value in by_class.items()]
    return "\n".join("   ".join(cells[i : i + 3]) for i in range(0, len(cells), 3))


def evaluate_predictions_on_coco(
    coco_gt: COCO,
    coco_results: Sequence[dict[str, Any]],
    iou_type: str,
    kpt_oks_sigmas: Sequence[float] | None = None,
    cocoeval_fn: Callable[..., Any] = COCOeval_opt,
    img_ids: Sequence[Any] | None = None,
    max_dets_per_image: Sequence[int] | None = None,
) -> COCOeval:
    """Evaluate COCO result dicts with a class like ``COCOeval``; return it with ``eval`` and ``stats``.

    Projects written for Detectron2 call this function.
    """
    if iou_type == "segm":
        coco_results = [{k: v for k, v in entry.items() if k != "bbox"} for entry in coco_results]
    caps = list(max_dets_per_image or engines.DEFAULT_MAX_DETS)
    if iou_type == "keypoints":
        caps = [20] if max_dets_per_image is None else caps[-1:]
    elif caps[-1] != 100:
        cocoeval_fn = COCOevalMaxDets
    matcher = engines.pycocotools_eval(
        coco_gt, coco_results, iou_type, caps, kpt_oks_sigmas, img_ids, cocoeval_fn
    )
    matcher.summarize()
    return matcher


class COCOevalMaxDets(QuietCOCOeval):
    """``COCOeval`` whose ``summarize()`` uses ``params.maxDets``, while the original always uses 100."""

    def summarize(self) -> None:
        """Compute ``self.stats`` for the largest limit and print them."""
        if not self.eval:
            raise RuntimeError("run evaluate() and accumulate() before summarize()")
        figures = engines.figures_from(self, self.params.iouType)
        self.stats = figures.stats
        names = METRICS[self.params.iouType]
        print(create_small_table({n: float(v) for n, v in zip(names, self.stats)}))
