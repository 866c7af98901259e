"""How often a training step waits for the device: counted on a make-believe device whose tensors are honest."""

from collections import Counter

import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_map

from detectron2.engine import SimpleTrainer, hooks
from detectron2.engine.safety.guard import DivergenceError
from detectron2.solver import LRMultiplier
from detectron2.solver.param_scheduler import CosineParamScheduler
from detectron2.utils.events import CommonMetricPrinter, JSONWriter

WAITS = Counter()


class DeviceTensor(torch.Tensor):
    """A tensor that says it lies on an accelerator, computes on the CPU, and counts what would wait for it.

    Reading a value and copying to the host wait; everything else would only queue work. The device is called "meta"
    because torch takes no device names of our own.
    """

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner):
        return torch.Tensor._make_wrapper_subclass(
            cls, inner.shape, dtype=inner.dtype, device="meta", strides=inner.stride()
        )

    def __init__(self, inner):
        self.inner = inner

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        name = func._schema.name
        to_host = kwargs.get("device") is not None and torch.device(kwargs["device"]).type == "cpu"
        if kwargs.get("device") is not None:
            kwargs["device"] = "cpu"
        copies_out = name == "aten::copy_" and not isinstance(args[0], DeviceTensor)
        if to_host or copies_out or name in ("aten::_local_scalar_dense", "aten::nonzero", "aten::equal"):
            WAITS[name] += 1
        inner = [
            tree_map(lambda t: t.inner if isinstance(t, DeviceTensor) else t, part) for part in (args, kwargs)
        ]
        out = func(*inner[0], **inner[1])
        if func._schema.is_mutable:
            return args[0] if func._schema.returns else None
        return out if to_host else tree_map(lambda t: cls(t) if isinstance(t, torch.Tensor) else t, out)


class Model(nn.Module):
    def __init__(self, bad_at=None):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Parameter(DeviceTensor(torch.randn(3, 4)))
        self.head = nn.Parameter(DeviceTensor(torch.randn(4, 1)))
        self.calls, self.bad_at = 0, bad_at

    def forward(self, x):
        y = (x @ self.body).tanh() @ self.head
        factor = float("nan") if self.calls == self.bad_at else 1.0
        self.calls += 1
        return {"loss_fit": (y - 1).square().mean() * factor, "loss_size": 0.1 * self.head.square().mean()}


def trainer_of(model, tmp_path, accumulate=1, window=20):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    data = [DeviceTensor(torch.randn(2, 3)) for _ in range(200)]
    trainer = SimpleTrainer(model, data, optimizer)
    trainer.accumulate_steps, trainer.metric_window = accumulate, window
    trainer.scheduler = LRMultiplier(optimizer, CosineParamScheduler(1.0, 0.0), 100)
    trainer.waited = {}
    seen = Counter()

    def note(t):
        if WAITS.total() > seen["all"]:
            t.waited[t.iter] = WAITS.total() - seen["all"]
        seen["all"] = WAITS.total()

    clip = hooks.CallbackHook()
    clip.after_backward = lambda: torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    trainer.register_hooks(
        [
            hooks.IterationTimer(), hooks.LRScheduler(), hooks.EMAHook(model, 0.9), clip, hooks.ProgressBar("off"),
            hooks.PeriodicWriter([CommonMetricPrinter(60), JSONWriter(tmp_path / "metrics.json")], 20),
            hooks.CallbackHook(after_step=note),
        ]
    )  # fmt: skip
    WAITS.clear()
    return trainer


def test_the_make_believe_device_counts():
    WAITS.clear()
    x = DeviceTensor(torch.ones(3))
    y = (x * 2).sum()
    assert y.device.type != "cpu" and WAITS.total() == 0
    assert float(y) == 6.0 and bool(y > 0) and x.cpu().tolist() == [1.0] * 3 and y.cpu().device.type == "cpu"
    assert WAITS.total() == 4


@pytest.mark.parametrize("accumulate", [1, 2])
def test_only_logging_steps_wait_for_the_device(tmp_path, accumulate):
    trainer = trainer_of(Model(), tmp_path, accumulate)
    trainer.train(0, 60)
    expected = {19, 39, 59} if accumulate == 1 else {9, 19, 29, 39, 49, 59}  # its 20 batches are 10 steps
    assert set(trainer.waited) == expected
    assert max(trainer.waited.values()) <= 2  # one copy for the figures, one for the check
    losses = trainer.storage.history("total_loss").values()
    assert [i for _, i in losses] == list(range(60)) and losses[-1][0] < losses[0][0]
    assert (tmp_path / "metrics.json").read_text().count("loss_fit") == 3


def test_divergence_is_found_without_waiting_each_step(tmp_path):
    trainer = trainer_of(Model(bad_at=25), tmp_path)
    with pytest.raises(DivergenceError, match="iteration 25: first loss_fit"):
        trainer.train(0, 60)
    assert trainer.iter == 39 and set(trainer.waited) == {19}
