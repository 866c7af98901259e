"""Semantic segmentation refined at points.

N images, K classes, P points in each image.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling.meta_arch.semantic_seg import SEM_SEG_HEADS_REGISTRY

from .point_features import (
    get_uncertain_point_coords_on_grid,
    get_uncertain_point_coords_with_randomness,
    point_sample,
)
from .point_head import build_point_head

__all__ = [
    "PointRendSemSegHead",
    "build_point_head",
    "calculate_uncertainty",
    "get_uncertain_point_coords_on_grid",
    "get_uncertain_point_coords_with_randomness",
    "point_sample",
]


def calculate_uncertainty(sem_seg_logits: Tensor) -> Tensor:
    """Measure how close the two best classes of each point are.

    Args:
        sem_seg_logits: [N, K, ...].

    Returns:
        [N, 1, ...] second best minus best logit: 0 is the most uncertain.
    """
    best = sem_seg_logits.topk(2, dim=1).values
    return best[:, 1:] - best[:, :1]


@SEM_SEG_HEADS_REGISTRY.register()
class PointRendSemSegHead(nn.Module):
    """A coarse segmentation head, refined at its uncertain points.

    In evaluation the coarse resolution is doubled ``MODEL.POINT_HEAD.SUBDIVISION_STEPS`` times; 2 doublings lead from
    stride 4 to the resolution of the image.

    Args:
        cfg: config with the keys of :func:`add_pointrend_config`; ``MODEL.POINT_HEAD.COARSE_SEM_SEG_HEAD_NAME`` names
            the coarse head, which needs the methods ``layers`` and ``losses`` of ``SemSegFPNHead``.
        input_shape: channels and stride of the feature maps.

    Reference: PointRend, https://arxiv.org/abs/1912.08193
    """

    def __init__(self, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> None:
        super().__init__()
        node = cfg.MODEL.POINT_HEAD
        if node.NUM_CLASSES != cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES:
            raise ValueError(
                f"MODEL.POINT_HEAD.NUM_CLASSES must equal MODEL.SEM_SEG_HEAD.NUM_CLASSES, got {node.NUM_CLASSES} "
                f"and {cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES}"
            )
        self.ignore_value: int = cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE
        self.coarse_sem_seg_head = SEM_SEG_HEADS_REGISTRY.get(node.COARSE_SEM_SEG_HEAD_NAME)(cfg, input_shape)
        self.in_features: list[str] = node.IN_FEATURES
        self.train_num_points: int = node.TRAIN_NUM_POINTS
        self.oversample_ratio: float = node.OVERSAMPLE_RATIO
        self.importance_sample_ratio: float = node.IMPORTANCE_SAMPLE_RATIO
        self.subdivision_steps: int = node.SUBDIVISION_STEPS
        self.subdivision_num_points: int = node.SUBDIVISION_NUM_POINTS
        channels = sum(input_shape[name].channels or 0 for name in self.in_features)
        self.point_head = build_point_head(cfg, ShapeSpec(channels=channels, height=1, width=1))

    def forward(
        self, features: dict[str, Tensor], targets: Tensor | None = None
    ) -> tuple[Tensor | None, dict[str, Tensor]]:
        """Return (None, losses) in training; in evaluation class scores [N, K, H, W] and no losses.

        Args:
            features: feature maps by name.
            targets: labels [N, H, W], needed in training.
        """
        coarse = self.coarse_sem_seg_head.layers(features)
        if not self.training:
            return self._subdivide(features, coarse), {}
        if targets is None:
            raise ValueError("a segmentation head needs targets in training; call .eval() to predict only")
        losses = self.coarse_sem_seg_head.losses(coarse, targets)
        losses["loss_sem_seg_point"] = self._point_loss(features, coarse, targets)
        return None, losses

    def _predict_points(self, features: dict[str, Tensor], coarse: Tensor, coords: Tensor) -> Tensor:
        """Predict logits [N, K, P] at points [N, P, 2] of the images."""
        fine = [point_sample(features[name], coords, align_corners=False) for name in self.in_features]
        return self.point_head(torch.cat(fine, dim=1), point_sample(coarse, coords, align_corners=False))

    def _point_loss(self, features: dict[str, Tensor], coarse: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross-entropy over the drawn points that count; 0 if there is none."""
        coords = get_uncertain_point_coords_with_randomness(
            coarse,
            calculate_uncertainty,
            self.train_num_points,
            self.oversample_ratio,
            self.importance_sample_ratio,
        )
        logits = self._predict_points(features, coarse, coords).float()
        labels = point_sample(targets[:, None], coords, mode="nearest", align_corners=False)[:, 0].long()
        total = F.cross_entropy(logits, labels, reduction="sum", ignore_index=self.ignore_value)
        return total / (labels != self.ignore_value).sum().clamp(min=1)

    def _subdivide(self, features: dict[str, Tensor], coarse: Tensor) -> Tensor:
        """Repeatedly double the resolution and predict the uncertain points anew."""
        logits = coarse
        for _ in range(self.subdivision_steps):
            size = (logits.shape[-2] * 2, logits.shape[-1] * 2)
            logits = F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
            indices, coords = get_uncertain_point_coords_on_grid(
                calculate_uncertainty(logits), self.subdivision_num_points
            )
            refined = self._predict_points(features, coarse, coords).to(logits.dtype)
            where = indices[:, None].expand(-1, logits.shape[1], -1)
            logits = logits.flatten(2).scatter(2, where, refined).unflatten(2, size)
        return logits
