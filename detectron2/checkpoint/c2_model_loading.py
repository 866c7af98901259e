"""Match weights whose names differ from the model's: Caffe2 names, and names without a prefix."""

import copy
import logging
import os
import re
from collections.abc import Mapping, Sequence

import torch

from .load_report import format_groups

__all__ = ["align_and_update_state_dicts", "convert_basic_c2_names", "convert_c2_detectron_names"]

logger = logging.getLogger(__name__)

# Suffixes of Caffe2 blobs, the longest first.
_ENDINGS = (
    (r"[._](?:bn|gn)_(?:s|gamma)$", ".norm.weight"),
    (r"[._](?:bn|gn)_(?:b|beta|bias)$", ".norm.bias"),
    (r"[._]bn_(?:rm|running_mean)$", ".norm.running_mean"),
    (r"[._]bn_(?:riv|running_var)$", ".norm.running_var"),
    (r"[._]w$", ".weight"),
    (r"[._]b$", ".bias"),
)

# Names without suffix: the trunk, and the branches of DensePose, which have capitals.
_TRUNK = (
    (r"^(?:res_)?conv1$", "stem.conv1"),
    (r"^pred$", "linear"),
    (r"^(res\d)_(\d+)_branch1$", r"\1.\2.shortcut"),
    (r"^(res\d)_(\d+)_branch2a$", r"\1.\2.conv1"),
    (r"^(res\d)_(\d+)_branch2b$", r"\1.\2.conv2"),
    (r"^(res\d)_(\d+)_branch2c$", r"\1.\2.conv3"),
    (r"^AnnIndex_lowres$", "ann_index_lowres"),
    (r"^Index_UV_lowres$", "index_uv_lowres"),
    (r"^U_lowres$", "u_lowres"),
    (r"^V_lowres$", "v_lowres"),
)

# The heads of Detectron's detectors.
_DETECTOR = (
    (r"^fpn_inner_res(\d)_\d+_sum(?:_lateral)?$", r"fpn_lateral\1"),
    (r"^fpn_res(\d)_\d+_sum$", r"fpn_output\1"),
    (r"^conv_rpn(?:_fpn2)?$", "proposal_generator.rpn_head.conv"),
    (r"^rpn_cls_logits(?:_fpn2)?$", "proposal_generator.rpn_head.objectness_logits"),
    (r"^rpn_bbox_pred(?:_fpn2)?$", "proposal_generator.rpn_head.anchor_deltas"),
    (r"^fc6$", "box_head.fc1"),
    (r"^fc7$", "box_head.fc2"),
    (r"^head_conv(\d+)$", r"box_head.conv\1"),
    (r"^_?(?:\[mask\]|mask)_fcn(\d+)$", r"mask_head.mask_fcn\1"),
    (r"^conv5_mask$", "mask_head.deconv"),
    (r"^mask_fcn_logits$", "mask_head.predictor"),
    (r"^conv_fcn(\d+)$", r"roi_heads.keypoint_head.conv_fcn\1"),
    (r"^kps_score_lowres$", "roi_heads.keypoint_head.score_lowres"),
    (r"^kps_score$", "roi_heads.keypoint_head.score"),
)


def _first_match(rules: Sequence[tuple[str, str]], text: str) -> str:
    for pattern, replacement in rules:
        new, count = re.subn(pattern, replacement, text)
        if count:
            return new
    return text


def _split_ending(name: str) -> tuple[str, str]:
    """Split ``"res2_0_branch1_bn_s"`` into ``("res2_0_branch1", ".norm.weight")``."""
    for pattern, ending in _ENDINGS:
        found = re.search(pattern, name)
        if found:
            return name[: found.start()], ending
    return name, ""


def convert_basic_c2_names(original_keys: Sequence[str]) -> list[str]:
    """Rename the blobs of a Caffe2 trunk, and the suffixes of all others.

    Args:
        original_keys: names of blobs, such as ``"res2_0_branch2a_bn_s"``.

    Returns:
        names in our modules (``"res2.0.conv1.norm.weight"``), in the same order.
    """
    parts = [_split_ending(key) for key in original_keys]
    return [_first_match(_TRUNK, stem) + ending for stem, ending in parts]


def _without_background(name: str, value: torch.Tensor) -> torch.Tensor:
    """Move or drop the background, class 0 in Caffe2, which is last here and only in the classifier."""
    module = name.rsplit(".", 1)[0]
    if module == "bbox_pred":
        return value[4:]
    if module == "cls_score":
        return torch.cat([value[1:], value[:1]])
    if module == "mask_head.predictor":
        return value[1:]
    return value


def convert_c2_detectron_names(
    weights: Mapping[str, torch.Tensor],
) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Rename the blobs of a Detectron model, and move or drop the rows of the background class.

    Args:
        weights: blob name to tensor.

    Returns:
        ``(converted weights, new name to blob name)``.

    Raises:
        ValueError: if two blobs would get the same name.
    """
    converted: dict[str, torch.Tensor] = {}
    original: dict[str, str] = {}
    for blob in sorted(weights):
        stem, ending = _split_ending(blob)
        name = _first_match((*_DETECTOR, *_TRUNK), stem) + ending
        if name in original:
            raise ValueError(f"the blobs {original[name]!r} and {blob!r} would both be renamed to {name!r}")
        original[name] = blob
        converted[name] = _without_background(name, weights[blob])
    return converted, original


def match_by_suffix(model_keys: Sequence[str], ckpt_keys: Sequence[str]) -> dict[str, str]:
    """Match each key of the model to the longest key of the checkpoint that equals it or its end after a dot.

    Returns:
        model key -> checkpoint key, for the keys with a match.
    """
    known = set(ckpt_keys)
    found = {}
    for key in model_keys:
        tail = key
        while tail not in known and "." in tail:
            tail = tail.split(".", 1)[1]
        if tail in known:
            found[key] = tail
    return found


def align_and_update_state_dicts(
    model_state_dict: Mapping[str, torch.Tensor],
    ckpt_state_dict: Mapping[str, torch.Tensor],
    c2_conversion: bool = True,
) -> dict[str, torch.Tensor]:
    """Rename the weights of a checkpoint to the names of a model that end with the same parts.

    ``res2.conv1.weight`` of the checkpoint becomes ``backbone.bottom_up.res2.conv1.weight`` of the model. The longest
    match has priority. Weights of another shape are skipped with a warning.

    Args:
        model_state_dict: names and shapes of the model.
        ckpt_state_dict: names and weights of the checkpoint.
        c2_conversion: first convert the names from Caffe2's.

    Returns:
        the matched weights under the model's names, and the others under their own names.

    Raises:
        ValueError: if one weight matches two names of the model.
    """
    original: Mapping[str, str]
    if c2_conversion:
        weights, original = convert_c2_detectron_names(ckpt_state_dict)
    else:
        weights = {k: copy.copy(v) for k, v in ckpt_state_dict.items()}
        original = {k: k for k in ckpt_state_dict}

    result: dict[str, torch.Tensor] = {}
    taken: dict[str, str] = {}
    for key, source in match_by_suffix(sorted(model_state_dict), list(weights)).items():
        want, have = tuple(model_state_dict[key].shape), tuple(weights[source].shape)
        if want != have:
            logger.warning(
                f"{original[source]} of the checkpoint has shape {have}, but {key} needs {want}: skipped"
            )
            continue
        if source in taken:
            raise ValueError(
                f"{original[source]!r} of the checkpoint matches both {taken[source]!r} and {key!r} of the model; "
                "rename it in the checkpoint so that it matches one of them"
            )
        taken[source] = key
        result[key] = weights[source]
    if not taken:
        logger.warning("no name of the checkpoint matches a name of the model")
    else:
        pairs = [f"{key} <- {original[source]}" for source, key in taken.items() if key != original[source]]
        if pairs:
            logger.info("renamed while loading:\n" + "\n".join(sorted(pairs)))
    rest = {original[k]: v for k, v in weights.items() if k not in taken}
    if rest:
        logger.info("not in the model:\n" + format_groups(list(rest)))
    return result | {k: v for k, v in rest.items() if k not in result}


def _longest_common_prefix_str(names: Sequence[str]) -> str:
    """Return the longest common prefix of all names."""
    return os.path.commonprefix(list(names))  # noqa: RUF071 (compares letters, not paths)
