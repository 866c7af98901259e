"""From a path on the command line to registered data sets."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json

from ._errors import UserError
from ._run_folder import DataCard

__all__ = ["TRAIN", "VAL", "classes_of", "find_coco", "register", "split"]

TRAIN, VAL = "cli_train", "cli_val"
HELD_OUT = 0.2  # share of the images that validate when no --val is given


def find_coco(data: str, images: str | None = None) -> DataCard:
    """Find the json and the image folder that a path means.

    Args:
        data: a COCO json, or a folder that holds exactly one (below it or in its `annotations`).
        images: image folder; by default the first of the usual places that has the json's first image.

    Raises:
        UserError: nothing fits; says what was looked for and where.
    """
    path = Path(data)
    if path.is_dir():
        found = sorted(p for folder in (path, path / "annotations") for p in folder.glob("*.json"))
        if len(found) != 1:
            what = (
                "no json"
                if not found
                else f"{len(found)} json files ({', '.join(p.name for p in found[:5])})"
            )
            raise UserError(f"{path} holds {what}; name the COCO json itself")
        json_file = found[0]
    elif path.is_file():
        json_file = path
    else:
        raise UserError(
            f"{path} does not exist; expected {'a COCO json, or a folder with one json and its images'}"
        )
    content = _read(json_file)
    if images is not None and not Path(images).is_dir():
        raise UserError(f"image folder {images} does not exist")
    folder = Path(images) if images else _image_folder(json_file, content["images"])
    return DataCard(str(json_file), str(folder), "all", len(content["images"]), len(content["annotations"]))


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
    """The first usual place that has any of the first ten images (some may be missing: that is found later)."""
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
        val: validation data; when it is a part of the same file as `train`, the split is by image and repeatable.
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
    """A function that reads the records of `card` with class indices in place of the json's category ids."""
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
    """The records of a part: the same ones for the same file, whatever their order on disk."""
    if part == "all":
        return records
    ids = sorted((r["image_id"] for r in records), key=str)
    random.Random(0).shuffle(ids)
    held = set(ids[: max(1, round(len(ids) * HELD_OUT))])
    return [r for r in records if (r["image_id"] in held) == (part == "val")]
