#!/usr/bin/env python
"""Make Cityscapes' ``*_labelTrainIds.png`` from ``*_labelIds.png``: 19 classes, everything else 255.

    python datasets/prepare_cityscapes.py [FOLDER]

FOLDER contains cityscapes (default: $DETECTRON2_DATASETS, else datasets). Same masks as those of cityscapesscripts'
createTrainIdLabelImgs, which it replaces.
"""

import os
import sys
from pathlib import Path

import numpy as np
from PIL import Image


def lookup(categories: list[dict]) -> np.ndarray:
    """Label id -> training id, [256]."""
    table = np.full(256, 255, np.uint8)
    for category in categories:
        table[category["id"]] = category["trainId"]
    return table


def main() -> None:
    from detectron2.data.datasets.builtin_meta import CITYSCAPES_CATEGORIES

    root = Path(sys.argv[1] if len(sys.argv) > 1 else os.getenv("DETECTRON2_DATASETS", "datasets"))
    files = sorted((root / "cityscapes" / "gtFine").rglob("*_labelIds.png"))
    if not files:
        raise SystemExit(f"no *_labelIds.png below {root / 'cityscapes' / 'gtFine'}")
    table = lookup(CITYSCAPES_CATEGORIES)
    for file in files:
        Image.fromarray(table[np.asarray(Image.open(file))]).save(
            str(file).replace("labelIds", "labelTrainIds")
        )
    print(f"{len(files)} masks")


if __name__ == "__main__":
    main()
