"""Load images and semantic masks from two folders."""

import logging
import os
from typing import Any

from detectron2.utils.file_io import PathManager

__all__ = ["load_sem_seg"]

logger = logging.getLogger(__name__)


def _files(folder: str, ending: str) -> dict[str, str]:
    """Find the files below a folder with an extension: relative path without extension -> path, sorted."""
    found = {}
    stack = [""]
    while stack:
        below = stack.pop()
        for entry in PathManager.ls(os.path.join(folder, below)):
            path = os.path.join(folder, below, entry)
            if PathManager.isdir(path):
                stack.append(os.path.join(below, entry))
            elif entry.endswith(ending):
                found[os.path.join(below, entry)[: -len(ending)]] = path
    return dict(sorted(found.items()))


def load_sem_seg(
    gt_root: str, image_root: str, gt_ext: str = "png", image_ext: str = "jpg"
) -> list[dict[str, Any]]:
    """Pair images with their semantic masks.

    If there are as many masks as images, they are paired in the order of their names; otherwise those with equal
    names are paired and the rest is left out with a warning.

    Args:
        gt_root: folder of single-channel masks whose values are class numbers; searched recursively.
        image_root: folder of images; searched recursively.
        gt_ext: extension of mask files.
        image_ext: extension of image files.

    Returns:
        Records with ``file_name`` and ``sem_seg_file_name``.

    Raises:
        ValueError: one of the folders has no such file, or no names agree.
    """
    masks = _files(gt_root, gt_ext)
    images = _files(image_root, image_ext)
    for found, folder, ending in ((masks, gt_root, gt_ext), (images, image_root, image_ext)):
        if not found:
            raise ValueError(f"{folder} has no files that end with {ending!r}")
    common = [name for name in images if name in masks]
    if len(masks) != len(images):
        logger.warning(
            "%d images in %s and %d masks in %s: taking the %d with equal names",
            len(images), image_root, len(masks), gt_root, len(common),
        )  # fmt: skip
        if not common:
            raise ValueError(f"no mask in {gt_root} has the name of an image in {image_root}")
        pairs = [(images[name], masks[name]) for name in common]
    else:
        pairs = list(zip(images.values(), masks.values()))
        if len(common) < len(images):
            logger.warning(
                "%d of %d images in %s have no mask of the same name in %s; they are paired in the order of the names: "
                "%s with %s. Check that this is intended.",
                len(images) - len(common), len(images), image_root, gt_root,
                *next((i, m) for (n, i), m in zip(images.items(), masks.values()) if masks.get(n) != m),
            )  # fmt: skip
    logger.info("Loaded %d images with semantic masks from %s", len(pairs), image_root)
    return [{"file_name": image, "sem_seg_file_name": mask} for image, mask in pairs]
