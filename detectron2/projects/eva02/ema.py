"""The moving average of the weights as in EVA-02 and detrex: outside the model, as ``ema_state`` of a checkpoint.

``e = decay * e + (1 - decay) * weight`` over parameters and buffers. This package's own trainings use
:class:`detectron2.engine.hooks.EMAHook`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from detectron2.config.types import Config
from detectron2.engine import HookBase
from detectron2.utils.errors import BadValue
from detectron2.utils.unwrap import unwrap_model

__all__ = [
    "EMAHook",
    "EMAState",
    "EMAUpdater",
    "apply_model_ema",
    "apply_model_ema_and_restore",
    "may_build_model_ema",
    "may_get_ema_checkpointer",
]


class EMAState:
    """The average of each parameter and buffer of a model, by name."""

    def __init__(self) -> None:
        self.state: dict[str, Tensor] = {}

    @classmethod
    def FromModel(cls, model: nn.Module, device: str = "") -> EMAState:
        """Create the state of a model, with the model's weights as the average.

        Args:
            model: the model, with or without wrappers.
            device: device of the average; "" = that of the model.
        """
        made = cls()
        made.save_from(model, device)
        return made

    @property
    def device(self) -> torch.device | None:
        """Device of the average; None = no average yet."""
        return next((t.device for t in self.state.values()), None)

    def has_inited(self) -> bool:
        """Return whether there is an average."""
        return bool(self.state)

    def clear(self) -> EMAState:
        """Discard the average."""
        self.state.clear()
        return self

    def to(self, device: torch.device | str) -> EMAState:
        """Move the average to a device."""
        self.state = {name: t.to(device) for name, t in self.state.items()}
        return self

    def get_model_state_iterator(self, model: nn.Module) -> Iterator[tuple[str, Tensor]]:
        """Iterate over names and tensors of a model's parameters and buffers."""
        inner = unwrap_model(model)
        yield from inner.named_parameters()
        yield from inner.named_buffers()

    @torch.no_grad()
    def save_from(self, model: nn.Module, device: str = "") -> None:
        """Copy the model's weights to the average.

        Args:
            model: the model.
            device: device of the average; "" = that of the model.
        """
        for name, t in self.get_model_state_iterator(model):
            self.state[name] = t.detach().clone().to(device or t.device)

    @torch.no_grad()
    def apply_to(self, model: nn.Module) -> None:
        """Copy the average into a model.

        Raises:
            ValueError: the average lacks a tensor of the model.
        """
        for name, t in self.get_model_state_iterator(model):
            if name not in self.state:
                raise BadValue(f"the average has no {name!r}; was it made from another model?")
            t.copy_(self.state[name])

    @contextmanager
    def apply_and_restore(self, model: nn.Module) -> Iterator[None]:
        """Use the average as the model's weights within the ``with`` block."""
        kept = EMAState.FromModel(model)
        self.apply_to(model)
        try:
            yield
        finally:
            kept.apply_to(model)

    def get_ema_model(self, model: nn.Module) -> nn.Module:
        """Return a copy of a model with the average as its weights."""
        copied = copy.deepcopy(model)
        self.apply_to(copied)
        return copied

    def state_dict(self) -> dict[str, Tensor]:
        """Return the average."""
        return self.state

    def load_state_dict(self, state_dict: Mapping[str, Tensor], strict: bool = True) -> None:
        """Load an average.

        Args:
            state_dict: name -> tensor.
            strict: discard the current average first.
        """
        if strict:
            self.clear()
        self.state.update(state_dict)


class EMAUpdater:
    """Update the average from the weights.

    Args:
        state: the average.
        decay: fraction of the old average that a step keeps, in [0, 1].
        device: device of the average; "" = that of the model.
    """

    def __init__(self, state: EMAState, decay: float = 0.999, device: str = "") -> None:
        self.state = state
        self.decay = decay
        self.device = device

    def init_state(self, model: nn.Module) -> None:
        """Start with the model's weights as the average."""
        self.state.clear()
        self.state.save_from(model, self.device)

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Update the average; integers, such as counters, are copied."""
        for name, t in self.state.get_model_state_iterator(model):
            average = self.state.state[name]
            now = t.detach().to(average.device)
            if average.is_floating_point():
                average.lerp_(now.to(average.dtype), 1.0 - self.decay)
            else:
                average.copy_(now)


def may_build_model_ema(cfg: Config, model: nn.Module) -> None:
    """Give the model an empty ``ema_state`` if ``train.model_ema.enabled``."""
    if cfg.train.model_ema.enabled:
        unwrap_model(model).ema_state = EMAState()  # type: ignore[assignment]


def _state_of(model: nn.Module) -> EMAState:
    state = getattr(unwrap_model(model), "ema_state", None)
    if not isinstance(state, EMAState):
        raise BadValue("the model has no average: call may_build_model_ema(cfg, model) first")
    return state


def may_get_ema_checkpointer(cfg: Config, model: nn.Module) -> dict[str, Any]:
    """Return the additional checkpointables of a checkpointer: ``{"ema_state": ...}``, or none."""
    return {"ema_state": _state_of(model)} if cfg.train.model_ema.enabled else {}


def apply_model_ema(
    model: nn.Module, state: EMAState | None = None, save_current: bool = False
) -> EMAState | None:
    """Copy the average into the model.

    Args:
        model: the model.
        state: the average; None = that of the model.
        save_current: return the previous weights.
    """
    kept = EMAState.FromModel(model) if save_current else None
    (state or _state_of(model)).apply_to(model)
    return kept


@contextmanager
def apply_model_ema_and_restore(model: nn.Module, state: EMAState | None = None) -> Iterator[None]:
    """Use the average as the model's weights within the ``with`` block.

    Args:
        model: the model.
        state: the average; None = that of the model.
    """
    with (state or _state_of(model)).apply_and_restore(model):
        yield


class EMAHook(HookBase):
    """Update the ``ema_state`` of a model after each step, with the decay and device of ``train.model_ema``.

    Args:
        cfg: LazyConfig with ``train.model_ema``.
        model: a model prepared by :func:`may_build_model_ema`.
    """

    def __init__(self, cfg: Config, model: nn.Module) -> None:
        options = cfg.train.model_ema
        self.model = unwrap_model(model)
        self.ema = _state_of(model)
        self.updater = EMAUpdater(self.ema, options.decay, options.device)

    def before_train(self) -> None:
        """Start with the model's weights as the average, unless one was loaded."""
        if self.ema.has_inited():
            device = self.updater.device or next(self.model.parameters()).device
            self.ema.to(device)
        else:
            self.updater.init_state(self.model)

    def before_step(self) -> None:
        """Do nothing."""

    def after_step(self) -> None:
        """Update the average."""
        self.updater.update(self.model)

    def after_train(self) -> None:
        """Do nothing."""
