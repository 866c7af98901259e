"""Evaluation of instance masks as COCO does it."""

import os
from collections.abc import Sequence

from detectron2.evaluation import (
    EVALUATOR_REGISTRY,
    COCOEvaluator,
    COCOPanopticEvaluator,
    DatasetEvaluator,
    SemSegEvaluator,
)

__all__ = ["InstanceSegEvaluator"]


class InstanceSegEvaluator(COCOEvaluator):
    """The COCO evaluator, for models that predict masks and need not predict boxes.

    It is the core's evaluator, under the name and with the arguments that programs for Mask2Former use.

    Args:
        dataset_name: a registered data set.
        tasks: of ``bbox``, ``segm``, ``keypoints``; None takes those that the predictions allow.
        distributed: join the predictions of all processes.
        output_dir: folder for the results; None writes nothing.
        max_dets_per_image: cap on the detections per image that count.
        use_fast_impl: False for pycocotools in place of the fast engine.
        kpt_oks_sigmas: one per keypoint; empty for COCO's 17.
        allow_cached_coco: reuse a converted file in ``output_dir`` if it still fits the data set.
    """

    def __init__(
        self,
        dataset_name: str,
        tasks: Sequence[str] | None = None,
        distributed: bool = True,
        output_dir: str | None = None,
        *,
        max_dets_per_image: int | None = None,
        use_fast_impl: bool = True,
        kpt_oks_sigmas: Sequence[float] = (),
        allow_cached_coco: bool = True,
    ) -> None:
        super().__init__(
            dataset_name,
            tasks,
            distributed,
            output_dir,
            max_dets_per_image=max_dets_per_image,
            use_fast_impl=use_fast_impl,
            kpt_oks_sigmas=kpt_oks_sigmas,
            allow_cached_coco=allow_cached_coco,
        )


@EVALUATOR_REGISTRY.register(name="mapillary_vistas_panoptic_seg")
def _mapillary_panoptic(name: str, output_dir: str | None, **options: object) -> list[DatasetEvaluator]:
    pictures = None if output_dir is None else os.path.join(output_dir, "panoptic_seg")
    return [SemSegEvaluator(name, output_dir=output_dir), COCOPanopticEvaluator(name, pictures)]
