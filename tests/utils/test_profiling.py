"""Costs of modules against counts by hand."""

import pytest
import torch
from torch import nn

from detectron2.utils.profiling import profile_modules, settle_random_weights


class Steps(nn.Module):
    """Makes tensors of 400, 800 and 400 bytes, at most two of which live at a time."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = x + 1
        b = torch.cat([a, a])
        del a
        return b.view(2, -1)[0] * 2


def by_name(model: nn.Module, *inputs: torch.Tensor, **options: int):
    return {c.name: c for c in profile_modules(model, inputs, **options)}


def test_counts() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16, 10))
    found = by_name(net, torch.zeros(2, 3, 4, 4), rounds=1)
    assert list(found) == ["", "0", "1", "2", "3"]
    conv, linear = 2 * 16 * 8 * 27, 2 * 128 * 10
    assert [found[n].flops for n in ("", "0", "1", "3")] == [conv + linear, conv, 0, linear]
    assert [found[n].activations for n in ("", "0", "1", "3")] == [256 + 20, 256, 0, 20]
    assert [found[n].parameters for n in ("", "0", "3")] == [224 + 1290, 224, 1290]
    assert found["0"].memory == found["1"].memory == 1024  # float32 outputs
    assert found["2"].memory == 0  # a view
    assert found["3"].memory == 80
    assert found[""].memory == 2048
    assert found[""].seconds >= sum(found[n].seconds for n in "0123") > 0
    assert (found["3"].kind, found["3"].depth, found[""].depth) == ("Linear", 1, 0)


def test_memory_is_that_of_the_worst_moment() -> None:
    found = by_name(nn.Sequential(Steps(), Steps()), torch.zeros(100))
    assert found["0"].memory == found["1"].memory == 1200
    assert found[""].memory == 400 + 1200  # the first one's result lives on
    in_place = nn.Sequential(nn.ReLU(inplace=True), nn.ReLU(inplace=True))
    assert by_name(in_place, torch.zeros(100))[""].memory == 0


def test_modules_that_are_called_twice_and_never() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.twice, self.never, self.empty = nn.Linear(5, 5), nn.Linear(5, 2), nn.Identity()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.twice(self.twice(x))

    found = by_name(Net(), torch.zeros(3, 5))
    assert (found["twice"].calls, found["twice"].flops) == (2, 150)
    assert (found["never"].calls, found["never"].parameters, found["never"].seconds) == (0, 12, 0.0)
    assert "empty" not in found


def test_the_model_comes_back_as_it_was() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Dropout())
    net.train()
    assert list(by_name(net, torch.zeros(1, 2), depth=0)) == [""]
    assert net.training
    assert not net[0]._forward_hooks and not net[0]._forward_pre_hooks
    with pytest.raises(RuntimeError):
        by_name(net, torch.zeros(1, 3))
    assert not net[0]._forward_hooks
    with pytest.raises(ValueError, match="rounds"):
        by_name(net, torch.zeros(1, 2), rounds=0)


def test_random_weights_settle() -> None:
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4, affine=False),
        nn.Conv2d(4, 4, 3),
        nn.BatchNorm2d(4, affine=False),
    )
    x = torch.rand(2, 1, 12, 12) * 1000
    settle_random_weights(net, (x,))
    out = net.eval()(x)
    torch.testing.assert_close(out.var(dim=(0, 2, 3), correction=0), torch.ones(4), rtol=0.01, atol=0)
