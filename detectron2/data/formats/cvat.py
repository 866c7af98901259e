"""CVAT for images 1.1: one XML file with boxes, polygons, masks and points of many images."""

import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from detectron2.structures import BoxMode
from detectron2.structures.rle import encode, to_mask
from detectron2.utils.file_io.atomic import atomic_write
from detectron2.utils.file_io.text import read_text, read_xml

from ..image_finder import ImageFinder
from .base import (
    Dataset,
    Format,
    FormatError,
    bbox_xyxy,
    box_of_points,
    copy_image,
    keypoint_metadata,
    note_images,
    open_record,
    register_format,
    target_names,
)

__all__ = ["read_cvat", "write_cvat"]


def _points(text: str) -> list[float]:
    points = [[float(v) for v in pair.split(",")] for pair in text.split(";") if pair.strip()]
    if any(len(p) != 2 for p in points):
        raise ValueError("a point is not a pair of numbers")
    return [v for p in points for v in p]


def _box(node: ElementTree.Element) -> dict[str, Any]:
    x0, y0, x1, y1 = (float(node.attrib[k]) for k in ("xtl", "ytl", "xbr", "ybr"))
    turn = float(node.attrib.get("rotation", 0))
    if turn:
        # CVAT rotates clockwise about the centre.
        box = [(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0, -turn]
        return {"bbox": box, "bbox_mode": BoxMode.XYWHA_ABS}
    return {"bbox": [x0, y0, x1, y1], "bbox_mode": BoxMode.XYXY_ABS}


def _polygon(node: ElementTree.Element) -> dict[str, Any]:
    points = _points(node.attrib["points"])
    if len(points) < 6:
        raise ValueError(f"a polygon of {len(points) // 2} points")
    return {"bbox": box_of_points(points), "bbox_mode": BoxMode.XYXY_ABS, "segmentation": [points]}


def _mask(node: ElementTree.Element, height: int, width: int) -> dict[str, Any]:
    left, top, w, h = (int(node.attrib[k]) for k in ("left", "top", "width", "height"))
    runs = [int(v) for v in node.attrib["rle"].split(",")]
    # The runs alternate between 0 and 1, along the rows of the box.
    if min(runs) < 0 or sum(runs) != w * h or min(left, top) < 0 or left + w > width or top + h > height:
        raise ValueError(
            f"a mask of {sum(runs)} pixels in a box of {w}x{h} at ({left}, {top}) of {width}x{height}"
        )
    inside = np.repeat(np.arange(len(runs)) % 2, runs).astype(np.uint8)
    mask = np.zeros((height, width), np.uint8)
    mask[top : top + h, left : left + w] = inside.reshape(h, w)
    box = [float(left), float(top), float(left + w), float(top + h)]
    return {"bbox": box, "bbox_mode": BoxMode.XYXY_ABS, "segmentation": encode(mask)}


def _skeleton(node: ElementTree.Element, names: Sequence[str]) -> dict[str, Any]:
    """Return keypoints in the order of ``names``, zeros for those outside the image, and the box around them."""
    places = {n.attrib.get("label", ""): n for n in node.iter("points")}
    keypoints: list[float] = []
    for name in names:
        point = places.get(name)
        if point is None or point.attrib.get("outside") == "1":
            keypoints += [0.0, 0.0, 0.0]
        else:
            place = _points(point.attrib["points"])
            if len(place) != 2:
                raise ValueError(f"a keypoint {name!r} of {len(place) // 2} points")
            keypoints += [*place, 1.0 if point.attrib.get("occluded") == "1" else 2.0]
    seen = [keypoints[i : i + 2] for i in range(0, len(keypoints), 3) if keypoints[i + 2]]
    if not seen:
        raise ValueError("a skeleton without a point in the image")
    return {"bbox": box_of_points(seen), "bbox_mode": BoxMode.XYXY_ABS, "keypoints": keypoints}


def _shape(
    node: ElementTree.Element, record: Mapping[str, Any], keypoint_names: Sequence[str]
) -> dict[str, Any] | None:
    if node.tag == "skeleton":
        return _skeleton(node, keypoint_names)
    if node.tag == "box":
        return _box(node)
    if node.tag == "polygon":
        return _polygon(node)
    if node.tag == "mask":
        return _mask(node, record["height"], record["width"])
    return None


def _xml_file(path: Path) -> Path:
    if path.is_file():
        return path
    files = [f for f in sorted(path.glob("*.xml")) if _is_cvat(f)]
    if len(files) != 1:
        raise FormatError(f"{path}: expected one CVAT file, found {[f.name for f in files]}; name it")
    return files[0]


def read_cvat(path: str, images: str | None = None, names: Sequence[str] | None = None) -> Dataset:
    """Read a file of CVAT for images.

    Boxes (also rotated ones), polygons, masks and skeletons become objects; other and unreadable shapes are listed in
    ``skipped``. Polygons of one label and group are one object.

    Args:
        path: the XML file, or a folder with it.
        images: folder of the images; default: ``images`` beside the file, else its folder.
        names: class names in the order of their numbers; default: in the order of the file.

    Raises:
        FormatError: the file contains tracks of a video.
    """
    file = _xml_file(Path(path))
    root = read_xml(file)
    nodes = list(root.iter("image"))
    if not nodes and root.find("track") is not None:
        raise FormatError(
            f"{file} contains tracks of a video, which have no image files: export it from CVAT as 'CVAT for images 1.1' "
            "or as 'COCO 1.0', with images"
        )
    parts = [(n.findtext("name") or "").strip() for n in root.iterfind(".//labels/label[parent]")]
    parts += [n.attrib.get("label", "") for image in nodes for n in image.iterfind("skeleton/points")]
    points = list(dict.fromkeys(parts))
    if names is None:
        labels = [n for n in root.iterfind(".//labels/label") if n.find("parent") is None]
        defined = [(n.findtext("name") or "").strip() for n in labels]
        used = [n.attrib.get("label", "") for image in nodes for n in image]
        names = [n for n in dict.fromkeys([*defined, *used]) if n]
    numbers = {n: i for i, n in enumerate(names)}
    finder = ImageFinder(images) if images else ImageFinder(file.parent / "images", file.parent)
    dataset = Dataset(
        metadata={"thing_classes": list(numbers)} | (keypoint_metadata(points) if points else {})
    )
    for position, node in enumerate(nodes):
        name = node.attrib.get("name", "")
        image = finder.find(name)
        if image is None:
            dataset.skipped.append(f"{file}, image {position}: {name!r} is not in {finder.folders[0]}")
            continue
        record = open_record(dataset, image, node.attrib.get("id", name))
        if record is not None:
            where = f"{file}, image {name}"
            record["annotations"] = _objects(node, record, numbers, points, where, dataset.skipped)
            dataset.records.append(record)
    note_images(dataset, finder, file)
    return dataset


def _objects(
    image: ElementTree.Element,
    record: Mapping[str, Any],
    numbers: Mapping[str, int],
    keypoint_names: Sequence[str],
    where: str,
    skipped: list[str],
) -> list[dict[str, Any]]:
    groups: dict[Any, list[dict[str, Any]]] = {}
    for position, node in enumerate(image):
        label = node.attrib.get("label", "")
        try:
            if label not in numbers:
                raise ValueError(f"label {label!r} is not among {', '.join(numbers)}")
            shape = _shape(node, record, keypoint_names)
            if shape is None:
                raise ValueError(f"a {node.tag} is no region")
            group = int(node.attrib.get("group_id") or 0)
        except (KeyError, ValueError) as error:
            skipped.append(
                f"{where}, shape {position}: {'no ' if isinstance(error, KeyError) else ''}{error}"
            )
            continue
        shape = {"category_id": numbers[label], "iscrowd": 0, **shape}
        polygon = isinstance(shape.get("segmentation"), list)
        groups.setdefault((label, group) if group and polygon else position, []).append(shape)
    return [_joined(parts) for parts in groups.values()]


def _joined(parts: list[dict[str, Any]]) -> dict[str, Any]:
    if len(parts) == 1:
        return parts[0]
    polygons = [p for part in parts for p in part["segmentation"]]
    return {
        **parts[0],
        "segmentation": polygons,
        "bbox": box_of_points(np.concatenate([np.reshape(p, (-1, 2)) for p in polygons])),
    }


def _write_shape(
    parent: ElementTree.Element, anno: Mapping[str, Any], label: str, record: Mapping[str, Any], group: int
) -> None:
    base = {"label": label, "source": "manual", "occluded": "0"}
    segmentation = anno.get("segmentation")
    if isinstance(segmentation, list):
        many = {"group_id": str(group)} if len(segmentation) > 1 else {}
        for part in segmentation:
            text = ";".join(f"{x:.8g},{y:.8g}" for x, y in np.reshape(part, (-1, 2)))
            ElementTree.SubElement(parent, "polygon", {**base, **many, "points": text})
    elif segmentation is not None:
        mask = to_mask(segmentation, record["height"], record["width"])
        ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if len(ys):
            part = mask[ys[0] : ys[-1] + 1, xs[0] : xs[-1] + 1]
            edges = np.flatnonzero(np.diff(np.concatenate([[0], part.reshape(-1)]))).tolist()
            runs = np.diff([0, *edges, part.size]).tolist()
            place = {"left": xs[0], "top": ys[0], "width": part.shape[1], "height": part.shape[0]}
            attributes = {
                **base,
                **{k: str(int(v)) for k, v in place.items()},
                "rle": ", ".join(map(str, runs)),
            }
            ElementTree.SubElement(parent, "mask", attributes)
    else:
        rotated = len(anno["bbox"]) == 5
        x, y, w, h = anno["bbox"][:4] if rotated else (0, 0, 0, 0)
        x0, y0, x1, y1 = (x - w / 2, y - h / 2, x + w / 2, y + h / 2) if rotated else bbox_xyxy(anno)
        sides = {k: f"{v:.8g}" for k, v in zip(("xtl", "ytl", "xbr", "ybr"), (x0, y0, x1, y1))}
        turn = {"rotation": f"{-anno['bbox'][4] % 360:.8g}"} if rotated else {}
        ElementTree.SubElement(parent, "box", {**base, **sides, **turn})


def write_cvat(dataset: Dataset, folder: str, copy_images: bool = True) -> None:
    """Write ``annotations.xml`` and copies of the images in ``images``.

    Args:
        dataset: data to write.
        folder: target folder.
        copy_images: false writes the labels only.
    """
    root = Path(folder)
    tree = ElementTree.Element("annotations")
    ElementTree.SubElement(tree, "version").text = "1.1"
    labels = ElementTree.SubElement(
        ElementTree.SubElement(ElementTree.SubElement(tree, "meta"), "task"), "labels"
    )
    for name in dataset.classes:
        ElementTree.SubElement(ElementTree.SubElement(labels, "label"), "name").text = name
    for number, (record, name) in enumerate(zip(dataset.records, target_names(dataset))):
        image_name = name + Path(record["file_name"]).suffix
        attributes = {
            "id": str(number),
            "name": image_name,
            "width": str(record["width"]),
            "height": str(record["height"]),
        }
        node = ElementTree.SubElement(tree, "image", attributes)
        for group, anno in enumerate(record.get("annotations", ()), 1):
            _write_shape(node, anno, dataset.classes[anno["category_id"]], record, group)
        if copy_images:
            copy_image(record, root / "images", image_name)
    ElementTree.indent(tree)
    with atomic_write(root / "annotations.xml") as f:
        f.write(ElementTree.tostring(tree, encoding="unicode"))


def _is_cvat(file: Path) -> bool:
    try:
        return "<annotations" in read_text(file)[:4000]
    except (ValueError, OSError):
        return False


def _detect(path: Path) -> bool:
    if path.is_file():
        return path.suffix == ".xml" and _is_cvat(path)
    return path.is_dir() and any(_is_cvat(f) for f in sorted(path.glob("*.xml"))[:3])


register_format(Format("cvat", "CVAT for images 1.1 (XML)", read_cvat, write_cvat, _detect))
