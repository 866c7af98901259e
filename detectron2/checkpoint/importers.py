"""Convert weights of detectors from torchvision and MMDetection to the names of our models."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

__all__ = [
    "convert_foreign_weights",
    "convert_mmdet_weights",
    "convert_torchvision_weights",
    "match_torchvision_anchors",
]

Rules = Sequence[tuple[str, str | Callable[[re.Match[str]], str]]]

# The backbones of torchvision and MMDetection have the names of torchvision's classifiers.
_RESNET: Rules = (
    (r"^conv1\.", "stem.conv1."),
    (r"^bn1\.", "stem.conv1.norm."),
    (r"^layer(\d)\.(\d+)\.bn(\d)\.", lambda m: f"res{int(m[1]) + 1}.{m[2]}.conv{m[3]}.norm."),
    (r"^layer(\d)\.(\d+)\.downsample\.0\.", lambda m: f"res{int(m[1]) + 1}.{m[2]}.shortcut."),
    (r"^layer(\d)\.(\d+)\.downsample\.1\.", lambda m: f"res{int(m[1]) + 1}.{m[2]}.shortcut.norm."),
    (r"^layer(\d)\.", lambda m: f"res{int(m[1]) + 1}."),
)


def _apply(rules: Rules, name: str) -> str | None:
    for pattern, replacement in rules:
        new, count = re.subn(pattern, replacement, name, count=1)
        if count:
            return new
    return None


def _trunk(name: str, prefix: str) -> str | None:
    if not name.startswith(prefix):
        return None
    new = _apply(_RESNET, name.removeprefix(prefix))
    return None if new is None else f"backbone.bottom_up.{new}"


def _first_level(names: Mapping[str, Any], pattern: str) -> int:
    """Return the level of the finest lateral convolution; the coarsest is always 5."""
    found = {int(m[1]) for m in (re.match(pattern, n) for n in names) if m}
    return 6 - len(found) if found else 2


# --------------------------------------------------------------------------------------------- torchvision
def _torchvision_rules(level: int) -> Rules:
    return (
        (
            r"^backbone\.fpn\.inner_blocks\.(\d)\.(?:0\.)?",
            lambda m: f"backbone.fpn_lateral{int(m[1]) + level}.",
        ),
        (
            r"^backbone\.fpn\.layer_blocks\.(\d)\.(?:0\.)?",
            lambda m: f"backbone.fpn_output{int(m[1]) + level}.",
        ),
        (r"^backbone\.fpn\.extra_blocks\.", "backbone.top_block."),
        (r"^rpn\.head\.conv\.(?:0\.0\.)?", "proposal_generator.rpn_head.conv."),
        (r"^rpn\.head\.cls_logits\.", "proposal_generator.rpn_head.objectness_logits."),
        (r"^rpn\.head\.bbox_pred\.", "proposal_generator.rpn_head.anchor_deltas."),
        (r"^roi_heads\.box_head\.fc6\.", "roi_heads.box_head.fc1."),
        (r"^roi_heads\.box_head\.fc7\.", "roi_heads.box_head.fc2."),
        (r"^roi_heads\.box_predictor\.", "roi_heads.box_predictor."),
        (r"^roi_heads\.mask_head\.(\d)\.0\.", lambda m: f"roi_heads.mask_head.mask_fcn{int(m[1]) + 1}."),
        (r"^roi_heads\.mask_head\.mask_fcn", "roi_heads.mask_head.mask_fcn"),
        (r"^roi_heads\.mask_predictor\.conv5_mask\.", "roi_heads.mask_head.deconv."),
        (r"^roi_heads\.mask_predictor\.mask_fcn_logits\.", "roi_heads.mask_head.predictor."),
        (
            r"^roi_heads\.keypoint_head\.(\d+)\.",
            lambda m: f"roi_heads.keypoint_head.conv_fcn{int(m[1]) // 2 + 1}.",
        ),
        (r"^roi_heads\.keypoint_predictor\.kps_score_lowres\.", "roi_heads.keypoint_head.score_lowres."),
        (r"^head\.classification_head\.conv\.(\d)\.0\.", lambda m: f"head.cls_subnet.{2 * int(m[1])}."),
        (r"^head\.regression_head\.conv\.(\d)\.0\.", lambda m: f"head.bbox_subnet.{2 * int(m[1])}."),
        (r"^head\.classification_head\.cls_logits\.", "head.cls_score."),
        (r"^head\.regression_head\.bbox_reg\.", "head.bbox_pred."),
    )


def _by_anchor(value: torch.Tensor, scales: int, anchors: int) -> torch.Tensor:
    """Reorder the anchors of a cell from torchvision's order, ratio before size, to size before ratio."""
    grouped = value.unflatten(0, (anchors // scales, scales, -1))
    return grouped.transpose(0, 1).flatten(0, 2)


def _torchvision_rows(name: str, value: torch.Tensor, anchors: int) -> torch.Tensor:
    """Reorder the rows of torchvision's output layers: its class 0 is the background."""
    module = name.rsplit(".", 1)[0]
    if module == "roi_heads.box_predictor.cls_score":
        return torch.cat([value[1:], value[:1]])
    if module == "roi_heads.box_predictor.bbox_pred":
        return value[4:]
    if module == "roi_heads.mask_head.predictor":
        return value[1:]
    if module == "head.cls_score":  # (anchors * classes, …); class 0 is never predicted
        value = value.unflatten(0, (anchors, -1))[:, 1:].flatten(0, 1)
        return _by_anchor(value, 3, anchors)
    if module == "head.bbox_pred":
        return _by_anchor(value, 3, anchors)
    return value


def convert_torchvision_weights(
    weights: Mapping[str, torch.Tensor], *, norm_eps: float = 1e-5
) -> dict[str, torch.Tensor]:
    """Rename a state dict of torchvision's Faster, Mask or Keypoint R-CNN or RetinaNet with ResNet and FPN.

    The background, torchvision's class 0, is moved to the end or dropped: torchvision's 91 classes are 90 here. For
    equal detections the config needs ``MODEL.RESNETS.STRIDE_IN_1X1 False``, ``INPUT.FORMAT "RGB"``, ``PIXEL_MEAN
    [123.675, 116.28, 103.53]``, ``PIXEL_STD [58.395, 57.12, 57.375]``, pooler type ``"ROIAlign"`` with sampling ratio 2;
    and anchors must be rounded, see :func:`match_torchvision_anchors`.

    Args:
        weights: torchvision's names and tensors.
        norm_eps: value that its frozen norms add to the variance: 0.0 for torchvision's own weights trained on COCO,
            otherwise 1e-5 as in ours. The variance is adjusted by the difference.

    Returns:
        our names and tensors.

    Raises:
        ValueError: if a name is unknown.
    """
    rules = _torchvision_rules(_first_level(weights, r"^backbone\.fpn\.inner_blocks\.(\d)"))
    anchors = 9
    box = weights.get("head.regression_head.bbox_reg.weight")
    if box is not None:
        anchors = box.shape[0] // 4
    result = {}
    for name, value in weights.items():
        if name.endswith("num_batches_tracked"):
            continue
        new = _trunk(name, "backbone.body.") or _apply(rules, name)
        if new is None:
            raise ValueError(f"{name!r} is not a parameter of torchvision's detectors with ResNet and FPN")
        if new.endswith("running_var"):
            value = value + (norm_eps - 1e-5)
        result[new] = _torchvision_rows(new, value, anchors)
    return result


def match_torchvision_anchors(model: nn.Module) -> nn.Module:
    """Round the anchors of a model in place to whole pixels, as in torchvision, and return the model.

    Raises:
        ValueError: if the model has no anchors.
    """
    found = [buffer for name, buffer in model.named_buffers() if "cell_anchors" in name]
    if not found:
        raise ValueError("match_torchvision_anchors: the model has no anchor generator with cell_anchors")
    for buffer in found:
        buffer.round_()
    return model


# --------------------------------------------------------------------------------------------- MMDetection
def _mmdet_rules(level: int) -> Rules:
    def output(m: re.Match[str]) -> str:
        at = int(m[1]) + level
        return f"backbone.fpn_output{at}." if at <= 5 else f"backbone.top_block.p{at}."

    stage = r"(?:(\d+)\.)?"  # heads of Cascade R-CNN are numbered

    def head(name: str) -> Callable[[re.Match[str]], str]:
        return lambda m: f"roi_heads.{name}." + (f"{m[1]}." if m[1] else "")

    return (
        (r"^neck\.lateral_convs\.(\d)\.conv\.", lambda m: f"backbone.fpn_lateral{int(m[1]) + level}."),
        (r"^neck\.fpn_convs\.(\d)\.conv\.", output),
        (r"^rpn_head\.rpn_conv\.", "proposal_generator.rpn_head.conv."),
        (r"^rpn_head\.rpn_cls\.", "proposal_generator.rpn_head.objectness_logits."),
        (r"^rpn_head\.rpn_reg\.", "proposal_generator.rpn_head.anchor_deltas."),
        (
            rf"^roi_head\.bbox_head\.{stage}shared_fcs\.(\d)\.",
            lambda m: f"roi_heads.box_head.{m[1] + '.' if m[1] else ''}fc{int(m[2]) + 1}.",
        ),
        (rf"^roi_head\.bbox_head\.{stage}fc_cls\.", lambda m: head("box_predictor")(m) + "cls_score."),
        (rf"^roi_head\.bbox_head\.{stage}fc_reg\.", lambda m: head("box_predictor")(m) + "bbox_pred."),
        (
            r"^roi_head\.mask_head\.convs\.(\d)\.conv\.",
            lambda m: f"roi_heads.mask_head.mask_fcn{int(m[1]) + 1}.",
        ),
        (r"^roi_head\.mask_head\.upsample\.", "roi_heads.mask_head.deconv."),
        (r"^roi_head\.mask_head\.conv_logits\.", "roi_heads.mask_head.predictor."),
        (r"^bbox_head\.cls_convs\.(\d)\.conv\.", lambda m: f"head.cls_subnet.{2 * int(m[1])}."),
        (r"^bbox_head\.reg_convs\.(\d)\.conv\.", lambda m: f"head.bbox_subnet.{2 * int(m[1])}."),
        (r"^bbox_head\.retina_cls\.", "head.cls_score."),
        (r"^bbox_head\.retina_reg\.", "head.bbox_pred."),
    )


def convert_mmdet_weights(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename a state dict of MMDetection's Faster, Mask or Cascade R-CNN or RetinaNet with ResNet and FPN.

    The background is last in MMDetection (version 2 and later), as here, and RPN and boxes have the same layout, so that
    only names change.

    Args:
        weights: MMDetection's names and tensors (the ``"state_dict"`` of its files).

    Returns:
        our names and tensors; unknown names are kept.
    """
    rules = _mmdet_rules(_first_level(weights, r"^neck\.lateral_convs\.(\d)\."))
    result = {}
    for name, value in weights.items():
        if not name.endswith("num_batches_tracked"):
            result[_trunk(name, "backbone.") or _apply(rules, name) or name] = value
    return result


def convert_foreign_weights(weights: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """Recognise and convert weights of torchvision or MMDetection.

    Returns:
        ``(weights, origin)``; the origin is ``"torchvision"``, ``"MMDetection"``, or empty for unchanged weights.
    """
    if any(k.startswith(("backbone.body.layer", "backbone.fpn.inner_blocks.")) for k in weights):
        return convert_torchvision_weights(weights), "torchvision"
    if any(k.startswith("neck.lateral_convs.") for k in weights):
        return convert_mmdet_weights(weights), "MMDetection"
    return dict(weights), ""
