"""Training datasets of Mask2Former beyond the built-in ones. Registering them reads no file.

ADE20K (https://groups.csail.mit.edu/vision/datasets/ADE20K), COCO-Stuff (https://github.com/nightrome/cocostuff10k),
Mapillary Vistas (https://www.mapillary.com/dataset/vistas); COCO's panoptic segments with semantic labels.
"""

import functools
import json
import os
from collections.abc import Callable, Mapping
from functools import partial
from importlib import resources
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets.builtin_meta import category_rows
from detectron2.data.datasets.coco import load_coco_json, load_sem_seg, set_metadata
from detectron2.data.datasets.coco_panoptic import convert_segment
from detectron2.utils.file_io.text import read_json

__all__ = ["load_panoptic", "register_all"]

_ADE = "ADEChallengeData2016"


@functools.cache
def _table(name: str) -> Any:
    """Return a table of ``tables.json`` by name; callers must not change it."""
    text = resources.files(__package__).joinpath("tables.json").read_text(encoding="utf-8")
    return json.loads(text)[name]


def load_panoptic(
    json_file: str,
    image_dir: str,
    gt_dir: str,
    semseg_dir: str,
    meta: object,
    image_id: Callable[[Any], Any] = str,
) -> list[dict[str, Any]]:
    """Load a file in COCO panoptic format, with a label map for each image.

    Args:
        json_file: path of the JSON file.
        image_dir: folder of the images, JPEG files named like their segment files.
        gt_dir: folder of the segment files (PNG).
        semseg_dir: folder of the label maps, named like the segment files.
        meta: metadata with the maps from category ids to classes.
        image_id: converts the ids in the file to image ids.

    Returns:
        Records with ``file_name``, ``image_id``, ``pan_seg_file_name``, ``sem_seg_file_name`` and ``segments_info``.
    """
    return [
        {
            "file_name": os.path.join(image_dir, os.path.splitext(anno["file_name"])[0] + ".jpg"),
            "image_id": image_id(anno["image_id"]),
            "pan_seg_file_name": os.path.join(gt_dir, anno["file_name"]),
            "sem_seg_file_name": os.path.join(semseg_dir, anno["file_name"]),
            "segments_info": [convert_segment(s, meta, json_file) for s in anno["segments_info"]],
        }
        for anno in read_json(json_file)["annotations"]
    ]


def _panoptic_meta(rows: list[dict[str, Any]], all_as_things: bool = False) -> dict[str, Any]:
    """Return the metadata of categories with ``id``, ``name``, ``color`` and ``isthing``; classes are their indices.

    Args:
        rows: the categories.
        all_as_things: list stuff in ``thing_classes`` too.
    """
    things = [r for r in rows if r["isthing"] or all_as_things]
    numbered = {r["id"]: i for i, r in enumerate(rows)}
    return {
        "thing_classes": [r["name"] for r in things],
        "thing_colors": [r["color"] for r in things],
        "stuff_classes": [r["name"] for r in rows],
        "stuff_colors": [r["color"] for r in rows],
        "thing_dataset_id_to_contiguous_id": {r["id"]: numbered[r["id"]] for r in rows if r["isthing"]},
        "stuff_dataset_id_to_contiguous_id": numbered,
    }


def _ade20k_rows() -> list[dict[str, Any]]:
    names = zip(_table("ade20k_panoptic")["names"], _table("ade20k_panoptic")["colors"])
    things = set(_table("ade20k_instance")["ids"])
    return [{"id": i, "name": n, "color": c, "isthing": i in things} for i, (n, c) in enumerate(names)]


def _mapillary_rows() -> list[dict[str, Any]]:
    table = _table("mapillary_vistas")
    things = set(table["things"])
    return [
        {"id": i, "name": n, "color": c, "isthing": i in things}
        for i, (n, c) in enumerate(zip(table["names"], table["colors"]), start=1)
    ]


def _mapillary_sem_seg_meta() -> dict[str, Any]:
    table = _table("mapillary_vistas")
    return {"stuff_classes": table["names"], "stuff_colors": table["colors"]}


def _ade20k_instance_meta() -> dict[str, Any]:
    table = _table("ade20k_instance")
    numbered = {category: i for i, category in enumerate(table["ids"])}
    return {"thing_dataset_id_to_contiguous_id": numbered, "thing_classes": table["names"]}


def _coco_stuff_10k_meta() -> dict[str, Any]:
    table = _table("coco_stuff_10k")
    numbered = {category: i for i, category in enumerate(table["ids"])}
    return {"stuff_dataset_id_to_contiguous_id": numbered, "stuff_classes": table["names"]}


def _register_panoptic(
    name: str,
    meta: Callable[[], Mapping[str, Any]],
    folders: Mapping[str, str],
    image_id: Callable[[Any], Any] = str,
    **facts: Any,
) -> None:
    """Register one panoptic dataset.

    Args:
        name: name of the dataset.
        meta: returns the metadata of its classes.
        folders: ``image_root``, ``panoptic_root``, ``panoptic_json`` and ``labels``.
        image_id: converts the ids in the file to image ids.
        **facts: further metadata.
    """

    def load() -> list[dict[str, Any]]:
        return load_panoptic(
            folders["panoptic_json"],
            folders["image_root"],
            folders["panoptic_root"],
            folders["labels"],
            MetadataCatalog.get(name),
            image_id,
        )

    DatasetCatalog.register(name, load)
    known = {k: v for k, v in folders.items() if k != "labels"}
    set_metadata(name, meta, **known, label_divisor=1000, **facts)


def _register_coco(root: str) -> None:
    for split in ("train", "val"):
        base = f"coco_2017_{split}_panoptic"
        labels = f"{root}/coco/panoptic_semseg_{split}2017"
        _register_panoptic(
            f"{base}_with_sem_seg",
            lambda: _panoptic_meta(category_rows("coco")),
            {
                "image_root": f"{root}/coco/{split}2017",
                "panoptic_root": f"{root}/coco/panoptic_{split}2017",
                "panoptic_json": f"{root}/coco/annotations/panoptic_{split}2017.json",
                "labels": labels,
            },
            int,
            sem_seg_root=labels,
            json_file=f"{root}/coco/annotations/instances_{split}2017.json",
            evaluator_type="coco_panoptic_seg",
            ignore_label=255,
        )


def _register_ade20k(root: str) -> None:
    base = f"{root}/{_ADE}"
    for split, folder in (("train", "training"), ("val", "validation")):
        images, instances = f"{base}/images/{folder}", f"{base}/ade20k_instance_{split}.json"
        _register_panoptic(
            f"ade20k_panoptic_{split}",
            lambda: _panoptic_meta(_ade20k_rows()),
            {
                "image_root": images,
                "panoptic_root": f"{base}/ade20k_panoptic_{split}",
                "panoptic_json": f"{base}/ade20k_panoptic_{split}.json",
                "labels": f"{base}/annotations_detectron2/{folder}",
            },
            json_file=instances,
            evaluator_type="ade20k_panoptic_seg",
            ignore_label=255,
        )
        name = f"ade20k_instance_{split}"
        DatasetCatalog.register(name, partial(load_coco_json, instances, images, name))
        set_metadata(
            name, _ade20k_instance_meta, json_file=instances, image_root=images, evaluator_type="coco"
        )
        full = f"{root}/ADE20K_2021_17_01"
        _register_sem_seg(
            f"ade20k_full_sem_seg_{split}",
            lambda: {"stuff_classes": _table("ade20k_full")},
            (f"{full}/images_detectron2/{folder}", f"{full}/annotations_detectron2/{folder}"),
            65535,
            gt_ext="tif",
        )


def _register_mapillary(root: str) -> None:
    for split, folder in (("train", "training"), ("val", "validation")):
        base = f"{root}/mapillary_vistas/{folder}"
        _register_sem_seg(
            f"mapillary_vistas_sem_seg_{split}",
            _mapillary_sem_seg_meta,
            (f"{base}/images", f"{base}/labels"),
            65,
        )
        _register_panoptic(
            f"mapillary_vistas_panoptic_{split}",
            lambda: _panoptic_meta(_mapillary_rows(), all_as_things=True),
            {
                "image_root": f"{base}/images",
                "panoptic_root": f"{base}/panoptic",
                "panoptic_json": f"{base}/panoptic/panoptic_2018.json",
                "labels": f"{base}/labels",
            },
            json_file=None,
            evaluator_type="mapillary_vistas_panoptic_seg",
            ignore_label=65,
        )


def _register_coco_stuff_10k(root: str) -> None:
    base = f"{root}/coco/coco_stuff_10k"
    for split in ("train", "test"):
        _register_sem_seg(
            f"coco_2017_{split}_stuff_10k_sem_seg",
            _coco_stuff_10k_meta,
            (f"{base}/images_detectron2/{split}", f"{base}/annotations_detectron2/{split}"),
            255,
        )


def _register_sem_seg(
    name: str,
    meta: Callable[[], Mapping[str, Any]],
    folders: tuple[str, str],
    ignore_label: int,
    gt_ext: str = "png",
) -> None:
    """Register a dataset of images and label maps in ``folders``."""
    images, labels = folders
    DatasetCatalog.register(name, partial(load_sem_seg, labels, images, gt_ext=gt_ext, image_ext="jpg"))
    set_metadata(
        name,
        meta,
        image_root=images,
        sem_seg_root=labels,
        evaluator_type="sem_seg",
        ignore_label=ignore_label,
    )


def register_all(root: str | None = None) -> None:
    """Register all datasets of this project; importing the project calls it once.

    Args:
        root: folder of the data; None = ``$DETECTRON2_DATASETS``, otherwise ``datasets``.
    """
    if root is None:
        root = os.path.expanduser(os.getenv("DETECTRON2_DATASETS", "datasets"))
    for register in (_register_coco, _register_ade20k, _register_mapillary, _register_coco_stuff_10k):
        register(root)


register_all()
