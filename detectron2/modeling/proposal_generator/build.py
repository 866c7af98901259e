"""The interface of proposal generators, and their construction from a config."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.structures import ImageList, Instances
from detectron2.utils.reexports import passed_on

from . import rpn as _rpn  # noqa: F401  (registers RPN)
from . import rrpn as _rrpn  # noqa: F401  (registers RRPN)
from ._registry import PROPOSAL_GENERATOR_REGISTRY

__all__ = ["PROPOSAL_GENERATOR_REGISTRY", "ProposalGenerator", "build_proposal_generator"]

__getattr__ = passed_on(__name__)


class ProposalGenerator(Protocol):
    """A module that proposes boxes that may contain objects."""

    def __call__(
        self,
        images: ImageList,
        features: dict[str, Tensor],
        gt_instances: list[Instances] | None = None,
        /,
    ) -> tuple[list[Instances], dict[str, Tensor]]:
        """Return proposals and, in training, losses; see :meth:`.RPN.forward`."""


def build_proposal_generator(cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> ProposalGenerator | None:
    """Build the registered generator that ``MODEL.PROPOSAL_GENERATOR.NAME`` names.

    ``"PrecomputedProposals"`` returns None: the dataset supplies the proposals.
    """
    name = cfg.MODEL.PROPOSAL_GENERATOR.NAME
    if name == "PrecomputedProposals":
        return None
    return PROPOSAL_GENERATOR_REGISTRY.get(name)(cfg, input_shape)
