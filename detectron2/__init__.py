"""Object detection, segmentation, keypoints and rotated boxes in pure Python on today's PyTorch.

Importing this package defines names only: it touches no file, loads no torch and changes no global state.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .prediction import Predictor

__all__ = ["Predictor", "__version__", "setup_environment"]

__version__ = "1.0.0.dev0"


def __getattr__(name: str) -> Any:
    """Load :class:`Predictor`, and with it torch, when it is first asked for."""
    if name == "Predictor":
        return import_module(".prediction", __name__).Predictor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def setup_environment() -> None:
    """Do nothing; kept because Detectron2 programs call it before they start.

    Detectron2 used this hook to configure OpenCV and to run custom start-up code named by an environment
    variable. Nothing of that is needed here, and no code is run from a path found in the environment.
    """
