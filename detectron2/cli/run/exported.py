"""Exported files in place of runs: their card, and their evaluation."""

from collections.abc import Callable, Iterable
from typing import Any

from detectron2.data import DatasetMapper, build_detection_test_loader, get_detection_dataset_dicts
from detectron2.engine.run_folder import DataCard, RunCard
from detectron2.export import ExportedModel
from detectron2.structures.types import ModelInput, ModelOutput
from detectron2.utils.errors import UserError

from .datasets import VAL

__all__ = ["card_of_file", "picture_loader", "whole_pictures"]


def card_of_file(exported: ExportedModel, name: str) -> RunCard:
    """Return a card, as a run has one, for a file. Its data are still to be set.

    Args:
        exported: the file.
        name: what the user calls it.
    """
    about, nothing = exported.metadata, DataCard("", "")
    if "boxes" not in about["outputs"]:
        raise UserError(
            f"{name} gives {', '.join(about['outputs'])}, but no boxes, which are what labels are compared with here"
        )
    if not about["classes"]:
        raise UserError(f"{name} names no classes, so that labels cannot be told apart")
    return RunCard(
        model=name,
        classes=about["classes"],
        category_ids=about["category_ids"] or list(range(1, len(about["classes"]) + 1)),
        train=nothing,
        val=nothing,
        keypoint_names=about["keypoint_names"],
        keypoint_flips=about["keypoint_flips"],
        rotated=about["outputs"]["boxes"][-1] == 5,
        versions=about["versions"],
    )


def picture_loader(exported: ExportedModel) -> Iterable[Any]:
    """Return a loader of the registered validation pictures as they are in their files."""
    mapper = DatasetMapper(is_train=False, augmentations=[], image_format=exported.metadata["input_format"])
    records = get_detection_dataset_dicts(VAL, filter_empty=False)
    return build_detection_test_loader(records, mapper=mapper, batch_size=exported.metadata["batch"] or 1)


def whole_pictures(exported: ExportedModel) -> Callable[[list[ModelInput]], list[ModelOutput]]:
    """Return a file as a function of what :func:`picture_loader` loads."""

    def predict(inputs: list[ModelInput]) -> list[ModelOutput]:
        return exported([item["image"].permute(1, 2, 0).numpy() for item in inputs])

    return predict
