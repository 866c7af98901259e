"""Multi-layer perceptrons, which predict boxes, mask embeddings and positions from queries."""

from itertools import pairwise

from torch import Tensor, nn

__all__ = ["MLP"]


class MLP(nn.Module):
    """Linear layers with ReLU between them, applied to the last axis.

    Args:
        input_dim: size of the input.
        hidden_dim: size of hidden layers.
        output_dim: size of the output.
        num_layers: number of linear layers, at least 1.
    """

    def __init__(self, input_dim: int, hidden_dim: int, output_dim: int, num_layers: int) -> None:
        super().__init__()
        self.num_layers = num_layers
        sizes = [input_dim, *[hidden_dim] * (num_layers - 1), output_dim]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., input_dim] to [..., output_dim]."""
        *hidden, last = self.layers
        for layer in hidden:
            x = layer(x).relu()
        return last(x)
