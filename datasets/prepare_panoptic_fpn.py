#!/usr/bin/env python
"""Make semantic masks from COCO's panoptic annotations: things become 0, stuff classes 1 to 53, the rest 255.

    python datasets/prepare_panoptic_fpn.py [FOLDER]

FOLDER contains coco (default: $DETECTRON2_DATASETS, else datasets).
"""

import functools
import json
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image


def stuff_numbers(categories: list[dict]) -> dict[int, int]:
    """Category id -> value in the mask."""
    ordered = sorted(categories, key=lambda c: c["id"])
    stuff = [c["id"] for c in ordered if not c["isthing"]]
    if len(stuff) > 254:
        raise ValueError(f"{len(stuff)} stuff classes do not fit into 8 bits")
    return {**{c["id"]: 0 for c in ordered if c["isthing"]}, **{c: n for n, c in enumerate(stuff, 1)}}


def convert(source: Path, target: Path, segments: list[dict], numbers: dict[int, int]) -> None:
    """Write the semantic mask of one panoptic PNG."""
    rgb = np.asarray(Image.open(source).convert("RGB")).astype(np.int64)
    ids = rgb[..., 0] + 256 * rgb[..., 1] + 256**2 * rgb[..., 2]
    known, places = np.unique(ids, return_inverse=True)
    value_of = {s["id"]: numbers[s["category_id"]] for s in segments}
    values = np.array([value_of.get(i, 255) for i in known.tolist()], dtype=np.uint8)
    target.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values[places.reshape(ids.shape)]).save(target)


def _convert(job: tuple[Path, Path, list[dict]], numbers: dict[int, int]) -> None:
    convert(*job, numbers)


def separate(panoptic_json: Path, panoptic_root: Path, sem_seg_root: Path) -> int:
    """Convert all images of a split; returns how many."""
    content = json.loads(panoptic_json.read_text())
    numbers = stuff_numbers(content["categories"])
    jobs = [
        (panoptic_root / a["file_name"], sem_seg_root / a["file_name"], a["segments_info"])
        for a in content["annotations"]
    ]
    with ProcessPoolExecutor(max_workers=max(1, (os.cpu_count() or 2) // 2)) as pool:
        return len(list(pool.map(functools.partial(_convert, numbers=numbers), jobs, chunksize=100)))


def main() -> None:
    root = Path(sys.argv[1] if len(sys.argv) > 1 else os.getenv("DETECTRON2_DATASETS", "datasets")) / "coco"
    for split in ("train2017", "val2017", "val2017_100"):
        file = root / "annotations" / f"panoptic_{split}.json"
        if not file.is_file():
            print(f"{split}: {file} is not there, passed over")
            continue
        count = separate(file, root / f"panoptic_{split}", root / f"panoptic_stuff_{split}")
        print(f"{split}: {count} masks")


if __name__ == "__main__":
    main()
