"""Images of different sizes in one batch."""

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, device

from detectron2.layers.wrappers import move_device_like, shapes_to_tensor
from detectron2.utils.errors import BadType, BadValue
from detectron2.utils.torch_version_utils import min_torch_version
from detectron2.utils.tracing import larger

__all__ = ["ImageList", "min_torch_version", "move_device_like", "shapes_to_tensor"]


class ImageList:
    """A batch of images, padded at the right and bottom to a common size, with their original sizes.

    Args:
        tensor: the padded batch, [N, H, W] or [N, C, ..., H, W].
        image_sizes: N pairs (height, width) without padding.
    """

    def __init__(self, tensor: Tensor, image_sizes: list[tuple[int, int]]) -> None:
        self.tensor = tensor
        self.image_sizes = image_sizes

    def __len__(self) -> int:
        return len(self.image_sizes)

    def __getitem__(self, idx: int) -> Tensor:
        """Return image ``idx`` without its padding, [C, H_i, W_i]; a view."""
        height, width = self.image_sizes[idx]
        return self.tensor[idx, ..., :height, :width]

    def to(self, *args: Any, **kwargs: Any) -> "ImageList":
        """Move or cast the batch as ``Tensor.to`` does."""
        return ImageList(self.tensor.to(*args, **kwargs), self.image_sizes)

    @property
    def device(self) -> device:
        """Device of the batch."""
        return self.tensor.device

    @staticmethod
    def from_tensors(
        tensors: Sequence[Tensor],
        size_divisibility: int = 0,
        pad_value: float = 0.0,
        padding_constraints: dict[str, int] | None = None,
    ) -> "ImageList":
        """Pad images to one size and stack them.

        Args:
            tensors: images [C, H_i, W_i] (or [H_i, W_i], ...), equal in all but the last two dimensions.
            size_divisibility: the padded height and width are multiples of this; 0 or 1: no constraint.
            pad_value: value of the padding.
            padding_constraints: optionally "size_divisibility", which replaces the argument, and "square_size": if
                positive, pad to a square of this side instead of the largest height and width.

        Raises:
            TypeError: if ``tensors`` is not a list or tuple of tensors.
            ValueError: if it is empty, the other dimensions differ, or an image exceeds "square_size".
        """
        if not isinstance(tensors, (list, tuple)) or not all(isinstance(t, Tensor) for t in tensors):
            raise BadType("ImageList.from_tensors expects a list or tuple of tensors")
        if len(tensors) == 0:
            raise BadValue("ImageList.from_tensors needs at least one image")
        lead = tensors[0].shape[:-2]
        if any(t.shape[:-2] != lead for t in tensors):
            raise BadValue(
                f"images must agree in all but height and width, got {[tuple(t.shape) for t in tensors]}"
            )
        sizes = [(t.shape[-2], t.shape[-1]) for t in tensors]
        height, width = ImageList.padded_size(sizes, size_divisibility, padding_constraints)
        # Pad and stack without copying into slices: sizes may be symbolic while a graph is traced.
        padded = [
            F.pad(t, (0, width - w, 0, height - h), value=pad_value) for t, (h, w) in zip(tensors, sizes)
        ]
        return ImageList(torch.stack(padded).contiguous(), sizes)

    @staticmethod
    def padded_size(
        sizes: Sequence[tuple[int, int]],
        size_divisibility: int = 0,
        padding_constraints: Mapping[str, int] | None = None,
    ) -> tuple[int, int]:
        """Compute the common (height, width) that images are padded to.

        Args:
            sizes: (height, width) of each image, at least one.
            size_divisibility: see :meth:`from_tensors`.
            padding_constraints: see :meth:`from_tensors`.

        Raises:
            ValueError: if an image exceeds "square_size", rounded up to the divisibility.
        """
        constraints = padding_constraints or {}
        step = max(constraints.get("size_divisibility", size_divisibility), 1)
        square = constraints.get("square_size", 0)
        # Sizes may be symbolic while a graph is traced; max() would need their values.
        largest: list[int] = [reduce(larger, side) for side in zip(*sizes)]
        target = [square, square] if square > 0 else largest
        if step > 1:
            target = [(side + step - 1) // step * step for side in target]
        if square > 0 and (largest[0] > target[0] or largest[1] > target[1]):
            raise BadValue(f"an image of {tuple(largest)} does not fit into square_size={square}")
        return target[0], target[1]
