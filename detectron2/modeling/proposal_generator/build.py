"""Building a proposal generator from a config."""

from __future__ import annotations

from typing import Any

from torch import nn

from detectron2.layers import ShapeSpec

from . import rpn as _rpn  # noqa: F401  (registers RPN)
from . import rrpn as _rrpn  # noqa: F401  (registers RRPN)
from ._registry import PROPOSAL_GENERATOR_REGISTRY

__all__ = ["PROPOSAL_GENERATOR_REGISTRY", "build_proposal_generator"]


def build_proposal_generator(cfg: Any, input_shape: dict[str, ShapeSpec]) -> nn.Module | None:
    """The registered generator that ``MODEL.PROPOSAL_GENERATOR.NAME`` names.

    ``"PrecomputedProposals"`` gives None: the model then takes its proposals from the data.
    """
    name = cfg.MODEL.PROPOSAL_GENERATOR.NAME
    if name == "PrecomputedProposals":
        return None
    return PROPOSAL_GENERATOR_REGISTRY.get(name)(cfg, input_shape)
