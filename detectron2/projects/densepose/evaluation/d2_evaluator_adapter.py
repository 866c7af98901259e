"""COCO metrics on datasets with selected and merged categories."""

from collections.abc import Callable
from typing import Any

from detectron2.evaluation import COCOEvaluator
from detectron2.evaluation.coco.detections import ImageDetections
from detectron2.evaluation.coco.predictions import dataset_ids
from detectron2.evaluation.coco.truth import GroundTruth
from detectron2.utils.reexports import passed_on

from ..data.datasets.coco import filter_categories, get_contiguous_id_to_category_id_map

__all__ = ["Detectron2COCOEvaluatorAdapter"]

__getattr__ = passed_on(
    __name__,
    ("projects.densepose.data.datasets.coco.maybe_filter_categories_cocoapi",),
)


class Detectron2COCOEvaluatorAdapter(COCOEvaluator):
    """AP and AR of detections and masks for the used classes.

    Unused categories are dropped from the ground truth, and merged categories count as the first of them.

    Args:
        dataset_name: a dataset whose metadata has ``json_file`` and ``thing_dataset_id_to_contiguous_id``.
        output_dir: folder for result files; None = write nothing.
        distributed: gather the predictions of all processes.
    """

    def __init__(self, dataset_name: str, output_dir: str | None = None, distributed: bool = True) -> None:
        super().__init__(dataset_name, output_dir=output_dir, distributed=distributed)
        representatives = get_contiguous_id_to_category_id_map(self._metadata)
        self._convert = dataset_ids({c: number for number, c in representatives.items()}, dataset_name)

    def _to_dataset(self) -> Callable[[ImageDetections], ImageDetections]:
        return self._convert

    def _load_truth(self, dataset_name: str, allow_cached: bool) -> Any:
        truth = super()._load_truth(dataset_name, allow_cached)
        return GroundTruth(
            {**truth.dataset, **filter_categories(self._metadata, truth.dataset)}, truth.source
        )
