"""Evaluation of instance masks as COCO does it."""

import os
from collections.abc import Sequence
from typing import Any

from detectron2.evaluation import (
    EVALUATOR_REGISTRY,
    COCOEvaluator,
    COCOPanopticEvaluator,
    DatasetEvaluator,
    SemSegEvaluator,
)
from detectron2.structures import Instances

__all__ = ["InstanceSegEvaluator"]


class InstanceSegEvaluator(COCOEvaluator):
    """The COCO evaluator, for models that predict masks and need not predict boxes.

    Classes may be any of the data set's contiguous ids, as those of the things of a panoptic data set. Without
    ``tasks`` boxes are judged only if some prediction has one.

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
        self._any_box = False

    def reset(self) -> None:
        super().reset()
        self._any_box = False

    def _pack(self, instances: Instances, image_id: Any) -> Any:
        if instances.has("pred_boxes"):
            self._any_box = self._any_box or bool(instances.pred_boxes.nonempty().any())
        return super()._pack(instances, image_id)

    def _tasks_from_predictions(self, predictions: Sequence[Any]) -> list[str]:
        tasks = super()._tasks_from_predictions(predictions)
        return [t for t in tasks if t != "bbox" or self._any_box]

    def _derive_coco_results(
        self, coco_eval: Any, iou_type: str, class_names: Sequence[str] | None = None
    ) -> dict[str, float]:
        """Named figures of one task; the names of classes may be those of the things only.

        Args:
            coco_eval: arrays and parameters of a ``COCOeval``.
            iou_type: the task.
            class_names: names of all contiguous classes, or of the things in the order of their classes.
        """
        mapping = self._metadata.get("thing_dataset_id_to_contiguous_id")
        if class_names is None or not mapping or len(class_names) > max(mapping.values()):
            return super()._derive_coco_results(coco_eval, iou_type, class_names)
        names = dict(zip(sorted(mapping.values()), class_names))
        spread = [names.get(i, "") for i in range(max(mapping.values()) + 1)]
        results = super()._derive_coco_results(coco_eval, iou_type, spread)
        return {name: value for name, value in results.items() if name != "AP-"}


@EVALUATOR_REGISTRY.register(name="mapillary_vistas_panoptic_seg")
def _mapillary_panoptic(name: str, output_dir: str | None, **options: object) -> list[DatasetEvaluator]:
    pictures = None if output_dir is None else os.path.join(output_dir, "panoptic_seg")
    return [SemSegEvaluator(name, output_dir=output_dir), COCOPanopticEvaluator(name, pictures)]
