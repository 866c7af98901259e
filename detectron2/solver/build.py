"""Build the optimizer and the learning rate schedule of a config."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch

from detectron2.config import CfgNode
from detectron2.utils.errors import BadValue
from detectron2.utils.reexports import publish
from detectron2.utils.suggest import did_you_mean

from ._clip import Clipper, GradientClipType, clip_full_norm, clip_norm, clip_value, with_gradient_clipping
from ._param_groups import expand_param_groups as _expand_param_groups
from ._param_groups import (
    get_default_optimizer_params,
    layer_decay,
    layer_decay_params,
    pattern_factors,
    reduce_param_groups,
)
from ._schedules import LR_SCHEDULE_REGISTRY, WITHOUT_WARMUP
from .lr_scheduler import LRMultiplier, LRScheduler, WarmupParamScheduler
from .param_scheduler import (
    CompositeParamScheduler,
    CosineParamScheduler,
    MultiStepParamScheduler,
    ParamScheduler,
    PolynomialDecayParamScheduler,
    StepWithFixedGammaParamScheduler,
)

__all__ = [
    "LR_SCHEDULE_REGISTRY",
    "CfgNode",
    "CompositeParamScheduler",
    "CosineParamScheduler",
    "GradientClipType",
    "LRMultiplier",
    "LRScheduler",
    "MultiStepParamScheduler",
    "ParamScheduler",
    "PolynomialDecayParamScheduler",
    "StepWithFixedGammaParamScheduler",
    "WarmupParamScheduler",
    "_expand_param_groups",
    "build_lr_scheduler",
    "build_optimizer",
    "get_default_optimizer_params",
    "layer_decay",
    "layer_decay_params",
    "maybe_add_gradient_clipping",
    "pattern_factors",
    "reduce_param_groups",
]

publish(__name__, get_default_optimizer_params)


# -- optimizers -----------------------------------------------------------------------------------


def build_clipper(cfg: CfgNode) -> Clipper:
    """Build the clipping function of ``SOLVER.CLIP_GRADIENTS``, which is ``cfg``.

    Raises:
        ValueError: if ``CLIP_TYPE`` is unknown.
    """
    try:
        kind = GradientClipType(cfg.CLIP_TYPE)
    except ValueError:
        known = [member.value for member in GradientClipType]
        raise BadValue(
            f"SOLVER.CLIP_GRADIENTS.CLIP_TYPE is {cfg.CLIP_TYPE!r}. {did_you_mean(str(cfg.CLIP_TYPE), known)}"
        ) from None
    if kind is GradientClipType.VALUE:
        return functools.partial(clip_value, limit=cfg.CLIP_VALUE)
    function = clip_norm if kind is GradientClipType.NORM else clip_full_norm
    return functools.partial(function, limit=cfg.CLIP_VALUE, norm_type=cfg.NORM_TYPE)


def maybe_add_gradient_clipping(
    cfg: CfgNode, optimizer: type[torch.optim.Optimizer] | torch.optim.Optimizer
) -> Any:
    """Add the clipping of ``SOLVER.CLIP_GRADIENTS`` to an optimizer, if it is enabled.

    Args:
        cfg: the whole config.
        optimizer: a class, or an instance, which is changed in place.

    Returns:
        A subclass of the class, or the instance as an instance of it; without clipping, ``optimizer`` itself.
    """
    if not cfg.SOLVER.CLIP_GRADIENTS.ENABLED:
        return optimizer
    clip = build_clipper(cfg.SOLVER.CLIP_GRADIENTS)
    if isinstance(optimizer, torch.optim.Optimizer):
        optimizer.__class__ = with_gradient_clipping(type(optimizer), clip)
        return optimizer
    return with_gradient_clipping(optimizer, clip)


def _lr_factors(cfg: CfgNode, model: torch.nn.Module) -> Callable[[str], float] | None:
    """Return the factors by name of ``SOLVER.{BACKBONE_MULTIPLIER,LR_FACTORS,LAYER_DECAY}``; None if all are off."""
    functions: list[Callable[[str], float]] = []
    backbone = cfg.SOLVER.get("BACKBONE_MULTIPLIER", 1.0)
    if backbone != 1.0:
        functions.append(lambda name: backbone if "backbone" in name else 1.0)
    rules = cfg.SOLVER.get("LR_FACTORS", [])
    if rules:
        functions.append(pattern_factors([tuple(rule) for rule in rules]))
    rate = cfg.SOLVER.get("LAYER_DECAY", 1.0)
    if rate != 1.0:
        functions.append(layer_decay(model, rate))
    if not functions:
        return None
    return lambda name: functools.reduce(lambda product, f: product * f(name), functions, 1.0)


def _embedding_groups(model: torch.nn.Module, decay: float) -> list[dict[str, Any]]:
    """Return groups with the weight decay of learned embeddings, and of learned positions, which is 0."""
    embeddings: list[torch.Tensor] = [m.weight for m in model.modules() if isinstance(m, torch.nn.Embedding)]
    positions = ("relative_position_bias_table", "absolute_pos_embed")
    tables: list[torch.Tensor] = [
        p for name, p in model.named_parameters() if name.rpartition(".")[2] in positions
    ]
    return [
        {"params": [p for p in some if p.requires_grad], "weight_decay": rate}
        for some, rate in ((embeddings, decay), (tables, 0.0))
    ]


def build_optimizer(cfg: CfgNode, model: torch.nn.Module) -> torch.optim.Optimizer:
    """Build the optimizer of a config, with parameter groups and clipping.

    Args:
        cfg: with ``SOLVER.{OPTIMIZER,BASE_LR,MOMENTUM,NESTEROV,BETAS,WEIGHT_DECAY*,BIAS_LR_FACTOR}``,
            ``SOLVER.{LR_FACTORS,LAYER_DECAY,CLIP_GRADIENTS,FUSED}``, and in some projects
            ``SOLVER.{BACKBONE_MULTIPLIER,WEIGHT_DECAY_EMBED}``.
        model: its parameters that require a gradient are optimised.

    Raises:
        ValueError: if ``SOLVER.OPTIMIZER`` is unknown.
    """
    solver = cfg.SOLVER
    params = get_default_optimizer_params(
        model,
        base_lr=solver.BASE_LR,
        weight_decay_norm=solver.WEIGHT_DECAY_NORM,
        bias_lr_factor=solver.BIAS_LR_FACTOR,
        weight_decay_bias=solver.WEIGHT_DECAY_BIAS,
        lr_factor_func=_lr_factors(cfg, model),
    )
    if "WEIGHT_DECAY_EMBED" in solver:
        params = reduce_param_groups([*params, *_embedding_groups(model, solver.WEIGHT_DECAY_EMBED)])
    name = solver.get("OPTIMIZER", "SGD")
    name = {"ADAM": "Adam", "ADAMW": "AdamW"}.get(name, name)  # spelling of some projects
    shared: dict[str, Any] = {"lr": solver.BASE_LR, "weight_decay": solver.WEIGHT_DECAY}
    betas = tuple(solver.get("BETAS", (0.9, 0.999)))
    arguments: dict[str, dict[str, Any]] = {
        "SGD": {"momentum": solver.MOMENTUM, "nesterov": solver.NESTEROV},
        "AdamW": {"betas": betas},
        "Adam": {"betas": betas},
    }
    if name not in arguments:
        raise BadValue(f"SOLVER.OPTIMIZER is {name!r}. {did_you_mean(name, arguments)}")
    kind: Callable[..., torch.optim.Optimizer] = getattr(torch.optim, name)
    form = "fused" if solver.get("FUSED", False) else "foreach"
    optimizer = kind(params, **shared, **arguments[name], **{form: True})
    return maybe_add_gradient_clipping(cfg, optimizer)


def build_lr_scheduler(cfg: CfgNode, optimizer: torch.optim.Optimizer) -> LRScheduler:
    """Build the learning rate schedule of a config.

    Args:
        cfg: with ``SOLVER.{LR_SCHEDULER_NAME,MAX_ITER,WARMUP_*,RESCALE_INTERVAL}`` and the keys of the schedule.
        optimizer: its learning rates are scheduled.

    Raises:
        ValueError: if the schedule is unknown; the message lists similar names.
    """
    solver = cfg.SOLVER
    name = solver.LR_SCHEDULER_NAME
    if name not in LR_SCHEDULE_REGISTRY:
        known = [key for key, _ in LR_SCHEDULE_REGISTRY]
        raise BadValue(f"SOLVER.LR_SCHEDULER_NAME is {name!r}. {did_you_mean(name, known)}")
    curve: ParamScheduler = LR_SCHEDULE_REGISTRY.get(name)(cfg)
    if name not in WITHOUT_WARMUP:
        curve = WarmupParamScheduler(
            curve,
            solver.WARMUP_FACTOR,
            min(solver.WARMUP_ITERS / solver.MAX_ITER, 1.0),
            solver.WARMUP_METHOD,
            solver.RESCALE_INTERVAL,
        )
    return LRMultiplier(optimizer, multiplier=curve, max_iter=solver.MAX_ITER)
