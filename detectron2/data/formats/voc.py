"""Folders of Pascal VOC XML files, with any classes."""

import itertools
import math
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detectron2.structures import BoxMode
from detectron2.utils.file_io.atomic import atomic_write
from detectron2.utils.file_io.text import read_text, read_xml

from ..image_finder import ImageFinder, composed, files_below
from .base import (
    Dataset,
    Format,
    FormatError,
    bbox_xyxy,
    copy_image,
    note_images,
    open_record,
    read_lines,
    register_format,
    sub_folder,
    target_names,
)

__all__ = ["read_voc", "write_voc"]


_LABELS = ("annotations", "annots", "annotation", "xml", "xmls", "labels", "bboxes")
_IMAGES = ("jpegimages", "images", "image", "imgs", "img")


def _box(node: ElementTree.Element) -> list[float]:
    corners = [float(node.findtext(f"bndbox/{s}") or "nan") for s in ("xmin", "ymin", "xmax", "ymax")]
    if not all(map(math.isfinite, corners)):
        raise ValueError("incomplete <bndbox>")
    x0, y0, x1, y1 = corners
    # VOC counts pixels from 1 and includes the last one.
    return [x0 - 1, y0 - 1, x1, y1]


def _annotations(
    root: ElementTree.Element, file: Path, numbers: Mapping[str, int], skipped: list[str]
) -> list[dict[str, Any]]:
    found = []
    for position, node in enumerate(root.iter("object")):
        name = (node.findtext("name") or "").strip()
        where = f"{file}, object {position} ({name!r})"
        if name not in numbers:
            skipped.append(f"{where}: its class is not among {', '.join(numbers)}")
            continue
        try:
            box = _box(node)
        except ValueError as error:
            skipped.append(f"{where}: {error}")
            continue
        difficult = (node.findtext("difficult") or "").strip() == "1"
        found.append(
            {
                "category_id": numbers[name],
                "bbox": box,
                "bbox_mode": BoxMode.XYXY_ABS,
                "iscrowd": 0,
                "difficult": int(difficult),
            }
        )
    return found


def _label_folder(root: Path) -> Path:
    found = sub_folder(root, _LABELS)
    return found if found is not None and any(f.suffix == ".xml" for f in files_below(found)) else root


def _files(root: Path, split: str | None, skipped: list[str]) -> list[Path]:
    folder = _label_folder(root)
    files = [f for f in files_below(folder) if f.suffix.lower() == ".xml"]
    if split is None:
        return files
    of_name = {composed(f.stem): f for f in files}
    chosen = []
    for _, line in read_lines(root / "ImageSets" / "Main" / f"{split}.txt"):
        # A name, whose letters may include spaces; lists of one class have a number behind it.
        names = [composed(re.sub(r"\.(jpg|png|xml)$", "", word)) for word in (line, line.split()[0])]
        found = next((n for n in names if n in of_name), None)
        if found is not None:
            chosen.append(of_name[found])
        else:
            skipped.append(f"{root / 'ImageSets' / 'Main' / split}.txt: {names[0]} has no file in {folder}")
    return chosen


def read_voc(
    path: str, images: str | None = None, split: str | None = None, names: Sequence[str] | None = None
) -> Dataset:
    """Read VOC XML files; files and objects that cannot be read are listed in ``skipped``.

    Args:
        path: the folder with ``Annotations`` (or ``annots``, ``labels`` …), ``JPEGImages`` (or ``images`` …) and
            optionally ``ImageSets``, or a folder of XML files with the images beside them.
        images: folder of the images, if it is elsewhere.
        split: name of a file in ``ImageSets/Main``; default: all XML files.
        names: class names in the order of their numbers; default: those found, sorted.
    """
    root = Path(path)
    image_dir = sub_folder(root, _IMAGES)
    finder = ImageFinder(*([images] if images else [*([image_dir] if image_dir else []), root]))
    dataset = Dataset()
    parsed = []
    for file in _files(root, split, dataset.skipped):
        try:
            parsed.append((file, read_xml(file)))
        except ValueError as error:
            dataset.skipped.append(str(error))
    if not parsed:
        raise FormatError("\n".join([f"{root} has no readable XML file", *dataset.skipped[:5]]))
    if names is None:
        found = {(n.findtext("name") or "").strip() for _, r in parsed for n in r.iter("object")}
        names = sorted(found - {""})
    dataset.metadata["thing_classes"] = list(names)
    numbers = {n: i for i, n in enumerate(names)}
    for file, node in parsed:
        beside = str(file.with_suffix("").relative_to(root))
        named = (node.findtext("filename") or "").strip() or file.stem
        image = finder.find(named, file.stem, beside)
        if image is None:
            dataset.skipped.append(
                f"{file}: its image {named!r} is not in {', '.join(map(str, finder.folders))}"
            )
            continue
        record = open_record(dataset, image, file.stem)
        if record is not None:
            record["annotations"] = _annotations(node, file, numbers, dataset.skipped)
            dataset.records.append(record)
    note_images(dataset, finder, root)
    return dataset


def _element(parent: ElementTree.Element, tag: str, text: object = None) -> ElementTree.Element:
    node = ElementTree.SubElement(parent, tag)
    if text is not None:
        node.text = str(text)
    return node


def _xml(record: Mapping[str, Any], image_name: str, classes: Sequence[str]) -> ElementTree.Element:
    root = ElementTree.Element("annotation")
    _element(root, "filename", image_name)
    size = _element(root, "size")
    for tag, value in (("width", record["width"]), ("height", record["height"]), ("depth", 3)):
        _element(size, tag, value)
    for anno in record.get("annotations", ()):
        node = _element(root, "object")
        _element(node, "name", classes[anno["category_id"]])
        _element(node, "difficult", int(anno.get("difficult", 0)))
        box = _element(node, "bndbox")
        x0, y0, x1, y1 = bbox_xyxy(anno)
        for tag, value in (("xmin", x0 + 1), ("ymin", y0 + 1), ("xmax", x1), ("ymax", y1)):
            _element(box, tag, f"{value:.8g}")
    return root


def write_voc(dataset: Dataset, folder: str, split: str = "train", copy_images: bool = True) -> None:
    """Write ``Annotations``, ``ImageSets/Main/SPLIT.txt`` and copies of the images in ``JPEGImages``.

    Args:
        dataset: data to write; crowd regions and masks are not part of VOC, and are listed in its ``skipped``.
        folder: target folder.
        split: name of the list of images.
        copy_images: false writes the labels only.
    """
    root = Path(folder)
    names = target_names(dataset)
    for record, name in zip(dataset.records, names):
        image_name = name + Path(record["file_name"]).suffix
        crowds = [a for a in record.get("annotations", ()) if a.get("iscrowd")]
        if crowds:
            dataset.skipped.append(
                f"{record['file_name']}: {len(crowds)} crowd regions, which VOC does not have"
            )
        kept = {**record, "annotations": [a for a in record.get("annotations", ()) if not a.get("iscrowd")]}
        tree = _xml(kept, image_name, dataset.classes)
        ElementTree.indent(tree)
        with atomic_write(root / "Annotations" / f"{name}.xml") as f:
            f.write(ElementTree.tostring(tree, encoding="unicode"))
        if copy_images:
            copy_image(record, root / "JPEGImages", image_name)
    with atomic_write(root / "ImageSets" / "Main" / f"{split}.txt") as f:
        f.writelines(n + "\n" for n in names)


def _detect(path: Path) -> bool:
    if not path.is_dir():
        return False
    files = (f for f in files_below(_label_folder(path)) if f.suffix.lower() == ".xml")
    return any(_is_voc(f) for f in itertools.islice(files, 20))


def _is_voc(file: Path) -> bool:
    try:
        return "<annotation>" in read_text(file)[:2000]
    except (ValueError, OSError):
        return False


def _parts(path: Path) -> dict[str, dict[str, Any]]:
    folder = path / "ImageSets" / "Main"
    found = {p: {"split": p} for p in ("train", "val", "test") if (folder / f"{p}.txt").is_file()}
    if "train" not in found and (folder / "trainval.txt").is_file():
        found["train"] = {"split": "trainval"}
    return found


register_format(Format("voc", "Pascal VOC XML files", read_voc, write_voc, _detect, _parts))
