"""Look at a sample of a large COCO file, by its index."""

from __future__ import annotations

import json
import logging
from typing import Any

import numpy as np

from ..datasets.coco_json.columns import NotIndexable
from ..datasets.coco_json.index import CocoIndex, load_index
from ..datasets.coco_json.records import class_table
from .base import Whole

__all__ = ["coco_sample"]

logger = logging.getLogger(__name__)

_SAMPLE = 2000  # images, evenly spaced over the file


def coco_sample(file: str, above: int) -> tuple[dict[str, Any] | None, Whole | None]:
    """Return the content of a COCO file with some of its images, and facts of the whole file.

    Nothing if the file has no more than ``above`` images, or something in it takes reading all of it: annotations of unknown
    images or categories, or without a usable polygon, or ids that are no integers or not unique.

    Args:
        file: path of the file.
        above: number of images.
    """
    try:
        index = load_index(file)
        ids, _ = class_table(index.category_table, file)
    except (NotIndexable, ValueError) as error:
        logger.debug("%s is read as a whole: %s", file, error)
        return None, None
    unknown = not set(index.category_ids.tolist()) <= set(ids)
    if len(index.image_ids) <= above or unknown or index.strays or not index.usable.all():
        return None, None
    counts = dict(zip(index.category_ids.tolist(), np.bincount(index.categories).tolist()))
    whole = Whole(len(index.image_ids), [counts.get(i, 0) for i in ids])
    return _content(file, index), whole


def _content(file: str, index: CocoIndex) -> dict[str, Any]:
    chosen = np.unique(np.linspace(0, len(index.image_ids) - 1, _SAMPLE).astype(np.int64))
    columns = (index.image_ids[chosen], index.sizes[chosen], index.first[chosen], index.first[chosen + 1])
    images, annotations = [], []
    with open(file, "rb") as f:
        for name, number, (height, width), first, last in zip(
            index.file_names(chosen), *(c.tolist() for c in columns)
        ):
            images.append({"id": number, "file_name": name, "height": height, "width": width})
            for row in range(first, last):
                f.seek(int(index.starts[row]))
                annotations.append(json.loads(f.read(int(index.lengths[row]))))
    return {"images": images, "annotations": annotations, "categories": index.category_table}
