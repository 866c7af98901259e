"""Proposals of two-stage detection transformers: a box around every pixel of every level.

References: Deformable DETR, https://arxiv.org/abs/2010.04159, appendix A.4; DINO, https://arxiv.org/abs/2203.03605
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from detectron2.layers.deformable_attention import SpatialShapes

__all__ = ["best_proposals", "encoder_proposals", "pixel_proposals", "select"]


def pixel_proposals(hidden: Tensor, shapes: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor]:
    """Propose a box around every pixel, with sides of 5 % of the image on the first level, doubling per level.

    Args:
        hidden: [N, S] pixels of all levels; True marks padding, which is below and to the right.
        shapes: (height, width) of the levels, S pixels in total.

    Returns:
        * [N, S, 4] logits of boxes (center x, center y, width, height), in [0, 1] of the images; infinite if invalid.
        * [N, S], True for valid proposals: not in padding, and all numbers within (0.01, 0.99).
    """
    boxes = []
    for i, (level, (h, w)) in enumerate(zip(hidden.split([h * w for h, w in shapes], 1), shapes)):
        seen = ~level.unflatten(1, (h, w))
        height, width = seen[:, :, 0].sum(1), seen[:, 0].sum(1)  # [N]
        y, x = torch.meshgrid(
            torch.arange(h, device=hidden.device) + 0.5,
            torch.arange(w, device=hidden.device) + 0.5,
            indexing="ij",
        )
        centres = torch.stack([x.flatten() / width[:, None], y.flatten() / height[:, None]], -1)
        boxes.append(torch.cat([centres, torch.full_like(centres, 0.05 * 2.0**i)], -1))
    proposals = torch.cat(boxes, 1)
    exists = ((proposals > 0.01) & (proposals < 0.99)).all(-1) & ~hidden
    odds = (proposals / (1 - proposals)).log()
    return odds.masked_fill(~exists[..., None], torch.inf), exists


def encoder_proposals(
    memory: Tensor, memory_padding_mask: Tensor, spatial_shapes: SpatialShapes
) -> tuple[Tensor, Tensor]:
    """Let every pixel that the encoder has seen propose a box; see :func:`pixel_proposals`.

    Args:
        memory: [N, S, C] output of the encoder.
        memory_padding_mask: [N, S]; True marks padding.
        spatial_shapes: (height, width) of the levels.

    Returns:
        [N, S, C] the output of the encoder, 0 where there is no proposal, and [N, S, 4] log-odds of the boxes.
    """
    rows = spatial_shapes.tolist() if isinstance(spatial_shapes, Tensor) else spatial_shapes
    proposals, exist = pixel_proposals(memory_padding_mask, [(h, w) for h, w in rows])
    return memory.masked_fill(~exist[..., None], 0.0), proposals.to(memory)


def select(values: Tensor, index: Tensor) -> Tensor:
    """Select the rows ``index`` [N, K] of ``values`` [N, S, C]; return [N, K, C]."""
    return values.gather(1, index[..., None].expand(-1, -1, values.shape[-1]))


def best_proposals(scores: Tensor, count: int) -> Tensor:
    """Return the indices [N, count] of the highest scores [N, S], best first; fewer where a small image has fewer pixels."""
    if not torch.compiler.is_compiling():
        count = min(count, scores.shape[1])
    return scores.topk(count, 1)[1]
