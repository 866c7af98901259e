"""The small training of worker.py, in this process and as a process of its own."""

import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from detectron2.data import DatasetCatalog, MetadataCatalog

WORKER = Path(__file__).with_name("worker.py")


@pytest.fixture(scope="session")
def worker():
    """worker.py as a module; loaded once, since it registers a model."""
    spec = importlib.util.spec_from_file_location("tiny_engine_worker", WORKER)
    module = importlib.util.module_from_spec(spec)
    sys.modules["tiny_engine_worker"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def tiny_cfg(worker, tmp_path):
    """Makes configs of the small training, whose data set is known for one test."""

    def make(*opts):
        if "tiny_engine_data" in DatasetCatalog:
            DatasetCatalog.remove("tiny_engine_data")
            MetadataCatalog.remove("tiny_engine_data")
        return worker.make_cfg(str(tmp_path), opts)

    yield make
    if "tiny_engine_data" in DatasetCatalog:
        DatasetCatalog.remove("tiny_engine_data")
        MetadataCatalog.remove("tiny_engine_data")


@pytest.fixture
def run_worker():
    """Runs worker.py as a process and returns its output."""

    def run(folder, *args, die=None, launcher=(sys.executable,), timeout=300, env=(), code=0):
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "DIE": die or "", **dict(env)}
        done = subprocess.run(
            [*launcher, str(WORKER), str(folder), *map(str, args)],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout, check=False,
        )  # fmt: skip
        # A launcher that survives its killed process has a status of its own.
        expected = -signal.SIGKILL if die and not code else code
        assert done.returncode == expected, done.stdout[-6000:]
        return done.stdout

    return run
