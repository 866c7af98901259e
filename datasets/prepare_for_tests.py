#!/usr/bin/env python
"""Take a small part of COCO's val2017 for the data sets whose names end in ``_100``.

    python datasets/prepare_for_tests.py [FOLDER] [--images 100] [--seed 0]

FOLDER contains coco (default: $DETECTRON2_DATASETS, else datasets). Writes ``*_val2017_100.json`` for instances and person
keypoints (and panoptic, if it is there) with the same images; the images stay where they are.
"""

import argparse
import json
import os
import random
import shutil
from pathlib import Path


def part_of(content: dict, image_ids: set[int]) -> dict:
    """The content of a COCO file for some of its images."""
    return {
        **content,
        "images": [i for i in content["images"] if i["id"] in image_ids],
        "annotations": [a for a in content["annotations"] if a["image_id"] in image_ids],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", default=os.getenv("DETECTRON2_DATASETS", "datasets"))
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    root = Path(args.folder) / "coco"
    first = json.loads((root / "annotations" / "instances_val2017.json").read_text())
    ids = sorted(i["id"] for i in first["images"])
    chosen = set(random.Random(args.seed).sample(ids, min(args.images, len(ids))))
    for kind in ("instances", "person_keypoints", "panoptic"):
        source = root / "annotations" / f"{kind}_val2017.json"
        if not source.is_file():
            print(f"{source} is not there, passed over")
            continue
        content = part_of(json.loads(source.read_text()), chosen)
        target = source.with_name(f"{kind}_val2017_100.json")
        target.write_text(json.dumps(content))
        print(f"{target}: {len(content['images'])} images, {len(content['annotations'])} annotations")
        if kind == "panoptic":
            (root / "panoptic_val2017_100").mkdir(exist_ok=True)
            for a in content["annotations"]:
                shutil.copyfile(
                    root / "panoptic_val2017" / a["file_name"], root / "panoptic_val2017_100" / a["file_name"]
                )


if __name__ == "__main__":
    main()
