"""Register the built-in data sets, without reading any file.

Their files are expected in ``datasets``, or in the folder that the environment variable ``DETECTRON2_DATASETS`` names;
``datasets/README.md`` shows the layout.
"""

import os
from functools import partial
from typing import Any

from ..catalog import DatasetCatalog, MetadataCatalog
from .builtin_meta import _get_builtin_metadata, read_table
from .cityscapes import load_cityscapes_instances, load_cityscapes_semantic
from .cityscapes_panoptic import register_all_cityscapes_panoptic
from .coco import load_sem_seg, register_coco_instances, set_metadata
from .coco_panoptic import register_coco_panoptic, register_coco_panoptic_separated
from .lvis import get_lvis_instances_meta, register_lvis_instances
from .pascal_voc import register_pascal_voc

__all__ = [
    "DatasetCatalog",
    "MetadataCatalog",
    "get_lvis_instances_meta",
    "load_cityscapes_instances",
    "load_cityscapes_semantic",
    "load_sem_seg",
    "register_all_ade20k",
    "register_all_builtin",
    "register_all_cityscapes",
    "register_all_cityscapes_panoptic",
    "register_all_coco",
    "register_all_lvis",
    "register_all_pascal_voc",
    "register_coco_instances",
    "register_coco_panoptic",
    "register_coco_panoptic_separated",
    "register_lvis_instances",
    "register_pascal_voc",
]

# Split -> (folder of the images, JSON of the instances), below coco/.
_COCO = {
    "coco_2014_train": ("train2014", "instances_train2014"),
    "coco_2014_val": ("val2014", "instances_val2014"),
    "coco_2014_minival": ("val2014", "instances_minival2014"),
    "coco_2014_valminusminival": ("val2014", "instances_valminusminival2014"),
    "coco_2017_train": ("train2017", "instances_train2017"),
    "coco_2017_val": ("val2017", "instances_val2017"),
    "coco_2017_test": ("test2017", "image_info_test2017"),
    "coco_2017_test-dev": ("test2017", "image_info_test-dev2017"),
    "coco_2017_val_100": ("val2017", "instances_val2017_100"),
}
_COCO_PERSON = {
    "keypoints_coco_2014_train": ("train2014", "person_keypoints_train2014"),
    "keypoints_coco_2014_val": ("val2014", "person_keypoints_val2014"),
    "keypoints_coco_2014_minival": ("val2014", "person_keypoints_minival2014"),
    "keypoints_coco_2014_valminusminival": ("val2014", "person_keypoints_valminusminival2014"),
    "keypoints_coco_2017_train": ("train2017", "person_keypoints_train2017"),
    "keypoints_coco_2017_val": ("val2017", "person_keypoints_val2017"),
    "keypoints_coco_2017_val_100": ("val2017", "person_keypoints_val2017_100"),
}
_COCO_PANOPTIC = ("train2017", "val2017", "val2017_100")
_LVIS = {
    "lvis_v1_train": "lvis_v1_train",
    "lvis_v1_val": "lvis_v1_val",
    "lvis_v1_test_dev": "lvis_v1_image_info_test_dev",
    "lvis_v1_test_challenge": "lvis_v1_image_info_test_challenge",
    "lvis_v0.5_train": "lvis_v0.5_train",
    "lvis_v0.5_val": "lvis_v0.5_val",
    "lvis_v0.5_val_rand_100": "lvis_v0.5_val_rand_100",
    "lvis_v0.5_test": "lvis_v0.5_image_info_test",
    "lvis_v0.5_train_cocofied": "lvis_v0.5_train_cocofied",
    "lvis_v0.5_val_cocofied": "lvis_v0.5_val_cocofied",
}
_VOC = ("2007_trainval", "2007_train", "2007_val", "2007_test", "2012_trainval", "2012_train", "2012_val")


def register_all_coco(root: str) -> None:
    """Register COCO: instances, person keypoints and three kinds of panoptic data.

    Args:
        root: folder that contains ``coco/``.
    """
    for family, splits in (("coco", _COCO), ("coco_person", _COCO_PERSON)):
        for name, (images, annotations) in splits.items():
            register_coco_instances(
                name,
                partial(_get_builtin_metadata, family),
                os.path.join(root, f"coco/annotations/{annotations}.json"),
                os.path.join(root, f"coco/{images}"),
            )
    for split in _COCO_PANOPTIC:
        _register_coco_panoptic(root, split)


def _register_coco_panoptic(root: str, split: str) -> None:
    name = f"coco_2017_{split.replace('2017', '')}_panoptic"
    instances = _COCO[name.removesuffix("_panoptic")]
    shared: dict[str, Any] = {
        "image_root": os.path.join(root, f"coco/{instances[0]}"),
        "panoptic_root": os.path.join(root, f"coco/panoptic_{split}"),
        "panoptic_json": os.path.join(root, f"coco/annotations/panoptic_{split}.json"),
        "instances_json": os.path.join(root, f"coco/annotations/{instances[1]}.json"),
    }
    register_coco_panoptic(name, partial(_get_builtin_metadata, "coco_panoptic_standard"), **shared)
    register_coco_panoptic_separated(
        name,
        partial(_get_builtin_metadata, "coco_panoptic_separated"),
        sem_seg_root=os.path.join(root, f"coco/panoptic_stuff_{split}"),
        **shared,
    )


def register_all_lvis(root: str) -> None:
    """Register LVIS v1 and v0.5, and v0.5 with COCO's classes.

    Args:
        root: folder that contains ``coco/`` (images) and ``lvis/``.
    """
    for name, annotations in _LVIS.items():
        register_lvis_instances(
            name,
            partial(get_lvis_instances_meta, name),
            os.path.join(root, f"lvis/{annotations}.json"),
            os.path.join(root, "coco/"),
        )


def register_all_cityscapes(root: str) -> None:
    """Register Cityscapes with fine annotations: instances and semantic labels.

    Args:
        root: folder that contains ``cityscapes/``.
    """
    for split in ("train", "val", "test"):
        image_dir = os.path.join(root, f"cityscapes/leftImg8bit/{split}/")
        gt_dir = os.path.join(root, f"cityscapes/gtFine/{split}/")
        shared = {"image_dir": image_dir, "gt_dir": gt_dir}
        name = f"cityscapes_fine_instance_seg_{split}"
        DatasetCatalog.register(name, partial(load_cityscapes_instances, image_dir, gt_dir))
        meta = partial(_get_builtin_metadata, "cityscapes")
        set_metadata(name, meta, evaluator_type="cityscapes_instance", **shared)
        name = f"cityscapes_fine_sem_seg_{split}"
        DatasetCatalog.register(name, partial(load_cityscapes_semantic, image_dir, gt_dir))
        set_metadata(name, meta, evaluator_type="cityscapes_sem_seg", ignore_label=255, **shared)


def register_all_pascal_voc(root: str) -> None:
    """Register Pascal VOC 2007 and 2012.

    Args:
        root: folder that contains ``VOC2007/`` and ``VOC2012/``.
    """
    for split in _VOC:
        year, part = split.split("_")
        name = f"voc_{split}"
        register_pascal_voc(name, os.path.join(root, f"VOC{year}"), part, int(year))
        MetadataCatalog.get(name).evaluator_type = "pascal_voc"


def _ade20k_metadata() -> dict[str, Any]:
    return {"stuff_classes": list(read_table("ade20k")["stuff_classes"])}


def register_all_ade20k(root: str) -> None:
    """Register the 150 semantic classes of ADE20K's scene parsing benchmark.

    Args:
        root: folder that contains ``ADEChallengeData2016/``, with the masks that ``prepare_ade20k_sem_seg.py``
            writes.
    """
    base = os.path.join(root, "ADEChallengeData2016")
    for name, folder in (("train", "training"), ("val", "validation")):
        image_dir = os.path.join(base, "images", folder)
        gt_dir = os.path.join(base, "annotations_detectron2", folder)
        name = f"ade20k_sem_seg_{name}"
        DatasetCatalog.register(name, partial(load_sem_seg, gt_dir, image_dir))
        set_metadata(
            name,
            _ade20k_metadata,
            image_root=image_dir,
            sem_seg_root=gt_dir,
            evaluator_type="sem_seg",
            ignore_label=255,
        )


def register_all_builtin(root: str | None = None) -> None:
    """Register all built-in data sets; ``import detectron2.data`` does this once.

    Args:
        root: folder of the data sets; default: ``$DETECTRON2_DATASETS``, else ``datasets``.
    """
    if root is None:
        root = os.path.expanduser(os.getenv("DETECTRON2_DATASETS", "datasets"))
    register_all_coco(root)
    register_all_lvis(root)
    register_all_cityscapes(root)
    register_all_cityscapes_panoptic(root)
    register_all_pascal_voc(root)
    register_all_ade20k(root)
