"""Convert predictor outputs to masks."""

from detectron2.structures import BitMasks, Boxes

from .base import BaseConverter

__all__ = ["ToMaskConverter"]


class ToMaskConverter(BaseConverter):
    """Converts predictor outputs to ``BitMasks``."""

    registry = {}
    dst_type = BitMasks

    @classmethod
    def convert(  # type: ignore[override]
        cls,
        densepose_predictor_outputs: object,
        boxes: Boxes,
        image_size_hw: tuple[int, int],
        *args: object,
        **kwargs: object,
    ) -> BitMasks:
        """Make the masks of N instances.

        Args:
            densepose_predictor_outputs: output for N instances.
            boxes: their N boxes, in pixels.
            image_size_hw: height and width of the image.
            args: further arguments of the registered function.
            kwargs: further keyword arguments of the registered function.

        Returns:
            N masks of the size of the image.
        """
        return super().convert(densepose_predictor_outputs, boxes, image_size_hw, *args, **kwargs)
