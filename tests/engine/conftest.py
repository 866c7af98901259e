"""Running the small training of worker.py as a process."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

WORKER = Path(__file__).with_name("worker.py")


@pytest.fixture()
def run_worker():
    """Runs worker.py and returns its exit status and output."""

    def run(folder, *args, die=None, launcher=(sys.executable,), timeout=300, env=()):
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "DIE": die or "", **dict(env)}
        done = subprocess.run(
            [*launcher, str(WORKER), str(folder), *map(str, args)],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout, check=False,
        )  # fmt: skip
        if die:
            assert done.returncode == -signal.SIGKILL, done.stdout[-3000:]
        else:
            assert done.returncode == 0, done.stdout[-6000:]
        return done.stdout

    return run
