"""Region proposals: boxes that may contain objects."""

from ._registry import PROPOSAL_GENERATOR_REGISTRY, RPN_HEAD_REGISTRY
from .build import ProposalGenerator, build_proposal_generator
from .rpn import RPN, StandardRPNHead, build_rpn_head
from .rrpn import RRPN

__all__ = [
    "PROPOSAL_GENERATOR_REGISTRY",
    "RPN",
    "RPN_HEAD_REGISTRY",
    "RRPN",
    "ProposalGenerator",
    "StandardRPNHead",
    "build_proposal_generator",
    "build_rpn_head",
]
