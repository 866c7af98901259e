"""Inference on single images."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config.types import Config
from detectron2.data import MetadataCatalog
from detectron2.data import transforms as T
from detectron2.data.detection_utils import read_image
from detectron2.structures.types import ModelInput, ModelOutput
from detectron2.utils.image_io import check_pixel_values

from .run_config import run_config

__all__ = ["DefaultPredictor"]

ImageSource = str | os.PathLike[str] | Image.Image | npt.ArrayLike


class DefaultPredictor:
    """Builds a model from a config, loads its weights, and runs inference on images of any size.

    Device, weights, input size and channel order come from the config.

    Args:
        cfg: a ``CfgNode``, or a LazyConfig with ``model``, ``train.init_checkpoint`` and ``dataloader.test``.

    Attributes:
        metadata: metadata of the first test dataset.
        model: the model in evaluation mode.
        input_format: channel order that the model expects, "RGB" or "BGR".
        load_report: which weights were loaded and which were not; None if the config names no weights.

    Raises:
        ValueError: if the model expects neither RGB nor BGR images.

    Example::

        predictor = DefaultPredictor(cfg)
        outputs = predictor(cv2.imread("input.jpg"))      # a BGR array, as in Detectron2
        outputs = predictor("input.jpg")                  # a file, whose channel order is known
    """

    def __init__(self, cfg: Config) -> None:
        run = run_config(cfg).copied()
        self.cfg = run.cfg
        self.model = run.model()
        saver = DetectionCheckpointer(self.model)
        saver.load(run.options.weights)
        self.load_report = saver.last_report
        self.metadata = MetadataCatalog.get((*run.dataset_names("test"), "__unused")[0])
        self.aug = run.test_augmentation()
        self.input_format = run.input_format
        self.model.eval()
        if self.input_format not in ("RGB", "BGR"):
            raise ValueError(
                f"DefaultPredictor needs a model for RGB or BGR images, but this one expects {self.input_format!r}; "
                "call the model itself with a dict {'image': tensor, 'height': …, 'width': …}"
            )

    def _to_array(self, image: ImageSource) -> npt.NDArray[Any]:
        """Return an image as an array (H, W, 3) in the channel order of the model."""
        if isinstance(image, (str, os.PathLike)):
            return read_image(os.fspath(image), format=self.input_format)
        if isinstance(image, Image.Image):  # has a known channel order
            upright = ImageOps.exif_transpose(image)  # as read_image does
            array = np.asarray(upright.convert("RGB"))
            return array if self.input_format == "RGB" else array[:, :, ::-1]
        array = np.asarray(image)
        if array.ndim != 3 or array.shape[2] != 3 or not array.size:
            raise ValueError(
                "an image must be an array of shape (height, width, 3) in BGR order, with pixels, got shape "
                f"{array.shape}"
            )
        check_pixel_values(array)
        return array if self.input_format == "BGR" else array[:, :, ::-1]

    def _to_input(self, image: ImageSource) -> ModelInput:
        array = self._to_array(image)
        height, width = array.shape[:2]
        data = T.AugInput(array)
        self.aug(data)
        tensor = torch.as_tensor(np.ascontiguousarray(data.image.transpose(2, 0, 1)).astype("float32"))
        return {"image": tensor, "height": height, "width": width}

    def __call__(self, original_image: ImageSource) -> ModelOutput:
        """Run inference on one image.

        Args:
            original_image: a path, a Pillow image, or an array (H, W, 3), always in BGR order, with values in
                [0, 255].

        Returns:
            The output of the model, such as ``{"instances": Instances}``, in the coordinates of the image.

        Raises:
            ValueError: if an array has another shape, NaN or infinite values, or integers outside [0, 255].
        """
        return self.batch([original_image])[0]

    @torch.no_grad()
    def batch(self, images: Sequence[ImageSource]) -> list[ModelOutput]:
        """Run inference on several images, which may differ in size, in one forward pass."""
        return list(self.model([self._to_input(image) for image in images]))
