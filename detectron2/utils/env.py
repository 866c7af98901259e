"""Random seeds and process setup."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import random
import secrets
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np
import torch

__all__ = [
    "TORCH_VERSION",
    "fixup_module_metadata",
    "rng_state",
    "seed_all_rng",
    "seeded",
    "set_rng_state",
    "setup_environment",
]

TORCH_VERSION: tuple[int, ...] = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
"""Major and minor version of torch."""


def seed_all_rng(seed: int | None = None) -> None:
    """Seed the generators of Python, NumPy and torch (all devices).

    Args:
        seed: any integer; None draws one from the system and logs it, so that the run can be repeated.
    """
    if seed is None:
        seed = secrets.randbits(31)
        logging.getLogger(__name__).info("Using the random seed %d.", seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    random.seed(seed)


@contextmanager
def seeded(*key: int) -> Iterator[None]:
    """Seed the global CPU random generators with ``key`` within the block, and restore them afterwards."""
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    words = np.random.SeedSequence(key).generate_state(4)
    random.seed(int(words[0]))
    np.random.seed(words[1:3])
    # torch.manual_seed would also reset the generators of the accelerators.
    torch.default_generator.manual_seed(int(words[3]))
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])


def rng_state() -> dict[str, Any]:
    """Return the state of every generator that :func:`seed_all_rng` seeds.

    It consists of tensors and plain values, which ``torch.load(weights_only=True)`` accepts.
    """
    generator: Any = np.random.get_state(legacy=True)
    algorithm, keys, position, has_gauss, gauss = generator
    version, internal, gauss_next = random.getstate()
    state: dict[str, Any] = {
        "python": [version, list(internal), gauss_next],
        "numpy": [
            str(algorithm),
            torch.from_numpy(keys.astype(np.int64)),
            int(position),
            int(has_gauss),
            float(gauss),
        ],
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_rng_state(state: dict[str, Any]) -> None:
    """Restore a state from :func:`rng_state`; generators that this machine lacks are skipped."""
    version, internal, gauss_next = state["python"]
    random.setstate((version, tuple(internal), gauss_next))
    algorithm, keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((algorithm, keys.numpy().astype(np.uint32), position, has_gauss, gauss))
    torch.set_rng_state(state["torch"].cpu())
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"].cpu())


def _import_file(module_name: str, file_path: str, make_importable: bool = False) -> ModuleType:
    """Import a Python file as a module of the given name."""
    spec = importlib.util.spec_from_file_location(module_name, file_path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file_path} is not an importable Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if make_importable:
        sys.modules[module_name] = module
    return module


def setup_environment() -> None:
    """Call the user's ``setup_environment()`` from ``DETECTRON2_ENV_MODULE``, if set.

    The variable is a module name or the path of a ``.py`` file. ``import detectron2`` never calls this;
    ``default_setup`` does.

    Raises:
        AttributeError: if the module has no such function.
    """
    name = os.environ.get("DETECTRON2_ENV_MODULE")
    if not name:
        return
    if name.endswith(".py"):
        module = _import_file("detectron2.utils.env.custom_module", name)
    else:
        module = importlib.import_module(name)
    hook = getattr(module, "setup_environment", None)
    if not callable(hook):
        raise AttributeError(f"DETECTRON2_ENV_MODULE={name} must define a function setup_environment()")
    hook()


def fixup_module_metadata(
    module_name: str, namespace: Mapping[str, Any], keys: Iterable[str] | None = None
) -> None:
    """Set ``__module__`` of the classes and functions of a public module that its submodules define.

    Args:
        module_name: dotted path of the public module.
        namespace: its names, usually ``globals()``.
        keys: names to change; None for all that do not begin with an underscore.
    """
    for key in namespace if keys is None else keys:
        item = namespace[key]
        own = str(getattr(item, "__module__", None)).startswith(module_name + ".")
        if own and callable(item) and (keys is not None or not key.startswith("_")):
            item.__module__ = module_name
            item.__name__ = item.__qualname__ = key
