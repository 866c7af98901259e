"""Storing checked labels, and registering the datasets of a run."""

from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets.coco import load_with_ids
from detectron2.data.formats import Dataset
from detectron2.data.formats.coco import write_coco
from detectron2.data.formats.pixels import PixelTask, load_pixels, pixel_files, store_pixels
from detectron2.data.formats.plan import image_folder
from detectron2.engine.run_folder import DataCard, RunCard

__all__ = ["TRAIN", "VAL", "register", "store"]

TRAIN, VAL = "train", "val"  # names of the datasets in messages and in the config of the run


def store(dataset: Dataset, role: str, folder: Path, task: PixelTask | None = None) -> DataCard:
    """Store the labels of a run: refer to a COCO file of the user that needs no change, or write a COCO file.

    Label maps are written as a list of their files.

    Args:
        dataset: checked labels; images are not copied.
        role: "train" or "val", the name of the file in ``labels``, which is overwritten.
        folder: folder of the run.
        task: that of label maps.
    """
    if task is not None:
        prefix = str(folder / "labels" / role)
        json_file = store_pixels(dataset, task, prefix, derive=role == "val" or task.separate)
        segments = Counter(s["category_id"] for r in dataset.records for s in r.get("segments_info", ()))
        labels = [segments[k] for k in range(len(task.classes))] if segments else []
        size = (len(dataset.records), segments.total(), labels)
        return DataCard(json_file, image_folder(dataset), *size, pixels=prefix)
    found = Counter(a["category_id"] for r in dataset.records for a in r["annotations"])
    labels = [found[k] for k in range(len(dataset.classes))]
    labels = labels if dataset.whole is None else dataset.whole.labels
    size = (dataset.num_images, sum(labels), labels)
    if dataset.file is not None:
        return DataCard(dataset.file, dataset.metadata["image_root"], *size)
    write_coco(dataset, str(folder / "labels"), copy_images=False, file_name=f"{role}.json")
    json_file = str(folder / "labels" / f"{role}.json")
    return DataCard(json_file, image_folder(dataset), *size)


def register(card: RunCard, *, train: bool = True, cut: bool = False) -> None:
    """Register the datasets of a run as TRAIN and VAL, with the run's mapping of classes.

    Args:
        card: card of the run.
        train: whether to register the training data; its metadata, which the config needs, is always registered.
        cut: for a run trained on tiles, register the tiles of the validation data instead of its whole images.
    """
    val = card.val_tiles if cut and card.val_tiles is not None else card.val
    for name, data in ((TRAIN, card.train), (VAL, val)):
        if name in DatasetCatalog.list():
            DatasetCatalog.remove(name)
        if name in MetadataCatalog.list():
            MetadataCatalog.remove(name)
        if train or name == VAL:
            DatasetCatalog.register(name, _loader(data, card))
        MetadataCatalog.get(name).set(**_files(data, card), **card.metadata())


def _files(data: DataCard, card: RunCard) -> dict[str, Any]:
    """Return what the catalog of metadata holds of files."""
    found = {"image_root": data.images, "json_file": data.json}
    if card.pixel_task is not None:
        found["json_file"] = pixel_files(data.pixels)[1]
        found |= {"panoptic_json": data.json, "panoptic_root": str(Path(data.json).with_suffix(""))}
    return found


def _loader(data: DataCard, card: RunCard) -> Callable[[], list[dict[str, Any]]]:
    """Return a function that reads the records of ``data``, with class indices instead of category ids."""
    task = card.pixel_task
    if task is not None:
        return partial(load_pixels, data.json, data.images, task, data.pixels)
    return partial(load_with_ids, data.json, data.images, card.category_ids)
