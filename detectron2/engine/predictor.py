"""Predictions for single pictures."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import ImageOps

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config.types import Config
from detectron2.data import MetadataCatalog
from detectron2.data import transforms as T
from detectron2.data.detection_utils import read_image

from .run_config import run_config

__all__ = ["DefaultPredictor"]


class DefaultPredictor:
    """From a config to predictions: builds the model, loads its weights, resizes and calls it.

    Takes either kind of config. The device, the weights, the size of the input and the order of its
    channels come from there.

    Args:
        cfg: a `CfgNode`, or a LazyConfig with `model`, `train.init_checkpoint` and
            `dataloader.test`.

    Attributes:
        metadata: of the first test data set.
        model: in evaluation mode.
        input_format: channel order that the model wants, "RGB" or "BGR".

    Example::

        predictor = DefaultPredictor(cfg)
        outputs = predictor(cv2.imread("input.jpg"))      # a BGR array, as in Detectron2
        outputs = predictor("input.jpg")                  # a file: no doubt about channels
    """

    def __init__(self, cfg: Config) -> None:
        run = run_config(cfg).copied()
        self.cfg = run.cfg
        self.model = run.model()
        DetectionCheckpointer(self.model).load(run.options.weights)
        self.metadata = MetadataCatalog.get((*run.dataset_names("test"), "__unused")[0])
        self.aug = run.test_augmentation()
        self.input_format = run.input_format
        self.model.eval()
        if self.input_format not in ("RGB", "BGR"):
            raise ValueError(
                f"DefaultPredictor takes models for RGB or BGR pictures, this one wants {self.input_format!r}; call "
                "the model itself with a dict {'image': tensor, 'height': …, 'width': …}"
            )

    def _to_array(self, image: Any) -> np.ndarray:
        """Any picture as (H, W, 3) in the model's channel order."""
        if isinstance(image, (str, os.PathLike)):
            return read_image(os.fspath(image), format=self.input_format)
        if hasattr(image, "convert"):  # a Pillow image knows its own channels
            upright = ImageOps.exif_transpose(image)  # as when it is read from its file
            array = np.asarray(upright.convert("RGB"))
            return array if self.input_format == "RGB" else array[:, :, ::-1]
        array = np.asarray(image)
        if array.ndim != 3 or array.shape[2] != 3 or not array.size:
            raise ValueError(
                "a picture must be an array of shape (height, width, 3) in BGR order, with pixels, got shape "
                f"{array.shape}"
            )
        return array if self.input_format == "BGR" else array[:, :, ::-1]

    def _to_input(self, image: Any) -> dict[str, Any]:
        array = self._to_array(image)
        height, width = array.shape[:2]
        data = T.AugInput(array)
        self.aug(data)
        tensor = torch.as_tensor(np.ascontiguousarray(data.image.transpose(2, 0, 1)).astype("float32"))
        return {"image": tensor, "height": height, "width": width}

    def __call__(self, original_image: Any) -> dict[str, Any]:
        """Predicts for one picture.

        Args:
            original_image: array (H, W, 3) in BGR order whatever the model wants, values in
                [0, 255]; or a path, or a Pillow image.

        Returns:
            What the model gives for one picture, such as `{"instances": Instances}`, in the
            coordinates of the picture.
        """
        return self.batch([original_image])[0]

    @torch.no_grad()
    def batch(self, images: Sequence[Any]) -> list[dict[str, Any]]:
        """Predicts for several pictures in one forward pass.

        Args:
            images: pictures as for a single call; sizes may differ.
        """
        return list(self.model([self._to_input(image) for image in images]))
