"""Coarse segmentation trained on instance masks."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from detectron2.structures import Instances

from ...structures.predictor_output import PredictorOutput

__all__ = ["DataForMaskLoss", "MaskLoss", "extract_data_for_mask_loss_from_matches"]


@dataclass
class DataForMaskLoss:
    """Masks of R proposals, true and predicted; both None if there are none.

    Args:
        masks_gt: [R, S, S] true masks, cropped to the proposals.
        masks_est: [R, D, S, S] predicted logits.
    """

    masks_gt: Tensor | None = None
    masks_est: Tensor | None = None


def extract_data_for_mask_loss_from_matches(
    proposals_targets: list[Instances], estimated_segm: Tensor
) -> DataForMaskLoss:
    """Gather true and predicted masks.

    Args:
        proposals_targets: ``proposal_boxes`` and ``gt_masks`` of each image; images without masks are ignored.
        estimated_segm: [R, D, S, S] logits for all proposals of all images.

    Raises:
        ValueError: proposals and logits do not match.
    """
    counts = [len(p) for p in proposals_targets]
    if sum(counts) != len(estimated_segm) or estimated_segm.shape[2] != estimated_segm.shape[3]:
        raise ValueError(
            f"expected square logits for {sum(counts)} proposals, got {list(estimated_segm.shape)}"
        )
    truth, found = [], []
    for proposals, logits in zip(proposals_targets, estimated_segm.split(counts) if counts else ()):
        if len(proposals) and proposals.has("gt_masks"):
            masks = proposals.gt_masks.crop_and_resize(proposals.proposal_boxes.tensor, logits.shape[3])
            truth.append(masks.to(logits.device))
            found.append(logits)
    if not truth:
        return DataForMaskLoss()
    return DataForMaskLoss(masks_gt=torch.cat(truth), masks_est=torch.cat(found))


class MaskLoss:
    """Mean cross-entropy between coarse segmentation and instance masks."""

    def __call__(
        self, proposals_with_gt: list[Instances], densepose_predictor_outputs: PredictorOutput
    ) -> Tensor:
        """Compute the loss.

        Args:
            proposals_with_gt: proposals of each image with ``gt_masks``.
            densepose_predictor_outputs: ``coarse_segm`` of all proposals.
        """
        if not proposals_with_gt:
            return self.fake_value(densepose_predictor_outputs)
        segm = densepose_predictor_outputs.coarse_segm
        data = extract_data_for_mask_loss_from_matches(proposals_with_gt, segm)
        if data.masks_gt is None or data.masks_est is None:
            return self.fake_value(densepose_predictor_outputs)
        return F.cross_entropy(data.masks_est, data.masks_gt.long())

    def fake_value(self, densepose_predictor_outputs: PredictorOutput) -> Tensor:
        """Return 0, attached to the predictions.

        Args:
            densepose_predictor_outputs: outputs with ``coarse_segm``.
        """
        return densepose_predictor_outputs.coarse_segm.sum() * 0
