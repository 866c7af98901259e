#!/usr/bin/env python
"""Make ADE20K's masks count classes from 0: pixel value 0 ("other") becomes 255, which is ignored.

    python datasets/prepare_ade20k_sem_seg.py [FOLDER]

FOLDER contains ADEChallengeData2016 (default: $DETECTRON2_DATASETS, else datasets).
"""

import os
import sys
from pathlib import Path

import numpy as np
from PIL import Image


def convert(source: Path, target: Path) -> None:
    """Shift one mask by one; 0 wraps around to 255."""
    mask = np.asarray(Image.open(source))
    if mask.dtype != np.uint8 or mask.ndim != 2:
        raise ValueError(f"{source}: expected a mask of one 8-bit channel, got {mask.dtype} {mask.shape}")
    target.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask - np.uint8(1)).save(target)


def main() -> None:
    root = Path(sys.argv[1] if len(sys.argv) > 1 else os.getenv("DETECTRON2_DATASETS", "datasets"))
    base = root / "ADEChallengeData2016"
    for split in ("training", "validation"):
        files = sorted((base / "annotations" / split).glob("*.png"))
        if not files:
            raise SystemExit(f"no masks in {base / 'annotations' / split}")
        for file in files:
            convert(file, base / "annotations_detectron2" / split / file.name)
        print(f"{split}: {len(files)} masks")


if __name__ == "__main__":
    main()
