"""What the tests of data share."""

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pytest

Call = Callable[..., Any]


@pytest.fixture(scope="session")
def fresh_process() -> Iterator[Call]:
    """``call(function, *args)`` runs in one process that was spawned, not forked, and imports for itself.

    One for all tests, since importing torch takes seconds. The function must stand at the top of a test module.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:

        def call(function: Call, *args: Any) -> Any:
            return pool.submit(function, *args).result(timeout=120)

        yield call
