#!/usr/bin/env python
"""Draw annotated training data: as they lie on disk, or as the model sees them after augmentation.

python tools/visualize_data.py --source annotation --config-file CONFIG --output-dir pictures
python tools/visualize_data.py --source dataloader --config-file CONFIG --output-dir pictures --max-images 50
"""

from __future__ import annotations

import argparse
import itertools
import os
from typing import Any

import torch

from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog, build_detection_train_loader
from detectron2.data.detection_utils import convert_image_to_rgb, read_image
from detectron2.visualization import VisImage, Visualizer


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Draw annotated training data.")
    parser.add_argument(
        "--source", choices=["annotation", "dataloader"], required=True, help="before or after the mapper"
    )
    parser.add_argument("--config-file", metavar="FILE", help="config; its DATASETS.TRAIN are drawn")
    parser.add_argument("--output-dir", default="./", help="folder for the pictures")
    parser.add_argument(
        "--max-images", type=int, help="stop after so many; the train loader itself never ends"
    )
    parser.add_argument(
        "--show", action="store_true", help="open each picture in a viewer in place of writing it"
    )
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE pairs that change the config")
    return parser.parse_args()


def put_out(picture: VisImage, name: str, args: argparse.Namespace) -> None:
    """Write or show a picture."""
    if args.show:
        from PIL import Image

        Image.fromarray(picture.get_image()).show(name)
    else:
        path = os.path.join(args.output_dir, name)
        picture.save(path)
        print(f"wrote {path}")


def draw_batch_item(item: dict[str, Any], image_format: str, metadata: Any) -> VisImage:
    """An item of the train loader with its targets."""
    image = convert_image_to_rgb(item["image"].permute(1, 2, 0), image_format)
    visualizer = Visualizer(image, metadata)
    targets = item["instances"].get_fields() if "instances" in item else {}
    labels = None
    if "gt_classes" in targets:
        names = metadata.get("thing_classes")
        labels = [names[c] if names else str(c) for c in targets["gt_classes"].tolist()]
    keypoints = targets["gt_keypoints"].tensor if "gt_keypoints" in targets else None
    return visualizer.overlay_instances(
        labels=labels, boxes=targets.get("gt_boxes"), masks=targets.get("gt_masks"), keypoints=keypoints
    )


def main() -> None:
    """Read the arguments and draw."""
    args = parse_args()
    cfg = get_cfg()
    if args.config_file:
        cfg.merge_from_file(args.config_file)
    cfg.merge_from_list(args.opts)
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.freeze()
    os.makedirs(args.output_dir, exist_ok=True)
    metadata = MetadataCatalog.get(cfg.DATASETS.TRAIN[0])
    if args.source == "dataloader":
        items = itertools.chain.from_iterable(build_detection_train_loader(cfg))
        for number, item in enumerate(itertools.islice(items, args.max_images)):
            with torch.no_grad():
                picture = draw_batch_item(item, cfg.INPUT.FORMAT, metadata)
            put_out(picture, f"{item.get('image_id', number)}_{number}.jpg", args)
        return
    dicts = itertools.chain.from_iterable(DatasetCatalog.get(name) for name in cfg.DATASETS.TRAIN)
    for record in itertools.islice(dicts, args.max_images):
        picture = Visualizer(read_image(record["file_name"], "RGB"), metadata).draw_dataset_dict(record)
        put_out(picture, os.path.basename(record["file_name"]), args)


if __name__ == "__main__":
    main()
