"""Options that change how a model trains but not what it computes."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from detectron2.layers import FrozenBatchNorm2d
from detectron2.utils.tables import format_table

__all__ = [
    "check_cuda_graphs",
    "compile_parts",
    "freeze_by_pattern",
    "recompute_activations",
    "trainable_table",
]

logger = logging.getLogger(__name__)


def _modules_matching(model: nn.Module, patterns: Sequence[str], key: str) -> list[tuple[str, nn.Module]]:
    """Return the modules whose full name matches a pattern.

    Raises:
        ValueError: if a pattern matches no module.
    """
    found: dict[str, nn.Module] = {}
    for pattern in patterns:
        hits = {n: m for n, m in model.named_modules() if n and re.fullmatch(pattern, n)}
        if not hits:
            tops = ", ".join(name for name, _ in model.named_children())
            raise ValueError(f"{key}: {pattern!r} matches no module. Top-level modules are: {tops}")
        found.update(hits)
    return list(found.items())


def freeze_by_pattern(model: nn.Module, patterns: Sequence[str]) -> list[str]:
    """Freeze the parameters whose names match.

    Batch norms whose parameters are all frozen become ``FrozenBatchNorm2d``, because their running statistics would
    otherwise drift.

    Args:
        model: changed in place.
        patterns: regular expressions to search for in names, such as ``"^backbone\\.bottom_up"``.

    Returns:
        Names of the frozen parameters.

    Raises:
        ValueError: if a pattern matches nothing.
    """
    frozen: list[str] = []
    for pattern in patterns:
        hits = [name for name, _ in model.named_parameters() if re.search(pattern, name)]
        if not hits:
            tops = ", ".join(name for name, _ in model.named_children())
            raise ValueError(
                f"SOLVER.FREEZE: {pattern!r} matches no parameter. Names start with one of: {tops}"
            )
        frozen += hits
    chosen = set(frozen)
    for name, parameter in model.named_parameters():
        if name in chosen:
            parameter.requires_grad = False
    for path, parent in list(model.named_modules()):
        for child_name, child in list(parent.named_children()):
            if not isinstance(child, nn.modules.batchnorm._BatchNorm):
                continue
            prefix = f"{path}.{child_name}" if path else child_name
            own = [f"{prefix}.{n}" for n, _ in child.named_parameters()]
            if own and all(n in chosen for n in own):
                setattr(parent, child_name, FrozenBatchNorm2d.convert_frozen_batchnorm(child))
    return list(dict.fromkeys(frozen))


def trainable_table(model: nn.Module, depth: int = 2) -> str:
    """Return a table of trainable parameters, grouped by the first parts of their names.

    Args:
        model: the model.
        depth: number of parts of a name that define a row.
    """
    total: dict[str, list[int]] = {}
    for name, parameter in model.named_parameters():
        row = total.setdefault(".".join(name.split(".")[:-1][:depth]) or name, [0, 0])
        row[0] += parameter.numel()
        row[1] += parameter.numel() if parameter.requires_grad else 0
    rows: list[tuple[str, int, int, str]] = [
        (name, count, learns, "all" if learns == count else "none" if learns == 0 else "in part")
        for name, (count, learns) in total.items()
    ]
    rows.append(("sum", sum(r[1] for r in rows), sum(r[2] for r in rows), ""))
    return format_table(rows, ["part", "parameters", "trainable", "learns"])


def recompute_activations(model: nn.Module, patterns: Sequence[str]) -> int:
    """Make modules recompute their activations in the backward pass instead of storing them.

    Saves memory, but these modules take about a third more time (Chen et al., Training Deep Nets with Sublinear Memory
    Cost, https://arxiv.org/abs/1604.06174).

    Args:
        model: changed in place; names and state dict stay the same.
        patterns: regular expressions for full module names, such as
            ``r"backbone\\.bottom_up\\.res[345]\\.\\d+"``.

    Returns:
        Number of changed modules.

    Raises:
        ValueError: if a pattern matches no module.
    """
    modules = _modules_matching(model, patterns, "SOLVER.ACTIVATION_CHECKPOINT")
    for _, module in modules:
        inner = module.forward

        def forward(*args: Any, _inner: Any = inner, _module: nn.Module = module, **kwargs: Any) -> Any:
            if not (_module.training and torch.is_grad_enabled()):
                return _inner(*args, **kwargs)
            return checkpoint(_inner, *args, use_reentrant=False, **kwargs)

        module.forward = forward  # type: ignore[method-assign]
    return len(modules)


def check_cuda_graphs(model: nn.Module, device: str) -> None:
    """Check that the steps of a model can become CUDA graphs.

    Args:
        model: the model.
        device: name of its device.

    Raises:
        ValueError: if its shapes depend on values, or there is no NVIDIA GPU.
    """
    if not getattr(model, "fixed_shapes", False):
        raise ValueError(
            "SOLVER.CUDA_GRAPHS needs shapes that depend on no value: set MODEL.FIXED_SHAPES True, which R-CNN "
            f"models with FPN support; this model is a {type(model).__name__} without it"
        )
    if torch.device(device).type != "cuda" or torch.version.cuda is None:
        raise ValueError(
            f"SOLVER.CUDA_GRAPHS needs an NVIDIA GPU and a PyTorch for CUDA, got device {device!r} and PyTorch "
            f"{torch.__version__}; set SOLVER.CUDA_GRAPHS False"
        )


def compile_parts(
    model: nn.Module, parts: Sequence[str], mode: str = "default", *, freeze: bool = False
) -> None:
    """Compile parts of a model in place; names and state dict stay the same.

    Args:
        model: the model.
        parts: module names; ``""`` is the whole model. Backbones benefit most, because their shapes are static, while
            those of sampling and matching depend on the data.
        mode: see ``torch.compile``.
        freeze: make the weights constants of the compiled code, which is faster on CPUs; only for inference without
            gradients, with weights that stay as they are.

    Raises:
        ValueError: if a part is unknown.
    """
    for name in parts:
        try:
            module = model.get_submodule(name)
        except AttributeError:
            tops = ", ".join(n for n, _ in model.named_children())
            raise ValueError(
                f"SOLVER.COMPILE.PARTS contains {name!r}, which the model lacks; it has: {tops}"
            ) from None
        if freeze:
            module.compile(options={"freezing": True}, dynamic=None)
        else:
            module.compile(mode=mode, dynamic=None)
        logger.info("torch.compile (%s) for %s.", mode, name or "the whole model")
