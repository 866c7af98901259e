"""DefaultTrainer with either kind of config, and the options that both kinds reach."""

import json
import logging
import os
import signal
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from detectron2.checkpoint import DetectionCheckpointer, read_checkpoint_file
from detectron2.config import LazyCall as L
from detectron2.config.training_options import OPTIONS
from detectron2.data import build_detection_test_loader, build_detection_train_loader
from detectron2.data.build import get_detection_dataset_dicts
from detectron2.data.dataset_mapper import DatasetMapper
from detectron2.engine import SimpleTrainer, TrainerBase, hooks
from detectron2.engine.run_config import run_config
from detectron2.solver import WarmupParamScheduler, get_default_optimizer_params
from detectron2.solver.param_scheduler import MultiStepParamScheduler
from detectron2.utils.env import seed_all_rng

SHORT = ("SOLVER.MAX_ITER", 6, "SOLVER.STEPS", (4,), "TEST.EVAL_PERIOD", 3, "SOLVER.CHECKPOINT_PERIOD", 3)


def weights(trainer):
    return {k: v.clone() for k, v in trainer.model.state_dict().items()}


def same(a, b):
    return all(torch.equal(a[k], b[k]) for k in a)


@pytest.fixture
def lazy_cfg(worker, tiny_cfg, tmp_path):
    """The small training as a LazyConfig."""
    tiny_cfg()

    def make(**train):
        model = L(worker.TinyNet)(cfg=None)
        mapper = L(DatasetMapper)(is_train=True, augmentations=[], image_format="BGR")
        test_mapper = L(DatasetMapper)(is_train=False, augmentations=[], image_format="BGR")
        data = L(get_detection_dataset_dicts)(names="tiny_engine_data")
        cfg = {
            "model": model,
            "optimizer": L(torch.optim.SGD)(
                params=L(get_default_optimizer_params)(weight_decay_norm=0.0), lr=0.01, momentum=0.9
            ),
            "lr_multiplier": L(WarmupParamScheduler)(
                scheduler=L(MultiStepParamScheduler)(values=[1.0, 0.1], milestones=[4, 6]),
                warmup_length=0.2,
                warmup_factor=0.1,
            ),
            "dataloader": {
                "train": L(build_detection_train_loader)(
                    dataset=data, mapper=mapper, total_batch_size=2, num_workers=0
                ),
                "test": L(build_detection_test_loader)(dataset=data, mapper=test_mapper, num_workers=0),
                "evaluator": L(worker.MeanScore)(),
            },
            "train": {
                "output_dir": str(tmp_path / "lazy"),
                "init_checkpoint": "",
                "max_iter": 6,
                "device": "cpu",
                "eval_period": 3,
                "log_period": 2,
                "checkpointer": {"period": 3, "max_to_keep": 1},
                "seed": 3,
                "report_period": 0,
                "writers": {"tensorboard": False},
                **train,
            },
        }
        return OmegaConf.create(cfg, flags={"allow_objects": True})

    return make


def test_yacs_trains_evaluates_and_saves(worker, tiny_cfg, tmp_path):
    cfg = tiny_cfg(*SHORT)
    trainer = worker.Trainer(cfg)
    before = weights(trainer)
    trainer.resume_or_load(resume=False)
    results = trainer.train()
    assert set(results) == {"tiny"} and not same(before, weights(trainer))
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert {
        "model_0000002.pth",
        "model_0000005.pth",
        "model_final.pth",
        "model_best.pth",
        "metrics.json",
    } <= names
    rows = [json.loads(line) for line in (tmp_path / "out/metrics.json").read_text().splitlines()]
    merged = {}
    for row in rows:
        merged.setdefault(row["iteration"], {}).update(row)
    assert {"total_loss", "loss_fit", "lr", "data_time"} <= set(merged[4])
    assert "tiny/score" in merged[2] and "tiny/score" in merged[6]


def test_lazy_trains_resumes_and_matches_unbroken(worker, lazy_cfg):
    cfg = lazy_cfg()
    torch.manual_seed(0)
    trainer = worker.DefaultTrainer(cfg)
    trainer.resume_or_load(resume=False)
    results = trainer.train()
    assert "tiny" in results
    kept = sorted(p.name for p in Path(cfg.train.output_dir).glob("*.pth"))
    assert kept == ["model_0000005.pth", "model_final.pth"]
    again = worker.DefaultTrainer(cfg)
    again.resume_or_load(resume=True)
    assert again.start_iter == 6
    assert same(weights(trainer), weights(again))
    assert "_target_" in cfg.optimizer.params and "model" not in cfg.optimizer.params


def test_both_kinds_name_the_same_options(tiny_cfg):
    run = run_config(tiny_cfg())
    for name, option in OPTIONS.items():
        assert run.get(option.key, "absent") != "absent", f"{name}: no key {option.key}"
        assert option.lazy.startswith("train.")
    assert run_config(OmegaConf.create({"train": {"ema": {"decay": 0.5}}})).options.ema_decay == 0.5


def test_lengths_in_epochs(worker, tiny_cfg):
    opts = ("SOLVER.MAX_ITER", "2ep", "TEST.EVAL_PERIOD", "1ep", "SOLVER.STEPS", ("1.5ep",))
    trainer = worker.Trainer(tiny_cfg(*opts))  # 10 images, 2 a step
    assert (trainer.max_iter, trainer.cfg.TEST.EVAL_PERIOD, trainer.cfg.SOLVER.STEPS) == (10, 5, (8,))
    opts += ("SOLVER.ACCUMULATE_STEPS", 2)
    assert worker.Trainer(tiny_cfg(*opts)).max_iter == 5


def test_accumulation_equals_one_large_batch(worker):
    """Two batches of one image give the gradients of one batch of two (losses are means, no batch norm)."""
    results = []
    data = [torch.randn(1, 5) for _ in range(8)]
    for parts in (1, 2):
        torch.manual_seed(0)
        net = torch.nn.Linear(5, 1)

        class Model(torch.nn.Module):
            def __init__(self, net):
                super().__init__()
                self.net = net

            def forward(self, x):
                return {"loss": self.net(x).square().mean()}

        batches = data if parts == 2 else [torch.cat(data[i : i + 2]) for i in range(0, 8, 2)]
        trainer = SimpleTrainer(Model(net), batches, torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9))
        trainer.accumulate_steps = parts
        trainer.train(0, 4)
        results.append((net.weight.detach(), trainer.storage.history("total_loss").values()))
    assert torch.allclose(results[0][0], results[1][0], atol=1e-6)
    for (a, i), (b, j) in zip(results[0][1], results[1][1]):
        assert i == j and a == pytest.approx(b, rel=1e-5)


def test_freeze_prints_table_and_keeps_weights(worker, tiny_cfg, caplog):
    with caplog.at_level(logging.INFO):
        trainer = worker.Trainer(tiny_cfg(*SHORT, "SOLVER.FREEZE", [r"^backbone\."]))
    before = weights(trainer)
    trainer.train()
    after = weights(trainer)
    assert all(torch.equal(before[k], after[k]) for k in before if k.startswith("backbone."))
    assert not torch.equal(before["head.weight"], after["head.weight"])
    assert "| backbone" in caplog.text and "none" in caplog.text
    with pytest.raises(ValueError, match="matches no parameter"):
        worker.Trainer(tiny_cfg("SOLVER.FREEZE", ["bakbone"]))


def test_mixed_precision_policies(worker, tiny_cfg):
    seed_all_rng(5)
    reference = worker.Trainer(tiny_cfg(*SHORT))
    reference.train()
    seed_all_rng(5)
    trainer = worker.Trainer(tiny_cfg(*SHORT, "SOLVER.AMP.ENABLED", True, "SOLVER.AMP.DTYPE", "bfloat16"))
    trainer.train()
    assert trainer._trainer.grad_scaler is None
    a, b = weights(reference), weights(trainer)
    assert not same(a, b)
    assert torch.allclose(a["head.weight"], b["head.weight"], atol=0.05)
    with pytest.raises(ValueError, match="float8"):
        worker.Trainer(tiny_cfg("SOLVER.AMP.ENABLED", True, "SOLVER.AMP.DTYPE", "float8"))


def test_ema_is_the_running_average(worker, tiny_cfg):
    trainer = worker.Trainer(tiny_cfg(*SHORT, "SOLVER.EMA.ENABLED", True, "SOLVER.EMA.DECAY", 0.5))
    expected, steps = weights(trainer), []
    trainer.register_hooks([hooks.CallbackHook(after_step=lambda t: steps.append(weights(t)))])
    trainer.train()
    for t, now in enumerate(steps, start=1):
        decay = min(0.5, (1 + t) / (10 + t))
        expected = {
            k: decay * expected[k] + (1 - decay) * now[k] if now[k].is_floating_point() else now[k]
            for k in now
        }
    stored = read_checkpoint_file(trainer.settings.output_dir + "/model_ema.pth")["model"]
    for key, value in expected.items():
        assert torch.allclose(stored[key].float(), value.float(), atol=1e-5), key
    assert same(weights(trainer), steps[-1])  # the trained weights were put back after evaluations


def test_validation_loss_and_early_stopping(worker, tiny_cfg):
    opts = ("TEST.VAL_LOSS.PERIOD", 2, "SOLVER.EARLY_STOPPING.METRIC", "val/total_loss", "SOLVER.EARLY_STOPPING.MODE",
            "max", "SOLVER.EARLY_STOPPING.PATIENCE", 2, "SOLVER.MAX_ITER", 60, "SOLVER.BASE_LR", 0.02)  # fmt: skip
    trainer = worker.Trainer(tiny_cfg(*opts))
    trainer.train()
    # The loss falls, so with "max" the first value stays the best and two more looks end the training.
    assert trainer.iter < 59
    history = trainer.storage.history("val/total_loss").values()
    assert len(history) >= 3
    final = read_checkpoint_file(trainer.settings.output_dir + "/model_final.pth")
    assert final["iteration"] == trainer.iter - 1
    again = worker.Trainer(trainer.cfg)
    again.resume_or_load(resume=True)
    again.train()
    assert same(weights(again), weights(trainer))


def test_resume_modes(worker, tiny_cfg):
    first = worker.Trainer(tiny_cfg(*SHORT, "SOLVER.EMA.ENABLED", True))
    first.train()
    opts = (*SHORT, "SOLVER.EMA.ENABLED", True)
    for mode, start, moments in (("finetune", 0, False), ("restart-schedule", 0, True), ("resume", 6, True)):
        trainer = worker.Trainer(tiny_cfg(*opts, "SOLVER.RESUME_MODE", mode))
        trainer.resume_or_load(resume=True)
        assert trainer.start_iter == start
        assert same(weights(first), weights(trainer))
        assert bool(trainer.optimizer.state) is moments
        if mode == "restart-schedule":  # the first rate of the warm-up, not the last of the old schedule
            assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(0.01 * 0.001)
    trainer = worker.Trainer(tiny_cfg(*SHORT, "SOLVER.RESUME_MODE", "finetun"))
    with pytest.raises(ValueError, match="finetune"):
        trainer.resume_or_load(resume=True)


def test_extended_training_goes_on(worker, tiny_cfg):
    first = worker.Trainer(tiny_cfg(*SHORT))
    first.register_hooks([hooks.CallbackHook(after_train=lambda t: t.checkpointer.save("late"))])
    first.train()  # its last checkpoint is written after the last iteration
    trainer = worker.Trainer(tiny_cfg(*SHORT, "SOLVER.MAX_ITER", 9))
    trainer.resume_or_load(resume=True)
    trainer.train()
    assert (trainer.start_iter, trainer.iter) == (6, 9)


def test_deterministic_runs_have_equal_bits(worker, tiny_cfg):
    results = []
    for _ in range(2):
        seed_all_rng(5)
        trainer = worker.Trainer(
            tiny_cfg("SOLVER.MAX_ITER", 40, "TEST.EVAL_PERIOD", 0, "SOLVER.CHECKPOINT_PERIOD", 0)
        )
        trainer.train()
        results.append(weights(trainer))
    assert same(*results)


def test_recomputed_activations_change_nothing(worker, tiny_cfg):
    results = []
    for extra in ((), ("SOLVER.ACTIVATION_CHECKPOINT", [r"backbone\.2"])):
        seed_all_rng(5)
        trainer = worker.Trainer(tiny_cfg(*SHORT, *extra))
        trainer.train()
        results.append(weights(trainer))
    assert same(*results)


def test_interrupt_saves_and_resumes(worker, tiny_cfg):
    cfg = tiny_cfg(*SHORT)
    before = signal.getsignal(signal.SIGINT)

    def press(trainer):
        if trainer.iter == 3:
            os.kill(os.getpid(), signal.SIGINT)

    trainer = worker.Trainer(cfg)
    trainer.register_hooks([hooks.CallbackHook(after_step=press)])
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    again = worker.Trainer(cfg)
    again.resume_or_load(resume=True)
    assert again.start_iter == 4
    assert same(weights(trainer), weights(again))
    assert signal.getsignal(signal.SIGINT) is before


def test_subclass_with_an_init_of_its_own(worker, tiny_cfg):
    """As semi-supervised trainers do it: the parts are built by hand, and the base is that of the loop."""

    class Own(worker.Trainer):
        def __init__(self, cfg):
            TrainerBase.__init__(self)
            model = self.build_model(cfg)
            optimizer = self.build_optimizer(cfg, model)
            self._trainer = SimpleTrainer(model, self.build_train_loader(cfg), optimizer)
            self.scheduler = self.build_lr_scheduler(cfg, optimizer)
            self.checkpointer = DetectionCheckpointer(
                model, cfg.OUTPUT_DIR, optimizer=optimizer, scheduler=self.scheduler
            )
            self.start_iter, self.max_iter, self.cfg = 0, cfg.SOLVER.MAX_ITER, cfg
            self.register_hooks(self.build_hooks())

    trainer = Own(tiny_cfg(*SHORT))
    trainer.resume_or_load(resume=False)
    assert "tiny" in trainer.train()
    assert trainer.complete and trainer.loop is trainer._trainer
