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
    """A batch of images, padded at the right and bottom to a common size, and what their sizes were.

    Args:
        tensor: [N, H, W] or [N, C, ..., H, W].
        image_sizes: N pairs (height, width) without padding.

    Attributes:
        tensor: the padded batch.
        image_sizes: see above.
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
            tensors: images [C, H_i, W_i] (or [H_i, W_i], ...), alike in all but the last two sizes.
            size_divisibility: the padded height and width are multiples of this; 0 or 1: no constraint.
            pad_value: fills the padding.
            padding_constraints: may hold "size_divisibility", which then replaces the argument, and "square_size":
                if positive, pad to a square of this side instead of the largest height and width.

        Returns:
            The batch.

        Raises:
            TypeError: Not a list or tuple of tensors.
            ValueError: None given, the other sizes differ, or an image exceeds "square_size".
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
        # Plain padding and stacking, so that sizes may be symbols while a graph is traced.
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
        """Compute the common size that images are padded to.

        Args:
            sizes: height and width of each image, at least one.
            size_divisibility: see :meth:`from_tensors`.
            padding_constraints: see :meth:`from_tensors`.

        Returns:
            Height and width, at least those of each image.

        Raises:
            ValueError: if an image exceeds "square_size", rounded up to the divisibility.
        """
        constraints = padding_constraints or {}
        step = max(constraints.get("size_divisibility", size_divisibility), 1)
        square = constraints.get("square_size", 0)
        # Sizes may be symbols while a graph is traced; max() would ask for their values.
        largest: list[int] = [reduce(larger, side) for side in zip(*sizes)]
        target = [square, square] if square > 0 else largest
        if step > 1:
            target = [(side + step - 1) // step * step for side in target]
        if square > 0 and (largest[0] > target[0] or largest[1] > target[1]):
            raise BadValue(f"an image of {tuple(largest)} does not fit into square_size={square}")
        return target[0], target[1]
