"""Detection data of Hugging Face ``datasets``: a folder of ``save_to_disk``, or a name on the hub.

Expects the usual columns: ``image``, optionally ``image_id``, and ``objects`` with boxes and classes (a dict of lists,
or a list of dicts). Needs ``pip install 'detectron2[datasets]'``.
"""

import hashlib
import importlib
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from detectron2.structures import BoxMode
from detectron2.utils.file_io import get_cache_dir
from detectron2.utils.file_io.atomic import atomic_write

from .base import Dataset, Format, FormatError, bbox_xyxy, new_record, register_format

__all__ = ["read_huggingface", "write_huggingface"]

_OBJECTS = ("objects", "annotations", "object")
_BOXES = ("bbox", "boxes", "bboxes", "box")
_CLASSES = ("category", "category_id", "categories", "label", "labels", "class", "class_label")
_ENDINGS = {"JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png", "BMP": ".bmp", "TIFF": ".tif", "WEBP": ".webp"}


def _library() -> Any:
    try:
        library = importlib.import_module("datasets")
    except ImportError:
        library = None
    if not hasattr(library, "load_from_disk"):  # a folder named "datasets" can be imported too
        raise ImportError("this format needs Hugging Face datasets: pip install 'detectron2[datasets]'")
    return library


def _open(path: str, split: str | None) -> Any:
    """Open the table of a split, from the folder at the path if there is one, else from the hub."""
    datasets = _library()
    if not Path(path).is_dir():
        return datasets.load_dataset(path, split=split or "train")
    loaded = datasets.load_from_disk(path)
    if not isinstance(loaded, datasets.DatasetDict):
        return loaded
    names = list(loaded)
    if split is None and len(names) > 1 and "train" not in names:
        raise FormatError(f"{path} has the splits {', '.join(names)}: name one with split=")
    chosen = split or ("train" if "train" in names else names[0])
    if chosen not in loaded:
        raise FormatError(f"{path} has no split {chosen!r}, but {', '.join(names)}")
    return loaded[chosen]


def _column(known: Sequence[str], wanted: Sequence[str], what: str) -> str:
    found = next((name for name in wanted if name in known), None)
    if found is None:
        raise FormatError(
            f"no column with {what}: looked for {', '.join(wanted)}, found {', '.join(known) or 'none'}"
        )
    return found


def _fields(feature: object) -> dict[str, Any]:
    """Return the features of one object, from a list of dicts or a dict of lists."""
    inner = getattr(feature, "feature", feature)
    if isinstance(inner, (list, tuple)):
        inner = inner[0]
    if not isinstance(inner, Mapping):
        raise FormatError(f"the column of objects must hold boxes and classes, got {feature}")
    return dict(inner)


def _class_names(feature: Any) -> list[str] | None:
    """Return the names of a ClassLabel, also inside a list; None for plain numbers or texts."""
    while not hasattr(feature, "names") and getattr(feature, "feature", None) is not None:
        feature = feature.feature
    names = getattr(feature, "names", None)
    return None if names is None else list(names)


def _objects(value: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None) -> Iterator[dict[str, Any]]:
    if isinstance(value, Mapping):
        keys = [k for k, v in value.items() if isinstance(v, (list, tuple))]
        yield from (dict(zip(keys, row)) for row in zip(*(value[k] for k in keys), strict=True))
    else:
        yield from (dict(v) for v in value or ())


def _image_file(value: Mapping[str, Any], folder: Path, number: int) -> str:
    """Return the path of a row's image; an image stored in the table is first written to a file, byte for byte."""
    path, content = value.get("path"), value.get("bytes")
    if content is None:
        if not path or not os.path.isfile(path):
            raise OSError(f"the image of row {number} is neither stored nor at {path!r}")
        return str(path)
    with Image.open(io.BytesIO(content)) as image:
        ending = _ENDINGS.get(image.format or "", ".png")
    name = Path(path).stem if path else f"{number:09d}"
    digest = hashlib.blake2b(content, digest_size=6).hexdigest()
    target = folder / f"{name}-{digest}{ending}"
    if not target.exists():
        with atomic_write(target, "wb") as f:
            f.write(content)
    return str(target)


def _box(values: Sequence[float], mode: str, record: Mapping[str, Any]) -> list[float]:
    box = [float(v) for v in values]
    if len(box) != 4:
        raise FormatError(f"{record['file_name']}: a box has 4 numbers, got {box}")
    if mode == "xywh":
        return [box[0], box[1], box[0] + box[2], box[1] + box[3]]
    return box


def _annotation(item: Mapping[str, Any], category: int, box: list[float]) -> dict[str, Any]:
    crowd = int(item.get("iscrowd") or 0)
    return {"category_id": category, "bbox": box, "bbox_mode": BoxMode.XYXY_ABS, "iscrowd": crowd}


def _rows(
    path: str, table: Any, picture: str, objects: str, folder: Path, skipped: list[str]
) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Yield the record and the objects of each row; rows without an image are added to ``skipped``."""
    for number, row in enumerate(table):
        try:
            file = _image_file(row[picture], folder, number)
            record = new_record(file, row.get("image_id", row.get("id", number)))
        except OSError as error:
            skipped.append(f"{path}: row {number}: {error}")
            continue
        yield record, list(_objects(row[objects]))


def read_huggingface(
    path: str,
    images: str | None = None,
    split: str | None = None,
    names: Sequence[str] | None = None,
    bbox_format: str = "xywh",
) -> Dataset:
    """Read a detection data set of Hugging Face ``datasets``.

    Args:
        path: folder of ``save_to_disk``, or the name of a data set on the hub.
        images: folder that images stored in the table are written to; default: one in the cache.
        split: name of a split; default: ``train``, or the only one.
        names: class names; default: those of the ClassLabel, else the texts or numbers found, sorted.
        bbox_format: ``"xywh"``, as in COCO and most data sets on the hub, or ``"xyxy"``; in pixels.

    Raises:
        FormatError: a column is missing, or a class has no name.
        ImportError: ``datasets`` is not installed.
    """
    if bbox_format not in ("xywh", "xyxy"):
        raise ValueError(f"bbox_format must be 'xywh' or 'xyxy', got {bbox_format!r}")
    table = _open(path, split)
    datasets = _library()
    picture = _column(table.column_names, ("image", "img"), "images")
    objects = _column(table.column_names, _OBJECTS, "objects")
    fields = _fields(table.features[objects])
    box_key, class_key = _column(list(fields), _BOXES, "boxes"), _column(list(fields), _CLASSES, "classes")
    known = list(names) if names is not None else _class_names(fields[class_key])
    default = Path(get_cache_dir()) / "detectron2" / "huggingface" / str(table._fingerprint)
    folder = Path(images) if images else default
    table = table.cast_column(picture, datasets.Image(decode=False))
    result = Dataset()
    rows = list(_rows(path, table, picture, objects, folder, result.skipped))
    found = {o[class_key] for _, items in rows for o in items}
    classes: list[Any] = sorted(found) if known is None else known
    numbers = {c: i for i, c in enumerate(classes)}
    for record, items in rows:
        for item in items:
            value = item[class_key]
            category = value if known is not None and isinstance(value, int) else numbers.get(value, -1)
            if not 0 <= category < len(classes):
                raise FormatError(f"{record['file_name']}: class {value!r} is not among {classes}")
            record["annotations"].append(
                _annotation(item, category, _box(item[box_key], bbox_format, record))
            )
        result.records.append(record)
    result.metadata["thing_classes"] = [str(c) for c in classes]
    return result


def write_huggingface(dataset: Dataset, folder: str) -> None:
    """Write boxes and classes as ``save_to_disk`` does, with the images inside.

    Args:
        dataset: data to write; masks and keypoints are not part of the layout, and are listed in its ``skipped``.
        folder: target folder.
    """
    datasets = _library()
    rows: list[dict[str, Any]] = []
    for record in dataset.records:
        annos = record.get("annotations", ())
        lost = sorted({k for a in annos for k in ("segmentation", "keypoints") if a.get(k) is not None})
        if lost:
            dataset.skipped.append(
                f"{record['file_name']}: {', '.join(lost)}, which this layout does not have"
            )
        boxes = [bbox_xyxy(a) for a in annos]
        content = Path(record["file_name"]).read_bytes()
        rows.append(
            {
                "image_id": str(record.get("image_id", len(rows))),
                "image": {"bytes": content, "path": Path(record["file_name"]).name},
                "width": record["width"],
                "height": record["height"],
                "objects": {
                    "bbox": [[x0, y0, x1 - x0, y1 - y0] for x0, y0, x1, y1 in boxes],
                    "category": [a["category_id"] for a in annos],
                    "iscrowd": [int(a.get("iscrowd", 0)) for a in annos],
                },
            }
        )
    many = datasets.Sequence
    features = datasets.Features(
        {
            "image_id": datasets.Value("string"),
            "image": datasets.Image(),
            "width": datasets.Value("int64"),
            "height": datasets.Value("int64"),
            "objects": {
                "bbox": many(many(datasets.Value("float64"), length=4)),
                "category": many(datasets.ClassLabel(names=dataset.classes)),
                "iscrowd": many(datasets.Value("int64")),
            },
        }
    )
    columns = {name: [row[name] for row in rows] for name in features}
    datasets.Dataset.from_dict(columns, features=features).save_to_disk(folder)


def _detect(path: Path) -> bool:
    saved = (path / "dataset_info.json").is_file() and (path / "state.json").is_file()
    return saved or (path / "dataset_dict.json").is_file()


register_format(
    Format(
        "huggingface", "Hugging Face datasets (save_to_disk)", read_huggingface, write_huggingface, _detect
    )
)
