"""The preset for images with very many objects: more proposals, samples and detections, and smaller anchors."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from detectron2.engine.run_config import RunConfig

from ..errors import UserError

__all__ = ["dense_settings", "fit_dense"]

_USUAL_ANCHORS = [[32], [64], [128], [256], [512]]  # of the zoo's FPN models


def dense_settings(most: int) -> dict[str, object]:
    """Return the settings for images of up to ``most`` objects; numbers grow with it.

    Non-maximum suppression lets objects of a crowd overlap more than the zoo's models do.
    """
    proposals = max(2000, 2 * most)
    return {
        "MODEL.RPN.PRE_NMS_TOPK_TRAIN": proposals,
        "MODEL.RPN.PRE_NMS_TOPK_TEST": proposals,
        "MODEL.RPN.POST_NMS_TOPK_TRAIN": proposals,
        "MODEL.RPN.POST_NMS_TOPK_TEST": proposals,
        "MODEL.RPN.NMS_THRESH": 0.8,
        "MODEL.RPN.BATCH_SIZE_PER_IMAGE": _between(256, most, 2048),
        "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": _between(512, most, 2048),
        "MODEL.ROI_HEADS.NMS_THRESH_TEST": 0.6,
        "MODEL.RETINANET.TOPK_CANDIDATES_TEST": proposals,
        "MODEL.RETINANET.NMS_THRESH_TEST": 0.6,
        "TEST.DETECTIONS_PER_IMAGE": max(300, math.ceil(1.5 * most)),
    }


def _between(low: int, value: int, high: int) -> int:
    return min(max(value, low), high)


def fit_dense(config: RunConfig, records: Sequence[Mapping[str, Any]], model: str) -> list[str]:
    """Fit a config to images with very many objects.

    Args:
        config: before the user's own changes.
        records: training images, or tiles; the one with most objects decides.
        model: name of the model, for messages.

    Returns:
        Lines for the user.

    Raises:
        UserError: the config is a Python config, whose places for these numbers differ from model to model.
    """
    if config.get("TEST.DETECTIONS_PER_IMAGE") is None:
        raise UserError(
            f"--dense knows the keys of YAML configs, and {model} is a Python config: set the numbers of its proposals, "
            "samples and detections yourself"
        )
    most = max((len(r.get("annotations", ())) for r in records), default=0)
    settings = dense_settings(most)
    if config.get("MODEL.ANCHOR_GENERATOR.SIZES") == _USUAL_ANCHORS:
        settings["MODEL.ANCHOR_GENERATOR.SIZES"] = [[s // 2 for s in level] for level in _USUAL_ANCHORS]
    used = {path: value for path, value in settings.items() if config.get(path) is not None}
    for path, value in used.items():
        config.set(path, value)
    shown = ", ".join(f"{path} {value}" for path, value in used.items())
    return [f"--dense: the fullest image has {most} objects, so {shown}"]
