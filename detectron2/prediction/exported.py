"""What computes, when the model is an exported file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy.typing as npt

from detectron2.data import Metadata
from detectron2.export import load_exported
from detectron2.structures.types import ModelInput, ModelOutput
from detectron2.utils.errors import BadValue

from .backends import Prepared

__all__ = ["ExportedBackend"]

_NAMES = ("thing_classes", "stuff_classes", "keypoint_names")


class ExportedBackend:
    """A file that ``detectron2 export`` wrote; computes on the CPU.

    Args:
        path: of the file.
        weights, device, precision, compile: as for :class:`.Predictor`; fixed in the file, so that only their defaults
            are allowed.

    Attributes:
        model: the :class:`detectron2.export.ExportedModel`.
        metadata: names of the classes.
        input_format: channel order of the model.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        weights: str | None = None,
        device: str | None = None,
        precision: str = "float32",
        compile: bool = False,
    ) -> None:
        if (
            weights is not None
            or device not in (None, "cpu")
            or precision not in ("float32", "fp32")
            or compile
        ):
            raise BadValue(
                f"{os.fspath(path)} is an exported file: weights, device, precision and compile are fixed in it, "
                "leave them out"
            )
        self.path = os.path.abspath(path)
        self.model = load_exported(path)
        about = self.model.metadata
        self.input_format: str = about["input_format"]
        known = dict(zip(_NAMES, (about["classes"], about.get("stuff_classes"), about.get("keypoint_names"))))
        self.metadata = Metadata(name=self.path).set(**{key: value for key, value in known.items() if value})

    def prepare(self, rgb: npt.NDArray[Any]) -> Prepared:
        """Resize a picture and bring its channels into the model's order."""
        image = self.model.resize(rgb if self.input_format == "RGB" else rgb[:, :, ::-1])
        entry: ModelInput = {"image": image, "height": rgb.shape[0], "width": rgb.shape[1]}
        return Prepared(entry, tuple(image.shape))

    def run(self, batch: Sequence[Prepared], scores: float | None = None) -> list[ModelOutput]:
        """Predict, as many pictures at once as the file takes; ``scores`` is of no use to a file."""
        return self.model.predict([prepared.data for prepared in batch])

    def __reduce__(self) -> tuple[type[ExportedBackend], tuple[Any, ...]]:
        """Pickle the name of the file, which the other process must be able to read."""
        return ExportedBackend, (self.path,)
