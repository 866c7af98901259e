"""Find the largest batch that fits into memory, by measuring steps of the model on its training images."""

from __future__ import annotations

import ctypes
import itertools
import json
import logging
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from detectron2.config.types import Config
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from detectron2.utils.file_io.atomic import atomic_write
from detectron2.utils.memory import is_out_of_memory, release_memory

from .hooks.eval import undisturbed_rng
from .run_config import RunConfig
from .trainer.precision import Precision

__all__ = ["available_bytes", "fit_batch_size", "measure_step", "with_fitting_batch"]

logger = logging.getLogger(__name__)

# Number of images of which the largest are measured. The unused share of memory allows for larger ones.
_POOL = 16
# Memory of a step as a multiple of its saved activations, where the workspace of convolutions cannot be measured.
_HOST_WORKSPACE = 1.5
# Free memory in bytes to assume where the system does not report it.
_UNKNOWN_HOST = 4 * 2**30


@dataclass(frozen=True)
class _Model:
    """The model, and its memory use that does not depend on the batch size."""

    model: nn.Module
    precision: Precision

    @property
    def device(self) -> torch.device:
        return next(p.device for p in self.model.parameters())

    def fixed_bytes(self) -> int:
        """Return the bytes of gradients, two optimizer moments and DDP's copy of the gradients."""
        return 4 * sum(p.numel() * p.element_size() for p in self.model.parameters() if p.requires_grad)


def available_bytes() -> int:
    """Return the host memory in bytes that this process may still allocate; an estimate outside Linux."""
    free = _UNKNOWN_HOST
    # macOS has only the first, Windows neither.
    for pages, share in (("SC_PHYS_PAGES", 0.5), ("SC_AVPHYS_PAGES", 1.0)):
        try:
            free = int(os.sysconf("SC_PAGE_SIZE") * os.sysconf(pages) * share)
        except (AttributeError, ValueError, OSError):
            break
    try:
        with open("/proc/meminfo") as file:
            table = dict(line.split(":", 1) for line in file)
        free = int(table["MemAvailable"].split()[0]) * 1024
        with open("/sys/fs/cgroup/memory.max") as limit, open("/sys/fs/cgroup/memory.current") as used:
            free = min(free, int(limit.read()) - int(used.read()))
    except (OSError, KeyError, ValueError):  # another system, or no limit ("max")
        pass
    return free


def measure_step(model: nn.Module, batch: Sequence[Any], precision: Precision) -> int:
    """Measure the bytes that a forward and backward pass needs beyond the weights, gradients included.

    On CUDA this is the allocator's peak. Elsewhere it is the larger of two estimates: the growth of this process at its
    peak (Linux only), and 1.5 times the tensors saved for the backward pass.
    """
    device = next(p.device for p in model.parameters())
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        _step(model, batch, precision)
        return torch.cuda.max_memory_allocated(device) - before
    kept: dict[int, int] = {}
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    release_memory()
    watched = _forget_peak()
    before = _process_bytes("VmRSS")
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        _step(model, batch, precision)
    grown = _process_bytes("VmHWM") - before if watched else 0
    return max(grown, math.ceil(_HOST_WORKSPACE * sum(kept.values())))


def _step(model: nn.Module, batch: Sequence[Any], precision: Precision) -> None:
    """Run forward and backward, and drop the gradients."""
    try:
        with EventStorage(), precision.autocast():
            output = model(list(batch))
        total = output if isinstance(output, torch.Tensor) else sum(output.values())
        total.backward()  # type: ignore[union-attr]
    finally:
        model.zero_grad(set_to_none=True)


def _forget_peak() -> bool:
    """Return freed memory to the system and reset the memory peak of this process; return False if that is impossible."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except (OSError, AttributeError):
        return False
    return True


def _process_bytes(field: str) -> int:
    """Read a size in bytes from the status of this process; 0 outside Linux."""
    try:
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith(f"{field}:"))
    except (OSError, StopIteration):
        return 0


def fit_batch_size(measure: Callable[[int], int | None], budget: int, limit: int) -> int:
    """Find the largest batch whose step stays within a budget, to within an eighth.

    Doubles the batch until it no longer fits, then bisects. Memory must grow with the batch.

    Args:
        measure: returns the bytes that a step with this many images takes; None if memory ran out.
        budget: bytes.
        limit: largest size to try.

    Raises:
        ValueError: if not even one image fits.
    """

    def fits(size: int) -> bool:
        used = measure(size)
        logger.info(
            "A batch of %d takes %s.", size, "too much" if used is None else f"{used / 2**20:.0f} MiB"
        )
        return used is not None and used <= budget

    if not fits(1):
        raise ValueError(
            f"not even one image fits into {budget / 2**20:.0f} MiB: make INPUT.MAX_SIZE_TRAIN smaller, or set "
            "SOLVER.AMP.ENABLED or SOLVER.ACTIVATION_CHECKPOINT"
        )
    good, bad = 1, limit + 1
    while good * 2 < bad:
        if not fits(good * 2):
            bad = good * 2
            break
        good *= 2
    while bad - good > max(1, good // 8):  # images differ by more than an eighth
        middle = (good + bad) // 2
        good, bad = (middle, bad) if fits(middle) else (good, middle)
    return good


def _largest(records: list[Any]) -> list[Any]:
    """Sort images by size, largest first: by pixels, then by instances."""

    def size(record: Mapping[str, Any]) -> tuple[int, int]:
        return record["image"].numel(), len(record.get("instances", ()))

    return sorted(records, key=size, reverse=True)


def _measured(parts: _Model, records: list[Any], share: float, limit: int) -> int:
    """Measure how many images fit on this process."""
    pool = _largest(records)
    if parts.device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(parts.device)
        budget = int(free * share) - parts.fixed_bytes()

        def measure(size: int) -> int | None:
            try:
                return measure_step(
                    parts.model, list(itertools.islice(itertools.cycle(pool), size)), parts.precision
                )
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
            release_memory()
            return None

        return fit_batch_size(measure, budget, limit)
    # A host that runs out of memory kills the process, so measure only one and two images and extrapolate linearly. The
    # first pass fills caches that later ones share.
    measure_step(parts.model, (pool * 2)[:2], parts.precision)
    one = measure_step(parts.model, pool[:1], parts.precision)
    two = measure_step(parts.model, (pool * 2)[:2], parts.precision)
    each = max(two - one, one // 2, 1)
    budget = int(available_bytes() * share) // comm.get_local_size() - parts.fixed_bytes()

    return fit_batch_size(lambda size: max(one - each, 0) + each * size, budget, limit)


def with_fitting_batch(
    run: RunConfig, model: nn.Module, build_loader: Callable[[Config], Iterable[Any]], precision: Precision
) -> RunConfig:
    """Set the largest batch size that fits, and scale learning rate and lengths accordingly.

    The size is saved as ``auto_batch.json`` in the output folder and read from there if it exists, because a resumed
    training must not change its batch size.

    Args:
        run: the config.
        model: the model, on its device.
        build_loader: builds a training loader from a config.
        precision: precision of the training steps.

    Returns:
        A changed copy of the config.
    """
    folder = run.options.output_dir
    path = os.path.join(folder, "auto_batch.json")
    if os.path.isfile(path):
        with open(path, encoding="utf-8") as file:
            total = int(json.load(file)["images_per_batch"])
        logger.info("%d images per batch, as measured before; remove %s to measure again.", total, path)
        return run.rescaled(total)
    world = comm.get_world_size()
    total = min(comm.all_gather(_measured_on_trial(run, model, build_loader, precision))) * world
    logger.info(
        "SOLVER.AUTO_BATCH: %d images per batch (%d on each process); learning rate and lengths are scaled to it.",
        total,
        total // world,
    )
    if comm.is_main_process():
        os.makedirs(folder, exist_ok=True)
        with atomic_write(path) as file:
            json.dump({"images_per_batch": total, "processes": world}, file)
    comm.synchronize()
    return run.rescaled(total)


def _measured_on_trial(
    run: RunConfig, model: nn.Module, build_loader: Callable[[Config], Iterable[Any]], precision: Precision
) -> int:
    """Measure how many images fit on this process; restore random states, buffers and mode afterwards."""
    single = run.rescaled(comm.get_world_size()).in_this_process()
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    was_training = model.training
    with undisturbed_rng():
        stream = iter(build_loader(single.cfg))
        records = [record for batch in itertools.islice(stream, _POOL) for record in batch]
        del stream
        model.train()
        options = run.options
        found = _measured(_Model(model, precision), records, options.auto_batch_share, options.auto_batch_max)
    model.train(was_training)
    with torch.no_grad():
        for name, value in model.named_buffers():
            value.copy_(buffers[name])
    release_memory()
    return found
