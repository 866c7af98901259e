"""Test-time augmentation of any model for which merging is defined."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from detectron2.config import CfgNode, get_cfg
from detectron2.engine.run_config import RunConfig
from detectron2.modeling import (
    DatasetMapperTTA,
    GeneralizedRCNN,
    GeneralizedRCNNWithTTA,
    MaskClassifier,
    PanopticFPN,
    SemanticSegmentor,
    SemanticSegmentorWithTTA,
)
from detectron2.utils.errors import UserError

__all__ = ["augmented_model"]


def augmented_model(run: RunConfig, model: nn.Module, sizes: Sequence[int] = ()) -> nn.Module:
    """Wrap a model so that it predicts on several sizes of each image, also mirrored, and merges the results.

    Args:
        run: config of the model. ``TEST.AUG`` of a YAML config, or its defaults, say what ``sizes`` leaves open.
        model: the model, in evaluation mode.
        sizes: lengths of the shorter side, in pixels; empty for those of the config.

    Returns:
        A module with the inputs and outputs of the model.

    Raises:
        UserError: if no merging is defined for such a model.
    """
    only_semantic = isinstance(model, SemanticSegmentor) and not (
        isinstance(model, MaskClassifier) and (model.panoptic_on or model.instance_on)
    )
    of_boxes = isinstance(model, GeneralizedRCNN) and not isinstance(model, PanopticFPN)
    if not only_semantic and not (of_boxes and model.proposal_generator is not None):
        raise UserError(
            f"test-time augmentation is not defined for {type(model).__name__} with these results: only R-CNNs, and "
            "models of semantic segmentation alone, have a way to merge predictions on several sizes"
        )
    node: CfgNode = run.get("TEST.AUG", get_cfg().TEST.AUG)
    backbone: Any = model.backbone
    square = int(dict(backbone.padding_constraints).get("square_size", 0))
    limit = min(node.MAX_SIZE, square) if square else node.MAX_SIZE
    mapper = DatasetMapperTTA(tuple(sizes) or node.MIN_SIZES, limit, node.FLIP)
    wrapper = SemanticSegmentorWithTTA if only_semantic else GeneralizedRCNNWithTTA
    return wrapper(run.cfg, model, mapper)
