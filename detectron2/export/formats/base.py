"""What a format of exported models is made of: how to write one, and how to run one."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from detectron2.modeling.tensor_inference import TensorInference, Tensors

from .._torch_export import export_program

__all__ = ["KEY", "Format", "Graph", "Metadata", "Runner", "dump", "optional"]

Metadata = dict[str, Any]
Runner = Callable[[Tensor], Tensors]
"""A file that was read: takes an image [C, H, W] or images [N, C, H, W], gives the outputs by name."""

KEY = "detectron2"
"""Under which name the files keep their metadata, as JSON."""


@dataclass(frozen=True)
class Graph:
    """A model on its way into a file.

    Attributes:
        model: in evaluation mode, on the CPU.
        image: an example, [C, H, W] or [N, C, H, W].
        sides: lowest and highest height and width, in pixels; None for the size of the example alone.
        calibration: images like the example, for the ranges of int8.
        made: forms of the model that took minutes to make, by the name of a format.
    """

    model: nn.Module
    image: Tensor
    sides: tuple[int, int] | None
    calibration: Sequence[Tensor] = field(default=(), repr=False)
    made: dict[str, Any] = field(default_factory=dict, repr=False)

    @cached_property
    def names(self) -> list[str]:
        """Names of the outputs, in the order of the file."""
        return list(self.shapes)

    @cached_property
    def shapes(self) -> dict[str, list[int]]:
        """Sizes of the outputs for the example, by name."""
        with torch.no_grad():
            return {
                name: list(value.shape) for name, value in TensorInference(self.model)(self.image).items()
            }

    @cached_property
    def program(self) -> ExportedProgram:
        """The whole model as one graph. It need not be strict, since each file is compared with its model."""
        if self.sides is None:
            return export_program(self.model, self.image, dynamic=False, strict=False)
        low, high = self.sides
        return export_program(self.model, self.image, min_size=low, max_size=high, strict=False)


class Format(ABC):
    """One kind of file.

    Attributes:
        name: as the command line calls it.
        suffix: of its files.
        precisions: those that it can be written in.
        batched: whether a file may take several images at once.
        read_by: what runs its files, for people.
    """

    name: str
    suffix: str
    precisions: tuple[str, ...]
    batched: bool = True
    read_by: str

    @abstractmethod
    def write(self, graph: Graph, path: Path, metadata: Metadata, precision: str) -> None:
        """Write a file; files that belong to it stand beside it, and their names begin with its stem.

        Args:
            graph: the model. For fp16 and bf16 its backbone is in that precision already, if this format wants it so.
            path: of the file.
            metadata: to be kept within it.
            precision: one of :attr:`precisions`.
        """

    @abstractmethod
    def read(self, path: Path) -> tuple[Runner, Metadata]:
        """Make a file ready to run, and return its metadata."""

    def halves_backbone(self, precision: str) -> bool:
        """Say whether the backbone is to be converted before the graph is made."""
        return precision in ("fp16", "bf16")


def dump(metadata: Metadata) -> str:
    """Return metadata as JSON."""
    return json.dumps(metadata, ensure_ascii=True)


def optional(module: str, what: str) -> ModuleType:
    """Import a package of the extra ``export``.

    Args:
        module: dotted path.
        what: needs it; the error begins with this.

    Raises:
        ImportError: it is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError(
            f"{what} needs the package {module.split('.')[0]}: pip install 'detectron2[export]' ({error})"
        ) from error
