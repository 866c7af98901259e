"""Storing checked labels, and registering the datasets of a run."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json
from detectron2.data.formats import Dataset
from detectron2.data.formats.coco import write_coco
from detectron2.data.formats.plan import image_folder
from detectron2.engine.run_folder import DataCard, RunCard

__all__ = ["TRAIN", "VAL", "register", "store"]

TRAIN, VAL = "train", "val"  # names of the datasets in messages and in the config of the run


def store(dataset: Dataset, role: str, folder: Path) -> DataCard:
    """Store the labels of a run: refer to a COCO file of the user that needs no change, or write a COCO file.

    Args:
        dataset: checked labels; images are not copied.
        role: "train" or "val", the name of the file in ``labels``, which is overwritten.
        folder: folder of the run.
    """
    found = Counter(a["category_id"] for r in dataset.records for a in r["annotations"])
    labels = [found[k] for k in range(len(dataset.classes))]
    size = (len(dataset.records), found.total(), labels)
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
            DatasetCatalog.register(name, _loader(data, card.category_ids))
        MetadataCatalog.get(name).set(image_root=data.images, json_file=data.json, **card.metadata())


def _loader(card: DataCard, category_ids: list[int]) -> Callable[[], list[dict[str, Any]]]:
    """Return a function that reads the records of ``card``, with class indices instead of category ids."""
    index = {c: i for i, c in enumerate(category_ids)}

    def load() -> list[dict[str, Any]]:
        records = load_coco_json(card.json, card.images)
        for record in records:
            record["annotations"] = [
                {**a, "category_id": index[a["category_id"]]} for a in record["annotations"]
            ]
        return records

    return load
