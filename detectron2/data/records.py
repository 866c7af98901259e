"""Check that registered records have what training needs."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from numbers import Real
from typing import Any

from detectron2.structures import BoxMode
from detectron2.utils.errors import InputError
from detectron2.utils.logger import log_first_n

__all__ = ["WrongRecordError", "check_annotations", "is_whole"]

_BOX_MODES = frozenset(BoxMode)


def is_whole(value: object) -> bool:
    """Return whether a value is an integer, of any numeric type."""
    return isinstance(value, Real) and math.isfinite(value) and float(value).is_integer()


class WrongRecordError(InputError, ValueError, KeyError):
    """A record lacks a key that training needs, or has a value of the wrong type."""


def check_annotations(annos: Sequence[dict[str, Any]], source: object) -> None:
    """Check that annotations have what training needs.

    A box with non-finite values only causes a warning: it is left out of training.

    Args:
        annos: in Detectron2's format.
        source: name of the image, for errors.

    Raises:
        WrongRecordError: if ``bbox``, ``bbox_mode`` or ``category_id`` is missing or of the wrong type, or
            ``segmentation`` is a flat list.
    """
    for number, anno in enumerate(annos):
        place = f"{source}: annotation {number}"
        missing = [key for key in ("bbox", "bbox_mode", "category_id") if key not in anno]
        if missing:
            raise WrongRecordError(
                f"{place} has no {' and no '.join(missing)}; its keys are {', '.join(anno)}"
            )
        if anno["bbox_mode"] not in _BOX_MODES:
            raise WrongRecordError(f"{place} has bbox_mode {anno['bbox_mode']!r}; expected a BoxMode")
        if not is_whole(anno["category_id"]):
            raise WrongRecordError(
                f"{place} has category_id {anno['category_id']!r}; expected an integer of at least 0"
            )
        try:
            finite = all(map(math.isfinite, anno["bbox"]))
        except TypeError:
            raise WrongRecordError(f"{place} has bbox {anno['bbox']!r}; expected numbers") from None
        if not finite:
            text = f"{place} has a bbox with non-finite values and is left out: {list(anno['bbox'])}"
            log_first_n(logging.WARNING, text, name=__name__, key="message")
        outline = anno.get("segmentation")
        if isinstance(outline, (list, tuple)) and outline and isinstance(outline[0], Real):
            raise WrongRecordError(
                f"{place}: segmentation is one flat list of numbers; expected a list of polygons [[x, y, x, y, …], …]"
            )
