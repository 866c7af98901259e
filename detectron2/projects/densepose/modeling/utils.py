"""Common parts of the heads."""

from torch import nn

__all__ = ["initialize_module_params"]


def initialize_module_params(module: nn.Module) -> None:
    """Initialise biases with zeros and weights as in He et al. for layers before a ReLU, by the fan-out.

    Args:
        module: module to initialise in place.

    Reference: Delving Deep into Rectifiers, https://arxiv.org/abs/1502.01852
    """
    for name, param in module.named_parameters():
        if "bias" in name:
            nn.init.zeros_(param)
        elif "weight" in name:
            nn.init.kaiming_normal_(param, mode="fan_out", nonlinearity="relu")
