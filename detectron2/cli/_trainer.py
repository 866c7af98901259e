"""The trainer behind the command line."""

from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer
from detectron2.evaluation import DatasetEvaluator
from detectron2.evaluation._dispatch import build_evaluator

__all__ = ["RunTrainer"]


class RunTrainer(DefaultTrainer):
    """`DefaultTrainer` whose evaluator follows from the data set's `evaluator_type`."""

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str, output_folder: str | None = None) -> DatasetEvaluator:
        return build_evaluator(cfg, dataset_name, output_folder or f"{cfg.OUTPUT_DIR}/inference")
