"""Layers that ViT, MViT and Swin share."""

from collections.abc import Callable

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

Layer = Callable[..., nn.Module]


class DropPath(nn.Module):
    """Stochastic depth: randomly drops a residual branch for whole samples in training.

    Source: Huang et al., arXiv 1603.09382. The remaining samples are scaled up to keep the mean.

    Args:
        drop_prob: probability of dropping the branch, in [0, 1).
    """

    def __init__(self, drop_prob: float = 0.0) -> None:
        super().__init__()
        self.drop_prob = float(drop_prob)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.drop_prob == 0.0 or not self.training:
            return x
        keep = 1 - self.drop_prob
        mask = x.new_empty((x.shape[0],) + (1,) * (x.dim() - 1)).bernoulli_(keep)
        return x * (mask / keep)

    def extra_repr(self) -> str:
        return f"drop_prob={self.drop_prob}"


class Mlp(nn.Module):
    """Two linear layers with an activation between, over the last axis.

    Args:
        in_features: size of the input.
        hidden_features: size of the hidden layer; by default that of the input.
        out_features: size of the output; by default that of the input.
        act_layer: class of the activation.
        drop: dropout after each layer.
    """

    def __init__(
        self,
        in_features: int,
        hidden_features: int | None = None,
        out_features: int | None = None,
        act_layer: Layer = nn.GELU,
        drop: float = 0.0,
    ) -> None:
        super().__init__()
        hidden = hidden_features or in_features
        self.fc1 = nn.Linear(in_features, hidden)
        self.act = act_layer()
        self.fc2 = nn.Linear(hidden, out_features or in_features)
        self.drop = nn.Dropout(drop)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.drop(self.fc2(self.drop(self.act(self.fc1(x)))))


def init_transformer(module: nn.Module) -> None:
    """Initialise linear layers from a truncated normal distribution of deviation 0.02, and norms to the identity."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.LayerNorm):
        if module.bias is not None:
            nn.init.zeros_(module.bias)
        if module.weight is not None:
            nn.init.ones_(module.weight)


def run_block(block: nn.Module, use_checkpoint: bool, *args: torch.Tensor) -> torch.Tensor:
    """Call a block; ``use_checkpoint`` recomputes its activations in the backward pass instead of storing them."""
    if use_checkpoint and block.training and torch.is_grad_enabled():
        return checkpoint(block, *args, use_reentrant=False)
    return block(*args)


def drop_path_rates(rate: float, depth: int) -> list[float]:
    """Compute rates that grow linearly from 0 for the first block to ``rate`` for the last."""
    return [rate * i / max(depth - 1, 1) for i in range(depth)]
