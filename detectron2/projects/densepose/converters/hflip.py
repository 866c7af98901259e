"""Horizontal flips of predictor outputs."""

from typing import Any

from ..structures import DensePoseTransformData
from .base import BaseConverter

__all__ = ["HFlipConverter"]


class HFlipConverter(BaseConverter):
    """Converts outputs for a flipped image to outputs for the original image."""

    registry = {}
    dst_type = None

    @classmethod
    def convert(  # type: ignore[override]
        cls,
        predictor_outputs: object,
        transform_data: DensePoseTransformData,
        *args: object,
        **kwargs: object,
    ) -> Any:
        """Flip an output: positions and labels.

        Args:
            predictor_outputs: output for N instances.
            transform_data: symmetries of charts and labels.
            args: further arguments of the registered function; for surface embeddings the embedder and the mesh
                name of each instance.
            kwargs: further keyword arguments of the registered function.

        Returns:
            A new object of the same type.
        """
        return super().convert(predictor_outputs, transform_data, *args, **kwargs)
