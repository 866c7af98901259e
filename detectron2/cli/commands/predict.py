"""``detectron2 predict``: run a model on images, draw and write down what it finds."""

import argparse
import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from detectron2 import model_zoo
from detectron2.checkpoint.load_report import require_weights
from detectron2.config.types import Config
from detectron2.data import DatasetCatalog, Metadata, MetadataCatalog
from detectron2.data import detection_utils as utils
from detectron2.engine import DefaultPredictor
from detectron2.engine.run_config import load_run_config
from detectron2.engine.run_folder import read_run, weights_of
from detectron2.evaluation.coco_evaluation import instances_to_coco_json
from detectron2.model_zoo.listing import find_model
from detectron2.reports.pictures import draw_instances
from detectron2.structures import Instances
from detectron2.utils.file_io.atomic import write_json
from detectron2.utils.file_io.names import distinct_names
from detectron2.utils.image_io import IMAGE_SUFFIXES, READ_ERRORS
from detectron2.utils.logger import setup_logger
from detectron2.utils.suggest import not_there

from ..errors import UserError
from ..run.datasets import VAL, register
from ..run.recipe import chosen_device

__all__ = ["above", "predictor_config", "run"]

VIDEO_SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv")


def run(args: argparse.Namespace) -> int:
    """Predict, draw, and write ``predictions.json``; images that cannot be read are counted and named."""
    logger = setup_logger(name="detectron2")
    cfg, metadata = predictor_config(args.model, args.weights, args.device)
    paths = _images(args.inputs, logger)[: args.limit]
    if not paths:
        raise UserError(
            f"no images in {', '.join(args.inputs)}; known endings: {', '.join(sorted(IMAGE_SUFFIXES))}"
        )
    predictor = DefaultPredictor(cfg)
    require_weights(predictor.load_report, args.model)
    output = Path(args.output)
    output.mkdir(parents=True, exist_ok=True)
    records: list[dict[str, Any]] = []
    skipped = 0
    try:
        for path, name in zip(paths, distinct_names(paths, ".jpg")):
            image = _read(path, logger)
            if image is None:
                skipped += 1
                continue
            found = predictor(image)
            if "instances" not in found:
                raise UserError(f"{args.model} gives {', '.join(found)}, and predict draws instances")
            kept = above(found["instances"].to("cpu"), args.threshold)
            Image.fromarray(draw_instances(image[:, :, ::-1], kept, metadata)).save(output / name, quality=90)
            records.append(_record(path, name, kept, metadata))
            logger.info("%s: %d objects", path, len(kept))
    finally:  # also what was found before Ctrl-C or an error
        if records or not any(output.iterdir()):
            write_json(output / "predictions.json", records)
    total = sum(len(r["objects"]) for r in records)
    print(f"{total} objects in {len(records)} images, {skipped} skipped; see {output}")
    return int(not records)


def _read(path: Path, logger: logging.Logger) -> np.ndarray | None:
    """Read an image; None, and a warning, if that cannot be done."""
    if path.suffix.lower() in VIDEO_SUFFIXES:
        logger.warning("Skipped: %s is a video, and `predict` takes images only; see demo/demo.py.", path)
        return None
    try:
        image: np.ndarray = utils.read_image(str(path), "BGR")
    except (*READ_ERRORS, ValueError) as error:
        reason = str(error) if str(path) in str(error) else f"{path} ({error})"
        logger.warning("Skipped, since it cannot be read: %s", reason)
        return None
    return image


def predictor_config(model: str, weights: str, device: str | None) -> tuple[Config, Metadata]:
    """Config with weights, and the metadata that names its classes.

    Args:
        model: folder of a run, zoo name or config file.
        weights: "best", "final", or a file; for a zoo name "best" means the zoo's weights.
        device: device name; None for the best there is.
    """
    device = chosen_device(device)
    if (Path(model) / "run.json").is_file():
        card = read_run(model)
        register(card, train=False)
        run = load_run_config(Path(model) / "config.yaml")
        run.put(weights=weights_of(model, weights), device=device)
        return run.cfg, MetadataCatalog.get(VAL)
    if Path(model).is_dir():
        raise UserError(f"{model} is not the folder of a run: it has no run.json")
    config_file, zoo_name = find_model(model)
    run = load_run_config(config_file)
    if weights not in ("best", "final"):
        run.put(weights=weights)
    elif zoo_name:
        run.put(weights=model_zoo.get_checkpoint_url(zoo_name))
    run.put(device=device)
    return run.cfg, MetadataCatalog.get((*run.dataset_names("test"), "__unused")[0])


def above(instances: Instances, threshold: float) -> Instances:
    """Return the predictions with at least this score, best first."""
    instances = instances[instances.scores.argsort(descending=True)]
    return instances[instances.scores >= threshold]


def _images(inputs: Sequence[str], logger: logging.Logger) -> list[Path]:
    """Image files named directly or found in folders; without any, those that validated the run."""
    if not inputs:
        if VAL not in DatasetCatalog.list():
            raise UserError("name at least one image or folder")
        return [Path(r["file_name"]) for r in DatasetCatalog.get(VAL)]
    found: list[Path] = []
    for text in inputs:
        path = Path(text)
        if not path.exists():
            raise UserError(not_there(path))
        if not path.is_dir():
            found.append(path)
            continue
        files = sorted(p for p in path.rglob("*") if not p.is_dir())
        found += [p for p in files if p.suffix.lower() in IMAGE_SUFFIXES]
        others = Counter(p.suffix.lower() or p.name for p in files if p.suffix.lower() not in IMAGE_SUFFIXES)
        if others:
            logger.warning(
                "Passed over in %s, since `predict` takes %s: %s", path, ", ".join(IMAGE_SUFFIXES),
                ", ".join(f"{count} {ending}" for ending, count in others.most_common()),
            )  # fmt: skip
    return found


def _record(path: Path, picture: str, instances: Instances, metadata: Metadata) -> dict[str, Any]:
    """One entry of predictions.json: COCO's fields, and the name of the class."""
    classes = metadata.get("thing_classes") or []
    height, width = instances.image_size
    objects = instances_to_coco_json(instances, 0)
    for o in objects:
        del o["image_id"]
        index = o["category_id"]
        o["class"] = classes[index] if index < len(classes) else str(index)
    return {"file_name": str(path), "picture": picture, "height": height, "width": width, "objects": objects}
