"""Parameter groups: learning rate and weight decay of each parameter."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from detectron2.layers.batch_norm import LayerNorm
from detectron2.utils.errors import BadValue

__all__ = [
    "get_default_optimizer_params",
    "layer_decay",
    "layer_decay_params",
    "pattern_factors",
    "reduce_param_groups",
]

Group = dict[str, Any]

_NORMS: tuple[type[nn.Module], ...] = (
    nn.modules.batchnorm._BatchNorm,  # every BatchNorm, synchronised ones too
    nn.modules.instancenorm._InstanceNorm,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.LocalResponseNorm,
    nn.RMSNorm,
    LayerNorm,
)


def get_default_optimizer_params(
    model: nn.Module,
    base_lr: float | None = None,
    weight_decay: float | None = None,
    weight_decay_norm: float | None = None,
    bias_lr_factor: float | None = 1.0,
    weight_decay_bias: float | None = None,
    lr_factor_func: Callable[[str], float] | None = None,
    overrides: Mapping[str, Mapping[str, float]] | None = None,
) -> list[Group]:
    """Build parameter groups for an optimizer, with the usual exceptions for norms and biases.

    Later rules have priority: base, norm, factor by name, overrides (biases are overrides for ``bias``).

    Args:
        model: its parameters that require a gradient are used, shared ones once.
        base_lr: learning rate of all groups; None for the optimizer's own.
        weight_decay: weight decay of all groups; None for the optimizer's own.
        weight_decay_norm: weight decay of normalisation layers.
        bias_lr_factor: learning rate of biases as a multiple of ``base_lr``.
        weight_decay_bias: weight decay of biases.
        lr_factor_func: maps the dotted name of a parameter to a factor on its learning rate, for layer-wise decay or a
            slower pretrained part.
        overrides: last part of a name (``"bias"``, ``"pos_embed"``) -> options of its group.

    Returns:
        Groups for any ``torch.optim`` class; those with equal options are joined.

    Raises:
        ValueError: if a factor is given without ``base_lr``, or both ``overrides["bias"]`` and arguments for biases are
            given.

    Example:
        ``torch.optim.AdamW(get_default_optimizer_params(model, weight_decay_norm=0), lr=1e-4)``
    """
    common: dict[str, float] = {}
    if base_lr is not None:
        common["lr"] = base_lr
    if weight_decay is not None:
        common["weight_decay"] = weight_decay
    by_tail = {tail: dict(options) for tail, options in (overrides or {}).items()}
    for_bias = _bias_options(base_lr, bias_lr_factor, weight_decay_bias)
    if for_bias:
        if "bias" in by_tail:
            raise BadValue(
                "overrides['bias'] contradicts bias_lr_factor or weight_decay_bias: give one of the two"
            )
        by_tail["bias"] = for_bias
    if lr_factor_func is not None and base_lr is None:
        raise BadValue("lr_factor_func multiplies base_lr, which was not given")

    groups: list[Group] = []
    seen: set[nn.Parameter] = set()
    for path, module in model.named_modules():
        for tail, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad or parameter in seen:
                continue
            seen.add(parameter)
            options = dict(common)
            if weight_decay_norm is not None and isinstance(module, _NORMS):
                options["weight_decay"] = weight_decay_norm
            if lr_factor_func is not None:
                options["lr"] *= lr_factor_func(f"{path}.{tail}" if path else tail)
            options.update(by_tail.get(tail, {}))
            groups.append({"params": [parameter], **options})
    return reduce_param_groups(groups)


def _bias_options(
    base_lr: float | None, bias_lr_factor: float | None, weight_decay_bias: float | None
) -> dict[str, float]:
    """Return the options in which biases differ from other parameters."""
    options: dict[str, float] = {}
    if bias_lr_factor is not None and bias_lr_factor != 1.0:
        if base_lr is None:
            raise BadValue(f"bias_lr_factor={bias_lr_factor} multiplies base_lr, which was not given")
        options["lr"] = base_lr * bias_lr_factor
    if weight_decay_bias is not None:
        options["weight_decay"] = weight_decay_bias
    return options


def reduce_param_groups(params: Iterable[Group]) -> list[Group]:
    """Join groups with equal options; fewer groups make fused optimizer kernels larger.

    Args:
        params: groups; a parameter in several of them gets the options of all, and later ones have priority.

    Returns:
        Groups in the order of their first parameters.
    """
    joined: dict[tuple[Any, ...], Group] = {}
    for single in expand_param_groups(params):
        options = {name: value for name, value in single.items() if name != "params"}
        group = joined.setdefault(tuple(options.items()), {**options, "params": []})
        group["params"] += single["params"]
    return list(joined.values())


def expand_param_groups(params: Iterable[Group]) -> list[Group]:
    """Create one group per parameter, which merges the options of all its groups."""
    single: dict[torch.Tensor, Group] = {}
    for group in params:
        options = {name: value for name, value in group.items() if name != "params"}
        members = group["params"]
        for parameter in [members] if isinstance(members, torch.Tensor) else members:
            single.setdefault(parameter, {"params": [parameter]}).update(options)
    return list(single.values())


def pattern_factors(rules: Sequence[tuple[str, float]]) -> Callable[[str], float]:
    """Build a function from parameter names to factors by regular expressions, for ``lr_factor_func``.

    Args:
        rules: pairs (expression, factor); the first expression that matches a name decides; the default is 1.

    Raises:
        ValueError: if an expression is invalid.
    """
    compiled: list[tuple[re.Pattern[str], float]] = []
    for rule in rules:
        pattern, factor = rule
        try:
            compiled.append((re.compile(pattern), float(factor)))
        except re.error as error:
            raise BadValue(f"{pattern!r} is not a regular expression: {error}") from error

    def factor_of(name: str) -> float:
        return next((factor for pattern, factor in compiled if pattern.search(name)), 1.0)

    return factor_of


_BLOCK = re.compile(r"(?:^|\.)(?:blocks|layers|res|stages?)[._]?(\d+)(?:\.|$)")
_FRONT = re.compile(r"(?:^|\.)(?:stem|patch_embed|pos_embed|cls_token|reg_token)(?:[._]|$)")


def layer_decay(model: nn.Module, rate: float) -> Callable[[str], float]:
    """Return learning rate factors that decrease towards the input.

    Layers are the numbered blocks of the backbone (``blocks.3``, ``layers.1``, ``res4``); the stem and the embeddings are
    before them, and everything else has a factor of 1.

    Args:
        model: its parameter names define the layers.
        rate: factor from one layer to the previous one, in (0, 1].

    Raises:
        ValueError: if the backbone has no numbered blocks.

    Reference: Clark et al., ELECTRA, https://arxiv.org/abs/2003.10555
    """

    def block_of(name: str) -> int | None:
        if "backbone" not in name.split("."):
            return None
        if _FRONT.search(name):
            return 0
        found = _BLOCK.search(name)
        return int(found[1]) + 1 if found else None

    depth = max((block_of(name) or 0 for name, _ in model.named_parameters()), default=0)
    if depth == 0:
        raise BadValue("layer-wise decay found no numbered blocks (blocks.N, layers.N, resN) in the backbone")

    def factor_of(name: str) -> float:
        block = block_of(name)
        return 1.0 if block is None else rate ** (depth + 1 - block)

    return factor_of


def layer_decay_params(model: nn.Module, base_lr: float, rate: float, **options: Any) -> list[Group]:
    """Make parameter groups with rates that shrink towards the input, as a Python config asks for them in one line.

    ``optimizer.params = L(layer_decay_params)(base_lr="${..lr}", rate=0.8, weight_decay_norm=0.0)``

    Args:
        model: the model; a config leaves it out.
        base_lr: learning rate of the heads.
        rate: see :func:`layer_decay`.
        options: further arguments of :func:`get_default_optimizer_params`.
    """
    return get_default_optimizer_params(model, base_lr, lr_factor_func=layer_decay(model, rate), **options)
