"""Exponential moving average of the weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from detectron2.checkpoint import Checkpointer
from detectron2.checkpoint.files.shards import own_part
from detectron2.utils.errors import BadValue
from detectron2.utils.unwrap import unwrap_model

from ..train_loop import HookBase

__all__ = ["EMAHook"]


class EMAHook(HookBase):
    """Keeps an average of the weights, which often generalises better than the last weights.

    After each iteration ``average = decay * average + (1 - decay) * weights``. The decay starts low, as
    ``(1 + t) / (10 + t)`` (Tarvainen & Valpola, Mean Teacher, https://arxiv.org/abs/1703.01780; the ramp follows
    TensorFlow's ExponentialMovingAverage). Running statistics are averaged too, integer buffers are copied. Every
    checkpoint contains the average; weights that several modules share are stored once, under their first name.

    Args:
        model: the trained model, also inside wrappers such as DDP.
        decay: in [0, 1); the average covers about ``1 / (1 - decay)`` iterations.
        evaluate: whether evaluations and the best checkpoint use the average.
        checkpointer: writes ``model_ema.pth`` at the end of complete training; None writes nothing.

    Raises:
        ValueError: if ``decay`` is not in [0, 1).
    """

    def __init__(
        self,
        model: nn.Module,
        decay: float = 0.999,
        evaluate: bool = True,
        checkpointer: Checkpointer | None = None,
    ) -> None:
        if not 0.0 <= decay < 1.0:
            raise BadValue(f"the decay of an EMA must be in [0, 1), got {decay}")
        self._model = unwrap_model(model)
        self.decay = decay
        self.evaluate = evaluate
        self._checkpointer = checkpointer
        self._updates = 0
        self._average: dict[str, torch.Tensor] = {}
        self._restored = False

    def _named_tensors(self) -> dict[str, torch.Tensor]:
        """Return parameters and buffers of the model under all their names."""
        state = self._model.state_dict(keep_vars=True)
        return {name: tensor for name, tensor in state.items() if isinstance(tensor, torch.Tensor)}

    def _tensors(self) -> dict[str, torch.Tensor]:
        """Return parameters and buffers of the model, each under its first name."""
        first: dict[int, tuple[str, torch.Tensor]] = {}
        for name, tensor in self._named_tensors().items():
            first.setdefault(id(tensor), (name, tensor.detach()))
        return dict(first.values())

    def _whole_average(self) -> dict[str, torch.Tensor]:
        """Return the average under all names of the model's state."""
        named = self._named_tensors()
        first: dict[int, str] = {}
        return {name: self._average[first.setdefault(id(tensor), name)] for name, tensor in named.items()}

    @torch.no_grad()
    def before_train(self) -> None:
        now = self._tensors()
        if not self._restored:
            self._average = {name: tensor.clone() for name, tensor in now.items()}
        else:
            self._average = {
                name: self._average[name].to(tensor.device)
                if name in self._average and self._average[name].shape == tensor.shape
                else tensor.clone()
                for name, tensor in now.items()
            }

    @torch.no_grad()
    def after_step(self) -> None:
        self._updates += 1
        decay = min(self.decay, (1 + self._updates) / (10 + self._updates))
        now = self._tensors()
        moving = [name for name, tensor in now.items() if tensor.is_floating_point()]
        if moving:
            torch._foreach_lerp_(
                [own_part(self._average[n]) for n in moving], [own_part(now[n]) for n in moving], 1.0 - decay
            )
        for name, tensor in now.items():
            if not tensor.is_floating_point():
                self._average[name].copy_(tensor)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Use the averaged weights within a ``with`` block, and restore the trained weights afterwards."""
        with torch.no_grad():
            now = self._tensors()
            kept = {name: tensor.clone() for name, tensor in now.items()}
            for name, tensor in now.items():
                tensor.copy_(self._average[name])
        try:
            yield
        finally:
            with torch.no_grad():
                for name, tensor in now.items():
                    tensor.copy_(kept[name])

    def after_train(self) -> None:
        if self._checkpointer is not None and self._average and self.trainer.complete:
            self._checkpointer.export("model_ema", self._whole_average(), iteration=self.trainer.last_iter)

    def state_dict(self) -> dict[str, Any]:
        """Return the average and the number of updates."""
        return {"average": self._average, "updates": self._updates} if self._average else {}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore the average; ``before_train`` moves it to the device of the model."""
        self._average = dict(state_dict["average"])
        self._updates = state_dict["updates"]
        self._restored = True
