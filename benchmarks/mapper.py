"""Training mapper against plain Pillow and numpy: images per second on one core, as ratios from one process.

    python benchmarks/mapper.py [--images 16] [--rounds 8] [--folder DIR_OF_JPEGS]

Both sides do the same job: decode a JPEG of 640 x 480, resize the shorter edge to 800, mirror, and make tensors of
the picture, its boxes, classes and eight polygons. The baseline is what one writes by hand: Pillow decodes and
resizes, numpy does the rest. Rounds of both sides alternate, and the fastest round of each counts, so that other
work on the machine disturbs both alike. The JPEGs are made here, with the spectrum (1/f) and file size of photographs,
unless a folder of real ones is given.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from detectron2.data import DatasetMapper
from detectron2.data import transforms as T
from detectron2.structures import BoxMode


def write_photo(path: Path, seed: int, height: int = 480, width: int = 640) -> None:
    """Write a JPEG with the 1/f spectrum of photographs, about 150 kB at 640 x 480."""
    rng = np.random.default_rng(seed)
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    falloff = 1 / np.maximum(np.hypot(fy, fx), 1 / max(height, width)) ** 1.15
    planes = []
    shared = rng.normal(size=(height, width))  # colours of photographs go together
    for _ in range(3):
        noise = shared + 0.3 * rng.normal(size=(height, width))
        plane = np.fft.irfft2(np.fft.rfft2(noise) * falloff, s=(height, width))
        planes.append(128 + 55 * (plane - plane.mean()) / plane.std())
    pixels = np.clip(np.stack(planes, axis=2), 0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(path, quality=93)


def make_record(path: Path, seed: int, polygons: int = 8, corners: int = 24) -> dict:
    """One image with ``polygons`` objects, in Detectron2's format."""
    rng = np.random.default_rng(seed)
    with Image.open(path) as image:
        width, height = image.size
    annotations = []
    for k in range(polygons):
        radius = rng.uniform(20, 100, 2)
        center = rng.uniform(radius, np.asarray([width, height]) - radius)
        turn = np.linspace(0, 2 * np.pi, corners, endpoint=False)
        points = center + radius * np.stack([np.cos(turn), np.sin(turn)], 1) * rng.uniform(
            0.7, 1, (corners, 1)
        )
        low, high = points.min(0), points.max(0)
        annotations.append(
            {
                "bbox": [*low.tolist(), *(high - low).tolist()],
                "bbox_mode": BoxMode.XYWH_ABS,
                "category_id": k,
                "iscrowd": 0,
                "segmentation": [points.reshape(-1).tolist()],
            }
        )
    return {
        "file_name": str(path),
        "height": height,
        "width": width,
        "image_id": seed,
        "annotations": annotations,
    }


def by_hand(record: dict) -> dict:
    """Pillow and numpy, as one writes it."""
    image = np.asarray(Image.open(record["file_name"]).convert("RGB"))[:, :, ::-1]  # BGR
    height, width = image.shape[:2]
    new_h, new_w = T.ResizeShortestEdge.get_output_shape(height, width, 800, 1333)
    resized = np.asarray(Image.fromarray(image).resize((new_w, new_h), Image.Resampling.BILINEAR))
    flipped = resized[:, ::-1]
    scale = np.asarray([new_w / width, new_h / height])
    boxes, polygons = [], []
    for annotation in record["annotations"]:
        x, y, w, h = annotation["bbox"]
        x0, y0, x1, y1 = np.asarray([x, y, x + w, y + h]) * np.tile(scale, 2)
        boxes.append([new_w - x1, y0, new_w - x0, y1])
        points = np.asarray(annotation["segmentation"][0]).reshape(-1, 2) * scale
        points[:, 0] = new_w - points[:, 0]
        polygons.append(torch.as_tensor(points.reshape(-1)))
    return {
        "image": torch.as_tensor(np.ascontiguousarray(flipped.transpose(2, 0, 1))),
        "boxes": torch.as_tensor(np.asarray(boxes), dtype=torch.float32),
        "classes": torch.as_tensor([a["category_id"] for a in record["annotations"]]),
        "polygons": polygons,
    }


def make_mapper(interp: int | str) -> DatasetMapper:
    """The mapper of Mask R-CNN training, with a flip that is certain."""
    resize = T.ResizeShortestEdge((800,), 1333, "choice", interp)
    return DatasetMapper(
        True, augmentations=[resize, T.RandomFlip(prob=1.0)], image_format="BGR", use_instance_mask=True
    )


def fastest(sides: dict[str, Callable[[dict], dict]], records: list[dict], rounds: int) -> dict[str, float]:
    """Seconds per image of the fastest round of each side; rounds alternate."""
    best = dict.fromkeys(sides, float("inf"))
    for function in sides.values():
        function(records[0])
    for _ in range(rounds):
        for name, function in sides.items():
            start = time.process_time()
            for record in records:
                function(record)
            best[name] = min(best[name], (time.process_time() - start) / len(records))
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--folder", help="use the JPEGs in this folder instead of made ones")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        if args.folder:
            paths = sorted(Path(args.folder).rglob("*.jpg"))[: args.images]
        else:
            paths = [Path(folder) / f"{k}.jpg" for k in range(args.images)]
            for k, path in enumerate(paths):
                write_photo(path, k)
        records = [make_record(path, k) for k, path in enumerate(paths)]
        size = sum(path.stat().st_size for path in paths) / len(paths)
        exact, fast = make_mapper(Image.Resampling.BILINEAR), make_mapper("fast")
        differs = [(exact(r)["image"].int() - fast(r)["image"].int()).abs() for r in records]
        same = all(torch.equal(exact(r)["image"], by_hand(r)["image"]) for r in records)
        best = fastest({"by hand": by_hand, "pillow": exact, "torch": fast}, records, args.rounds)
    print(f"{len(records)} JPEGs of {size / 1000:.0f} kB, one thread, fastest of {args.rounds} rounds")
    print(f"Pillow + numpy by hand              {1 / best['by hand']:6.1f} images/s")
    for name, note in (("pillow", f"same bytes: {same}"), ("torch", "")):
        if name == "torch":
            share = sum(int((d > 0).sum()) for d in differs) / sum(d.numel() for d in differs)
            note = f"{share:.5%} of values differ, by {max(int(d.max()) for d in differs)} at most"
        ratio = best["by hand"] / best[name]
        print(
            f"DatasetMapper, RESIZE_BACKEND {name:<6} {1 / best[name]:6.1f} images/s  ratio {ratio:.2f}  ({note})"
        )


if __name__ == "__main__":
    main()
