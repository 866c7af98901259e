"""What computes: a model in torch. One picture is prepared at a time, several of equal shape are run at once."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from detectron2.checkpoint.load_report import require_weights
from detectron2.config.types import Config
from detectron2.data import Metadata
from detectron2.data import transforms as T
from detectron2.engine import DefaultPredictor
from detectron2.engine.model_options import compile_parts
from detectron2.structures.types import ModelInput, ModelOutput
from detectron2.utils.device import best_device
from detectron2.utils.errors import BadValue

from .models import ModelChoice
from .selection import in_float32, least_score

__all__ = ["Backend", "Prepared", "TorchBackend"]

_PRECISIONS = {
    "float32": None, "fp32": None,
    "float16": torch.float16, "fp16": torch.float16,
    "bfloat16": torch.bfloat16, "bf16": torch.bfloat16,
}  # fmt: skip


class Prepared(NamedTuple):
    """A picture that is ready for the model.

    Attributes:
        data: what the backend runs.
        shape: pictures of equal shape may run together.
    """

    data: Any
    shape: Hashable


class Backend(Protocol):
    """What a :class:`Predictor` needs of a model.

    Attributes:
        metadata: names and colours of the classes.
        input_format: channel order of the model.
    """

    metadata: Metadata
    input_format: str

    def prepare(self, rgb: npt.NDArray[Any]) -> Prepared:
        """Make one picture ready; may be called from any thread."""

    def run(self, batch: Sequence[Prepared], scores: float | None = None) -> list[ModelOutput]:
        """Predict for pictures of equal shape; may be called from any thread.

        Args:
            batch: what :meth:`prepare` returned.
            scores: objects of a lower score are not wanted, and may be left out or not.
        """


class TorchBackend:
    """A model in torch.

    Args:
        choice: what to build.
        precision: "float32", "float16" or "bfloat16"; the latter two compute by ``torch.autocast``.
        compile: compile the backbone by ``torch.compile``.
        random_weights: accept a config without weights.

    Attributes:
        name: what the user calls the model.
        cfg: the config of the model.
        augmentation: resizes a picture.
        model: the model in evaluation mode.
        metadata: names and colours of the classes.
        input_format: channel order of the model, "RGB" or "BGR".
    """

    def __init__(
        self,
        choice: ModelChoice,
        precision: str = "float32",
        compile: bool = False,
        random_weights: bool = False,
    ) -> None:
        if precision not in _PRECISIONS:
            raise BadValue(f"precision must be 'float32', 'float16' or 'bfloat16', got {precision!r}")
        built = DefaultPredictor(choice.cfg)
        if not (random_weights and built.load_report is None):
            require_weights(built.load_report, choice.name)
        self.name = choice.name
        self.cfg: Config = built.cfg
        self.model = built.model
        self.metadata = choice.metadata
        self.input_format = built.input_format
        self.augmentation = built.aug
        self._dtype = _PRECISIONS[precision]
        self._compile = compile
        self._lock = threading.Lock()  # models are not written to be run by two threads at once
        self._compile_model()

    def _compile_model(self) -> None:
        if self._compile:
            part = "backbone" if hasattr(self.model, "backbone") else ""
            compile_parts(self.model, [part], freeze=self.device.type == "cpu")

    def changed(self, change: Callable[[nn.Module], nn.Module], compile: bool = False) -> TorchBackend:
        """Return a backend with another form of the model; this one stays as it is.

        Args:
            change: takes the model and returns another with the same results.
            compile: compile the backbone of it.
        """
        other = copy.copy(self)
        other.model = change(self.model)
        other._compile = compile
        other._compile_model()
        return other

    @property
    def is_plain(self) -> bool:
        """Whether the model runs in float32, uncompiled."""
        return self._dtype is None and not self._compile

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        return next(self.model.parameters()).device

    def prepare(self, rgb: npt.NDArray[Any]) -> Prepared:
        """Resize a picture and bring its channels into the model's order."""
        height, width = rgb.shape[:2]
        data = T.AugInput(rgb if self.input_format == "RGB" else rgb[:, :, ::-1])
        self.augmentation(data)
        chw = np.ascontiguousarray(data.image.transpose(2, 0, 1)).astype("float32")
        tensor = torch.as_tensor(chw)
        entry: ModelInput = {"image": tensor, "height": height, "width": width}
        return Prepared(entry, tuple(tensor.shape))

    @torch.no_grad()
    def run(self, batch: Sequence[Prepared], scores: float | None = None) -> list[ModelOutput]:
        """Predict in one forward pass; heads may be spared objects of lower scores than wanted."""
        if not batch:
            return []
        with self._lock, least_score(self.model, scores), self._autocast():
            outputs = self.model([prepared.data for prepared in batch])
        return [in_float32(output) for output in outputs] if self._dtype else list(outputs)

    def _autocast(self) -> AbstractContextManager[Any]:
        if self._dtype is None:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self._dtype)

    def __getstate__(self) -> dict[str, Any]:
        """Return what another process needs: the weights on the CPU, and where they were."""
        state = {**self.__dict__, "_device": str(self.device)}
        del state["_lock"]
        if self.device.type != "cpu":
            state["model"] = copy.deepcopy(self.model).to("cpu")
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        device = torch.device(state.pop("_device"))
        self.__dict__.update(state)
        self._lock = threading.Lock()
        if device.type != "cpu" and torch.device(best_device()).type == device.type:
            self.model.to(device.type)
        self._compile_model()
