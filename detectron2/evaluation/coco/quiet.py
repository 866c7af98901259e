"""pycocotools without its printed lines; ``sys.stdout`` belongs to the whole process and is never redirected."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

__all__ = ["QuietCOCO", "QuietCOCOeval"]


def _silent(function: Callable[..., Any], **names: object) -> Callable[..., Any]:
    """Copy a function of another module, so that ``print`` does nothing in it, and ``names`` mean what is given."""
    assert isinstance(function, FunctionType)
    scope = {**function.__globals__, "print": lambda *args, **kwargs: None, **names}
    copy = FunctionType(
        function.__code__, scope, function.__name__, function.__defaults__, function.__closure__
    )
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy


class QuietCOCO(COCO):
    """``COCO`` that prints nothing while it indexes a data set or loads results."""

    createIndex = _silent(COCO.createIndex)

    def loadRes(self, resFile: Any) -> COCO:
        """See ``COCO.loadRes``; an empty list is taken too."""
        if isinstance(resFile, list) and not resFile:
            empty = QuietCOCO()
            empty.dataset = {**self.dataset, "annotations": []}
            empty.createIndex()
            return empty
        found: COCO = _silent(COCO.loadRes, COCO=QuietCOCO)(self, resFile)
        return found


class QuietCOCOeval(COCOeval):
    """``COCOeval`` that prints nothing while it matches and accumulates."""

    evaluate = _silent(COCOeval.evaluate)
    accumulate = _silent(COCOeval.accumulate)
