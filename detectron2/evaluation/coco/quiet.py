"""pycocotools without its printed lines. ``sys.stdout`` is not redirected, since the whole process shares it."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

__all__ = ["QuietCOCO", "QuietCOCOeval"]


def _silent(function: Callable[..., Any], **names: object) -> Callable[..., Any]:
    """Copy a function of another module, with a ``print`` that does nothing, and other globals replaced by ``names``."""
    assert isinstance(function, FunctionType)
    scope = {**function.__globals__, "print": lambda *args, **kwargs: None, **names}
    copy = FunctionType(
        function.__code__, scope, function.__name__, function.__defaults__, function.__closure__
    )
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy


class QuietCOCO(COCO):
    """``COCO`` that prints nothing while it indexes a dataset or loads results."""

    createIndex = _silent(COCO.createIndex)

    def loadRes(self, resFile: object) -> COCO:
        """See ``COCO.loadRes``; also accepts an empty list."""
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
