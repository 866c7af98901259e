"""``detectron2 train`` in processes that torchrun has started."""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from detectron2.cli.commands import train
from detectron2.cli.errors import UserError

from .conftest import TINY, write_discs


def test_processes_are_those_of_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train.comm, "get_world_size", lambda: 2)
    args = argparse.Namespace(train="data", resume=False, engine=None, num_workers=None, num_gpus=2)
    with pytest.raises(
        UserError, match="torchrun has started the processes: leave out --engine and --num-gpus"
    ):
        train._run(args, 0.0)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds the processes in /proc")
def test_a_killed_rank_is_replaced_and_one_report_is_written(tmp_path: Path) -> None:
    discs = write_discs(tmp_path / "data", 8)
    (tmp_path / "tiny.yaml").write_text(TINY)
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--max-restarts", "2", "-m",
        "detectron2", "train", "--resume", "--train", discs, "--val", discs, "--model", "tiny.yaml", "--weights", "none",
        "--output", "run", "--workers", "0", "--batch-size", "4", "--epochs", "12", "--device", "cpu",
        "SOLVER.CHECKPOINT_PERIOD", "5", "TEST.EVAL_PERIOD", "0",
    ]  # fmt: skip
    log, run = tmp_path / "log", tmp_path / "run"
    with log.open("w") as out:
        agent = subprocess.Popen(
            [*map(str, command)], cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=out, stderr=subprocess.STDOUT
        )  # fmt: skip
    until = time.monotonic() + 600
    try:
        while not (run / "model_0000009.pth").exists():
            assert agent.poll() is None and time.monotonic() < until, log.read_text()[-4000:]
            time.sleep(0.05)
        ranks = Path(f"/proc/{agent.pid}/task/{agent.pid}/children").read_text().split()
        os.kill(int(ranks[-1]), signal.SIGKILL)
        assert agent.wait(timeout=600) == 0, log.read_text()[-4000:]
    finally:
        agent.kill()
    assert "Resuming from" in (run / "log.txt").read_text()
    assert json.loads((run / "summary.json").read_text())["images"] == 8
    said = log.read_text()
    assert said.count("box_AP ") == 1 and said.count("Report: ") == 1
