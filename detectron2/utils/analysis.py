"""Count the operations, activations and parameters of a model.

A *flop* here is one multiplication with the following addition, as in papers on detectors. Convolutions (also
deformable), matrix products and attention are counted; normalisation, activations, pooling, resizing, ROIAlign, the
sampling of deformable attention and NMS are not, since their share is small. Multiply by two for single operations.
"""

from __future__ import annotations

import contextlib
import functools
import math
import typing
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from .errors import BadValue
from .reexports import passed_on
from .suggest import did_you_mean

__all__ = [
    "FlopCountAnalysis",
    "activation_count_operators",
    "find_unused_parameters",
    "flop_count_operators",
    "parameter_count",
    "parameter_count_table",
]

__getattr__ = passed_on(__name__)

# fvcore's names of operators
_NAMES = {
    "convolution": "conv",
    "_convolution": "conv",
    "cudnn_convolution": "conv",
    "_slow_conv2d_forward": "conv",
    "mm": "linear",
    "addmm": "linear",
    "bmm": "matmul",
    "baddbmm": "matmul",
    "deform_conv2d": "deform_conv",
}


def _name_of(operator: object) -> str:
    raw = str(operator).rsplit(".", 1)[-1] if "." in str(operator) else str(operator)
    return "attention" if "attention" in raw else _NAMES.get(raw, raw)


def _deform_conv_flop(
    x: object,
    weight: Sequence[int],
    offset: object,
    *args: object,
    out_shape: Sequence[int],
    **kwargs: object,
) -> int:
    """Count two operations per weight and output position, as torch does for convolutions."""
    batch, channels, height, width = out_shape
    return 2 * batch * height * width * channels * weight[1] * weight[2] * weight[3]


def _attention_flop(
    query: Sequence[int], key: Sequence[int], value: Sequence[int], *args: object, **kwargs: object
) -> int:
    """Count two operations per product of the two matrix products, as torch does for attention on GPUs."""
    *batch, length, channels = query
    return 2 * math.prod(batch) * length * key[-2] * (channels + value[-1])


@functools.cache
def _extra_formulas() -> dict[Any, Any]:
    """Return formulas for installed operators that torch cannot count."""
    with contextlib.suppress(ImportError):
        import torchvision  # noqa: F401  (registers its operators)
    formulas: dict[Any, Any] = {}
    for operators, name, formula in (
        (torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu", _attention_flop),
        (torch.ops.torchvision, "deform_conv2d", _deform_conv_flop),
    ):
        if hasattr(operators, name):
            formulas[getattr(operators, name)] = formula
    return formulas


def is_counted(operator: OpOverload) -> bool:
    """Return whether the flops and activations of an operator are counted."""
    return operator.overloadpacket in flop_registry or operator.overloadpacket in _extra_formulas()


def run_once(model: nn.Module, inputs: object) -> object:
    """Run a model in evaluation mode, with a tuple as several arguments and anything else as one."""
    modes = [(module, module.training) for module in model.modules()]
    # Without gradients a view of a parameter still "requires" one, which torch's counter takes for a part of a graph.
    trained = [p for p in model.parameters() if p.requires_grad]
    model.eval()
    try:
        for parameter in trained:
            parameter.requires_grad_(False)
        with torch.no_grad():
            return model(*inputs) if isinstance(inputs, tuple) else model(inputs)
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
        for module, training in modes:
            module.training = training


class FlopCountAnalysis:
    """Flops of one call of a model, by module and by operator; see the module docstring for their definition.

    >>> flops = FlopCountAnalysis(model, [{"image": image}])
    >>> flops.total(), flops.by_operator()
    """

    def __init__(self, model: nn.Module, inputs: object) -> None:
        """
        Args:
            model: any module; it runs in evaluation mode, and its mode is restored.
            inputs: the argument (a list of dicts for detectron2's models), or a tuple of arguments.
        """
        self._model, self._inputs = model, inputs
        self._counts: dict[str, Counter[str]] | None = None

    def by_module_and_operator(self) -> dict[str, Counter[str]]:
        """Return the flops of each operator in each module; ``""`` is the whole model."""
        if self._counts is None:
            counter = FlopCounterMode(display=False, custom_mapping=_extra_formulas())
            with counter:
                run_once(self._model, self._inputs)
            prefix = type(self._model).__name__
            self._counts = {name: Counter() for name, _ in self._model.named_modules()}
            for path, operators in counter.get_flop_counts().items():
                name = "" if path in ("Global", prefix) else path.removeprefix(prefix + ".")
                if path == prefix:
                    continue  # the same as Global
                total: Counter[str] = Counter()
                for operator, value in operators.items():
                    total[_name_of(operator)] += value // 2
                self._counts[name] = total
        return self._counts

    def by_module(self) -> Counter[str]:
        """Return the flops of each module, including its children."""
        return Counter({name: sum(c.values()) for name, c in self.by_module_and_operator().items()})

    def by_operator(self, module_name: str = "") -> Counter[str]:
        """Return the flops of each operator in a module."""
        return Counter(self._of(module_name))

    def total(self, module_name: str = "") -> int:
        """Return the flops of a module; default: the whole model."""
        return sum(self._of(module_name).values())

    def _of(self, module_name: str) -> Counter[str]:
        counts = self.by_module_and_operator()
        if module_name not in counts:
            raise KeyError(f"the model has no module {module_name!r}. {did_you_mean(module_name, counts)}")
        return counts[module_name]

    def uncalled_modules(self) -> set[str]:
        """Return the names of modules in which nothing was counted, including their children."""
        return {name for name, flops in self.by_module().items() if not flops}

    def unsupported_ops(self, module_name: str = "") -> Counter[str]:
        """Return the operators that could not be counted: none, since every operator is seen."""
        self._of(module_name)
        return Counter()

    def canonical_module_name(self, name: str) -> str:
        """Return the name itself, under which the module is counted."""
        self._of(name)
        return name

    # fvcore's switches; nothing is traced or guessed here, so that there are no warnings
    def unsupported_ops_warnings(self, enabled: bool) -> FlopCountAnalysis:
        """Do nothing; kept for callers of fvcore."""
        return self

    def uncalled_modules_warnings(self, enabled: bool) -> FlopCountAnalysis:
        """Do nothing; kept for callers of fvcore."""
        return self

    def tracer_warnings(self, mode: str) -> FlopCountAnalysis:
        """Do nothing; kept for callers of fvcore."""
        return self


def flop_count_operators(model: nn.Module, inputs: object) -> typing.DefaultDict[str, float]:  # noqa: UP006
    """Count the flops of one call by operator.

    Args:
        model: any module.
        inputs: a list of dicts, or a tuple of arguments.

    Returns:
        Gigaflops (see the module docstring) by operator: ``conv``, ``linear``, ``matmul``, ...
    """
    counts = FlopCountAnalysis(model, inputs).by_operator()
    return defaultdict(float, {name: value / 1e9 for name, value in counts.items()})


class _ActivationCounter(TorchDispatchMode):
    """Sums the output sizes of the operators whose flops are counted."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(
        self,
        func: OpOverload,
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if is_counted(func):
            first = out[0] if isinstance(out, (tuple, list)) else out
            self.counts[_name_of(func.overloadpacket)] += first.numel()
        return out


def activation_count_operators(
    model: nn.Module, inputs: object, **kwargs: object
) -> typing.DefaultDict[str, float]:  # noqa: UP006
    """Count the outputs of convolutions, matrix products and attention during one call.

    Args:
        model: any module.
        inputs: a list of dicts, or a tuple of arguments.
        **kwargs: not supported.

    Returns:
        Millions of output values by operator.
    """
    if kwargs:
        raise TypeError(f"activation_count_operators takes no other arguments, got {sorted(kwargs)}")
    with _ActivationCounter() as counter:
        run_once(model, inputs)
    return defaultdict(float, {name: value / 1e6 for name, value in counter.counts.items()})


def parameter_count(model: nn.Module) -> typing.DefaultDict[str, int]:  # noqa: UP006
    """Count the parameters of each module, and the values of each parameter, by name; ``""`` is the whole model.

    A shared parameter counts once in each module that contains it.
    """
    counts: defaultdict[str, int] = defaultdict(int)
    for name, module in model.named_modules():
        counts[name] = sum(p.numel() for p in module.parameters())
    for name, parameter in model.named_parameters():
        counts[name] = parameter.numel()
    return counts


def parameter_count_table(model: nn.Module, max_depth: int = 3) -> str:
    """Format the parameters of a model as a text table.

    Args:
        model: any module.
        max_depth: deepest level of modules to list.

    Returns:
        Lines of name, shape of a parameter, and count.
    """
    counts = parameter_count(model)
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    rows = [("model", "", _short(counts[""]))]
    names: Mapping[str, None] = dict.fromkeys(
        ".".join(name.split(".")[:depth])
        for name in shapes
        for depth in range(1, min(len(name.split(".")), max_depth) + 1)
    )
    for name in names:
        depth = name.count(".") + 1
        shape = str(shapes[name]) if name in shapes else ""
        rows.append((" " * depth + name, shape, _short(counts[name])))
    widths = [max(len(row[k]) for row in rows) for k in range(3)]
    return "\n".join(f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}" for a, b, c in rows)


def _short(count: int) -> str:
    """Shorten a count, such as 1234567 to 1.235M."""
    for size, letter in ((10**9, "G"), (10**6, "M"), (10**3, "K")):
        if count >= size:
            return f"{count / size:.3f}{letter}"
    return str(count)


def find_unused_parameters(model: nn.Module, inputs: object) -> list[str]:
    """Return the names of the parameters that get no gradient when training on the given inputs.

    Args:
        model: in training mode, returning a dictionary of losses.
        inputs: a list of dicts, or a tuple of arguments.
    """
    if not model.training:
        raise BadValue("find_unused_parameters needs a model in training mode: call model.train() first")
    for parameter in model.parameters():
        parameter.grad = None
    losses = model(*inputs) if isinstance(inputs, tuple) else model(inputs)
    if isinstance(losses, Mapping):
        losses = sum(losses.values())
    losses.backward()
    return [name for name, parameter in model.named_parameters() if parameter.grad is None]
