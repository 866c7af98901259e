"""``COCOeval_opt``: a drop-in replacement of pycocotools' ``COCOeval`` that uses the fast engine."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from .coco.quiet import QuietCOCOeval

__all__ = ["COCOeval_opt"]


class COCOeval_opt(QuietCOCOeval):
    """Same constructor, parameters, ``eval`` arrays and ``summarize()`` as ``COCOeval``, computed by hotcoco.

    ``evalImgs`` and ``ious`` stay empty: the engine keeps the matches of single images internally. Datasets that it
    does not support (ids that are not integers) are evaluated by pycocotools.
    """

    _matcher: Any = None

    def evaluate(self) -> None:
        """Match detections with ground truth in every image."""
        if not self._suits():
            self._matcher = None
            super().evaluate()
            return
        import hotcoco

        p = self.params
        # COCOeval.evaluate changes these parameters too, for accumulate() and for readers.
        p.imgIds = list(np.unique(p.imgIds))
        if p.useCats:
            p.catIds = list(np.unique(p.catIds))
        p.maxDets = sorted(p.maxDets)
        truth, found = (hotcoco.COCO(_plain(api.dataset)) for api in (self.cocoGt, self.cocoDt))
        matcher = hotcoco.COCOeval(truth, found, p.iouType)
        matcher.params.img_ids = [int(i) for i in p.imgIds]
        matcher.params.cat_ids = [int(i) for i in p.catIds]
        matcher.params.max_dets = [int(n) for n in p.maxDets]
        matcher.params.iou_thrs = [float(t) for t in p.iouThrs]
        matcher.params.rec_thrs = [float(t) for t in p.recThrs]
        matcher.params.area_rng = [[float(v) for v in r] for r in p.areaRng]
        matcher.params.area_rng_lbl = list(p.areaRngLbl)
        matcher.params.use_cats = bool(p.useCats)
        if p.iouType == "keypoints":
            matcher.params.kpt_oks_sigmas = [float(s) for s in p.kpt_oks_sigmas]
        matcher.evaluate()
        self._matcher = matcher

    def accumulate(self) -> None:
        """Compute the precision and recall arrays in ``self.eval``."""
        if self._matcher is None:
            super().accumulate()
            return
        self._matcher.accumulate()
        arrays = {key: np.asarray(self._matcher.eval[key]) for key in ("precision", "recall", "scores")}
        self.eval = {
            "params": self.params,
            "counts": list(arrays["precision"].shape),
            "date": time.strftime("%Y-%m-%d %H:%M:%S"),
            **arrays,
        }

    def _suits(self) -> bool:
        ids = [*self.params.imgIds, *self.params.catIds]
        return all(isinstance(i, (int, np.integer)) for i in ids) and (
            bool(self.params.useCats) or self.params.iouType != "keypoints"
        )


def _plain(dataset: dict[str, Any]) -> dict[str, Any]:
    """Return a COCO dict whose annotations have unique ids from 1 on, as the engine requires."""
    annotations = [{**a, "id": k} for k, a in enumerate(dataset["annotations"], start=1)]
    return {"images": dataset["images"], "categories": dataset["categories"], "annotations": annotations}
