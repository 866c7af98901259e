"""How often the trainer waits for the device: counted on the pretend device, with a small model."""

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from detectron2.engine import SimpleTrainer, hooks
from detectron2.engine.safety.guard import DivergenceError
from detectron2.solver import LRMultiplier
from detectron2.solver.param_scheduler import CosineParamScheduler
from detectron2.utils.events import CommonMetricPrinter, JSONWriter

sys.path.insert(0, str(Path(__file__).parents[1]))
from pretend_device import PretendDevice


@pytest.fixture
def device():
    with PretendDevice() as entered:
        yield entered


class Model(nn.Module):
    def __init__(self, bad_at=None):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Parameter(torch.randn(3, 4))
        self.head = nn.Parameter(torch.randn(4, 1))
        self.calls, self.bad_at = 0, bad_at

    def forward(self, x):
        y = (x @ self.body).tanh() @ self.head
        factor = float("nan") if self.calls == self.bad_at else 1.0
        self.calls += 1
        return {"loss_fit": (y - 1).square().mean() * factor, "loss_size": 0.1 * self.head.square().mean()}


def trainer_of(device, model, tmp_path, accumulate=1, window=20):
    device.put(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    data = [device.put(torch.randn(2, 3)) for _ in range(80)]
    trainer = SimpleTrainer(model, data, optimizer)
    trainer.accumulate_steps, trainer.metric_window = accumulate, window
    trainer.scheduler = LRMultiplier(optimizer, CosineParamScheduler(1.0, 0.0), 100)
    trainer.waited = {}

    def note(t):
        if device.waits:
            t.waited[t.iter] = device.waits.total()
        device.reset()

    clip = hooks.CallbackHook()
    clip.after_backward = lambda: torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    trainer.register_hooks(
        [
            hooks.IterationTimer(), hooks.LRScheduler(), hooks.EMAHook(model, 0.9), clip, hooks.ProgressBar("off"),
            hooks.PeriodicWriter([CommonMetricPrinter(60), JSONWriter(tmp_path / "metrics.json")], 20),
            hooks.CallbackHook(after_step=note),
        ]
    )  # fmt: skip
    device.reset()
    return trainer


@pytest.mark.parametrize("accumulate", [1, 2])
def test_only_logging_steps_wait_for_the_device(device, tmp_path, accumulate):
    trainer = trainer_of(device, Model(), tmp_path, accumulate)
    trainer.train(0, 40)
    expected = {19, 39} if accumulate == 1 else {9, 19, 29, 39}  # its 20 batches are 10 steps
    assert set(trainer.waited) == expected
    assert max(trainer.waited.values()) <= 2  # one copy for the figures, one for the check
    losses = trainer.storage.history("total_loss").values()
    assert [i for _, i in losses] == list(range(40)) and losses[-1][0] < losses[0][0]
    assert (tmp_path / "metrics.json").read_text().count("loss_fit") == 2


def test_divergence_is_found_without_waiting_each_step(device, tmp_path):
    trainer = trainer_of(device, Model(bad_at=25), tmp_path)
    with pytest.raises(DivergenceError, match="iteration 25: first loss_fit"):
        trainer.train(0, 60)
    assert trainer.iter == 39 and set(trainer.waited) == {19}
