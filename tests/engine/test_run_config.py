"""Both kinds of config behind one interface: options, lengths, scaling, and what is refused."""

import logging
import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

import detectron2
from detectron2 import model_zoo
from detectron2.config import get_cfg
from detectron2.config.training_options import OPTIONS
from detectron2.engine.run_config import run_config
from detectron2.engine.run_config.lengths import parse_length
from detectron2.engine.setup import set_backends

LENGTHS = {
    "max_iter": 900,
    "eval_period": 60,
    "checkpoint_period": 90,
    "val_loss_period": 30,
    "report_period": 45,
}


def both_kinds():
    """The same training of 10 images a batch, as either kind."""
    yacs = get_cfg()
    yacs.SOLVER.IMS_PER_BATCH, yacs.SOLVER.BASE_LR, yacs.SOLVER.WARMUP_ITERS = 10, 0.1, 90
    yacs.SOLVER.STEPS = (600, 800)
    lazy = OmegaConf.create(
        {
            "train": {},
            "optimizer": {"lr": 0.1},
            "dataloader": {"train": {"total_batch_size": 10, "num_workers": 4}},
            "lr_multiplier": {"warmup_length": 0.1},
        }
    )
    runs = [run_config(yacs), run_config(lazy)]
    for run in runs:
        run.put(**LENGTHS)
    return runs


def lengths_of(run):
    return {name: getattr(run.options, name) for name in LENGTHS}


@pytest.mark.parametrize("run", both_kinds(), ids=lambda run: run.kind)
def test_rate_and_all_lengths_follow_the_batch(run):
    assert OPTIONS.keys() >= LENGTHS.keys() == {n for n, o in OPTIONS.items() if o.is_length}
    larger = run.rescaled(30)
    assert larger.batch_size == 30 and larger.get(larger.rate_path) == pytest.approx(0.3)
    assert lengths_of(larger) == {name: value // 3 for name, value in LENGTHS.items()}
    assert larger.warmup == pytest.approx(30)
    assert lengths_of(run) == LENGTHS and run.batch_size == 10  # the original stays
    longer = run.rescaled(5, max_iter=1800)
    assert longer.get(longer.rate_path) == pytest.approx(0.05)
    assert lengths_of(longer) == {name: value * 2 for name, value in LENGTHS.items()}


@pytest.mark.parametrize("run", both_kinds(), ids=lambda run: run.kind)
def test_epochs_never_and_automatic_do_not_follow(run):
    run = run.copied()
    run.put(max_iter="12ep", eval_period=0, report_period=-1)
    options = run.rescaled(40).options
    assert (options.max_iter, options.eval_period, options.report_period) == ("12ep", 0, -1)
    assert options.checkpoint_period == 22


@pytest.mark.parametrize("run", both_kinds(), ids=lambda run: run.kind)
def test_epochs_are_resolved_in_a_copy(run):
    assert run.resolved(lambda: pytest.fail("nothing to measure")) is run
    run = run.copied()
    run.put(max_iter="2 epochs", eval_period="0.5ep", accumulate_steps=2)
    found = run.resolved(lambda: 100)
    assert (found.options.max_iter, found.options.eval_period) == (10, 3)
    assert run.options.max_iter == "2 epochs"
    with pytest.raises(ValueError, match="number of training images"):
        run.resolved(lambda: None)


@pytest.mark.parametrize("run", both_kinds(), ids=lambda run: run.kind)
def test_number_of_processes(run):
    assert run.scaled_to(4) is run
    run = run.copied()
    run.put(reference_world_size=2)
    assert run.scaled_to(2) is run
    found = run.scaled_to(6)
    assert found.batch_size == 30 and found.options.max_iter == 300
    assert found.options.reference_world_size == 6
    run.put(reference_world_size=3)
    with pytest.raises(ValueError, match=r"multiple of .* 3, got 10"):
        run.scaled_to(6)


def test_a_frozen_config_gives_frozen_copies():
    run = both_kinds()[0]
    run.cfg.freeze()
    for copy in (run.rescaled(20), run.in_this_process(), run.copied()):
        assert copy.cfg.is_frozen() and copy.cfg is not run.cfg
    assert run.in_this_process().cfg.DATALOADER.NUM_WORKERS == 0
    with pytest.raises(AttributeError, match="frozen"):
        run.put(seed=3)


def test_steps_of_the_schedule_follow_and_stay_different():
    run = both_kinds()[0]
    assert run.rescaled(20).cfg.SOLVER.STEPS == (300, 400)
    assert run.rescaled(10, max_iter=2).cfg.SOLVER.STEPS == (1, 2)
    assert run.rescaled(10, max_iter=1).cfg.SOLVER.STEPS == (1,)


@pytest.mark.parametrize("text", ["12ep", "12 ep", "12epoch", "12 epochs", "12.0ep"])
def test_epochs_are_read_alike_everywhere(text):
    cfg = get_cfg()
    cfg.merge_from_list(["SOLVER.MAX_ITER", text])
    assert run_config(cfg).options.max_iter == text
    assert run_config(OmegaConf.create({"train": {"max_iter": text}})).options.max_iter == text
    assert parse_length(text, 10.0) == 120


@pytest.mark.parametrize("text", ["ep", "-1ep", "12e", "1.5.2ep", "twelve epochs"])
def test_other_text_is_no_length(text):
    with pytest.raises(ValueError, match=r"train\.max_iter"):
        run_config(OmegaConf.create({"train": {"max_iter": text}})).options
    with pytest.raises(ValueError, match="epochs"):
        parse_length(text, 10.0)


@pytest.mark.parametrize(
    ("train", "meant"),
    [
        ({"acumulate_steps": 2}, "accumulate_steps"),
        ({"max_iters": 10}, "max_iter"),
        ({"checkpointer": {"periods": 3}}, "period"),
        ({"amp": {"Enabled": True}}, "enabled"),
        ({"writers": {"wand": {"enabled": True}}}, "wandb"),
    ],
)
def test_misspelt_options_are_refused(train, meant):
    with pytest.raises(KeyError, match=f"'{meant}'.*train.extra"):
        run_config(OmegaConf.create({"train": train})).options


def test_options_of_the_users_own_are_named_in_one_warning(caplog):
    own = {
        "model_ema": {"decay": 0.9},
        "clip_grad": {"enabled": True},
        "resolution": 3,
        "_note": 1,
        "extra": {"seeed": 1},
    }
    run = run_config(OmegaConf.create({"train": {**own, "seed": 5}}))
    with caplog.at_level(logging.WARNING):
        assert [run.options.seed for _ in range(3)] == [5, 5, 5]
    (record,) = caplog.records
    assert "train.resolution" in record.getMessage()
    assert "extra" not in record.getMessage() and "_note" not in record.getMessage()


def test_a_value_where_a_group_of_options_stands_is_refused():
    with pytest.raises(ValueError, match=r"train\.amp is a group of options \(train\.amp\.enabled"):
        run_config(OmegaConf.create({"train": {"amp": True}})).options


def test_values_of_python_configs_are_checked():
    def options(**train):
        return run_config(OmegaConf.create({"train": train})).options

    with pytest.raises(ValueError, match=r"train\.freeze.*\['backbone'\]"):
        options(freeze="backbone")
    with pytest.raises(ValueError, match=r"train\.seed"):
        options(seed="five")
    assert options(max_iter="12").max_iter == 12
    found = options(max_iter=90000 * 16 / 64, ema={"decay": 1}, amp={"enabled": 1}, freeze=["a", "b"])
    assert (found.max_iter, found.ema_decay, found.amp, found.freeze) == (22500, 1.0, True, ["a", "b"])
    assert type(found.max_iter) is int


def test_configs_of_the_zoo_name_known_options_only(caplog):
    root = Path(model_zoo.__file__).parent / "configs"
    with caplog.at_level(logging.WARNING):
        cfg = model_zoo.get_config("new_baselines/mask_rcnn_R_50_FPN_100ep_LSJ.py")
        assert run_config(cfg).options.max_iter == 184375
        for path in sorted(root.glob("COCO-*/*.py")):
            assert run_config(model_zoo.get_config(str(path.relative_to(root)))).options.log_period == 20
    assert not caplog.records


@pytest.mark.parametrize("kind", ["yacs", "lazy"])
def test_the_seed_of_the_options_is_the_seed_of_the_process(kind):
    def draw(**options):
        run = next(run for run in both_kinds() if run.kind == kind)
        run.put(**options)
        set_backends(run.cfg)
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    before = torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic
    try:
        assert draw(seed=11) == draw(seed=11) != draw(seed=12)
        assert draw(deterministic=True) == draw(seed=0)
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
        torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = before


def test_kinds_of_config_are_told_apart_in_one_place():
    """Only ``config`` itself, and one line of ``engine/run_config``, ask what a config is made of."""
    root = Path(detectron2.__file__).parent
    asks = re.compile(r"is_lazy\(|isinstance\([^()]*\b(CfgNode|DictConfig|BaseNode)\b")
    found = [
        f"{path.relative_to(root)}: {line.strip()}"
        for path in root.rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if asks.search(line) and path.parts[len(root.parts)] != "config"
    ]
    door = [place for place in found if place.startswith("engine/run_config/__init__.py")]
    assert len(door) == 1
    assert found == door
