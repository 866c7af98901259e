"""Make masks from predictions."""

from detectron2.structures import BitMasks, Instances

from ...converters.to_mask import ToMaskConverter

__all__ = ["MaskFromDensePoseSampler"]


class MaskFromDensePoseSampler:
    """Use the pixels that DensePose does not label as background as the mask of an instance."""

    def __call__(self, instances: Instances) -> BitMasks:
        """Make masks.

        Args:
            instances: N detections with ``pred_boxes`` and ``pred_densepose``.

        Returns:
            N masks of the size of the image.
        """
        return ToMaskConverter.convert(instances.pred_densepose, instances.pred_boxes, instances.image_size)
