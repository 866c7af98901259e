"""Statistics of a data set."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from detectron2.structures import BoxMode

from .annotations import annotations_of

__all__ = ["dataset_statistics"]

# COCO's area limits between small, medium and large objects, in pixels.
_SMALL, _LARGE = 32**2, 96**2


def _quantiles(values: Sequence[float]) -> dict[str, float]:
    if len(values) == 0:
        return {}
    q = np.quantile(np.asarray(values, dtype=float), [0, 0.25, 0.5, 0.75, 1])
    return dict(zip(("min", "q25", "median", "q75", "max"), (round(float(v), 2) for v in q)))


def _width_height(anno: Mapping[str, Any]) -> tuple[float, float]:
    box = [float(v) for v in anno["bbox"]]
    if len(box) == 5 or BoxMode(anno.get("bbox_mode", BoxMode.XYXY_ABS)) == BoxMode.XYWH_ABS:
        return box[2], box[3]
    return box[2] - box[0], box[3] - box[1]


def _label_kind(anno: Mapping[str, Any]) -> str:
    segmentation = anno.get("segmentation")
    if segmentation is None or len(segmentation) == 0:
        return "box only"
    return "polygon" if isinstance(segmentation, list) else "mask"


@dataclass
class _Counts:
    """Counts of one pass over the records."""

    instances: Counter[int] = field(default_factory=Counter)
    images_with: Counter[int] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    areas: dict[int, list[float]] = field(default_factory=dict)
    per_image: list[int] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)
    crowd: int = 0

    def add(self, annotations: Sequence[Mapping[str, Any]]) -> None:
        self.per_image.append(len(annotations))
        self.images_with.update({a["category_id"] for a in annotations})
        for a in annotations:
            self.instances[a["category_id"]] += 1
            self.crowd += int(a.get("iscrowd", 0))
            self.labels[_label_kind(a)] += 1
            self.labels["keypoints"] += int(a.get("keypoints") is not None)
            width, height = _width_height(a)
            self.areas.setdefault(a["category_id"], []).append(width * height)
            if height > 0:
                self.ratios.append(width / height)


def dataset_statistics(
    dataset_dicts: Sequence[Mapping[str, Any]], class_names: Sequence[str] | None = None
) -> dict[str, Any]:
    """Describe a data set: classes and their imbalance, sizes of images and objects, kinds of labels.

    Args:
        dataset_dicts: records.
        class_names: default: the class numbers.

    Returns:
        Plain values; ``imbalance`` is the ratio of the most to the least frequent class that occurs.
    """
    c = _Counts()
    for record in dataset_dicts:
        c.add(annotations_of(record))
    instances, areas, total = c.instances, c.areas, sum(c.instances.values())
    every = [v for values in areas.values() for v in values]
    count = len(class_names) if class_names is not None else max(instances, default=-1) + 1
    names = list(class_names) if class_names is not None else [str(i) for i in range(count)]
    used = [instances[i] for i in range(count) if instances[i]]
    return {
        "num_images": len(dataset_dicts),
        "num_annotations": total,
        "num_unlabelled": sum(n == 0 for n in c.per_image),
        "num_crowd": c.crowd,
        "classes": [
            {
                "name": name,
                "annotations": instances[i],
                "images": c.images_with[i],
                "share": round(instances[i] / total, 4) if total else 0.0,
                "median_area": round(float(np.median(areas[i])), 1) if i in areas else None,
            }
            for i, name in enumerate(names)
        ],
        "imbalance": round(max(used) / min(used), 2) if used else None,
        "unused_classes": [name for i, name in enumerate(names) if not instances[i]],
        "labels": {k: n for k, n in c.labels.items() if n},
        "object_sizes": {
            "small": sum(v < _SMALL for v in every),
            "medium": sum(_SMALL <= v <= _LARGE for v in every),
            "large": sum(v > _LARGE for v in every),
        },
        "annotations_per_image": _quantiles(c.per_image),
        "image_width": _quantiles([r["width"] for r in dataset_dicts if r.get("width")]),
        "image_height": _quantiles([r["height"] for r in dataset_dicts if r.get("height")]),
        "object_area": _quantiles(every),
        "object_aspect_ratio": _quantiles(c.ratios),
    }
