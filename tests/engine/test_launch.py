"""Several processes: started by us, started by torchrun, missing."""

import socket
import sys
from datetime import timedelta

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
def test_two_gloo_processes_resume_and_torchrun_agree(tmp_path, run_worker):
    run_worker(tmp_path / "whole", "--num-gpus", 2, *OPTS)
    # Stopped after the checkpoint of iteration 7 by a shorter training, then gone on.
    broken = tmp_path / "broken"
    short = [o if o != "12" else "8" for o in OPTS]
    run_worker(broken, "--num-gpus", 2, *short)
    log = run_worker(broken, "--num-gpus", 2, "--resume", *OPTS)
    assert "at iteration 8 of 12" in log
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    run_worker(tmp_path / "torchrun", *OPTS, launcher=torchrun)
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "torchrun"))
    assert not (tmp_path / "whole/out/metrics.json.rank1").exists()
    # The schedule depends on the length, so the broken run is compared with one that was cut the same way.
    again = tmp_path / "again"
    run_worker(again, "--num-gpus", 2, *short)
    run_worker(again, "--num-gpus", 2, "--resume", *OPTS)
    assert same(weights(broken), weights(again))


@pytest.mark.slow
def test_missing_process_is_named(tmp_path):
    code = (
        "import sys; from datetime import timedelta; from detectron2.engine import launch\n"
        f"launch(print, 1, num_machines=2, machine_rank=0, dist_url='tcp://127.0.0.1:{_find_free_port()}', "
        "timeout=timedelta(seconds=5))"
    )
    path = tmp_path / "alone.py"
    path.write_text(f"if __name__ == '__main__':\n    {code.replace(chr(10), chr(10) + '    ')}\n")
    import subprocess

    done = subprocess.run(
        [sys.executable, str(path)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode != 0
    assert "rank 0 of 2 could not meet the others" in done.stderr and "--machine-rank" in done.stderr
    assert timedelta(seconds=5).total_seconds() == 5
