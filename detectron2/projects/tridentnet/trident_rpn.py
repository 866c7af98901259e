"""A region proposal network for features in branches."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from detectron2.layers import ShapeSpec
from detectron2.modeling import PROPOSAL_GENERATOR_REGISTRY
from detectron2.modeling.proposal_generator import RPN
from detectron2.structures import ImageList, Instances

from .trident_conv import running_branches

__all__ = ["TridentRPN"]


@PROPOSAL_GENERATOR_REGISTRY.register()
class TridentRPN(RPN):
    """An :class:`.RPN` that treats each branch of N images as separate images.

    Args:
        cfg: config; ``MODEL.TRIDENT`` sets the number of branches, the rest is as for :class:`.RPN`.
        input_shape: shapes of the feature maps by name.
    """

    def __init__(self, cfg: Any, input_shape: dict[str, ShapeSpec]) -> None:
        super().__init__(cfg, input_shape)  # type: ignore[call-arg,arg-type,misc]
        self.num_branch = cfg.MODEL.TRIDENT.NUM_BRANCH
        self.test_branch_idx = cfg.MODEL.TRIDENT.TEST_BRANCH_IDX

    def check_tensor_form(self) -> None:
        """Raise TypeError if several branches run: merging their detections has no tensor form."""
        if len(running_branches(self, self.num_branch, self.test_branch_idx)) > 1:
            raise TypeError(
                f"no tensor form for {self.num_branch} branches whose detections are merged; choose one of them by "
                "MODEL.TRIDENT.TEST_BRANCH_IDX"
            )

    def forward(
        self,
        images: ImageList,
        features: dict[str, Tensor],
        gt_instances: list[Instances] | None = None,
    ) -> tuple[list[Instances], dict[str, Tensor]]:
        """Predict proposals for each branch of each image; see :meth:`.RPN.forward`.

        Args:
            images: N images.
            features: maps [B * N, C, H, W] by name, branch after branch; B = 1 if one branch runs.
            gt_instances: N Instances with ``gt_boxes``; every branch learns all of them.

        Returns:
            B * N Instances, branch after branch, and the losses.
        """
        count = len(running_branches(self, self.num_branch, self.test_branch_idx))
        # an RPN reads only the sizes of images: no need to repeat their pixels
        repeated = ImageList(images.tensor, images.image_sizes * count)
        return super().forward(repeated, features, None if gt_instances is None else gt_instances * count)
