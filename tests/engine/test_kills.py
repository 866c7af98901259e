"""Workers that are killed at random moments under torchrun, which starts them again."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from detectron2.checkpoint import read_checkpoint_file, verify_checkpoint_file

WORKER = Path(__file__).with_name("worker.py")
KILLS = 20
LENGTH = 800
OPTS = (
    "SOLVER.MAX_ITER", str(LENGTH), "SOLVER.STEPS", "(500,)", "SOLVER.IMS_PER_BATCH", "4", "SOLVER.CHECKPOINT_PERIOD", "5",
    "TEST.EVAL_PERIOD", "40", "SOLVER.LOG_PERIOD", "1", "SOLVER.EMA.ENABLED", "True", "SOLVER.EMA.DECAY", "0.9",
)  # fmt: skip


def start(folder, log, slow=""):
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--max-restarts", str(KILLS),
        str(WORKER), str(folder), "--resume", *OPTS,
    ]  # fmt: skip
    with log.open("w") as file:
        return subprocess.Popen(
            command, env={**os.environ, "OMP_NUM_THREADS": "1", "SLOW": str(slow)}, stdout=file, stderr=subprocess.STDOUT
        )  # fmt: skip


def workers(agent):
    """Processes that torchrun has started, oldest first."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == agent.pid and b"worker.py" in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except (OSError, IndexError):
            continue  # it has just ended
    return sorted(found)


def lines(folder):
    path = folder / "losses.txt"
    return path.read_text().splitlines() if path.exists() else []


def wait_for(condition, agent, log, seconds=180):
    until = time.monotonic() + seconds
    while not condition():
        assert agent.poll() is None, log.read_text()[-5000:]
        assert time.monotonic() < until, log.read_text()[-5000:]
        time.sleep(0.01)


def kill_at_random(agent, folder, log, dice):
    """Kills random workers at random moments; returns the last checkpoint that each one left."""
    kept, before, startup = [], [], 5.0
    for _ in range(KILLS):
        wait_for(lambda old=before: len(set(workers(agent)) - set(old)) == 2, agent, log)
        begun, known = time.monotonic(), len(lines(folder))
        if dice.random() < 0.25:  # somewhere on its way to the first step
            time.sleep(dice.uniform(0, startup))
        else:  # in a step, a checkpoint, an evaluation
            wait_for(lambda n=known: len(lines(folder)) > n, agent, log)
            startup = time.monotonic() - begun
            time.sleep(dice.uniform(0, 1.5))
        before = workers(agent)
        tag = folder / "out/last_checkpoint"
        kept.append(tag.read_text() if tag.exists() else None)
        os.kill(dice.choice(before), signal.SIGKILL)
    return kept


def number(name):
    return int(name.removeprefix("model_").removesuffix(".pth"))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds the workers in /proc")
def test_random_kills_lose_nothing(tmp_path):
    seed = int(os.environ.get("KILL_SEED", random.randrange(10**6)))
    print(f"KILL_SEED={seed}")
    whole, broken, slow = tmp_path / "whole", tmp_path / "broken", tmp_path / "slow"
    agent = start(whole, tmp_path / "whole.log")
    assert agent.wait(timeout=300) == 0, (tmp_path / "whole.log").read_text()[-5000:]
    slow.touch()
    log = tmp_path / "broken.log"
    agent = start(broken, log, slow)
    try:
        kept = kill_at_random(agent, broken, log, random.Random(seed))
        slow.unlink()
        assert agent.wait(timeout=300) == 0, log.read_text()[-5000:]
    finally:
        for pid in workers(agent):  # which would outlive a launcher that is killed
            os.kill(pid, signal.SIGKILL)
        agent.kill()
        agent.wait()

    starts = [
        int(line.split("at iteration ")[1].split()[0])
        for line in log.read_text().splitlines()
        if "Resuming from" in line and " at iteration " in line
    ]
    print(f"resumed at {starts}")
    assert len(starts) >= KILLS // 4 and starts == sorted(starts) and starts[-1] < LENGTH
    for name in filter(None, kept):
        verify_checkpoint_file(broken / "out" / name)
        if name != "model_best.pth":
            assert any(
                begin > number(name) for begin in starts
            )  # each is where a later start went on, or behind it
    for iteration in range(4, LENGTH, 5):
        verify_checkpoint_file(broken / f"out/model_{iteration:07d}.pth")
    # The same end, bit by bit, and the same losses on the way, where an iteration was done again in its last form.
    for name in ("model_final.pth", "model_ema.pth"):
        a, b = (read_checkpoint_file(folder / "out" / name) for folder in (whole, broken))
        assert a["iteration"] == b["iteration"] == LENGTH - 1
        assert all(torch.equal(value, b["model"][key]) for key, value in a["model"].items())
    curves = [dict(line.split() for line in lines(folder)) for folder in (whole, broken)]
    assert curves[0] == curves[1] and set(curves[0]) == {str(i) for i in range(LENGTH)}
    # Every iteration that was done more than once had the same loss each time.
    assert len({tuple(line.split()) for line in lines(broken)}) == LENGTH
