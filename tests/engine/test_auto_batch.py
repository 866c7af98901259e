"""The batch size that is measured."""

import json

import pytest
import torch
from torch import nn

from detectron2.engine.auto_batch import available_bytes, fit_batch_size, measure_step
from detectron2.engine.trainer.precision import Precision


@pytest.mark.parametrize("limit", [1, 5, 8, 64])
@pytest.mark.parametrize("capacity", [1, 2, 3, 7, 8, 9, 30, 100])
def test_search_against_the_truth(capacity, limit):
    tried = []

    def measure(size):
        tried.append(size)
        return None if size > 2 * capacity else 10 * size  # far too large: memory runs out

    found = fit_batch_size(measure, 10 * capacity, limit)
    truth = min(capacity, limit)
    assert truth - truth // 8 <= found <= truth
    assert max(tried) <= limit and len(tried) <= 12 and len(set(tried)) == len(tried)


def test_not_even_one_image():
    with pytest.raises(ValueError, match=r"INPUT\.MAX_SIZE_TRAIN"):
        fit_batch_size(lambda size: 100, 99, 8)


def test_host_memory_is_plausible():
    assert 2**20 < available_bytes() < 2**50


def test_measured_bytes_grow_with_the_batch_and_leave_no_gradient():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 1, bias=False)

        def forward(self, batch):
            return {"loss": self.conv(torch.stack(batch)).relu().square().mean()}

    net, image = Net(), torch.randn(3, 1024, 1024)
    used = [measure_step(net, [image] * n, Precision()) for n in (2, 1, 2)][1:]
    # At least the input of the convolution and the output of the ReLU, in float32; at most every map that there is:
    # input, convolution, ReLU, square and the gradients of the latter three.
    kept, all_maps = 1024 * 1024 * (3 + 8) * 4, 1024 * 1024 * (3 + 8 * 6) * 4
    for n, bytes_used in enumerate(used, start=1):
        assert kept * n <= bytes_used <= 1.2 * all_maps * n
    assert used[1] - used[0] > 0.8 * kept
    assert net.conv.weight.grad is None


def test_training_takes_the_size_and_keeps_it(worker, tiny_cfg, tmp_path, monkeypatch):
    cfg = tiny_cfg(
        "SOLVER.AUTO_BATCH.ENABLED", True, "SOLVER.AUTO_BATCH.MAX", 4, "SOLVER.MAX_ITER", 8, "SOLVER.STEPS", (6,),
        "TEST.EVAL_PERIOD", 0, "SOLVER.CHECKPOINT_PERIOD", 4, "SOLVER.WARMUP_ITERS", 0,
    )  # fmt: skip
    torch.manual_seed(3)
    plain = worker.Trainer.build_model(cfg)
    torch.manual_seed(3)
    trainer = worker.Trainer(cfg)
    assert trainer.cfg.SOLVER.IMS_PER_BATCH == 4 and trainer.cfg.SOLVER.BASE_LR == pytest.approx(0.02)
    assert (trainer.max_iter, trainer.cfg.SOLVER.STEPS, trainer.cfg.SOLVER.CHECKPOINT_PERIOD) == (4, (3,), 2)
    assert cfg.SOLVER.IMS_PER_BATCH == 2  # the caller's config stays
    assert len(next(iter(trainer.data_loader))) == 4
    # Trial steps leave weights and statistics as they were.
    for key, value in plain.state_dict().items():
        assert torch.equal(value, trainer.model.state_dict()[key]), key
    trainer.train()
    assert json.loads((tmp_path / "out/auto_batch.json").read_text()) == {
        "images_per_batch": 4,
        "processes": 1,
    }

    def refuse(*args):
        raise AssertionError("measured again")

    monkeypatch.setattr("detectron2.engine.auto_batch._measured", refuse)
    again = worker.Trainer(cfg)
    assert again.cfg.SOLVER.IMS_PER_BATCH == 4


@pytest.mark.parametrize("known", [(), ("SC_PAGE_SIZE", "SC_PHYS_PAGES")], ids=["Windows", "macOS"])
def test_host_memory_where_the_system_tells_less(known, monkeypatch):
    def sysconf(name):
        if name not in known:
            raise ValueError("unrecognized configuration name")
        return {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 2**22}[name]

    def no_file(path, *args):
        raise FileNotFoundError(path)

    monkeypatch.setattr("os.sysconf", sysconf)
    monkeypatch.setattr("builtins.open", no_file)
    assert available_bytes() == (2**33 if known else 4 * 2**30)
