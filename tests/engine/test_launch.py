"""Several processes: started by us, started by torchrun, missing."""

import socket
import sys

import pytest
import torch

from detectron2.checkpoint import read_checkpoint_file
from detectron2.engine import launch
from detectron2.engine.launch import _find_free_port

OPTS = (
    "SOLVER.MAX_ITER",
    "12",
    "SOLVER.STEPS",
    "(8,)",
    "SOLVER.IMS_PER_BATCH",
    "4",
    "SOLVER.CHECKPOINT_PERIOD",
    "4",
)


def test_one_process_calls_directly():
    assert launch(lambda a, b: a + b, 1, args=(2, 3)) == 5


def test_several_machines_need_an_address():
    with pytest.raises(ValueError, match="--dist-url"):
        launch(print, 2, num_machines=2)


def test_free_port_can_be_bound():
    with socket.socket() as s:
        s.bind(("", _find_free_port()))


def weights(folder):
    return read_checkpoint_file(folder / "out/model_final.pth")["model"]


def same(a, b):
    return all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.slow
def test_own_start_and_torchrun_agree(tmp_path, run_worker):
    run_worker(tmp_path / "own", "--num-gpus", 2, *OPTS)
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    run_worker(tmp_path / "torchrun", *OPTS, launcher=torchrun)
    assert same(weights(tmp_path / "own"), weights(tmp_path / "torchrun"))
    assert not (tmp_path / "own/out/metrics.json.rank1").exists()
