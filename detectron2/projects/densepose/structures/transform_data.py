"""Changes of charts and body labels under horizontal flips."""

from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["DensePoseTransformData", "normalized_coords_transform"]


def normalized_coords_transform(x0: float, y0: float, w: float, h: float) -> Any:
    """Return a function from image coordinates to those of a box, which run from -1 to 1.

    Args:
        x0: left side of the box.
        y0: top side of the box.
        w: width of the box.
        h: height of the box.

    Returns:
        A function that takes and returns a point ``(x, y)``.
    """

    def to_box(point: tuple[float, float]) -> tuple[float, float]:
        return 2 * (point[0] - x0) / w - 1, 2 * (point[1] - y0) / h - 1

    return to_box


class DensePoseTransformData:
    """Symmetries of the body: swaps of labels, and changes of chart coordinates.

    Args:
        uv_symmetries: ``U_transforms`` and ``V_transforms``, [24, 256, 256]: the coordinate after mirroring, for
            each chart and each V (rows) and U (columns) in steps of 1 / 255.
        device: device of the coordinate tables.

    Attributes:
        mask_label_symmetries: mirror image of background and each of the 14 parts.
        point_label_symmetries: mirror image of background and each of the 24 charts.
        uv_symmetries: as given, on ``device``.
    """

    MASK_LABEL_SYMMETRIES = [0, 1, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 14]
    # fmt: off
    POINT_LABEL_SYMMETRIES = [
        0, 1, 2, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15, 18, 17, 20, 19, 22, 21, 24, 23,
    ]
    # fmt: on

    def __init__(self, uv_symmetries: dict[str, Tensor], device: torch.device) -> None:
        self.mask_label_symmetries = self.MASK_LABEL_SYMMETRIES
        self.point_label_symmetries = self.POINT_LABEL_SYMMETRIES
        self.uv_symmetries = {name: table.to(device) for name, table in uv_symmetries.items()}
        self.device = torch.device(device)

    def to(self, device: torch.device, copy: bool = False) -> "DensePoseTransformData":
        """Return the tables on a device.

        Args:
            device: target device.
            copy: copy tables that are there already.
        """
        if self.device == device and not copy:
            return self
        tables = {name: table.to(device, copy=copy) for name, table in self.uv_symmetries.items()}
        return DensePoseTransformData(tables, device)

    @staticmethod
    def load(io: str | IO[bytes]) -> "DensePoseTransformData":
        """Read the tables from a MATLAB file, onto the CPU.

        Args:
            io: path or open binary file; its ``U_transforms`` and ``V_transforms`` are cells of 24 matrices.

        Raises:
            ImportError: SciPy is not installed.
        """
        try:
            import scipy.io
        except ImportError as error:
            raise ImportError("MATLAB files need SciPy: pip install 'detectron2[densepose]'") from error
        content = scipy.io.loadmat(io)
        tables = {
            name: torch.from_numpy(np.stack(list(content[name].flat)).astype(np.float32))
            for name in ("U_transforms", "V_transforms")
        }
        return DensePoseTransformData(tables, torch.device("cpu"))
