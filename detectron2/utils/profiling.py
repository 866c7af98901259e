"""What each module of a model costs in one call: parameters, flops, activations, memory and time.

Flops, activations and parameters are those of :mod:`detectron2.utils.analysis`. *Memory* is the most that tensors made
during the call of a module took at one time, so that of the whole model is what a call needs beside parameters and
inputs. It is counted from the sizes of tensors, alike on every device; what operators use inside is not seen. *Time* is
from the start of a module's calls to their end. All figures of a module include its children.
"""

from __future__ import annotations

import contextlib
import statistics
import time
import weakref
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from .analysis import FlopCountAnalysis, is_counted, parameter_count, run_once
from .errors import BadValue

__all__ = ["ModuleCost", "profile_modules", "settle_random_weights"]

_SPREAD = 100.0  # classifiers begin with weights so small that all classes look alike


@dataclass(frozen=True)
class ModuleCost:
    """The costs of a module in one call of the model.

    Attributes:
        name: in the model; "" for the whole model.
        kind: name of its class.
        calls: how often it was called.
        parameters: number of parameters.
        flops: multiplications with additions.
        activations: values that convolutions, matrix products and attention put out.
        memory: bytes of the tensors that it made, at the worst moment.
        seconds: time of all its calls.
    """

    name: str
    kind: str
    calls: int
    parameters: int
    flops: int
    activations: int
    memory: int
    seconds: float

    @property
    def depth(self) -> int:
        """Number of modules above it."""
        return self.name.count(".") + 1 if self.name else 0


def profile_modules(
    model: nn.Module, inputs: object, *, rounds: int = 3, depth: int | None = None
) -> list[ModuleCost]:
    """Measure what each module of a model costs.

    Args:
        model: any module; it runs in evaluation mode and comes back in its own.
        inputs: the argument (a list of dicts for detectron2's models), or a tuple of arguments.
        rounds: calls whose median time is taken, after one that is not timed.
        depth: deepest level of modules; None for all.

    Returns:
        The whole model first, then its modules in the order of ``named_modules``. Modules that were not called and have
        no parameters are left out.
    """
    if rounds < 1:
        raise BadValue(f"rounds must be at least 1, got {rounds}")
    flops = FlopCountAnalysis(model, inputs).by_module()
    calls, seconds = _time(model, inputs, rounds)
    with _Sizes() as sizes, _watched(model, sizes.enter, sizes.leave):
        run_once(model, inputs)
    parameters = parameter_count(model)
    costs = (
        ModuleCost(
            name=name,
            kind=type(module).__name__,
            calls=calls[name],
            parameters=parameters[name],
            flops=flops[name],
            activations=sizes.activations[name],
            memory=sizes.peaks[name],
            seconds=seconds[name],
        )
        for name, module in model.named_modules()
    )
    return [c for c in costs if (c.calls or c.parameters) and (depth is None or c.depth <= depth)]


def settle_random_weights(model: nn.Module, inputs: object) -> None:
    """Bring a model with random weights into a state in which it does about the work of a trained one.

    Deep residual networks whose normalisation has not seen data put out huge values, from which a detector makes a
    handful of equal proposals; its heads would look nearly free. Here normalisation layers take the statistics of one
    call, and classifiers of regions prefer classes, so that some regions count as objects.

    Args:
        model: changed in place.
        inputs: as for :func:`profile_modules`.
    """
    norms = {
        name: m
        for name, m in model.named_modules()
        if isinstance(getattr(m, "running_var", None), torch.Tensor)
    }

    def take_statistics(module: nn.Module, given: tuple[Any, ...]) -> None:
        if isinstance(given[0], torch.Tensor) and given[0].numel():
            dims = [d for d in range(given[0].ndim) if d != 1]
            variance, mean = torch.var_mean(given[0].float(), dim=dims, correction=0)
            module.running_mean.copy_(mean)  # type: ignore[operator, union-attr]
            module.running_var.copy_(variance)  # type: ignore[operator, union-attr]

    handles = [norm.register_forward_pre_hook(take_statistics) for norm in norms.values()]
    try:
        for module in model.modules():
            classifier = getattr(module, "cls_score", None)
            if isinstance(classifier, nn.Linear):
                classifier.weight.data.mul_(_SPREAD)
        run_once(model, inputs)
    finally:
        for handle in handles:
            handle.remove()


@contextlib.contextmanager
def _watched(model: nn.Module, enter: Callable[[str], None], leave: Callable[[str], None]) -> Iterator[None]:
    """Call ``enter`` and ``leave`` with the name of each module around its calls."""
    handles = []
    try:
        for name, module in model.named_modules():
            handles.append(module.register_forward_pre_hook(lambda *_, n=name: enter(n)))  # type: ignore[misc]
            handles.append(
                module.register_forward_hook(lambda *_, n=name: leave(n), always_call=True)  # type: ignore[misc]
            )
        yield
    finally:
        for handle in handles:
            handle.remove()


def _time(model: nn.Module, inputs: object, rounds: int) -> tuple[Counter[str], dict[str, float]]:
    """Return how often each module is called, and the median over rounds of the time in its calls."""
    wait = _waiter(model)
    spent: dict[str, list[float]] = defaultdict(list)
    calls: Counter[str] = Counter()
    run_once(model, inputs)
    for _ in range(rounds):
        started: dict[str, list[float]] = defaultdict(list)
        total: Counter[str] = Counter()
        calls = Counter()

        def enter(name: str, started: dict[str, list[float]] = started) -> None:
            wait()
            started[name].append(time.perf_counter())

        def leave(
            name: str,
            started: dict[str, list[float]] = started,
            total: Counter[str] = total,
            calls: Counter[str] = calls,
        ) -> None:
            wait()
            total[name] += time.perf_counter() - started[name].pop()  # type: ignore[assignment]
            calls[name] += 1

        with _watched(model, enter, leave):
            run_once(model, inputs)
        for name, value in total.items():
            spent[name].append(value)
    return calls, defaultdict(float, {name: statistics.median(values) for name, values in spent.items()})


def _waiter(model: nn.Module) -> Callable[[], None]:
    """Return what waits for the work that a device was given."""
    kinds = {p.device.type for p in model.parameters()}
    if "cuda" in kinds:
        return torch.cuda.synchronize
    if "mps" in kinds:
        return torch.mps.synchronize
    return lambda: None


class _Sizes(TorchDispatchMode):
    """Follows the tensors that are made, and which modules make them.

    Attributes:
        activations: by module, values that the counted operators put out.
        peaks: by module, most bytes that tensors made in one of its calls took.
    """

    def __init__(self) -> None:
        super().__init__()
        self.activations: Counter[str] = Counter()
        self.peaks: Counter[str] = Counter()
        self._alive: dict[int, weakref.finalize] = {}
        self._bytes = 0
        self._open: list[tuple[str, int]] = []  # modules that are running, and the bytes when they began

    def enter(self, name: str) -> None:
        """Begin a call of a module."""
        self._open.append((name, self._bytes))

    def leave(self, name: str) -> None:
        """End the newest call of a module."""
        self._open.pop()

    def __torch_dispatch__(
        self,
        func: OpOverload,
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        leaves = _dense_tensors(out)
        given = {id(leaf.untyped_storage()) for leaf in _dense_tensors((args, kwargs))}
        for leaf in leaves:
            self._follow(leaf.untyped_storage(), given)
        counted = leaves[0].numel() if leaves and is_counted(func) else 0
        for name in {name for name, _ in self._open}:
            self.activations[name] += counted
        for name, before in self._open:
            self.peaks[name] = max(self.peaks[name], self._bytes - before)
        return out

    def _follow(self, storage: torch.UntypedStorage, given: set[int]) -> None:
        """Count the bytes of a new tensor until it is gone; views and results in place share memory with the given."""
        key = id(storage)
        if key in self._alive or key in given:
            return
        size = storage.nbytes()
        self._bytes += size
        self._alive[key] = weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._bytes -= size
        del self._alive[key]


def _dense_tensors(values: object) -> list[torch.Tensor]:
    """Return the tensors in nested values; sparse ones have no memory of their own to look at."""
    leaves = (leaf for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor))
    return [leaf for leaf in leaves if leaf.layout == torch.strided]
