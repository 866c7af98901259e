"""Settings for all tests."""

import logging
import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

# Worker processes share the cores; threads of each would only wait for one another. Before anything imports torch.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# A busy machine is slow; that is no fault of the code under test. Other runs draw other examples.
settings.register_profile(
    "busy",
    max_examples=50,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("busy")


@pytest.fixture(autouse=True)
def quiet_logger() -> Iterator[None]:
    """Begin each test with a logger that nobody has set up, whatever tests of the same process did before."""
    from detectron2.utils import logger as module

    def reset() -> None:
        module.close_log_file()
        log = logging.getLogger("detectron2")
        log.handlers.clear()
        log.setLevel(logging.NOTSET)
        log.propagate = True
        module._set_up.pop("detectron2", None)

    reset()
    yield
    reset()
