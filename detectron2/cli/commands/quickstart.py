"""``detectron2 quickstart``: training, evaluation and report on a real image that comes with the package."""

import argparse
import json
import time
from contextlib import ExitStack
from importlib import resources
from pathlib import Path

import numpy as np
from PIL import Image

from detectron2.data.formats import Source, plan_training
from detectron2.engine.run_config import RunConfig
from detectron2.engine.run_folder import RunCard
from detectron2.utils.file_io.atomic import write_json
from detectron2.utils.file_io.lock import folder_lock
from detectron2.utils.logger import setup_logger

from ..run.folder import fresh_folder
from ..run.recipe import Plan, chosen_device, recipe
from .train import make_card, open_run, save_run, train

__all__ = ["run", "write_nuclei"]

BORDER = 352  # columns left of it are for training, the others for validation
HEIGHT = 256  # height of the images into which the source image is split
SMALLEST = 20  # pixels; smaller parts of split nuclei are no labels


def run(args: argparse.Namespace) -> int:
    """Write the data, train, evaluate, write the report, and print the main results."""
    start = time.perf_counter()
    folder = Path(args.output)
    # The run is small enough for the CPU.
    device = chosen_device(args.device or "cpu")
    with ExitStack() as held:
        with fresh_folder(folder):
            held.enter_context(folder_lock(folder))
            card, config = open_run(args, folder) or _prepare(args, folder, device)
            setup_logger(str(folder))
        train(config, card, folder, resume=args.resume, start=start)
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    print(
        f"held-out box AP50 {summary['box_AP50']:.3f}, mask AP50 {summary['mask_AP50']:.3f} "
        f"after {summary['seconds']:.0f} s; open {folder / 'report.html'}"
    )
    return 0


def _prepare(args: argparse.Namespace, folder: Path, device: str) -> tuple[RunCard, RunConfig]:
    """Write the data, card and config of the run."""
    assets = resources.files("detectron2.cli") / "quickstart"
    parts = write_nuclei(folder / "data")
    data = plan_training(Source(str(parts["train"])), Source(str(parts["val"])))
    card = make_card(folder, "quickstart/mask_rcnn_nuclei", data, args.seed)
    plan = Plan(1, card.train.num_images, workers=0, device=device)
    with resources.as_file(assets / "mask_rcnn_nuclei.yaml") as config_file:
        config = recipe(str(config_file), plan)
    config.put(seed=args.seed, output_dir=str(folder))
    config.override(args.opts)
    save_run(folder, card, config)
    return card, config


def write_nuclei(folder: Path) -> dict[str, Path]:
    """Write the built-in image as two COCO datasets.

    Args:
        folder: folder for ``train.json``, ``val.json`` and ``images/``.

    Returns:
        The paths of the json files "train" and "val".
    """
    assets = resources.files("detectron2.cli") / "quickstart"
    with (assets / "nuclei.png").open("rb") as f:
        picture = np.asarray(Image.open(f).convert("L"))
    with (assets / "nuclei_labels.png").open("rb") as f:
        labels = np.asarray(Image.open(f))
    (folder / "images").mkdir(parents=True, exist_ok=True)
    written = {}
    for part, columns in (("train", slice(0, BORDER)), ("val", slice(BORDER, None))):
        images: list[dict[str, object]] = []
        annotations: list[dict[str, object]] = []
        for top in range(0, len(picture), HEIGHT):
            area = (slice(top, top + HEIGHT), columns)
            name = f"{part}_{len(images)}.png"
            Image.fromarray(picture[area]).save(folder / "images" / name)
            height, width = picture[area].shape
            images.append({"id": len(images) + 1, "file_name": name, "height": height, "width": width})
            for mask in _instances(labels[area]):
                annotations.append({"id": len(annotations) + 1, "image_id": len(images), **_annotation(mask)})
        content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "nucleus"}]}
        written[part] = folder / f"{part}.json"
        write_json(written[part], content)
    return written


def _instances(labels: np.ndarray) -> list[np.ndarray]:
    """Return a boolean mask for each label with at least SMALLEST pixels."""
    numbers, counts = np.unique(labels, return_counts=True)
    return [labels == n for n, c in zip(numbers, counts) if n > 0 and c >= SMALLEST]


def _annotation(mask: np.ndarray) -> dict[str, object]:
    """Return a COCO annotation with an uncompressed RLE mask."""
    flat = mask.flatten(order="F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    counts = [0, *runs] if flat[0] else runs
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    x, y = int(columns[0]), int(rows[0])
    return {
        "category_id": 1,
        "iscrowd": 0,
        "area": int(mask.sum()),
        "bbox": [x, y, int(columns[-1]) - x + 1, int(rows[-1]) - y + 1],
        "segmentation": {"size": list(mask.shape), "counts": counts},
    }
