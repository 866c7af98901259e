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


def test_attention_is_two_matrix_products():
    net = nn.MultiheadAttention(8, 2, batch_first=True)
    query, key = torch.zeros(3, 5, 8), torch.zeros(3, 7, 8)
    flops = FlopCountAnalysis(net, (query, key, key, None, False)).by_operator()
    assert flops["attention"] == 2 * 3 * 5 * 7 * 8
    assert flops["linear"] + flops["matmul"] == 3 * (5 + 7 + 7 + 5) * 8 * 8


class Expanded(nn.Module):
    """A module with a view of a parameter as input of a child, as decoders have it."""

    def __init__(self):
        super().__init__()
        self.queries = nn.Embedding(4, 8)
        self.norm = nn.LayerNorm(8)
        self.last = nn.Linear(8, 2)

    def forward(self, x):
        return self.last(self.norm(self.queries.weight[:, None].expand(-1, len(x), -1)))


def test_a_view_of_a_parameter_is_an_ordinary_input():
    net = Expanded()
    net.norm.weight.requires_grad_(False)
    flops = FlopCountAnalysis(net, torch.zeros(3, 8))
    assert flops.by_module()["last"] == flops.total() == 4 * 3 * 8 * 2
    trained = {name for name, p in net.named_parameters() if p.requires_grad}
    assert trained == {"queries.weight", "norm.bias", "last.weight", "last.bias"}
    assert net.training


def test_parameters():
    net = model()
    net.again = net[0]  # shared: counted once
    counts = parameter_count(net)
    assert counts[""] == 224 + 1290
    assert counts["0.weight"] == 216
    assert "1.290K" in parameter_count_table(net)
