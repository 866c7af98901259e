"""Read and write COCO instances and COCO panoptic."""

import contextlib
import functools
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image

from detectron2.structures.rle import to_mask
from detectron2.utils.file_io.atomic import atomic_write
from detectron2.utils.file_io.text import read_json
from detectron2.utils.image_io import READ_ERRORS, image_size

from ..datasets.coco_json.records import shift_keypoints
from ..datasets.coco_json.write import records_to_coco
from ..datasets.coco_panoptic import load_coco_panoptic_json
from ..health.coco_entries import read_entries, structure
from ..image_finder import ImageFinder
from .base import (
    Dataset,
    Format,
    FormatError,
    copy_image,
    keypoint_metadata,
    register_format,
    role_of,
    sub_folder,
    target_names,
)
from .sample import coco_sample

__all__ = ["read_coco", "read_coco_panoptic", "write_coco", "write_coco_panoptic"]


_LARGE = 32 << 20  # bytes; parsing larger files takes seconds


@functools.lru_cache(maxsize=64)
def _kind_of(path: Path, stamp: tuple[int, int]) -> str:
    try:
        if stamp[1] >= _LARGE:
            with open(path, "rb") as file:
                if file.read(1) == b"{":  # neither another encoding nor a list of results
                    return _kind_of_large(file)
        content = read_json(path)
    except (ValueError, OSError):
        return ""
    if not isinstance(content, dict) or not {"images", "categories"} <= set(content):
        return ""
    first = content.get("annotations")
    first = first[:5] if isinstance(first, list) else []
    return "panoptic" if any(isinstance(a, dict) and "segments_info" in a for a in first) else "instances"


def _kind_of_large(file: IO[bytes]) -> str:
    """Search for the keys without parsing, since the reader will parse the file anyway."""
    missing, text = {b'"images"', b'"categories"', b'"segments_info"'}, b""
    while missing and (block := file.read(16 << 20)):
        text = text[-20:] + block  # a key may lie across two blocks
        missing -= {key for key in missing if key in text}
    if missing - {b'"segments_info"'}:
        return ""
    return "instances" if missing else "panoptic"


def _kind(path: Path) -> str:
    """Return ``instances``, ``panoptic`` or an empty text, judged by the first annotations."""
    stat = path.stat()
    return _kind_of(path, (stat.st_mtime_ns, stat.st_size))


def _jsons(path: Path, kind: str) -> list[Path]:
    """Return the path itself if it is a file, else the files of a kind in the folder and its ``annotations``."""
    if path.is_file():
        return [path]
    folders = (path, *(d for d in (sub_folder(path, ("annotations",)),) if d))
    return [f for folder in folders for f in sorted(folder.glob("*.json"))[:30] if _kind(f) == kind]


def find_json(path: Path, kind: str, part: str | None = None) -> Path:
    """Find the only file of a kind, or the one whose name contains a part."""
    found = _jsons(path, kind)
    if part is not None:
        found = [f for f in found if role_of(f.stem) == part]
    if len(found) > 1:
        found = [f for f in found if f.stem.startswith("instances_")] or found
    if len(found) != 1:
        many = f"{path} holds {len(found)} COCO files ({', '.join(f.name for f in found[:5])}): name one"
        raise FormatError(many if found else f"{path} holds no COCO file ({kind})")
    return found[0]


def find_images(file: Path, names: Sequence[str], images: str | None, top: Path | None = None) -> ImageFinder:
    """Find the folder of a JSON file's images.

    Without ``images``, take the usual place that has most of the first images, else search ``top`` or the folder of
    the file.

    Args:
        file: the JSON file.
        names: of the images, in the file.
        images: folder of the images given by the user.
        top: folder of the data set given by the user.
    """
    if images:
        return ImageFinder(images)
    home = file.parent.parent if file.parent.name.lower() == "annotations" else file.parent
    stem = re.sub("^(instances|panoptic|person_keypoints)_", "", file.stem)
    bases = dict.fromkeys([file.parent, home, *([top] if top else []), file.parent.parent])
    places = [
        b / n
        for b in bases
        for n in ("images", ".", stem, f"images/{stem}", f"{stem}/images", role_of(stem) or stem)
    ]
    first = [n for n in names[:50] if n]
    hits = {p: sum(os.path.isfile(p / n) for n in first) for p in dict.fromkeys(places)}
    best = max(hits, key=lambda p: hits[p])
    if hits[best]:
        return ImageFinder(best)
    finder = ImageFinder(top or home)
    trial = ImageFinder(top or home)
    if first and not any(trial.find(n) or n in trial.doubtful for n in first):
        looked = ", ".join(str(p) for p in list(hits)[:4])
        raise FormatError(
            f"the images of {file}, such as {first[0]!r}, are in none of {looked}, nor below {top or home}: name their "
            "folder with --images (in training: --train-images, --val-images)"
        )
    return finder


def read_coco(
    path: str, images: str | None = None, part: str | None = None, sample_above: int | None = None
) -> Dataset:
    """Read a COCO file of instances (polygons, RLE, keypoints).

    Values of the wrong type, such as ids that are text, are converted, and labels that cannot be read are left out;
    both are listed in ``findings``.

    Args:
        path: the JSON file, or a folder with one.
        images: folder of the images; default: ``images`` beside the file, or another usual place.
        part: ``train``, ``val`` or ``test``, to choose among several files in the folder by their names.
        sample_above: read only a sample of files with more images; None reads all.
    """
    where = Path(path)
    file = find_json(where, "instances", part)
    content, whole = (None, None) if sample_above is None else coco_sample(str(file), sample_above)
    content = read_json(file) if content is None else content
    defects = structure(content, str(file))
    if defects:
        raise FormatError("\n".join(map(str, defects[:10])))
    names = [str(i["file_name"]) for i in content["images"]]
    finder = find_images(file, names, images, where if where.is_dir() else None)
    entries = read_entries(content, str(file), finder)
    ids = {c["id"]: number for number, c in enumerate(entries.categories)}
    metadata = {
        "thing_classes": [c["name"] for c in entries.categories],
        "thing_dataset_id_to_contiguous_id": ids,
        "image_root": str(finder.folders[0]),
        "categories": entries.categories,
    } | _keypoint_metadata(entries.categories)
    for record in entries.records:
        for anno in record["annotations"]:
            points = anno.get("keypoints")
            if isinstance(points, list) and all(isinstance(v, (int, float)) for v in points):
                anno["keypoints"] = shift_keypoints(points, 0.5)
    return Dataset(
        entries.records,
        metadata,
        findings=entries.findings,
        file=None if entries.mended else str(file),
        whole=whole,
    )


def _keypoint_metadata(categories: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the keypoint metadata of the first category that has keypoints."""
    named = [c for c in categories if isinstance(c.get("keypoints"), list) and c["keypoints"]]
    if not named:
        return {}
    return keypoint_metadata([str(n) for n in named[0]["keypoints"]])


def write_coco(
    dataset: Dataset, folder: str, copy_images: bool = True, file_name: str = "annotations.json"
) -> None:
    """Write ``annotations.json`` and copies of the images in ``images``.

    Args:
        dataset: data to write; ids of images, labels and categories are kept if they are integers, and are counted
            from 1 otherwise.
        folder: target folder.
        copy_images: false leaves the images where they are, and writes their absolute paths.
        file_name: of the labels.
    """
    root = Path(folder)
    ids = [r.get("image_id") for r in dataset.records]
    if len(set(ids)) < len(ids) or any(type(i) is not int for i in ids):
        ids = list(range(1, len(ids) + 1))
    records = [{**r, "image_id": number} for number, r in zip(ids, dataset.records)]
    for record, name in zip(records, target_names(dataset)):
        source = Path(record["file_name"])
        record["file_name"] = name + source.suffix if copy_images else str(source.absolute())
        if copy_images:
            copy_image({"file_name": source}, root / "images", record["file_name"])
    numbers = dataset.metadata.get("thing_dataset_id_to_contiguous_id") or {
        i + 1: i for i in range(len(dataset.classes))
    }
    content = records_to_coco(records, dataset.classes, {i: n for n, i in numbers.items()})
    _keep_entries(dataset, content)
    with atomic_write(root / file_name) as f:
        json.dump(content, f)


def _keep_entries(dataset: Dataset, content: dict[str, Any]) -> None:
    """Restore what the source file had: ids and areas of labels, additional keys of categories."""
    before = [a for r in dataset.records for a in r.get("annotations", ())]
    ids = [a.get("id") for a in before]
    keep_ids = all(type(i) is int for i in ids) and len(set(ids)) == len(ids)
    for made, anno in zip(content["annotations"], before):
        area = anno.get("area")
        if isinstance(area, (int, float)) and math.isfinite(area) and area >= 0:
            made["area"] = area
        if keep_ids:
            made["id"] = anno["id"]
    known = {c["id"]: c for c in dataset.metadata.get("categories", ())}
    names = dataset.metadata.get("keypoint_names")
    for category in content["categories"]:
        if names:
            category |= {"keypoints": list(names), "skeleton": []}
        extra = known.get(category["id"], {})
        if extra.get("name") == category["name"]:
            category |= extra


def _detect(path: Path, kind: str = "instances") -> bool:
    if path.is_file():
        return path.suffix == ".json" and _kind(path) == kind
    return bool(_jsons(path, kind))


def _parts(path: Path, kind: str = "instances") -> dict[str, dict[str, Any]]:
    if path.is_file():
        return {}
    found = [role_of(f.stem) for f in _jsons(path, kind)]
    return {role: {"part": role} for role in ("train", "val", "test") if role in found}


# ------------------------------------------------------------------ panoptic
def read_coco_panoptic(
    path: str, images: str | None = None, pngs: str | None = None, part: str | None = None
) -> Dataset:
    """Read a COCO panoptic file.

    Args:
        path: the JSON file, or a folder with one.
        images: folder of the images.
        pngs: folder of the PNG files; default: a folder named like the JSON file, beside it.
        part: ``train``, ``val`` or ``test``, to choose among several files in the folder by their names.

    Raises:
        FormatError: an entry lacks a key.
    """
    file = find_json(Path(path), "panoptic", part)
    try:
        return _read_panoptic(file, images, pngs, Path(path))
    except (KeyError, TypeError, AttributeError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise FormatError(f"{file} does not follow COCO's panoptic format: {what}") from error


def _read_panoptic(file: Path, images: str | None, pngs: str | None, where: Path) -> Dataset:
    png_dir = Path(pngs) if pngs else file.with_suffix("")
    content = read_json(file)
    ordered = sorted(content["categories"], key=lambda c: c["id"])
    # Things and stuff share one numbering, things first.
    ordered = [c for c in ordered if c.get("isthing")] + [c for c in ordered if not c.get("isthing")]
    numbers = {c["id"]: i for i, c in enumerate(ordered)}
    names = [str(c["name"]) for c in ordered]
    meta = {
        "thing_classes": names,
        "stuff_classes": names,
        "thing_dataset_id_to_contiguous_id": {c["id"]: numbers[c["id"]] for c in ordered if c.get("isthing")},
        "stuff_dataset_id_to_contiguous_id": {
            c["id"]: numbers[c["id"]] for c in ordered if not c.get("isthing")
        },
        "ignore_label": 255,
        "label_divisor": 1000,
    }
    names_of_images = [str(i["file_name"]) for i in content["images"]]
    finder = find_images(file, names_of_images, images, where if where.is_dir() else None)
    records = load_coco_panoptic_json(str(file), str(finder.folders[0]), str(png_dir), meta)
    sizes = {i["id"]: (i.get("height"), i.get("width")) for i in content["images"]}
    for record in records:
        height, width = sizes.get(record["image_id"], (None, None))
        if (height is None or width is None) and os.path.isfile(record["file_name"]):
            with contextlib.suppress(*READ_ERRORS):
                height, width = image_size(record["file_name"])
        record |= {"height": height, "width": width}
    return Dataset(records, meta)


def write_coco_panoptic(dataset: Dataset, folder: str, copy_images: bool = True) -> None:
    """Write ``panoptic.json``, the PNG files in ``panoptic`` and copies of the images in ``images``.

    Records without panoptic labels get them from their instances: of overlapping masks, the first is in front; pixels
    outside all masks are unlabelled.

    Args:
        dataset: data to write.
        folder: target folder.
        copy_images: false writes the labels only.
    """
    root = Path(folder)
    things = set(dataset.metadata.get("thing_dataset_id_to_contiguous_id", {}).values())
    names = dataset.classes
    isthing = [
        not dataset.metadata.get("stuff_dataset_id_to_contiguous_id") or i in things
        for i in range(len(names))
    ]
    images, annotations = [], []
    (root / "panoptic").mkdir(parents=True, exist_ok=True)
    for number, (record, name) in enumerate(zip(dataset.records, target_names(dataset)), 1):
        image_name = name + Path(record["file_name"]).suffix
        ids, segments = _segments(record)
        rgb = np.stack([ids % 256, ids // 256 % 256, ids // 256**2], axis=-1).astype(np.uint8)
        Image.fromarray(rgb).save(root / "panoptic" / f"{name}.png")
        images.append(
            {"id": number, "file_name": image_name, "height": record["height"], "width": record["width"]}
        )
        annotations.append({"image_id": number, "file_name": f"{name}.png", "segments_info": segments})
        if copy_images:
            copy_image(record, root / "images", image_name)
    categories = [{"id": i + 1, "name": n, "isthing": int(isthing[i])} for i, n in enumerate(names)]
    with atomic_write(root / "panoptic.json") as f:
        json.dump({"images": images, "annotations": annotations, "categories": categories}, f)


def _segments(record: dict[str, Any]) -> tuple[Any, list[dict[str, Any]]]:
    """Return the segment ids per pixel, and their descriptions with category ids from 1."""
    if "pan_seg_file_name" in record:
        rgb = np.asarray(Image.open(os.fspath(record["pan_seg_file_name"])).convert("RGB")).astype(np.int64)
        ids = rgb[..., 0] + 256 * rgb[..., 1] + 256**2 * rgb[..., 2]
        segments = [{**s, "category_id": s["category_id"] + 1} for s in record["segments_info"]]
        return ids, [{k: v for k, v in s.items() if k != "isthing"} for s in segments]
    height, width = record["height"], record["width"]
    ids = np.zeros((height, width), np.int64)
    segments = []
    for number, anno in enumerate(record.get("annotations", ()), 1):
        if anno.get("segmentation") is None:
            raise FormatError(
                f"{record['file_name']}: annotation {number - 1} has no mask, which panoptic labels need"
            )
        free = to_mask(anno["segmentation"], height, width) & (ids == 0)
        if not free.any():
            continue
        ids[free] = number
        ys, xs = np.flatnonzero(free.any(1)), np.flatnonzero(free.any(0))
        box = [int(xs[0]), int(ys[0]), int(xs[-1] - xs[0] + 1), int(ys[-1] - ys[0] + 1)]
        segments.append(
            {
                "id": number,
                "category_id": anno["category_id"] + 1,
                "area": int(free.sum()),
                "bbox": box,
                "iscrowd": int(anno.get("iscrowd", 0)),
            }
        )
    return ids, segments


register_format(Format("coco", "COCO instances (JSON)", read_coco, write_coco, _detect, _parts))
register_format(
    Format(
        "coco_panoptic",
        "COCO panoptic (JSON and PNG)",
        read_coco_panoptic,
        write_coco_panoptic,
        functools.partial(_detect, kind="panoptic"),
        functools.partial(_parts, kind="panoptic"),
    )
)
