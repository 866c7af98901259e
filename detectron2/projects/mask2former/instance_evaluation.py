"""COCO evaluation of instance masks."""

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

    The core's evaluator, with the name and arguments that Mask2Former's programs use.

    Args:
        dataset_name: a registered dataset.
        tasks: some of ``bbox``, ``segm``, ``keypoints``; None = all that the predictions allow.
        distributed: gather the predictions of all processes.
        output_dir: folder for the results; None = write nothing.
        max_dets_per_image: largest number of evaluated detections per image.
        use_fast_impl: use the fast engine instead of pycocotools.
        kpt_oks_sigmas: one per keypoint; empty = COCO's 17.
        allow_cached_coco: reuse a converted file in ``output_dir`` if it still fits the dataset.
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
