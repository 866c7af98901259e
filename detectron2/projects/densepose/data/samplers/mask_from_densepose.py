"""Masks from predictions."""

from detectron2.structures import BitMasks, Instances

from ...converters.to_mask import ToMaskConverter

__all__ = ["MaskFromDensePoseSampler"]


class MaskFromDensePoseSampler:
    """Take the pixels that DensePose does not call background as the mask of an instance."""

    def __call__(self, instances: Instances) -> BitMasks:
        """Make masks.

        Args:
            instances: N detections with ``pred_boxes`` and ``pred_densepose``.

        Returns:
            N masks as large as the image.
        """
        return ToMaskConverter.convert(instances.pred_densepose, instances.pred_boxes, instances.image_size)
