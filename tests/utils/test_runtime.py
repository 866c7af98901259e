"""Logging, seeds, memory, pickling, tables, tracing, environment, and communication in a world of one."""

import logging
import pickle
import random
import sys

import numpy as np
import pytest
import torch

from detectron2.structures import Boxes
from detectron2.utils import comm, env, logger, memory, tables
from detectron2.utils.collect_env import collect_env_info
from detectron2.utils.develop import create_dummy_class, create_dummy_func
from detectron2.utils.serialize import PicklableWrapper
from detectron2.utils.torch_version_utils import min_torch_version
from detectron2.utils.tracing import assert_fx_safe, is_fx_tracing


def test_world_of_one():
    assert (comm.get_world_size(), comm.get_rank(), comm.get_local_rank(), comm.get_local_size()) == (
        1,
        0,
        0,
        1,
    )
    assert comm.is_main_process() and comm.all_gather("x") == ["x"] == comm.gather("x")
    comm.synchronize()
    losses = {"b": torch.tensor(2.0), "a": torch.tensor(1.0)}
    assert comm.reduce_dict(losses) == losses
    with pytest.raises(RuntimeError, match="launch"):
        comm.get_local_process_group()
    np.random.seed(3)
    first = comm.shared_random_seed()
    np.random.seed(3)
    assert comm.shared_random_seed() == first < 2**31


def test_logger_writes_console_and_file(tmp_path, capsys):
    log = logger.setup_logger(str(tmp_path), name="d2test.one", color=False)
    again = logger.setup_logger(str(tmp_path), name="d2test.one", color=False)
    log.getChild("sub").warning("watch out")
    assert again is log and len(log.handlers) == 2
    for text in (capsys.readouterr().out, (tmp_path / "log.txt").read_text()):
        assert "WARNING" in text and "d2test.one.sub" in text and text.count("watch out") == 1
    rank = logger.setup_logger(
        str(tmp_path / "x.log"), distributed_rank=2, name="d2test.two", abbrev_name="T"
    )
    rank.info("quiet")
    assert "quiet" not in capsys.readouterr().out
    assert "T] INFO: quiet" in (tmp_path / "x.log.rank2").read_text()


def test_messages_that_do_not_repeat(caplog):
    with caplog.at_level(logging.INFO):
        for i in range(6):
            logger.log_first_n(logging.INFO, "first", n=2)
            logger.log_first_n(logging.INFO, f"message {i % 2}", key="message")
            logger.log_every_n(logging.INFO, "every", n=3)
            logger.log_every_n_seconds(logging.INFO, "seconds", n=1000)
    found = [r.getMessage() for r in caplog.records]
    assert [found.count(m) for m in ("first", "message 0", "message 1", "every", "seconds")] == [
        2,
        1,
        1,
        2,
        1,
    ]
    assert {r.name for r in caplog.records} == {__name__}
    with pytest.raises(ValueError, match="caller"):
        logger.log_first_n(logging.INFO, "x", key="line")


def test_seed_and_state_of_generators():
    env.seed_all_rng(11)
    state = env.rng_state()
    draws = (random.random(), float(np.random.rand()), float(torch.rand(())), float(np.random.randn()))
    env.set_rng_state(state)
    assert draws == (
        random.random(),
        float(np.random.rand()),
        float(torch.rand(())),
        float(np.random.randn()),
    )
    env.seed_all_rng(11)
    assert draws[0] == random.random()


def test_generator_state_survives_a_safe_file(tmp_path):
    env.seed_all_rng(1)
    np.random.randn()  # leaves a second value waiting
    random.gauss(0, 1)
    torch.save(env.rng_state(), tmp_path / "s.pth")
    draws = (random.gauss(0, 1), np.random.randn(), float(torch.rand(())))
    env.seed_all_rng(99)
    env.set_rng_state(torch.load(tmp_path / "s.pth", weights_only=True))
    assert draws == (random.gauss(0, 1), np.random.randn(), float(torch.rand(())))


def test_environment_hook(tmp_path, monkeypatch):
    hook = tmp_path / "hook.py"
    hook.write_text("import os\ndef setup_environment():\n    os.environ['D2_HOOKED'] = 'yes'\n")
    monkeypatch.setenv("DETECTRON2_ENV_MODULE", str(hook))
    monkeypatch.setenv("D2_HOOKED", "no")
    env.setup_environment()
    import os

    assert os.environ["D2_HOOKED"] == "yes"
    hook.write_text("x = 1\n")
    with pytest.raises(AttributeError, match="setup_environment"):
        env.setup_environment()


def test_retry_goes_to_the_cpu_last():
    calls = []

    @memory.retry_if_cuda_oom
    def work(boxes, extra, *, scale):
        """Doubles."""
        calls.append(boxes.device.type)
        if len(calls) < 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB")
        return boxes.tensor * scale, extra

    boxes = Boxes(torch.ones(1, 4))
    result, extra = work(boxes, [torch.zeros(1), "text"], scale=2)
    assert len(calls) == 3 and bool((result == 2).all()) and extra[1] == "text"
    assert work.__doc__ == "Doubles."


def test_retry_leaves_other_errors_alone():
    calls = []

    @memory.retry_if_cuda_oom
    def work():
        calls.append(1)
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        work()
    assert len(calls) == 1
    assert memory.is_out_of_memory(MemoryError()) and not memory.is_out_of_memory(ValueError("out of memory"))


def test_wrapper_pickles_functions_that_pickle_refuses():
    offset = 3
    wrapped = PicklableWrapper(PicklableWrapper(lambda x: x + offset))
    again = pickle.loads(pickle.dumps(wrapped))
    assert wrapped(1) == again(1) == 4
    assert PicklableWrapper("text").upper() == "TEXT"
    with pytest.raises(AttributeError):
        _ = wrapped.nothing


def test_tables():
    small = tables.create_small_table({"AP": 41.23456, "AP50": 60})
    head, rule, row = small.splitlines()
    assert "AP50" in head and "41.235" in row and len(head) == len(rule) == len(row)
    grid = tables.create_grid_table([(f"c{i}", float(i)) for i in range(4)], columns=3)
    assert grid.splitlines()[0].count("name") == 3 and len(grid.splitlines()) == 4
    assert tables.format_table([], ["a"]).count("\n") == 1


def test_tracing():
    assert not is_fx_tracing()
    assert assert_fx_safe(True, "ok").shape == (1,)
    limit = 3
    assert_fx_safe("limit == 3", "no")
    with pytest.raises(AssertionError, match="wrong"):
        assert_fx_safe(limit == 4, "wrong")

    class Module(torch.nn.Module):
        def forward(self, x):
            assert_fx_safe(False, "not while recording")
            return x + 1

    assert torch.export.export(Module(), (torch.zeros(1),)).module()(torch.zeros(1)) == 1


def test_dummies_name_what_is_missing():
    missing = create_dummy_class("Thing", "thinglib", "pip install thinglib")
    for use in (lambda: missing(), lambda: missing.attribute, create_dummy_func("f", ["a", "b"])):
        with pytest.raises(ImportError, match=r"thinglib|a, b"):
            use()


def test_versions():
    assert min_torch_version("2.6") and not min_torch_version("99.0")
    assert env.TORCH_VERSION >= (2, 6)


def test_environment_tells_operators_and_device():
    text = collect_env_info()
    for part in (
        torch.__version__,
        sys.version.split()[0],
        "best device",
        "ROIAlign",
        "pure Python",
        "hotcoco",
    ):
        assert part in text, part
