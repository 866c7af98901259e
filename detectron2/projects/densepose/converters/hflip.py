"""Mirroring the outputs of predictors."""

from typing import Any

from ..structures import DensePoseTransformData
from .base import BaseConverter

__all__ = ["HFlipConverter"]


class HFlipConverter(BaseConverter):
    """Conversion of outputs for a mirrored image to outputs for the image itself."""

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
        """Mirror an output, positions as well as what they mean.

        Args:
            predictor_outputs: output for N instances.
            transform_data: symmetries of charts and labels.
            args: further arguments of the registered function; for surface embeddings the embedder and the mesh
                name of each instance.
            kwargs: further keyword arguments of it.

        Returns:
            A new object of the same type.
        """
        return super().convert(predictor_outputs, transform_data, *args, **kwargs)
