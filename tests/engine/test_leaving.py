"""Leaving a training: asked by a signal, without room on the disk, without an answer from another process."""

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from detectron2.checkpoint import read_checkpoint_file, verify_checkpoint_file
from detectron2.engine.launch import _find_free_port

WORKER = Path(__file__).with_name("worker.py")
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
OPTS = (
    "SOLVER.MAX_ITER",
    "30",
    "SOLVER.STEPS",
    "(20,)",
    "SOLVER.IMS_PER_BATCH",
    "4",
    "SOLVER.LOG_PERIOD",
    "3",
)


def same(a, b):
    a, b = (read_checkpoint_file(folder / "out/model_final.pth")["model"] for folder in (a, b))
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def interrupted(folder, launcher, words, number, whom):
    """Starts a training, sends a signal after some iterations; gives the exit status and the output."""
    slow = folder.with_suffix(".slow")
    slow.touch()
    log = folder.with_suffix(".log")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "SLOW": str(slow)}
    with log.open("w") as file:
        child = subprocess.Popen(
            [*launcher, str(WORKER), str(folder), *words], env=environment, stdout=file, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
    try:
        until = time.monotonic() + 180
        while (
            not (folder / "losses.txt").exists() or len((folder / "losses.txt").read_text().splitlines()) < 8
        ):
            assert child.poll() is None and time.monotonic() < until, log.read_text()[-5000:]
            time.sleep(0.01)
        if whom == "group":  # as a terminal does
            os.killpg(child.pid, number)
        else:
            child.send_signal(number)
        status = child.wait(timeout=120)
    finally:
        child.kill()
        child.wait()
    return status, log.read_text()


@pytest.mark.slow
def test_ctrl_c_saves_and_resuming_ends_with_the_same_bits(tmp_path, run_worker):
    run_worker(tmp_path / "whole", *OPTS)
    broken = tmp_path / "broken"
    status, text = interrupted(broken, (sys.executable,), OPTS, signal.SIGINT, "one")
    # Python ends with 1, too: if a package evaluates text while the process ends, it forgets that it was interrupted.
    assert status in (-signal.SIGINT, 130, 1) and "Stopped by SIGINT after iteration" in text
    last = (broken / "out/last_checkpoint").read_text()
    iteration = int(text.split("Stopped by SIGINT after iteration ")[1].split(";")[0])
    assert (
        last == f"model_{iteration:07d}.pth" and (iteration + 1) % 5
    )  # not one of the periodic ones, or also one
    verify_checkpoint_file(broken / "out" / last)
    run_worker(broken, "--resume", *OPTS)
    assert same(tmp_path / "whole", broken)


@pytest.mark.slow
def test_several_processes_leave_together(tmp_path, run_worker):
    run_worker(tmp_path / "whole", *OPTS, launcher=TORCHRUN)
    ways = [
        ((sys.executable,), ("--num-gpus", "2"), signal.SIGINT, "group"),  # Ctrl-C in a terminal
        (TORCHRUN, (), signal.SIGTERM, "one"),  # a cluster that takes the machine back
    ]
    for i, (launcher, words, number, whom) in enumerate(ways):
        broken = tmp_path / f"broken{i}"
        status, text = interrupted(broken, launcher, (*words, *OPTS), number, whom)
        name = signal.Signals(number).name
        assert status != 0 and f"Stopped by {name} after iteration" in text, text[-4000:]
        iteration = int(text.split(f"Stopped by {name} after iteration ")[1].split(";")[0])
        assert (iteration + 1) % 3 == 0  # where the processes ask each other
        run_worker(broken, "--resume", *OPTS, launcher=TORCHRUN)
        assert same(tmp_path / "whole", broken)


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a file system of 600 KiB of its own, and what makes it larger."""
    folder = tmp_path / "small"
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(folder)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"file systems cannot be mounted here: {done.stderr.strip()}")
    yield folder, lambda: subprocess.run(["mount", "-o", "remount,size=50m", str(folder)], check=True)
    subprocess.run(["umount", str(folder)], check=True)


def whole_checkpoints(out):
    """Iterations of the checkpoints, each of which must be whole."""
    for path in out.glob("*.pth"):
        verify_checkpoint_file(path)
    assert not [p.name for p in out.iterdir() if p.name.endswith(".tmp")]
    return sorted(int(p.stem.removeprefix("model_")) for p in out.glob("model_0*.pth"))


@pytest.mark.slow
def test_full_disk_is_said_and_harms_no_checkpoint(small_disk, tmp_path, run_worker):
    folder, enlarge = small_disk
    opts = (
        "SOLVER.MAX_ITER",
        "60",
        "SOLVER.CHECKPOINT_PERIOD",
        "1",
        "TEST.EVAL_PERIOD",
        "0",
        "OUTPUT_DIR",
        str(folder),
    )
    text = run_worker(tmp_path / "run", *opts, code=1)
    error = text.splitlines()[-1]
    assert (
        error.startswith("OSError: could not write the checkpoint")
        and "Earlier checkpoints are intact" in error
    )
    assert "Free space there: 0 MiB" in error
    found = whole_checkpoints(folder)
    assert 2 < len(found) < 60 and (folder / "last_checkpoint").read_text() == f"model_{found[-1]:07d}.pth"
    enlarge()
    text = run_worker(tmp_path / "run", "--resume", *opts)
    assert f"at iteration {found[-1] + 1} of 60" in text
    assert whole_checkpoints(folder) == list(range(60))


@pytest.mark.slow
def test_file_too_large_is_said_and_harms_no_checkpoint(tmp_path, run_worker):
    opts = ("SOLVER.STEPS", "(20,)", "TEST.EVAL_PERIOD", "0", "SOLVER.MAX_ITER")
    run_worker(tmp_path, *opts, "10")
    out = tmp_path / "out"
    limit = (out / "model_final.pth").stat().st_size // 2
    (out / "log.txt").unlink()  # which may be larger still
    (out / "metrics.json").unlink()
    done = subprocess.run(
        [sys.executable, str(WORKER), str(tmp_path), "--resume", *opts, "20"],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        timeout=300, check=False, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )  # fmt: skip
    assert done.returncode == 1
    assert "OSError: could not write the checkpoint" in done.stdout.splitlines()[-1], done.stdout[-3000:]
    assert whole_checkpoints(out) == [4, 9]


@pytest.mark.slow
def test_silent_rank_is_named(tmp_path, run_worker):
    text = run_worker(tmp_path, "--num-gpus", 2, *OPTS, die="hang:5", code=1, env={"TIMEOUT": "8"}.items())
    assert "rank 0 of 2 has lost the others: ranks [1] do not answer" in text, text[-4000:]


@pytest.mark.slow
@pytest.mark.parametrize("present", [0, 1])
def test_rank_that_never_comes_is_named(tmp_path, present):
    path = tmp_path / "alone.py"
    path.write_text(
        "from datetime import timedelta\nfrom detectron2.engine import launch\n\nif __name__ == '__main__':\n"
        f"    launch(print, 1, num_machines=2, machine_rank={present}, dist_url='tcp://127.0.0.1:{_find_free_port()}',\n"
        "           timeout=timedelta(seconds=5))\n"
    )
    done = subprocess.run(
        [sys.executable, str(path)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode != 0 and "--machine-rank" in done.stderr
    if present == 0:
        assert "rank 0 of 2 has waited 5 s" in done.stderr and "for ranks [1]" in done.stderr
    else:
        assert "rank 1 of 2 could not reach rank 0" in done.stderr
