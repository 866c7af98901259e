"""From a path on the command line to registered data sets."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json
from detectron2.data.formats import detect_format, read_dataset, write_dataset
from detectron2.utils.logger import setup_logger

from ..errors import UserError
from .folder import DataCard, not_there

__all__ = ["TRAIN", "VAL", "classes_of", "find_data", "register", "split"]

TRAIN, VAL = "train", "val"  # as messages and the config of the run name them
HELD_OUT = 0.2  # share of the images that validate when no --val is given


def find_data(data: str, images: str | None, folder: Path) -> DataCard:
    """Find the labels that a path means; what is not COCO is rewritten as COCO, the images staying where they are.

    Args:
        data: a COCO json, a folder that holds exactly one (below it or in its ``annotations``), or labels of any other
            known format.
        images: image folder; by default the first of the usual places that has images of the json.
        folder: gets the rewritten labels.

    Raises:
        UserError: nothing fits; says what was looked for and where.
    """
    path = Path(data)
    if not path.exists():
        raise UserError(f"{not_there(path)}; expected a COCO json, or a folder with labels and images")
    if images is not None and not Path(images).is_dir():
        raise UserError(f"the image folder {not_there(images)}")
    json_file = _coco_json(path)
    if json_file is None:
        json_file, images = _rewrite(path, images, folder), str(folder)
    content = _read(json_file)
    root = Path(images) if images else _image_folder(json_file, content["images"])
    return DataCard(str(json_file), str(root), "all", len(content["images"]), len(content["annotations"]))


def _coco_json(path: Path) -> Path | None:
    """Return the COCO file that a path means; None when its labels have another format."""
    if path.is_file():
        return path if path.suffix == ".json" else None
    found = sorted(p for folder in (path, path / "annotations") for p in folder.glob("*.json"))
    if len(found) == 1:
        return found[0]
    if found and detect_format(path) == "coco":
        raise UserError(
            f"{path} holds {len(found)} json files ({', '.join(p.name for p in found[:5])}); name one"
        )
    return None


def _rewrite(path: Path, images: str | None, folder: Path) -> Path:
    dataset = read_dataset(path, images=images)
    logger = setup_logger(name="detectron2")
    for line in dataset.skipped:
        logger.warning("Left out: %s", line)
    target = folder / "labels" / path.resolve().name
    if not (target / "annotations.json").is_file():
        write_dataset(dataset, target, "coco", copy_images=False)
    return target / "annotations.json"


def _read(json_file: Path) -> dict[str, list[dict[str, Any]]]:
    try:
        content = json.loads(json_file.read_bytes())
    except ValueError as error:
        raise UserError(f"{json_file} is not valid JSON: {error}") from error
    parts = ("images", "annotations", "categories")
    missing = [k for k in parts if not isinstance(content, dict) or not isinstance(content.get(k), list)]
    if missing:
        raise UserError(
            f"{json_file} is not a COCO instance json: it lacks the list {' and the list '.join(missing)}"
        )
    if not content["images"]:
        raise UserError(f"{json_file} lists no images")
    return content


def _image_folder(json_file: Path, images: list[dict[str, Any]]) -> Path:
    """Return the first usual place that has any of the first ten images (some may be missing: that is found later)."""
    here = json_file.parent
    places = [
        here,
        here / "images",
        here / json_file.stem,
        here.parent / "images",
        here.parent,
        here.parent / json_file.stem,
    ]
    places += sorted(p for p in here.iterdir() if p.is_dir()) + sorted(
        p for p in here.parent.iterdir() if p.is_dir()
    )
    names = [str(i.get("file_name", "")) for i in images[:10]]
    for place in places:
        if any(n and (place / n).is_file() for n in names):
            return place
    tried = ", ".join(str(p) for p in dict.fromkeys(places[:6]))
    raise UserError(
        f"{names[0]!r} of {json_file} is in none of {tried}; name the image folder with --train-images or --val-images"
    )


def classes_of(card: DataCard) -> tuple[list[str], list[int]]:
    """Class names and category ids of a json, in the order of the ids."""
    categories = sorted(_read(Path(card.json))["categories"], key=lambda c: c["id"])
    if not categories:
        raise UserError(f"{card.json} lists no categories")
    return [str(c.get("name", c["id"])) for c in categories], [int(c["id"]) for c in categories]


def split(card: DataCard) -> tuple[DataCard, DataCard]:
    """Cut one json in a training and a validation part, by image; the same file is always cut the same way."""
    content = _read(Path(card.json))
    if len(content["images"]) < 2:
        raise UserError(f"{card.json} has one image, so none can be held out; give --val")
    parts = []
    for part in ("train", "val"):
        ids = {i["id"] for i in content["images"]}
        ids = {r["image_id"] for r in pick([{"image_id": i} for i in ids], part)}
        labels = sum(a.get("image_id") in ids for a in content["annotations"])
        parts.append(DataCard(card.json, card.images, part, len(ids), labels))
    return parts[0], parts[1]


def register(train: DataCard | None, val: DataCard, classes: list[str], category_ids: list[int]) -> None:
    """Register the data sets of a run under the names TRAIN and VAL, with the run's class map.

    Args:
        train: training data, or None when only validation data are wanted.
        val: validation data; when it is a part of the same file as ``train``, the split is by image and repeatable.
        classes: class names in the order of the model.
        category_ids: category id of each class.
    """
    for name, card in ((TRAIN, train), (VAL, val)):
        if name in DatasetCatalog.list():
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)
        if card is None:
            continue
        DatasetCatalog.register(name, _loader(card, category_ids))
        MetadataCatalog.get(name).set(
            thing_classes=classes,
            thing_dataset_id_to_contiguous_id={c: i for i, c in enumerate(category_ids)},
            image_root=card.images,
            evaluator_type="coco",
        )
        if card.part == "all":
            MetadataCatalog.get(name).set(json_file=card.json)


def _loader(card: DataCard, category_ids: list[int]) -> Callable[[], list[dict[str, Any]]]:
    """Return a function that reads the records of ``card`` with class indices in place of the json's category ids."""
    index = {c: i for i, c in enumerate(category_ids)}

    def load() -> list[dict[str, Any]]:
        records = pick(load_coco_json(card.json, card.images), card.part)
        for record in records:
            # Labels of a category that the run does not know were reported by the data check.
            kept = [a for a in record["annotations"] if a["category_id"] in index]
            record["annotations"] = [{**a, "category_id": index[a["category_id"]]} for a in kept]
        return records

    return load


def pick(records: list[dict[str, Any]], part: str) -> list[dict[str, Any]]:
    """Return the records of a part: the same ones for the same file, in any order on disk."""
    if part == "all":
        return records
    ids = sorted((r["image_id"] for r in records), key=str)
    random.Random(0).shuffle(ids)
    held = set(ids[: max(1, round(len(ids) * HELD_OUT))])
    return [r for r in records if (r["image_id"] in held) == (part == "val")]
