"""R-CNN whose padding square grows with the images."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from detectron2.modeling.meta_arch import rcnn
from detectron2.structures import Instances

from .heads import CascadeROIHeads

__all__ = ["GeneralizedRCNN"]


class GeneralizedRCNN(rcnn.GeneralizedRCNN):
    """The core's R-CNN for backbones that pad to a square.

    Args: see :class:`detectron2.modeling.GeneralizedRCNN`.
    """

    roi_heads: CascadeROIHeads

    def _padding_constraints(self, maps: list[Tensor]) -> dict[str, int]:
        constraints = super()._padding_constraints(maps)
        square = constraints.get("square_size", 0)
        if square > 0:
            constraints["square_size"] = max(square, *(side for m in maps for side in m.shape[-2:]))
        return constraints

    def inference(
        self,
        batched_inputs: list[Any],
        detected_instances: list[Instances] | None = None,
        do_postprocess: bool = True,
        keep_all_before_merge: bool = False,
    ) -> Any:
        """See :meth:`detectron2.modeling.GeneralizedRCNN.inference`.

        Args:
            batched_inputs, detected_instances, do_postprocess: see there.
            keep_all_before_merge: keep every box above the score threshold, without NMS.
        """
        if not keep_all_before_merge:
            return super().inference(batched_inputs, detected_instances, do_postprocess)
        images = self.preprocess_image(batched_inputs)
        features = self.backbone(images.tensor)
        proposals, _ = self._propose(batched_inputs, images, features, None)
        results, _ = self.roi_heads(images, features, proposals, None, keep_all_before_merge=True)
        if not do_postprocess:
            return results
        return type(self)._postprocess(results, batched_inputs, images.image_sizes)
