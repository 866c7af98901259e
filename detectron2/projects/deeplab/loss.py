"""Losses on the class of every pixel."""

import torch
from torch import Tensor, nn

__all__ = ["DeepLabCE", "PixelCrossEntropy", "build_pixel_loss"]


class PixelCrossEntropy(nn.Module):
    """Mean cross-entropy over the labelled pixels; 0 if there are none.

    Args:
        ignore_label: label of ignored pixels.
    """

    def __init__(self, ignore_label: int = -1) -> None:
        super().__init__()
        self.ignore_label = ignore_label
        self.criterion = nn.CrossEntropyLoss(ignore_index=ignore_label, reduction="none")

    def forward(self, logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
        """Compute the loss.

        Args:
            logits: class scores [N, C, H, W].
            labels: int64 [N, H, W].
            weights: factor of each pixel [N, H, W].
        """
        losses: Tensor = self.criterion(logits, labels)
        if weights is not None:
            losses = losses * weights
        return losses.sum() / (labels != self.ignore_label).sum().clamp(min=1)


class DeepLabCE(nn.Module):
    """Mean cross-entropy over the pixels with the largest losses.

    Unlabelled pixels have a loss of 0, and count in the mean if they are among the chosen ones.

    Args:
        ignore_label: label of unlabelled pixels.
        top_k_percent_pixels: fraction of all pixels to choose, in (0, 1] despite its name.
        weight: factor of each class [C].

    Raises:
        ValueError: ``top_k_percent_pixels`` is outside (0, 1].

    Reference: DeeperLab, https://arxiv.org/abs/1902.05093, section 3.4 (where the chosen fraction falls over time).
    """

    def __init__(
        self, ignore_label: int = -1, top_k_percent_pixels: float = 1.0, weight: Tensor | None = None
    ) -> None:
        super().__init__()
        if not 0 < top_k_percent_pixels <= 1:
            raise ValueError(
                f"top_k_percent_pixels must be a fraction of the pixels in (0, 1], got {top_k_percent_pixels}"
            )
        self.top_k_percent_pixels = top_k_percent_pixels
        self.ignore_label = ignore_label
        self.criterion = nn.CrossEntropyLoss(weight=weight, ignore_index=ignore_label, reduction="none")

    def forward(self, logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
        """Compute the loss.

        Args:
            logits: class scores [N, C, H, W].
            labels: int64 [N, H, W].
            weights: factor of each pixel [N, H, W], applied before pixels are chosen.
        """
        losses: Tensor = self.criterion(logits, labels)
        if weights is not None:
            losses = losses * weights
        if self.top_k_percent_pixels < 1:
            chosen = int(self.top_k_percent_pixels * losses.numel())
            losses = torch.topk(losses.flatten(), chosen, sorted=False).values
        return losses.sum() / max(losses.numel(), 1)


def build_pixel_loss(loss_type: str, ignore_label: int, top_k: float) -> nn.Module:
    """Build the loss named by ``MODEL.SEM_SEG_HEAD.LOSS_TYPE``.

    Args:
        loss_type: "cross_entropy" (all pixels) or "hard_pixel_mining" (those with the largest losses).
        ignore_label: label of ignored pixels.
        top_k: fraction of the pixels that "hard_pixel_mining" chooses, in (0, 1].

    Raises:
        ValueError: ``loss_type`` is unknown.
    """
    if loss_type == "cross_entropy":
        return PixelCrossEntropy(ignore_label)
    if loss_type == "hard_pixel_mining":
        return DeepLabCE(ignore_label, top_k)
    raise ValueError(f"loss_type must be 'cross_entropy' or 'hard_pixel_mining', got {loss_type!r}")
