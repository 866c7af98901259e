"""Records of a data set, as programs register them: what training needs of each annotation."""

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
    """Return whether a value is a whole number, of any numeric type."""
    return isinstance(value, Real) and math.isfinite(value) and float(value).is_integer()


class WrongRecordError(InputError, ValueError, KeyError):
    """A record of a data set lacks a key, or has a value of another type, than training needs."""


def check_annotations(annos: Sequence[dict[str, Any]], source: object) -> None:
    """Raise an error that names the picture if an annotation lacks what training needs.

    A box with values that are not finite is only warned about: no model learns from it.

    Args:
        annos: in Detectron2's format.
        source: name of the picture.

    Raises:
        WrongRecordError: if ``bbox``, ``bbox_mode`` or ``category_id`` is missing or of another type, or
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
                f"{place} has category_id {anno['category_id']!r}; expected a whole number from 0 on"
            )
        try:
            finite = all(map(math.isfinite, anno["bbox"]))
        except TypeError:
            raise WrongRecordError(f"{place} has bbox {anno['bbox']!r}; expected numbers") from None
        if not finite:
            text = f"{place} has a bbox with values that are not finite and is left out: {list(anno['bbox'])}"
            log_first_n(logging.WARNING, text, name=__name__, key="message")
        outline = anno.get("segmentation")
        if isinstance(outline, (list, tuple)) and outline and isinstance(outline[0], Real):
            raise WrongRecordError(
                f"{place}: segmentation is one flat list of numbers; expected a list of polygons [[x, y, x, y, …], …]"
            )
