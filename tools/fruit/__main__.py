"""Draw the pictures of the quickstart: fruit on a table, with exact labels.

    python tools/fruit FOLDER [--train 96] [--val 24] [--frames 24] [--seed 7]

FOLDER gets ``train.json`` and ``val.json`` in COCO's form, ``images/*.jpg``, and ``clip/*.jpg``: the frames of a flight
around a table that is in neither part. The pictures in ``detectron2/cli/quickstart/fruit`` were written by this program
with its defaults. A picture takes about a second.
"""

import argparse
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from render import Camera, render
from scenes import any_camera, any_scene
from shapes import SHAPES

from detectron2.structures.rle import encode, mask_box

LEAST_PIXELS = 30  # a fruit of which fewer can be seen has no label
QUALITY = 88


def main() -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--train", type=int, default=96)
    parser.add_argument("--val", type=int, default=24)
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()
    for name in ("images", "clip"):
        (args.folder / name).mkdir(parents=True, exist_ok=True)
    for number, part in enumerate(("train", "val")):
        write_part(args.folder, part, getattr(args, part), np.random.default_rng([args.seed, number]))
    write_clip(args.folder, args.frames, np.random.default_rng([args.seed, 2]))


def write_part(folder: Path, part: str, count: int, rng: np.random.Generator) -> None:
    """Write pictures and labels of one part."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(1, count + 1):
        scene = any_scene(rng)
        picture, masks = render(scene, any_camera(rng))
        name = f"{part}_{number:03d}.jpg"
        Image.fromarray(picture).save(folder / "images" / name, quality=QUALITY)
        height, width = picture.shape[:2]
        images.append({"id": number, "file_name": name, "height": height, "width": width})
        for fruit, mask in zip(scene.fruit, masks, strict=True):
            if mask.sum() >= LEAST_PIXELS:
                label = {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": list(SHAPES).index(fruit.kind) + 1,
                    "iscrowd": 0,
                    "bbox": mask_box(mask),
                    "area": int(mask.sum()),
                    "segmentation": encode(mask),
                }
                annotations.append(label)
    categories = [{"id": i, "name": name} for i, name in enumerate(SHAPES, start=1)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / f"{part}.json").write_text(json.dumps(content), encoding="utf-8")


def write_clip(folder: Path, frames: int, rng: np.random.Generator) -> None:
    """Write the frames of a flight around one table."""
    scene = any_scene(rng, ground="wood")
    while len({one.kind for one in scene.fruit}) < len(SHAPES):
        scene = any_scene(rng, ground="wood")
    for number in range(frames):
        place = math.sin(math.pi * (number / max(frames - 1, 1) - 0.5))  # slow at both ends
        picture, _ = render(scene, Camera(0.65 * place, 0.72 + 0.16 * place, 10.8 - 0.6 * place))
        Image.fromarray(picture).save(folder / "clip" / f"{number:03d}.jpg", quality=QUALITY)


if __name__ == "__main__":
    main()
