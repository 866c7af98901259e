"""Flops, activations and parameters against counts by hand."""

import torch
from torch import nn

from detectron2.utils.analysis import (
    FlopCountAnalysis,
    activation_count_operators,
    flop_count_operators,
    parameter_count,
    parameter_count_table,
)


def model():
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16, 10))


def test_flops_are_multiply_adds():
    inputs = (torch.zeros(2, 3, 4, 4),)
    flops = FlopCountAnalysis(model(), inputs)
    conv, linear = 2 * 16 * 8 * 27, 2 * 128 * 10
    assert flops.total() == conv + linear
    assert flops.by_operator() == {"conv": conv, "linear": linear}
    assert flops.by_module()["0"] == conv
    assert flops.total("3") == linear
    assert flop_count_operators(model(), inputs)["conv"] == conv / 1e9
    assert activation_count_operators(model(), inputs) == {"conv": 2 * 8 * 16 / 1e6, "linear": 20 / 1e6}


def test_parameters():
    net = model()
    net.again = net[0]  # shared: counted once
    counts = parameter_count(net)
    assert counts[""] == 224 + 1290
    assert counts["0.weight"] == 216
    assert "1.290K" in parameter_count_table(net)
