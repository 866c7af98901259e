"""The registries of this package, in a file of their own to avoid import cycles."""

from __future__ import annotations

from detectron2.utils.registry import Registry

PROPOSAL_GENERATOR_REGISTRY = Registry("PROPOSAL_GENERATOR")
PROPOSAL_GENERATOR_REGISTRY.__doc__ = """
Modules that propose boxes. An entry is called with ``(cfg, input_shape)``, where ``input_shape`` maps names of feature
maps to ShapeSpec. The module is called with ``(images, features, gt_instances=None)`` and returns
``(proposals, losses)``: a list of Instances with ``proposal_boxes`` and ``objectness_logits``, and a dict of losses.
"""

RPN_HEAD_REGISTRY = Registry("RPN_HEAD")
RPN_HEAD_REGISTRY.__doc__ = """
Heads that predict objectness logits and anchor deltas from feature maps. An entry is called with
``(cfg, input_shape)``, where ``input_shape`` is a list of ShapeSpec.
"""
