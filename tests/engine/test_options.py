"""Options of a training that change how it runs: memory order, compilation, statistics, displays, what is kept."""

import os
import pty
import subprocess
import sys
import textwrap

import pytest
import torch
from torch import nn

from detectron2.checkpoint import read_checkpoint_file
from detectron2.engine import SimpleTrainer, hooks
from detectron2.engine.hooks.precise_bn import get_bn_modules, update_bn_stats
from detectron2.engine.model_options import (
    check_cuda_graphs,
    compile_parts,
    freeze_by_pattern,
    trainable_table,
)
from detectron2.layers import FrozenBatchNorm2d
from detectron2.utils.env import seed_all_rng

SHORT = ("SOLVER.MAX_ITER", 6, "SOLVER.STEPS", (4,), "TEST.EVAL_PERIOD", 3, "SOLVER.CHECKPOINT_PERIOD", 3)


def trained(worker, cfg):
    seed_all_rng(5)
    trainer = worker.Trainer(cfg)
    trainer.train()
    return trainer


def close(a, b, tolerance=1e-4):
    a, b = a.model.state_dict(), b.model.state_dict()
    return a.keys() == b.keys() and all(
        torch.allclose(a[k].float(), b[k].float(), atol=tolerance, rtol=tolerance) for k in a
    )


def test_channels_last_trains_the_same_weights(worker, tiny_cfg):
    plain = trained(worker, tiny_cfg(*SHORT))
    turned = trained(worker, tiny_cfg(*SHORT, "SOLVER.CHANNELS_LAST", True))
    assert turned.model.backbone[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert not plain.model.backbone[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert close(plain, turned)


def test_compile_reaches_the_named_parts_only(monkeypatch):
    net = nn.Sequential()
    net.backbone, net.head = nn.Linear(2, 2), nn.Linear(2, 1)
    calls = []
    monkeypatch.setattr(nn.Module, "compile", lambda self, **options: calls.append((self, options)))
    names = list(net.state_dict())
    compile_parts(net, ["backbone"], "max-autotune")
    assert calls == [(net.backbone, {"mode": "max-autotune", "dynamic": None})]
    assert list(net.state_dict()) == names
    with pytest.raises(ValueError, match=r"'bakbone'.*backbone, head"):
        compile_parts(net, ["bakbone"])


@pytest.mark.slow
def test_compiled_training_has_the_same_weights(worker, tiny_cfg, monkeypatch):
    compile_module = nn.Module.compile

    def without_code_generation(self, mode=None, **options):  # needs a C++ compiler otherwise
        compile_module(self, backend="aot_eager", **options)

    monkeypatch.setattr(nn.Module, "compile", without_code_generation)
    plain = trained(worker, tiny_cfg(*SHORT))
    compiled = trained(worker, tiny_cfg(*SHORT, "SOLVER.COMPILE.ENABLED", True))
    assert compiled.model.backbone._compiled_call_impl is not None
    assert compiled.model.head._compiled_call_impl is None
    assert close(plain, compiled)
    again = worker.Trainer(tiny_cfg(*SHORT))  # without compilation: the checkpoint is an ordinary one
    again.resume_or_load(resume=True)
    assert again.start_iter == 6 and close(again, compiled, 0.0)


def test_precise_statistics_are_those_of_all_values():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    batches = [torch.randn(6 + i, 3, 5, 5 * i) * i + i for i in range(1, 5)]  # of unequal sizes
    with torch.no_grad():
        values = torch.cat([net[0](b).transpose(0, 1).flatten(1) for b in batches[:3]], 1)
    update_bn_stats(net, batches, 3)
    assert torch.allclose(net[1].running_mean, values.mean(1), rtol=1e-4)
    assert torch.allclose(net[1].running_var, values.var(1, unbiased=False), rtol=1e-4)
    assert net[1].momentum == 0.1 and net[0].weight.grad is None and not net[1]._forward_hooks
    with pytest.raises(ValueError, match="only 4"):
        update_bn_stats(net, batches, 5)
    net[1].eval()
    assert get_bn_modules(net) == []


def test_precise_statistics_count_every_call_of_a_shared_norm():
    norm = nn.BatchNorm1d(2)

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = norm

        def forward(self, pair):
            return [self.norm(x) for x in pair]

    torch.manual_seed(1)
    pair = [torch.randn(4, 2) + 5, torch.randn(7, 2)]
    update_bn_stats(Twice(), [pair], 1)
    assert torch.allclose(norm.running_mean, torch.cat(pair).mean(0), rtol=1e-4)
    assert torch.allclose(norm.running_var, torch.cat(pair).var(0, unbiased=False), rtol=1e-4)


def test_precise_bn_in_a_training_changes_statistics_only(worker, tiny_cfg):
    plain = trained(worker, tiny_cfg(*SHORT))
    precise = trained(
        worker, tiny_cfg(*SHORT, "TEST.PRECISE_BN.ENABLED", True, "TEST.PRECISE_BN.NUM_ITER", 4)
    )
    a, b = plain.model.state_dict(), precise.model.state_dict()
    same = {key for key in a if torch.equal(a[key], b[key])}
    changed = {key for key in a if "running" in key}
    assert changed and not (changed & same)
    assert {key for key in a if "running" not in key and "num_batches" not in key} <= same
    saved = read_checkpoint_file(precise.settings.output_dir + "/model_final.pth")["model"]
    assert all(torch.equal(torch.as_tensor(saved[key]), b[key]) for key in changed)  # before the checkpoint


PROGRAM = """
    import sys, torch
    from detectron2.engine import SimpleTrainer, hooks
    from detectron2.utils.events import CommonMetricPrinter
    from detectron2.utils.logger import setup_logger
    setup_logger(name="detectron2")
    net = torch.nn.Linear(2, 1)
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net
        def forward(self, x):
            return {"loss": self.net(x).square().mean()}
    trainer = SimpleTrainer(Model(), [torch.ones(1, 2)] * 40, torch.optim.SGD(net.parameters(), lr=0.1))
    trainer.register_hooks([
        hooks.IterationTimer(), hooks.PeriodicWriter([CommonMetricPrinter(40)], period=10),
        hooks.ProgressBar(sys.argv[1]),
    ])
    trainer.train(0, 40)
"""


def on_terminal(path, *args):
    """Output of a program whose standard output is a pseudo-terminal."""
    main, side = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, str(path), *args], stdout=side, stderr=side, env={**os.environ, "TERM": "xterm", "COLUMNS": "100", "OMP_NUM_THREADS": "1"}
    )  # fmt: skip
    os.close(side)
    text = b""
    while True:
        try:
            part = os.read(main, 65536)
        except OSError:  # Linux says so when the other side is closed
            break
        if not part:
            break
        text += part
    os.close(main)
    assert child.wait(60) == 0, text.decode()
    return text.decode()


@pytest.fixture
def program(tmp_path):
    path = tmp_path / "program.py"
    path.write_text(textwrap.dedent(PROGRAM))
    return path


@pytest.mark.slow
def test_progress_bar_on_a_terminal_replaces_the_lines(program):
    text = on_terminal(program, "auto")
    assert "40/40" in text and "loss" in text and "\x1b[" in text
    assert "total_loss" not in text


@pytest.mark.slow
def test_no_progress_bar_in_a_file(program):
    done = subprocess.run([sys.executable, str(program), "auto"], capture_output=True, text=True, check=True)
    assert "40/40" not in done.stdout + done.stderr and "\x1b[2K" not in done.stdout
    assert done.stdout.count("total_loss") == 4


def test_progress_bar_refuses_other_modes():
    with pytest.raises(ValueError, match="'auto', 'on' or 'off', got 'maybe'"):
        hooks.ProgressBar("maybe")


def test_report_is_written_as_training_goes(worker, tiny_cfg, tmp_path):
    cfg = tiny_cfg(*SHORT, "SOLVER.REPORT_PERIOD", 2, "SOLVER.LOG_PERIOD", 1)
    page, seen = tmp_path / "out/report.html", []
    trainer = worker.Trainer(cfg)
    trainer.register_hooks(
        [hooks.CallbackHook(after_step=lambda t: seen.append(page.read_text() if page.exists() else ""))]
    )
    trainer.train()
    assert [bool(text) for text in seen] == [False, True, True, True, True, True]
    assert seen[1] == seen[2] != seen[3]
    final = page.read_text()
    assert final != seen[-1] and "<svg" in final and "Loss by part" in final


def test_report_can_be_off(worker, tiny_cfg, tmp_path):
    worker.Trainer(tiny_cfg(*SHORT, "SOLVER.REPORT_PERIOD", 0)).train()
    assert not (tmp_path / "out/report.html").exists()


def test_only_the_last_checkpoints_stay(worker, tiny_cfg, tmp_path):
    opts = ("SOLVER.MAX_ITER", 8, "SOLVER.STEPS", (), "SOLVER.CHECKPOINT_PERIOD", 2, "TEST.EVAL_PERIOD", 0)
    worker.Trainer(tiny_cfg(*opts, "SOLVER.CHECKPOINT_KEEP", 2)).train()
    kept = sorted(p.name for p in (tmp_path / "out").glob("model_0*.pth"))
    assert kept == ["model_0000005.pth", "model_0000007.pth"]
    assert (tmp_path / "out/model_final.pth").is_file()
    # A resumed run goes on counting those that the first one left.
    more = worker.Trainer(tiny_cfg(*opts, "SOLVER.CHECKPOINT_KEEP", 2, "SOLVER.MAX_ITER", 12))
    more.resume_or_load(resume=True)
    more.train()
    kept = sorted(p.name for p in (tmp_path / "out").glob("model_0*.pth"))
    assert kept == ["model_0000009.pth", "model_0000011.pth"]


def test_frozen_batch_norms_keep_their_statistics_and_the_table_counts():
    net = nn.Sequential()
    net.body = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.BatchNorm2d(4))
    net.head = nn.Conv2d(4, 2, 1)
    frozen = freeze_by_pattern(net, [r"^body\.", r"head\.bias"])
    assert frozen == ["body.0.weight", "body.1.weight", "body.1.bias", "head.bias"]
    assert isinstance(net.body[1], FrozenBatchNorm2d)
    rows = {r[0]: r[1:] for r in (
        [cell.strip() for cell in line.strip("| ").split("|")] for line in trainable_table(net, depth=1).splitlines()
    )}  # fmt: skip
    assert rows["head"] == ["10", "8", "in part"] and rows["body"][2] == "none"
    assert rows["sum"][1] == "8"


def test_early_stopping_ends_at_the_stated_evaluation(worker, tiny_cfg, monkeypatch):
    scores = iter([1.0, 3.0, 3.05, 2.0, 2.5])  # none after the training: where it ends it has been evaluated
    monkeypatch.setattr(worker.MeanScore, "evaluate", lambda self: {"tiny": {"score": next(scores)}})
    trainer = worker.Trainer(
        tiny_cfg(
            "TEST.EVAL_PERIOD",
            2,
            "SOLVER.EARLY_STOPPING.METRIC",
            "tiny/score",
            "SOLVER.EARLY_STOPPING.PATIENCE",
            3,
            "SOLVER.EARLY_STOPPING.MIN_DELTA",
            0.1,
            "SOLVER.MAX_ITER",
            40,
        )
    )
    trainer.train()
    # Best at the second look; 3.05 is no improvement of 0.1; the third look without one is the fifth: iteration 10.
    assert next(scores, None) is None
    assert trainer.iter == 10
    best = read_checkpoint_file(trainer.settings.output_dir + "/model_best.pth")
    assert best["iteration"] == 5  # the best checkpoint counts 3.05


def test_unknown_metric_of_early_stopping_is_named(worker, tiny_cfg):
    cfg = tiny_cfg(*SHORT, "SOLVER.EARLY_STOPPING.METRIC", "tiny/scoer")
    with pytest.raises(KeyError, match=r"tiny/scoer.*tiny/score"):
        worker.Trainer(cfg).train()


def test_zero_grad_order_does_not_change_the_result():
    weights = []
    for early in (False, True):
        torch.manual_seed(0)
        net = nn.Linear(3, 1)

        class Model(nn.Module):
            def __init__(self, net=net):
                super().__init__()
                self.net = net

            def forward(self, x):
                return {"loss": self.net(x).square().mean()}

        data = [torch.ones(2, 3) * i for i in range(5)]
        optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
        SimpleTrainer(Model(), data, optimizer, zero_grad_before_forward=early).train(0, 5)
        weights.append(net.weight.detach().clone())
    assert torch.equal(*weights)


def test_cuda_graphs_say_what_they_need():
    model = nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"FIXED_SHAPES True.*this model is a Linear"):
        check_cuda_graphs(model, "cuda")
    model.fixed_shapes = True
    with pytest.raises(ValueError, match=r"NVIDIA GPU.*got device 'cpu'"):
        check_cuda_graphs(model, "cpu")
