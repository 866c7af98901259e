"""Object detection, segmentation, keypoints and rotated boxes in pure Python on today's PyTorch.

Importing this package defines names only: it touches no file, loads no torch and changes no global state.
"""

__all__ = ["__version__", "setup_environment"]

__version__ = "1.0.0.dev0"


def setup_environment() -> None:
    """Do nothing; kept because Detectron2 programs call it before they start.

    Detectron2 used this hook to configure OpenCV and to run custom start-up code named by an environment
    variable. Nothing of that is needed here, and no code is run from a path found in the environment.
    """
