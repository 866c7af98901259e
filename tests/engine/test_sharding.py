"""Sharded training and checkpoints: two gloo processes against one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from detectron2.engine.sharding import full_state_dict, load_sharded, save_sharded, shard_model


def run(folder, action, processes):
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("sharding_worker.py")), str(folder), action, str(processes)],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, (done.stdout + done.stderr)[-5000:]
    return torch.load(folder / f"{action}_{processes}.pth")


def close(a, b):
    return a.keys() == b.keys() and all(torch.allclose(a[k], b[k], atol=1e-6) for k in a)


@pytest.mark.slow
def test_two_processes_equal_one_and_shards_load_on_either(tmp_path):
    whole = run(tmp_path, "whole", 1)
    assert close(run(tmp_path, "whole", 2), whole)
    run(tmp_path, "first", 2)
    assert len(list((tmp_path / "shards").glob("*.distcp"))) == 2
    assert close(run(tmp_path, "second", 2), whole)
    assert close(run(tmp_path, "second", 1), whole)  # another number of processes, Adam's moments included


def test_round_trip_in_one_process_and_a_broken_folder(tmp_path):
    def make():
        net = nn.Linear(3, 2)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
        net(torch.ones(1, 3)).sum().backward()
        optimizer.step()
        return net, optimizer

    net, optimizer = make()
    folder = str(tmp_path / "shards")
    for iteration in (1, 2):  # the second replaces the first
        save_sharded(folder, net, optimizer, {"iteration": iteration})
    other, moments = make()
    assert load_sharded(folder, other, moments) == {"iteration": 2}
    assert torch.equal(net.weight, other.weight) and full_state_dict(net).keys() == {"weight", "bias"}
    a, b = optimizer.state[net.weight], moments.state[other.weight]
    assert torch.equal(a["momentum_buffer"], b["momentum_buffer"])
    assert [p.name for p in tmp_path.iterdir()] == ["shards"]
    (tmp_path / "shards/extra.json").unlink()
    with pytest.raises(FileNotFoundError, match="no whole sharded checkpoint"):
        load_sharded(folder, other, moments)


def test_sharding_alone_is_refused():
    with pytest.raises(RuntimeError, match="torchrun"):
        shard_model(nn.Linear(2, 2))
