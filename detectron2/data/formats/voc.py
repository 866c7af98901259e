"""Folders of Pascal VOC XML files, of any classes."""

import shutil
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detectron2.structures import BoxMode
from detectron2.utils.atomic import atomic_write

from .base import (
    Dataset,
    Format,
    FormatError,
    bbox_xyxy,
    find_image,
    new_record,
    read_lines,
    register_format,
    target_names,
)

__all__ = ["read_voc", "write_voc"]


def _parse(file: Path) -> ElementTree.Element:
    try:
        return ElementTree.parse(file).getroot()
    except ElementTree.ParseError as error:
        raise FormatError(f"{file} is no whole XML file: {error}") from error


def _annotations(
    root: ElementTree.Element, file: Path, numbers: dict[str, int], fixed: bool
) -> list[dict[str, Any]]:
    found = []
    for node in root.iter("object"):
        name = (node.findtext("name") or "").strip()
        if name not in numbers:
            if fixed or not name:
                raise FormatError(f"{file}: class {name!r} is not among {', '.join(numbers)}")
            numbers[name] = len(numbers)
        try:
            x0, y0, x1, y1 = (
                float(node.findtext(f"bndbox/{s}") or "") for s in ("xmin", "ymin", "xmax", "ymax")
            )
        except ValueError:
            raise FormatError(f"{file}: object {name!r} has no whole <bndbox>") from None
        found.append(
            {
                "category_id": numbers[name],
                # VOC counts pixels from 1 and includes the last one.
                "bbox": [x0 - 1, y0 - 1, x1, y1],
                "bbox_mode": BoxMode.XYXY_ABS,
                "iscrowd": 0,
                "difficult": int(node.findtext("difficult") or 0),
            }
        )
    return found


def read_voc(
    path: str, images: str | None = None, split: str | None = None, names: Sequence[str] | None = None
) -> Dataset:
    """Read VOC XML files.

    Args:
        path: the folder with ``Annotations`` (and ``JPEGImages``, ``ImageSets``), or a folder of XML files with the
            images beside them.
        images: folder of the images, if it lies elsewhere.
        split: name of a file in ``ImageSets/Main``; default: all XML files.
        names: names of the classes in the order of their numbers; default: those found, sorted.
    """
    root = Path(path)
    xml_dir = root / "Annotations" if (root / "Annotations").is_dir() else root
    image_dir = (
        Path(images)
        if images
        else next((d for d in (root / "JPEGImages", root / "images") if d.is_dir()), xml_dir)
    )
    files = sorted(xml_dir.glob("*.xml"))
    if split is not None:
        wanted = [line.split()[0] for _, line in read_lines(root / "ImageSets" / "Main" / f"{split}.txt")]
        files = [xml_dir / f"{name}.xml" for name in wanted]
    parsed = [(file, _parse(file)) for file in files]
    if names is None:
        names = sorted({(n.findtext("name") or "").strip() for _, r in parsed for n in r.iter("object")})
    numbers = {n: i for i, n in enumerate(names)}
    dataset = Dataset(metadata={"thing_classes": list(numbers)})
    for file, node in parsed:
        image = find_image(image_dir, node.findtext("filename") or file.stem) or find_image(
            image_dir, file.stem
        )
        if image is None:
            dataset.skipped.append(f"{file}: its image is not in {image_dir}")
            continue
        record = new_record(image, file.stem)
        record["annotations"] = _annotations(node, file, numbers, fixed=True)
        dataset.records.append(record)
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
        dataset: what to write; crowd regions and masks are not part of VOC, and named in its ``skipped``.
        folder: where to.
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
            (root / "JPEGImages").mkdir(parents=True, exist_ok=True)
            shutil.copyfile(record["file_name"], root / "JPEGImages" / image_name)
    with atomic_write(root / "ImageSets" / "Main" / f"{split}.txt") as f:
        f.writelines(n + "\n" for n in names)


def _detect(path: Path) -> bool:
    folder = path / "Annotations" if (path / "Annotations").is_dir() else path
    first = next(iter(sorted(folder.glob("*.xml"))), None) if folder.is_dir() else None
    return first is not None and "<annotation" in first.read_text(encoding="utf-8", errors="replace")[:2000]


register_format(Format("voc", "Pascal VOC XML files", read_voc, write_voc, _detect))
