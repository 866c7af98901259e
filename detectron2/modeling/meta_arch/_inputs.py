"""Conversion of model inputs, a list of dicts, to padded, normalised batches of images."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detectron2.structures import ImageList, Instances
from detectron2.structures.types import ModelInput
from detectron2.utils.errors import BadValue
from detectron2.utils.logger import log_every_n_seconds
from detectron2.utils.tracing import is_recording

from ..backbone import Backbone

__all__ = ["ImageModel", "ground_truth", "output_size"]


class ImageModel(nn.Module):
    """Base of models that take images: pixel statistics and batching. Subclasses set ``backbone``."""

    backbone: Backbone
    pixel_mean: Tensor
    pixel_std: Tensor
    _fixed_sizes: Sequence[tuple[int, int]] = ()

    @property
    def fixed_sizes(self) -> Sequence[tuple[int, int]]:
        """Batches are padded to the first of these (height, width) that holds them; if to none, as without them."""
        return self._fixed_sizes

    @fixed_sizes.setter
    def fixed_sizes(self, sizes: Sequence[tuple[int, int]]) -> None:
        if not all(_is_size(size) for size in sizes):
            raise BadValue(
                "INPUT.FIXED_SIZE must be a list of [height, width] in pixels, such as [[800, 1344], [1344, 800]], got "
                f"{list(sizes)}"
            )
        self._fixed_sizes = [(height, width) for height, width in sizes]

    def _set_pixel_statistics(self, mean: Sequence[float], std: Sequence[float]) -> None:
        if len(mean) != len(std):
            raise BadValue(f"pixel_mean has {len(mean)} channels, but pixel_std has {len(std)}")
        for name, values in (("pixel_mean", mean), ("pixel_std", std)):
            as_column = torch.tensor([float(v) for v in values]).view(-1, 1, 1)
            self.register_buffer(name, as_column, persistent=False)

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        return self.pixel_mean.device

    def _move_to_current_device(self, x: Tensor) -> Tensor:
        return x.to(self.device, non_blocking=True)

    def _make_batch(self, batched_inputs: list[ModelInput]) -> ImageList:
        """Normalise, pad and batch the images [C, H, W] under the key ``image``.

        Raises:
            ValueError: if an image has another number of channels than ``pixel_mean``.
        """
        channels = self.pixel_mean.shape[0]
        images = []
        for item in batched_inputs:
            image = self._move_to_current_device(item["image"])
            if image.dim() != 3 or (channels > 1 and image.shape[0] != channels):
                raise BadValue(
                    f"images must be [{channels}, H, W] for this model, got {list(image.shape)}; the length of "
                    f"MODEL.PIXEL_MEAN defines the number of channels"
                )
            images.append((image - self.pixel_mean) / self.pixel_std)
        return self._pad(images)

    def features_of(self, images: Tensor) -> dict[str, Tensor]:
        """Compute feature maps of N images of one size, for :class:`.TensorInference`.

        Args:
            images: [N, C, H, W], with the channels and range that the model expects.

        Returns:
            Feature maps by name.
        """
        normalised = (images - self.pixel_mean) / self.pixel_std
        return self.backbone(self._pad(list(normalised)).tensor)

    def _padding_constraints(self, maps: list[Tensor]) -> dict[str, int]:
        """Return what ``ImageList.from_tensors`` has to keep to, ``size_divisibility`` included."""
        return {"size_divisibility": self.backbone.size_divisibility, **self.backbone.padding_constraints}

    def _pad(self, maps: list[Tensor], value: float = 0.0) -> ImageList:
        """Batch images, or maps of the same sizes, with the padding that the backbone requires."""
        constraints = self._padding_constraints(maps)
        batch = ImageList.from_tensors(maps, 0, value, constraints)
        if not self.fixed_sizes or is_recording():  # there, sizes may be symbols
            return batch
        height, width = batch.tensor.shape[-2:]
        step = max(constraints["size_divisibility"], 1)
        wanted = [(-(-h // step) * step, -(-w // step) * step) for h, w in self.fixed_sizes]
        fits = [(h, w) for h, w in wanted if h >= height and w >= width]
        if fits:
            h, w = fits[0]
            batch.tensor = F.pad(batch.tensor, (0, w - width, 0, h - height), value=value)
        else:
            text = "INPUT.FIXED_SIZE %s holds no batch of %d x %d pixels, so it keeps this size."
            log_every_n_seconds(logging.WARNING, text % (list(self.fixed_sizes), height, width), n=600)
        return batch

    def _label_maps(self, batched_inputs: list[ModelInput], ignore_value: int) -> Tensor:
        """Batch the ``sem_seg`` maps [H, W], padded like the images, as [N, H, W].

        Raises:
            ValueError: if an input has none.
        """
        if any("sem_seg" not in item for item in batched_inputs):
            raise BadValue("training semantic segmentation needs a label map 'sem_seg' in every input")
        maps = [self._move_to_current_device(item["sem_seg"]) for item in batched_inputs]
        return self._pad(maps, ignore_value).tensor


def _is_size(size: object) -> bool:
    return isinstance(size, Sequence) and len(size) == 2 and all(type(s) is int and s > 0 for s in size)


def ground_truth(
    batched_inputs: list[ModelInput], device: torch.device, required: bool = True
) -> list[Instances] | None:
    """Return the ``instances`` of a batch, moved to a device; None if an input has none.

    Raises:
        ValueError: if ``required`` and an input has none.
    """
    if all("instances" in item for item in batched_inputs):
        return [item["instances"].to(device) for item in batched_inputs]
    if required:
        raise BadValue(
            "training needs ground truth under the key 'instances' of every input, got the keys "
            f"{[sorted(item) for item in batched_inputs]}; call .eval() first to run inference"
        )
    return None


def output_size(item: ModelInput, image_size: tuple[int, int]) -> tuple[int, int]:
    """Return the requested output size of an input: its ``height`` and ``width``, or the image size."""
    height, width = item.get("height", image_size[0]), item.get("width", image_size[1])
    return (height, width) if torch.jit.is_tracing() else (int(height), int(width))
